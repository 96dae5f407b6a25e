"""Whole networks in half precision and on 8-bit integers beside float32, all compiled by igc_gluon.deploy.

    python benchmarks/precisions.py [NETWORK ...] [--batch 16] [--rounds 15] [--precisions half int8]

One thread, CPU time of that thread, which other programs disturb less than the time on the wall. The precisions take
turns; printed are the medians of the rounds, as images per second, and their ratios to float32, and how many layers run
in the precision and how many of those on AMX. Weights and images are
random: the speed does not depend on them. The networks of the default take about four minutes. Accuracy:
python -m pytest -s -m long tests/deploy/test_precision_accuracy.py.
"""

import argparse
import statistics
import time

from igc_gluon.start import exit_code, prepare

prepare()

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

from igc_gluon import deploy, get_model  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.model_zoo import find_family  # noqa: E402
from igc_gluon.native import library  # noqa: E402

NETWORKS = tuple(
    (
        "cifar_plain_igc20_l24m2 cifar_plain_igc20_l4m8 cifar_plain20_w16 cifar_igcv2_14_c96 "
        "resnet18_igc_l100m2 resnet18_igc_l4m32 resnet18_igc_l16m16 resnet18_w64 igcv2_1.0 igcv3_1.0"
    ).split()
)


def seconds(compiled, x):
    start = time.thread_time()
    compiled(x, threads=1)
    return time.thread_time() - start


def compiled_in(name, precisions):
    """[(float32, precisions ...)] of a network with random weights, and images for it."""
    mx.random.seed(0)
    net = get_model(name)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    size = find_family(name)[0].input_size
    images = np.random.default_rng(0).standard_normal((16, 3, size, size)).astype(np.float32)
    made = [
        deploy.compile(net, (3, size, size), precision=each, calibration=images if each == "int8" else None)
        for each in ("float32", *precisions)
    ]
    return made, images


def row(name, precisions, batch, rounds):
    made, images = compiled_in(name, precisions)
    x = images[: batch if images.shape[-1] <= 32 else 1]
    for compiled in made:
        seconds(compiled, x)
    times = [[seconds(compiled, x) for compiled in made] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times)]
    cells = [f"{name:24}", f"{len(x) / medians[0]:8.1f}"]
    for compiled, median in zip(made[1:], medians[1:]):
        on_amx = sum("AMX" in (layer.unit or "") for layer in compiled.layers)
        cells += [
            f"{compiled.reduced_layers:6}",
            f"{on_amx:3}",
            f"{len(x) / median:8.1f}",
            f"{medians[0] / median:5.2f}",
        ]
    return cells


def run(args):
    for precision in args.precisions:
        reason = library.unavailable_reason(precision)
        if reason:
            raise UserError(f"{precision} cannot be measured here: {reason}")
        print(f"{precision}: {library.units(precision)}")
    head = [f"{'network':24}", " float32"]
    for precision in args.precisions:
        head += ["layers", "AMX", f"{precision:>8}", "ratio"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for name in args.networks:
        print("| " + " | ".join(row(name, args.precisions, args.batch, args.rounds)) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=16, help="of images of 32x32; others: 1 (default: 16)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precisions", nargs="+", choices=["half", "int8"], default=["half", "int8"])
    args = parser.parse_args()
    run(args)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
