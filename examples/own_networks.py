"""A custom block with a family of networks, which trains beside the papers' and on the same native kernels.

    igc info cifar_igc_bn20_l24m2 --import examples/own_networks.py
    python train_cifar.py --import examples/own_networks.py --network cifar_igc_bn8_l24m2 --dataset digits
    igc tables --table 4 --import examples/own_networks.py

The block is IGCV1's with a batch normalization between the two group convolutions. Everything of the papers' training
holds for it: schedule, optimizer, augmentation, checkpoints; `igc check`, `bench`, `eval`, `compile` take it too.
"""

from functools import partial

from igc_gluon.model_zoo import CIFARNet, register, stage_blocks
from igc_gluon.nn import ChannelPermutation, GroupConv2D, InterleavedBlock, batch_norm


class NormalizedIGC(InterleavedBlock):
    """x' = P W^s P^T BN(W^p x), then BN and ReLU: (N, in_channels, H, W) -> (N, channels, H', W')."""

    def __init__(self, L, channels, in_channels, strides=1, norm_layer=None, norm_kwargs=None, prefix=None):
        super().__init__(prefix=prefix)
        norm = [norm_layer, norm_kwargs] if norm_layer else []
        M = channels // L
        with self.name_scope():
            self.primary = GroupConv2D(channels, in_channels, L, (3, 3), (strides, strides), prefix="conv1_")
            self.bn1 = batch_norm(channels, *norm, prefix="bn1_")
            self.permute = ChannelPermutation(L, prefix="reorder1_")
            self.secondary = GroupConv2D(channels, channels, M, prefix="conv2_")
            self.permute_back = ChannelPermutation(M, prefix="reorder2_")
            self.bn2 = batch_norm(channels, *norm, prefix="bn2_")

    def hybrid_forward(self, F, x):
        x = self.permute(self.bn1(self.primary(x)))
        x = self.permute_back(self.secondary(x))
        return F.relu(self.bn2(x))


@register("cifar_igc_bn{depth}_l{l}m{m}", published=[{"depth": 8, "l": 24, "m": 2}, {"depth": 20, "l": 24, "m": 2}])
def normalized_igc(depth, l, m, classes, **options):
    """In three stages, as the papers' plain networks: L stays, M doubles with the width."""
    return CIFARNet(partial(NormalizedIGC, l), l * m, stage_blocks(depth), classes, **options)
