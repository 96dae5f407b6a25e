"""A single image through a Gluon network that is not being changed, beside the same network compiled.

    python benchmarks/gluon_overhead.py [NETWORK[:SIZE] ...] [--calls 400]

One thread. Calls alternate within a process, so that whatever else the machine does meets all alike: the ratios mean
something even where the times do not. Of each way of calling stand the median of the time and that of the processor's
time, of all threads, in microseconds; beside other busy processes the time has the waits for a processor in it.
"""

import argparse
import os
import platform
import time
from importlib import metadata

os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = "1"

NETWORKS = ["cifar_plain_igc20_l24m2:32", "resnet18_igc_l100m2:224"]


def measure(name, size, calls):
    """{way of calling: (median time, median processor time) in microseconds}."""
    import mxnet as mx
    import numpy as np

    from igc_gluon import deploy, get_model

    net = get_model(name)
    net.initialize(mx.init.Xavier())
    x = mx.nd.array(np.random.default_rng(0).standard_normal((1, 3, size, size)))
    array = x.asnumpy()
    net.hybridize(static_alloc=True, static_shape=True)
    compiled = deploy.compile(net, (3, size, size), threads=1)
    ways = {
        "compiled, numpy": lambda: compiled(array),
        "compiled, NDArray": lambda: compiled(x),
        "Gluon": lambda: net(x).wait_to_read(),
    }
    times = {way: [] for way in ways}
    for _ in range(calls + 10):
        for way, call in ways.items():
            begin = time.perf_counter(), time.process_time()
            call()
            times[way].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return {way: 1e6 * np.median(seconds[10:], axis=0) for way, seconds in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK[:SIZE]")
    parser.add_argument("--calls", type=int, default=400, help="of each (default: %(default)s)")
    arguments = parser.parse_args()
    print(
        "| network | called | time, us | processor time, us | of compiled | processor time of compiled |\n"
        + "|---" * 6
        + "|"
    )
    for network in arguments.networks:
        name, _, size = network.partition(":")
        times = measure(name, int(size or 32), arguments.calls)
        base = times["compiled, numpy"]
        for way, (wall, cpu) in times.items():
            print(
                f"| {name} | {way} | {wall:.0f} | {cpu:.0f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |", flush=True
            )

    from igc_gluon.bench import machine  # after the variables above

    print(
        f"\n{machine.describe()}, load average {os.getloadavg()[0]:.0f}, Python {platform.python_version()}, "
        f"NumPy {metadata.version('numpy')}, MXNet {metadata.version('mxnet')}."
    )


if __name__ == "__main__":
    main()
