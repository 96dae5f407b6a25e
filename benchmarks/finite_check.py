"""What the check that gradients and weights are finite costs of a training step.

    python benchmarks/finite_check.py [--network cifar_plain_igc20_l24m2] [--rounds 15]

Steps with and without the check take turns, in blocks; printed are the medians of the blocks in CPU time of the whole
process, which other programs disturb less than the time on the wall, and the check alone.
"""

import argparse
import statistics
import sys
import time

from igc_gluon.start import prepare

prepare()

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

from igc_gluon.engine.experiment import Experiment, build_network  # noqa: E402
from igc_gluon.engine.optimizer import AuthorsNesterov  # noqa: E402
from igc_gluon.engine.parallel import DataParallel  # noqa: E402
from igc_gluon.engine.run_log import versions  # noqa: E402
from igc_gluon.model_zoo import find_model  # noqa: E402

STEPS = 4  # in a block


class NoCheck:
    def begin(self):
        pass

    def end(self):
        pass


def seconds(function, times):
    begin = time.process_time()
    for _ in range(times):
        function()
    mx.nd.waitall()
    return (time.process_time() - begin) / times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="cifar_plain_igc20_l24m2")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    devices = [mx.cpu()]
    net = build_network(Experiment(find_model(args.network), "cifar10", None), devices, 10, seed=0)
    parallel = DataParallel(net, devices, 2, AuthorsNesterov(learning_rate=1e-3, wd=1e-4))
    rng = np.random.default_rng(0)
    data = rng.standard_normal((args.batch_size, 3, 32, 32), dtype=np.float32)
    label = rng.integers(0, 10, args.batch_size).astype(np.float32)

    def step():
        parallel.step(data, label, 1e-3)

    check, off = parallel.finite_check, NoCheck()
    seconds(step, 3)
    times = {check: [], off: []}
    for number in range(args.rounds):
        for parallel.finite_check in (check, off) if number % 2 else (off, check):
            times[parallel.finite_check].append(seconds(step, STEPS))
    alone = [seconds(lambda: (check.begin(), check.end()), 20) for _ in range(args.rounds)]
    on, without = (statistics.median(times[which]) for which in (check, off))
    print(f"{args.network}, batch {args.batch_size}, {args.rounds} x {STEPS} steps each, {versions()}")
    print(f"step with {1000 * on:.2f} ms, without {1000 * without:.2f} ms of CPU: {100 * (on / without - 1):+.2f} %")
    print(f"the check alone {1000 * statistics.median(alone):.3f} ms: {100 * statistics.median(alone) / without:.2f} %")


if __name__ == "__main__":
    sys.exit(main())
