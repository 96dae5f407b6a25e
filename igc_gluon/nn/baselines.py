"""Blocks that the papers compare IGC with."""
from mxnet.gluon import HybridBlock, nn

from igc_gluon.nn.basic import CONVOLUTION_INIT, batch_norm


class SumFusion(HybridBlock):
    """Summation fusion (IGCV1, eq. 21 and Table 2): L convolutions of the same input, summed, then BN and ReLU.

    (N, in_channels, H, W) -> (N, channels, H', W'). As all L branches (`primary_partition`) read the same channels,
    they are one convolution with L * channels outputs, of which the L groups are added up.
    """

    def __init__(self, primary_partition, channels, in_channels, kernel_size=3, strides=1,
                 norm_layer=nn.BatchNorm, norm_kwargs=None, **kwargs):
        super().__init__(**kwargs)
        self._branches = primary_partition
        with self.name_scope():
            self.conv = nn.Conv2D(primary_partition * channels, kernel_size, strides, kernel_size // 2, use_bias=False,
                                  in_channels=in_channels, weight_initializer=CONVOLUTION_INIT, prefix="conv_")
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)

    def hybrid_forward(self, F, x):
        branches = F.reshape(self.conv(x), shape=(0, -4, self._branches, -1, -2))
        return F.Activation(self.bn(F.sum(branches, axis=1)), act_type="relu")
