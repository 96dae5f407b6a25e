#!/usr/bin/env python
"""What a step of dist_sync moves over the network, and how long that takes.

    python benchmarks/distributed_wire.py              counts bytes and packets on the loopback of a network namespace
    python benchmarks/distributed_wire.py --link 100   2 workers and 2 servers, each in a namespace of its own behind a
                                                       link of 100 Mbit/s, started by igc launch over an `ssh` that
                                                       enters the namespace

A step here is the exchange alone, of gradients that are zero: no forward or backward pass. Needs root and iproute2.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NETWORK = "cifar_plain_igc20_l24m2"
STEPS = 10
LAUNCH = [sys.executable, "-c", "import sys; from igc_gluon.cli import main; sys.exit(main())", "launch"]


def worker(network, way):
    """Runs in every worker: one line "WIRE parameters arrays seconds" and, on a loopback, bytes and packets a step."""
    from igc_gluon.start import prepare

    prepare()
    import mxnet as mx

    from igc_gluon.engine.updates import EXTRA
    from igc_gluon.engine.workers import connect
    from igc_gluon.model_zoo import get_model

    workers = connect("dist_sync")
    net = get_model(network)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    arrays = [p.grad() for p in net.collect_params().values() if p.grad_req != "null"]
    flat = mx.nd.zeros(sum(array.size for array in arrays) + EXTRA)
    store = workers._store
    if way == "separate":
        for i, array in enumerate(arrays):
            store.init(100 + i, mx.nd.zeros(array.shape))

    def step():
        if way == "separate":  # as gluon.Trainer does it
            for i, array in enumerate(arrays):
                store.pushpull(100 + i, array, out=array, priority=-i)
        else:
            workers.all_reduce([flat])
        mx.nd.waitall()

    for _ in range(2):
        step()
    workers.barrier()
    before = counters()
    workers.barrier()  # nobody sends before the count begins
    begin = time.monotonic()
    for _ in range(STEPS):
        step()
    workers.barrier()
    seconds = (time.monotonic() - begin) / STEPS
    sent = [(now - then) / STEPS for now, then in zip(counters(), before)]
    if workers.rank == 0:
        print("WIRE", sum(array.size for array in arrays), len(arrays), f"{seconds:.4f}", *map(round, sent), flush=True)


def counters():
    """Bytes and packets sent over the loopback so far."""
    folder = Path("/sys/class/net/lo/statistics")
    return [int((folder / name).read_text()) for name in ("tx_bytes", "tx_packets")]


def measure(prefix, flags, way, env=None):
    command = [*prefix, *LAUNCH, *flags, "--", sys.executable, __file__, "--worker", way, "--network", NETWORK]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "IGC_NATIVE": "0", **(env or {})},
    )
    for line in done.stdout.splitlines():
        words = line.split()
        if "WIRE" in words:
            return [float(word) for word in words[words.index("WIRE") + 1 :]]
    raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def run(*command):
    subprocess.run(command, check=True)


def loopback():
    run("ip", "netns", "add", "igc_wire")
    try:
        run("ip", "netns", "exec", "igc_wire", "ip", "link", "set", "lo", "up")
        print("| way | workers | servers | bytes a step | 8 P N | packets a step |\n|---|---|---|---|---|---|")
        for way, workers, servers in (("flat", 2, 1), ("flat", 2, 2), ("flat", 3, 2), ("separate", 2, 2)):
            # sysfs shows the namespace of who mounts it; `ip netns exec` mounts it anew
            parameters, arrays, _, size, packets = measure(
                ["ip", "netns", "exec", "igc_wire"], ["-n", str(workers), "-s", str(servers)], way
            )
            name = "one array" if way == "flat" else f"{arrays:.0f} arrays"
            print(
                f"| {name} | {workers} | {servers} | {size:,.0f} | {8 * parameters * workers:,.0f} | {packets:.0f} |",
                flush=True,
            )
    finally:
        run("ip", "netns", "del", "igc_wire")


def linked(megabits, workers=2, servers=2):
    """Machines 10.77.0.1 to 10.77.0.N and the launcher's, 10.77.0.254, on a bridge."""
    hosts = [f"igc_wire{i}" for i in range(workers + servers)]
    bridge = "igc_bridge"
    try:
        run("ip", "netns", "add", bridge)

        def inside(name, *command):
            run("ip", "netns", "exec", name, *command)

        inside(bridge, "ip", "link", "set", "lo", "up")
        inside(bridge, "ip", "link", "add", "br0", "type", "bridge")
        inside(bridge, "ip", "addr", "add", "10.77.0.254/24", "dev", "br0")
        inside(bridge, "ip", "link", "set", "br0", "up")
        for i, host in enumerate(hosts):
            run("ip", "netns", "add", host)
            run("ip", "link", "add", "up0", "netns", host, "type", "veth", "peer", "name", f"down{i}", "netns", bridge)
            inside(bridge, "ip", "link", "set", f"down{i}", "master", "br0", "up")
            inside(host, "ip", "link", "set", "lo", "up")
            inside(host, "ip", "addr", "add", f"10.77.0.{i + 1}/24", "dev", "up0")
            inside(host, "ip", "link", "set", "up0", "up")
            for name, device in ((host, "up0"), (bridge, f"down{i}")):  # each shapes what it sends: full duplex
                inside(
                    name,
                    "tc",
                    "qdisc",
                    "add",
                    "dev",
                    device,
                    "root",
                    "tbf",
                    "rate",
                    f"{megabits}mbit",
                    "burst",
                    "64kb",
                    "latency",
                    "500ms",
                )
        with tempfile.TemporaryDirectory() as folder:
            # The first hosts for the workers, the last for the servers: launchers place both from the first host on.
            fake = Path(folder) / "ssh"
            fake.write_text(
                '#!/bin/sh\nwhile [ "$1" = -o ]; do shift 2; done\nhost=$1\n'
                f'case "$2" in *"--role server"*) host=igc_wire$((${{host#igc_wire}} + {workers}));; esac\n'
                'exec ip netns exec "$host" sh -c "$2"\n'
            )
            fake.chmod(0o755)
            (Path(folder) / "hosts").write_text("\n".join(hosts[:workers]))
            parameters, _, seconds, *_ = measure(
                ["ip", "netns", "exec", bridge],
                [
                    "-n",
                    str(workers),
                    "-s",
                    str(servers),
                    "-H",
                    f"{folder}/hosts",
                    *"--root-uri 10.77.0.254 --interface up0".split(),
                ],
                "flat",
                {"PATH": f"{folder}:{os.environ['PATH']}"},
            )
        expected = 8 * parameters * max(1, workers / servers) / (megabits * 1e6 / 8)
        print(
            f"{megabits} Mbit/s, {workers} workers, {servers} servers: {seconds:.3f} s a step; "
            f"8 P max(1, N/S) / B = {expected:.3f} s"
        )
    finally:
        for name in [*hosts, bridge]:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--network", default=NETWORK)
    parser.add_argument("--link", type=int, metavar="MBIT", help="Mbit/s of every machine's link")
    parser.add_argument("--servers", type=int, default=2, help="with --link (default: 2)")
    args = parser.parse_args()
    if args.worker:
        worker(args.network, args.worker)
    elif args.link:
        linked(args.link, servers=args.servers)
    else:
        loopback()


if __name__ == "__main__":
    main()
