"""Users' networks: what `hybrid_forward` computes is what runs, natively or on MXNet's operators."""

import copy
import ctypes
import gc
import weakref

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn
from mxnet.gluon.contrib.nn import HybridConcurrent

import igc_gluon
from igc_gluon import deploy
from igc_gluon.graph import NativeNetwork, native_block
from igc_gluon.model_zoo.cifar import CIFARNet
from igc_gluon.native import operators
from igc_gluon.native.operators import unavailable_reason
from igc_gluon.nn import ConvBNReLU, IGCBlock
from igc_gluon.nn.basic import NativeLayers

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

X = mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, 12, 12)))


def valued(net, seed=0):
    """`net` with values that matter, those of moving statistics too."""
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(magnitude=3), force_reinit=True)
    for name, parameter in net.collect_params().items():
        if parameter.shape and name.endswith(("gamma", "running_var")):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
        elif parameter.shape and name.endswith(("beta", "running_mean")):
            parameter.set_data(mx.nd.random.normal(0, 0.2, parameter.shape))
    return net


def agree(net, monkeypatch, x=X, hybridize=False):
    """Native and stock outputs of inference and training, gradients and moving statistics are the same."""
    parameters = net.collect_params()
    before = {name: p.data().copy() for name, p in parameters.items()}
    net.hybridize(hybridize)
    both = []
    for native in "10":
        monkeypatch.setenv("IGC_NATIVE", native)
        for name, p in parameters.items():
            p.set_data(before[name])
        results = {"inference": net(x)}
        with mx.autograd.record():
            results["training"] = net(x)
            loss = (
                results["training"] * mx.nd.arange(results["training"].size).reshape(results["training"].shape).sin()
            ).sum()
        loss.backward()
        mx.nd.waitall()
        results.update({f"gradient of {name}": p.grad() for name, p in parameters.items() if p.grad_req != "null"})
        results.update({name: p.data() for name, p in parameters.items() if "running" in name})
        both.append({name: array.asnumpy() for name, array in results.items()})
    monkeypatch.setenv("IGC_NATIVE", "1")
    for name, stock in both[1].items():
        assert np.linalg.norm(both[0][name] - stock) <= 1e-4 * max(np.linalg.norm(stock), 0.1), name


class Scaled(HybridBlock):
    """Children called as those of a residual block, and something else made of them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = nn.HybridSequential()
            self.body.add(ConvBNReLU(8, 8), ConvBNReLU(8, 8, activation=None))
            self.shortcut = None

    def hybrid_forward(self, F, x):
        return x + 0.1 * self.body(x)


class Own(NativeNetwork):
    def __init__(self, *blocks, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(ConvBNReLU(8, 3), *blocks, nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(5, in_units=8)

    def hybrid_forward(self, F, x):
        return self.output(self.features(x))


class Softmax(Own):
    def hybrid_forward(self, F, x):
        return F.softmax(super().hybrid_forward(F, x))


class Normalized(Own):
    def hybrid_forward(self, F, x):
        return F.L2Normalization(self.features(x)) * 3


class ZooSoftmax(CIFARNet):
    def hybrid_forward(self, F, x):
        return F.softmax(super().hybrid_forward(F, x))


def zoo_softmax():
    net = igc_gluon.get_model("cifar_plain_igc8_l2m2", classes=5)
    net.__class__ = ZooSoftmax
    return net


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize(
    "make", [lambda: Own(Scaled()), lambda: Softmax(IGCBlock(4, 8)), lambda: Normalized(IGCBlock(4, 8)), zoo_softmax]
)
def test_networks_of_ones_own(make, hybridize, monkeypatch):
    agree(valued(make()), monkeypatch, hybridize=hybridize)


def test_rows_of_a_softmax_add_up_to_one():
    np.testing.assert_allclose(valued(Softmax(IGCBlock(4, 8)))(X).asnumpy().sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(valued(zoo_softmax())(X).asnumpy().sum(1), 1, rtol=1e-5)


def test_a_scaled_branch_is_no_residual_block(monkeypatch):
    net = valued(Own(Scaled()))
    block = net.features[1]
    maps = net.features[0](X)
    expected = net.output(net.features[3](net.features[2](maps + 0.1 * block.body(maps)))).asnumpy()
    np.testing.assert_allclose(net(X).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def replaced(block):
    other = nn.BatchNorm(in_channels=8, prefix="other_")
    valued(other, 1)
    block._children["1"] = other


def given_a_class(**methods):
    return lambda block: setattr(block, "__class__", type("Twice", (type(block),), methods))


class Plain(NativeLayers):
    pass


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda block: setattr(block, "hybrid_forward", lambda F, x: 2 * x),
        lambda block: setattr(block, "forward", lambda x: 2 * x),
        lambda block: setattr(block[1], "forward", lambda x: 2 * x),
        given_a_class(hybrid_forward=lambda self, F, x: 2 * x),
        given_a_class(forward=lambda self, x: 2 * x),
        given_a_class(__call__=lambda self, x: 2 * x),
        replaced,
        lambda block: block._children.popitem(),
        lambda block: block._children.move_to_end("0"),
        lambda block: block.add(nn.Activation("tanh")),
        lambda block: block[0]._kwargs.update(stride=(2, 2)),
        lambda block: block[1]._kwargs.update(eps=1.0),
        lambda block: setattr(block[2], "_act_type", "tanh"),
    ],
)
def test_what_is_changed_after_a_call_is_noticed(change, hybridize, monkeypatch):
    """The reference is the same network, changed before its first call, on MXNet's operators."""

    def scores(call_before):
        net = Own(Plain())
        net.features[1].add(
            nn.Conv2D(8, 3, padding=1, in_channels=8, use_bias=False),
            nn.BatchNorm(in_channels=8),
            nn.Activation("relu"),
        )
        valued(net)
        if call_before:
            net.hybridize(hybridize)
            net(X).wait_to_read()
            with mx.autograd.record():
                net(X).wait_to_read()
            valued(net)
        change(net.features[1])
        return net(X).asnumpy()

    native_scores = scores(True)
    monkeypatch.setenv("IGC_NATIVE", "0")
    np.testing.assert_allclose(native_scores, scores(False), rtol=1e-4, atol=1e-5)


def test_patched_classes_are_noticed(monkeypatch):
    net = valued(Own())
    before = net(X).asnumpy()
    inner = nn.Activation.hybrid_forward
    monkeypatch.setattr(nn.Activation, "hybrid_forward", lambda self, F, x: 2 * inner(self, F, x))
    np.testing.assert_allclose(
        net.features(X).asnumpy(), 2 * net.features[1:](net.features[0][:2](X).relu()).asnumpy(), rtol=1e-4
    )
    assert abs(net(X).asnumpy() - before).max() > 1e-3


class Factor(Own):
    factor = 1.0

    def hybrid_forward(self, F, x):
        return self.factor * self.features(x)


@pytest.mark.parametrize("hybridize", [False, True])
def test_an_attribute_that_changes_is_noticed(hybridize, record_operators):
    net = valued(Factor())
    net.hybridize(hybridize)
    once = net(X).asnumpy()
    net.factor = 2.0
    np.testing.assert_allclose(net(X).asnumpy(), 2 * once, rtol=1e-5)
    if hybridize:
        assert record_operators == ["igc_body_infer"] * 2


def test_code_of_ones_own_that_is_not_hybridized_runs_at_every_call():
    calls = []

    class Counted(Own):
        def hybrid_forward(self, F, x):
            calls.append(F)
            return super().hybrid_forward(F, x)

    net = valued(Counted())
    for _ in range(3):
        net(X)
    assert calls == [mx.nd] * 3


class Reused(Own):
    """One layer twice, the same weights in two layers."""

    def __init__(self, norm_twice, **kwargs):
        super().__init__(**kwargs)
        self._norm_twice = norm_twice
        with self.name_scope():
            self.conv = nn.Conv2D(8, 3, padding=1, in_channels=8, use_bias=False)
            self.again = nn.Conv2D(8, 3, padding=1, in_channels=8, use_bias=False, params=self.conv.params)
            self.bn, self.other = nn.BatchNorm(in_channels=8), nn.BatchNorm(in_channels=8)

    def hybrid_forward(self, F, x):
        x = F.relu(self.bn(self.conv(self.features[0](x))))
        for _ in range(9):
            x = self.again(x) / 4
        x = F.relu((self.bn if self._norm_twice else self.other)(self.conv(x)))
        return self.output(self.features[1:](x))


class Concatenated(Own):
    """Values that many read, parts and several outputs within."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.branches = HybridConcurrent(axis=1)
            self.branches.add(*[ConvBNReLU(2 + i % 2, 8) for i in range(10)])
            self.last = ConvBNReLU(8, 25)

    def hybrid_forward(self, F, x):
        x = self.features[0](x)
        parts = F.split(self.branches(x), num_outputs=5, axis=1)
        x = self.last(F.concat(*[parts[i] for i in (4, 2, 0, 1, 3)], dim=1)) * F.sigmoid(x)
        return self.output(self.features[1:](x))


@pytest.mark.parametrize("hybridize", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Reused(False),
        Concatenated,
        lambda: Own(Own(Scaled()).features[1]),
        lambda: Own(nn.HybridLambda("tanh"), Scaled(), nn.Dropout(0), Scaled()),
    ],
)
def test_reused_and_branching_layers(make, hybridize, monkeypatch):
    agree(valued(make()), monkeypatch, hybridize=hybridize)


def test_a_normalization_that_is_used_twice(monkeypatch):
    agree(valued(Reused(True)), monkeypatch, hybridize=True)


class Several(NativeNetwork):
    """Two inputs; nested outputs."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.one, self.two = ConvBNReLU(8, 3), ConvBNReLU(8, 3)

    def hybrid_forward(self, F, x, y):
        a, b = self.one(x), self.two(y)
        return a + b, [a, F.mean(b, axis=(2, 3))]


def test_several_inputs_and_outputs(monkeypatch, record_operators):
    net = valued(Several())
    net.hybridize()
    a, (b, c) = net(X, 2 * X)
    assert record_operators == ["igc_body_infer"] * 2
    monkeypatch.setenv("IGC_NATIVE", "0")
    for result, expected in zip((a, b, c), (lambda s: (s[0], *s[1]))(net(X, 2 * X))):
        np.testing.assert_allclose(result.asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-5)


def test_more_inputs_than_before_and_copies():
    net = valued(Own(IGCBlock(4, 8)))
    scores = net(X).asnumpy()
    twin = copy.deepcopy(net)
    twin.output.weight.set_data(mx.nd.zeros_like(twin.output.weight.data()))
    twin.output.bias.set_data(mx.nd.ones(5))
    assert (twin(X).asnumpy() == 1).all()
    np.testing.assert_array_equal(net(X).asnumpy(), scores)
    with pytest.raises(TypeError):
        net(X, X)


def test_a_child_of_ones_own_called_model_can_be_compiled():
    class Wrapped(HybridBlock):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            with self.name_scope():
                self.model = Own(Scaled())
                self.dataset = "nothing of ours"

        def hybrid_forward(self, F, x):
            return self.model(x)

    net = valued(Wrapped())
    compiled = deploy.compile(net, (3, 12, 12))
    np.testing.assert_allclose(compiled(X.asnumpy()), net(X).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["model", "mean", "std", "crop", "classes", "dataset", "preprocessing"])
def test_attributes_of_ones_own_are_not_taken_for_ours(name):
    net = valued(Own())
    setattr(net, name, "mine")
    assert deploy.compile(net, (3, 12, 12)).name == net.name


def test_networks_whose_parameters_have_the_same_names():
    """As those of `igc models` have; by itself each of them runs natively."""

    class Ensemble(NativeNetwork):
        def __init__(self):
            super().__init__()
            self.one, self.two = (igc_gluon.get_model("cifar_plain_igc5_l2m2", classes=5) for _ in range(2))

        def hybrid_forward(self, F, x):
            return self.one(x) - self.two(x)

    net = Ensemble()
    for number, part in enumerate((net.one, net.two)):
        valued(part, number)
    np.testing.assert_allclose(net(X).asnumpy(), (net.one(X) - net.two(X)).asnumpy(), rtol=1e-4, atol=1e-5)
    assert abs(net(X).asnumpy()).max() > 0.1


def test_a_network_from_a_file(tmp_path, record_operators, monkeypatch):
    net = valued(Own(IGCBlock(4, 8), Scaled()))
    net.hybridize()
    scores = net(X).asnumpy()
    net.export(str(tmp_path / "net"))
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    np.testing.assert_allclose(igc_gluon.accelerate(block)(X).asnumpy(), scores, rtol=1e-4, atol=1e-5)
    agree(block, monkeypatch)
    assert record_operators == ["igc_body_infer"] * 6 + ["igc_body_train"] * 2  # up to the scaled branch, and in it


def test_nothing_is_left_of_a_network_that_is_gone():
    net = valued(Own(IGCBlock(4, 8)))
    net.hybridize()
    net(X).wait_to_read()
    with mx.autograd.record():
        net(X).wait_to_read()
    programs = [weakref.ref(program) for program in vars(net)["_native"]._programs.values()]
    assert len(programs) == 2
    del net
    gc.collect()
    assert [program() for program in programs] == [None, None]


class MallInfo(ctypes.Structure):  # struct mallinfo2 of glibc
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def bytes_in_use():
    """Of malloc, and of what the native operators keep for networks; not what malloc keeps of what is free."""
    mx.nd.waitall()
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo
    found = mallinfo2()
    idle = operators.functions().igc_body_idle_bytes
    idle.restype = ctypes.c_int64
    return found.hblkhd + found.uordblks + idle()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc from 2.33 on says how much is in use")
def test_no_memory_is_left_of_networks_that_are_gone():
    def once():
        net = igc_gluon.get_model("cifar_plain_igc8_l24m2", classes=10)
        net.initialize()
        net.hybridize(static_alloc=True)
        net(mx.nd.zeros((1, 3, 32, 32))).wait_to_read()
        net(mx.nd.zeros((2, 3, 32, 32))).wait_to_read()
        return net

    once()
    before = bytes_in_use()
    kept = once()
    of_one = bytes_in_use() - before
    del kept
    before = bytes_in_use()
    for _ in range(8):
        once()
    assert of_one > 2e6  # its parameters, and those in the order of the kernels
    assert bytes_in_use() - before < 0.05 * of_one


def test_sizes_of_images_are_forgotten_in_time():
    net = valued(Own())
    net.hybridize()
    for size in range(4, 40):
        net(mx.nd.ones((1, 3, size, size))).wait_to_read()
    assert len(vars(net)["_native"]._programs) == 16


def test_accelerate(monkeypatch, record_operators, caplog):
    def make():
        net = nn.HybridSequential(prefix="net_")
        with net.name_scope():
            net.add(
                ConvBNReLU(8, 3),
                nn.Conv2D(8, 3, padding=1, in_channels=8),
                nn.BatchNorm(in_channels=8),
                nn.LeakyReLU(0.1),
                Scaled(),
                nn.AvgPool2D(2),
                ConvBNReLU(4, 8),
                nn.GlobalAvgPool2D(),
                nn.Dense(3, in_units=4),
            )
        return valued(net)

    for hybridize in (True, False):
        agree(igc_gluon.accelerate(make()), monkeypatch, hybridize=hybridize)
    assert record_operators.count("igc_body_train") >= 3 + 2
    left = dict(native_block.non_native_operators(make(), X.shape))
    assert "a convolution of this form" in left["net_conv0_fwd"] and not any("dense" in n and "conv" in n for n in left)
    with pytest.raises(TypeError, match="HybridBlock"):
        igc_gluon.accelerate(nn.Sequential())
