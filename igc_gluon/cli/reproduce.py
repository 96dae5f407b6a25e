"""`igc reproduce`"""

import argparse
from typing import TYPE_CHECKING, List, Optional

from igc_gluon.cli import tables
from igc_gluon.data import find_dataset
from igc_gluon.errors import UserError

if TYPE_CHECKING:  # slow: MXNet
    from igc_gluon.paper.published import Table
    from igc_gluon.paper.reproduce import Experiment

# Flags that go on to the training script.
PASSED_ON = ("num_epochs", "gpus", "cpus", "data_dir", "log_dir", "exp_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--table",
        metavar="N",
        help="4 of IGCV1's, or of --paper, or 'IGCV2 4' (`igc tables` prints them); 'Section 4', of "
        "IGCV1: the variants of its block",
    )
    which.add_argument("--figure", metavar="N")
    tables.add_paper(parser)
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="only networks whose name contains this, or one of several: plain8,igc8",
    )
    # `args.run` is the command itself.
    parser.add_argument(
        "--run",
        dest="do_run",
        action="store_true",
        help="run what is not done yet, one after the other, then print the filled table; to be called "
        "again after a stop",
    )
    parser.add_argument(
        "--dataset",
        help="train on this in place of the paper's; digits needs no download, nor fashion-mnist with Debian's package",
    )
    parser.add_argument("--num-epochs", type=int, help="(default: the paper's)")
    parser.add_argument(
        "--num-runs",
        type=int,
        metavar="N",
        help="seeds of each network (default: 5, or 1 where the paper prints no deviation)",
    )
    parser.add_argument("--gpus", help="GPUs to train on, e.g. 0,1 (default: the CPU)")
    parser.add_argument("--cpus", type=int, metavar="N", help="without --gpus: treat the CPU as N devices (default: 1)")
    parser.add_argument("--data-dir", help="folder of the data set's files (default: downloaded to ~/.mxnet/datasets)")
    parser.add_argument("--log-dir", help="(default: runs)")
    parser.add_argument("--exp-name", help="goes into the runs' folders, to keep experiments apart")


def run(args: argparse.Namespace) -> int:
    # slow: MXNet
    from igc_gluon.paper import published, reproduce

    for flag, value in (("--num-runs", args.num_runs), ("--num-epochs", args.num_epochs)):
        if value is not None and value < 1:
            raise UserError(f"{flag} must be at least 1, not {value}")
    dataset = args.dataset and find_dataset(args.dataset).name
    number = args.table if args.figure is None else f"Figure {args.figure}"
    table, *more = published.find_tables(number, args.paper)
    if more:
        raise UserError(f"{number!r} is {', '.join(found.id for found in (table, *more))}; give one of them")
    table = reproduce.select(table, args.only)
    todo = reproduce.experiments(table, dataset, args.num_runs)
    flags = [
        text
        for name in PASSED_ON
        if getattr(args, name) is not None
        for text in ("--" + name.replace("_", "-"), str(getattr(args, name)))
    ]
    if args.do_run:
        return _run(args, table, todo, flags, dataset)
    print(f"# {table}: {table.title}")
    for obstacle in dict.fromkeys(experiment.obstacle for experiment in todo):
        if obstacle:
            print(f"# Not run by --run: {obstacle}.")
        for experiment in todo:
            if experiment.obstacle == obstacle:
                print(experiment.command(flags))
    return 0


def _run(
    args: argparse.Namespace, table: "Table", todo: List["Experiment"], flags: List[str], dataset: Optional[str]
) -> int:
    # slow: MXNet
    from igc_gluon.cli.training import small_images
    from igc_gluon.paper import compare, formats, reproduce, runs

    log_dir = args.log_dir or "runs"
    reproduction = reproduce.Reproduction(
        todo,
        flags,
        log_dir,
        args.exp_name,
        args.num_epochs,
        args.data_dir,
        args.gpus,
        1 if args.cpus is None else args.cpus,
        lambda argv: small_images.run(small_images.parse(argv)),
    )
    code = reproduction.run()
    print()
    print(formats.terminal([compare.compare(table, runs.Runs(log_dir, reproduction.has), dataset)]), end="")
    return code
