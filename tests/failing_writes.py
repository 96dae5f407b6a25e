"""Errors at system calls that write, through a training run, a resume, an export and the packing of photographs.

    LD_PRELOAD=failing_calls.so python failing_writes.py FOLDER [EVERY [PART [COMMAND ...]]]

For each of EIO, ENOSPC and ESTALE, once and from then on, at every call (with EVERY only at each EVERY-th from the
PART-th on, so that the parts 1 to EVERY are all calls): the command ends with exit code 0 or 2, with 2 in one line of
an error and without a traceback; no checkpoint that `last` or `best` led to is lost; without the error the run goes on
to the bits of an undisturbed one, what is exported is the whole file of before or after, and packing goes on to the
bytes of an undisturbed one. Prints a line of counts for each command.

Two errors that leave the same bytes in the same files are one where the run goes on: it is tried once.
"""

import contextlib
import ctypes
import errno
import functools
import hashlib
import itertools
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.chdir(ROOT)

from igc_gluon.start import exit_code, prepare  # noqa: E402

prepare()

import numpy as np  # noqa: E402
from drawn_photographs import draw_photographs  # noqa: E402
from test_train_cifar import TINY  # noqa: E402

import train_cifar  # noqa: E402
from igc_gluon.cli import main as igc  # noqa: E402
from igc_gluon.data.images import Images  # noqa: E402
from igc_gluon.data.pack import Encoding  # noqa: E402
from igc_gluon.data.photo_folder import list_photographs, pack_photographs  # noqa: E402
from igc_gluon.engine import inputs, loop, run_log  # noqa: E402
from igc_gluon.engine.checkpoint import CheckpointStore  # noqa: E402
from igc_gluon.files import write_atomically  # noqa: E402

ERRORS = (errno.EIO, errno.ENOSPC, errno.ESTALE)
FLAGS = [*TINY, "--num-epochs", "2", "--batch-size", "16"]
PACKED = [f"{split}.{ending}" for split in ("train", "val") for ending in ("rec", "idx", "lst")] + ["classes.txt"]
NOTES = {"train.rec.json", "val.rec.json", "photographs.json"}
IMAGES = {"train": 32, "test": 10}  # of each: what is asked is what is written
preloaded = ctypes.CDLL(None)
preloaded.fail_calls.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
preloaded.fail_calls.restype = ctypes.c_long


real_load = functools.lru_cache(None)(inputs.load)


def few_images(name, split, **where):
    images, labels = real_load(name, split, **where)
    return Images(images[: IMAGES[split]], labels[: IMAGES[split]])


def quick_picture(history, title, path):
    """As many bytes as a picture of the curves has: to draw it takes half the time of so short a run."""
    with write_atomically(path) as file:
        file.write(np.random.default_rng(0).bytes(40000))


def quietly(call, *args):
    """(what it returns, all that it wrote to stderr)"""
    with tempfile.TemporaryFile() as err, open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        sys.stderr.flush()
        before = os.dup(2)
        os.dup2(err.fileno(), 2)
        try:
            try:
                code = call(*args)
            except SystemExit as ended:
                code = ended.code
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
        err.seek(0)
        return code or 0, err.read().decode()


def train(log_dir, *more):
    ticks = itertools.count()
    loop.time = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # so that the same work leaves the same bytes
    flags = [*FLAGS, "--log-dir", str(log_dir), "--model-prefix", str(log_dir / "export"), *more]
    return quietly(exit_code, lambda: train_cifar.run(train_cifar.parse(flags)))


def checkpoints(log_dir):
    return CheckpointStore(next(Path(log_dir).glob("digits/*/seed0"), Path(log_dir)) / "checkpoints")


def final(log_dir):
    store = checkpoints(log_dir)
    folder = store.folder / store.pointer("last")
    return [(folder / name).read_bytes() for name in ("net.params", "training.params")] + [
        (log_dir / "export-0002.params").read_bytes()
    ]


def left_in(folder):
    """A digest of all that a run goes on from: not of the log, which is only written, nor of the events, which begin
    anew and are called by the time."""
    state = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*")):
        name = re.sub(r"\.[0-9a-f]{8}\.tmp$", ".tmp", str(path.relative_to(folder)))
        if path.name != "log.txt" and not path.name.startswith("events.out"):
            state.update(f"{name} {path.is_file() and path.read_bytes()}\n".encode())
    return state.digest()


def sweep(title, command, prepare_folder, check, every, part):
    """command(folder) -> (code, stderr)"""
    tried = 0
    folder = Path(sys.argv[1]) / "work"
    for number in range(part, 5000, every):
        for error in ERRORS:
            for lasting in (False, True):
                shutil.rmtree(folder, ignore_errors=True)
                prepare_folder(folder)
                preloaded.fail_calls(str(folder).encode(), number, error, lasting)
                code, err = command(folder)
                made = preloaded.fail_calls(b"", 0, 0, 0)
                where = (title, number, errno.errorcode[error], lasting, code, err)
                assert code in (0, 2) and "Traceback" not in err and "Logging error" not in err, where
                assert (code == 2) == (sum(line.startswith("error: ") for line in err.splitlines()) == 1), where
                check(folder, where)
                if made < number:  # the command was over before
                    assert code == 0, where
                    print(f"{title}: {tried} errors at {len(range(part, number, every))} of {made} calls", flush=True)
                    return
                tried += 1
        print(f"{title}: {tried} errors at calls up to number {number}", file=sys.stderr, flush=True)
    raise AssertionError("no command comes through")


def run_commands(base):
    """{title: (command, prepare, check), as `sweep` takes them} of training, resuming and exporting."""
    whole, half = base / "whole", base / "half"
    whole.mkdir(parents=True)
    assert train(whole)[0] == 0
    undisturbed, gone_on = final(whole), set()
    # After its first epoch: as if the second checkpoint had met a full disk.
    half.mkdir()
    real, saves = loop.TrainingLoop._save, []

    def save(self, best):
        saves.append(best)
        if len(saves) == 2:
            raise loop.UserError("stopped")
        return real(self, best)

    loop.TrainingLoop._save = save
    assert train(half)[0] == 2
    loop.TrainingLoop._save = real
    run = str(checkpoints(whole).folder.parent)
    assert quietly(igc, ["compile", run, str(base / "net.igc")])[0] == 0
    new = (base / "net.igc").read_bytes()

    def lost_nothing(folder, where):
        store, lines = checkpoints(folder), []
        pointed = [which for which in ("last", "best") if (store.folder / which).exists()]
        for which in pointed:
            assert store.pointer(which), where
            store.load(store.pointer(which))
        saved = store.load_last(lines.append)
        assert not lines and (saved or not pointed), (where, lines)
        state = left_in(folder)
        if state in gone_on:
            return
        gone_on.add(state)
        code, err = train(folder, "--resume")
        assert code == 0 and final(folder) == undisturbed, (where, code, err)

    def old(folder):
        folder.mkdir()
        (folder / "net.igc").write_bytes(b"old")

    def whole_file(folder, where):
        content = (folder / "net.igc").read_bytes()
        assert content in (b"old", new) and (where[4] or content == new) and len(list(folder.iterdir())) <= 2, where

    return {
        "training": (train, Path.mkdir, lost_nothing),
        "resume": (
            lambda folder: train(folder, "--resume"),
            lambda folder: shutil.copytree(half, folder),
            lost_nothing,
        ),
        "export": (lambda folder: quietly(igc, ["compile", run, str(folder / "net.igc")]), old, whole_file),
    }


def packing(base):
    """The same of photographs that are packed to be trained on."""
    photographs = list_photographs(draw_photographs(base / "photographs", 3, 24))

    def pack(folder):
        return quietly(exit_code, pack_photographs, photographs, folder, Encoding(24, enlarge=False), str)

    def packed(folder):
        return {name: (folder / name).read_bytes() for name in PACKED}

    assert pack(base / "packed")[0] == 0
    undisturbed = packed(base / "packed")

    def goes_on(folder, where):
        code, err = pack(folder)
        assert code == 0 and packed(folder) == undisturbed, (where, code, err)
        left = {path.name for path in folder.iterdir() if path.name not in PACKED} - NOTES
        assert all(name.startswith(".") for name in left), (where, left)

    return {"packing": (pack, Path.mkdir, goes_on)}


def main(folder, every="1", part="1", *chosen):
    inputs.load, run_log.draw_curves = few_images, quick_picture
    run_log.commit = lambda: None  # asks git four times
    for title, given in {**run_commands(Path(folder)), **packing(Path(folder))}.items():
        if title in chosen or not chosen:
            sweep(title, *given, int(every) if title != "export" else 1, int(part) if title != "export" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
