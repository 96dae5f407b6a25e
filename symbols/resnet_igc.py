"""`resnet_igc`: IGC blocks with shortcuts, IGC-LxMy + Ident. in Table 5 of the IGCV1 paper."""

import mxnet as mx

from symbols.common import (
    RESIDUAL_BN_MOMENTUM,
    batch_norm,
    check_sizes,
    classifier,
    conv_bn,
    conv_bn_relu,
    igc,
    relu,
    residual_blocks,
    stages,
)


def get_symbol(num_classes, depth, primary_partition, secondary_partition, downsample="paper"):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 32, 32) images.

    Parameters
    ----------
    num_classes : int
    depth : int
        Even and at least 8: the stem, two IGCs a block, the classifier. 6B + 2 has B blocks in each stage.
    primary_partition : int
        L, the same in all stages.
    secondary_partition : int
        M of the first stage, whose width is L*M. Width and M double from stage to stage.
    downsample : {'paper', 'code'}
        How many secondary partitions the IGC with stride 2 has, which goes from kin to kout = 2 kin channels.
        'paper': kout/L, which gives the published counts. 'code': the kin/L of the authors' code, so each
        holds 2L channels and reorder2 does not undo reorder1.

    Raises ValueError for another `downsample`, an argument that is not a positive integer, or a depth of
    another form.
    """
    check_sizes(num_classes, primary_partition, secondary_partition)
    if downsample not in ("paper", "code"):
        raise ValueError(f"downsample must be 'paper' or 'code', not {downsample!r}")
    blocks = residual_blocks(depth)
    stem = primary_partition * secondary_partition

    data = conv_bn_relu(mx.sym.Variable("data"), "g0", stem, 3, RESIDUAL_BN_MOMENTUM)
    for name, width, stride in stages(blocks, stem):
        secondary = width // primary_partition
        shortcut, first_secondary = data, secondary
        if stride == 2:
            shortcut = conv_bn(
                data, f"{name}_p0_line", width, 1, RESIDUAL_BN_MOMENTUM, stride, groups=primary_partition
            )
            if downsample == "code":
                first_secondary = secondary // 2
        data = igc(data, f"{name}_p2_two1", width, primary_partition, first_secondary, stride)
        data = batch_norm(data, f"{name}_p2_two1_bn", RESIDUAL_BN_MOMENTUM)
        data = relu(data, f"{name}_p2_two1_relu")
        data = igc(data, f"{name}_p2_two2", width, primary_partition, secondary)
        data = batch_norm(data, f"{name}_p2_two2_bn", RESIDUAL_BN_MOMENTUM)
        data = mx.sym.elemwise_add(shortcut, data, name=f"{name}_sum")
        data = relu(data, f"{name}_relu")
    return classifier(data, num_classes, pool="pool", fc="fc")
