"""What an entry point does first, before anything imports MXNet."""
import importlib.util
import signal
import sys

from igc_gluon.threads import use_all_cores


def prepare():
    """Has MXNet use all cores, and ends the process with one line where there is no MXNet to import.

    Until the entry point sets a handler again, Ctrl-C ends the process at once: MXNet's import, which takes seconds,
    would print a traceback or lose the signal.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    use_all_cores()
    if importlib.util.find_spec("mxnet") is None:
        print("error: MXNet is not installed; pip install -e '.[cpu]' (or '.[cu112]' for a GPU)", file=sys.stderr)
        sys.exit(2)
