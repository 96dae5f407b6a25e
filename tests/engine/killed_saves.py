"""Kills a process that writes checkpoints before each of its file operations in turn: `python killed_saves.py FOLDER`.

A fork of this process is killed before operation 1 of a save, the next before operation 2, until one comes through.
After each, what is left must load as the checkpoint before (or none) or the new one, whole, and the next
save must get over it. Prints how many kills there were, and how many left the checkpoint before.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

from igc_gluon.engine.checkpoint import CheckpointStore

KEEP = 1


def save(store, epoch, value=None):
    value = epoch if value is None else value
    arrays = {file: {"w": np.full(50000, value, "float32")} for file in ("net.params", "training.params")}
    store.save(epoch, 0, arrays, {"epoch": epoch, "value": value}, best=epoch < 3)


def killed_before(store, number):
    """Whether the save of epoch 2 was killed before its file operation `number`."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    left = [number]

    def count(event, *_):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "write", "fsync"):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    # Python tells its auditors of all but writes and syncs.
    sys.setprofile(lambda frame, event, function: event == "c_call" and count(function.__name__))
    sys.addaudithook(count)
    save(store, 2)
    os._exit(0)


def main(folder):
    print(*np.sum([kill_each(folder, before) for before in ([], [(1, 1)], [(1, 1), (2, 7)], [(2, 7)])], axis=0))


def kill_each(folder, earlier):
    """(kills, those that left the checkpoint before) of a save of epoch 2 after those of `earlier`, as (epoch, value):
    the first of a run, the second, and one of a position that has been saved before."""
    expected = earlier[-1] if earlier else None
    before = number = 0
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        store = CheckpointStore(folder, KEEP)
        for epoch, value in earlier:
            save(store, epoch, value)
        number += 1
        killed = killed_before(store, number)
        lines = []
        arrays, state = store.load_last(lines.append) or (None, None)
        assert not lines, (number, lines)
        saved = state and (state["epoch"], state["value"])
        if state:
            assert (arrays["net.params"]["w"] == state["value"]).all() and saved in (expected, (2, 2)), number
            assert not earlier or store.pointer("best") in store.names(), number
        else:
            assert not earlier and killed, number
        if not killed:
            assert saved == (2, 2)
            return number - 1, before
        before += saved == expected
        save(store, 3)
        assert store.load_last(lines.append)[1] == {"epoch": 3, "value": 3} and not lines, number
        left = {path.name for path in Path(folder).iterdir()}
        best = {"best", store.pointer("best")} if store.pointer("best") else set()
        assert left == {"last", "epoch-0003-batch-000000"} | best, (number, left)


if __name__ == "__main__":
    main(sys.argv[1])
