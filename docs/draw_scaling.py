#!/usr/bin/env python
"""Draws docs/scaling.png and prints the table of docs/distributed.md: ImageNet training on N workers, on paper.

python docs/draw_scaling.py
"""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igc_gluon.model_zoo import get_model

NETWORK = "resnet18_igc_l100m2"
SECONDS_PER_IMAGE = 1 / 400  # of forward and backward on one worker: assumed, not measured
IMAGES_PER_WORKER = 32  # as on each GPU of the paper
LINKS = (1, 10, 100)  # Gbit/s of every machine
WORKERS = (8, 64, 512)


def parameters():
    net = get_model(NETWORK)
    net.initialize()
    import mxnet as mx

    net(mx.nd.zeros((1, 3, 224, 224)))
    return sum(p.data().size for p in net.collect_params().values() if p.grad_req != "null")


def exchange_seconds(count, workers, servers, gigabits):
    """8 P max(1, N/S) / B: a push and a pull of P float32 numbers, at the end that has more of them."""
    return 8 * count * max(1, workers / servers) / (gigabits * 1e9 / 8)


def efficiency(count, workers, servers, gigabits, images):
    computing = images * SECONDS_PER_IMAGE
    return computing / (computing + exchange_seconds(count, workers, servers, gigabits))


def main():
    count = parameters()
    print(f"P = {count:,}; 8 P = {8 * count / 1e6:.1f} MB\n")
    print("| workers | servers | Gbit/s | exchange, ms | share of the time that computes | images/s |")
    print("|---|---|---|---|---|---|")
    for workers in WORKERS:
        for servers in (8, workers) if workers > 8 else (8,):
            for link in LINKS:
                share = efficiency(count, workers, servers, link, IMAGES_PER_WORKER)
                exchange = 1000 * exchange_seconds(count, workers, servers, link)
                print(
                    f"| {workers} | {servers} | {link} | {exchange:,.0f} | "
                    f"{100 * share:.0f} % | {workers * share / SECONDS_PER_IMAGE:,.0f} |"
                )
    for link in LINKS:
        exchange = exchange_seconds(count, 1, 1, link)
        print(
            f"\nbatch of 256, {link} Gbit/s, S = N: half of the time computes at N = "
            f"{256 * SECONDS_PER_IMAGE / exchange:.1f}; never more than that many times as fast as one worker"
        )

    figure = Figure(figsize=(9, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    growing, fixed = figure.subplots(1, 2)
    numbers = [2**i for i in range(1, 10)]  # one worker alone exchanges nothing
    for link, color in zip(LINKS, ("tab:red", "tab:orange", "tab:green")):
        for servers, style in ((None, "-"), (8, "--")):
            label = None if servers else f"{link} Gbit/s"
            growing.plot(
                numbers,
                [100 * efficiency(count, n, servers or n, link, IMAGES_PER_WORKER) for n in numbers],
                style,
                color=color,
                label=label,
            )
        fixed.plot(
            numbers[:8],
            [n * efficiency(count, n, n, link, 256 / n) for n in numbers[:8]],
            color=color,
            label=f"{link} Gbit/s",
        )
    fixed.plot(numbers[:8], numbers[:8], ":", color="gray", label="all workers compute all the time")
    growing.set(
        xscale="log",
        xlabel="workers, 32 images each (dashed: 8 servers)",
        ylabel="share of the time that computes, %",
        ylim=(0, 100),
    )
    fixed.set(
        xscale="log", yscale="log", xlabel="workers, which share a batch of 256", ylabel="times as fast as one worker"
    )
    for axes, ticks, place in ((growing, numbers[::2], (0.02, 0.65)), (fixed, numbers[:8:2] + [256], "upper left")):
        axes.set_xticks(ticks, [str(n) for n in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc=place)
    figure.suptitle(
        f"{NETWORK}: on paper, at {1 / SECONDS_PER_IMAGE:.0f} images/s on one worker (assumed), as many "
        "servers as workers",
        fontsize=10,
    )
    figure.savefig(Path(__file__).with_name("scaling.png"))


if __name__ == "__main__":
    main()
