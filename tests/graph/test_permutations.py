"""A permutation of channels, however it is written, trains natively and compiles; the reference is stock float64."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

import igc_gluon
from igc_gluon import deploy
from igc_gluon.channels import branches_of
from igc_gluon.graph import NativeNetwork, non_native_operators, permutations, trace
from igc_gluon.native.operators import unavailable_reason
from igc_gluon.nn import ConvBNReLU

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

X = np.random.RandomState(0).standard_normal((3, 3, 10, 12))
ORDER = np.random.RandomState(1).permutation(12)
INTERLEAVED = np.arange(12).reshape(3, 4).T.ravel()


class Take(HybridBlock):
    def __init__(self, order, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.order = self.params.get_constant("order", np.asarray(order))

    def hybrid_forward(self, F, x, order):
        return F.take(x, order, axis=1)


class Function(HybridBlock):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.function = function

    def hybrid_forward(self, F, x):
        return self.function(F, x)


def shuffled(F, x):
    return F.reshape(F.transpose(F.reshape(x, (-1, 4, 3, 10, 12)), axes=(0, 2, 1, 3, 4)), (-1, 12, 10, 12))


def exchanged(F, x):
    return F.concat(F.slice_axis(x, axis=1, begin=5, end=None), F.slice_axis(x, axis=1, begin=0, end=5), dim=1)


def split(F, x):
    parts = F.split(x, num_outputs=3, axis=1)
    return F.concat(parts[2], parts[0], parts[1], dim=1)


def reversed_twice(F, x):
    return F.reverse(F.reverse(F.reverse(x, axis=1), axis=2), axis=2)


PERMUTATIONS = {
    "take": (lambda: Take(ORDER), ORDER),
    "take, interleaving": (lambda: Take(INTERLEAVED), INTERLEAVED),
    "shuffle": (lambda: Function(shuffled), np.arange(12).reshape(4, 3).T.ravel()),
    "exchange": (lambda: Function(exchanged), np.roll(np.arange(12), -5)),
    "split": (lambda: Function(split), np.roll(np.arange(12), 4)),
    "reverse": (lambda: Function(reversed_twice), np.arange(12)[::-1]),
    "two": (lambda: _both(Take(ORDER), Take(ORDER)), ORDER[ORDER]),
    "two, of which one interleaves": (lambda: _both(Take(INTERLEAVED), Take(ORDER)), INTERLEAVED[ORDER]),
}


def _both(*blocks):
    both = nn.HybridSequential()
    both.add(*blocks)
    return both


def between_group_convolutions(make):
    """A user's block: two group convolutions, a permutation between and one behind."""
    return [
        ConvBNReLU(12, 3),
        nn.Conv2D(12, 3, padding=1, groups=4, in_channels=12, use_bias=False),
        make(),
        nn.Conv2D(12, 1, groups=3, in_channels=12, use_bias=False),
        make(),
        nn.BatchNorm(in_channels=12),
        nn.Activation("relu"),
    ]


def behind_an_activation(make):
    return [
        ConvBNReLU(12, 3),
        make(),
        nn.Conv2D(12, 3, padding=1, in_channels=12, use_bias=False),
        nn.BatchNorm(in_channels=12),
        make(),
        nn.Activation("relu"),
        nn.MaxPool2D(3, 2, 1),
        ConvBNReLU(8, 12, 1),
    ]


PLACES = [between_group_convolutions, behind_an_activation]


class Own(NativeNetwork):
    def __init__(self, blocks, channels, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(*blocks, nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(5, in_units=channels)

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))


def build(place, make):
    mx.random.seed(3)
    blocks = place(make)
    net = Own(blocks, 12 if place is between_group_convolutions else 8)
    net.initialize(mx.init.Xavier(magnitude=3))
    for name, parameter in net.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.random.normal(0, 0.2, parameter.shape))
    return net


def results(net, dtype):
    net.cast(dtype)
    net.hybridize()
    x = mx.nd.array(X, dtype=dtype)
    arrays = {"inference": net(x)}
    with mx.autograd.record():
        scores = net(x)
        loss = (scores * mx.nd.arange(scores.size, dtype=dtype).reshape(scores.shape).sin()).sum()
    loss.backward()
    arrays["training"] = scores
    kinds = [(p.name.rstrip("0123456789").split("_")[-1], p) for p in net.collect_params().values()]
    arrays.update({f"gradient {i} {kind}": p.grad() for i, (kind, p) in enumerate(kinds) if p.grad_req != "null"})
    arrays.update({f"{i} {kind}": p.data() for i, (kind, p) in enumerate(kinds) if kind in ("mean", "var")})
    return {name: array.asnumpy() for name, array in arrays.items()}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PERMUTATIONS)
def test_outputs_and_gradients_are_those_of_stock_in_float64(name, place, monkeypatch):
    make, _ = PERMUTATIONS[name]
    net = build(place, make)
    left = {why for _, why in non_native_operators(net, (3, 3, 10, 12))}
    assert left <= {"operator FullyConnected has no native kernel here"}, left
    native_results = results(net, "float32")
    monkeypatch.setenv("IGC_NATIVE", "0")
    expected = results(build(place, make), "float64")
    for key, stock in expected.items():
        assert np.linalg.norm(native_results[key] - stock) <= 1e-4 * max(np.linalg.norm(stock), 0.1), key


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PERMUTATIONS)
def test_it_compiles(name, place, monkeypatch):
    make, _ = PERMUTATIONS[name]
    net = build(place, make)
    compiled = deploy.compile(net, (3, 10, 12))
    monkeypatch.setenv("IGC_NATIVE", "0")
    net.cast("float64")
    expected = net(mx.nd.array(X, dtype="float64")).asnumpy()
    np.testing.assert_allclose(compiled(X.astype(np.float32)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PERMUTATIONS)
def test_it_is_found(name):
    make, index = PERMUTATIONS[name]
    block = make()
    block.initialize()
    graph = trace(block)
    short = permutations.contracted(graph, graph.shapes([(2, 12, 10, 12)]))
    (node,) = short.nodes.values()
    assert node.op == permutations.PERMUTE and node.inputs == ("data",)
    np.testing.assert_array_equal(node.attributes["index"], index)


@pytest.mark.parametrize(
    "function",
    [
        lambda F, x: F.concat(F.slice_axis(x, axis=1, begin=0, end=6), F.slice_axis(x, axis=1, begin=0, end=6), dim=1),
        lambda F, x: F.reverse(x, axis=2),
        lambda F, x: F.transpose(x, axes=(0, 1, 3, 2)).reshape((0, 0, 10, 12)),
        lambda F, x: F.reshape(x, (0, 12, 12, 10)),
        lambda F, x: F.slice_axis(x, axis=1, begin=0, end=11),
    ],
)
def test_what_is_no_permutation_of_channels_is_none(function):
    graph = trace(Function(function))
    short = permutations.contracted(graph, graph.shapes([(2, 12, 10, 12)]))
    assert permutations.PERMUTE not in {node.op for node in short.nodes.values()}


def test_branches():
    for channels in (1, 2, 12, 30):
        for branches in range(1, channels + 1):
            if channels % branches == 0:
                index = np.arange(channels).reshape(branches, -1).T.ravel()
                assert branches_of(index) == (1 if (np.diff(index) == 1).all() else branches)
    assert branches_of(ORDER) is None


@pytest.mark.parametrize("batch", [1, 3])
def test_other_indices_are_noticed(batch, monkeypatch):
    net = build(between_group_convolutions, lambda: Take(ORDER))
    net.hybridize()
    x = mx.nd.array(X[:batch])
    net(x).wait_to_read()
    net.features[2].order.set_data(mx.nd.array(ORDER[::-1]))
    scores = net(x).asnumpy()
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(scores, net(x).asnumpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["cifar_sumfusion8_l2m3", "cifar_plain_igc5_l2m2"])
def test_one_image_of_a_network_with_sums_of_branches(name, monkeypatch):
    net = igc_gluon.get_model(name, classes=5)
    net.initialize(mx.init.Xavier(magnitude=3))
    x = mx.nd.array(X[:1])
    scores = net(x).asnumpy()
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(scores, net(x).asnumpy(), rtol=1e-3, atol=1e-4)
