"""`resnet_imgnet_d18`: ResNet-18 for ImageNet, ResNet (C=64) and (C=69) in Table 6 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import (
    RESIDUAL_BN_MOMENTUM,
    batch_norm,
    check_sizes,
    classifier,
    conv,
    imagenet_blocks,
    imagenet_depth,
    relu,
)


def get_symbol(num_classes=1000, depth=18, primary_partition=64, secondary_partition=1):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 224, 224) images.

    Parameters
    ----------
    num_classes : int
    depth : 18
    primary_partition : int
        The width of stem and first stage. It doubles from stage to stage.
    secondary_partition : int
        Of no meaning, as in the authors' code.

    Raises ValueError for an argument that is not a positive integer, or another depth.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    imagenet_depth(depth)
    width = primary_partition

    data = relu(conv_bn(mx.sym.Variable("data"), "g0", width, 7, 2), "g0_relu")
    data = mx.sym.Pooling(data, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name="g0_pool")
    for name, stage, stride in imagenet_blocks():
        channels = width * 2**stage
        shortcut = conv_bn(data, f"{name}_proj", channels, 1, stride) if stride == 2 else data
        data = relu(conv_bn(data, f"{name}_conv1", channels, 3, stride), f"{name}_conv1_relu")
        data = conv_bn(data, f"{name}_conv2", channels, 3)
        data = mx.sym.elemwise_add(shortcut, data, name=f"{name}_sum")
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes)


def conv_bn(data, name, width, kernel, stride=1):
    """The layers `<name>` and `<name>_bn`."""
    return batch_norm(conv(data, name, width, kernel, stride), f"{name}_bn", RESIDUAL_BN_MOMENTUM)
