"""`resnet_igc_imgnet_d18`: ResNet-18 of IGC blocks for ImageNet, IGC-LxMy in Table 6 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import (
    RESIDUAL_BN_MOMENTUM,
    batch_norm,
    check_sizes,
    classifier,
    conv_bn,
    conv_bn_relu,
    igc,
    imagenet_blocks,
    imagenet_depth,
    relu,
)


def get_symbol(num_classes=1000, depth=18, primary_partition=100, secondary_partition=1, doubled="primary"):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 224, 224) images.

    The names are those of the published checkpoints; the authors' code says `igc1`, `igc2` for `conv1`, `conv2` of a
    block.

    Parameters
    ----------
    num_classes : int
    depth : 18
    primary_partition, secondary_partition : int
        L and M of the stem, as the authors' code takes them: it has L*M channels.
    doubled : {'primary', 'secondary'}
        Which of the two doubles from stage to stage, with the width. 'primary' is all that the authors' code builds:
        stages of 2LM, 4LM, 8LM, 16LM channels with L, 2L, 4L, 8L primary and 2M secondary partitions; the published
        L100M2, which the paper calls by the first stage, is L = 100, M = 1. 'secondary', which made the published L4M32
        and L16M16: stages of LM, 2LM, 4LM, 8LM channels, L stays.

    Raises ValueError for another `doubled`, an argument that is not a positive integer, or another depth.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    imagenet_depth(depth)
    if doubled not in ("primary", "secondary"):
        raise ValueError(f"doubled must be 'primary' or 'secondary', not {doubled!r}")
    stem = primary_partition * secondary_partition
    width = 2 * stem if doubled == "primary" else stem

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", stem, 7, RESIDUAL_BN_MOMENTUM, 2)
    data = mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name="g0_pool")
    for name, stage, stride in imagenet_blocks():
        channels = width * 2**stage
        L = primary_partition * 2**stage if doubled == "primary" else primary_partition
        M = channels // L
        shortcut = data
        if stride == 2 or (name == "g1_b1" and stem != width):
            shortcut = conv_bn(data, f"{name}_proj", channels, 1, RESIDUAL_BN_MOMENTUM, stride, groups=L)
        data = igc(data, f"{name}_conv1", channels, L, M, stride)
        data = relu(batch_norm(data, f"{name}_conv1_bn", RESIDUAL_BN_MOMENTUM), f"{name}_conv1_relu")
        data = igc(data, f"{name}_conv2", channels, L, M)
        data = batch_norm(data, f"{name}_conv2_bn", RESIDUAL_BN_MOMENTUM)
        data = mx.sym.elemwise_add(shortcut, data, name=f"{name}_sum")
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes)
