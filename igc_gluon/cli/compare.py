"""`igc compare RUN ...`"""

import argparse
import csv
import textwrap

from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.errors import printable
from igc_gluon.files import write_atomically
from igc_gluon.text_table import WIDTH, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the folder of a run, or one with runs below it")
    parser.add_argument("--csv", metavar="FILE", help="write the table there")
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    # slow: MXNet
    from igc_gluon.report.experiments import experiments, find_runs

    ranked = sorted(experiments(find_runs(args.runs)), key=lambda experiment: -experiment.accuracies.mean())
    data = {experiment.config["dataset"] for experiment in ranked}
    rows = [
        (
            printable(e.label),
            *([printable(e.dataset)] if len(data) > 1 else []),
            e.epochs_text,
            len(e.runs),
            e.accuracy_text,
            f"{e.cost.weights / 1e6:.3f}",
            f"{e.cost.multiply_adds / 1e6:.1f}",
            f"{e.minutes:.1f}",
        )
        for e in ranked
    ]
    header = (
        "network",
        *(["data"] if len(data) > 1 else []),
        "epochs",
        "seeds",
        "accuracy, %",
        "weights, M",
        "MACs, M",
        "min",
    )
    print(table(header, rows, left=len(header) - 6))
    where = "" if len(data) > 1 else f"On {printable(*data)}. "
    print(
        "\n"
        + textwrap.fill(
            f"{where}Accuracy on the test images after the last epoch, mean and standard deviation of the seeds; MACs: "
            "multiply-adds of an image; min: minutes of training, of one run.",
            WIDTH,
        )
    )
    if args.csv:
        with write_atomically(args.csv, "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                "network data epochs seeds accuracy_mean accuracy_std weights multiply_adds minutes".split()
            )
            for e in ranked:
                writer.writerow(
                    (
                        printable(e.label),
                        printable(e.dataset),
                        e.epochs_text,
                        len(e.runs),
                        f"{e.accuracies.mean():.4f}",
                        "" if e.deviation is None else f"{e.deviation:.4f}",
                        e.cost.weights,
                        e.cost.multiply_adds,
                        f"{e.minutes:.2f}",
                    )
                )
