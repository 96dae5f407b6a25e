"""How a process tells the guard beside it that it does not hang: by its progress, not by its life.

    begin()             from now on this process is watched
    progress()          a step, a connection, a checkpoint is done
    with waiting():     for the other workers: progress as long as one of them makes any
    with patiently():   what may take long without work of its own, and has an end of its own, such as a download

A thread sends a byte every second: WORKS after progress, WAITS, or else LIVES. A long step or first batch says so by
its work: while the process uses the processor it counts as working, up to LONGEST_STEP.
"""

import atexit
import contextlib
import os
import stat
import threading
import time
from typing import Iterator

from igc_gluon.launch.guard import BEAT_SECONDS, HEARTBEAT, LAST_BEAT, LIVES, WAITS, WORKS

LONGEST_STEP = 3600  # seconds that a process may compute without a step; what spins in a dead lock ends then
BUSY = 0.05  # of one core; what waits for the network or for a lock uses less


class _Watch:
    def __init__(self) -> None:
        self.progressed, self.waiting, self.patient = True, 0, 0


_watch = _Watch()


def progress() -> None:
    _watch.progressed = True


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    _watch.waiting += 1
    try:
        yield
    finally:
        _watch.waiting -= 1
        progress()


@contextlib.contextmanager
def patiently() -> Iterator[None]:
    _watch.patient += 1
    try:
        yield
    finally:
        _watch.patient -= 1
        progress()


def begin() -> None:
    """From now on this process is watched, until Python ends; where no guard has started it nothing happens."""
    path = os.environ.pop(HEARTBEAT, None)  # the children of this process have guards of their own, or none
    try:
        pipe = os.open(path or "", os.O_WRONLY)
    except OSError:
        return
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):  # in a container, where process numbers are others
        return
    ended = threading.Event()

    def beat() -> None:
        word = _words()
        with contextlib.suppress(OSError):  # the guard has gone
            while not ended.wait(BEAT_SECONDS):
                os.write(pipe, next(word))
            os.write(pipe, LAST_BEAT)

    def end() -> None:  # Python's threads end here, but MXNet may then wait for other workers
        ended.set()
        thread.join()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    atexit.register(end)


def _words() -> Iterator[bytes]:
    """What to say, second by second."""
    now, used = time.monotonic(), time.process_time()
    step_began = now
    while True:
        before, used_before = now, used
        now, used = time.monotonic(), time.process_time()
        if _watch.progressed or _watch.patient:
            _watch.progressed, step_began = False, now
            yield WORKS
        elif _watch.waiting:
            step_began = now
            yield WAITS
        else:
            busy = used - used_before > BUSY * (now - before) and now - step_began < LONGEST_STEP
            yield WORKS if busy else LIVES
