"""The blocks of IGCV2: Interleaved Structured Sparse Convolution, and the non-linear form of it for ImageNet.

On one spatial position the block computes

    y = P_L W_L P_{L-1} W_{L-1} ... P_1 W_1 x                                            (eq. 4)

with W_l block-diagonal, K_l channels a branch: W_1 a spatial convolution, the others 1x1. P_l = Reorder(C/K_l) deals
the K_l channels of every branch out to K_l places far apart. So the composed kernel is dense where the K_l multiply up
to C or more; where they multiply up to exactly C, one path leads from any channel to any other (eq. 6, the
complementary condition).
"""

from typing import Any, Dict, Optional, Sequence, Tuple

from mxnet.gluon import nn

from igc_gluon.errors import UserError, nearest_valid
from igc_gluon.nn.basic import InterleavedBlock, OrderedBlock, batch_norm
from igc_gluon.nn.igcv1 import GroupConv2D
from igc_gluon.nn.permutation import ChannelPermutation


class IGCV2Block(InterleavedBlock, OrderedBlock):
    """y = P_L W_L ... P_1 W_1 x, then BN and ReLU: (N, in_channels, H, W) -> (N, channels, H', W').

    There is no non-linearity between the group convolutions. A permutation that moves nothing, as that after a
    channel-wise convolution, is left out.

    Raises UserError with fewer than two K, where a K does not divide the channels, or on an even kernel.

    Parameters
    ----------
    branch_channels : sequence of int
        K_1, ..., K_L, the channels of a branch that go into each group convolution; every K_l divides `in_channels`.
        K_1 = 1, a channel-wise spatial convolution, is the paper's choice; K_1 = 2 makes Table 5's IGCV2 I.
    channels : int, in_channels : int (default `channels`)
        Where they differ, the last 1x1 convolution changes the width: its branches go from K_L to
        K_L * channels/in_channels channels.
    kernel_size : int (odd), strides : int
        Of the spatial convolution; H' = ceil(H / strides).
    activation : 'relu' or None
    norm_layer, norm_kwargs : the normalization and its arguments, as in GluonCV.
    """

    def __init__(
        self,
        branch_channels: Sequence[int],
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
        branch_channels = tuple(branch_channels)
        _check_odd(kernel_size)
        if len(branch_channels) < 2:
            raise UserError(
                "an IGCV2 block needs a spatial convolution and at least one 1x1 convolution: give "
                f"K_1, K_2, ..., not {branch_channels}"
            )
        for number, K in enumerate(branch_channels, 1):
            if K < 1 or in_channels % K:
                nearest = nearest_valid(K, lambda n: in_channels % n == 0, largest=in_channels)
                raise UserError(
                    f"K_{number} = {K} does not divide {in_channels} channels into equal branches; nearest "
                    f"that does: {nearest}"
                )
        self._depth = len(branch_channels)  # L
        with self.name_scope():
            for l, K in enumerate(branch_channels, 1):  # noqa: E741 (the paper's index)
                width = channels if l == self._depth else in_channels
                branches = in_channels // K
                kernel, stride = ((kernel_size,) * 2, (strides,) * 2) if l == 1 else ((1, 1), (1, 1))
                setattr(self, f"W{l}", GroupConv2D(width, in_channels, branches, kernel, stride, prefix=f"conv{l}_"))
                setattr(
                    self, f"P{l}", ChannelPermutation(branches, prefix=f"reorder{l}_") if 1 < branches < width else None
                )
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)
            self.relu = nn.Activation(activation, prefix="relu_") if activation else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        for l in range(1, self._depth + 1):  # noqa: E741
            W, P = getattr(self, f"W{l}"), getattr(self, f"P{l}")
            x = W(x) if P is None else P(W(x))
        x = self.bn(x)
        return x if self.relu is None else self.relu(x)


class NonlinearIGCV2Block(InterleavedBlock, OrderedBlock):
    """IGCV2's block for ImageNet (Fig. 5b): (N, in_channels, H, W) -> (N, channels, H', W').

    Channel-wise convolution, BN, ReLU, 1x1 group convolution, BN, permutation, 1x1 group convolution, BN, ReLU,
    permutation. The last convolution changes the width.

    `partitions` are g1 and g2, the numbers of branches of the two 1x1 convolutions. With the paper's 8 the composed
    kernel is dense from 64 input channels on: the loose complementary condition.
    Raises UserError where a number of branches does not divide the channels, or on an even kernel.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        partitions: Tuple[int, int] = (8, 8),
        kernel_size: int = 3,
        strides: int = 1,
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_odd(kernel_size)
        first, second = partitions
        with self.name_scope():
            self.depthwise = GroupConv2D(
                in_channels, in_channels, in_channels, (kernel_size,) * 2, (strides,) * 2, prefix="conv1_"
            )
            self.bn1 = batch_norm(in_channels, norm_layer, norm_kwargs, prefix="bn1_")
            self.relu1 = nn.Activation("relu", prefix="relu1_")
            self.pointwise1 = GroupConv2D(in_channels, in_channels, first, prefix="conv2_")
            self.bn2 = batch_norm(in_channels, norm_layer, norm_kwargs, prefix="bn2_")
            self.permute1 = ChannelPermutation(first, prefix="reorder2_")
            self.pointwise2 = GroupConv2D(channels, in_channels, second, prefix="conv3_")
            self.bn3 = batch_norm(channels, norm_layer, norm_kwargs, prefix="bn3_")
            self.relu2 = nn.Activation("relu", prefix="relu3_")
            self.permute2 = ChannelPermutation(second, prefix="reorder3_")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.relu1(self.bn1(self.depthwise(x)))
        x = self.permute1(self.bn2(self.pointwise1(x)))
        return self.permute2(self.relu2(self.bn3(self.pointwise2(x))))


def _check_odd(kernel_size: int) -> None:
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise UserError(f"the kernel size must be odd and positive, not {kernel_size}")
