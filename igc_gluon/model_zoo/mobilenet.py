"""MobileNetV1 and V2, which IGCV2 and IGCV3 are compared with (IGCV2's Tables 8 to 11, the README of IGCV3).

    mobilenet1.0, mobilenet0.5, mobilenet0.25     MobileNetV1 by width multiplier
    mobilenetv2_1.0, mobilenetv2_0.7              MobileNetV2 by width multiplier
    cifar_mobilenetv2_1.0                         the same for 32x32 images

They are named as in GluonCV and have the same layers. Of MobileNetV2 widths are made even and the multiplier holds
for the last convolution too, as in IGCV3: at 0.7 the printed 160 M multiply-adds come out so (GluonCV cuts widths
off and keeps the last one at 1280: 155 M). On 32x32 images the map shrinks at the sequences of 32 and 64 channels,
as in IGCV3's networks; the authors did not publish where.
"""

from typing import Any, Dict, Optional

from mxnet.gluon import nn

from igc_gluon.errors import UserError
from igc_gluon.model_zoo import igcv2, igcv3
from igc_gluon.model_zoo.image_network import ImageNetwork
from igc_gluon.model_zoo.registry import register
from igc_gluon.nn import SCORE_INIT, ConvBNReLU, GroupConv2D, IGCV3Block, ReLU6, batch_norm
from igc_gluon.nn.basic import NativeLayers

STEM, LAST = 32, 1280
# MobileNetV1: output channels, number of blocks, strides of the first one.
STAGES = (
    (64, 1, 1),
    (128, 1, 2),
    (128, 1, 1),
    (256, 1, 2),
    (256, 1, 1),
    (512, 1, 2),
    (512, 5, 1),
    (1024, 1, 2),
    (1024, 1, 1),
)
# MobileNetV2: expansion t, output channels, number of blocks, strides of the first one, those for 32x32 images.
SEQUENCES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 2),
    (6, 64, 4, 2, 2),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 2, 1),
    (6, 320, 1, 1, 1),
)


class MobileNetV1(ImageNetwork):
    """(N, 3, H, W) -> (N, classes); the map shrinks 32 times. `multiplier` scales every width, cut off."""

    def __init__(
        self,
        multiplier: float,
        classes: int,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm: Dict[str, Any] = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}
        _check(multiplier)
        in_channels = max(1, int(STEM * multiplier))
        with self.name_scope():
            self.features = NativeLayers(prefix="")
            self.features.add(ConvBNReLU(in_channels, 3, strides=2, prefix="g0_", **norm))
            for stage, (channels, blocks, strides) in enumerate(STAGES, 1):
                channels = max(1, int(channels * multiplier))
                for i in range(blocks):
                    prefix = f"g{stage}_b{i + 1}_"
                    self.features.add(
                        ConvBNReLU(
                            in_channels,
                            in_channels,
                            strides=1 if i else strides,
                            groups=in_channels,
                            prefix=f"{prefix}depthwise_",
                            **norm,
                        ),
                        ConvBNReLU(channels, in_channels, 1, prefix=f"{prefix}pointwise_", **norm),
                    )
                    in_channels = channels
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=in_channels, weight_initializer=SCORE_INIT, prefix="fc_")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class MobileNetV2(ImageNetwork):
    """(N, 3, H, W) -> (N, classes). The first block of a sequence has no shortcut, all others have.

    Its block is IGCV3's (Fig. 6b) with one branch; that of the first sequence, t = 1, has no expansion. `small`
    is for 32x32 images: the map shrinks 4 times `stem_strides` instead of 32.
    """

    def __init__(
        self,
        multiplier: float,
        classes: int,
        small: bool = False,
        stem_strides: Optional[int] = None,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(multiplier)
        if stem_strides is None:
            stem_strides = 1 if small else 2
        if stem_strides not in (1, 2):
            raise UserError(f"stem_strides must be 1 or 2, not {stem_strides}")
        if issubclass(norm_layer, nn.BatchNorm):
            norm_kwargs = {"epsilon": igcv3.BN_EPSILON, **(norm_kwargs or {})}

        def width(channels: int) -> int:
            channels = max(1, round(channels * multiplier))
            return channels + channels % 2

        def add(
            prefix: str,
            channels: int,
            in_channels: int,
            kernel: int,
            strides: int = 1,
            groups: int = 1,
            activation: bool = True,
        ) -> None:
            self.features.add(
                GroupConv2D(channels, in_channels, groups, (kernel,) * 2, (strides,) * 2, prefix=f"{prefix}conv2d_"),
                batch_norm(channels, norm_layer, norm_kwargs, prefix=f"{prefix}batchnorm_"),
            )
            if activation:
                self.features.add(ReLU6(prefix=f"{prefix}relu6_"))

        with self.name_scope():
            self.features = NativeLayers(prefix="")
            in_channels = width(STEM)
            add("first-3x3-conv-", in_channels, 3, 3, stem_strides)
            for s, (t, channels, blocks, strides, strides_small) in enumerate(SEQUENCES):
                channels = width(channels)
                for i in range(blocks):
                    prefix = f"seq-{s}-block{i}-"
                    stride = 1 if i else strides_small if small else strides
                    if t == 1:
                        add(f"{prefix}depthwise-", in_channels, in_channels, 3, stride, in_channels)
                        add(f"{prefix}linear-", channels, in_channels, 1, activation=False)
                    else:
                        self.features.add(
                            IGCV3Block(
                                channels,
                                in_channels,
                                t,
                                stride,
                                shortcut=i > 0,
                                partitions=(1, 1),
                                block="paper",
                                norm_layer=norm_layer,
                                norm_kwargs=norm_kwargs,
                                prefix=prefix,
                            )
                        )
                    in_channels = channels
            add("last-1x1-conv-", width(LAST), in_channels, 1)
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="")
            self.output.add(
                nn.Conv2D(
                    classes, 1, use_bias=False, in_channels=width(LAST), weight_initializer=SCORE_INIT, prefix="score_"
                ),
                nn.Flatten(),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _check(multiplier: float) -> None:
    if multiplier <= 0:
        raise UserError(f"the width multiplier must be above 0, not {multiplier}")


@register("mobilenet{multiplier}", [{"multiplier": m} for m in (1.0, 0.5, 0.25)], **igcv2.IMAGENET)
def _v1(multiplier: float, classes: int, prefix: str = "", **kwargs: Any) -> MobileNetV1:
    return MobileNetV1(multiplier, classes, prefix=prefix, **kwargs)


@register("mobilenetv2_{multiplier}", [{"multiplier": 1.0}, {"multiplier": 0.7}], **igcv3.IMAGENET)
def _v2(multiplier: float, classes: int, prefix: str = "", **kwargs: Any) -> MobileNetV2:
    return MobileNetV2(multiplier, classes, prefix=prefix, **kwargs)


@register("cifar_mobilenetv2_{multiplier}", [{"multiplier": 1.0}])
def _v2_small(multiplier: float, classes: int, stem_strides: int = 1, prefix: str = "", **kwargs: Any) -> MobileNetV2:
    return MobileNetV2(multiplier, classes, small=True, stem_strides=stem_strides, prefix=prefix, **kwargs)
