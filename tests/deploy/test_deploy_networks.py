"""Compiled networks against MXNet's stock operators."""

import mxnet as mx
import numpy as np
import pytest
from deploy_networks import assert_close, images, randomize, small, stock
from mxnet.gluon import HybridBlock, nn
from mxnet.gluon.model_zoo import vision
from small_networks import SMALL_IMAGES

import igc_gluon
from igc_gluon import deploy, native
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_family
from igc_gluon.native import library

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))

# A small member of each family, on small images; options of get_model.
SMALL = [(name, 16, {}) for name in SMALL_IMAGES] + [
    ("cifar_plain_igc5_l4m3", 16, {}),
    ("cifar_plain_igc5_l1m4", 16, {}),
    ("cifar_flat_igc4_l17m2", 16, {}),
    ("resnet18_w4", 64, {"classes": 6}),
    ("resnet18_igc_l3m2", 64, {"classes": 6}),
    ("resnet18_igc_l2m3", 64, {"classes": 6}),
    ("igcv2_0.25", 32, {}),
    ("mobilenet0.25", 32, {"classes": 6}),
    ("mobilenetv2_0.2", 32, {"classes": 6}),
    ("igcv3_0.7", 32, {"classes": 6}),
    ("igcv3_d0.5", 32, {"classes": 6}),
    ("igcv3_0.7", 32, {"classes": 6, "block": "paper"}),
    ("cifar_plain8_w4", 32, {"stem_strides": 2}),
    ("cifar_plain_igc8_l3m2", 17, {"between": "relu"}),
    ("cifar_resnet_igc8_l3m4", 17, {"bottleneck": 2}),
    ("cifar_plain_igc8_l3m2", 17, {"spatial": "both"}),
    ("cifar_igcv3_d0.5", 16, {"partitions": (2, 4)}),
    ("cifar_plain_igc8_l3m2", 17, {"spatial": "secondary"}),
    ("cifar_plain_igc8_l3m2", 17, {"spatial": "separable"}),
    ("cifar_resnet_igc10_l4m2", 16, {"downsample": "code"}),
]
ISAS = library.ISAS


@pytest.fixture(autouse=True)
def best_isa_afterwards():
    yield
    library.use_isa()


def test_every_family_is_among_them():
    families = {find_family(name)[0].template for name in igc_gluon.get_model_list()}
    assert families == {find_family(name)[0].template for name, *_ in SMALL}


@pytest.mark.parametrize("name,size,options", SMALL)
def test_small_members(name, size, options):
    net = small(name, size, **options)
    shape = (3, size, size)
    batches = [images(shape, count, seed=count) for count in (0, 1, 3)]
    expected = [stock(net, x) if len(x) else np.empty((0,) + stock(net, batches[1]).shape[1:]) for x in batches]
    ran = 0
    for isa in ISAS:
        try:
            library.use_isa(isa)
        except UserError:
            continue
        compiled = deploy.compile(net, shape)
        ran += 1
        for threads in (1, 2):
            for x, y in zip(batches, expected):
                assert_close(compiled(x, threads=threads), y)
    assert ran


@pytest.mark.parametrize("name", ["igcv2_1.0", "igcv3_1.0"])
def test_imagenet_sized(name):
    net = small(name, 64)
    x = images((3, 64, 64), 2)
    assert_close(deploy.compile(net, (3, 64, 64))(x), stock(net, x))


@pytest.mark.parametrize(
    "name,size",
    [("resnet18_v1", 33), ("resnet18_v2", 32), ("mobilenet0_25", 32), ("mobilenet_v2_0_25", 32), ("vgg11_bn", 32)],
)
def test_gluon_model_zoo(name, size):
    net = randomize(getattr(vision, name)(classes=7), (3, size, size))
    x = images((3, size, size), 2)
    assert_close(deploy.compile(net, (3, size, size))(x), stock(net, x))


@pytest.mark.long
@pytest.mark.parametrize("name", igc_gluon.get_model_list())
def test_every_getter_at_its_natural_size(name):
    size = find_family(name)[0].input_size
    net = small(name, size)
    x = images((3, size, size), 1)
    assert_close(deploy.compile(net, (3, size, size))(x), stock(net, x))


class Graph(HybridBlock):
    """`forward(F, x, layers)` on some layers."""

    def __init__(self, forward, **layers):
        super().__init__()
        self._layers_forward, self._names = forward, list(layers)
        for name, layer in layers.items():
            setattr(self, name, layer)

    def hybrid_forward(self, F, x):
        return self._layers_forward(F, x, self)


def conv(channels, kernel=3, stride=1, groups=1, **options):
    return nn.Conv2D(channels, kernel, stride, kernel // 2, groups=groups, **options)


def shuffled_otherwise(F, x):
    return F.reshape(F.transpose(F.reshape(x, shape=(0, 2, 3, 4, 9, 8)), axes=(0, 3, 2, 1, 4, 5)), shape=(0, 24, 9, 8))


def permuted(F, x, branches):
    x = F.reshape(x, shape=(0, -4, branches, -1, -2))
    return F.reshape(F.swapaxes(x, dim1=1, dim2=2), shape=(0, -3, -2))


GRAPHS = {
    "normalized image": (lambda F, x, n: n.a(n.bn(x)), dict(bn=nn.BatchNorm(), a=conv(5))),
    "bias and activation": (lambda F, x, n: F.relu(n.a(x)), dict(a=conv(6, stride=2, groups=3, activation="relu"))),
    "a value read twice": (lambda F, x, n: F.relu(n.a(x)) + n.b(n.a(x)), dict(a=conv(4), b=conv(4))),
    "a sum of itself": (lambda F, x, n: (lambda y: y + y)(n.a(x)), dict(a=conv(4))),
    "the image added": (lambda F, x, n: n.a(x) + x, dict(a=conv(3))),
    "image + image": (lambda F, x, n: x + x, {}),
    "a sum normalized": (lambda F, x, n: n.bn(n.a(x) + n.b(x)), dict(a=conv(4), b=conv(4, 1), bn=nn.BatchNorm())),
    "sums of three": (
        lambda F, x, n: F.clip((n.a(x) + n.b(x)) + n.a2(x), 0, 6),
        dict(a=conv(4), b=conv(4, 1), a2=conv(4)),
    ),
    "sum of activations": (lambda F, x, n: F.relu(n.a(x)) + F.relu(n.b(x)), dict(a=conv(4), b=conv(4))),
    "two activations": (lambda F, x, n: F.clip(F.relu(n.a(x)) * 3 + 1, 0, 6), dict(a=conv(4))),
    "scalars": (lambda F, x, n: n.a(x * 0.5 + 0.25) * -2 + 1, dict(a=conv(4))),
    "permutation at the end": (lambda F, x, n: permuted(F, n.a(x), 3), dict(a=conv(12))),
    "permuted image": (lambda F, x, n: n.a(permuted(F, n.c(x), 2)), dict(a=conv(4, groups=2), c=conv(6, 1))),
    "permuted sum": (
        lambda F, x, n: n.c(permuted(F, n.a(x), 2) + permuted(F, n.b(x), 4)),
        dict(a=conv(12), b=conv(12), c=conv(8, groups=4)),
    ),
    "permutation, BN, sum with the unpermuted": (
        lambda F, x, n: (lambda y: F.relu(n.bn(permuted(F, n.b(y), 3)) + y))(n.a(x)),
        dict(a=conv(12), b=conv(12, groups=3), bn=nn.BatchNorm()),
    ),
    "two permutations": (lambda F, x, n: permuted(F, permuted(F, n.a(x), 3), 2), dict(a=conv(12))),
    "transpose": (
        lambda F, x, n: n.b(
            F.reshape(F.transpose(F.reshape(n.a(x), shape=(0, -4, 2, -1, -2)), axes=(0, 2, 1, 3, 4)), shape=(0, -3, -2))
        ),
        dict(a=conv(12), b=conv(4, groups=4)),
    ),
    "channels shuffled otherwise": (lambda F, x, n: shuffled_otherwise(F, n.a(x)), dict(a=conv(24))),
    "another order of grouped channels at the end": (
        lambda F, x, n: shuffled_otherwise(F, n.a(x)),
        dict(a=conv(24, groups=3)),
    ),
    "another order into a sum and a spatial group convolution": (
        lambda F, x, n: n.b(shuffled_otherwise(F, n.a(x)) + n.a(x)),
        dict(a=conv(24, groups=3), b=conv(12, groups=4)),
    ),
    "another order of what is read twice": (
        lambda F, x, n: (lambda y: n.b(shuffled_otherwise(F, y)) + n.c(y))(n.a(x)),
        dict(a=conv(24), b=conv(8, groups=4), c=conv(8)),
    ),
    "block with bias": (
        lambda F, x, n: permuted(F, n.b(permuted(F, n.a(x), 3)), 4),
        dict(a=conv(12, groups=3, use_bias=False), b=conv(12, 1, groups=4)),
    ),
    "no block: bias between": (
        lambda F, x, n: permuted(F, n.b(permuted(F, n.a(x), 3)), 4),
        dict(a=conv(12, groups=3), b=conv(12, 1, groups=4)),
    ),
    "no block: both are read": (
        lambda F, x, n: (lambda y: permuted(F, n.b(permuted(F, y, 3)), 4) + y)(n.a(x)),
        dict(a=conv(12, groups=3, use_bias=False), b=conv(12, 1, groups=4, use_bias=False)),
    ),
    "sum over branches of a group convolution": (
        lambda F, x, n: F.sum(F.reshape(n.a(x), shape=(0, -4, 2, -1, -2)), axis=1),
        dict(a=conv(6, groups=3)),
    ),
    "sum over the inner axis": (
        lambda F, x, n: F.sum(F.reshape(n.a(x), shape=(0, -4, 2, -1, -2)), axis=2),
        dict(a=conv(6)),
    ),
    "fully connected on an image": (lambda F, x, n: n.b(n.a(x)), dict(a=conv(5, stride=2), b=nn.Dense(7))),
    "fully connected twice": (
        lambda F, x, n: n.c(n.b(n.a(x))),
        dict(a=conv(5), b=nn.Dense(9, activation="relu"), c=nn.Dense(4)),
    ),
    "dropout and flatten": (lambda F, x, n: n.d(F.flatten(n.a(x))), dict(a=conv(5), d=nn.Dropout(0.5))),
    "pools": (lambda F, x, n: n.m(n.p(n.a(x))), dict(a=conv(5), p=nn.MaxPool2D(3, 2, 1), m=nn.AvgPool2D(2, 2))),
    "averages with padding": (lambda F, x, n: n.m(permuted(F, n.a(x), 2)), dict(a=conv(6), m=nn.AvgPool2D(3, 2, 1))),
    "pooled rows": (
        lambda F, x, n: n.b(n.p(permuted(F, n.a(x), 2))),
        dict(a=conv(6), p=nn.GlobalAvgPool2D(), b=nn.Dense(3)),
    ),
    "global maximum": (lambda F, x, n: n.p(n.a(x)), dict(a=conv(6), p=nn.GlobalMaxPool2D())),
    "normalized rows": (lambda F, x, n: n.bn(n.b(x)), dict(b=nn.Dense(6), bn=nn.BatchNorm())),
    "BN without gamma": (lambda F, x, n: n.bn(n.a(x)), dict(a=conv(4), bn=nn.BatchNorm(scale=False, center=False))),
    "strides that differ": (
        lambda F, x, n: n.b(n.a(x)),
        dict(
            a=nn.Conv2D(6, (3, 1), (2, 1), (1, 0), groups=3, use_bias=False),
            b=nn.Conv2D(9, (1, 3), (1, 2), (0, 1), groups=3),
        ),
    ),
}


@pytest.mark.parametrize("title", GRAPHS)
def test_graphs(title):
    forward, layers = GRAPHS[title]
    net = randomize(Graph(forward, **layers), (3, 9, 8))
    x = images((3, 9, 8), 2)
    assert_close(deploy.compile(net, (3, 9, 8))(x), stock(net, x))


REFUSED = {
    "sigmoid": (lambda F, x, n: F.sigmoid(x), {}, "operator sigmoid"),
    "concatenation": (lambda F, x, n: F.concat(x, x), {}, "operator Concat"),
    "dilation": (lambda F, x, n: n.a(x), dict(a=nn.Conv2D(3, 3, dilation=2)), "dilation"),
    "tanh": (lambda F, x, n: n.a(x), dict(a=nn.Activation("tanh")), "tanh"),
    "another clip": (lambda F, x, n: F.clip(x, 0, 1), {}, "clip to 0..1"),
    "sum over the image": (lambda F, x, n: F.sum(x, axis=2), {}, "sum over branches"),
    "transposed image": (lambda F, x, n: F.swapaxes(x, dim1=2, dim2=3), {}, "transposition of the image"),
    "image cut up": (lambda F, x, n: F.reshape(x, shape=(0, 0, -1)), {}, "Reshape"),
    "strides that differ": (lambda F, x, n: n.a(x), dict(a=nn.Conv2D(4, 3, (2, 1), 1)), "strides \\(2, 1\\)"),
    "rows of a dense layer": (lambda F, x, n: n.a(x), dict(a=nn.Dense(4, flatten=False)), "last axis"),
    "other axis": (lambda F, x, n: n.a(x), dict(a=nn.BatchNorm(axis=2)), "axis 2"),
    "two outputs": (lambda F, x, n: (x, x * 2), {}, "one output"),
    "a constant alone": (lambda F, x, n: n.a(x), dict(a=nn.PReLU()), "operator LeakyReLU"),
    "a parameter added": (lambda F, x, n: F.broadcast_add(x, F.ones((1, 3, 1, 1))), {}, "operator _ones"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_what_has_no_kernel_is_named(title):
    forward, layers, message = REFUSED[title]
    net = Graph(forward, **layers)
    net.initialize()
    with pytest.raises(UserError, match=message):
        deploy.compile(net, (3, 9, 8))


def test_networks_that_cannot_be_compiled():
    net = igc_gluon.get_model("cifar_plain8_w4")
    with pytest.raises(UserError, match="has no value"):
        deploy.compile(net)
    net.initialize()
    with pytest.raises(UserError, match="3 channels|for images of this size"):
        deploy.compile(net, (4, 16, 16))
    for shape in ((3, 16), (3, 0, 16), 16, ("a", 1, 1)):
        with pytest.raises(UserError, match="input_shape"):
            deploy.compile(net, shape)
    net.collect_params("g1_b1_conv_weight")["g1_b1_conv_weight"].data()[0, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="g1_b1_conv_weight is not finite"):
        deploy.compile(net)
    net = igc_gluon.get_model("cifar_plain8_w4")
    net.initialize()
    net.collect_params("g0_bn_running_var")["g0_bn_running_var"].set_data(mx.nd.array([-1] * 4))
    with pytest.raises(UserError, match="moving variance is negative"):
        deploy.compile(net)
    for other in (nn.Sequential(), 5, None):
        with pytest.raises(TypeError):
            deploy.compile(other)
