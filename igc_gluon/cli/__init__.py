"""The command `igc`: one short module per subcommand, each with HELP, add_arguments(parser) and run(args)."""
import importlib
import os
import sys

from igc_gluon.cli.parser import Parser
from igc_gluon.start import exit_code
from igc_gluon.threads import use_all_cores

COMMANDS = ("models", "info", "widest", "check", "tables", "reproduce", "data", "eval", "predict", "report", "compare", "compile", "convert",
            "checkpoint", "bench", "launch")


def main(argv=None):
    """Returns the exit code: 0, or 2 after a mistake of the user."""
    return exit_code(_main, sys.argv[1:] if argv is None else argv)


def _main(argv):
    parser = Parser(prog="igc", description="Interleaved Group Convolutions on MXNet / Gluon")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"igc_gluon.cli.{name}")
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run, uses_mxnet=getattr(module, "USES_MXNET", True))
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    if args.uses_mxnet:
        use_all_cores()
        os.environ.pop("DMLC_ROLE", None)  # that of a server would begin, and never end, inside `import mxnet`
    if getattr(args, "imports", None):
        from igc_gluon.model_zoo.imports import import_all  # imports MXNet, which takes seconds

        import_all(args.imports)
    return args.run(args)
