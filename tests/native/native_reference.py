"""What the native operations compute, in plain numpy and float64, straight from the equations."""

import numpy as np
from hypothesis import strategies as st

from igc_gluon.native import library as lib


def conv(x, weight, stride, pad, groups):
    """Group convolution, x (n, c, h, w), weight (outputs, c / groups, kh, kw)."""
    n, c, h, w = x.shape
    outputs, per_group, kh, kw = weight.shape
    padded = np.zeros((n, c, h + 2 * pad[0], w + 2 * pad[1]))
    padded[:, :, pad[0] : pad[0] + h, pad[1] : pad[1] + w] = x
    oh, ow = (h + 2 * pad[0] - kh) // stride + 1, (w + 2 * pad[1] - kw) // stride + 1
    result = np.zeros((n, groups, outputs // groups, oh, ow))
    kernel = weight.astype(np.float64).reshape(groups, outputs // groups, per_group, kh, kw)
    for dy in range(kh):
        for dx in range(kw):
            window = padded[:, :, dy : dy + stride * (oh - 1) + 1 : stride, dx : dx + stride * (ow - 1) + 1 : stride]
            window = window.reshape(n, groups, per_group, oh, ow)
            result += np.einsum("ngiyx,goi->ngoyx", window, kernel[..., dy, dx])
    return result.reshape(n, outputs, oh, ow)


def permute(x, groups):
    """out[j * b + i] = in[i * (C / b) + j] with b = groups."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).swapaxes(1, 2).reshape(x.shape)


def max_pool(x, kernel, stride, pad):
    n, c, h, w = x.shape
    padded = np.full((n, c, h + 2 * pad[0], w + 2 * pad[1]), -np.inf)
    padded[:, :, pad[0] : pad[0] + h, pad[1] : pad[1] + w] = x
    oh, ow = (h + 2 * pad[0] - kernel[0]) // stride + 1, (w + 2 * pad[1] - kernel[1]) // stride + 1
    return np.max(
        [
            padded[:, :, dy : dy + stride * (oh - 1) + 1 : stride, dx : dx + stride * (ow - 1) + 1 : stride]
            for dy in range(kernel[0])
            for dx in range(kernel[1])
        ],
        axis=0,
    )


def apply(op, tensors):
    """The result of a igc_gluon.native.library.Op, in float64. tensors: those before it."""
    y = tensors[op.input]
    if op.kind == lib.PERMUTE:
        return permute(y, op.groups)
    if op.kind == lib.MAX_POOL:
        return max_pool(y, op.kernel, op.stride, op.pad)
    if op.kind == lib.MEAN_POOL:
        return y.mean((2, 3), keepdims=True)
    y = conv(y, op.weight, op.stride, op.pad, op.groups)
    if op.kind == lib.BLOCK:
        partitions = op.channels // op.groups
        y = permute(y, op.groups)
        y = conv(y, op.weight2.reshape(op.channels, op.groups, 1, 1), 1, (0, 0), partitions)
        y = permute(y, partitions)
    if op.scale is not None:
        y = y * op.scale.reshape(1, -1, 1, 1)
    if op.bias is not None:
        y = y + op.bias.reshape(1, -1, 1, 1)
    if op.residual >= 0:
        y = y + tensors[op.residual]
    if op.activation is not None:
        y = np.clip(y, 0, 6 if op.activation == "relu6" else np.inf)
    return y


def run(ops, x):
    """The result of a list of ops, in float64."""
    tensors = [x.astype(np.float64)]
    for op in ops:
        tensors.append(apply(op, tensors))
    return tensors[-1]


def normal(rng, *shape):
    """Float32 weights or data of a size that keeps results near 1."""
    fan_in = np.prod(shape[1:]) if len(shape) == 4 and shape[-1] <= 7 else 1
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def conv_op(rng, inputs, channels, kernel=(3, 3), groups=1, stride=1, pad=None, source=0, **options):
    pad = (kernel[0] // 2, kernel[1] // 2) if pad is None else pad
    return lib.Op(
        lib.CONV,
        source,
        channels,
        groups,
        kernel,
        stride,
        pad,
        weight=normal(rng, channels, inputs // groups, *kernel),
        bias=normal(rng, channels),
        **options,
    )


def block_op(rng, inputs, primary, secondary, kernel=(3, 3), stride=1, pad=None, source=0, **options):
    pad = (kernel[0] // 2, kernel[1] // 2) if pad is None else pad
    channels = primary * secondary
    return lib.Op(
        lib.BLOCK,
        source,
        channels,
        primary,
        kernel,
        stride,
        pad,
        weight=normal(rng, channels, inputs // primary, *kernel),
        weight2=normal(rng, channels, primary, 1, 1),
        scale=rng.uniform(0.5, 1.5, channels).astype(np.float32),
        bias=normal(rng, channels),
        **options,
    )


def trained(source, channels, groups=1, kernel=3, stride=1, **options):
    """A convolution as it is trained, by default with a normalization and a ReLU."""
    options = {"normalized": True, "activation": "relu", **options}
    return lib.Op(lib.CONV, source, channels, groups, (kernel,) * 2, stride, (kernel // 2,) * 2, **options)


def pooled(source, channels, kernel, stride):
    return lib.Op(lib.MAX_POOL, source, channels, 1, (kernel,) * 2, stride, (kernel // 2,) * 2)


def averaged(ops):
    """`ops` and the mean of what they make."""
    return [*ops, lib.Op(lib.MEAN_POOL, len(ops), ops[-1].channels)]


def assert_agrees(ops, shape, batch=1, threads=1, seed=0):
    x = np.random.default_rng(seed).standard_normal((batch,) + tuple(shape)).astype(np.float32)
    actual, expected = lib.Net(ops, shape)(x, threads), run(ops, x)
    assert actual.shape == expected.shape
    scale = max(1.0, np.abs(expected).max()) if expected.size else 1.0
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=1e-5)
    return x, actual


def drawn_residual_network(draw, rng):
    """Stem, pooling, residual blocks, a projection dense or grouped, mean, fully connected. draw: Hypothesis's."""
    primary, secondary = draw(st.integers(2, 20)), draw(st.integers(2, 6))
    first = primary * secondary
    second, stride, groups = 2 * first, draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, primary]))
    return [
        conv_op(rng, 3, first, (7, 7), 1, 2, activation="relu"),
        lib.Op(lib.MAX_POOL, 1, kernel=(3, 3), stride=2, pad=(1, 1)),
        block_op(rng, first, primary, secondary, source=2, activation="relu"),
        block_op(rng, first, primary, secondary, source=3, residual=2, activation="relu"),
        conv_op(rng, first, second, (1, 1), groups, stride, source=4),
        block_op(rng, first, primary, 2 * secondary, stride=stride, source=4, activation="relu"),
        block_op(rng, second, primary, 2 * secondary, source=6, residual=5, activation="relu"),
        lib.Op(lib.MEAN_POOL, 7),
        conv_op(rng, second, 10, (1, 1), source=8),
    ]


def drawn_igcv3_block(draw, rng):
    """IGCV3's block behind a stem, with permutations between. draw: Hypothesis's."""
    groups = draw(st.sampled_from([1, 2, 4]))
    width, expansion, stride = 8 * groups * draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    middle = width * expansion
    return [
        conv_op(rng, 3, width, activation="relu6"),
        conv_op(rng, width, middle, (1, 1), groups, source=1),
        lib.Op(lib.PERMUTE, 2, groups=groups),
        conv_op(rng, middle, middle, (3, 3), middle, stride, source=3, activation="relu6"),
        conv_op(rng, middle, width, (1, 1), groups, source=4, residual=1 if stride == 1 else -1),
        lib.Op(lib.PERMUTE, 5, groups=2),
    ]


def published_blocks(rng, primary, secondary, stride):
    """Two IGC blocks of L = primary and M = 2 secondary, the first from half as many channels, the second residual."""
    width = primary * secondary
    return [
        block_op(rng, width, primary, 2 * secondary, stride=stride, activation="relu"),
        block_op(rng, 2 * width, primary, 2 * secondary, source=1, residual=1, activation="relu"),
    ]


def several_orders(rng):
    """Blocks that cut the channels in other groups; a residual in another order; readers of both kinds; groups, dense
    and back."""
    return [
        block_op(rng, 24, 4, 6, activation="relu"),
        block_op(rng, 24, 6, 4, source=1, residual=1),
        block_op(rng, 24, 24, 1, source=2, residual=1),
        conv_op(rng, 24, 20, source=3),
        lib.Op(lib.PERMUTE, 4, groups=5),
        block_op(rng, 20, 5, 4, source=5, residual=4),
        conv_op(rng, 20, 20, (1, 1), 10, source=6, residual=4),
        conv_op(rng, 20, 40, (3, 3), 20, source=7),
        lib.Op(lib.MAX_POOL, 8, kernel=(3, 3), stride=1, pad=(1, 1)),
        conv_op(rng, 40, 40, (5, 5), 2, source=9, residual=8),
        conv_op(rng, 40, 40, (3, 3), 2, source=10, residual=9),
        lib.Op(lib.PERMUTE, 11, groups=8),
        conv_op(rng, 40, 40, (5, 5), 40, source=12, residual=12),
    ]
