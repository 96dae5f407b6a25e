"""The block of IGCV3: low-rank group convolutions around a channel-wise one (IGCV2 paper, section 5.2).

A 1x1 group convolution widens by the factor t, a channel-wise 3x3 convolution follows, and a second 1x1 group
convolution narrows again: MobileNetV2's block with two branches, which costs half, so that networks are twice as deep.
"""

from typing import Any, Dict, Optional, Tuple

from mxnet.gluon import HybridBlock, nn

from igc_gluon.errors import UserError
from igc_gluon.graph import Native
from igc_gluon.nn.basic import InterleavedBlock, OrderedBlock, batch_norm
from igc_gluon.nn.igcv1 import GroupConv2D
from igc_gluon.nn.permutation import ChannelPermutation, inverse_branch_factor

IGCV3_FORMS = ("released", "paper")


class ReLU6(HybridBlock):
    """min(max(x, 0), 6)"""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, 0, 6)


class LowRankConvolutions(Native, OrderedBlock):
    """What an IGCV3Block adds to its input: widen, convolve channel by channel, narrow again; see there."""

    def __init__(
        self,
        channels: int,
        in_channels: int,
        expansion: int,
        strides: int,
        partitions: Tuple[int, int],
        as_paper: bool,
        norm: Tuple[type, Optional[Dict[str, Any]]],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        first, second = partitions
        width = expansion * in_channels
        with self.name_scope():
            self.expand = GroupConv2D(width, in_channels, first, prefix="exp-conv2d_")
            self.bn1 = batch_norm(width, *norm, prefix="exp-batchnorm_")
            self.relu1 = ReLU6(prefix="exp-relu6_") if as_paper else None
            self.permute1 = ChannelPermutation(first, prefix="exp-reorder_")
            self.depthwise = GroupConv2D(width, width, width, (3, 3), (strides, strides), prefix="depthwise-conv2d_")
            self.bn2 = batch_norm(width, *norm, prefix="depthwise-batchnorm_")
            self.relu2 = ReLU6(prefix="depthwise-relu6_")
            self.narrow = GroupConv2D(channels, width, second, prefix="linear-conv2d_")
            self.bn3 = batch_norm(channels, *norm, prefix="linear-batchnorm_")
            self.permute2 = (
                ChannelPermutation(inverse_branch_factor(channels, second), prefix="linear-reorder_")
                if as_paper
                else None
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.bn1(self.expand(x))
        if self.relu1 is not None:
            x = self.relu1(x)
        x = self.relu2(self.bn2(self.depthwise(self.permute1(x))))
        x = self.bn3(self.narrow(x))
        return x if self.permute2 is None else self.permute2(x)


class IGCV3Block(InterleavedBlock):
    """(N, in_channels, H, W) -> (N, channels, H', W'), plus the input where `shortcut` is true.

    Layers are named as in the authors' graph: exp-conv2d, exp-batchnorm, depthwise-conv2d, ...
    Raises UserError where a number of branches does not divide the channels, or the shortcut cannot be.

    Parameters
    ----------
    channels, in_channels : int
    expansion : int
        t: the channel-wise convolution has t * in_channels channels.
    strides : int
        Of the channel-wise convolution; H' = ceil(H / strides).
    shortcut : bool
        Adds the input to the output; needs strides 1 and channels = in_channels.
    partitions : (g1, g2)
        Numbers of branches of the first and the second 1x1 convolution.
    block : 'released' or 'paper'
        'released' is the graph of the authors' checkpoint: no ReLU6 after the first convolution and one permutation.
        'paper' is Fig. 6(b): ReLU6 after the first convolution too, and a second permutation, Reorder(channels/g2),
        at the end.
    norm_layer, norm_kwargs : the normalization and its arguments, as in GluonCV.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        expansion: int = 6,
        strides: int = 1,
        shortcut: bool = False,
        partitions: Tuple[int, int] = (2, 2),
        block: str = "released",
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if block not in IGCV3_FORMS:
            raise UserError(f"an IGCV3 block is one of {', '.join(IGCV3_FORMS)}, not {block!r}")
        if shortcut and (strides != 1 or channels != in_channels):
            raise UserError(
                "a block with a shortcut needs stride 1 and as many channels out as in, not stride "
                f"{strides} and {in_channels} -> {channels}"
            )
        self._shortcut = shortcut
        with self.name_scope():
            self.body = LowRankConvolutions(
                channels,
                in_channels,
                expansion,
                strides,
                partitions,
                block == "paper",
                (norm_layer, norm_kwargs),
                prefix="",
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return x + self.body(x) if self._shortcut else self.body(x)
