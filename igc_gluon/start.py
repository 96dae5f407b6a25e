"""What an entry point does first, before anything imports MXNet."""

import os
import signal
import sys
from types import FrameType
from typing import Optional

from igc_gluon.errors import UserError
from igc_gluon.exits import OneLine, exit_code, mxnet_problem
from igc_gluon.launch import variables
from igc_gluon.threads import use_all_cores

__all__ = ["OneLine", "exit_code", "interrupt", "mxnet_problem", "prepare"]


def prepare() -> None:
    """Has MXNet use all cores, and ends the process with one line where MXNet is missing or installed twice.

    Until the entry point sets `interrupt`, Ctrl-C ends the process at once.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = exit_code(_prepare)
    if code:
        sys.exit(code)
    role = variables.role()
    if role in ("server", "scheduler"):  # of a launcher that starts every role with the training command
        from igc_gluon.engine.server import serve  # optional: of the other roles nobody needs it

        sys.exit(exit_code(serve, role))


def interrupt(number: int, frame: Optional[FrameType]) -> None:
    """The handler of Ctrl-C: raises KeyboardInterrupt, or ends the process where Python or a library would lose it.

    Those are imports, MXNet's takes seconds, and the deletion of objects.
    """
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib") or frame.f_code.co_name == "__del__":
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        frame = frame.f_back
    raise KeyboardInterrupt


def _prepare() -> None:
    use_all_cores()
    variables.role()
    problem = mxnet_problem()
    if problem:
        raise UserError(problem)
