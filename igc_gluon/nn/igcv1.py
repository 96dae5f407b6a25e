"""The interleaved group convolution block of IGCV1 (section 3.1).

On one spatial position the block computes

    x' = P W^s P^T W^p x                                                        (eq. 1 to 6)

with W^p block-diagonal in L primary partitions of M channels (a spatial convolution each), P^T the permutation that
collects the m-th channel of every primary partition into the m-th secondary partition, W^s block-diagonal in M
secondary partitions of L channels (a 1x1 convolution each), and P the permutation back. BN and ReLU follow; there is
no non-linearity between the two group convolutions (footnote 4: it hurts), but as an option.
"""

from typing import Any, Dict, Optional, Tuple

from mxnet.gluon import nn

from igc_gluon.errors import UserError
from igc_gluon.nn.basic import CONVOLUTION_INIT, InterleavedBlock, OrderedBlock, batch_norm
from igc_gluon.nn.permutation import ChannelPermutation

# Which of the two group convolutions is spatial (section 4, Extensions and variants), for a kernel size k and strides
# s: the primary group convolution, one or two successive ones, and the secondary one, each a (kernel, strides).
# A dense 1x1 convolution in place of the secondary one is GPCBlock.
SPATIAL_FORMS = {
    "primary": lambda k, s: ([((k, k), (s, s))], ((1, 1), (1, 1))),
    "secondary": lambda k, s: ([((1, 1), (1, 1))], ((k, k), (s, s))),
    "both": lambda k, s: ([((k, k), (s, s))], ((k, k), (1, 1))),
    "separable": lambda k, s: ([((k, 1), (s, 1)), ((1, k), (1, s))], ((1, 1), (1, 1))),
}
BETWEEN = (None, "relu")


class GroupConv2D(nn.Conv2D):
    """A group convolution without bias, eq. 1: (N, in_channels, H, W) -> (N, channels, H', W').

    Both the primary and the secondary group convolution are one: the channels are cut into `partitions` groups of
    equal size, and no weight connects two groups. Weight: (channels, in_channels/partitions, kernel height, kernel
    width). Padding keeps the size at stride 1. Raises UserError where `partitions` does not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        partitions: int,
        kernel_size: Tuple[int, int] = (1, 1),
        strides: Tuple[int, int] = (1, 1),
        **kwargs: Any,
    ) -> None:
        for what, number in (("input", in_channels), ("output", channels)):
            if partitions < 1 or number < 1 or number % partitions:
                raise UserError(
                    f"a group convolution with {partitions} partitions needs a multiple of {partitions} "
                    f"{what} channels, not {number}"
                    if partitions >= 1
                    else f"a group convolution needs at least one partition, not {partitions}"
                )
        super().__init__(
            channels,
            kernel_size,
            strides,
            tuple(k // 2 for k in kernel_size),
            groups=partitions,
            use_bias=False,
            in_channels=in_channels,
            weight_initializer=CONVOLUTION_INIT,
            **kwargs,
        )


class IGCBlock(InterleavedBlock, OrderedBlock):
    """x' = P W^s P^T W^p x, then BN and ReLU: (N, in_channels, H, W) -> (N, channels, H', W').

    Raises UserError where a number of partitions does not divide the channels, or on an even kernel.

    Parameters
    ----------
    primary_partition : int
        L, the number of primary partitions; divides `in_channels` and `channels`.
    channels : int
        The block's width G. At `in_channels == channels` it has L partitions of M = G/L channels.
    in_channels : int, default `channels`
        Fewer or more than `channels` in a down-sampling block: the primary group convolution then maps L partitions
        of in_channels/L to L partitions of channels/L.
    kernel_size : int (odd), strides : int
        Of the spatial group convolution; H' = ceil(H / strides).
    spatial : 'primary' (the paper's choice), 'secondary', 'both' or 'separable'
        The paper's variants (section 4): the spatial kernel and the strides in the secondary group convolution
        instead; the kernel in both, the strides in the primary one; or the primary one as k x 1 followed by 1 x k,
        the stride split over the two.
    bottleneck : int, a divisor of M
        The primary group convolution has channels / bottleneck outputs, from which the secondary one makes `channels`
        (section 4, 'like a bottleneck design'): there are M / bottleneck secondary partitions, of L channels that
        become L * bottleneck. 1 is the paper's choice.
    between : None (the paper's choice) or 'relu'
        An activation between the two group convolutions (footnote 4).
    secondary_partition : int, default channels / bottleneck / primary_partition (= M / bottleneck)
        Other values are for the authors' code, whose first block of a down-sampling stage of `resnet_igc` has
        in_channels/L secondary partitions; the second permutation is then not the inverse of the first.
    activation : 'relu' or None
    norm_layer, norm_kwargs : the normalization and its arguments, as in GluonCV.
    """

    def __init__(
        self,
        primary_partition: int,
        channels: int,
        in_channels: Optional[int] = None,
        kernel_size: int = 3,
        strides: int = 1,
        spatial: str = "primary",
        secondary_partition: Optional[int] = None,
        bottleneck: int = 1,
        between: Optional[str] = None,
        activation: Optional[str] = "relu",
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if spatial not in SPATIAL_FORMS:
            raise UserError(f"spatial must be one of {', '.join(SPATIAL_FORMS)}, not {spatial!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise UserError(f"the kernel size must be odd and positive, not {kernel_size}")
        if primary_partition < 1 or channels % primary_partition:
            raise UserError(f"{channels} channels cannot be cut into {primary_partition} primary partitions")
        if not isinstance(bottleneck, int) or bottleneck < 1 or channels // primary_partition % bottleneck:
            raise UserError(
                f"the bottleneck must divide M = {channels // primary_partition}, the channels of a primary "
                f"partition, not {bottleneck}"
            )
        if between not in BETWEEN:
            raise UserError(f"between must be {' or '.join(map(str, BETWEEN))}, not {between!r}")
        in_channels, middle = in_channels or channels, channels // bottleneck
        secondary_partition = secondary_partition or middle // primary_partition
        primary, secondary = SPATIAL_FORMS[spatial](kernel_size, strides)
        first, *second = primary
        with self.name_scope():
            self.primary = GroupConv2D(middle, in_channels, primary_partition, *first, prefix="conv1_")
            self.primary_across = (
                GroupConv2D(middle, middle, primary_partition, *second[0], prefix="conv1_1_") if second else None
            )
            self.between = nn.Activation(between, prefix="between_") if between else None
            self.permute = ChannelPermutation(primary_partition, prefix="reorder1_")
            self.secondary = GroupConv2D(channels, middle, secondary_partition, *secondary, prefix="conv2_")
            self.permute_back = ChannelPermutation(secondary_partition, prefix="reorder2_")
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)
            self.relu = nn.Activation(activation, prefix="relu_") if activation else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.primary(x)  # W^p
        if self.primary_across is not None:  # 'separable': 1 x k after k x 1
            x = self.primary_across(x)
        if self.between is not None:
            x = self.between(x)
        x = self.permute(x)  # P^T
        x = self.secondary(x)  # W^s
        x = self.permute_back(x)  # P
        x = self.bn(x)
        return x if self.relu is None else self.relu(x)
