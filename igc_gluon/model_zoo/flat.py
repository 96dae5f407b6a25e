"""Networks without down-sampling, in which the papers compare single blocks of equal cost.

A 3x3 stem, depth - 2 blocks on 32x32 maps, average pooling, a fully connected layer; no skip connections. With the
papers' depth of 8 they are those of IGCV1's Figure 3, the supplementary's Figure 1, and IGCV2's Figures 2 and 3 and
Tables 2 and 5. Names end in the block's numbers:

    cifar_flat_igc8_l40m2              IGC block, L and M
    cifar_flat_igc_relu8_l40m2         the same with ReLU between the two group convolutions (IGCV1's footnote 4)
    cifar_flat_igc_secondary8_l2m40    the spatial kernels in the secondary group convolution, the first of the variants
                                       of IGCV1's section 4; cifar_flat_igc_both8_...: in both; ..._separable8_...:
                                       3x1 and 1x3; ..._bottleneck8_...: half as many channels between the two
    cifar_flat_gpc8_l30m2              Group-and-Point-wise Convolution, L and M
    cifar_flat_xception8_c64           Xception, width C
    cifar_flat_igcv2_8_c144k12l3       IGCV2, width C, K channels a branch, L group convolutions: one channel-wise, the
                                       others 1x1. Figure 2 counts the 1x1 ones only, so its L is one less. Table 5's
                                       IGCV2 II are of this kind.
    cifar_flat_igcv2i_8_c98k7          Table 5's IGCV2 I: C/2 spatial branches of two channels, two 1x1 convolutions

Figure 3 of IGCV2 prints no widths; its kind is C64, C144K12L3, C174K6L4, ..., of about 4700 weights a block.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from mxnet.gluon import nn

from igc_gluon.errors import UserError
from igc_gluon.model_zoo.cifar import CIFARNet
from igc_gluon.model_zoo.registry import BlockOf, register
from igc_gluon.nn import GPCBlock, IGCBlock, IGCV2Block, XceptionBlock


def _igcv2(k: int, l: int) -> BlockOf:
    if l < 2:
        raise UserError(f"an IGCV2 block has at least L = 2 group convolutions, not {l}")
    return partial(IGCV2Block, (1,) + (k,) * (l - 1))


@dataclass(frozen=True)
class FlatNetwork:
    """What tells the networks apart, as functions of the numbers in the name: the block's maker, called with
    (channels, in_channels, strides=..., **kwargs), and the width. Then the names of the numbers, and their values in
    the papers' figures and tables."""

    layer: Callable
    width: Callable
    numbers: str
    published: Tuple[tuple, ...]


def _rows(text: str) -> Tuple[Tuple[int, ...], ...]:
    """'40x2 64x1' -> ((40, 2), (64, 1))"""
    return tuple(tuple(map(int, row.split("x"))) for row in text.split())


_IGCV1_TABLE_1 = _rows(
    "1x23 2x16 3x13 5x10 6x9 12x6 28x3 40x2 64x1 1x44 2x31 4x22 12x12 14x11 23x8 28x7 41x5 64x3 85x2 128x1"
)
_IGCV2_TABLE_5_IGCV1 = ((32, 2), (48, 2), (64, 2))
_SUPPLEMENTARY_TABLE_1 = _rows(
    "1x22 2x15 3x12 5x8 10x5 19x3 30x2 64x1 1x42 2x28 3x22 6x14 11x9 15x7 18x6 29x4 62x2 128x1"
)
_IGCV2_TABLES_2_AND_5 = ((144, 12, 3), (256, 16, 3), (361, 19, 3), (100, 10, 3), (169, 13, 3))
# C144K12L3 is in Table 2 too.
_IGCV2_FIGURE_2 = _rows(
    "272x4x3 222x6x3 184x8x3 112x16x3 258x3x4 220x4x4 174x6x4 136x8x4 108x12x4 222x3x5 184x4x5 144x6x5 112x8x5 84x12x5"
)

# IGCV1's section 4 prints no numbers. L40M2 is the best block of Figure 3, of 4640 weights; the first two variants can
# have its size, of the others here is the widest block of 4672 weights give or take 1.5 %.
_VARIANTS: Dict[str, Tuple[Dict[str, Any], Tuple[int, int]]] = {
    "relu": ({"between": "relu"}, (40, 2)),
    "secondary": ({"spatial": "secondary"}, (2, 40)),
    "both": ({"spatial": "both"}, (8, 5)),
    "separable": ({"spatial": "separable"}, (24, 4)),
    "bottleneck": ({"bottleneck": 2}, (12, 8)),
}


def _variant(options: Dict[str, Any], published: Any) -> FlatNetwork:
    return FlatNetwork(lambda l, m: partial(IGCBlock, l, **options), lambda l, m: l * m, "lm", (published,))


FLAT_NETWORKS = {
    "igc{depth}_l{l}m{m}": FlatNetwork(
        lambda l, m: partial(IGCBlock, l), lambda l, m: l * m, "lm", _IGCV1_TABLE_1 + _IGCV2_TABLE_5_IGCV1
    ),
    **{f"igc_{name}{{depth}}_l{{l}}m{{m}}": _variant(*row) for name, row in _VARIANTS.items()},
    "gpc{depth}_l{l}m{m}": FlatNetwork(
        lambda l, m: partial(GPCBlock, l), lambda l, m: l * m, "lm", _SUPPLEMENTARY_TABLE_1
    ),
    "xception{depth}_c{c}": FlatNetwork(lambda c: XceptionBlock, lambda c: c, "c", ((64,), (96,), (128,))),
    "igcv2_{depth}_c{c}k{k}l{l}": FlatNetwork(
        lambda c, k, l: _igcv2(k, l), lambda c, k, l: c, "ckl", _IGCV2_TABLES_2_AND_5 + _IGCV2_FIGURE_2
    ),
    "igcv2i_{depth}_c{c}k{k}": FlatNetwork(
        lambda c, k: partial(IGCV2Block, (2, k, k)), lambda c, k: c, "ck", ((98, 7), (162, 9), (242, 11))
    ),
}


def _build(
    row: FlatNetwork,
    depth: int,
    numbers: Sequence[int],
    classes: int,
    norm_layer: Any = nn.BatchNorm,
    norm_kwargs: Optional[dict] = None,
    stem_strides: int = 1,
    prefix: str = "",
    params: Any = None,
) -> CIFARNet:
    if depth < 3:
        raise UserError(
            f"a network without down-sampling has no depth {depth}: a stem, blocks and the classifier are at least 3"
        )
    if min(numbers) < 1:
        raise UserError(f"{', '.join(row.numbers.upper())} must be at least 1, not {', '.join(map(str, numbers))}")
    return CIFARNet(
        row.layer(*numbers),
        row.width(*numbers),
        (depth - 2,),
        classes,
        stem_strides=stem_strides,
        norm_layer=norm_layer,
        norm_kwargs=norm_kwargs,
        prefix=prefix,
        params=params,
    )


def _register(template: str, row: FlatNetwork) -> None:
    @register(f"cifar_flat_{template}", [{"depth": 8, **dict(zip(row.numbers, numbers))} for numbers in row.published])
    def build(depth: int, classes: int, **kwargs: Any) -> CIFARNet:
        return _build(row, depth, [kwargs.pop(name) for name in row.numbers], classes, **kwargs)


for _template, _row in FLAT_NETWORKS.items():
    _register(_template, _row)
