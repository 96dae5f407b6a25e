"""Charts as SVG for a page: lines and letters take the page's own color, so that they are read on light and dark."""

import io
import re
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from igc_gluon.engine.curves import COLORS, loss_limits
from igc_gluon.pictures import plain, quietly

_INK = "#010203"  # stands for the page's color until the SVG is written


def curves(history: Sequence[dict]) -> str:
    """Loss and accuracy over the epochs of a run, on training and test images: an SVG."""
    splits = [split for split in ("train", "test", "validation") if f"{split}_accuracy" in history[0]]
    return _curves([(split, split, history, {"color": color}) for split, color in zip(splits, COLORS)])


def test_curves(experiments: Sequence) -> str:
    """Of report.experiments.Experiments, each in its color, a line for each run: an SVG."""
    return _curves(
        [
            (plain(experiment.label) if run is experiment.runs[0] else None, "test", run.history, _style(number))
            for number, experiment in enumerate(experiments)
            for run in experiment.runs
        ]
    )


def _curves(lines: Sequence[Tuple[Optional[str], str, Sequence[dict], dict]]) -> str:
    figure = _figure(9.2, 3.4)
    loss, accuracy = figure.subplots(1, 2)
    for label, split, history, style in lines:
        epochs = [entry["epoch"] + 1 for entry in history]
        style = {"marker": "o" if len(epochs) < 30 else None, "markersize": 3, "label": label, **style}
        loss.plot(epochs, [entry[f"{split}_loss"] or np.nan for entry in history], **style)
        accuracy.plot(epochs, [100 * entry[f"{split}_accuracy"] for entry in history], **style)
    loss.set_ylabel("cross-entropy")
    limits = loss_limits(value for line in loss.lines for value in line.get_ydata())
    if limits:
        loss.set_yscale("log")
        loss.set_ylim(limits)
    accuracy.set_ylabel("accuracy, %")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure, accuracy, columns=3)


def accuracy_against_cost(experiments: Sequence) -> str:
    """Mean accuracy, with its deviation, of report.experiments.Experiments against weights and multiply-adds: an
    SVG."""
    figure = _figure(9.2, 3.6)
    by_weights, by_operations = figure.subplots(1, 2, sharey=True)
    for number, experiment in enumerate(experiments):
        cost, marker, label = experiment.cost, "os^DvPX"[number % 7], plain(experiment.label)
        style = {**_style(number), "linestyle": "", "marker": marker, "capsize": 4, "label": label}
        for axes, value in ((by_weights, cost.weights / 1e6), (by_operations, cost.multiply_adds / 1e6)):
            axes.errorbar(value, experiment.accuracies.mean(), yerr=experiment.deviation, **style)
    by_weights.set_xlabel("weights, millions")
    by_operations.set_xlabel("multiply-adds of an image, millions")
    by_weights.set_ylabel("test accuracy, %")
    return _svg(figure, by_weights, columns=2)


def reliability(bins: Sequence[dict]) -> str:
    """Accuracy against confidence (engine.metrics.Metrics.bins), and where images lie: an SVG."""
    figure = _figure(4.4, 3.4)
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color=_INK, linestyle=(0, (2, 3)), linewidth=1)
    largest = max(entry["images"] for entry in bins)
    axes.scatter(
        [100 * entry["confidence"] for entry in bins],
        [100 * entry["accuracy"] for entry in bins],
        [20 + 180 * entry["images"] / largest for entry in bins],
        color=COLORS[0],
        alpha=0.85,
        linewidths=0,
        clip_on=False,  # many are at 100 %
    )
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    axes.set_xlabel("confidence, % (area: images; dotted: as it should be)")
    axes.set_ylabel("right, %")
    return _svg(figure)


def _style(number: int) -> Dict[str, str]:
    return {"color": COLORS[number % len(COLORS)], "linestyle": ("-", "--", ":", "-.")[number // len(COLORS) % 4]}


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasSVG(figure)
    return figure


def _svg(figure: Figure, labeled: Any = None, columns: int = 0) -> str:
    """labeled: axes whose labels make a legend, in so many columns."""
    if labeled is not None:  # below the axes, where it hides nothing
        handles = labeled.get_legend_handles_labels()
        place = {"loc": "outside lower center", "ncols": columns}
        figure.legend(*handles, **place, frameon=False, fontsize=9, labelcolor=_INK)
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.grid(color=_INK, alpha=0.15, linewidth=0.7)
        axes.tick_params(colors=_INK, labelsize=9)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set_color(_INK)
            label.set_fontsize(10)
        for side, spine in axes.spines.items():
            spine.set_color(_INK)
            spine.set_alpha(0.4)
            spine.set_visible(side in ("left", "bottom"))
    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "igc-gluon"}), quietly():
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    # In the flow of the page: as wide as it is, no more.
    return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'role="img"', text, count=1)
