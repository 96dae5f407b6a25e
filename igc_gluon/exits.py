"""How an entry point ends: mistakes in one line, exit codes, output that cannot be written.

Output that cannot be written ends no work: a reader that has seen enough (`| head`) is no error; a full disk is one, in
one line, once the work is done. What an encoding cannot hold is written as an escape.
"""

import contextlib
import importlib.util
import logging
import os
import signal
import sys
from typing import Any, Callable, Optional, TextIO

from igc_gluon.environment import take_away_what_nothing_needs
from igc_gluon.errors import UserError, printable


def mxnet_problem() -> Optional[str]:
    """One line why MXNet cannot be imported as it should be, or None."""
    if importlib.util.find_spec("mxnet") is None:
        return "MXNet is not installed; pip install 'igc-gluon[cpu]' (or 'igc-gluon[cu112]' for a GPU)"
    from importlib import metadata  # slow: a third of `igc --help`

    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    if {"mxnet", "mxnet-cu112"} <= installed:
        return (
            "mxnet and mxnet-cu112 are both installed, over each other; uninstall both, then install one of "
            "'.[cpu]' and '.[cu112]'"
        )
    return None


def exit_code(run: Callable[..., Optional[int]], *arguments: Any) -> int:
    """What run(*arguments) returns, or 0; 2 after a mistake of the user, an error of a disk, or where the output could
    not be written, in one line on stderr."""
    take_away_what_nothing_needs()
    _open_standard_files()
    output, errors = _Output(sys.stdout), _Output(sys.stderr)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        if logging.lastResort is not None:
            logging.lastResort.setFormatter(OneLine())
        try:
            code = _run(run, *arguments)
        finally:
            output.flush()
            errors.flush()
        if output.error and not isinstance(output.error, BrokenPipeError):
            print(f"error: cannot write to standard output: {output.error.strerror or output.error}", file=errors)
            code = code or 2
        return code


def _run(run: Callable[..., Optional[int]], *arguments: Any) -> int:
    try:
        return run(*arguments) or 0
    except SystemExit as end:  # of argparse
        if end.code is not None and not isinstance(end.code, int):  # of a file of the user's, `sys.exit("why")`
            print(printable(end.code), file=sys.stderr)
            return 1
        return end.code or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"error: there is not enough memory{f' ({printable(error)})' if str(error) else ''}", file=sys.stderr)
        return 2
    except OSError as error:  # of a disk that fails, where nothing better could be said
        if error.strerror is None:
            raise
        where = "" if error.filename is None else f"{printable(error.filename)}: "
        print(f"error: {where}{error.strerror}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mxnet":
            raise
        print(f"error: {mxnet_problem()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _open_standard_files() -> None:
    """Puts the null device where standard input, output or error are closed (`>&-`).

    The next file that is opened, a checkpoint perhaps, would else get the number, and with it all that is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


class _Output:
    """A text stream that drops what it can no longer write, and remembers the first error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: Optional[OSError] = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._try(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except OSError as error:
            self.error = self.error or error
            # What is still in the stream's buffer, and what MXNet prints, goes nowhere from here on.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class OneLine(logging.Formatter):
    """Of messages that hold names of files, or from files."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return printable(super().formatMessage(record))
