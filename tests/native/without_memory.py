"""Training and inference with each allocation failing in turn: `LD_PRELOAD=failing_new.so python without_memory.py`.

Prints how many allocations failed; each is a MemoryError or does not matter, and the next call gives the right numbers.
"""

import ctypes
import sys

import numpy as np
from native_reference import averaged, trained

from igc_gluon.native import library
from igc_gluon.native.training import Body

preloaded = ctypes.CDLL(None)
preloaded.fail_new.argtypes = [ctypes.c_long]
rng = np.random.RandomState(0)
# A block of two convolutions and one of one, so that the way back keeps results between stages.
OPS = averaged(
    [
        trained(0, 8),
        trained(1, 8, groups=2, normalized=False, activation=None),
        trained(2, 8, kernel=1),
        trained(3, 8, residual=1),
    ]
)
THREADS, BATCH = 4, 8


def failures(call, expected):
    """How many allocations `call` makes; it may do without some, of a thread for example."""
    count = 0
    while True:
        count += 1
        preloaded.fail_new(count)
        try:
            found, armed = call(), preloaded.new_is_armed()
            preloaded.fail_new(0)
            for a, b in zip(found, expected):
                np.testing.assert_array_equal(a, b)
            if armed:  # there was no allocation of that number
                return count - 1
        except MemoryError:
            preloaded.fail_new(0)


def main():
    x = rng.standard_normal((BATCH, 3, 9, 9)).astype("float32")
    body = Body(OPS, (3, 9, 9))
    parameters = [rng.standard_normal(shape).astype("float32") for shape in body.shapes]
    running = [np.ones(8, "float32") for op in OPS if op.normalized for _ in range(2)]
    dy = rng.standard_normal((BATCH, 8)).astype("float32")

    def train():
        y = body.forward(x, parameters, threads=THREADS)
        return [y, *body.backward(dy, threads=THREADS)[0]]

    def train_anew():
        nonlocal body
        body = Body(OPS, (3, 9, 9))
        return train()

    def infer():
        return [body.infer(x, parameters, running, threads=THREADS)]

    def compiled():
        net = library.Net(
            [
                library.Op(library.CONV, 0, 8, kernel=(3, 3), pad=(1, 1), weight=parameters[0]),
                library.Op(library.MEAN_POOL, 1),
            ],
            (3, 9, 9),
        )
        return [net(x, threads=THREADS), net(x[:1], threads=THREADS)]

    print(*(failures(call, call()) for call in (train, train_anew, infer, compiled)))


if __name__ == "__main__":
    sys.exit(main())
