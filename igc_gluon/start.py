"""What an entry point does first, before anything imports MXNet."""
import importlib.util
import os
import signal
import sys
from importlib import metadata

from igc_gluon.threads import problem as threads_problem
from igc_gluon.threads import use_all_cores


def prepare():
    """Has MXNet use all cores, and ends the process with one line where MXNet is missing or installed twice.

    Until the entry point sets a handler again, Ctrl-C ends the process at once: MXNet's import, which takes seconds,
    would print a traceback or lose the signal.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_all_cores()
    problem = mxnet_problem() or threads_problem()
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
    role = os.environ.get("DMLC_ROLE")
    if role in ("server", "scheduler"):  # of a launcher that starts every role with the training command
        from igc_gluon.engine.server import serve
        sys.exit(serve(role))


def mxnet_problem():
    """One line why MXNet cannot be imported as it should be, or None."""
    if importlib.util.find_spec("mxnet") is None:
        return "MXNet is not installed; pip install -e '.[cpu]' (or '.[cu112]' for a GPU)"
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    if {"mxnet", "mxnet-cu112"} <= installed:
        return ("mxnet and mxnet-cu112 are both installed, over each other; uninstall both, then install one of "
                "'.[cpu]' and '.[cu112]'")
    return None
