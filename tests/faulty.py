"""train_cifar.py in a process with a fault: `python faulty.py FAULT ... -- FLAGS`.

clock               time.time jumps back and forth by years, time.monotonic stands still now and then
signal-in-evaluate  SIGTERM to itself at the start of the second evaluation
signal-in-first-evaluate  the same at the first
signal-in-save      SIGTERM to itself in the middle of the second checkpoint's files
two-signals         SIGTERM in the middle of the second checkpoint's files, and again two seconds after
one-signal-twice    SIGTERM there, and again right after, as coreutils' `timeout` sends it
kill-in-save        SIGKILL there
full                no space is left from there on
"""

import errno
import itertools
import os
import random
import runpy
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def jumping_clock():
    rng, real = random.Random(0), time.monotonic
    standing = [real()]

    def monotonic():
        if rng.random() < 0.5:
            standing[0] = real()
        return standing[0]

    time.time = lambda: rng.choice((0.0, 1e9, 4e9)) + rng.random()
    time.monotonic = monotonic


def at_fsync(numbers, action):
    """Calls `action` before the fsyncs of these numbers, counted over the files of checkpoints."""
    count, real = itertools.count(1), os.fsync

    def fsync(handle):
        if "/checkpoints/." in os.readlink(f"/proc/self/fd/{handle}") and next(count) in numbers:
            action()
        real(handle)

    os.fsync = fsync


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def send(number, *pauses):
    """The signal, and again after each of the pauses, in seconds."""

    def action():
        for pause in (0, *pauses):
            time.sleep(pause)
            os.kill(os.getpid(), number)

    return action


def in_evaluate(number):
    from igc_gluon.engine import evaluation, loop

    count, real = itertools.count(1), evaluation.evaluate

    def evaluate(*args):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    loop.evaluate = evaluate


FAULTS = {
    "clock": jumping_clock,
    "signal-in-evaluate": lambda: in_evaluate(2),
    "signal-in-first-evaluate": lambda: in_evaluate(1),
    # a checkpoint syncs each of its 4 files and its folder after it: the third file of the second one
    "signal-in-save": lambda: at_fsync([13], send(signal.SIGTERM)),
    "two-signals": lambda: at_fsync([13], send(signal.SIGTERM, 2)),
    "one-signal-twice": lambda: at_fsync([13], send(signal.SIGTERM, 0.05)),
    "kill-in-save": lambda: at_fsync([13], send(signal.SIGKILL)),
    "full": lambda: at_fsync(range(13, 1000), full),
}

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from igc_gluon.start import prepare

    prepare()
    FAULTS[sys.argv[1]]()
    sys.argv = [str(ROOT / "train_cifar.py"), *sys.argv[2:]]
    runpy.run_path(sys.argv[0], run_name="__main__")
