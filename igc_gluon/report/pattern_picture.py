"""The sparsity patterns of a block's factors and of the kernel that they compose, as one picture.

The picture is the block's equation read from left to right, W = P W^s P^T W^p for IGCV1 (eq. 6) and
W = P_L W_L ... P_1 W_1 for IGCV2 (eq. 4): a matrix per factor, output channels down, input channels across.
"""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Sequence, Tuple, Union

import numpy as np

from igc_gluon import theory
from igc_gluon.pictures import plain, save_picture
from igc_gluon.theory.stack import Layer, Stack

if TYPE_CHECKING:  # slow: matplotlib
    from matplotlib.figure import Figure

Factor = Tuple[str, Layer]  # its symbol, as the papers write it
PANELS = 6  # at most in a row
PANEL = 187  # points that a panel is wide
DOT = 2.0  # points, the smallest that a lone entry of a permutation or channel-wise convolution is drawn
MOST_CELLS = 400  # along an axis; a larger matrix is drawn coarser, as a picture has not that many pixels
GRID_CELLS = 64  # up to which single channels are told apart by lines
INK, FAINT = "#222222", "#888888"
_NOTE = (
    "output channels down, input channels across; one color per branch, in a permutation that of the branch a channel "
    "comes from"
)


def factors(block: Any) -> List[Factor]:
    """[(symbol, layer)] of a Gluon block in order of execution, the symbols as the papers write them."""
    # slow: MXNet
    from igc_gluon.nn import IGCBlock, block_stack

    stack = block_stack(block)
    if isinstance(block, IGCBlock):
        primary = len(stack) - 3  # two convolutions in the separable form
        names = ["W^p"] if primary == 1 else [f"W^p_{number}" for number in range(1, primary + 1)]
        return list(zip(names + ["P^T", "W^s", "P"], stack))
    named, number = [], 0
    for layer in stack:
        number += isinstance(layer, theory.GroupConv)
        named.append((f"{'W' if isinstance(layer, theory.GroupConv) else 'P'}_{number}", layer))
    return named


def draw(path: Union[str, Path], title: str, named: Sequence[Factor]) -> None:
    """Writes the PNG `path`. named: what `factors` returns. Raises UserError where it cannot be written."""
    save_picture(picture(title, named), path)


def picture(title: str, named: Sequence[Factor]) -> "Figure":
    """The picture as a Figure of matplotlib's. named: what `factors` returns."""
    # slow: matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = len(named) + 1
    rows = -(-panels // PANELS)
    columns = -(-panels // rows)
    figure = Figure(figsize=(2.9 * columns + 0.4, 3.5 * rows + 0.5), dpi=150, facecolor="white")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.12)
    figure.suptitle(plain(title), fontsize=16, color=INK)
    figure.supxlabel(textwrap.fill(_NOTE, 32 * columns), fontsize=13, color=FAINT)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    _draw_composed(axes[0], [layer for _, layer in named])
    for place, (symbol, layer), pattern in zip(axes[1:], reversed(named), reversed(_patterns(named))):
        _draw_factor(place, symbol, layer, pattern)
    for place in axes[panels:]:
        place.set_axis_off()
    return figure


def _patterns(named: Sequence[Factor]) -> List[np.ndarray]:
    """A matrix for every factor, NaN where it has no weight, elsewhere the branch from 0 (first) to 1 (last).

    The entries of a permutation have the branch of the convolution before that their channel comes from.
    """
    patterns = []
    for _, layer in named:
        if isinstance(layer, theory.GroupConv):
            branch = np.repeat(np.linspace(0, 1, layer.groups), layer.out_channels // layer.groups)
            ones = np.ones((*layer.weight.shape[:2], 1, 1))
            connected = theory.group_to_dense(ones, layer.groups)[:, :, 0, 0] > 0
        else:
            branch = branch[layer.indices]
            connected = theory.permutation_matrix(layer.indices) > 0
        patterns.append(np.where(connected, branch[:, None], np.nan))
    return patterns


def _draw_factor(axes: Any, symbol: str, layer: Layer, pattern: np.ndarray) -> None:
    colors = _colors("viridis", 0.05, 0.88)
    if isinstance(layer, theory.Permutation) or layer.weight.shape[1] == 1:
        rows, columns = np.nonzero(~np.isnan(pattern))
        dot = max(0.9 * PANEL / max(pattern.shape), DOT)
        axes.scatter(
            columns + 0.5,
            rows + 0.5,
            dot**2,
            pattern[rows, columns],
            marker="s",
            cmap=colors,
            vmin=0,
            vmax=1,
            linewidths=0,
        )
    else:
        axes.imshow(
            _coarse(pattern, np.fmax), cmap=colors, vmin=0, vmax=1, interpolation="nearest", extent=_extent(pattern)
        )
    if isinstance(layer, theory.Permutation):
        moved = np.count_nonzero(layer.indices != np.arange(len(layer.indices)))
        caption = f"moves {moved} of {len(layer.indices)} channels"
    else:
        inputs, outputs = layer.weight.shape[1], layer.out_channels // layer.groups
        caption = (
            f"{layer.groups} branch{'es' if layer.groups > 1 else ''} of {inputs}"
            + (f" to {outputs}" if inputs != outputs else "")
            + _kernel([layer])
        )
    _finish(axes, symbol, pattern, caption)


def _draw_composed(axes: Any, stack: Stack) -> None:
    """The darker the more paths; white where there is none."""
    paths = theory.paths(stack).astype(float)
    fewest, most = int(paths.min()), int(paths.max())
    shown = _coarse(paths, np.add) / _coarse(np.ones(paths.shape), np.add)
    shown[shown == 0] = np.nan
    lightest = max(fewest, 1)
    # A single number of paths gets the middle of the colors.
    margin = most <= lightest
    axes.imshow(
        shown,
        cmap=_colors("Blues", 0.35, 1),
        vmin=lightest - margin,
        vmax=most + margin,
        interpolation="nearest",
        extent=_extent(paths),
    )
    if fewest == most:
        counts = str(most)
    else:
        counts = (
            f"{fewest} ({'light' if fewest else 'white'}) {'or' if most - fewest == 1 else 'to'} {most}"
            f"{' (dark)' if most > 1 else ''}"
        )
    _finish(axes, "W", paths, f"{counts} path{'s' if most > 1 else ''}{_kernel(stack)}")


def _kernel(stack: Stack) -> str:
    """', 3x3' where the convolutions reach beyond one pixel."""
    taps = [
        1 + sum(layer.weight.shape[axis] - 1 for layer in stack if isinstance(layer, theory.GroupConv))
        for axis in (2, 3)
    ]
    return f", {taps[0]}x{taps[1]}" if taps != [1, 1] else ", 1x1" if len(stack) == 1 else ""


def _colors(name: str, darkest: float, brightest: float) -> Any:
    # slow: matplotlib
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[name](np.linspace(darkest, brightest, 256)))


def _coarse(matrix: np.ndarray, add: Any) -> np.ndarray:
    """The matrix with at most MOST_CELLS rows and columns, neighbors joined by the ufunc `add`."""
    for axis, size in enumerate(matrix.shape):
        matrix = add.reduceat(matrix, np.arange(0, size, -(-size // MOST_CELLS)), axis=axis)
    return matrix


def _extent(matrix: np.ndarray) -> Tuple[int, int, int, int]:
    """Channels from 0, the first output channel at the top."""
    return 0, matrix.shape[1], matrix.shape[0], 0


def _finish(axes: Any, symbol: str, matrix: np.ndarray, caption: str) -> None:
    rows, columns = matrix.shape
    axes.set_title(f"${symbol}$" + ("  $=$" if symbol == "W" else ""), fontsize=18, color=INK)
    axes.set_xlabel(caption, color=INK, fontsize=13)
    axes.set_aspect("equal")
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    axes.set_xticks([0, columns])
    axes.set_yticks([0, rows])
    axes.tick_params(length=2, labelsize=10, colors=FAINT)
    for side in axes.spines.values():
        side.set_color(FAINT)
    if max(rows, columns) <= GRID_CELLS:
        axes.set_xticks(range(columns), minor=True)
        axes.set_yticks(range(rows), minor=True)
        axes.grid(which="minor", color="white", linewidth=0.4)
        axes.tick_params(which="minor", length=0)
