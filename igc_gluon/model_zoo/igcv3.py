"""IGCV3 for ImageNet (IGCV2 paper, Tables 10 and 11) and for 32x32 images.

    igcv3_1.0, igcv3_0.7               by width multiplier
    igcv3_d0.5, igcv3_d0.7             IGCV3-D: fewer blocks of the same width
    cifar_igcv3_d{0.5,0.7,1.0}         the same for 32x32 images
    cifar_igcv3_0.5                    those by width multiplier, which the papers do not have

The parameters are named as in the authors' graph, which `igcv3_1.0` is. The multiplier is applied once and widths are
made even, also that of the last convolution: so the printed counts of 0.7 come out. (The authors' code multiplies the
input width of each sequence a second time and keeps the last convolution at 1280 or more.)

Of IGCV3-D the authors say that it has 0.5 and 0.7 times the parameters, by fewer blocks in each sequence, and for
CIFAR-100 about 1.2, 1.7 and 2.4 M; the numbers of blocks are not published. Those here give 0.500 and 0.699 times the
parameters of D 1.0 with 10 classes, and 1.23, 1.67 and 2.34 M with 100.

Where strides become 1 for 32x32 images the authors did not publish either. The map shrinks at the sequences of 32 and
64 channels here, to 16x16 and 8x8: so does it in the code of a third party that says to have the configuration from the
authors, and to come to their accuracy on CIFAR-100 (cvtower/SeesawNet_pytorch on GitHub,
cifar_test/baseline_version/IGCV3.py with `downsampling` 4, as its configuration has it. Its file beside the weights of
78.21 %, where the authors print 77.95, shrinks the map once more, at 160; of that one users said that weights and code
do not fit together). `strides=(64, 160)` shrinks it at the sequences of 64 and 160 channels instead.
"""

from math import gcd
from typing import Any, Dict, Optional, Sequence, Tuple

from mxnet.gluon import nn

from igc_gluon.errors import UserError
from igc_gluon.model_zoo.image_network import ImageNetwork
from igc_gluon.model_zoo.registry import register
from igc_gluon.nn import CONVOLUTION_INIT, SCORE_INIT, IGCV3Block, ReLU6, batch_norm
from igc_gluon.nn.basic import NativeLayers

BN_EPSILON = 1e-5
# Of ImageNet: the authors' code of IGCV3 has other means than that of IGCV1, and no deviations.
MEAN, STD = (123.68, 116.779, 103.939), (1.0, 1.0, 1.0)
STEM, LAST = 32, 1280
# expansion t, output channels c, strides s of the first block (Table 10)
SEQUENCES = ((1, 16, 1), (6, 24, 2), (6, 32, 2), (6, 64, 2), (6, 96, 1), (6, 160, 2), (6, 320, 1))
# c of the sequences whose first block has stride 2 on 32x32 images, see the module.
SMALL_STRIDES = ((32, 64), (64, 160))
# Blocks in each sequence, by the share of parameters.
DEPTHS = {1.0: (1, 4, 6, 8, 6, 6, 1), 0.7: (1, 2, 4, 4, 3, 4, 1), 0.5: (1, 2, 2, 3, 2, 2, 1)}


def _least_common_multiple(partitions: Sequence[int]) -> int:
    if not (
        isinstance(partitions, (tuple, list))
        and len(partitions) == 2
        and all(isinstance(g, int) and g >= 1 for g in partitions)
    ):
        raise UserError(
            f"partitions must be the numbers of branches of both 1x1 convolutions, 2,4 for example, not {partitions}"
        )
    first, second = partitions
    return first * second // gcd(first, second)


def _check(
    multiplier: float, depth: float, strides: Optional[Sequence[int]], stem_strides: int, last_channels: Any
) -> None:
    if multiplier <= 0:
        raise UserError(f"the width multiplier must be above 0, not {multiplier}")
    if depth not in DEPTHS:
        raise UserError(f"there is no IGCV3-D {depth}; there are {', '.join(map(str, sorted(DEPTHS)))}")
    if strides not in (None, *SMALL_STRIDES, *map(list, SMALL_STRIDES)):  # a list in a run's config.json
        raise UserError(
            f"strides must be {' or '.join(f'{a},{b}' for a, b in SMALL_STRIDES)}, the channels of the "
            f"sequences that shrink the map, not {strides}"
        )
    if last_channels is not None and not (isinstance(last_channels, int) and last_channels >= 1):
        raise UserError(f"last_channels must be a number of channels, not {last_channels}")
    if stem_strides not in (1, 2):
        raise UserError(f"stem_strides must be 1 or 2, not {stem_strides}")


class IGCV3Net(ImageNetwork):
    """(N, 3, H, W) -> (N, classes). The first block of a sequence has no shortcut, all others have.

    Parameters
    ----------
    classes : int
    multiplier : float
        Of all widths, see the module.
    depth : float
        The share of parameters, a key of DEPTHS.
    strides : None or one of SMALL_STRIDES
        For 32x32 images: which sequences shrink the map, in all 4 times `stem_strides` instead of 32.
    last_channels : int
        Of the last convolution, 1280 times the multiplier by default; see `igc_gluon.model_zoo.gluoncv2` for 1280.
    partitions : (g1, g2)
        Numbers of branches of the first and the second 1x1 convolution of a block. Widths are made multiples of both,
        as in the authors' `igcv3_g2g4`.
    block : 'released' or 'paper'
        See IGCV3Block.
    """

    def __init__(
        self,
        classes: int,
        multiplier: float = 1.0,
        depth: float = 1.0,
        strides: Optional[Sequence[int]] = None,
        stem_strides: Optional[int] = None,
        block: str = "released",
        partitions: Tuple[int, int] = (2, 2),
        last_channels: Optional[int] = None,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if stem_strides is None:
            stem_strides = 1 if strides else 2
        _check(multiplier, depth, strides, stem_strides, last_channels)
        if issubclass(norm_layer, nn.BatchNorm):
            norm_kwargs = {"epsilon": BN_EPSILON, **(norm_kwargs or {})}
        norm = norm_layer, norm_kwargs

        multiple = _least_common_multiple(partitions)

        def width(channels: int) -> int:
            channels = max(1, round(channels * multiplier))
            return channels + -channels % multiple

        with self.name_scope():
            self.features = NativeLayers(prefix="")
            in_channels = width(STEM)
            self._add_convolution(in_channels, 3, 3, stem_strides, norm, "first-3x3-conv-")
            for s, ((t, c, first), blocks) in enumerate(zip(SEQUENCES, DEPTHS[depth])):
                channels = width(c)
                if strides:
                    first = 2 if c in strides else 1
                for i in range(blocks):
                    self.features.add(
                        IGCV3Block(
                            channels,
                            in_channels,
                            t,
                            1 if i else first,
                            shortcut=i > 0,
                            partitions=partitions,
                            block=block,
                            norm_layer=norm_layer,
                            norm_kwargs=norm_kwargs,
                            prefix=f"seq-{s}-block{i}-",
                        )
                    )
                    in_channels = channels
            last_channels = width(LAST) if last_channels is None else last_channels
            self._add_convolution(last_channels, in_channels, 1, 1, norm, "last-1x1-conv-")
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=last_channels, weight_initializer=SCORE_INIT, prefix="fc_")

    def _add_convolution(
        self, channels: int, in_channels: int, kernel: int, strides: int, norm: Any, prefix: str
    ) -> None:
        self.features.add(
            nn.Conv2D(
                channels,
                kernel,
                strides,
                kernel // 2,
                use_bias=False,
                in_channels=in_channels,
                weight_initializer=CONVOLUTION_INIT,
                prefix=f"{prefix}conv2d_",
            ),
            batch_norm(channels, norm[0], norm[1], f"{prefix}batchnorm_"),
            ReLU6(prefix=f"{prefix}relu6_"),
        )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


IMAGENET: Dict[str, Any] = {"classes": 1000, "input_size": 224, "mean": MEAN, "std": STD, "schedule": "igcv2"}


@register("igcv3_d{depth}", [{"depth": 0.5}, {"depth": 0.7}], **IMAGENET)
@register("igcv3_{multiplier}", [{"multiplier": 1.0}, {"multiplier": 0.7}], **IMAGENET)
def _imagenet(classes: int, multiplier: float = 1.0, depth: float = 1.0, prefix: str = "", **kwargs: Any) -> IGCV3Net:
    return IGCV3Net(classes, multiplier, depth, prefix=prefix, **kwargs)


@register("cifar_igcv3_d{depth}", [{"depth": 0.5}, {"depth": 0.7}, {"depth": 1.0}])
def _small(
    classes: int,
    depth: float,
    strides: Tuple[int, ...] = (32, 64),
    stem_strides: int = 1,
    prefix: str = "",
    **kwargs: Any,
) -> IGCV3Net:
    return IGCV3Net(classes, depth=depth, strides=strides, stem_strides=stem_strides, prefix=prefix, **kwargs)


@register("cifar_igcv3_{multiplier}", [{"multiplier": 0.5}])
def _small_by_width(classes: int, multiplier: float, **kwargs: Any) -> IGCV3Net:
    return _small(classes, 1.0, multiplier=multiplier, **kwargs)
