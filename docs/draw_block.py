"""Draws docs/igc_block.png, the picture of an IGC block in the README: `python docs/draw_block.py`."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.patches import FancyBboxPatch  # noqa: E402

L, M = 2, 3  # primary and secondary partitions
PRIMARY = ["#0072b2", "#d55e00"]
SECONDARY = ["#009e73", "#b8549a", "#c79500"]
INK, FAINT = "#222222", "#666666"

TILE_W, TILE_H, PITCH, HEIGHT = 0.66, 0.50, 0.62, 4.9
# Left to right: where each vector stands; the convolutions and BN stand between.
X, Y, Y_BAR, Z_BAR, X_NEW = 0.55, 3.15, 5.35, 7.95, 10.15
BN = 11.55


def light(color):
    return tuple(0.80 + 0.20 * part for part in matplotlib.colors.to_rgb(color))


def partition_rows(partitions, channels):
    """y of every channel, partition by partition from the top; whatever the number of partitions, all of
    HEIGHT is used."""
    gap = (HEIGHT - TILE_H - (partitions * channels - 1) * PITCH) / (partitions - 1)
    return [
        [HEIGHT - TILE_H / 2 - (p * channels + c) * PITCH - p * gap for c in range(channels)] for p in range(partitions)
    ]


def box(axes, x, y, width, height, color, fill, line_width=1.4):
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            linewidth=line_width,
            boxstyle="round,pad=0,rounding_size=0.09",
            edgecolor=color,
            facecolor=fill,
            zorder=3,
        )
    )


def write(axes, x, y, text, size, **style):
    style = {"ha": "center", "va": "center", "color": INK, "zorder": 4, **style}
    axes.text(x, y, text, fontsize=size, **style)


def tiles(axes, x, rows, colors, symbol):
    """The channels of one vector, colored by the partition that computed them."""
    for p, partition in enumerate(rows):
        for c, y in enumerate(partition):
            box(axes, x, y, TILE_W, TILE_H, colors[p][c], light(colors[p][c]))
            write(axes, x, y - 0.02, symbol(p + 1, c + 1), 12.5)


def convolution(axes, left, right, rows, colors, symbol, kernel):
    """One box for each partition between the vectors at `left` and `right`."""
    middle, width = (left + right) / 2, 1.15
    for p, partition in enumerate(rows):
        for y in partition:
            axes.plot([left, right], [y, y], color=colors[p], linewidth=1.3, zorder=2)
        center = (partition[0] + partition[-1]) / 2
        box(axes, middle, center, width, partition[0] - partition[-1] + TILE_H, colors[p], "white", 1.8)
        write(axes, middle, center + 0.19, symbol(p + 1), 13, color=colors[p])
        write(axes, middle, center - 0.27, kernel, 10)


def arrow(axes, start, end, color):
    axes.annotate(
        "",
        end,
        start,
        zorder=2,
        arrowprops=dict(
            arrowstyle="-|>,head_length=0.35,head_width=0.16", color=color, linewidth=1.4, shrinkA=0, shrinkB=0
        ),
    )


def permutation(axes, left, right, from_rows, to_rows, colors):
    """An arrow from channel c of partition p to channel p of partition c."""
    for p, partition in enumerate(from_rows):
        for c, y in enumerate(partition):
            arrow(axes, (left + TILE_W / 2, y), (right - TILE_W / 2 - 0.02, to_rows[c][p]), colors[p])


def draw():
    plt.rcParams.update({"font.family": "DejaVu Sans", "mathtext.fontset": "cm"})
    figure = plt.figure(figsize=(9, 4.9))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.set_xlim(0, 12.9)
    axes.set_ylim(-1.55, 5.57)
    axes.axis("off")

    primary, secondary = partition_rows(L, M), partition_rows(M, L)
    by_primary = [[color] * M for color in PRIMARY]
    from_primary = [PRIMARY] * M
    by_secondary = [[color] * L for color in SECONDARY]
    from_secondary = [SECONDARY] * L

    tiles(axes, X, primary, by_primary, lambda p, c: f"$x_{{{p}{c}}}$")
    convolution(axes, X, Y, primary, PRIMARY, lambda p: rf"$\mathbf{{W}}^p_{{{p}{p}}}$", "3×3")
    tiles(axes, Y, primary, by_primary, lambda p, c: f"$y_{{{p}{c}}}$")
    permutation(axes, Y, Y_BAR, primary, secondary, PRIMARY)
    tiles(axes, Y_BAR, secondary, from_primary, lambda p, c: f"$y_{{{c}{p}}}$")
    convolution(axes, Y_BAR, Z_BAR, secondary, SECONDARY, lambda p: rf"$\mathbf{{W}}^s_{{{p}{p}}}$", "1×1")
    tiles(axes, Z_BAR, secondary, by_secondary, lambda p, c: rf"$\bar{{z}}_{{{p}{c}}}$")
    permutation(axes, Z_BAR, X_NEW, secondary, primary, SECONDARY)
    tiles(axes, X_NEW, primary, from_secondary, lambda p, c: rf"$\bar{{z}}_{{{c}{p}}}$")

    box(axes, BN, HEIGHT / 2, 0.95, HEIGHT, INK, "#f4f4f4", 1.4)
    write(axes, BN, HEIGHT / 2, "BN\n+\nReLU", 11)
    for y in sum(primary, []):
        arrow(axes, (X_NEW, y), (12.65, y), FAINT)

    transposed = r"\mathbf{P}^{\!\mathsf{T}}"
    for x, symbol, caption in (
        (X, r"\mathbf{x}", ""),
        ((X + Y) / 2, r"\mathbf{W}^p", f"primary group convolution\n$L = {L}$ partitions of {M} channels"),
        (Y, r"\mathbf{y}", ""),
        ((Y + Y_BAR) / 2, transposed, "permutation"),
        (Y_BAR, r"\bar{\mathbf{y}}", ""),
        ((Y_BAR + Z_BAR) / 2, r"\mathbf{W}^s", f"secondary group convolution\n$M = {M}$ partitions of {L} channels"),
        (Z_BAR, r"\bar{\mathbf{z}}", ""),
        ((Z_BAR + X_NEW) / 2, r"\mathbf{P}", "permutation\nback"),
        (X_NEW, r"\mathbf{x}'", ""),
    ):
        write(axes, x, HEIGHT + 0.3, f"${symbol}$", 16)
        write(axes, x, -0.2, caption, 9.5, va="top", linespacing=1.4)
    write(
        axes,
        12.9 / 2,
        -1.2,
        rf"$\mathbf{{x}}' = \mathbf{{P}}\,\mathbf{{W}}^s\,{transposed}\,\mathbf{{W}}^p\,\mathbf{{x}}$",
        19,
    )
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_name("igc_block.png"), dpi=180, facecolor="white")
