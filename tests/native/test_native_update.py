"""The update of all parameters as one operator against MXNet's operators: the same bits."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.native.operators import unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

SHAPES = [(3,), (48, 2, 3, 3), (40000,), (1,), (7, 5)]


@pytest.fixture
def calls(monkeypatch):
    made, operator = [], mx.nd.igc_nesterov

    def counted(*args, **kwargs):
        made.append(len(args) // 3)
        return operator(*args, **kwargs)

    monkeypatch.setattr(mx.nd, "igc_nesterov", counted)
    return made


def train(dtype="float32", context=None, **options):
    """Weights and momenta after some updates with a dropping rate."""
    rng = np.random.default_rng(0)
    context = context or mx.cpu()
    arrays = [[mx.nd.array(rng.standard_normal(s), ctx=context, dtype=dtype) for s in SHAPES] for _ in range(2)]
    optimizer = AuthorsNesterov(learning_rate=0.1, param_idx2name=dict(enumerate("abcde")), **options)
    optimizer.set_lr_mult({"b": 0.3})
    optimizer.set_wd_mult({"c": 0.0})
    updater = mx.optimizer.get_updater(optimizer)
    for _ in range(5):
        optimizer.set_learning_rate(float(10.0 ** -rng.uniform(0, 6)))
        gradients = [mx.nd.array(rng.standard_normal(s), ctx=context, dtype=dtype) for s in SHAPES]
        updater(list(range(len(SHAPES))), gradients, arrays[0])
    return [a.asnumpy() for a in arrays[0]] + [updater.states[i].asnumpy() for i in range(len(SHAPES))]


@pytest.mark.parametrize(
    "options",
    [{"wd": 1e-4, "rescale_grad": 1 / 64}, {"wd": 3.3e-6, "momentum": 0.123}, {"momentum": 0.0, "rescale_grad": 1 / 7}],
)
def test_the_bits_are_those_of_stock(options, calls, monkeypatch):
    native = train(**options)
    assert calls == [5] * 5
    monkeypatch.setenv("IGC_NATIVE", "0")
    for a, b in zip(native, train(**options)):
        assert (a == b).all()
    assert calls == [5] * 5


def test_on_a_second_cpu_and_in_float64(calls):
    for a, b in zip(train(wd=1e-3), train(wd=1e-3, context=mx.cpu(1))):
        assert (a == b).all()
    assert calls == [5] * 10
    for a, b in zip(train(wd=1e-3), train("float64", wd=1e-3)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert calls == [5] * 15


def test_weights_that_inference_left_in_blocks(calls):
    """oneDNN reorders the weights of a convolution in place when it is not trained."""
    conv = nn.Conv2D(64, 3, in_channels=64, use_bias=False)
    conv.initialize()
    before = conv.weight.data().asnumpy()
    conv.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.random.normal(shape=(8, 64, 16, 16))
    for _ in range(2):
        conv(x).wait_to_read()
    trainer = mx.gluon.Trainer(conv.collect_params(), AuthorsNesterov(learning_rate=1.0, momentum=0.0))
    conv.weight.grad()[:] = 1
    conv.weight.data()._fresh_grad = True
    trainer.step(1)
    assert calls == [1]
    np.testing.assert_array_equal(conv.weight.data().asnumpy(), before - 1)
    reference = nn.Conv2D(64, 3, in_channels=64, use_bias=False)
    reference.initialize()
    reference.weight.set_data(mx.nd.array(before - 1))
    np.testing.assert_allclose(conv(x).asnumpy(), reference(x).asnumpy(), rtol=1e-4, atol=1e-4)


def test_wrong_arrays_raise():
    one = mx.nd.ones((3,))
    numbers = dict(rate="1", rate_of_momentum="1", wd="0", rescale_grad="1", decay="0")
    with pytest.raises(mx.MXNetError, match="one shape"):
        mx.nd.igc_nesterov(one, mx.nd.ones((4,)), one, **numbers)
    with pytest.raises(mx.MXNetError, match="float32"):
        mx.nd.igc_nesterov(one, one.astype("float64"), one, **numbers)
    with pytest.raises(mx.MXNetError, match="needs decay"):
        mx.nd.igc_nesterov(one, one, one, rate="1", rate_of_momentum="1", wd="0", rescale_grad="1")[0].asnumpy()
    with pytest.raises(mx.MXNetError, match="for each weight"):
        mx.nd.igc_nesterov(one, one, one, **{**numbers, "wd": "0,0"})[0].asnumpy()
