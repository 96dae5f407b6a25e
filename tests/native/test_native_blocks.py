"""The blocks of igc_gluon.nn in a user's network: each on its native operator, compared with stock MXNet."""

import mxnet as mx
import numpy as np
import pytest

from igc_gluon.native.operators import unavailable_reason
from igc_gluon.nn import (
    GPCBlock,
    GroupConv2D,
    IGCBlock,
    IGCV2Block,
    IGCV3Block,
    NonlinearIGCV2Block,
    SumFusion,
    XceptionBlock,
)

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

BLOCKS = [
    lambda: IGCBlock(24, 48),
    lambda: IGCBlock(4, 32),
    lambda: IGCBlock(4, 64, 32, strides=2),
    lambda: IGCBlock(3, 9, kernel_size=5),
    lambda: IGCBlock(5, 10, activation=None),
    lambda: IGCBlock(1, 7),
    lambda: GPCBlock(4, 24, 16),
    lambda: XceptionBlock(20),
    lambda: SumFusion(3, 8, 5),
    lambda: IGCV2Block((8, 8), 64),
    lambda: NonlinearIGCV2Block(16, 16, (4, 4)),
    lambda: IGCV3Block(12, 12, shortcut=True),
    lambda: IGCV3Block(12, 8, strides=2),
]


@pytest.fixture
def called(record_operators):
    """The names of the native operators that are called."""
    return record_operators


def everything(make, dtype="float32", hybridize=False):
    """Outputs of inference and training, gradients of data and parameters, moving statistics of a block after another
    layer."""
    mx.random.seed(0)
    rng = np.random.RandomState(0)
    block = make()
    channels = next(p.shape[1] for name, p in block.collect_params().items() if name.endswith("weight"))
    groups = [c._kwargs["num_group"] for c in find_convolutions(block)][0]
    block.initialize(mx.init.Xavier(magnitude=3))
    block.cast(dtype)
    for name, parameter in block.collect_params().items():
        if name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
        elif name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.array(rng.normal(0, 0.2, parameter.shape)))
    if hybridize:
        block.hybridize(static_alloc=True, static_shape=True)
    x = mx.nd.array(rng.standard_normal((6, channels * groups, 9, 11)), dtype=dtype)
    results = {"inference": block(x)}
    x.attach_grad()
    with mx.autograd.record():
        results["training"] = block(2 * x)
        factors = mx.nd.array(rng.standard_normal(results["training"].shape), dtype=dtype)
        loss = (results["training"] * factors).sum()
    loss.backward()
    mx.nd.waitall()
    results["gradient of x"] = x.grad
    for name, parameter in block.collect_params().items():
        name = name[len(block.prefix) :]
        results[name] = parameter.data() if "running" in name else parameter.grad()
    return {name: array.asnumpy() for name, array in results.items()}


def find_convolutions(block):
    own = [block] if isinstance(block, mx.gluon.nn.Conv2D) else []
    return own + [conv for child in block._children.values() for conv in find_convolutions(child)]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
@pytest.mark.parametrize("hybridize", [False, True])
def test_values_and_gradients_are_those_of_stock_in_double_precision(number, hybridize, called, monkeypatch):
    native_results = everything(BLOCKS[number], hybridize=hybridize)
    assert called == ["igc_body_infer", "igc_body_train"]
    monkeypatch.setenv("IGC_NATIVE", "0")
    expected, single = everything(BLOCKS[number], "float64"), everything(BLOCKS[number])
    assert native_results.keys() == expected.keys() and any("weight" in name for name in native_results)
    for name, exact in expected.items():
        error, stock = (np.linalg.norm(f[name] - exact) for f in (native_results, single))
        assert error <= max(1e-5 * max(np.linalg.norm(exact), 0.1), 2 * stock), name


def test_a_network_of_ones_own(called):
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(48, 3, padding=1, in_channels=3),
        IGCBlock(24, 48),
        IGCBlock(24, 96, 48, strides=2),
        mx.gluon.nn.GlobalAvgPool2D(),
        mx.gluon.nn.Dense(5, in_units=96),
    )
    net.initialize()
    x = mx.nd.random.normal(shape=(2, 3, 16, 16))
    native = net(x).asnumpy()
    assert called == ["igc_body_infer"] * 2
    net.hybridize()
    np.testing.assert_allclose(net(x).asnumpy(), native, rtol=1e-4, atol=1e-5)
    assert called == ["igc_body_infer"] * 2  # a hybridized parent is one graph of MXNet's operators


def test_what_has_no_kernel_goes_on_with_stock_operators(called):
    block = IGCBlock(4, 32, norm_kwargs={"use_global_stats": True})
    block.initialize()
    assert block(mx.nd.zeros((1, 32, 8, 8))).shape == (1, 32, 8, 8)
    block = IGCBlock(4, 32)
    block.initialize()
    with pytest.raises(mx.MXNetError):
        block(mx.nd.zeros((1, 31, 8, 8))).asnumpy()
    seen = []
    block[0].register_forward_hook(lambda *_: seen.append(1))
    block(mx.nd.zeros((1, 32, 8, 8)))
    assert seen and not called


class Doubled(GroupConv2D):
    def hybrid_forward(self, F, x, weight, bias=None):
        return 2 * super().hybrid_forward(F, x, weight, bias)


class WithShortcut(IGCBlock):
    shortcut = None

    def hybrid_forward(self, F, x):
        return 3 * super().hybrid_forward(F, x)


def replaced():
    block = IGCBlock(4, 32)
    block.primary = Doubled(32, 32, 4, (3, 3), prefix="other_")
    return block


@pytest.mark.parametrize("make", [replaced, lambda: WithShortcut(4, 32)])
def test_classes_of_ones_own_compute_what_they_say(make, called, monkeypatch):
    results = everything(make)
    assert not called
    monkeypatch.setenv("IGC_NATIVE", "0")
    for name, expected in everything(make).items():
        np.testing.assert_array_equal(results[name], expected, name)


def test_options_that_change_are_seen(called, monkeypatch):
    def frozen():
        block = IGCBlock(4, 32)
        block.initialize()
        block(mx.nd.zeros((1, 32, 8, 8))).wait_to_read()
        block[4]._kwargs["use_global_stats"] = True
        return block

    results = everything(frozen)
    assert called == ["igc_body_infer"]
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(results["training"], everything(frozen)["training"], rtol=1e-4, atol=1e-4)


def test_sizes_that_are_not_known_yet(called):
    block = IGCBlock(4, 32, norm_kwargs={"in_channels": 0})
    block.initialize()
    x = mx.nd.random.normal(shape=(2, 32, 8, 8))
    stock = block(x).asnumpy()
    assert not called
    np.testing.assert_allclose(block(x).asnumpy(), stock, rtol=1e-4, atol=1e-5)
    assert called == ["igc_body_infer"]


def test_gradients_of_data_are_added_where_that_is_asked_for(called):
    block, x = IGCBlock(4, 32), mx.nd.random.normal(shape=(2, 32, 8, 8))
    block.initialize()
    gradients = []
    for request, times in (("write", 1), ("add", 3)):
        x.attach_grad(request)
        for _ in range(times):
            with mx.autograd.record():
                loss = (block(x) ** 2).sum()
            loss.backward()
        gradients.append(x.grad.asnumpy())
    np.testing.assert_allclose(gradients[1], 3 * gradients[0], rtol=1e-4, atol=1e-4 * abs(gradients[0]).max())
    assert called == ["igc_body_train"] * 4


def test_arrays_of_numpys_kind_go_to_stock_operators(called):
    mx.npx.set_np()
    try:
        block = XceptionBlock(20)
        block.initialize()
        assert np.isfinite(block(mx.np.ones((2, 20, 8, 8))).asnumpy()).all() and not called
    finally:
        mx.npx.reset_np()


def test_equal_blocks_in_turn(called):
    """Each has weights of its own, and is not folded anew."""
    blocks, x = [IGCBlock(4, 32, prefix=f"b{i}_") for i in range(3)], mx.nd.random.normal(shape=(2, 32, 8, 8))
    for block in blocks:
        block.initialize()
    assert len({block(x).sum().asscalar() for _ in range(2) for block in blocks}) == 3
    assert len(called) == 6
