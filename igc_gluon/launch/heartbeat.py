"""How a process tells the guard beside it that it does not hang.

A thread sends a byte now and then. It stands still when its process does, and goes on while a step takes long.
"""
import atexit
import contextlib
import os
import stat
import threading

from igc_gluon.launch.guard import BEAT, BEAT_SECONDS, HEARTBEAT, LAST_BEAT


def begin():
    """From now on this process is watched, until Python ends; where no guard has started it nothing happens."""
    path = os.environ.pop(HEARTBEAT, None)  # the children of this process have guards of their own, or none
    try:
        pipe = os.open(path or "", os.O_WRONLY)
    except OSError:
        return
    if not stat.S_ISFIFO(os.fstat(pipe).st_mode):  # in a container, where process numbers are others
        return
    ended = threading.Event()

    def beat():
        with contextlib.suppress(OSError):  # the guard has gone
            while not ended.wait(BEAT_SECONDS):
                os.write(pipe, BEAT)
            os.write(pipe, LAST_BEAT)

    def end():  # Python's threads end here, but MXNet may then wait for other workers
        ended.set()
        thread.join()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    atexit.register(end)
