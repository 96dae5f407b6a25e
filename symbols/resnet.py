"""`resnet`: regular 3x3 convolutions with shortcuts, RegConv-Wc + Ident. in Table 5 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import (
    RESIDUAL_BN_MOMENTUM,
    check_sizes,
    classifier,
    conv_bn,
    conv_bn_relu,
    relu,
    residual_blocks,
    stages,
)


def get_symbol(num_classes, depth, primary_partition, secondary_partition):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 32, 32) images.

    Parameters
    ----------
    num_classes : int
    depth : int
        Even and at least 8: the stem, two layers a block, the classifier. 6B + 2 has B blocks in each stage.
    primary_partition, secondary_partition : int
        Only their product counts: the width of the first stage. It doubles from stage to stage.

    Raises ValueError for an argument that is not a positive integer, or a depth of another form.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    blocks = residual_blocks(depth)
    stem = primary_partition * secondary_partition

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", stem, 3, RESIDUAL_BN_MOMENTUM)
    for name, width, stride in stages(blocks, stem):
        shortcut = data
        if stride == 2:
            shortcut = conv_bn(data, f"{name}_p0_line", width, 1, RESIDUAL_BN_MOMENTUM, stride)
        data = conv_bn_relu(data, f"{name}_p2_two1", width, 3, RESIDUAL_BN_MOMENTUM, stride)
        data = conv_bn(data, f"{name}_p2_two2", width, 3, RESIDUAL_BN_MOMENTUM)
        data = mx.sym.elemwise_add(shortcut, data, name=f"{name}_sum")
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes, pool="pool", fc="fc")
