"""`igcv3`: IGCV3 for ImageNet, the graph of the authors' checkpoint (IGCV2 paper, Tables 10 and 11)."""

import mxnet as mx

from symbols.common import check_sizes, reorder

# expansion, output channels, blocks, stride of the first block
SEQUENCES = [(1, 16, 1, 1), (6, 24, 4, 2), (6, 32, 6, 2), (6, 64, 8, 2), (6, 96, 6, 1), (6, 160, 6, 2), (6, 320, 1, 1)]


def get_symbol(num_classes=1000, multiplier=1.0):
    """The network as the output of a SoftmaxOutput named 'softmax'; it takes (N, 3, 224, 224) images.

    `multiplier` scales every width, to even numbers. The authors' code scales the input of each sequence twice, and the
    last convolution only above 1; here every width is scaled once, which gives the counts that they published for 0.7.

    Raises ValueError if num_classes is not a positive integer or multiplier not above 0.
    """
    check_sizes(num_classes, 1, 1)
    if not multiplier > 0:
        raise ValueError(f"multiplier must be above 0, not {multiplier}")

    def scaled(width):
        width = max(1, round(width * multiplier))
        return width + width % 2

    width_in = scaled(32)
    data = unit(mx.sym.Variable("data"), "first-3x3-conv", width_in, kernel=3, stride=2)
    for number, (expansion, width, blocks, stride) in enumerate(SEQUENCES):
        for block in range(blocks):
            name = f"seq-{number}-block{block}"
            out = inverted_residual(data, name, width_in, scaled(width), expansion, stride if block == 0 else 1)
            data = out if block == 0 else mx.sym.elemwise_add(data, out, name=f"{name}-shortcut")
            width_in = scaled(width)
    data = unit(data, "last-1x1-conv", scaled(1280))
    data = mx.sym.Pooling(data, global_pool=True, kernel=(7, 7), pool_type="avg", name="global_pool")
    data = mx.sym.Flatten(data, name="flatten")
    data = mx.sym.FullyConnected(data, num_hidden=num_classes, name="fc")
    return mx.sym.SoftmaxOutput(data, name="softmax")


def inverted_residual(data, name, width_in, width, expansion, stride):
    """1x1 group convolution, Reorder(2), 3x3 channel-wise convolution, 1x1 group convolution; 2 groups each.

    Only the channel-wise convolution is followed by ReLU6.
    """
    expanded = width_in * expansion
    data = unit(data, f"{name}-exp", expanded, groups=2, activation=False)
    data = reorder(data, f"{name}-exp-reorder", 2)
    data = unit(data, f"{name}-depthwise", expanded, kernel=3, stride=stride, groups=expanded)
    return unit(data, f"{name}-linear", width, groups=2, activation=False)


def unit(data, name, width, kernel=1, stride=1, groups=1, activation=True):
    """The layers `<name>-conv2d`, `<name>-batchnorm` and, with `activation`, `<name>-relu6`."""
    data = mx.sym.Convolution(
        data,
        num_filter=width,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        pad=(kernel // 2, kernel // 2),
        num_group=groups,
        no_bias=True,
        name=f"{name}-conv2d",
    )
    data = mx.sym.BatchNorm(data, eps=1e-5, momentum=0.9, fix_gamma=False, name=f"{name}-batchnorm")
    return mx.sym.clip(data, a_min=0, a_max=6, name=f"{name}-relu6") if activation else data
