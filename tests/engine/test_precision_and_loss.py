"""Mixed precision, as far as a CPU shows it, and label smoothing."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock

from igc_gluon.engine import precision
from igc_gluon.engine.loss import SoftmaxLoss
from igc_gluon.engine.optimizer import OPTIMIZERS
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.errors import UserError


class Scaled(HybridBlock):
    """What a CPU computes in float16: the mean over the image of pixels times a weight for each class."""

    def __init__(self):
        super().__init__(prefix="")
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(1, 3, 1, 1), init=mx.init.One())

    def hybrid_forward(self, F, x, weight):
        return F.broadcast_mul(x, weight).mean(axis=(2, 3))


def parallel(dtype, optimizer):
    net = Scaled()
    net.initialize(ctx=[mx.cpu(0), mx.cpu(1)])
    net.cast(dtype)
    rule = OPTIMIZERS[optimizer](momentum=0.9, wd=1e-4, multi_precision=dtype == "float16")
    return DataParallel(net, [mx.cpu(0), mx.cpu(1)], 2, rule)


def steps(machine, count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        machine.step(rng.standard_normal((8, 3, 4, 4)).astype(np.float32), rng.integers(0, 3, 8), 0.05)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_float16_keeps_float32_weights_and_resumes_with_them(optimizer):
    half, single, resumed = (
        parallel("float16", optimizer),
        parallel("float32", optimizer),
        parallel("float16", optimizer),
    )
    steps(half, 20, seed=0)
    steps(single, 20, seed=0)
    weights, expected = half.parameters()["weight"], single.parameters()["weight"]
    assert weights.dtype == np.float32 and (weights.astype(np.float16) != weights).any()
    assert half.net.weight.data(mx.cpu(0)).dtype == np.float16
    np.testing.assert_allclose(weights, expected, atol=2e-3)
    resumed.load_state_dict(half.state_dict())
    for machine in (half, resumed):
        steps(machine, 5, seed=1)
    np.testing.assert_array_equal(half.parameters()["weight"], resumed.parameters()["weight"])


def test_what_a_cpu_cannot():
    precision.check_dtype("float32", [mx.cpu()])
    with pytest.raises(UserError, match="float16 needs GPUs"):
        precision.check_dtype("float16", [mx.cpu()])
    with pytest.raises(UserError, match="bfloat16 is for CPUs"):
        precision.check_dtype("bfloat16", [mx.gpu(0)])


def test_bfloat16_needs_a_cpu_that_has_it(monkeypatch):
    monkeypatch.setattr(precision, "_CPU_FLAGS", ("no_such_flag",))
    with pytest.raises(UserError, match="needs a CPU with no_such_flag"):
        precision.check_dtype("bfloat16", [mx.cpu()])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_the_cross_entropy_to_the_mixture(smoothing):
    rng = np.random.default_rng(0)
    scores, label = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    target = (1 - smoothing) * np.eye(4)[label] + smoothing / 4
    expected = -(target * (scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)))).sum(axis=1)
    np.testing.assert_allclose(
        SoftmaxLoss(smoothing)(mx.nd.array(scores), mx.nd.array(label)).asnumpy(), expected, rtol=1e-5
    )
