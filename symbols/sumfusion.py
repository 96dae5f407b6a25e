"""`sumfusion`: summation fusion, SumFusion in Table 2 of the IGCV1 paper, without code of the authors.

In a block all L branches see the same input, and their outputs are added up. So the width is that of one
branch, M, where an IGC block with as many parameters has L*M.
"""

import mxnet as mx

from symbols.common import (
    PLAIN_BN_MOMENTUM,
    batch_norm,
    check_sizes,
    classifier,
    conv,
    conv_bn_relu,
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
        L, the number of branches.
    secondary_partition : int
        M, the width of the first stage. It doubles from stage to stage.

    Raises ValueError for an argument that is not a positive integer, or a depth of another form.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    blocks = plain_blocks(depth)

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", secondary_partition, 3, PLAIN_BN_MOMENTUM)
    for name, width, stride in stages(blocks, secondary_partition):
        # One convolution computes all branches: branch l is its channels l*width to (l+1)*width - 1.
        data = conv(data, f"{name}_conv", primary_partition * width, 3, stride)
        data = mx.sym.reshape(data, shape=(0, -4, primary_partition, -1, -2), name=f"{name}_branches")
        data = mx.sym.sum(data, axis=1, name=f"{name}_sum")
        data = batch_norm(data, f"{name}_bn", PLAIN_BN_MOMENTUM)
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes)
