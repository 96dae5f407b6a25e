"""IGCV3: the authors' released graph, as a Gluon network and as the independent symbol, and the printed counts."""

import json
from collections import Counter

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import complexity
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import authors
from symbols import igcv3

RNG = np.random.default_rng(0)
SHAPE = (2, 3, 64, 64)  # the graph takes any size; 64 keeps the test fast


def counts(name, size=224, **options):
    return complexity.totals(igc_gluon.get_model(name, **options), (3, size, size))


def test_counts_of_the_checkpoint():
    """Those of the arrays in the authors' checkpoint, and of their graph at 224."""
    totals = counts("igcv3_1.0")
    assert (totals.params, totals.params + totals.aux, totals.multiply_adds) == (3491688, 3556232, 312970176)


def test_table_11():
    """0.7 is printed as 2.0 M and 170 M multiply-adds, 1.0 as 3.5 M and 320 M, of which the second is not reached."""
    narrow, full = counts("igcv3_0.7"), counts("igcv3_1.0")
    assert f"{narrow.params / 1e6:.1f}" == "2.0" and f"{narrow.multiply_adds / 1e6:.0f}" == "170"
    assert f"{narrow.params / 1e6:.4f}" == "2.0317" and f"{narrow.multiply_adds / 1e6:.2f}" == "169.98"
    assert f"{full.params / 1e6:.1f}" == "3.5"


def test_depth_reduced_networks_have_their_share_of_parameters():
    """The authors' 0.5 and 0.7 are shares of parameters; on CIFAR-100 they print 1.2 and 1.7 M."""
    full = counts("cifar_igcv3_d1.0", 32).params
    for share, printed in ((0.5, "1.2"), (0.7, "1.7")):
        assert counts(f"cifar_igcv3_d{share}", 32).params / full == pytest.approx(share, abs=0.002)
        assert f"{counts(f'cifar_igcv3_d{share}', 32, classes=100).params / 1e6:.1f}" == printed
    assert counts("igcv3_d0.5").multiply_adds < counts("igcv3_d0.7").multiply_adds < counts("igcv3_1.0").multiply_adds


# Size of the map behind each sequence: 224x224 as in Table 10; 32x32 with stride 2 at 32 and 64 channels.
MAPS = {
    "igcv3_1.0": (112, 56, 28, 14, 14, 7, 7),
    "cifar_igcv3_d1.0": (32, 32, 16, 8, 8, 8, 8),
    "cifar_igcv3_d1.0 64,160": (32, 32, 32, 16, 16, 8, 8),
    "cifar_igcv3_0.5": (32, 32, 16, 8, 8, 8, 8),
}
SEQUENCES = ((1, 16, 1), (6, 24, 4), (6, 32, 6), (6, 64, 8), (6, 96, 6), (6, 160, 6), (6, 320, 1))  # t, c, n


@pytest.mark.parametrize("which", MAPS)
def test_map_sizes(which):
    """Multiply-adds of every convolution, by hand."""
    name, _, strides = which.partition(" ")
    net = igc_gluon.get_model(name, **({"strides": tuple(map(int, strides.split(",")))} if strides else {}))
    size = 32 if name.startswith("cifar") else 224
    before = size if size == 32 else size // 2
    multiplier = 0.5 if name.endswith("_0.5") else 1
    width = int(32 * multiplier)
    expected = [width * 27 * before**2]
    for (t, c, n), after in zip(SEQUENCES, MAPS[which]):
        c = int(c * multiplier)
        for _ in range(n):
            expected += [
                width * t * (width // 2) * before**2,
                9 * width * t * after**2,
                c * (width * t // 2) * after**2,
            ]
            width, before = c, after
    expected.append(int(1280 * multiplier) * width * before**2)
    rows = complexity.layers(net, (3, size, size))
    assert [row.multiply_adds for row in rows if row.operator == "Convolution"] == expected


@pytest.mark.parametrize("strides", [(24, 32), 32, "32", (32,)])
def test_strides_that_are_none(strides):
    with pytest.raises(UserError, match="strides must be 32,64 or 64,160, the channels of"):
        igc_gluon.get_model("cifar_igcv3_d0.5", strides=strides)


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("partitions", [(2, 2), (2, 4), (4, 2)])
def test_partitions(partitions, form):
    """A whole network against the composition of its blocks in NumPy, in float64."""
    mx.random.seed(4)
    net = igc_gluon.get_model("cifar_igcv3_d0.5", classes=3, partitions=partitions, block=form)
    net.initialize()
    widths = {parameter.shape[0] for name, parameter in net.collect_params(".*linear-conv2d_weight").items()}
    assert widths == {16, 24, 32, 64, 96, 160, 320}
    x = RNG.standard_normal((2, 3, 8, 8))
    values = {name: p.data().asnumpy().astype(float) for name, p in net.collect_params().items()}

    def layer(x, name, groups, stride=1, relu6=False):
        weight = values[f"{name}-conv2d_weight"]
        half, k = weight.shape[-1] // 2, weight.shape[-1]
        x = np.pad(x, ((0, 0), (0, 0), (half, half), (half, half))).reshape(
            len(x), groups, -1, *np.add(x.shape[2:], 2 * half)
        )
        windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (3, 4))[:, :, :, ::stride, ::stride]
        x = np.einsum("ngchwkl,gockl->ngohw", windows, weight.reshape(groups, -1, *weight.shape[1:]), optimize=True)
        x = x.reshape(len(x), -1, *x.shape[3:]) / np.sqrt(1 + 1e-5)
        return np.clip(x, 0, 6) if relu6 else x

    def permute(x, branches):
        return x.reshape(len(x), branches, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)

    y = layer(x, "first-3x3-conv", 1, relu6=True)
    for s, (n, stride) in enumerate(zip((1, 2, 2, 3, 2, 2, 1), (1, 1, 2, 2, 1, 1, 1))):
        for i in range(n):
            name, before = f"seq-{s}-block{i}", y
            y = permute(layer(y, f"{name}-exp", partitions[0], relu6=form == "paper"), partitions[0])
            y = layer(y, f"{name}-depthwise", y.shape[1], 1 if i else stride, True)
            y = layer(y, f"{name}-linear", partitions[1])
            if form == "paper":
                y = permute(y, y.shape[1] // partitions[1])
            y = before + y if i else y
    y = layer(y, "last-1x1-conv", 1, relu6=True).mean((2, 3)) @ values["fc_weight"].T + values["fc_bias"]
    scores = net(mx.nd.array(x)).asnumpy()
    assert np.abs(y).max() > 1e-3
    np.testing.assert_allclose(scores, y, rtol=1e-3, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize("partitions", [3, (2,), (0, 2), (2, "x")])
def test_partitions_that_are_none(partitions):
    with pytest.raises(UserError, match="partitions must be the numbers of branches of both 1x1 convolutions"):
        igc_gluon.get_model("igcv3_1.0", partitions=partitions)


def random_values(symbol):
    """Random arrays by the authors' names, with moving statistics that matter."""
    rng = np.random.RandomState(0)
    arguments, _, aux = symbol.infer_shape(data=SHAPE)
    values = {}
    for name, shape in list(zip(symbol.list_arguments(), arguments)) + list(zip(symbol.list_auxiliary_states(), aux)):
        if name not in ("data", "softmax_label"):
            values[name] = (
                rng.uniform(0.5, 1.5, shape)
                if name.endswith(("gamma", "var"))
                else rng.normal(0, np.sqrt(1 / np.prod(shape[1:])) if len(shape) > 1 else 0.3, shape)
            )
    return {name: mx.nd.array(value) for name, value in values.items()}


@pytest.mark.parametrize("multiplier", [1.0, 0.7])
def test_gluon_and_symbol_agree_both_ways(multiplier):
    symbol, net = igcv3.get_symbol(1000, multiplier), igc_gluon.get_model(f"igcv3_{multiplier}")
    values = random_values(symbol)
    arg_params = {k: v for k, v in values.items() if k in symbol.list_arguments()}
    aux_params = {k: v for k, v in values.items() if k in symbol.list_auxiliary_states()}
    authors.from_module_params(net, arg_params, aux_params)
    x = mx.nd.random.normal(shape=SHAPE)
    expected = mx.nd.softmax(net(x)).asnumpy()
    assert expected.std() > 1e-5  # not a constant
    back = authors.to_module_params(net)
    assert [sorted(part) for part in back] == [sorted(arg_params), sorted(aux_params)]
    for graph in (symbol, authors.to_module_symbol(net)):
        module = mx.mod.Module(graph)
        module.bind([("data", SHAPE)], [("softmax_label", SHAPE[:1])], for_training=False)
        module.set_params(*back)
        module.forward(mx.io.DataBatch([x], [mx.nd.zeros(SHAPE[:1])]), is_train=False)
        probabilities = module.get_outputs()[0].asnumpy()
        assert abs(probabilities - expected).max() <= 1e-5 * max(1, expected.max())
        np.testing.assert_allclose(np.log(probabilities), np.log(expected), atol=1e-4)


def test_symbol_is_the_released_graph():
    nodes = json.loads(igcv3.get_symbol().tojson())["nodes"]
    assert Counter(node["op"] for node in nodes if node["op"] != "null") == {
        "Convolution": 98,
        "BatchNorm": 98,
        "clip": 34,
        "Reshape": 64,
        "SwapAxis": 32,
        "elemwise_add": 25,
        "Pooling": 1,
        "Flatten": 1,
        "FullyConnected": 1,
        "SoftmaxOutput": 1,
    }
    symbol = igcv3.get_symbol()
    assert len(symbol.list_arguments()) - 2 == 296 and len(symbol.list_auxiliary_states()) == 196
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=(1, 3, 224, 224))[0]))
    assert shapes["first-3x3-conv-conv2d_weight"] == (32, 3, 3, 3)
    assert shapes["seq-0-block0-exp-conv2d_weight"] == (32, 16, 1, 1)
    assert shapes["seq-5-block3-depthwise-conv2d_weight"] == (960, 1, 3, 3)
    assert shapes["seq-6-block0-linear-conv2d_weight"] == (320, 480, 1, 1)
    assert shapes["last-1x1-conv-conv2d_weight"] == (1280, 320, 1, 1) and shapes["fc_weight"] == (1000, 1280)
    assert symbol.tojson() == igcv3.get_symbol().tojson()  # named alike in every symbol built
    norms = [node["attrs"] for node in nodes if node["op"] == "BatchNorm"]
    assert {(float(n["eps"]), float(n["momentum"]), n["fix_gamma"]) for n in norms} == {(1e-5, 0.9, "False")}


def test_gluon_has_the_same_bn_settings():
    net = igc_gluon.get_model("igcv3_1.0")
    assert net.features[1]._kwargs["eps"] == 1e-5 and net.features[1]._kwargs["momentum"] == 0.9
    assert net.features[4].body[1]._kwargs["eps"] == 1e-5
    mine = igc_gluon.get_model("igcv3_0.7", norm_kwargs={"epsilon": 0.25})
    assert mine.features[4].body[1]._kwargs["eps"] == 0.25


def test_figure_6b_is_an_option():
    released, paper = (igc_gluon.get_model("igcv3_1.0", block=form) for form in ("released", "paper"))
    assert sorted(released.collect_params()) == sorted(paper.collect_params())
    counts = [Counter(row.operator for row in complexity.layers(net, (3, 64, 64))) for net in (released, paper)]
    assert [f["clip"] for f in counts] == [34, 66] and [f["SwapAxis"] for f in counts] == [32, 64]


@pytest.mark.parametrize(
    "arguments,text", [((0, 1.0), "num_classes"), ((10, 0), "multiplier"), ((10, -1.0), "multiplier")]
)
def test_bad_arguments_of_the_symbol(arguments, text):
    with pytest.raises(ValueError, match=text):
        igcv3.get_symbol(*arguments)
