"""Single IGC blocks, as parts of a network that you define: native kernels beside MXNet's operators.

    python benchmarks/blocks.py [--rounds 9]

Both take turns on the same hybridized block; printed are the medians of the rounds in milliseconds of wall time for a
batch, inference and a training step (forward and backward, the data's gradient too). The change between NCHW and the
kernels' order of channels is inside.
"""

import argparse
import os
import statistics
import sys
import time

from igc_gluon.start import prepare

prepare()

import mxnet as mx  # noqa: E402

from igc_gluon.bench import machine  # noqa: E402
from igc_gluon.nn import IGCBlock  # noqa: E402

BLOCKS = ((24, 2, 32), (24, 4, 16), (24, 8, 8), (4, 8, 32), (4, 16, 16), (4, 32, 8))  # L, M, size of the maps
BATCHES = (64, 1)


def seconds(function, length=0.05):
    begin, count = time.perf_counter(), 0
    while time.perf_counter() < begin + length:
        function()
        count += 1
    return (time.perf_counter() - begin) / count


def compared(function, rounds):
    """Medians of (native, stock), in milliseconds."""
    times_of = {"1": [], "0": []}
    for number in range(rounds + 1):
        for native, times in times_of.items():
            os.environ["IGC_NATIVE"] = native
            spent = seconds(function)
            if number:
                times.append(1e3 * spent)
    return [statistics.median(times) for times in times_of.values()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print(
        "| block | batch | inference: native | MXNet | ratio | training: native | MXNet | ratio |\n" + "|---" * 8 + "|"
    )
    for (primary, secondary, size), batch in ((block, batch) for block in BLOCKS for batch in BATCHES):
        block = IGCBlock(primary, primary * secondary)
        block.initialize()
        block.hybridize(static_alloc=True, static_shape=True)
        x = mx.nd.random.normal(shape=(batch, primary * secondary, size, size))
        x.attach_grad()

        def infer():
            block(x).wait_to_read()

        def train():
            with mx.autograd.record():
                y = block(x)
            y.backward()
            mx.nd.waitall()

        cells = [f"L{primary}M{secondary}, {size}x{size}", str(batch)]
        for function in (infer, train):
            native, stock = compared(function, rounds)
            cells += [f"{native:.3g}", f"{stock:.3g}", f"{stock / native:.1f}x"]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(
        f"\nMilliseconds a batch, medians of {rounds} rounds, {os.environ['OMP_NUM_THREADS']} threads; "
        f"{machine.describe()}; Python {sys.version.split()[0]}, MXNet {mx.__version__}"
    )


if __name__ == "__main__":
    sys.exit(main())
