"""IGCV2 for ImageNet (Tables 8 and 9), by width multiplier: `igcv2_1.0`, `igcv2_0.5`, `igcv2_0.25`.

MobileNetV1's pattern with non-linear IGCV2 blocks of 8 branches, at twice its width. Two things that Table 8 says
differ here, because only so the printed 4.1, 1.3 and 0.5 M weights come out: 5 blocks at 14x14, as MobileNetV1 has
them, not 10; and the head is one 1x1 convolution with 2 branches, not two with 8 and 4. The network that Table
8 prints, of 5.4 M weights, is `get_model("igcv2_1.0", repeats=10, head_partition=(8, 4))`.
"""

from typing import Any, Dict, Optional, Sequence, Union

from mxnet.gluon import nn

from igc_gluon.data.registry import IMAGENET_MEAN, IMAGENET_STD
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.image_network import ImageNetwork
from igc_gluon.model_zoo.registry import register
from igc_gluon.nn import SCORE_INIT, ChannelPermutation, ConvBNReLU, GroupConv2D, NonlinearIGCV2Block, batch_norm
from igc_gluon.nn.basic import NativeLayers

PARTITION = 8  # g1 = g2
STEM = 64
REPEATS = 5
# output channels, number of blocks (None: `repeats`), strides of the first one (Table 8)
STAGES = (
    (128, 1, 1),
    (256, 1, 2),
    (256, 1, 1),
    (512, 1, 2),
    (512, 1, 1),
    (1024, 1, 2),
    (1024, None, 1),
    (2048, 1, 2),
    (2048, 1, 1),
)


class IGCV2Net(ImageNetwork):
    """(N, 3, H, W) -> (N, classes); the map shrinks 32 times before it is averaged.

    `multiplier` scales every width, to the nearest multiple of 8. `repeats` is the number of equal blocks at
    14x14. `head_partition` is the number of branches of the classifier, a 1x1 convolution, which must divide
    `classes`; or of each of several 1x1 convolutions, with BN and a permutation between them.
    """

    def __init__(
        self,
        multiplier: float,
        classes: int,
        head_partition: Union[int, Sequence[int]] = 2,
        repeats: int = REPEATS,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm: Dict[str, Any] = {"norm_layer": norm_layer, "norm_kwargs": norm_kwargs}

        def width(channels: int) -> int:
            return PARTITION * max(1, round(channels * multiplier / PARTITION))

        if multiplier <= 0:
            raise UserError(f"the width multiplier must be above 0, not {multiplier}")
        in_channels = width(STEM)
        if repeats < 0:
            raise UserError(f"the number of blocks at 14x14 must be at least 0, not {repeats}")
        *mixing, last = (
            (tuple(head_partition) or (0,)) if isinstance(head_partition, (tuple, list)) else (head_partition,)
        )
        if last < 1 or classes % last or width(STAGES[-1][0]) % last:
            raise UserError(
                f"{classes} classes cannot be split among the {last} branches of the classifier; "
                "give head_partition=1 for a fully connected one"
            )
        with self.name_scope():
            self.features = NativeLayers(prefix="")
            self.features.add(ConvBNReLU(in_channels, 3, strides=2, prefix="g0_", **norm))
            for stage, (channels, blocks, strides) in enumerate(STAGES, 1):
                channels = width(channels)
                for i in range(repeats if blocks is None else blocks):
                    self.features.add(
                        NonlinearIGCV2Block(
                            channels,
                            in_channels,
                            (PARTITION, PARTITION),
                            strides=1 if i else strides,
                            prefix=f"g{stage}_b{i + 1}_",
                            **norm,
                        )
                    )
                    in_channels = channels
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.HybridSequential(prefix="")
            for i, branches in enumerate(mixing, 1):
                self.output.add(
                    GroupConv2D(in_channels, in_channels, branches, prefix=f"mix{i}_"),
                    batch_norm(in_channels, prefix=f"mix{i}_bn_", **norm),
                    ChannelPermutation(branches, prefix=f"mix{i}_reorder_"),
                )
            self.output.add(
                nn.Conv2D(
                    classes, 1, groups=last, in_channels=in_channels, weight_initializer=SCORE_INIT, prefix="score_"
                ),
                nn.Flatten(),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


# Of the family, and of MobileNetV1, which the paper compares it with.
IMAGENET: Dict[str, Any] = dict(classes=1000, input_size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD, schedule="igcv2")


@register("igcv2_{multiplier}", [{"multiplier": m} for m in (1.0, 0.5, 0.25)], **IMAGENET)
def _igcv2(multiplier: float, classes: int, prefix: str = "", **kwargs: Any) -> IGCV2Net:
    return IGCV2Net(multiplier, classes, prefix=prefix, **kwargs)
