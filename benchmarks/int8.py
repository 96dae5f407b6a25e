"""Whole networks on 8-bit integers beside float32, both compiled by igc_gluon.deploy.

    python benchmarks/int8.py [NETWORK ...] [--batch 16] [--rounds 15]

One thread, CPU time of that thread, which other programs disturb less than the time on the wall. The two take turns;
printed are the medians of the rounds, as images per second, and their ratio. Weights and images are random: the speed
does not depend on them. Accuracy: python -m pytest -s -m long tests/deploy/test_int8_accuracy.py.
"""

import argparse
import statistics
import sys
import time

from igc_gluon.start import prepare

prepare()

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

from igc_gluon import deploy, get_model  # noqa: E402
from igc_gluon.model_zoo import find_family  # noqa: E402
from igc_gluon.native import library  # noqa: E402

NETWORKS = (
    "cifar_plain_igc20_l24m2",
    "cifar_plain_igc20_l4m8",
    "cifar_plain20_w16",
    "cifar_igcv2_14_c96",
    "resnet18_igc_l100m2",
    "resnet18_igc_l4m32",
    "resnet18_igc_l16m16",
    "resnet18_w64",
    "igcv2_1.0",
    "igcv3_1.0",
)


def seconds(compiled, x):
    start = time.thread_time()
    compiled(x, threads=1)
    return time.thread_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=16, help="of images of 32x32; others: 1 (default: 16)")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    if not library.has_int8():
        sys.exit(
            f"error: the kernels in use, {library.isa()}, have none for 8-bit integers, which need AVX-512 with VNNI"
        )
    print(f"| {'network':24} | {'layers':7} | {'float32':>8} | {'int8':>8} | ratio |\n|---|---|---|---|---|")
    for name in args.networks:
        mx.random.seed(0)
        net = get_model(name)
        net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
        size = find_family(name)[0].input_size
        images = np.random.default_rng(0).standard_normal((16, 3, size, size)).astype(np.float32)
        pair = [deploy.compile(net, (3, size, size), calibration=calibration) for calibration in (None, images)]
        x = images[: args.batch if size <= 32 else 1]
        for compiled in pair:
            seconds(compiled, x)
        times = [[seconds(compiled, x) for compiled in pair] for _ in range(args.rounds)]
        exact, fast = (statistics.median(column) for column in zip(*times))
        print(
            f"| {name:24} | {pair[1].int8_layers:7} | {len(x) / exact:8.1f} | {len(x) / fast:8.1f} "
            f"| {exact / fast:5.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
