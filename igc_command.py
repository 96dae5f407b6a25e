"""The program `igc`. It stands outside the package, whose import fails on a NumPy that MXNet cannot run on."""
import sys


def main():
    """Returns the exit code."""
    try:
        from igc_gluon.cli import main as run
    except ImportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return run()
