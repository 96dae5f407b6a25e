"""What the native operations compute, in plain numpy and float64, straight from the equations."""

import numpy as np

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


def assert_agrees(ops, shape, batch=1, threads=1, seed=0):
    x = np.random.default_rng(seed).standard_normal((batch,) + tuple(shape)).astype(np.float32)
    got, expected = lib.Net(ops, shape)(x, threads), run(ops, x)
    assert got.shape == expected.shape
    scale = max(1.0, np.abs(expected).max()) if expected.size else 1.0
    np.testing.assert_allclose(got / scale, expected / scale, rtol=0, atol=1e-5)
    return x, got
