"""Loss and accuracy over the epochs of a run, as a picture: curves.png."""

import math
from pathlib import Path
from typing import Iterable, List, Optional, Tuple

import numpy as np

from igc_gluon.engine.progress import Entry, best_entry
from igc_gluon.pictures import plain, save_picture

# Of Okabe and Ito (2008), which the color-blind tell apart, and which show on white and on black.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


def loss_limits(losses: Iterable[Optional[float]]) -> Optional[Tuple[float, float]]:
    """The lowest and highest loss of a logarithmic axis: robust, so that the first epochs of a wild run do not squeeze
    all others. None where there is no positive number."""
    values = [loss for loss in losses if loss is not None and math.isfinite(loss) and loss > 0]
    return (min(values) / 1.2, float(np.quantile(values, 0.98)) * 1.5) if values else None


def draw_curves(history: List[Entry], title: str, path: Path) -> None:
    """Draws the curves of `history` (a list of epochs' entries) to the PNG `path`."""
    # slow: takes a second
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [entry["epoch"] + 1 for entry in history]
    figure = Figure(figsize=(10, 4.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(plain(title))
    loss_axes, accuracy_axes = figure.subplots(1, 2)
    for axes, quantity, scale in ((loss_axes, "loss", 1), (accuracy_axes, "accuracy", 100)):
        for split, color in zip(("train", "test", "validation"), COLORS):
            if f"{split}_{quantity}" not in history[0]:
                continue
            axes.plot(
                epochs,
                [scale * entry[f"{split}_{quantity}"] for entry in history],
                color=color,
                label=split,
                marker="." if len(history) < 50 else None,
            )
            if f"{split}_top5" in history[0] and quantity == "accuracy":
                axes.plot(
                    epochs,
                    [scale * entry[f"{split}_top5"] for entry in history],
                    color=color,
                    linestyle="--",
                    label=f"{split}, top-5",
                )
        for before, after in zip(history, history[1:]):
            if after["lr"] < before["lr"] / 2:  # a drop, not a decay of 0.98 at every epoch
                axes.axvline(after["epoch"] + 0.5, color="gray", linestyle=":", linewidth=1)
        axes.set_xlabel("epoch (dotted: the learning rate drops)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    loss_axes.set_ylabel("cross-entropy")
    limits = loss_limits([entry[f"{split}_loss"] for entry in history for split in ("train", "test")])
    if limits:
        loss_axes.set_yscale("log")
        loss_axes.set_ylim(limits)
    accuracy_axes.set_ylabel("accuracy, %")
    best = best_entry(history)
    accuracy_axes.plot(
        best["epoch"] + 1,
        100 * best["test_accuracy"],
        "o",
        color=COLORS[3],
        zorder=3,
        label=f"best: {100 * best['test_accuracy']:.2f} % in epoch {best['epoch'] + 1}",
    )
    # Below the axes, where it hides nothing.
    figure.legend(*accuracy_axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    save_picture(figure, path)
