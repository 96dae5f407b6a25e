"""Kills a run at so many random moments and goes on each time: `python kill_and_resume.py CYCLES [FLAG ...]`.

An IGC network on digits with checkpoints every few batches, on our kernels where they are. Every run is a fork of this
process, which has imported all there is, so that the kills strike at training and not at imports. Prints where they
struck, and ends with exit code 1 unless parameters, optimizer state and history are those of an undisturbed run, bit
for bit.
"""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igc_gluon.start import prepare  # noqa: E402

prepare()

import train_cifar  # noqa: E402
from igc_gluon.engine import experiment  # noqa: E402,F401 (before the forks)
from igc_gluon.engine.checkpoint import CheckpointStore  # noqa: E402

FLAGS = (
    "--dataset digits --network plain_igc --depth 5 --primary-partition 4 --secondary-partition 2 "
    "--num-epochs 100 --checkpoint-batches 4 --resume"
).split()


def begin(flags):
    """A fork that runs train_cifar.py, in silence. Returns its process id."""
    child = os.fork()
    if child:
        return child
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    code = 1
    try:
        code = train_cifar.run(train_cifar.parse(flags))
    finally:
        os._exit(code)


def folder(log_dir):
    folders = list(Path(log_dir).glob("*/*/seed0"))
    return folders[0] if folders else None


def state(log_dir):
    """Where a killed run is: the last checkpoint's name, and whether a checkpoint was being written."""
    store = CheckpointStore(folder(log_dir) / "checkpoints") if folder(log_dir) else None
    return (store and store.pointer("last"), bool(store and list(store.folder.glob(".epoch*"))))


def result(log_dir):
    store = CheckpointStore(folder(log_dir) / "checkpoints")
    last = store.folder / store.pointer("last")
    history = [json.loads(line) for line in (folder(log_dir) / "history.jsonl").read_text().splitlines()]
    return (
        [(last / file).read_bytes() for file in ("net.params", "training.params")],
        [{k: v for k, v in e.items() if k not in ("seconds", "images_per_second")} for e in history],
    )


def main(cycles, *flags):
    seed = random.randrange(10**6)
    rng, where, begun = random.Random(seed), Counter(), time.monotonic()
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        start = time.monotonic()
        child = begin([*FLAGS, *flags, "--log-dir", a])
        while not (folder(a) and CheckpointStore(folder(a) / "checkpoints").pointer("last")):
            time.sleep(0.01)
        first = time.monotonic() - start
        assert os.waitpid(child, 0)[1] == 0
        # Until the first checkpoint of a run at the least, on the average: each then gets on by its share of the rest.
        share = 2 * (time.monotonic() - start - first) / cycles
        before = (None, False)
        for number in range(cycles):
            child = begin([*FLAGS, *flags, "--log-dir", b])
            time.sleep(rng.uniform(0, first + share) if rng.random() < 0.5 else first + rng.uniform(0, share))
            os.kill(child, signal.SIGKILL)
            if os.WIFEXITED(os.waitpid(child, 0)[1]):
                where["after the end"] += 1
                continue
            now = state(b)
            where[
                "within a checkpoint's write"
                if now[1]
                else "after new checkpoints"
                if now[0] != before[0]
                else "before a new checkpoint"
            ] += 1
            before = now
            print(f"\r{number + 1} of {cycles} kills, at {now[0]}", end="", file=sys.stderr, flush=True)
        child = begin([*FLAGS, *flags, "--log-dir", b])
        code = os.waitpid(child, 0)[1]
        same = code == 0 and result(a) == result(b)
    print(
        f"\n{cycles} kills (seed {seed}): "
        + ", ".join(f"{n} {text}" for text, n in where.most_common())
        + f"; {'the same bits' if same else 'NOT THE SAME'} in {time.monotonic() - begun:.0f} s"
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
