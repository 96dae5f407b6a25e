"""The blocks of IGCV2 and IGCV3, GPC and Xception against their equations in numpy, one branch after the other."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from igc_gluon import nn, theory
from igc_gluon.errors import UserError
from igc_gluon.nn.basic import BN_EPSILON
from tests import reference

RNG = np.random.RandomState(3)
# K_1, ..., K_L, channels, in_channels, kernel, strides, (height, width)
SHAPES = [
    ((1, 3, 2), 6, 6, 3, 1, (5, 7)),
    ((1, 2, 3), 6, 6, 3, 2, (7, 6)),
    ((1, 2, 2, 2), 8, 8, 3, 1, (4, 3)),
    ((2, 3, 2), 12, 12, 3, 1, (4, 4)),  # Table 5's IGCV2 I
    ((1, 4, 2), 16, 8, 3, 2, (5, 5)),  # first block of a stage: the last convolution widens
    ((1, 4, 2), 4, 8, 3, 1, (3, 4)),  # or narrows
    ((1, 4), 4, 4, 5, 1, (6, 5)),  # L = 2: Xception
    ((1, 1), 4, 4, 3, 1, (1, 1)),
]


def randomize(block):
    """Random weights, gamma, beta and running statistics."""
    block.initialize()
    for name, parameter in block.collect_params().items():
        positive = name.endswith(("gamma", "var"))
        parameter.set_data(
            mx.nd.array(RNG.uniform(0.5, 1.5, parameter.shape) if positive else RNG.standard_normal(parameter.shape))
        )
    return block


def reorder(x, b):
    """out[j*b + i] = in[i*(C/b) + j]"""
    out, size = np.empty_like(x), x.shape[1] // b
    for i in range(b):
        for j in range(size):
            out[:, j * b + i] = x[:, i * size + j]
    return out


def bn(x, layer):
    """Batch normalization with its running statistics."""
    gamma, beta, mean, var = (
        p.data().asnumpy().astype("float64")[:, None, None]
        for p in (layer.gamma, layer.beta, layer.running_mean, layer.running_var)
    )
    return (x - mean) / np.sqrt(var + layer._kwargs["eps"]) * gamma + beta


def weight(layer):
    return layer.weight.data().asnumpy().astype("float64")


def convolutions(block):
    return [layer for layer in block if isinstance(layer, nn.GroupConv2D)]


def igcv2(x, weights, branch_channels, strides):
    """Eq. 4: y = P_L W_L ... P_1 W_1 x, with P_l = Reorder(C/K_l)."""
    for number, (w, K) in enumerate(zip(weights, branch_channels)):
        branches = x.shape[1] // K
        x = reorder(reference.primary(x, w, branches, (strides, strides) if number == 0 else (1, 1)), branches)
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("hybridize", [False, True])
def test_igcv2_block_is_its_equation(shape, hybridize):
    """Forward and every gradient. y is linear in x and in each W_l, so <gradient, d> is y at d."""
    Ks, channels, in_channels, kernel, strides, size = shape
    block = randomize(nn.IGCV2Block(Ks, channels, in_channels, kernel, strides, activation=None))
    linear = block[:-1]  # without BN
    if hybridize:
        linear.hybridize()
    layers = convolutions(block)
    x, weights = RNG.standard_normal((2, in_channels, *size)), [weight(layer) for layer in layers]
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        out = linear(data)
    expected = igcv2(x, weights, Ks, strides)
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-5, atol=1e-4)
    head = RNG.standard_normal(expected.shape)
    out.backward(mx.nd.array(head))
    for number, gradient in enumerate([data.grad, *(layer.weight.grad() for layer in layers)]):
        direction = RNG.standard_normal(gradient.shape)
        moved = [x, *weights]
        moved[number] = direction
        slope = (head * igcv2(moved[0], moved[1:], Ks, strides)).sum()
        np.testing.assert_allclose((gradient.asnumpy() * direction).sum(), slope, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("activation", ["relu", None])
def test_batch_norm_and_relu_follow_igcv2(activation):
    block = randomize(nn.IGCV2Block((1, 3, 2), 6, activation=activation))
    x = RNG.standard_normal((2, 6, 4, 5))
    weights = [weight(layer) for layer in convolutions(block)]
    expected = bn(igcv2(x, weights, (1, 3, 2), 1), block[-2 if activation else -1])
    np.testing.assert_allclose(
        block(mx.nd.array(x)).asnumpy(), np.maximum(expected, 0) if activation else expected, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("Ks,channels", [((1, 3, 2), 6), ((2, 3, 4), 24), ((1, 6, 6), 36), ((1, 4, 4, 4), 32)])
def test_igcv2_block_is_the_stack_of_the_theory(Ks, channels):
    """The permutations that are left out are those that move nothing."""
    stack, expected = nn.block_stack(nn.IGCV2Block(Ks, channels)), theory.igcv2_stack(channels, Ks)
    np.testing.assert_array_equal(theory.paths(stack), theory.paths(expected))
    assert theory.stack_params(stack) == theory.igcv2_params(channels, Ks)
    assert theory.is_complementary(stack) == (np.prod(Ks) == channels)


@pytest.mark.parametrize("in_channels,channels,strides", [(6, 6, 1), (6, 12, 2), (4, 4, 2)])
def test_nonlinear_igcv2_block(in_channels, channels, strides):
    """Fig. 5(b), layer by layer."""
    block = randomize(nn.NonlinearIGCV2Block(channels, in_channels, (2, 2), strides=strides))
    x = RNG.standard_normal((2, in_channels, 5, 6))
    spatial, first, second = convolutions(block)
    bns = [layer for layer in block if isinstance(layer, mx.gluon.nn.BatchNorm)]
    y = np.maximum(bn(reference.primary(x, weight(spatial), in_channels, (strides, strides)), bns[0]), 0)
    y = reorder(bn(reference.primary(y, weight(first), 2, (1, 1)), bns[1]), 2)
    y = reorder(np.maximum(bn(reference.primary(y, weight(second), 2, (1, 1)), bns[2]), 0), 2)
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy(), y, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", nn.IGCV3_FORMS)
@pytest.mark.parametrize("in_channels,channels,strides,shortcut", [(4, 6, 2, False), (4, 4, 1, True), (4, 4, 1, False)])
def test_igcv3_block(form, in_channels, channels, strides, shortcut):
    """The authors' graph has one ReLU6 and one permutation, Fig. 6(b) two of each."""
    block = randomize(nn.IGCV3Block(channels, in_channels, 3, strides, shortcut, block=form))
    x = RNG.standard_normal((2, in_channels, 5, 4))
    expand, spatial, narrow = convolutions(block.body)
    bns = [layer for layer in block.body if isinstance(layer, mx.gluon.nn.BatchNorm)]
    width = 3 * in_channels
    y = bn(reference.primary(x, weight(expand), 2, (1, 1)), bns[0])
    y = reorder(np.clip(y, 0, 6) if form == "paper" else y, 2)
    y = np.clip(bn(reference.primary(y, weight(spatial), width, (strides, strides)), bns[1]), 0, 6)
    y = bn(reference.primary(y, weight(narrow), 2, (1, 1)), bns[2])
    y = reorder(y, channels // 2) if form == "paper" else y
    expected = y + x if shortcut else y
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-3)
    block.hybridize()
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("L,in_channels,channels,strides", [(2, 6, 6, 1), (3, 6, 12, 2), (1, 4, 4, 1)])
def test_group_and_point_wise_convolution(L, in_channels, channels, strides):
    block = randomize(nn.GPCBlock(L, channels, in_channels, strides=strides))
    spatial, pointwise = convolutions(block)
    x = RNG.standard_normal((2, in_channels, 5, 6))
    y = reference.convolve(reference.primary(x, weight(spatial), L, (strides, strides)), weight(pointwise), (1, 1))
    np.testing.assert_allclose(block[:2](mx.nd.array(x)).asnumpy(), y, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy(), np.maximum(bn(y, block[2]), 0), rtol=1e-4, atol=1e-3)
    if in_channels == channels:
        assert theory.stack_params(nn.block_stack(block)) == theory.gpc_params(L, channels // L)


def test_xception_is_channel_wise():
    block = nn.XceptionBlock(6, 4, strides=2)
    assert [layer.weight.shape for layer in convolutions(block)] == [(4, 1, 3, 3), (6, 4, 1, 1)]
    assert block[0]._kwargs["stride"] == (2, 2) and block[2]._kwargs["eps"] == BN_EPSILON


def test_stacks_of_a_network():
    net = mx.gluon.nn.HybridSequential()
    net.add(nn.ConvBNReLU(6, 3), nn.IGCBlock(2, 6, prefix="igc_"), nn.IGCV3Block(4, 6, prefix="igcv3_"))
    stacks = nn.block_stacks(net)
    assert list(stacks) == ["igc_", "igcv3_"]
    assert (theory.paths(stacks["igc_"]) == 1).all()
    np.testing.assert_array_equal(
        theory.paths(stacks["igc_"]), theory.paths(theory.igc_stack((6, 3, 3, 3), (6, 2, 1, 1), 2))
    )


@pytest.mark.parametrize(
    "make,text",
    [
        (
            lambda: nn.IGCV2Block((1, 5, 2), 12),
            "K_2 = 5 does not divide 12 channels into equal branches; nearest that does: 4 and 6",
        ),
        (lambda: nn.IGCV2Block((1, 99, 2), 12), "nearest that does: 12"),
        (lambda: nn.IGCV2Block((1, 0), 12), "nearest that does: 1"),
        (lambda: nn.IGCV2Block((1,), 12), "at least one 1x1 convolution"),
        (lambda: nn.IGCV2Block((1, 2, 2), 6, 8), "multiple of 4 output channels, not 6"),
        (lambda: nn.IGCV2Block((1, 2, 2), 4, kernel_size=4), "odd"),
        (lambda: nn.NonlinearIGCV2Block(12, 12), "multiple of 8 input channels, not 12"),
        (lambda: nn.NonlinearIGCV2Block(16, 16, kernel_size=2), "odd"),
        (lambda: nn.IGCV3Block(5, 4), "multiple of 2 output channels, not 5"),
        (lambda: nn.IGCV3Block(4, 4, block="mine"), "released, paper"),
        (lambda: nn.IGCV3Block(4, 4, strides=2, shortcut=True), "needs stride 1"),
        (lambda: nn.GPCBlock(4, 6), "multiple of 4 input channels, not 6"),
    ],
)
def test_bad_numbers_say_so(make, text):
    with pytest.raises(UserError, match=text) as error:
        make()
    assert "\n" not in str(error.value)
