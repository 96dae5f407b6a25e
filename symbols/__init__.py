"""The networks of the IGCV1 paper as symbols for `mx.mod.Module`, with the authors' parameter names.

    >>> symbol = symbols.get_symbol("plain_igc", num_classes=10, depth=38, primary_partition=24,
    ...                             secondary_partition=2)
    >>> module = mx.mod.Module(symbol)

IGCV3 for ImageNet has other arguments and stands apart: `symbols.igcv3.get_symbol(num_classes=1000, multiplier=1.0)`.

They are defined independently of `igc_gluon`, whose networks are tested against them. On NumPy 1.24 and later
MXNet itself cannot be imported unless `igc_gluon` was imported before it.

A trap of MXNet 1.9.1 on the CPU: BatchNorm's backward pass writes the moving statistics, and who reads them
does not wait for it. `Module.fit` can so lose those of an epoch's last step, unless it is given
`batch_end_callback=lambda _: mx.nd.waitall()`.
"""

from symbols import igcv3, plain, plain_igc, resnet, resnet_igc, resnet_igc_imgnet_d18, resnet_imgnet_d18, sumfusion

__all__ = [
    "NETWORKS",
    "get_symbol",
    "igcv3",
    "plain",
    "plain_igc",
    "resnet",
    "resnet_igc",
    "resnet_igc_imgnet_d18",
    "resnet_imgnet_d18",
    "sumfusion",
]

NETWORKS = {
    "plain": plain,
    "plain_igc": plain_igc,
    "resnet": resnet,
    "resnet_igc": resnet_igc,
    "sumfusion": sumfusion,
    "resnet_imgnet_d18": resnet_imgnet_d18,
    "resnet_igc_imgnet_d18": resnet_igc_imgnet_d18,
}


def get_symbol(network, num_classes, depth, primary_partition, secondary_partition, **options):
    """The SoftmaxOutput symbol of `network`, a name in NETWORKS; the arguments are those of its `get_symbol`.

    Raises ValueError for an unknown network or an invalid argument.
    """
    if network not in NETWORKS:
        raise ValueError(f"unknown network {network!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[network].get_symbol(num_classes, depth, primary_partition, secondary_partition, **options)
