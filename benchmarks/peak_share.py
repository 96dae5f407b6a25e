"""Share of the processor's multiply-adds that compiled networks reach, with each instruction set of float32.

    python benchmarks/peak_share.py [NETWORK ...] [--turns 250] [--batch 2]

One thread. In every turn the peak (multiply-adds in registers alone) is measured and each network called once, short
enough to end before another process gets the core. Shares are of the 10th percentile of the time and the 90th of the
peak, which other work on the machine moves less than medians. Images are 3x32x32.
"""

import argparse
import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["MXNET_OMP_MAX_THREADS"] = "1"

NETWORKS = ["cifar_plain_igc20_l24m2", "cifar_plain_igc20_l4m8", "cifar_plain20_w16"]
SIZE = 32
PEAK_SECONDS = 0.0005


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK")
    parser.add_argument("--turns", type=int, default=250)
    parser.add_argument("--batch", type=int, default=2)
    arguments = parser.parse_args()

    import mxnet as mx
    import numpy as np

    from igc_gluon import deploy, get_model
    from igc_gluon.bench import machine
    from igc_gluon.native import library

    measures = {isa: peak for isa, peak in machine.libraries().items() if isa in library.ISAS}
    compiled = {}
    for isa in measures:
        library.use_isa(isa)
        for name in arguments.networks:
            mx.random.seed(0)
            net = get_model(name)
            net.initialize(mx.init.Xavier())
            compiled[isa, name] = deploy.compile(net, (3, SIZE, SIZE), threads=1)
    images = np.random.default_rng(0).standard_normal((arguments.batch, 3, SIZE, SIZE)).astype(np.float32)
    peaks = {isa: [] for isa in measures}
    times = {key: [] for key in compiled}
    for _ in range(arguments.turns):
        for isa, measure in measures.items():
            peaks[isa].append(measure.igc_peak(1, PEAK_SECONDS))
        for key, network in compiled.items():
            begin = time.perf_counter()
            network(images)
            times[key].append(time.perf_counter() - begin)
    print("| instruction set | network | GMAC/s | peak, GMAC/s | share |\n" + "|---" * 5 + "|")
    for (isa, name), network in compiled.items():
        rate = arguments.batch * network.multiply_adds / np.percentile(times[isa, name], 10) / 1e9
        peak = np.percentile(peaks[isa], 90) / 1e9
        print(f"| {isa} | {name} | {rate:.1f} | {peak:.1f} | {100 * rate / peak:.0f} % |")
    print(f"\n{machine.describe()}, load average {os.getloadavg()[0]:.0f}.")


if __name__ == "__main__":
    main()
