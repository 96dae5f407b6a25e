"""A single image beside busy neighbors: what a second thread gains, and what it may cost.

    python benchmarks/neighbors.py [NETWORK] [--neighbors 0 1 2 4] [--seconds 4] [--against TREE]

Times calls of a compiled network with one image, on one thread and on all cores in turn, while so many other processes
compute without a pause. Printed are the median and the 99th percentile of each in milliseconds. --against: another
checkout of this repository, built, whose rows are measured in the same run.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def measure(path, seconds):
    """Run by a child: {threads: [median, 99th percentile]}, in milliseconds."""
    import numpy as np

    from igc_gluon import deploy

    compiled = deploy.load(path)
    x = np.random.default_rng(0).standard_normal((1, *compiled.input_shape)).astype(np.float32)
    cores = len(os.sched_getaffinity(0))
    times = {threads: [] for threads in (1, cores)}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for threads, milliseconds in times.items():
            for _ in range(20):
                begin = time.perf_counter()
                compiled(x, threads=threads)
                milliseconds.append(1e3 * (time.perf_counter() - begin))
    return {
        threads: [percentile(milliseconds, 0.5), percentile(milliseconds, 0.99)]
        for threads, milliseconds in times.items()
    }


def keep_busy():
    while True:
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="cifar_plain_igc20_l24m2")
    parser.add_argument("--neighbors", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--against", type=Path, metavar="TREE")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "network.igc")
        compile_to(path, arguments.network)
        print(
            "| neighbors | kernels | threads | median ms | 99 % ms | of one thread: median | 99 % |\n"
            + "|---" * 7
            + "|"
        )
        for count in arguments.neighbors:
            busy = [multiprocessing.Process(target=keep_busy, daemon=True) for _ in range(count)]
            for process in busy:
                process.start()
            for tree in filter(None, (HERE, arguments.against)):
                # -S -c would lose the packages: the tree only comes first.
                command = [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    "--measure",
                    path,
                    "--seconds",
                    str(arguments.seconds),
                ]
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    check=True,
                    text=True,
                    env={**os.environ, "PYTHONPATH": str(tree)},
                    cwd=folder,
                )
                rows = json.loads(done.stdout)
                one = rows[min(rows, key=int)]
                for threads, (median, high) in rows.items():
                    print(
                        f"| {count} | {'these' if tree == HERE else tree.name} | {threads} | {median:.2f} | {high:.2f} "
                        f"| {median / one[0]:.2f} | {high / one[1]:.2f} |",
                        flush=True,
                    )
            for process in busy:
                process.kill()
                process.join()


def compile_to(path, network):
    import mxnet as mx

    from igc_gluon import deploy, get_model
    from igc_gluon.model_zoo import find_family

    mx.random.seed(0)
    net = get_model(network)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    size = find_family(network)[0].input_size
    deploy.compile(net, (3, size, size)).save(path)


if __name__ == "__main__":
    main()
