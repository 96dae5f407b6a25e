"""How the cost of an image grows with L, M, width, depth, batch and threads, here and in other frameworks: a picture.

    python benchmarks/scaling.py                 # inference; --training for training steps

Writes results/scaling.json and results/scaling.png (scaling_training with --training).
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple, Tuple

from igc_gluon.threads import use_all_cores

use_all_cores()

import matplotlib  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator  # noqa: E402

from igc_gluon.bench import machine, markdown  # noqa: E402
from igc_gluon.bench.cases import Bench, peer_keys  # noqa: E402
from igc_gluon.bench.measure import measure  # noqa: E402
from igc_gluon.bench.networks import zoo  # noqa: E402
from igc_gluon.bench.peers import PEERS  # noqa: E402
from igc_gluon.cli import exit_code  # noqa: E402
from igc_gluon.cli.parser import Parser  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.files import write_atomically  # noqa: E402

RESULTS = Path(__file__).parent / "results"
DEFAULT = "igc,mxnet,torch-channels-last,onnxruntime,openvino"  # torch.compile would take an hour
DEFAULT_TRAINING = "igc-gluon,mxnet,torch,torch-channels-last"
BATCH = 64


class Series(NamedTuple):
    """A panel: a network's name with the number to put in, or a number of images or threads for one network."""

    title: str
    model: str
    values: Tuple[int, ...]

    def point(self, value, threads):
        """(model, batch, threads) at a value."""
        batch = value if self.title.startswith("batch") else BATCH
        return self.model.format(value), batch, value if self.title.startswith("threads") else threads


def series(threads):
    counts = sorted({1, *(2**i for i in range(1, 10) if 2**i <= threads), threads})
    return (
        Series("L, at M = 2, D = 8", "cifar_plain_igc8_l{}m2", (4, 8, 16, 24, 32, 48)),
        Series("M, at L = 4, D = 8", "cifar_plain_igc8_l4m{}", (2, 4, 8, 16, 32)),
        Series("width of RegConv, D = 8", "cifar_plain8_w{}", (8, 16, 24, 32, 48, 64)),
        Series("depth, IGC-L24M2", "cifar_plain_igc{}_l24m2", (8, 14, 20, 26, 38)),
        Series("batch, IGC-L24M2, D = 20", "cifar_plain_igc20_l24m2", (1, 2, 4, 8, 16, 32, 64)),
        Series("threads, IGC-L24M2, D = 20", "cifar_plain_igc20_l24m2", tuple(counts)),
    )


def points(rows, threads, keys, training, repeats, seconds):
    """[{title, value, milliseconds an image by peer's key, and 'limit', that at the FMA peak}]"""
    todo = sorted(
        ((row.point(value, threads)[2], row, value) for row in rows for value in row.values), key=lambda item: item[0]
    )  # by threads, so that workers serve many points
    bench, children, points = Bench(threads, keys, repeats, seconds, len(todo)), {}, []
    try:
        for number, (count, row, value) in enumerate(todo):
            if number and count != todo[number - 1][0]:
                close(children)
            model, batch, _ = row.point(value, threads)
            result = measure(
                zoo(model),
                batch,
                count,
                training,
                keys,
                repeats,
                seconds,
                lambda text: bench.report(f"{row.title}, {value}: {text}"),
                children,
            )
            cost = {key: 1e3 * timing.seconds for key, timing in result.timings.items()}
            if result.peaks:
                factor = markdown.TRAINING_FACTOR if training else 1
                cost["limit"] = 1e3 * factor * result.multiply_adds / markdown.peak(result)
            points.append({"title": row.title, "value": value, "milliseconds": cost})
            bench.advance()
    finally:
        close(children)
    return points


def close(children):
    while children:
        children.popitem()[1].close()


def draw(points, training, note, path):
    titles = [row.title for row in series(1) if any(point["title"] == row.title for point in points)]
    keys = [key for key in PEERS if any(key in point["milliseconds"] for point in points)]
    figure, axes = plt.subplots(2, 3, figsize=(13, 8), constrained_layout=True)
    for axis, title in zip(axes.flat, titles):
        here = sorted((point for point in points if point["title"] == title), key=lambda point: point["value"])
        for number, key in enumerate([*keys, "limit"]):
            line = [(p["value"], p["milliseconds"][key]) for p in here if key in p["milliseconds"]]
            ours = key in PEERS and PEERS[key].ours
            style = (
                {"color": "black", "linestyle": "--", "linewidth": 1}
                if key == "limit"
                else {
                    "color": "C3" if ours else f"C{(0, 1, 2, 4, 5, 6, 7, 8, 9)[number % 9]}",
                    "marker": "o",
                    "markersize": 4,
                    "linewidth": 2.5 if ours else 1.3,
                }
            )
            if line:
                axis.plot(*zip(*line), label="at the FMA peak" if key == "limit" else PEERS[key].title, **style)
        axis.set(xscale="log", yscale="log", xlabel=title, ylabel="ms an image")
        axis.set_xticks([p["value"] for p in here], [str(p["value"]) for p in here], minor=False)
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.grid(alpha=0.3)
    for axis in axes.flat[len(titles) :]:
        axis.axis("off")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncol=len(keys) + 1, fontsize=9)
    figure.suptitle(
        ("Training steps" if training else "Inference")
        + f", 32x32 images, batch {BATCH} where it is not the axis; {note}",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def main():
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--training", action="store_true", help="training steps in place of inference")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="(default: all cores)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each, of which the median counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.15, help="length of a turn, about (default: 0.15)")
    parser.add_argument("--peers", metavar="A,B", help=f"(default: {DEFAULT}, with --training {DEFAULT_TRAINING})")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder (default: benchmarks/results)")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.repeats, arguments.seconds) <= 0:
        raise UserError("--threads, --repeats and --seconds must be above 0")
    keys = peer_keys(arguments.peers or (DEFAULT_TRAINING if arguments.training else DEFAULT))
    if not arguments.training:
        keys = [key for key in keys if key == "igc" or not PEERS[key].ours]  # our kernels are drawn once
    measured = points(
        series(arguments.threads), arguments.threads, keys, arguments.training, arguments.repeats, arguments.seconds
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / ("scaling_training" if arguments.training else "scaling")
    note = f"{machine.describe()}, {arguments.threads} threads"
    with write_atomically(path.with_suffix(".json"), "w") as file:
        json.dump({"note": note, "repeats": arguments.repeats, "points": measured}, file, indent=1)
    draw(measured, arguments.training, note, path.with_suffix(".png"))
    print(path.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
