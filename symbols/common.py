"""What the CIFAR networks of this folder share: layers with the authors' settings, the stages, and checks.

Every node is named here or by its caller, so that two symbols built in one process have equal names.
"""

from numbers import Integral, Real

import mxnet as mx

# The authors' code uses the first in its networks without shortcuts, the second in those with.
PLAIN_BN_MOMENTUM = 0.99
RESIDUAL_BN_MOMENTUM = 0.9


def conv(data, name, width, kernel, stride=1, groups=1):
    """Convolution to `width` channels without bias, padded so that stride 1 keeps the map's size."""
    return mx.sym.Convolution(
        data,
        num_filter=width,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2, kernel // 2),
        num_group=groups,
        no_bias=True,
        name=name,
    )


def batch_norm(data, name, momentum):
    return mx.sym.BatchNorm(data, eps=2e-5, momentum=momentum, fix_gamma=False, name=name)


def relu(data, name):
    return mx.sym.Activation(data, act_type="relu", name=name)


def conv_bn(data, name, width, kernel, momentum, stride=1, groups=1):
    """The layers `<name>_conv` and `<name>_bn`."""
    data = conv(data, f"{name}_conv", width, kernel, stride, groups)
    return batch_norm(data, f"{name}_bn", momentum)


def conv_bn_relu(data, name, width, kernel, momentum, stride=1):
    return relu(conv_bn(data, name, width, kernel, momentum, stride), f"{name}_relu")


def reorder(data, name, branch_factor):
    """The authors' Reorder operator: channel j*b + i of the output is channel i*(C/b) + j of the input, b =
    `branch_factor`, C channels. Reorder with C/b is the inverse."""
    data = mx.sym.reshape(data, shape=(0, -4, branch_factor, -1, -2), name=f"{name}_split")
    data = mx.sym.swapaxes(data, dim1=1, dim2=2, name=f"{name}_swap")
    return mx.sym.reshape(data, shape=(0, -3, -2), name=name)


def igc(data, name, width, primary_partition, secondary_partition, stride=1):
    """x' = P Ws P^T Wp x, equation 5 of the IGCV1 paper: layers `<name>_{conv1,reorder1,conv2,reorder2}`.

    (N, kin, H, W) to (N, width, H/stride, W/stride). conv1 is Wp, 3x3; reorder1 is P^T; conv2 is Ws, 1x1;
    reorder2 is P where primary_partition * secondary_partition = width.
    """
    data = conv(data, f"{name}_conv1", width, 3, stride, groups=primary_partition)
    data = reorder(data, f"{name}_reorder1", primary_partition)
    data = conv(data, f"{name}_conv2", width, 1, groups=secondary_partition)
    return reorder(data, f"{name}_reorder2", secondary_partition)


def classifier(data, num_classes, pool="global_pool", fc="fc_score"):
    """Average over the map, one fully connected layer, softmax with the label `softmax_label`.

    The authors call the first two `pool` and `fc` in their networks with shortcuts.
    """
    data = mx.sym.Pooling(data, global_pool=True, kernel=(8, 8), pool_type="avg", name=pool)
    data = mx.sym.Flatten(data, name="flatten")
    data = mx.sym.FullyConnected(data, num_hidden=num_classes, name=fc)
    return mx.sym.SoftmaxOutput(data, name="softmax")


def stages(blocks_per_stage, width):
    """Yields (name, width, stride) of every block: the width doubles from stage to stage, and the first block
    of each stage but the first has stride 2."""
    for stage, blocks in enumerate(blocks_per_stage):
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            yield f"g{stage + 1}_b{block + 1}", width * 2**stage, stride


def plain_blocks(depth):
    """Blocks per stage of a network without shortcuts: depth = 3B + 2, a layer or an IGC block each.

    Raises ValueError that names the nearest valid depths.
    """
    check_depth(depth, smallest=5, step=3)
    return [(depth - 2) // 3] * 3


def residual_blocks(depth):
    """Blocks per stage of a network with shortcuts, two layers each, by the authors' rule: what depth is left
    is shared evenly by the stages that are left, so a remainder goes to the last ones.

    Raises ValueError that names the nearest valid depths.
    """
    check_depth(depth, smallest=8, step=2)
    left = (depth - 2) // 2
    blocks = []
    for stages_left in (3, 2, 1):
        blocks.append(left // stages_left)
        left -= blocks[-1]
    return blocks


def imagenet_blocks():
    """Yields (name, stage from 0, stride) of the eight blocks of ResNet-18."""
    for stage in range(4):
        for block in range(2):
            yield f"g{stage + 1}_b{block + 1}", stage, 2 if stage > 0 and block == 0 else 1


def imagenet_depth(depth):
    """Raises ValueError unless depth is 18."""
    if not _is_integer(depth) or depth != 18:
        raise ValueError(f"depth must be 18, not {_shown(depth)}")


def check_sizes(num_classes, primary_partition, secondary_partition):
    """Raises ValueError for the first argument that is not a positive integer."""
    for name, value in (
        ("num_classes", num_classes),
        ("primary_partition", primary_partition),
        ("secondary_partition", secondary_partition),
    ):
        if not _is_integer(value) or value < 1:
            raise ValueError(f"{name} must be a positive integer, not {_shown(value)}")


def check_depth(depth, smallest, step):
    """Raises ValueError unless depth is one of smallest, smallest + step, smallest + 2 * step, ..."""
    if _is_integer(depth) and depth >= smallest and (depth - smallest) % step == 0:
        return
    valid = f"{smallest}, {smallest + step}, {smallest + 2 * step}, ..."
    message = f"depth must be one of {valid}, not {_shown(depth)}"
    if isinstance(depth, Real) and abs(depth) < float("inf"):
        below = smallest + step * int((depth - smallest) // step)
        nearest = [near for near in (below, below + step) if near >= smallest and near - depth < step]
        message += f"; the nearest: {' and '.join(map(str, nearest or [smallest]))}"
    raise ValueError(message)


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _shown(value):
    # An array or a symbol would print as more than the one line that an error message is.
    return repr(value) if isinstance(value, (Real, str)) else f"a {type(value).__name__}"
