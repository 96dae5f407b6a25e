"""`plain`: regular 3x3 convolutions without shortcuts, RegConv-Wc in Tables 2 and 3 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import PLAIN_BN_MOMENTUM, check_sizes, classifier, conv_bn_relu, plain_blocks, stages


def get_symbol(num_classes, depth, primary_partition, secondary_partition):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 32, 32) images.

    Parameters
    ----------
    num_classes : int
    depth : int
        3B + 2, with B layers in each of the three stages.
    primary_partition, secondary_partition : int
        Only their product counts: the width of the first stage. It doubles from stage to stage.

    Raises ValueError for an argument that is not a positive integer, or a depth of another form.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    blocks = plain_blocks(depth)
    stem = primary_partition * secondary_partition

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", stem, 3, PLAIN_BN_MOMENTUM)
    for name, width, stride in stages(blocks, stem):
        data = conv_bn_relu(data, name, width, 3, PLAIN_BN_MOMENTUM, stride)
    return classifier(data, num_classes)
