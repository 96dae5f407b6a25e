"""The command `igc`: one short module per subcommand, with add_arguments(parser) and run(args), imported when it is
called."""

import importlib
import os
import sys
from typing import Optional, Sequence

import igc_gluon
from igc_gluon.cli.parser import Parser
from igc_gluon.start import exit_code, prepare
from igc_gluon.threads import use_all_cores

COMMANDS = {
    "models": "list the models that get_model knows by the papers' tables",
    "info": "print a model's layers, shapes, parameters and multiply-adds",
    "widest": "the widest blocks for a budget of parameters",
    "check": "check and draw a model's blocks: dense, how many paths, how balanced, how wide",
    "tables": "the papers' tables beside what this package's networks have, and beside your own runs",
    "reproduce": "the training commands that fill a table or figure of the papers, printed or run",
    "train": "train on a data set, a folder of photographs or a record file",
    "data": "pack folders of images into RecordIO files, or look for damage in one",
    "eval": "accuracy of a network with weights, for each class too, what is confused, and the surest mistakes",
    "predict": "print the likeliest classes of photographs",
    "report": "a page to look at: curves, classes, mistakes and cost of a run, or several runs compared",
    "compare": "a table of runs: accuracy with its spread over seeds, beside what the networks cost",
    "compile": "compile a trained network into an .igc file, which runs without MXNet, from Python or C",
    "export": "write a network as ONNX, as an .igc file, or as MXNet's symbol and params",
    "convert": "convert a checkpoint of the authors' code to Gluon, or a network to a checkpoint for mx.mod.Module",
    "checkpoint": "list, verify or compare the checkpoints of a run",
    "bench": "time a network beside the same network in PyTorch, ONNX Runtime, OpenVINO and stock MXNet",
    "launch": "starts a distributed run: scheduler, servers and workers, here or on other machines, and ends them "
    "together",
}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Returns the exit code: 0, or 2 after a mistake of the user."""
    return exit_code(_main, sys.argv[1:] if argv is None else argv)


def _main(argv: Sequence[str]) -> Optional[int]:
    parser = Parser(prog="igc", description="Interleaved Group Convolutions on MXNet / Gluon")
    parser.add_argument("--version", action="version", version=f"igc-gluon {igc_gluon.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if name == called:
            command = importlib.import_module(f"igc_gluon.cli.{name}")
            command.add_arguments(subparser)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    if args.command == "train":  # may be any process of a distributed run
        prepare()
    elif args.command != "launch":  # its processes use MXNet, and share the cores
        use_all_cores()
        os.environ.pop("DMLC_ROLE", None)  # that of a server would begin, and never end, inside `import mxnet`
    if getattr(args, "imports", None):
        from igc_gluon.model_zoo.imports import import_all  # slow: MXNet

        import_all(args.imports)
    return command.run(args)
