"""`igc report RUN ...`"""

import argparse
import sys
from typing import TYPE_CHECKING, Tuple

from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError, printable
from igc_gluon.files import write_atomically

if TYPE_CHECKING:  # slow: MXNet
    from igc_gluon.engine.evaluation_data import EvaluationData
    from igc_gluon.engine.metrics import Metrics
    from igc_gluon.report.experiments import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="the folder of a run, or one with runs below it; several are compared"
    )
    parser.add_argument("--output", "-o", default="report.html", metavar="FILE.html", help="(default: report.html)")
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="what a single run is evaluated on, as igc eval takes it (default: the test images of its data set)",
    )
    parser.add_argument("--data-dir", help="folder of the data set's files")
    parser.add_argument("--no-eval", action="store_true", help="do not evaluate, which takes the longest")
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    # slow: MXNet
    from igc_gluon.report.experiments import experiments, find_runs
    from igc_gluon.report.page import comparison_page

    runs = find_runs(args.runs)
    page = _run_page(runs[0], args) if len(runs) == 1 else comparison_page(experiments(runs))
    with write_atomically(args.output, "w") as file:
        file.write(page)
    what = f"{len(runs)} runs compared" if len(runs) > 1 else printable(runs[0].folder)
    print(f"{printable(args.output)}: {what}; open it in a browser")


def _run_page(run: "Run", args: argparse.Namespace) -> str:
    # slow: MXNet
    from igc_gluon.report.page import run_page

    if args.no_eval:
        return run_page(run, None, "--no-eval was given")
    try:
        return run_page(run, *_evaluated(run, args))
    except UserError as error:
        if args.data or args.data_dir:
            raise
        print(f"without classes and mistakes: {error}", file=sys.stderr)
        return run_page(run, None, str(error))


def _evaluated(run: "Run", args: argparse.Namespace) -> Tuple["Metrics", str, "EvaluationData", Preprocessing]:
    # slow: MXNet
    import mxnet as mx

    from igc_gluon.engine.evaluation_data import evaluation_data, measure
    from igc_gluon.engine.saved_networks import open_network
    from igc_gluon.model_zoo.attributes import check_normalized

    net = open_network(run.folder)
    check_normalized(net)
    net.hybridize(static_alloc=True)
    classes = run.config["classes"]
    data = evaluation_data(net, classes, args.data, args.data_dir)
    metrics = measure(lambda images: net(mx.nd.array(images)).asnumpy(), data, classes, net.model, keep_images=True)
    return metrics, "", data, net.preprocessing
