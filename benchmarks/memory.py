"""Memory of Gluon networks on the native operators: many image sizes, and networks that come and go.

    python benchmarks/memory.py [--against TREE]

Each row is a process of its own; what is printed is how much its resident memory grew, in MB, after a first call.
--against: another checkout of this repository, built, measured in the same run. 'MXNet' is IGC_NATIVE=0.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent

SIZES = """
net = get_model("resnet18_igc_l100m2"); net.initialize(); net.hybridize(static_alloc=True)
call(net, 1, 224)
before = resident()
for size in range(160, 160 + 12 * 16, 16):
    call(net, 1, size)
"""
DELETED = """
def once():
    net = get_model("resnet18_igc_l100m2"); net.initialize(); net.hybridize(static_alloc=True)
    call(net, 1, 224)
once(); gc.collect()
before = resident()
for _ in range(8):
    once(); gc.collect()
"""
RANDOM = """
net = get_model("cifar_plain_igc8_l24m2", classes=10); net.initialize(); net.hybridize(static_alloc=True)
call(net, 1, 32)
before = resident()
random = np.random.default_rng(0)
for i in range(1000):
    call(net, int(random.integers(1, 9)), int(random.integers(8, 65)))
    if i == 499:
        print(f"(after 500: {resident() - before:.0f})", end=" ")
"""
PREPARED = """
import gc, os
import mxnet as mx, numpy as np
from igc_gluon import get_model

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def call(net, batch, size):
    net(mx.nd.zeros((batch, 3, size, size))).wait_to_read()

{body}
print(f"{{resident() - before:.0f}}")
"""
CASES = {
    "12 image sizes of L100M2": SIZES,
    "8 deleted networks, L100M2": DELETED,
    "1,000 random sizes and batches, L24M2": RANDOM,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="TREE")
    arguments = parser.parse_args()
    print("| case | kernels | growth, MB |\n|---|---|---|")
    trees = [("these", HERE, "1"), ("MXNet", HERE, "0")]
    if arguments.against:
        trees.insert(1, (arguments.against.name, arguments.against, "1"))
    for case, body in CASES.items():
        for name, tree, native in trees:
            done = subprocess.run(
                [sys.executable, "-c", PREPARED.format(body=body)],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(tree), "IGC_NATIVE": native},
                cwd="/",
            )
            print(f"| {case} | {name} | {done.stdout.strip()} |", flush=True)


if __name__ == "__main__":
    main()
