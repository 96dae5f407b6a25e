"""The command `igc`: one short module per subcommand, each with HELP, add_arguments(parser) and run(args)."""
import importlib
import os
import sys

from igc_gluon.cli.parser import Parser
from igc_gluon.errors import UserError
from igc_gluon.start import mxnet_problem
from igc_gluon.threads import problem as threads_problem
from igc_gluon.threads import use_all_cores

COMMANDS = ("models", "info", "widest", "check", "tables", "reproduce", "data", "eval", "predict", "compile", "convert",
            "checkpoint", "bench", "launch")


def main(argv=None):
    """Returns the exit code: 0, or 2 after a mistake of the user."""
    if getattr(sys.stdout, "errors", None) == "strict":  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = Parser(prog="igc", description="Interleaved Group Convolutions on MXNet / Gluon")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    argv = sys.argv[1:] if argv is None else argv
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
        if problem := threads_problem():
            print(f"error: {problem}", file=sys.stderr)
            return 2
        use_all_cores()
    return exit_code(args.run, args)


def exit_code(run, *arguments):
    """What run(*arguments) returns, or 0; 2 after a mistake of the user, in one line on stderr."""
    try:
        return run(*arguments) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name != "mxnet":
            raise
        print(f"error: {mxnet_problem()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, `head` for example, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
