"""`plain_igc`: IGC blocks without shortcuts, IGC-LxMy in Tables 2 and 3 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import (
    PLAIN_BN_MOMENTUM,
    batch_norm,
    check_sizes,
    classifier,
    conv_bn_relu,
    igc,
    plain_blocks,
    relu,
    stages,
)


def get_symbol(num_classes, depth, primary_partition, secondary_partition):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 32, 32) images.

    Parameters
    ----------
    num_classes : int
    depth : int
        3B + 2, with B blocks in each of the three stages.
    primary_partition : int
        L, the same in all stages.
    secondary_partition : int
        M of the first stage, whose width is L*M. Width and M double from stage to stage.

    Raises ValueError for an argument that is not a positive integer, or a depth of another form.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    blocks = plain_blocks(depth)
    stem = primary_partition * secondary_partition

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", stem, 3, PLAIN_BN_MOMENTUM)
    for name, width, stride in stages(blocks, stem):
        data = igc(data, name, width, primary_partition, width // primary_partition, stride)
        data = batch_norm(data, f"{name}_bn", PLAIN_BN_MOMENTUM)
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes)
