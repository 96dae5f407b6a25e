"""ResNet-18 for ImageNet (IGCV1, Table 6), with regular convolutions or with IGC blocks.

    resnet18_w64, resnet18_w69                    by the width C of the first stage
    resnet18_igc_l4m32, resnet18_igc_l16m16       by L and M of the first stage; M doubles with the width, L stays
    resnet18_igc_l100m2                           the same; L doubles, M stays

7x7 stem with stride 2, 3x3 max pooling, four stages of two residual blocks, global average pooling, a fully connected
layer. The width doubles from stage to stage. Where L doubles, the stem has L channels, half as many as the first stage,
which then begins with a projection too; otherwise both are L M wide. Projections have L groups.

Parameters are named as in the authors' checkpoints (`g1_b1_conv1_conv1_weight`, `g2_b1_proj_bn_gamma`).
"""

from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

from mxnet.gluon import HybridBlock, nn

from igc_gluon.data.registry import IMAGENET_MEAN, IMAGENET_STD
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.cifar import ResidualBlock, norm_arguments
from igc_gluon.model_zoo.image_network import ImageNetwork
from igc_gluon.model_zoo.registry import Family, Model, add_family
from igc_gluon.nn import SCORE_INIT, ConvBNReLU, IGCBlock
from igc_gluon.nn.basic import BN_MOMENTUM_RESIDUAL, NativeLayers

BLOCKS = (2, 2, 2, 2)
DOUBLED = ("primary", "secondary")


class ResNet18(ImageNetwork):
    """(N, 3, H, W) -> (N, classes); the map shrinks 32 times before it is averaged.

    Stage s (from 0) has blocks of `width` * 2^s channels; `layer(s)` makes their layers, `shortcut(s)` the projection
    where width or strides change.
    """

    def __init__(
        self,
        stem_layer: Callable[..., HybridBlock],
        layer: Callable[..., HybridBlock],
        shortcut: Callable[[int], Callable[..., HybridBlock]],
        stem: int,
        width: int,
        classes: int,
        norm: Dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = NativeLayers(prefix="")
            self.features.add(
                stem_layer(stem, 3, kernel_size=7, strides=2, prefix="g0_", **norm),
                nn.MaxPool2D(3, 2, 1, prefix="g0_pool_"),
            )
            in_channels = stem
            for stage, count in enumerate(BLOCKS):
                channels = width * 2**stage
                for i in range(count):
                    strides = 2 if stage > 0 and i == 0 else 1
                    projection = shortcut(stage) if strides != 1 or channels != in_channels else None
                    self.features.add(
                        ResidualBlock(
                            layer(stage),
                            channels,
                            in_channels,
                            strides,
                            projection,
                            norm,
                            names=("conv1_", "conv2_", "proj_"),
                            prefix=f"g{stage + 1}_b{i + 1}_",
                        )
                    )
                    in_channels = channels
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=in_channels, weight_initializer=SCORE_INIT, prefix="fc_score_")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _arguments(
    norm_layer: Any = nn.BatchNorm, norm_kwargs: Optional[dict] = None, prefix: str = "", **kwargs: Any
) -> Dict[str, Any]:
    return {"norm": norm_arguments(norm_layer, norm_kwargs, BN_MOMENTUM_RESIDUAL), "prefix": prefix, **kwargs}


def _regular(w: int, classes: int, **kwargs: Any) -> ResNet18:
    if w < 1:
        raise UserError(f"resnet18 has no width {w}; the smallest is 1")
    # The authors' regular network names a convolution as its layer: `g0_weight`, not `g0_conv_weight`.
    layer = partial(ConvBNReLU, conv_prefix="")
    return ResNet18(
        layer,
        lambda stage: layer,
        lambda stage: partial(layer, kernel_size=1, activation=None),
        w,
        w,
        classes,
        **_arguments(**kwargs),
    )


def _usually_doubled(m: int) -> str:
    """Of the published networks: M = 2 is as small as it gets while L grows; of the others M grows."""
    return "primary" if m == 2 else "secondary"


def _igc(
    l: int, m: int, classes: int, doubled: Optional[str] = None, between: Optional[str] = None, **kwargs: Any
) -> ResNet18:
    if min(l, m) < 1:
        raise UserError(f"resnet18_igc has no L = {l}, M = {m}; the smallest is 1")
    doubled = doubled or _usually_doubled(m)
    if doubled not in DOUBLED:
        raise UserError(f"doubled must be one of {', '.join(DOUBLED)}, not {doubled!r}")
    if doubled == "primary" and m % 2:
        raise UserError(
            f"resnet18_igc with doubled='primary' needs an even M, not {m}: its stem is half as wide as "
            "the first stage, whose L primary partitions it must fill"
        )

    def partitions(stage: int) -> int:
        return l * 2**stage if doubled == "primary" else l

    return ResNet18(
        ConvBNReLU,
        lambda stage: partial(IGCBlock, partitions(stage), between=between),
        lambda stage: partial(ConvBNReLU, kernel_size=1, groups=partitions(stage), activation=None),
        l * m // 2 if doubled == "primary" else l * m,
        l * m,
        classes,
        **_arguments(**kwargs),
    )


_REGULAR = add_family(Family("resnet18_w{w}", _regular, ({"w": 64}, {"w": 69}), 1000, 224, IMAGENET_MEAN, IMAGENET_STD))
_IGC = add_family(
    Family(
        "resnet18_igc_l{l}m{m}",
        _igc,
        ({"l": 4, "m": 32}, {"l": 16, "m": 16}, {"l": 100, "m": 2}),
        1000,
        224,
        IMAGENET_MEAN,
        IMAGENET_STD,
    )
)


def imagenet_model(
    network: str, primary_partition: int, secondary_partition: Optional[int] = None
) -> Tuple[Model, dict]:
    """(`Model`, its options) of what the authors' `network`, resnet_imgnet_d18 or resnet_igc_imgnet_d18, builds.

    The width of the first is L. Of the second L and M are those of the stem, while the model has those of the first
    stage, which is twice as wide: L and 2M. From there on L doubles.
    """
    if network == "resnet_imgnet_d18":
        return Model(_REGULAR, {"w": primary_partition}), {}
    m = 2 * (secondary_partition or 0)
    options = {} if _usually_doubled(m) == "primary" else {"doubled": "primary"}
    return Model(_IGC, {"l": primary_partition, "m": m}), options


def imagenet_model_name(
    network: str, primary_partition: int, secondary_partition: Optional[int] = None
) -> Tuple[str, dict]:
    """(the getter's name, its options), see `imagenet_model`."""
    model, options = imagenet_model(network, primary_partition, secondary_partition)
    return model.name, options
