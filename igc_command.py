"""The program `igc`. It stands outside the package, whose import fails on a NumPy that MXNet cannot run on."""

import signal
import sys


def main() -> int:
    """Returns the exit code."""
    try:
        # Ctrl-C in the middle of imports, and of MXNet's end, would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        from igc_gluon.cli import main as run
        from igc_gluon.start import interrupt

        signal.signal(signal.SIGINT, interrupt)
        code = run()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return code
    except ModuleNotFoundError as error:
        print(
            f"error: this needs the package {error.name}, which is not installed; pip install 'igc-gluon[cpu]' "
            "(or 'igc-gluon[cu112]' for a GPU)",
            file=sys.stderr,
        )
        return 2
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # between two lines of this
        return 128 + signal.SIGINT
