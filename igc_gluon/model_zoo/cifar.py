"""Networks of IGCV1 for 32x32 images (Tables 2, 3, 4, 5 and 7), with and without identity mappings.

`gpc` is `plain_igc` with the blocks of the supplementary, Group-and-Point-wise Convolution, in place of IGC blocks.

All have a 3x3 stem, three stages of the width C, 2C and 4C, the first layer of the second and third stage with stride
2, global average pooling and a fully connected layer. In IGC networks L stays and M doubles with the width.

Parameters are named as in the authors' symbols (`g1_b1_conv1_weight`, ...), whatever else lives in the process: fixed
names give a fixed order of parameters, on which optimizer states and reproducible runs depend.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from mxnet.gluon import HybridBlock, nn

from igc_gluon.errors import UserError, nearest_valid
from igc_gluon.model_zoo.image_network import ImageNetwork
from igc_gluon.model_zoo.registry import BlockOf, Family, Model, add_family
from igc_gluon.nn import SCORE_INIT, ConvBNReLU, GPCBlock, IGCBlock, SumFusion
from igc_gluon.nn.basic import BN_MOMENTUM_PLAIN, BN_MOMENTUM_RESIDUAL, NativeLayers

DOWNSAMPLE_FORMS = ("paper", "code")


# Layers: one convolution (or IGC block) with BN and ReLU. Each factory returns layer(channels, in_channels,
# strides=..., **kwargs).


def _regular(primary_partition: int, secondary_partition: int) -> BlockOf:
    return ConvBNReLU


def _igc(
    primary_partition: int,
    secondary_partition: int,
    downsample: str = "paper",
    spatial: str = "primary",
    bottleneck: int = 1,
    between: Optional[str] = None,
) -> BlockOf:
    if downsample not in DOWNSAMPLE_FORMS:
        raise UserError(f"downsample must be one of {', '.join(DOWNSAMPLE_FORMS)}, not {downsample!r}")
    if downsample == "code" and bottleneck != 1:
        raise UserError("the authors' code, downsample='code', has no bottleneck")

    def layer(channels: int, in_channels: int, strides: int, **kwargs: Any) -> IGCBlock:
        # The authors' resnet_igc takes the number of secondary partitions from the input width, so that in the
        # first block of a down-sampling stage each holds 2L channels. The paper takes it from the output width.
        return IGCBlock(
            primary_partition,
            channels,
            in_channels,
            strides=strides,
            spatial=spatial,
            secondary_partition=in_channels // primary_partition if downsample == "code" else None,
            bottleneck=bottleneck,
            between=between,
            **kwargs,
        )

    return layer


def _sum_fusion(primary_partition: int, secondary_partition: int) -> BlockOf:
    return partial(SumFusion, primary_partition)


def _gpc(primary_partition: int, secondary_partition: int) -> BlockOf:
    return partial(GPCBlock, primary_partition)


class ResidualBlock(HybridBlock):
    """ReLU(layer(layer(x)) + shortcut(x)), the second layer without its ReLU (Table 5; He et al.).

    The shortcut is the identity, or what `projection` makes as `layer` does. There is none where the width changes
    without a projection, from a stem of another width. `names` are the prefixes of the two layers and the projection.
    (N, in_channels, H, W) -> (N, channels, H', W').
    """

    def __init__(
        self,
        layer: Callable[..., HybridBlock],
        channels: int,
        in_channels: int,
        strides: int,
        projection: Optional[Callable[..., HybridBlock]],
        norm: Dict[str, Any],
        names: Tuple[str, str, str] = ("p2_two1_", "p2_two2_", "p0_line_"),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._has_shortcut = projection is not None or channels == in_channels
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(
                layer(channels, in_channels, strides=strides, prefix=names[0], **norm),
                layer(channels, channels, strides=1, activation=None, prefix=names[1], **norm),
            )
            self.shortcut = None
            if projection is not None:
                self.shortcut = projection(channels, in_channels, strides=strides, prefix=names[2], **norm)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        y = self.body(x)
        if self._has_shortcut:
            y = (x if self.shortcut is None else self.shortcut(x)) + y
        return F.Activation(y, act_type="relu")


class CIFARNet(ImageNetwork):
    """Stem, stages, pooling, scores: (N, 3, H, W) -> (N, classes).

    Parameters
    ----------
    layer : callable or Block class
        layer(channels, in_channels, strides=..., prefix=..., norm_layer=..., norm_kwargs=...) is a layer of a stage: a
        convolution or block with BN and ReLU. With `residual` also called with activation=None.
    width : int, blocks : sequence of int
        Stage s (from 0) has `blocks[s]` blocks of `width` * 2^s channels, see `stage_blocks`.
    classes : int
    residual : bool
        Whether a block is two layers and a shortcut; a shortcut into a stage is a 1x1 convolution with
        `shortcut_groups(in_channels)` groups.
    stem : int, default `width`, stem_strides : 1 or 2
        Channels of the stem; 2 for 64x64 images (Tiny ImageNet; IGCV2, section 4.1).
    norm_layer, norm_kwargs : the normalization and its arguments, as in GluonCV, by default BN with the authors'.
    """

    def __init__(
        self,
        layer: Callable[..., HybridBlock],
        width: int,
        blocks: Sequence[int],
        classes: int,
        residual: bool = False,
        shortcut_groups: Callable[[int], int] = lambda in_channels: 1,
        stem: Optional[int] = None,
        stem_strides: int = 1,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        prefix: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix=prefix, **kwargs)
        norm = norm_arguments(norm_layer, norm_kwargs, BN_MOMENTUM_RESIDUAL if residual else BN_MOMENTUM_PLAIN)
        if stem_strides not in (1, 2):
            raise UserError(f"stem_strides must be 1 or 2, not {stem_strides}")
        with self.name_scope():
            self.features = NativeLayers(prefix="")
            in_channels = stem or width
            self.features.add(ConvBNReLU(in_channels, 3, strides=stem_strides, prefix="g0_", **norm))
            for stage, count in enumerate(blocks):
                channels = width * 2**stage
                for i in range(count):
                    strides = 2 if stage > 0 and i == 0 else 1
                    prefix = f"g{stage + 1}_b{i + 1}_"
                    projection = (
                        partial(ConvBNReLU, kernel_size=1, groups=shortcut_groups(in_channels), activation=None)
                        if strides != 1
                        else None
                    )
                    self.features.add(
                        ResidualBlock(layer, channels, in_channels, strides, projection, norm, prefix=prefix)
                        if residual
                        else layer(channels, in_channels, strides=strides, prefix=prefix, **norm)
                    )
                    in_channels = channels
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(
                classes, in_units=in_channels, weight_initializer=SCORE_INIT, prefix="fc_" if residual else "fc_score_"
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def stage_blocks(depth: int, residual: bool = False) -> Tuple[int, ...]:
    """The numbers of blocks of the three stages by the papers' rules, see below. Raises UserError where there are
    none."""
    rule = _blocks_residual if residual else _blocks_plain
    blocks = rule(depth)
    if blocks is None:
        raise UserError(
            f"a {'residual' if residual else 'plain'} network has no depth {depth}: it must be "
            f"{'even, at least 8' if residual else '3B + 2'}; nearest valid: {nearest_valid(depth, rule)}"
        )
    return blocks


def _blocks_plain(depth: int) -> Optional[Tuple[int, ...]]:
    """Depth 3B + 2 -> (B, B, B) layers by stage (Table 2)."""
    return ((depth - 2) // 3,) * 3 if depth >= 5 and (depth - 2) % 3 == 0 else None


def _blocks_residual(depth: int) -> Optional[Tuple[int, ...]]:
    """Even depth -> residual blocks of two layers by stage, by the authors' rule: what is left, shared evenly."""
    if depth < 8 or depth % 2:
        return None
    left, blocks = (depth - 2) // 2, []
    for stages in (3, 2, 1):
        blocks.append(left // stages)
        left -= blocks[-1]
    return tuple(blocks)


@dataclass(frozen=True)
class CIFARNetwork:
    """What tells the networks apart. `width(L, M)` is the first stage's; depth rule and BN momentum follow
    `residual`."""

    layer: Callable
    residual: bool
    grouped: bool  # named by L and M, shortcuts with L groups; otherwise named by the width C
    width: Callable = lambda l, m: l * m


# Rows by the authors' module names, which `train_cifar.py --network` takes.
CIFAR_NETWORKS = {
    "plain": CIFARNetwork(_regular, residual=False, grouped=False),
    "plain_igc": CIFARNetwork(_igc, residual=False, grouped=True),
    "resnet": CIFARNetwork(_regular, residual=True, grouped=False),
    "resnet_igc": CIFARNetwork(_igc, residual=True, grouped=True),
    # Table 2: L branches of width M are summed up, so the width is M, not LM.
    "sumfusion": CIFARNetwork(_sum_fusion, residual=False, grouped=True, width=lambda l, m: m),
    "gpc": CIFARNetwork(_gpc, residual=False, grouped=True),
}


def _build(
    network: str,
    depth: int,
    primary_partition: int,
    secondary_partition: int,
    classes: int,
    norm_layer: Any = nn.BatchNorm,
    norm_kwargs: Optional[dict] = None,
    stem_strides: int = 1,
    prefix: str = "",
    params: Any = None,
    **options: Any,
) -> CIFARNet:
    row = CIFAR_NETWORKS[network]
    for what, number in (("primary", primary_partition), ("secondary", secondary_partition)):
        if number < 1:
            raise UserError(f"{network}: {number} {what} partitions make no network; the smallest number is 1")
    if "downsample" in options and not row.residual:
        raise UserError(f"{network} has no option 'downsample': paper and code differ in resnet_igc only")
    return CIFARNet(
        row.layer(primary_partition, secondary_partition, **options),
        row.width(primary_partition, secondary_partition),
        stage_blocks(depth, row.residual),
        classes,
        row.residual,
        lambda in_channels: primary_partition if row.grouped else 1,
        stem_strides=stem_strides,
        norm_layer=norm_layer,
        norm_kwargs=norm_kwargs,
        prefix=prefix,
        params=params,
    )


def norm_arguments(norm_layer: type, norm_kwargs: Optional[Dict[str, Any]], momentum: float) -> Dict[str, Any]:
    """The arguments of every block for its normalization, batch normalization with `momentum` where none is given."""
    if issubclass(norm_layer, nn.BatchNorm):
        norm_kwargs = {"momentum": momentum, **(norm_kwargs or {})}
    return {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}


# Getters. The published members are those of Tables 3, 4, 5 and 7.
_DEPTHS = {
    "plain": (8, 20, 38, 62, 98),
    "plain_igc": (8, 20, 38, 62, 98),
    "sumfusion": (8, 20, 38, 62),
    "resnet": (50, 74, 98),
    "resnet_igc": (50, 74, 98),
    "gpc": (20,),
}  # no table holds one; the supplementary's are those of `flat`
_LM = {"sumfusion": ((4, 8),)}
_TABLE_7 = tuple({"depth": 20, "l": l, "m": m} for l, m in ((16, 32), (450, 2), (32, 26)))


def _family(network: str, row: Any) -> Family:
    def build(depth: int, l: int = 0, m: int = 1, w: int = 0, **kwargs: Any) -> CIFARNet:  # l and m, or w
        return _build(network, depth, l or w, m, **kwargs)

    if row.grouped:
        published = tuple(
            {"depth": d, "l": l, "m": m} for l, m in _LM.get(network, ((4, 8), (24, 2))) for d in _DEPTHS[network]
        )
        template = "cifar_%s{depth}_l{l}m{m}"
    else:
        published = tuple({"depth": d, "w": w} for w in (16, 18) for d in _DEPTHS[network])
        template = "cifar_%s{depth}_w{w}"
    return Family(template % network, build, published + (_TABLE_7 if network == "plain_igc" else ()))


_FAMILIES = {network: add_family(_family(network, row)) for network, row in CIFAR_NETWORKS.items()}


def cifar_model(network: str, depth: int, primary_partition: int, secondary_partition: int) -> Model:
    """The `Model` that the authors' scripts build of a module name, depth, L and M.

    The width of `plain` and `resnet` is L * M. Raises UserError on an unknown network; numbers that make none are
    refused when it is built.
    """
    if network not in CIFAR_NETWORKS:
        raise UserError(
            f"unknown network {network!r}; the networks are {', '.join(CIFAR_NETWORKS)}, and "
            "the cifar_... names of `igc models`"
        )
    if CIFAR_NETWORKS[network].grouped:
        return Model(_FAMILIES[network], {"depth": depth, "l": primary_partition, "m": secondary_partition})
    smallest = min(primary_partition, secondary_partition)  # the product of two negative numbers would be a width
    width = primary_partition * secondary_partition if smallest > 0 else smallest
    return Model(_FAMILIES[network], {"depth": depth, "w": width})


def cifar_model_name(network: str, depth: int, primary_partition: int, secondary_partition: int) -> str:
    """The getter's name of a network given as the authors' scripts give it, see `cifar_model`."""
    return cifar_model(network, depth, primary_partition, secondary_partition).name
