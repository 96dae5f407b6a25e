"""CIFAR networks on the native operators against the same networks on MXNet's own."""

import ctypes
import gc
import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import complexity
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.graph import native_block, segments, trace
from igc_gluon.model_zoo.registry import find_family
from igc_gluon.native import library
from igc_gluon.native.operators import unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

NETWORKS = [
    ("cifar_plain8_w5", {}),
    ("cifar_plain_igc8_l24m2", {}),
    ("cifar_plain_igc8_l4m4", {}),
    ("cifar_plain_igc5_l3m1", {}),
    ("cifar_plain_igc5_l1m6", {}),
    ("cifar_resnet10_w6", {}),
    ("cifar_resnet_igc10_l3m2", {}),
    ("cifar_resnet_igc14_l4m2", {"downsample": "code"}),
    ("cifar_sumfusion8_l2m3", {}),
    ("cifar_gpc8_l3m4", {}),
    ("cifar_xception8_c21", {}),
    ("cifar_igcv2_8_c18", {}),
]
# Compared on one instruction set: the kernels themselves are compared in test_native_training.
MORE = [
    ("cifar_igcv1_8_c10", {}),
    ("cifar_igcv2_8_c64", {}),
    ("cifar_igcv2star_8_c64", {}),
    ("cifar_flat_igc5_l40m2", {}),
    ("cifar_flat_gpc5_l30m2", {}),
    ("cifar_flat_xception5_c64", {}),
    ("cifar_flat_igcv2_5_c144k12l3", {}),
    ("cifar_flat_igcv2_5_c174k6l4", {}),
    ("cifar_flat_igcv2i_5_c98k7", {}),
    ("cifar_flat_igc_bottleneck5_l12m8", {}),
    ("cifar_resnet_igc8_l3m4", {"bottleneck": 2}),
    ("cifar_igcv3_d0.5", {"partitions": (2, 4)}),
    ("cifar_igcv3_d0.5", {"strides": (64, 160)}),
    ("cifar_igcv3_d0.5", {}),
    ("cifar_igcv3_d0.5", {"block": "paper"}),
    ("igcv2_0.25", {}),
    ("igcv3_0.7", {}),
    ("resnet18_w5", {}),
    ("resnet18_igc_l6m2", {}),
    ("resnet18_igc_l4m4", {}),
]
RNG = np.random.RandomState(0)
DATA = mx.nd.array(RNG.standard_normal((6, 3, 20, 24)))
LABEL = mx.nd.array([1, 0, 3, 2, 4, 1])
LOSS = mx.gluon.loss.SoftmaxCrossEntropyLoss()


@pytest.fixture
def called(count_operators):
    """How often each native operator was called."""
    return count_operators


def build(name, options=None, hybridize=True, seed=0):
    mx.random.seed(seed)
    net = igc_gluon.get_model(name, **{"classes": 5, **(options or {})})
    net.initialize()
    for key, parameter in net.collect_params().items():  # statistics and scores that matter
        if key.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif key.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.random.normal(0, 0.2, parameter.shape))
    if hybridize:
        net.hybridize(static_alloc=True, static_shape=True)
    return net


def one_step(net, data=DATA, label=LABEL):
    with mx.autograd.record():
        loss = LOSS(net(data), label)
    loss.backward()
    mx.nd.waitall()
    arrays = {name: p.grad().asnumpy() for name, p in net.collect_params().items() if p.grad_req != "null"}
    arrays.update({name: p.data().asnumpy() for name, p in net.collect_params().items() if "running" in name})
    return {"loss": loss.asnumpy(), **arrays}


def close(actual, expected, what="", tolerance=1e-4):
    assert np.linalg.norm(actual - expected) <= tolerance * max(np.linalg.norm(expected), 0.1), what


@pytest.mark.parametrize("name,options", NETWORKS)
@pytest.mark.parametrize("isa", library.ISAS)
def test_a_step_and_inference_agree_with_stock(name, options, isa, called, monkeypatch):
    try:
        library.use_isa(isa)
    except igc_gluon.errors.UserError:
        pytest.skip(f"no {isa} here")
    try:
        net = build(name, options)
        scores, native = net(DATA).asnumpy(), one_step(net)
        assert called == {"igc_body_train": 1, "igc_body_infer": 1}
    finally:
        library.use_isa()
    monkeypatch.setenv("IGC_NATIVE", "0")
    net = build(name, options)
    close(scores, net(DATA).asnumpy(), "scores")
    stock = one_step(net)
    assert called == {"igc_body_train": 1, "igc_body_infer": 1}
    assert native.keys() == stock.keys()
    for key in stock:
        close(native[key], stock[key], key)


@pytest.mark.parametrize("name,options", MORE)
def test_every_family_agrees_with_stock_in_float64(name, options, called, monkeypatch):
    """Gradients that are left over where large terms cancel are measured by what stock float32 loses. An
    activation next to 0 or 6 may fall on either side of it; it does not for every batch."""
    bad = [errors_above_those_of_stock(name, options, 0, monkeypatch)]
    while bad[-1] and len(bad) < 3:
        bad.append(errors_above_those_of_stock(name, options, len(bad), monkeypatch))
    assert not bad[-1], bad
    assert called == {"igc_body_train": len(bad), "igc_body_infer": len(bad)}


def errors_above_those_of_stock(name, options, seed, monkeypatch):
    size = (20, 24) if name.startswith("cifar") else (64, 64)
    data = mx.nd.array(np.random.RandomState(seed).standard_normal((4, 3, *size)))
    results = {}
    for kind, native, dtype in (("kernels", "1", "float32"), ("single", "0", "float32"), ("double", "0", "float64")):
        monkeypatch.setenv("IGC_NATIVE", native)
        net = build(name, {"classes": 6, **options})
        net.cast(dtype)
        results[kind] = {"scores": net(data.astype(dtype)).asnumpy(), **one_step(net, data.astype(dtype), LABEL[:4])}
    errors = {
        kind: {
            key: np.linalg.norm(results[kind][key] - exact) / max(np.linalg.norm(exact), 0.1)
            for key, exact in results["double"].items()
        }
        for kind in ("kernels", "single")
    }
    worst = max(errors["single"].values())
    assert results["kernels"].keys() == results["double"].keys()
    return {
        key: error
        for key, error in errors["kernels"].items()
        if not error <= max(1e-4, 2 * errors["single"][key], worst)
    }


def test_every_network_has_kernels():
    """Of `igc models`, at the size of image that it is made for."""
    for name in igc_gluon.get_model_list():
        size = find_family(name)[0].input_size
        graph = trace(igc_gluon.get_model(name))
        native_parts, reasons = segments.find(graph, graph.shapes([(1, 3, size, size)]))
        left = {graph.nodes[number].op for number in reasons}
        if re.search(
            "_(relu|secondary|both|separable)", name
        ):  # variants of IGCV1's section 4: native between and around
            assert native_parts
        else:
            assert len(native_parts) == 1 and left <= {"FullyConnected", "Convolution", "Flatten"}, (name, reasons)


def losses(name, steps=12, data=DATA, label=LABEL, dtype="float32"):
    net = build(name)
    net.cast(dtype)
    trainer = mx.gluon.Trainer(net.collect_params(), AuthorsNesterov(wd=1e-4, learning_rate=0.01))
    result = []
    for _ in range(steps):
        with mx.autograd.record():
            loss = LOSS(net(data.astype(dtype)), label.astype(dtype))
        loss.backward()
        trainer.step(len(label))
        result.append(loss.mean().asscalar())
    mx.nd.waitall()
    return np.array(result), {name: p.data().asnumpy() for name, p in net.collect_params().items()}


@pytest.mark.parametrize("name", ["cifar_plain_igc8_l24m2", "cifar_resnet_igc8_l4m2", "cifar_igcv2_8_c18"])
def test_the_loss_curve_is_that_of_stock_and_the_same_run_gives_the_same_bits(name, called, monkeypatch):
    native, parameters = losses(name)
    again, parameters_again = losses(name)
    assert called["igc_body_train"] == 24 and native[-1] < 0.9 * native[0]
    assert (native == again).all() and all((parameters_again[k] == v).all() for k, v in parameters.items())
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(native, losses(name)[0], rtol=2e-3)


def test_the_number_of_threads_is_openmps_and_at_most_mxnets_own():
    """Seen in the bits: threads add up the gradients of a share of the images each."""
    code = (
        "import hashlib, test_native_gluon as t\n"
        "parameters = t.losses('cifar_plain_igc8_l4m2', 2)[1]\n"
        "print(hashlib.sha256(b''.join(v.tobytes() for k, v in sorted(parameters.items()))).hexdigest())"
    )

    def bits(**environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            stdout=subprocess.PIPE,
            cwd=str(Path(__file__).parent),
            env=dict(os.environ, **environment),
        ).stdout

    one, two = bits(OMP_NUM_THREADS="1"), bits(OMP_NUM_THREADS="2")
    assert one != two
    assert bits(OMP_NUM_THREADS="2", MXNET_OMP_MAX_THREADS="1") == one
    assert bits(OMP_NUM_THREADS="2", MXNET_OMP_MAX_THREADS="3") == two


def test_the_loss_curve_of_a_resnet_18_is_that_of_double_precision(called, monkeypatch):
    data, label = mx.nd.array(RNG.standard_normal((8, 3, 64, 64))), mx.nd.array(RNG.randint(0, 5, 8))
    native, _ = losses("resnet18_igc_l6m2", 8, data, label)
    assert called["igc_body_train"] == 8
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(native, losses("resnet18_igc_l6m2", 8, data, label, "float64")[0], rtol=1e-4)


def test_two_passes_before_one_backward(called):
    """Shards of a batch: each pass is remembered by itself and gradients add up."""
    # Not static_shape: with it, stock MXNet (the scores' layer) gets the second of two passes wrong.
    net = build("cifar_plain_igc8_l4m2", hybridize=False)
    net.hybridize(static_alloc=True)
    halves = [(DATA[:3], LABEL[:3]), (DATA[3:], LABEL[3:])]
    with mx.autograd.record():
        together = [LOSS(net(data), label) for data, label in halves]
    mx.autograd.backward(together)
    names = [name for name, p in net.collect_params().items() if p.grad_req != "null"]
    found = {name: net.collect_params()[name].grad().asnumpy() for name in names}
    total = {name: 0 for name in names}
    for data, label in halves:
        with mx.autograd.record():
            loss = LOSS(net(data), label)
        loss.backward()
        for name in names:
            total[name] = total[name] + net.collect_params()[name].grad().asnumpy()
    for name in names:
        close(found[name], total[name], name, 1e-6)
    assert called["igc_body_train"] == 4


def test_gradients_that_are_added_or_not_wanted(called):
    expected = one_step(build("cifar_resnet_igc8_l3m2"))
    net = build("cifar_resnet_igc8_l3m2")
    net.collect_params(".*conv.*").setattr("grad_req", "add")
    net.collect_params("g0.*").setattr("grad_req", "null")
    one_step(net)
    found = one_step(net)
    for name, parameter in net.collect_params().items():
        if parameter.grad_req == "add":
            close(found[name], 2 * expected[name], name, 1e-6)
        elif parameter.grad_req == "write":
            close(found[name], expected[name], name, 1e-6)
    assert called["igc_body_train"] == 3


def test_the_gradient_of_the_data(called, monkeypatch):
    gradients = []
    for native in "10":
        monkeypatch.setenv("IGC_NATIVE", native)
        data = DATA.copy()
        data.attach_grad()
        one_step(build("cifar_plain_igc8_l3m2"), data)
        gradients.append(data.grad.asnumpy())
    close(*gradients)
    assert called["igc_body_train"] == 1


def test_batches_of_several_sizes(called, monkeypatch):
    net = build("cifar_plain_igc8_l4m2")
    results = [net(DATA[:n, :, :h]).asnumpy() for n, h in ((6, 20), (1, 20), (3, 7))]
    assert called["igc_body_infer"] == 3
    monkeypatch.setenv("IGC_NATIVE", "0")
    for (n, h), found in zip(((6, 20), (1, 20), (3, 7)), results):
        close(found, net(DATA[:n, :, :h]).asnumpy(), (n, h))
    for n in (6, 2, 5):
        one = []
        for native in "10":
            monkeypatch.setenv("IGC_NATIVE", native)
            with mx.autograd.record():
                one.append(net(DATA[:n]).asnumpy())
        close(*one, n)
    assert called["igc_body_train"] == 3


def _float64(net):
    net.cast("float64")
    return net


@pytest.mark.parametrize(
    "make,text",
    [
        (
            lambda: build("cifar_plain_igc8_l2m2", {"norm_layer": mx.gluon.contrib.nn.SyncBatchNorm}, hybridize=False),
            "SyncBatchNorm",
        ),
        (
            lambda: build("cifar_plain_igc8_l2m2", {"norm_kwargs": {"use_global_stats": True}}),
            "BatchNorm with other options",
        ),
        (lambda: _float64(build("cifar_plain_igc8_l2m2")), "not dense float32"),
    ],
)
def test_what_has_no_kernel_runs_on_stock_operators_and_says_so_once(make, text, called, caplog):
    native_block._log_once.cache_clear()
    net = make()
    data = DATA.astype(net.output.weight.dtype)
    with caplog.at_level(logging.WARNING, "igc_gluon"):
        assert np.isfinite(net(data).asnumpy()).all()
        net(data)
    assert not any(called.values())
    lines = [r.getMessage() for r in caplog.records if "native" in r.getMessage()]
    assert len(lines) == 1 and text in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize(
    "options,parts",
    [({"spatial": "separable"}, 4), ({"spatial": "secondary"}, 4), ({"spatial": "both"}, 4), ({"between": "relu"}, 4)],
)
@pytest.mark.parametrize("hybridize", [False, True])
def test_what_has_no_kernel_runs_on_stock_operators_between_native_parts(
    options, parts, hybridize, called, monkeypatch
):
    net = build("cifar_plain_igc5_l2m2", options, hybridize)
    scores, native = net(DATA).asnumpy(), one_step(net)
    assert called == {"igc_body_train": parts, "igc_body_infer": parts}
    monkeypatch.setenv("IGC_NATIVE", "0")
    net = build("cifar_plain_igc5_l2m2", options, hybridize)
    close(scores, net(DATA).asnumpy(), "scores")
    stock = one_step(net)
    for key in stock:
        close(native[key], stock[key], key)


def test_hooks_are_called_and_blocks_without_them_run_natively(called, caplog):
    native_block._log_once.cache_clear()
    net, seen = build("cifar_plain_igc8_l2m2", hybridize=False), []
    expected = net(DATA).asnumpy()
    net.features[1][0].register_forward_hook(lambda *_: seen.append(1))
    with caplog.at_level(logging.WARNING, "igc_gluon"):
        close(net(DATA).asnumpy(), expected)
    assert seen == [1] and called["igc_body_infer"] == 1 + 5  # of six
    assert [r.getMessage() for r in caplog.records] == ["native CPU kernels are not used: a block has a hook"]


def test_unusual_modes_run_on_stock_operators(called):
    net = build("cifar_plain_igc8_l2m2")
    with mx.autograd.train_mode():
        net(DATA).wait_to_read()
    with mx.autograd.record(train_mode=False):
        net(DATA).wait_to_read()
    assert not any(called.values())


def test_a_layer_that_is_replaced_is_noticed(called):
    net = build("cifar_plain_igc8_l2m2", hybridize=False)
    before = net(DATA).asnumpy()
    other = build("cifar_plain_igc8_l2m2", hybridize=False, seed=1)
    net.features._children["1"] = other.features[1]
    assert abs(net(DATA).asnumpy() - before).max() > 1e-3 and called["igc_body_infer"] == 2


def test_traced_networks_have_stock_operators(tmp_path, called):
    net = build("cifar_resnet_igc8_l3m2")
    scores = net(DATA).asnumpy()
    assert called["igc_body_infer"] == 1
    net.export(str(tmp_path / "net"))
    operators = {node["op"] for node in json.loads((tmp_path / "net-symbol.json").read_text())["nodes"]}
    assert "Convolution" in operators and not any(op.startswith("igc") for op in operators)
    again = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    close(again(DATA).asnumpy(), scores)
    assert complexity.totals(net).weights > 0


def test_checkpoints_pass_between_native_and_stock(tmp_path, monkeypatch):
    net = build("cifar_plain_igc8_l4m2")
    scores = net(DATA).asnumpy()
    net.save_parameters(str(tmp_path / "net.params"))
    monkeypatch.setenv("IGC_NATIVE", "0")
    stock = build("cifar_plain_igc8_l4m2", seed=5)
    stock.load_parameters(str(tmp_path / "net.params"))
    close(stock(DATA).asnumpy(), scores)


def test_nan_is_not_hidden():
    net = build("cifar_plain_igc8_l4m2")
    data = DATA.copy()
    data[1, 2, 3, 4] = np.nan
    assert np.isnan(net(data).asnumpy()).any()
    with mx.autograd.record():
        loss = LOSS(net(data), LABEL)
    assert np.isnan(loss.asnumpy()).all()


@pytest.mark.parametrize("shape", [(2, 4, 20, 24), (2, 3, 20), (3, 20, 24), ()])
def test_wrong_shapes_are_errors(shape):
    net = build("cifar_plain_igc8_l4m2")
    for train in (False, True):
        with pytest.raises((mx.MXNetError, ValueError)), mx.autograd.record() if train else mx.autograd.pause():
            net(mx.nd.ones(shape)).wait_to_read()


class Body(mx.gluon.HybridBlock):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def hybrid_forward(self, F, *inputs):
        return F.igc_body_train(*inputs, ops=self.text)


@pytest.mark.parametrize("static", [False, True])
def test_the_operator_in_a_graph(static):
    """As nd, in a hybridized block, and bound as a Symbol."""
    net = build("cifar_plain_igc5_l3m2", hybridize=False)
    data = DATA[:, :, :8, :8]
    graph = trace(net.features)
    body = segments.find(graph, graph.shapes([data.shape]))[0][0]
    text = library.text(body.ops)
    parameters = [graph.parameters[name] for name, *_ in body.parameters]
    running = [graph.parameters[name] for name in body.running]
    inputs = [data] + [p.data() for p in parameters] + [p.data().copy() for p in running]
    with mx.autograd.record():
        expected = mx.nd.igc_body_train(*[a.copy() if a is data else a for a in inputs], ops=text)
    expected.backward()
    gradients = [p.grad().asnumpy() for p in parameters]
    block = Body(text)
    block.hybridize(static_alloc=static, static_shape=static)
    for _ in range(2):
        with mx.autograd.record():
            y = block(*inputs)
        y.backward()
        np.testing.assert_array_equal(y.asnumpy(), expected.asnumpy())
        for p, g in zip(parameters, gradients):
            np.testing.assert_array_equal(p.grad().asnumpy(), g)
    variables = [mx.sym.var(f"a{i}") for i in range(len(inputs))]
    symbol = mx.sym.igc_body_train(*variables, ops=text)
    assert len(symbol.list_auxiliary_states()) == len(running)
    values = dict(zip([v.name for v in variables], inputs))
    executor = symbol.bind(
        mx.cpu(),
        {name: values[name] for name in symbol.list_arguments()},
        aux_states={name: values[name] for name in symbol.list_auxiliary_states()},
    )
    np.testing.assert_array_equal(executor.forward(is_train=True)[0].asnumpy(), expected.asnumpy())


@pytest.mark.parametrize(
    "ops,text",
    [
        ("", "no ops"),
        ("1,2", "is no op"),
        ("1,0,-1,8,2,3,3,1,1,1,1,1,1,1,1e-5", "is no op"),
        ("1,5,-1,8,1,3,3,1,1,1,1,1,1,1,1e-5,0.9", "make no op"),
        ("1,0,-1,8,0,3,3,1,1,1,1,1,1,1,1e-5,0.9", "make no op"),
        ("1,0,-1,8,1,99,99,1,1,1,1,1,1,1,1e-5,0.9", "make no op"),
    ],
)
def test_bad_attributes(ops, text):
    with pytest.raises(mx.MXNetError, match=text):
        mx.nd.igc_body_infer(DATA, *[mx.nd.ones(8)] * 5, ops=ops).wait_to_read()


def test_bad_ops_and_types():
    op, weights = "1,0,-1,8,1,3,3,1,1,1,1,1,1,1,1e-5,0.9", [mx.nd.ones((8, 3, 2, 2)), *[mx.nd.ones(8)] * 4]
    with pytest.raises(mx.MXNetError, match="kernel must be odd"):
        mx.nd.igc_body_infer(DATA, *weights, ops=op.replace("3,3", "2,2")).wait_to_read()
    weights[0] = mx.nd.ones((8, 3, 3, 3))
    with pytest.raises(mx.MXNetError, match="float32"):
        mx.nd.igc_body_infer(DATA.astype("float64"), *weights, ops=op).wait_to_read()


def idle_bytes():
    operators = ctypes.CDLL(str(library.path().with_name("libigc_mxnet.so")))
    operators.igc_body_idle_bytes.restype = ctypes.c_int64
    mx.nd.waitall()
    return operators.igc_body_idle_bytes()


def test_nothing_is_left_of_a_deleted_network():
    gc.collect()
    before = idle_bytes()
    for _ in range(3):
        net = build("cifar_plain_igc8_l4m2")
        net(DATA).wait_to_read()
        with mx.autograd.record():
            loss = LOSS(net(DATA), LABEL)
        loss.backward()
        del loss
        assert idle_bytes() > before
        del net
        gc.collect()
        assert idle_bytes() <= before


def test_memory_for_many_image_sizes_is_bounded():
    net = build("resnet18_igc_l100m2", hybridize=False)
    for size in range(32, 32 + 12 * 16, 16):
        net(mx.nd.zeros((1, 3, size, size))).wait_to_read()
    assert idle_bytes() < 100e6  # 57 MB of weights, 20 of the last size, 8 of others
