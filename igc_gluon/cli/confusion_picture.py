"""A confusion matrix as a picture: what each class is taken for."""

from pathlib import Path
from typing import Optional, Sequence, Union

import numpy as np

from igc_gluon.pictures import plain, save_picture

NAMED = 40  # classes at most whose names and shares are written


def draw(path: Union[str, Path], title: str, confusion: np.ndarray, names: Optional[Sequence[str]]) -> None:
    """Writes the PNG `path`. confusion: [class, taken for], numbers of images. names: of the classes, or None.

    Shares of each class's images are shown, so that classes of other sizes compare; black to yellow in a map that the
    color-blind read (cividis). Raises UserError where the file cannot be written.
    """
    # slow: matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(confusion)
    images = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(100 * confusion, images, out=np.zeros(confusion.shape), where=images > 0)
    side = min(max(4.5, 0.55 * count + 2), 14)
    figure = Figure(figsize=(side + 0.8, side), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    shown = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    axes.set_title("\n".join(map(plain, title.split("\n"))), fontsize=11)
    axes.set_xlabel("taken for")
    axes.set_ylabel("class")
    figure.colorbar(shown, ax=axes, label="% of the class's images", shrink=0.8)
    if count <= NAMED:
        labels = [plain(name) for name in names] if names else [str(number) for number in range(count)]
        axes.set_xticks(range(count), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(count), labels, fontsize=8)
        for row, column in np.argwhere(np.rint(shares) > 0):
            axes.text(
                column,
                row,
                f"{shares[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=7 if count > 20 else 8,
                color="black" if shares[row, column] > 50 else "white",
            )
    save_picture(figure, path)
