"""What the tables say about a network, in their units and notation, read off the real Gluon network.

Each function takes a `Network` and returns {quantity: value}, a number in single units or, for structures, a text.
"""

import re
from itertools import groupby
from typing import Callable, Dict, List, Sequence, Tuple, Union

from igc_gluon.paper.layer_counts import Convolution, Network, convolutions, learned_parameters

LAST_FLAT_BLOCK = re.compile(r"g1_b6_")
SHORTCUT = re.compile(r"_proj|_p0_line")  # in ResNet-18 and in the networks for 32x32 images
# A block of each family, by the names of its convolutions.
BLOCK = re.compile(r"g\d+_b\d+_(p2_two\d_)?|seq-\d+-block\d+-")

Values = Dict[str, Union[int, float, str]]  # by quantity

PARAMS, MULTIPLY_ADDS, WIDTH, NON_SPARSITY = "params", "multiply-adds", "width", "non-sparsity"


def weights(network: Network) -> Values:
    """Weights of convolutions and fully connected layers, without biases and BN."""
    return _sum(convolutions(network))


def convolution_weights(network: Network) -> Values:
    """The same without the last layer, the classifier."""
    return _sum(convolutions(network)[:-1])


def weights_without_shortcuts(network: Network) -> Values:
    """The parameters of `weights`; the multiply-adds without the convolutions on shortcuts."""
    counted = [c for c in convolutions(network) if not SHORTCUT.search(c.name)]
    return {**weights(network), MULTIPLY_ADDS: _sum(counted)[MULTIPLY_ADDS]}


def learned(network: Network) -> Values:
    """All learned parameters, with gamma and beta; the multiply-adds of `weights`."""
    return {**weights(network), PARAMS: learned_parameters(network)}


def block(network: Network) -> Values:
    """One of the equal blocks of an 8-layer network without down-sampling (its last).

    Non-sparsity is the number of its weights divided by that of the dense kernel that they compose (IGCV2, Fig. 3).
    """
    flat = [c for c in convolutions(network) if LAST_FLAT_BLOCK.match(c.name)]
    total = _sum(flat)
    dense = flat[0].in_channels * flat[-1].channels * max(c.kernel for c in flat) ** 2
    return {
        WIDTH: flat[-1].channels,
        NON_SPARSITY: total[PARAMS] / dense,
        **total,
        **{f"{key} of a block": value for key, value in total.items()},
    }


def _sum(rows: Sequence[Convolution]) -> Values:
    return {PARAMS: sum(c.weights for c in rows), MULTIPLY_ADDS: sum(c.multiply_adds for c in rows)}


def stages(network: Network) -> Values:
    """The architecture by the size of the map, in the notation of IGCV1's Table 2: '4x(3x3,8) 8x(1x1,4) x6' are 6
    blocks of a 3x3 convolution in 4 partitions of 8 channels and a 1x1 one in 8 of 4. A block stands for its stage
    that does not change the width: the last.
    """
    stem, *rest = convolutions(network)[:-1]
    columns: Values = {"stem": _convolution(stem)}
    in_blocks = [c for c in rest if not SHORTCUT.search(c.name)]
    blocks = [list(rows) for _, rows in groupby(in_blocks, key=_block_of)]
    for size, blocks_of_size in groupby(blocks, key=lambda rows: rows[-1].input_size // rows[-1].strides):
        of_size = list(blocks_of_size)
        parts = []
        for text, alike in groupby(map(_convolution, of_size[-1])):
            times = len(list(alike))
            parts.append(f"{times} of {text}" if times > 1 else text)
        columns[f"{size}x{size}"] = f"{' '.join(parts)} x{len(of_size)}"
    return columns


def _block_of(c: Convolution) -> str:
    """The name of the block that a convolution is in, or its own."""
    block = BLOCK.search(c.name)
    return block.group() if block else c.name


def _convolution(c: Convolution) -> str:
    kernel = f"{c.kernel}x{c.kernel}"
    if c.branches > 1:
        return f"{c.branches}x({kernel},{c.channels // c.branches}) Summation"
    return f"{c.groups}x({kernel},{c.channels // c.groups})" if c.groups > 1 else f"({kernel},{c.channels})"


def line(
    column: str, number: int, block_kind: str, head_kind: str, expansion: bool = False
) -> Callable[[Network], Values]:
    """Measures row `number` (from 1) of one half of IGCV2's Tables 8 and 10, called `column`: a text such as
    '14x14 /1 IGCV2 x5 1024>1024 g 8,8': 5 equal blocks at 14x14 with stride 1, 1024 channels in and out, 8 branches in
    both 1x1 convolutions; with `expansion`, t too. The kinds are what the table calls a block and the last layer.
    """

    def measure(network: Network) -> Values:
        lines = _lines(network, block_kind, head_kind, expansion)
        return {column: lines[number - 1] if number <= len(lines) else "none"}

    return measure


def _lines(network: Network, block_kind: str, head_kind: str, expansion: bool) -> List[str]:
    units = _units(network)
    described = []
    for unit in units:
        kind = head_kind if unit is units[-1] else "Conv2d" if len(unit) == 1 else block_kind
        described.append(_unit(unit, kind, expansion))
    body, head = described[:-1], described[-1:]
    last = units[-2][-1]
    pooled = last.input_size // last.strides
    return (
        [f"{what} x{len(list(alike))} {details}" for (what, details), alike in groupby(body)]
        + [f"{pooled}x{pooled} pooling"]
        + [f"{what} x1 {details}" for what, details in head]
    )


def _unit(unit: Sequence[Convolution], kind: str, expansion: bool) -> Tuple[str, str]:
    """(size, stride and kind; channels, t and branches) of a block or a single layer."""
    first, last = unit[0], unit[-1]
    spatial = max(unit, key=lambda c: c.kernel)
    groups = [c.groups for c in unit if c.kernel == 1]
    details = f"{first.in_channels}>{last.channels}"
    if expansion and len(unit) > 1:
        details += f" t {spatial.channels // first.in_channels}"
    if groups and max(groups) > 1:
        details += f" g {','.join(map(str, groups))}"
    return f"{first.input_size}x{first.input_size} /{spatial.strides} {kind}", details


def _units(network: Network) -> List[List[Convolution]]:
    """The convolutions of each block, and those outside of blocks one by one."""
    return [list(rows) for _, rows in groupby(convolutions(network), key=_block_of)]
