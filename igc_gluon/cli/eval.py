"""`igc eval NETWORK`, with `--data` a data set, a record file or a folder of photographs"""

import argparse
import csv
import json
import time
from typing import TYPE_CHECKING, Any, List

import numpy as np

from igc_gluon.cli.confusion_picture import draw
from igc_gluon.cli.network_flags import SOURCE, add_normalization_arguments, add_params_arguments, open_classifier
from igc_gluon.data.classes import as_written
from igc_gluon.engine.metrics import TOP5_FROM, Metrics
from igc_gluon.errors import UserError, printable
from igc_gluon.files import finite_or_none, write_atomically
from igc_gluon.text_table import table

if TYPE_CHECKING:  # slow: MXNet
    from igc_gluon.engine.evaluation_data import EvaluationData

CLASSES_SHOWN = 50  # at most, in the terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help=SOURCE)
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="a folder with a folder of photographs for each class; a record file, "
        "FILE.rec; or the name of a data set, fashion-mnist for example "
        "(default: that of the weights)",
    )
    parser.add_argument("--data-dir", help="folder of the data set's files (default: downloaded to ~/.mxnet/datasets)")
    parser.add_argument("--gpus", help="GPUs to use, e.g. 0,1 (default: the CPU)")
    parser.add_argument("--batch-size", type=int, default=64, help="over all devices (default: 64)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--csv", metavar="FILE", help="write the table of classes there")
    parser.add_argument("--confusion", metavar="FILE.png", help="draw there what each class is taken for")
    add_params_arguments(parser)
    add_normalization_arguments(parser)


def run(args: argparse.Namespace) -> None:
    # slow: MXNet
    import mxnet as mx

    from igc_gluon.engine.devices import contexts
    from igc_gluon.engine.evaluation_data import evaluation_data, measure

    if args.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {args.batch_size}")
    devices = contexts(args.gpus)
    net = open_classifier(args)
    net.collect_params().reset_ctx(devices)
    net.hybridize(static_alloc=True)
    classes = net(mx.nd.zeros((1, *net.preprocessing.image_shape), ctx=devices[0])).shape[1]
    data = evaluation_data(net, classes, args.data, args.data_dir, args.batch_size)

    def predict(images: np.ndarray) -> np.ndarray:
        pieces = [piece for piece in np.array_split(images, len(devices)) if len(piece)]
        outputs = [net(mx.nd.array(piece, ctx=device)) for device, piece in zip(devices, pieces)]
        return np.concatenate([output.asnumpy() for output in outputs])

    begin = time.monotonic()
    metrics = measure(predict, data, classes, net.model)
    _print(args.network, net, data, metrics, time.monotonic() - begin)
    _write(args, net, data, metrics)


def _print(network: str, net: Any, data: "EvaluationData", metrics: Metrics, seconds: float) -> None:
    totals, names = metrics.evaluation, _names(data, len(metrics.confusion))
    top5 = f"  top-5          {100 * totals.top5:.2f} %\n" if len(names) >= TOP5_FROM else ""
    print(f"""{printable(network)} ({net.model}) on {printable(data.name)}: {totals.images:,} images
  top-1          {100 * totals.accuracy:.2f} %
{top5}  cross-entropy  {totals.loss:.4f}
  calibration    confidence differs from accuracy by {100 * metrics.calibration_error:.2f} points on average
  {seconds:.1f} s, {totals.images / max(seconds, 1e-9):,.0f} images/s; {net.preprocessing}""")
    if len(names) <= CLASSES_SHOWN:
        rows = [
            (name, f"{images:,}", *map(_percent, shares))
            for name, images, *shares in zip(
                names, metrics.support.tolist(), metrics.recall, metrics.precision, metrics.f1
            )
        ]
        print("\n" + table(("class", "images", "recall, %", "precision, %", "F1, %"), rows))
    else:
        print(f"\nThe table of {len(names):,} classes: --csv FILE")
    confused = metrics.confused()
    if confused:
        print(
            "\n"
            + table(("class", "taken for", "images"), [(names[a], names[b], f"{n:,}") for a, b, n in confused], left=2)
        )
        rows = [
            (
                printable(data.image_name(m.number, below=True)),
                names[m.label],
                names[m.predicted],
                f"{100 * m.confidence:.1f}",
            )
            for m in metrics.mistakes()[:10]
        ]
        print("\n" + table(("surest mistake", "class", "taken for", "confidence, %"), rows, left=3))


def _write(args: argparse.Namespace, net: Any, data: "EvaluationData", metrics: Metrics) -> None:
    if args.json:
        summary = {"network": args.network, "model": net.model, "data": data.name, **metrics.summary(data.class_names)}
        for mistake in summary["surest_mistakes"]:
            mistake["image"] = data.image_name(mistake["image"])
        with write_atomically(args.json, "w") as file:
            json.dump(finite_or_none(summary), file, indent=1)
            file.write("\n")
    if args.csv:
        with write_atomically(args.csv, "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("class", "name", "images", "recall", "precision", "f1"))
            for number, (name, images, *shares) in enumerate(
                zip(
                    data.class_names or [""] * len(metrics.confusion),
                    metrics.support.tolist(),
                    metrics.recall,
                    metrics.precision,
                    metrics.f1,
                )
            ):
                writer.writerow(
                    (number, as_written(name), images, *("" if share != share else f"{share:.6f}" for share in shares))
                )
    if args.confusion:
        draw(
            args.confusion,
            f"{net.model} on {printable(data.name)}\n{100 * metrics.accuracy:.2f} % of {metrics.images:,} images right",
            metrics.confusion,
            data.class_names,
        )


def _names(data: "EvaluationData", classes: int) -> List[str]:
    return [printable(name) for name in data.class_names or [f"class {number}" for number in range(classes)]]


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.2f}"
