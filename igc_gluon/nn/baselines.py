"""Blocks that the papers compare IGC with."""

from typing import Any, Dict, Optional

from mxnet.gluon import HybridBlock, nn

from igc_gluon.graph import Native
from igc_gluon.nn.basic import CONVOLUTION_INIT, InterleavedBlock, OrderedBlock, batch_norm
from igc_gluon.nn.igcv1 import GroupConv2D


class SumFusion(Native, HybridBlock):
    """Summation fusion (IGCV1, eq. 21 and Table 2): L convolutions of the same input, summed, then BN and ReLU.

    (N, in_channels, H, W) -> (N, channels, H', W'). As all L branches (`primary_partition`) read the same channels,
    they are one convolution with L * channels outputs, of which the L groups are added up.
    """

    def __init__(
        self,
        primary_partition: int,
        channels: int,
        in_channels: int,
        kernel_size: int = 3,
        strides: int = 1,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._branches = primary_partition
        with self.name_scope():
            self.conv = nn.Conv2D(
                primary_partition * channels,
                kernel_size,
                strides,
                kernel_size // 2,
                use_bias=False,
                in_channels=in_channels,
                weight_initializer=CONVOLUTION_INIT,
                prefix="conv_",
            )
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        branches = F.reshape(self.conv(x), shape=(0, -4, self._branches, -1, -2))
        return F.Activation(self.bn(F.sum(branches, axis=1)), act_type="relu")


class GPCBlock(InterleavedBlock, OrderedBlock):
    """Group-and-Point-wise Convolution (IGCV1's supplementary): (N, in_channels, H, W) -> (N, channels, H', W').

    A spatial group convolution with L groups (`primary_partition`) on in_channels channels, a dense 1x1 convolution,
    BN and ReLU. 9 L M^2 + (L M)^2 weights at 3x3 and in_channels = channels = LM.
    Raises UserError where L does not divide the input channels.
    """

    def __init__(
        self,
        primary_partition: int,
        channels: int,
        in_channels: Optional[int] = None,
        kernel_size: int = 3,
        strides: int = 1,
        activation: Optional[str] = "relu",
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        in_channels = in_channels or channels
        with self.name_scope():
            self.spatial = GroupConv2D(
                in_channels, in_channels, primary_partition, (kernel_size,) * 2, (strides,) * 2, prefix="conv1_"
            )
            self.pointwise = GroupConv2D(channels, in_channels, 1, prefix="conv2_")
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)
            self.relu = nn.Activation(activation, prefix="relu_") if activation else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.bn(self.pointwise(self.spatial(x)))
        return x if self.relu is None else self.relu(x)


class XceptionBlock(GPCBlock):
    """Xception as both papers use it: the channel-wise spatial convolution first, then the dense 1x1 one, BN, ReLU.

    The extreme Group-and-Point-wise Convolution, M = 1 (IGCV1, section 4; IGCV2, section 3.1).
    """

    def __init__(self, channels: int, in_channels: Optional[int] = None, **kwargs: Any) -> None:
        super().__init__(in_channels or channels, channels, in_channels, **kwargs)
