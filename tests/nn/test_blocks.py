import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from igc_gluon import nn
from igc_gluon.errors import UserError
from tests import reference

RNG = np.random.RandomState(1)
# L, channels, in_channels, kernel, strides, (height, width)
SHAPES = [
    (2, 6, 6, 3, 1, (5, 7)),  # the example of Figure 1
    (3, 6, 6, 3, 2, (7, 6)),  # stride 2 on odd and even sizes
    (1, 4, 4, 3, 1, (4, 4)),  # L = 1: regular convolution, then one scale per channel
    (4, 4, 4, 3, 1, (3, 5)),  # M = 1: Xception
    (2, 8, 4, 3, 2, (9, 9)),  # down-sampling block, kin != kout
    (3, 6, 12, 3, 1, (4, 3)),  # fewer channels out than in
    (2, 6, 6, 5, 1, (6, 6)),
    (2, 4, 4, 1, 1, (3, 3)),
    (5, 10, 5, 3, 2, (1, 1)),  # a single pixel
]


def random_block(L, channels, in_channels, kernel, strides, hybridize, **kwargs):
    block = nn.IGCBlock(L, channels, in_channels, kernel, strides, **kwargs)
    block.initialize()
    for parameter in block.collect_params().values():
        parameter.set_data(mx.nd.array(RNG.standard_normal(parameter.shape)))
    if hybridize:
        block.hybridize()
    return block


@pytest.mark.parametrize("channels,b", [(6, 2), (6, 3), (12, 4), (5, 1), (5, 5), (48, 24)])
@pytest.mark.parametrize("hybridize", [False, True])
def test_permutation_is_the_authors_reorder(channels, b, hybridize):
    x = RNG.standard_normal((2, channels, 3, 4)).astype("float32")
    layer = nn.ChannelPermutation(b)
    inverse = nn.ChannelPermutation(nn.inverse_branch_factor(channels, b))
    if hybridize:
        layer.hybridize(), inverse.hybridize()
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        out = layer(data)
    head = RNG.standard_normal(x.shape).astype("float32")
    out.backward(mx.nd.array(head))
    expected, gradient = np.empty_like(x), np.empty_like(x)
    for i in range(b):
        for j in range(channels // b):
            expected[:, j * b + i] = x[:, i * (channels // b) + j]
            gradient[:, i * (channels // b) + j] = head[:, j * b + i]
    np.testing.assert_array_equal(out.asnumpy(), expected)
    np.testing.assert_array_equal(data.grad.asnumpy(), gradient)
    np.testing.assert_array_equal(x[:, nn.permutation_indices(channels, b)], expected)
    np.testing.assert_array_equal(inverse(out).asnumpy(), x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("hybridize", [False, True])
def test_igc_block_is_its_equation(shape, hybridize):
    """Forward and every gradient. x' is linear in each of x, W^p and W^s, so <gradient, d> is x' at d."""
    L, channels, in_channels, kernel, strides, size = shape
    block = random_block(*shape[:5], hybridize)
    linear = block[:4]  # without BN and ReLU
    x = RNG.standard_normal((2, in_channels, *size))
    values = {
        "x": x,
        "primary": block[0].weight.data().asnumpy().astype("float64"),
        "secondary": block[2].weight.data().asnumpy().astype("float64"),
    }
    expected = reference.igc(x, values["primary"], values["secondary"], L, (strides, strides))
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        out = linear(data)
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-5, atol=1e-4)
    head = RNG.standard_normal(expected.shape)
    out.backward(mx.nd.array(head))
    gradients = {"x": data.grad, "primary": block[0].weight.grad(), "secondary": block[2].weight.grad()}
    for name, gradient in gradients.items():
        direction = RNG.standard_normal(gradient.shape)
        moved = {**values, name: direction}
        slope = (head * reference.igc(moved["x"], moved["primary"], moved["secondary"], L, (strides,) * 2)).sum()
        np.testing.assert_allclose((gradient.asnumpy() * direction).sum(), slope, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", None])
def test_batch_norm_and_relu_follow(activation):
    block = random_block(2, 6, 6, 3, 1, hybridize=True, activation=activation)
    x = RNG.standard_normal((4, 6, 5, 5))
    w = [block[i].weight.data().asnumpy().astype("float64") for i in (0, 2)]
    gamma, beta = block[4].gamma.data().asnumpy(), block[4].beta.data().asnumpy()
    with autograd.train_mode():
        out = block(mx.nd.array(x)).asnumpy()
    expected = reference.batch_norm_relu(reference.igc(x, *w, 2), gamma, beta, relu=activation is not None)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_variant_spatial_secondary(strides):
    block = random_block(2, 6, 6, 3, strides, hybridize=True, spatial="secondary")
    assert block[0].weight.shape == (6, 3, 1, 1) and block[2].weight.shape == (6, 2, 3, 3)
    x = RNG.standard_normal((2, 6, 5, 7))
    w = [block[i].weight.data().asnumpy().astype("float64") for i in (0, 2)]
    expected = reference.igc(x, *w, 2, secondary_strides=(strides, strides))
    np.testing.assert_allclose(block[:4](mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-4)


VARIANTS = [
    {"between": "relu"},
    {"spatial": "both"},
    {"bottleneck": 2},
    {"bottleneck": 4},
    {"spatial": "separable", "bottleneck": 2},
    {"spatial": "secondary", "between": "relu"},
    {"spatial": "both", "bottleneck": 2, "between": "relu"},
]


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_variants_are_their_equation(options, strides, hybridize):
    """Of section 4 and footnote 4, in inference and in training."""
    L, channels, in_channels = 3, 12, 6
    block = random_block(L, channels, in_channels, 3, strides, hybridize, **options)
    x = RNG.standard_normal((4, in_channels, 5, 7))
    *primary, secondary = (
        layer.weight.data().asnumpy().astype("float64") for layer in block if isinstance(layer, nn.GroupConv2D)
    )
    s = strides
    steps = {
        "primary": [(s, s), (1, 1)],
        "both": [(s, s), (1, 1)],
        "secondary": [(1, 1), (s, s)],
        "separable": [(s, 1), (1, s), (1, 1)],
    }[options.get("spatial", "primary")]
    y = x
    for weight, step in zip(primary, steps):
        y = reference.primary(y, weight, L, step)
    if "between" in options:
        y = np.maximum(y, 0)
    M = channels // options.get("bottleneck", 1) // L
    assert y.shape[1] == L * M
    # secondary partition m reads the m-th channel of each primary one
    blended = [reference.convolve(y[:, m::M], weight, steps[-1]) for m, weight in enumerate(np.split(secondary, M))]
    expected = np.stack(blended, 2).reshape(len(x), channels, *blended[0].shape[2:])

    def normalized(mean, var):
        gamma, beta = bn.gamma.data().asnumpy(), bn.beta.data().asnumpy()
        scale = gamma / np.sqrt(var + 2e-5)
        return np.maximum((expected - mean[:, None, None]) * scale[:, None, None] + beta[:, None, None], 0)

    bn = block[-2]
    bn.running_var.set_data(mx.nd.array(RNG.uniform(0.5, 1.5, channels)))
    inference = normalized(bn.running_mean.data().asnumpy(), bn.running_var.data().asnumpy())
    np.testing.assert_allclose(block(mx.nd.array(x)).asnumpy(), inference, rtol=1e-4, atol=1e-3)
    with autograd.train_mode():
        out = block(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(out, normalized(expected.mean((0, 2, 3)), expected.var((0, 2, 3))), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("strides", [1, 2])
def test_variant_separable_primary(strides):
    block = random_block(2, 6, 6, 3, strides, hybridize=True, spatial="separable")
    assert block[0].weight.shape == (6, 3, 3, 1) and block[1].weight.shape == (6, 3, 1, 3)
    x = RNG.standard_normal((2, 6, 5, 7))
    first, second, secondary = (block[i].weight.data().asnumpy().astype("float64") for i in (0, 1, 3))
    middle = reference.primary(x, first, 2, (strides, 1))
    expected = reference.igc(middle, second, secondary, 2, (1, strides))
    np.testing.assert_allclose(block[:5](mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_sum_fusion_adds_its_branches():
    L, M = 3, 4
    block = nn.SumFusion(L, M, 2, strides=2)
    block.initialize()
    block.hybridize()
    weight = RNG.standard_normal((L * M, 2, 3, 3))
    block.conv.weight.set_data(mx.nd.array(weight))
    x = RNG.standard_normal((2, 2, 5, 6))
    branches = [reference.convolve(x, weight[l * M : (l + 1) * M], (2, 2)) for l in range(L)]  # eq. 21
    with autograd.train_mode():
        out = block(mx.nd.array(x)).asnumpy()
    np.testing.assert_allclose(
        out, reference.batch_norm_relu(sum(branches), np.ones(M), np.zeros(M)), rtol=1e-3, atol=1e-4
    )


def test_settings_of_the_authors():
    block = nn.IGCBlock(24, 48, norm_kwargs={"momentum": 0.99})
    mx.random.seed(0)
    nn.initialize_as_authors(block)
    bn = block[4]
    assert bn._kwargs["eps"] == 2e-5 and bn._kwargs["momentum"] == 0.99 and not bn._kwargs["fix_gamma"]
    for value, array in ((1, bn.gamma), (0, bn.beta), (0, bn.running_mean), (0, bn.running_var)):
        assert (array.data().asnumpy() == value).all()
    assert block[0].bias is None and block[2].bias is None
    for convolution, fan_in in ((block[0], 9 * 2), (block[2], 24)):
        weight = convolution.weight.data().asnumpy()
        assert abs(weight.std() / np.sqrt(2 / fan_in) - 1) < 0.1 and abs(weight.mean()) < 0.02
        assert abs(weight).max() > 2.2 * np.sqrt(2 / fan_in)  # Gaussian, not uniform


def test_norm_layer_as_in_gluoncv():
    block = nn.IGCBlock(2, 6, norm_layer=mx.gluon.nn.InstanceNorm, norm_kwargs={"epsilon": 0.5})
    assert isinstance(block[4], mx.gluon.nn.InstanceNorm)
    block.initialize()
    assert block(mx.nd.ones((1, 6, 4, 4))).shape == (1, 6, 4, 4)


@pytest.mark.parametrize(
    "make,text",
    [
        (lambda: nn.IGCBlock(4, 6), "6 channels cannot be cut into 4 primary partitions"),
        (lambda: nn.IGCBlock(0, 6), "0 primary partitions"),
        (lambda: nn.IGCBlock(2, 6, in_channels=3), "multiple of 2 input channels, not 3"),
        (lambda: nn.IGCBlock(2, 6, kernel_size=2), "odd"),
        (lambda: nn.IGCBlock(2, 6, spatial="none"), "primary, secondary, both, separable"),
        (lambda: nn.IGCBlock(2, 12, bottleneck=4), "the bottleneck must divide M = 6"),
        (lambda: nn.IGCBlock(2, 12, bottleneck=0), "the bottleneck must divide M = 6"),
        (lambda: nn.IGCBlock(2, 6, between="tanh"), "between must be None or relu, not 'tanh'"),
        (lambda: nn.ChannelPermutation(0), "at least 1"),
        (lambda: nn.permutation_indices(5, 2), "does not divide 5"),
        (lambda: nn.inverse_branch_factor(5, 2), "does not divide 5"),
    ],
)
def test_bad_numbers_say_so(make, text):
    with pytest.raises(UserError, match=text) as error:
        make()
    assert "\n" not in str(error.value)


def test_parts_keep_their_numbers():
    """Names of parameters in files are those of a list of layers, whatever the parts are called, replaced ones too."""
    block = nn.IGCBlock(2, 8)
    names = ["0.weight", "2.weight", *(f"4.{what}" for what in ("gamma", "beta", "running_mean", "running_var"))]
    assert list(block._collect_params_with_prefix()) == names
    assert (len(block), block[2], list(block)) == (6, block.secondary, [*block._children.values()])
    assert [type(part).__name__ for part in block[1:3]] == ["ChannelPermutation", "GroupConv2D"]
    block.secondary = nn.GroupConv2D(8, 8, 4, prefix="other_")
    assert list(block._collect_params_with_prefix()) == names and block[2] is block.secondary
    block.initialize()
    block(mx.nd.ones((1, 8, 3, 3)))
