"""All operations at random in one process, for so many minutes: `python tests/soak.py MINUTES [SEED]`.

Networks are built, trained a step natively, saved, resumed, compiled, asked, loaded and called from several threads,
asked in a forked child, and deleted, some at a time. Whatever is computed is compared with what the same weights gave
before. Prints the memory, threads and open files every so often, and at the end a line; fails where memory still
grows, or
threads or files are left over.
"""

import collections
import ctypes
import gc
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from igc_gluon.start import prepare  # noqa: E402

prepare()

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

from igc_gluon import deploy, get_model, native  # noqa: E402
from igc_gluon.engine.checkpoint import CheckpointStore  # noqa: E402
from igc_gluon.engine.optimizer import AuthorsNesterov  # noqa: E402
from igc_gluon.engine.parallel import DataParallel  # noqa: E402
from igc_gluon.native import operators  # noqa: E402

NETWORKS = (
    ("cifar_plain_igc5_l4m2", 32),
    ("cifar_resnet_igc8_l3m2", 16),
    ("cifar_plain5_w4", 32),
    ("cifar_igcv2_8_c18", 16),
    ("cifar_sumfusion8_l2m3", 16),
)
CLASSES, MOST = 5, 4  # networks at a time
SAMPLES = 60  # of memory, over the whole time
GROWTH = 8 << 20  # bytes from the middle third of the time to the last, of which a network takes some


class Trained:
    """A network in training, with its checkpoints."""

    def __init__(self, name, size, folder, seed):
        mx.random.seed(seed)
        self.name, self.size, self.store, self.steps = name, size, CheckpointStore(folder), 0
        net = get_model(name, classes=CLASSES)
        net.initialize(mx.init.Xavier())
        net.hybridize(static_alloc=True)
        net(mx.nd.zeros((1, 3, size, size)))
        self.parallel = DataParallel(net, [mx.cpu()], 2, AuthorsNesterov(momentum=0.9, wd=1e-4, learning_rate=0.01))
        self.compiled = None

    @property
    def net(self):
        return self.parallel.net

    def images(self, rng, count=4):
        return (
            np.random.default_rng(rng.randrange(1000))
            .standard_normal((count, 3, self.size, self.size))
            .astype("float32")
        )


class Soak:
    def __init__(self, seed, folder):
        self.rng, self.folder, self.made, self.alive = random.Random(seed), folder, 0, []
        self.counts = collections.Counter()

    def one(self):
        return self.rng.choice(self.alive)

    def build(self):
        if len(self.alive) == MOST:
            self.delete()
        self.made += 1
        name, size = self.rng.choice(NETWORKS)
        self.alive.append(Trained(name, size, self.folder / str(self.made), self.made))

    def delete(self):
        oldest = self.alive.pop(self.rng.randrange(len(self.alive)))
        shutil.rmtree(oldest.store.folder, ignore_errors=True)

    def train(self):
        one = self.one()
        labels = np.arange(4, dtype="float32") % CLASSES
        result = one.parallel.step(one.images(self.rng), labels, 0.01)
        assert np.isfinite(result.loss) and not result.broken, (one.name, result)
        one.steps += 1

    def save(self):
        one = self.one()
        one.parallel.end_epoch()
        one.store.save(1, one.steps, one.parallel.state_dict(), {"steps": one.steps}, best=self.rng.random() < 0.5)

    def resume(self):
        """Into a new network of another process, as it were, which then stands for the old one."""
        one = self.one()
        saved = one.store.load_last(print)
        if saved is None:
            return
        arrays, state = saved
        other = Trained(one.name, one.size, one.store.folder, 0)
        names = dict(zip(arrays["net.params"], other.net.collect_params()))
        arrays_of_file = {names[name]: array for name, array in arrays["net.params"].items()}
        momenta = {
            f"momentum:{names[name.split(':', 1)[1]]}": array for name, array in arrays["training.params"].items()
        }
        other.parallel.load_state_dict({"net.params": arrays_of_file, "training.params": momenta})
        other.steps = state["steps"]
        for name, array in other.parallel.parameters().items():
            np.testing.assert_array_equal(array, arrays_of_file[name])
        self.alive[self.alive.index(one)] = other
        shutil.rmtree(one.store.folder)  # its names are those of the old network

    def compile(self):
        one = self.one()
        one.compiled = deploy.compile(one.net, (3, one.size, one.size), threads=self.rng.choice((0, 1, 2)))
        x = one.images(self.rng)
        expected = one.parallel.predict(x)
        np.testing.assert_allclose(one.compiled(x), expected, rtol=0, atol=1e-3 * max(1, np.abs(expected).max()))

    def predict(self):
        one = self.one()
        x = one.images(self.rng, self.rng.choice((1, 3, 8)))
        np.testing.assert_array_equal(one.parallel.predict(x), one.parallel.predict(x))

    def load_and_call(self):
        """From several threads at once, each of which must get the same bits."""
        one = self.one()
        if one.compiled is None:
            return
        path = self.folder / "net.igc"
        one.compiled.save(path)
        loaded, x = deploy.load(path), one.images(self.rng, 3)
        expected, wrong = one.compiled(x, threads=1), []

        def call():
            for threads in (1, 2, 1):
                if not np.array_equal(loaded(x, threads=threads), expected):
                    wrong.append(threads)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not wrong, one.name

    def fork(self):
        """A child that predicts, with the compiled network and through MXNet."""
        one = self.one()
        if one.compiled is None:
            return
        x = one.images(self.rng)
        expected, through_mxnet = one.compiled(x), one.parallel.predict(x)
        mx.nd.waitall()
        child = os.fork()
        if child == 0:
            import signal

            signal.alarm(60)
            same = np.array_equal(one.compiled(x, threads=2), expected) and np.array_equal(
                one.parallel.predict(x), through_mxnet
            )
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0, one.name

    def step(self):
        kinds = {
            "train": 6,
            "predict": 3,
            "save": 2,
            "resume": 1,
            "compile": 2,
            "load_and_call": 2,
            "fork": 1,
            "build": 1,
            "delete": 0.5,
        }
        kind = "build" if len(self.alive) < 2 else self.rng.choices(list(kinds), kinds.values())[0]
        getattr(self, kind)()
        self.counts[kind] += 1


def state():
    """(resident bytes, threads, open files) of this process, after everything that is no longer needed has gone."""
    mx.nd.waitall()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def main(minutes, seed=0):
    assert operators.unavailable_reason() is None, native.unavailable_reason()
    begin, samples = time.monotonic(), []
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(seed, Path(folder))
        while time.monotonic() < begin + 60 * minutes:
            soak.step()
            if time.monotonic() > begin + 60 * minutes * len(samples) / SAMPLES:
                samples.append(state())
                print(
                    f"{time.monotonic() - begin:6.0f} s  {sum(soak.counts.values()):6,} operations  "
                    f"{samples[-1][0] / 1e6:7.1f} MB  {samples[-1][1]} threads  {samples[-1][2]} files",
                    flush=True,
                )
        soak.alive.clear()
    samples.append(state())
    memory, threads, files = zip(*samples)
    third = len(samples) // 3
    middle, last = (max(memory[first : first + third]) for first in (third, 2 * third))
    counts = ", ".join(f"{count:,} {kind}" for kind, count in soak.counts.most_common())
    print(
        f"{(time.monotonic() - begin) / 60:.1f} minutes, {sum(soak.counts.values()):,} operations ({counts}): at most "
        f"{middle / 1e6:.1f} MB in the middle third, {last / 1e6:.1f} MB in the last, "
        f"{memory[-1] / 1e6:.1f} MB with all "
        f"networks deleted; threads {max(threads[third : 2 * third])} and {threads[-1]}, files "
        f"{max(files[third : 2 * third])} and {files[-1]}"
    )
    assert last <= middle + GROWTH, "memory grows"
    assert threads[-1] <= max(threads[third : 2 * third]), "threads are left over"
    assert files[-1] <= max(files[third : 2 * third]), "files are left open"


if __name__ == "__main__":
    main(float(sys.argv[1]), *map(int, sys.argv[2:]))
