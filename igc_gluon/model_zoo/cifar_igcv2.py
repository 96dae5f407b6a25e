"""Networks of IGCV2's Table 1 for 32x32 images: Xception, IGCV1, IGCV2 and IGCV2*, named by depth and width C.

They are the residual networks of `cifar` with other blocks: depth 3B + 2, a skip connection every two of the B blocks
of a stage. What the paper leaves open is chosen so that the numbers of weights and multiply-adds of convolutions that
it prints (Tables 3, 4 and 6; without the fully connected layer) come out:

- The stem has 35 channels in all Xception networks and 64 in all IGCV2*; to another width of the first stage no
  shortcut leads. In the others it has C.
- In the first block of the second and third stage the spatial convolution keeps the input's width; the last 1x1
  convolution widens. IGCV1 widens in its primary group convolution.
- Shortcuts into the second and third stage are 1x1 convolutions: dense in Xception, with C/2 groups in IGCV1, with
  two input channels a group in IGCV2 and IGCV2*: of the numbers of groups that divide the widths the only one with
  which all nine printed numbers of weights come out.
- IGCV1 has L = C/2 in all stages and M = 2, 4, 8 (Table 1 prints L doubling, which fits no count).
- IGCV2* takes ceil(log_8 of the stage's width) 1x1 convolutions, which may differ from stage to stage.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Optional, Sequence, Tuple

from mxnet.gluon import nn

from igc_gluon.errors import UserError, nearest_valid
from igc_gluon.model_zoo.cifar import CIFARNet
from igc_gluon.model_zoo.registry import BlockOf, register
from igc_gluon.nn import IGCBlock, IGCV2Block, XceptionBlock

STAR_K = 8
# K of the three stages as the paper gives it, by C. For other widths see `branch_channels_for`.
PUBLISHED_K = {64: (8, 16, 32), 80: (10, 16, 20)}


def branch_channels_for(width: int) -> Tuple[int, ...]:
    """K of each of the three stages of IGCV2(C`width`): as published, or the smallest K for which the composed kernel
    is dense, K^2 >= the stage's width, that divides the channels coming into the stage."""
    if width in PUBLISHED_K:
        return PUBLISHED_K[width]
    stages = ((width, width), (width, 2 * width), (2 * width, 4 * width))
    return tuple(
        next(K for K in range(1, in_channels + 1) if in_channels % K == 0 and (K * K >= channels or K == in_channels))
        for in_channels, channels in stages
    )


# Layers: each factory takes the width C and returns layer(channels, in_channels, strides=..., **kwargs).


def _xception(width: int) -> BlockOf:
    return XceptionBlock


def _igcv1(width: int, between: Optional[str] = None) -> BlockOf:
    return partial(IGCBlock, width // 2, between=between)


def _igcv2(width: int, branch_channels: Optional[Sequence[int]] = None) -> BlockOf:
    branch_channels = branch_channels or branch_channels_for(width)
    if len(branch_channels) != 3:
        raise UserError(f"branch_channels must be K of each of the three stages, not {branch_channels}")
    by_width = {width * 2**stage: K for stage, K in enumerate(branch_channels)}

    def layer(channels: int, in_channels: int, **kwargs: Any) -> IGCV2Block:
        return IGCV2Block((1, by_width[channels], by_width[channels]), channels, in_channels, **kwargs)

    return layer


def _igcv2_star(width: int) -> BlockOf:
    def layer(channels: int, in_channels: int, **kwargs: Any) -> IGCV2Block:
        pointwise = 1
        while STAR_K**pointwise < channels:
            pointwise += 1
        return IGCV2Block((1,) + (STAR_K,) * pointwise, channels, in_channels, **kwargs)

    return layer


@dataclass(frozen=True)
class Table1Network:
    """What tells the networks apart; `multiple` is what C must be a multiple of."""

    layer: Callable
    multiple: int
    stem: Optional[int] = None
    shortcut_groups: Callable = lambda width, in_channels: in_channels // 2


TABLE_1_NETWORKS = {
    "xception": Table1Network(_xception, 1, stem=35, shortcut_groups=lambda width, in_channels: 1),
    "igcv1_": Table1Network(_igcv1, 2, shortcut_groups=lambda width, in_channels: width // 2),
    "igcv2_": Table1Network(_igcv2, 2),
    "igcv2star_": Table1Network(_igcv2_star, STAR_K, stem=64),
}


def _build(
    network: str,
    depth: int,
    width: int,
    classes: int,
    norm_layer: Any = nn.BatchNorm,
    norm_kwargs: Optional[dict] = None,
    stem_strides: int = 1,
    prefix: str = "",
    params: Any = None,
    **options: Any,
) -> CIFARNet:
    row, name = TABLE_1_NETWORKS[network], network.rstrip("_")
    for what, number, valid, rule in (
        ("depth", depth, lambda d: d >= 8 and d % 6 == 2, "6n + 2 (a skip connection every two blocks)"),
        ("width", width, lambda c: c >= 1 and c % row.multiple == 0, f"a multiple of {row.multiple}"),
    ):
        if not valid(number):
            raise UserError(
                f"{name} has no {what} {number}: it must be {rule}; nearest valid: {nearest_valid(number, valid)}"
            )
    return CIFARNet(
        row.layer(width, **options),
        width,
        ((depth - 2) // 6,) * 3,
        classes,
        True,
        partial(row.shortcut_groups, width),
        row.stem,
        stem_strides,
        norm_layer,
        norm_kwargs,
        prefix,
        params=params,
    )


# (depth, C) of Tables 3, 4 and 6 and of Figure 4.
_PUBLISHED = {
    "xception": [(20, c) for c in (58, 71, 83)] + [(depth, 35) for depth in (8, 20, 26)],
    "igcv1_": [(20, c) for c in (96, 126, 150)] + [(depth, 48) for depth in (8, 20, 26)],
    "igcv2_": [(depth, c) for c in (64, 80) for depth in (8, 20, 26)],
    "igcv2star_": [(20, c) for c in (216, 304, 416, 112, 136, 160, 192, 256)]
    + [(depth, 64) for depth in (38, 50, 62, 74, 98)],
}


def _register(network: str) -> None:
    @register(f"cifar_{network}{{depth}}_c{{c}}", [{"depth": depth, "c": c} for depth, c in _PUBLISHED[network]])
    def build(depth: int, c: int, **kwargs: Any) -> CIFARNet:
        return _build(network, depth, c, **kwargs)


for _network in TABLE_1_NETWORKS:
    _register(_network)
