"""Which networks of this package a graph may be: a few names with options, made of the numbers that stand in it.

Of each kind of network the first block tells the kind and its widths and branches, and the number of normalizations
the depth. So there are a dozen guesses at most, none of more layers than the graph has; whether one is right,
`graphs.match` says.
"""

import re
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from igc_gluon.model_zoo import igcv2, igcv3, mobilenet
from igc_gluon.model_zoo.graphs import Layer

Guess = Tuple[str, dict]
# Of the kernels in a block's convolutions: SPATIAL_FORMS of nn.igcv1.
_SPATIAL: Dict[Tuple[Tuple[int, ...], ...], str] = {
    ((3, 3), (1, 1)): "primary",
    ((1, 1), (3, 3)): "secondary",
    ((3, 3), (3, 3)): "both",
    ((3, 1), (1, 3), (1, 1)): "separable",
}


class _Convolution(NamedTuple):
    channels: int
    kernel: Tuple[int, ...]
    strides: Tuple[int, ...]
    groups: int


class _Numbers(NamedTuple):
    """convolutions: all, in order. block: those of the first block, up to its normalization. between: whether a
    permutation follows an activation. norms: number of normalizations. last: the convolution before each of them."""

    convolutions: List[_Convolution]
    branches: List[int]
    sums: int
    block: List[_Convolution]
    between: bool
    norms: int
    last: List[_Convolution]


def guesses(layers: List[Layer]) -> List[Guess]:
    """[(name, options)] of what `layers` may be, the likeliest first."""
    counts = _numbers(layers)
    if not counts.block or max(len(counts.branches), 2 * counts.sums, counts.norms) > len(counts.convolutions):
        return []  # no network of this package, and none that is far too deep is built
    stem = counts.convolutions[0]
    if any(layer.op == "clip" for layer in layers):
        names = _relu6(counts, layers)
    elif stem.kernel == (7, 7):
        names = _resnet18(counts)
    elif layers[-1].op != "FullyConnected":
        names = _igcv2(counts, layers)
    elif len(counts.block) == 1 and counts.block[0].groups == stem.channels > 1:
        names = [(f"mobilenet{m}", {}) for m in _multipliers(counts.convolutions[-1].channels, mobilenet.STAGES[-1][0])]
    else:
        names = _residual(counts) if counts.sums else _plain(counts)
    return [
        (name, {**options, "stem_strides": stem.strides[0]})
        if stem.strides[0] != (1 if name.startswith("cifar_") else 2)
        else (name, options)
        for name, options in names
    ]


def _numbers(layers: Sequence[Layer]) -> _Numbers:
    convolutions, last, block, norms = [], [], [], 0
    for layer in layers:
        if layer.op == "Convolution":
            channels, kernel, strides, _, _, groups = layer.facts[1:7]
            convolutions.append(
                _Convolution(_integers(channels)[0], _integers(kernel), _integers(strides), _integers(groups)[0])
            )
            block += convolutions[-1:] if norms == 1 else []
        elif layer.op == "BatchNorm":
            norms += 1
            last += convolutions[-1:]
    between = any(layer.op == "Reorder" and layers[layer.inputs[0]].op in ("Activation", "relu") for layer in layers)
    return _Numbers(
        convolutions,
        [layer.facts[1] for layer in layers if layer.op == "Reorder"],
        sum(layer.op == "add" for layer in layers),
        block,
        between,
        norms,
        last,
    )


def _integers(text: str) -> Tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def _multipliers(channels: int, of: int) -> List[float]:
    return sorted({round(channels / of, digits) for digits in (1, 2, 3)})


def _relu6(counts: _Numbers, layers: Sequence[Layer]) -> List[Guess]:
    if counts.block[0].kernel != (1, 1):  # MobileNetV2's first block does not expand
        return [
            (f"{name}{m}", {})
            for m in _multipliers(counts.convolutions[-2].channels, mobilenet.LAST)
            for name in ("mobilenetv2_", "cifar_mobilenetv2_")
        ]
    partitions = tuple(convolution.groups for convolution in counts.convolutions[1:4] if convolution.kernel == (1, 1))
    options: Dict[str, Any] = {} if partitions == (2, 2) else {"partitions": partitions}
    if 2 * sum(layer.op == "clip" for layer in layers) > len(counts.convolutions):  # two a block of three, not one
        options["block"] = "paper"
    multipliers = _multipliers(counts.convolutions[-1].channels, igcv3.LAST)
    small = [f"cifar_igcv3_{m}" for m in multipliers if m != 1.0] + [f"cifar_igcv3_d{d}" for d in igcv3.DEPTHS]
    names: List[Tuple[str, Dict[str, Any]]] = [(f"igcv3_{m}", {}) for m in multipliers]
    names += [(f"igcv3_d{d}", {}) for d in igcv3.DEPTHS if d != 1.0]
    names += [(name, strides) for name in small for strides in ({}, {"strides": igcv3.SMALL_STRIDES[1]})]
    return [(name, {**options, **more}) for name, more in names]


def _resnet18(counts: _Numbers) -> List[Guess]:
    if len(counts.branches) < 2:
        return [(f"resnet18_w{counts.convolutions[0].channels}", {})]
    name = "resnet18_igc_l{}m{}".format(*counts.branches)
    options = {"between": "relu"} if counts.between else {}
    return [(name, {**options, **doubled}) for doubled in ({}, {"doubled": "primary"}, {"doubled": "secondary"})]


def _igcv2(counts: _Numbers, layers: Sequence[Layer]) -> List[Guess]:
    after = sum(
        layer.op == "Convolution"
        for layer in layers[max((i for i, layer in enumerate(layers) if layer.op == "Pooling"), default=0) :]
    )
    inner, head = (
        counts.convolutions[:-after],
        tuple(convolution.groups for convolution in counts.convolutions[-after:]),
    )
    if not inner:
        return []
    repeats = (len(inner) - 1) // 3 - sum(blocks or 0 for _, blocks, _ in igcv2.STAGES)
    options: Dict[str, Any] = {} if repeats == igcv2.REPEATS else {"repeats": repeats}
    if head != (2,):
        options["head_partition"] = head[0] if len(head) == 1 else head
    return [(f"igcv2_{m}", options) for m in _multipliers(inner[-1].channels, igcv2.STAGES[-1][0])]


def _igc(counts: _Numbers) -> Any:
    """(L, M, options) of the first block if it is an IGC block, else None."""
    spatial = _SPATIAL.get(tuple(convolution.kernel for convolution in counts.block))
    first, width = counts.block[0], counts.block[-1].channels
    if spatial is None or len(counts.branches) < 2:
        return None
    options: Dict[str, Any] = {} if spatial == "primary" else {"spatial": spatial}
    if first.channels != width:
        options["bottleneck"] = width // first.channels
    if counts.between:
        options["between"] = "relu"
    return first.groups, width // first.groups, options


def _residual(counts: _Numbers) -> List[Guess]:
    depth, width, igc = (
        counts.norms - 1,
        counts.block[-1].channels,
        _igc(counts),
    )  # less the stem and two projections, plus 2
    if len(counts.block) == 1:
        return [(f"cifar_resnet{depth}_w{width}", {})]
    names = []
    if igc:
        L, M, options = igc
        names = [(f"cifar_resnet_igc{depth}_l{L}m{M}", {**options, **more}) for more in ({}, {"downsample": "code"})]
    by_width = {convolution.channels: convolution.channels // convolution.groups for convolution in counts.last}
    branch_channels = tuple(by_width.get(width * 2**stage, 1) for stage in range(3))
    return names + [
        (f"cifar_igcv2_{depth}_c{width}", {}),
        (f"cifar_igcv2star_{depth}_c{width}", {}),
        (f"cifar_igcv2_{depth}_c{width}", {"branch_channels": branch_channels}),
        (f"cifar_xception{depth}_c{width}", {}),
    ]


def _plain(counts: _Numbers) -> List[Guess]:
    depth, width, stem = counts.norms + 1, counts.block[-1].channels, counts.convolutions[0].channels
    first, igc = counts.block[0], _igc(counts)
    if len(counts.block) == 1:
        return [(f"cifar_plain{depth}_w{width}", {}), (f"cifar_sumfusion{depth}_l{width // stem}m{stem}", {})]
    names = []
    if igc:
        L, M, options = igc
        names = [(f"cifar_plain_igc{depth}_l{L}m{M}", options), (f"cifar_flat_igc{depth}_l{L}m{M}", options)]
        names += [
            (f"cifar_flat_igc_{kind}{depth}_l{L}m{M}", {})
            for kind in (*options.values(), *options)
            if isinstance(kind, str)
        ]
    K = width // counts.block[-1].groups
    return names + [
        (f"cifar_gpc{depth}_l{first.groups}m{width // first.groups}", {}),
        (f"cifar_flat_xception{depth}_c{width}", {}),
        (f"cifar_flat_gpc{depth}_l{first.groups}m{width // first.groups}", {}),
        (f"cifar_flat_igcv2_{depth}_c{width}k{K}l{len(counts.block)}", {}),
        (f"cifar_flat_igcv2i_{depth}_c{width}k{K}", {}),
    ]
