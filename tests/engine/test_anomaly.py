"""Numbers that go wrong, in networks that are made to."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import igc_gluon
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.nn import initialize_as_authors

RNG = np.random.default_rng(0)
DATA, LABEL = RNG.standard_normal((8, 3, 32, 32), "float32"), np.zeros(8, "float32")


def parallel(net="cifar_plain_igc8_l4m2", lr=0.1):
    if isinstance(net, str):
        net = igc_gluon.get_model(net, classes=10, prefix="")
        mx.random.seed(3)
        initialize_as_authors(net, ctx=[mx.cpu()])
    net.hybridize(static_alloc=True)
    net(mx.nd.zeros((1, 3, 32, 32)))
    return DataParallel(net, [mx.cpu()], 2, AuthorsNesterov(learning_rate=lr))


def parameter(made, part):
    return next(p for name, p in made.net.collect_params().items() if part in name)


# In networks with shortcuts two layers read what a sum has made.
@pytest.mark.parametrize(
    "name", ["cifar_plain_igc8_l4m2", "cifar_resnet8_w4", "cifar_resnet_igc8_l4m2", "cifar_igcv2_8_c64"]
)
def test_a_healthy_network_is_left_alone(name):
    one, two = parallel(name), parallel(name)
    two.replicas.set_parameters(one.parameters())
    two.detect_anomaly()
    for made in (one, two):
        result = made.step(DATA, LABEL, 0.01)
        assert np.isfinite(result.loss) and result.broken is None and result.anomaly is None
        assert made.finite_check.end() is None
    for name, value in one.parameters().items():  # the probed step is the step
        np.testing.assert_allclose(two.parameters()[name], value, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_weight_is_named_a_step_later(value):
    made = parallel()
    made.step(DATA, LABEL, 0.01)
    weight = parameter(made, "weight")
    broken = weight.data().asnumpy()
    broken[0, 0, 0, 0] = value
    made.finite_check.begin()
    assert made.finite_check.end() is None
    weight.set_data(mx.nd.array(broken))
    made.finite_check.begin()
    layer = weight.name[: -len("_weight")]
    assert made.finite_check.end() == f"in layer {layer} the value of {weight.name} is not finite, or beyond 1e19,"


def test_what_the_next_batch_does_is_not_blamed_on_this_one():
    made = parallel()
    made.step(DATA, LABEL, 0.01)
    parameter(made, "weight").grad()[:] = np.nan  # by the backward pass of the next batch
    assert made.finite_check.end() is None


@pytest.mark.parametrize("value,whole", [(1e17, True), (1e20, False)])
def test_large_numbers(value, whole):
    made = parallel()
    weight = parameter(made, "weight")
    weight.set_data(mx.nd.full(weight.shape, value))
    made.finite_check.begin()
    assert (made.finite_check.end() is None) == whole


def test_a_broken_gradient_is_named_where_it_begins():
    """Backward it goes from the output on; the broken layer is the one nearest to the output."""
    made = parallel()
    made.step(DATA, LABEL, 0.01)
    names = [p.name for p in made.finite_check._parameters]
    for name in names[:5]:
        p = made.net.collect_params()[name]
        p.grad()[:] = np.nan
    made.finite_check.begin()
    assert (
        made.finite_check.end()
        == f"in layer {names[4].rpartition('_')[0]} the gradient of {names[4]} is not finite, or beyond 1e19,"
    )


def test_the_weights_stay_as_they_were_when_the_loss_breaks():
    made = parallel()
    last = [p for p in made.net.collect_params().values() if p.name.endswith("weight")][-1]
    last.set_data(mx.nd.full(last.shape, np.inf))
    before = made.parameters()
    assert not np.isfinite(made.step(DATA, LABEL, 0.01).loss)
    assert all(before[n].tobytes() == a.tobytes() for n, a in made.parameters().items() if "running" not in n)


class Overflow(mx.gluon.HybridBlock):
    def hybrid_forward(self, F, x):
        return x * 1e38 * 1e38


class SteepBackward(mx.gluon.HybridBlock):
    """Finite, with a gradient that is not: the root of 0."""

    def hybrid_forward(self, F, x):
        return F.sqrt(F.abs(x) * 0)


def small(middle):
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(4, 3, strides=8, in_channels=3), middle, nn.Activation("relu"), nn.Flatten(), nn.Dense(10))
    net.initialize()
    return net


@pytest.mark.parametrize(
    "middle,text",
    [
        (Overflow(prefix="overflow"), "1 (Overflow overflow) makes "),
        (SteepBackward(prefix="steep"), "0 (Conv2D net_conv0) gets a gradient of "),
    ],
)
def test_the_first_layer_is_found(middle, text):
    made = parallel(small(middle))
    made.detect_anomaly()
    before = made.parameters()
    anomaly = made.step(DATA, LABEL, 0.01).anomaly
    assert anomaly.startswith(text) and "values that are not finite" in anomaly
    assert all(before[n].tobytes() == a.tobytes() for n, a in made.parameters().items())


@pytest.mark.parametrize("native", ["0", "1"])
def test_the_first_layer_of_a_native_network_is_found(native, monkeypatch):
    """A weight is so large that its convolution overflows; BN makes NaN of it, ReLU a 0, and the loss may be finite."""
    monkeypatch.setenv("IGC_NATIVE", native)
    made = parallel()
    weight = [p for p in made.net.collect_params().values() if p.name.endswith("weight")][3]
    weight.set_data(mx.nd.full(weight.shape, 3e38))
    line = made.first_broken_layer(DATA, LABEL)
    layer = weight.name[: -len("_weight")]
    assert layer in line and "makes" in line, (line, layer)
