"""Checkpoints of the authors' code: their graph on MXNet's own operators against the converted network, and back."""

import json

import authors_graphs
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
import symbols
from igc_gluon import params_file, symbol_file
from igc_gluon.cli import main
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import convert, find_family, get_model
from igc_gluon.model_zoo.authors import save_module_checkpoint, to_module_params
from igc_gluon.model_zoo.graphs import layers_of
from igc_gluon.model_zoo.image_network import ImageNetwork

IMAGE = (1, 3, 224, 224)


def write_checkpoint(graph, arrays, prefix, epoch=95):
    with open(f"{prefix}-symbol.json", "w") as file:
        json.dump(graph.dict(), file)
    with open(f"{prefix}-{epoch:04d}.params", "wb") as file:
        file.write(params_file.dumps(arrays))


def module_scores(symbol, arrays, x, layer):
    """What `layer` of a Module gives."""
    symbol = symbol.get_internals()[f"{layer}_output"]
    values = {name: mx.nd.array(array) for name, array in arrays.items()}
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(
        {k[4:]: v for k, v in values.items() if k.startswith("arg:")},
        {k[4:]: v for k, v in values.items() if k.startswith("aux:")},
    )
    module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
    return module.get_outputs()[0].asnumpy()


def close(actual, expected):
    assert expected.std() > 1e-3 and np.isfinite(expected).all()
    assert abs(actual - expected).max() <= 1e-5 * max(1, abs(expected).max())


@pytest.mark.parametrize("name", authors_graphs.NAMES)
def test_the_six_published_graphs(name, tmp_path, capsys):
    """To 1e-5 of the largest score, on random weights and moving statistics, there and back."""
    graph, prefix, out = authors_graphs.published(name), str(tmp_path / "theirs"), str(tmp_path / "net.params")
    arrays = authors_graphs.random_arrays(graph, seed=1)
    write_checkpoint(graph, arrays, prefix)
    assert main(["convert", prefix, "95", out]) == 0
    shown = capsys.readouterr().out
    assert f"{len(arrays)} arrays of {name}, 1000 classes" in shown
    net = igc_gluon.get_model(name)
    net.load_parameters(out)
    x = np.random.default_rng(0).standard_normal(IMAGE).astype(np.float32)
    fc = "fc" if name == "igcv3_1.0" else "fc_score"
    theirs = mx.sym.load_json(authors_graphs.with_stock_operators(graph.dict()))
    expected = module_scores(theirs, arrays, x, fc)
    close(net(mx.nd.array(x)).asnumpy(), expected)
    # Back: the names are the authors' again, and a stock Module takes both files.
    assert main(["convert", out, str(tmp_path / "back"), "--model", name]) == 0
    symbol, arg_params, aux_params = mx.model.load_checkpoint(str(tmp_path / "back"), 0)
    back = {**{f"arg:{k}": v for k, v in arg_params.items()}, **{f"aux:{k}": v for k, v in aux_params.items()}}
    assert set(back) == set(arrays) and symbol.list_arguments()[0] == "data"
    for key in arrays:
        np.testing.assert_array_equal(back[key].asnumpy(), arrays[key], key)
    module = mx.mod.Module.load(str(tmp_path / "back"), 0)
    module.bind([("data", x.shape)], [("softmax_label", (1,))], for_training=False)
    module.forward(mx.io.DataBatch([mx.nd.array(x)], [mx.nd.zeros(1)]), is_train=False)
    close(module.get_outputs()[0].asnumpy() * 100, mx.nd.softmax(mx.nd.array(expected)).asnumpy() * 100)


def test_names_of_the_authors_code(tmp_path):
    """Their current code says igc1, igc2 where the published graphs say conv1, conv2."""
    graph = authors_graphs.resnet18_igc(6, [(6 << s, 2) for s in range(4)], layers=("igc1", "igc2"))
    arrays = authors_graphs.random_arrays(graph)
    write_checkpoint(graph, arrays, tmp_path / "theirs", 7)
    net, model, options = convert.read_checkpoint(tmp_path / "theirs", 7)
    assert (model, options) == ("resnet18_igc_l6m2", {})
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    theirs = mx.sym.load_json(authors_graphs.with_stock_operators(graph.dict()))
    close(net(mx.nd.array(x)).asnumpy(), module_scores(theirs, arrays, x, "fc_score"))


@pytest.mark.parametrize(
    "network, numbers, options, model, guessed",
    [
        ("plain", (8, 3, 2), {}, "cifar_plain8_w6", {}),
        ("plain_igc", (8, 3, 2), {}, "cifar_plain_igc8_l3m2", {}),
        ("resnet", (10, 3, 2), {}, "cifar_resnet10_w6", {}),
        ("resnet_igc", (10, 3, 2), {}, "cifar_resnet_igc10_l3m2", {}),
        ("resnet_igc", (10, 3, 4), {"downsample": "code"}, "cifar_resnet_igc10_l3m4", {"downsample": "code"}),
        ("resnet_imgnet_d18", (18, 8, 4), {}, "resnet18_w8", {}),
        ("resnet_igc_imgnet_d18", (18, 2, 1), {}, "resnet18_igc_l2m2", {}),
        ("resnet_igc_imgnet_d18", (18, 2, 2), {}, "resnet18_igc_l2m4", {"doubled": "primary"}),
        ("resnet_igc_imgnet_d18", (18, 2, 3), {"doubled": "secondary"}, "resnet18_igc_l2m3", {}),
    ],
)
def test_any_network_of_the_authors_code_is_recognized(network, numbers, options, model, guessed):
    symbol = symbols.get_symbol(network, 7, *numbers, **options)
    net, name, known, names = convert.find_network(layers_of(symbol_file.loads(symbol.tojson().encode())))
    assert (name, known) == (model, guessed)
    expected = set(symbol.list_arguments() + symbol.list_auxiliary_states()) - {"data", "softmax_label"}
    assert set(names) == expected and set(names.values()) == set(net.collect_params())


def test_every_small_network_goes_there_and_back(tmp_path):
    """Also those that the authors' code does not have, by --model."""
    for name, options in (("cifar_sumfusion8_l2m3", {}), ("cifar_plain_igc8_l3m2", {"stem_strides": 2})):
        net = igc_gluon.get_model(name, classes=6, **options)
        net.initialize()
        save_module_checkpoint(net, str(tmp_path / "net"), 3)
        again, model, recognized = convert.read_checkpoint(tmp_path / "net", 3, name, options)
        for before, after in zip(to_module_params(net), to_module_params(again)):
            assert set(before) == set(after)
            assert all((before[key] == after[key]).min().asscalar() == 1 for key in before), name
    assert convert.read_checkpoint(tmp_path / "net", 3)[1:] == ("cifar_plain_igc8_l3m2", {"stem_strides": 2})


# One network of each family at least, and one of each option. (Those of cifar_igcv1_* are cifar_resnet_igc* by another
# name.)
FOUND = [
    ("cifar_plain8_w3", {}),
    ("cifar_plain_igc8_l3m2", {"spatial": "both", "between": "relu"}),
    ("cifar_plain_igc8_l3m2", {"spatial": "separable", "stem_strides": 2}),
    ("cifar_plain_igc8_l3m4", {"bottleneck": 2}),
    ("cifar_resnet8_w3", {}),
    ("cifar_resnet_igc10_l4m2", {"spatial": "secondary", "between": "relu"}),
    ("cifar_sumfusion8_l2m3", {}),
    ("cifar_gpc8_l3m2", {}),
    ("cifar_xception14_c5", {}),
    ("cifar_igcv2_14_c16", {}),
    ("cifar_igcv2_8_c16", {"branch_channels": (2, 4, 16), "stem_strides": 2}),
    ("cifar_igcv2star_14_c16", {}),
    ("cifar_flat_igc5_l3m2", {}),
    ("cifar_flat_igc_relu5_l3m2", {}),
    ("cifar_flat_igc_secondary5_l2m3", {}),
    ("cifar_flat_igc_both5_l3m2", {}),
    ("cifar_flat_igc_separable5_l3m2", {}),
    ("cifar_flat_igc_bottleneck5_l3m4", {}),
    ("cifar_flat_gpc5_l3m2", {}),
    ("cifar_flat_xception5_c6", {}),
    ("cifar_flat_igcv2_4_c9k3l4", {}),
    ("cifar_flat_igcv2i_5_c18k3", {}),
    ("resnet18_w3", {}),
    ("resnet18_igc_l3m4", {"doubled": "primary", "between": "relu"}),
    ("igcv2_0.25", {}),
    ("igcv2_0.5", {"repeats": 2, "head_partition": (8, 2)}),
    ("igcv3_0.7", {}),
    ("igcv3_1.0", {"block": "paper", "partitions": (2, 4)}),
    ("igcv3_d0.5", {}),
    ("cifar_igcv3_0.5", {}),
    ("cifar_igcv3_d0.7", {}),
    ("cifar_igcv3_d0.5", {"strides": (64, 160), "stem_strides": 2}),
    ("mobilenet0.25", {}),
    ("mobilenetv2_0.7", {}),
    ("cifar_mobilenetv2_1.0", {"stem_strides": 2}),
]


@pytest.mark.parametrize("name, options", FOUND)
def test_any_network_of_this_package_is_recognized(name, options, monkeypatch):
    """By its graph alone, whatever its arrays are called, and with few guesses."""
    net = igc_gluon.get_model(name, classes=6, prefix="x_", **options)
    symbol = net(mx.sym.var("data"))
    tried = []
    monkeypatch.setattr(
        convert, "get_model", lambda *args, **kwargs: (tried.append(args), get_model(*args, **kwargs))[1]
    )
    recognized, model, known, names = convert.find_network(layers_of(symbol_file.loads(symbol.tojson().encode())))
    assert (model, known) == (name, options) and len(tried) < 10
    assert isinstance(recognized, ImageNetwork)  # which says what it expects of an image in all that is written of it
    assert {names[key]: recognized.collect_params()[names[key]].shape for key in names} == {
        key[len("x_") :]: parameter.shape for key, parameter in net.collect_params().items()
    }


def test_every_family_has_a_network_that_is_recognized():
    families = {find_family(name)[0].template for name in igc_gluon.get_model_list()}
    assert {find_family(name)[0].template for name, _ in FOUND} == families - {"cifar_igcv1_{depth}_c{c}"}
    graph = igc_gluon.get_model("cifar_igcv1_14_c6")(mx.sym.var("data")).tojson().encode()
    assert convert.find_network(layers_of(symbol_file.loads(graph)))[1] == "cifar_resnet_igc14_l3m2"


@pytest.fixture
def small(tmp_path):
    """(prefix, symbol JSON as dict, arrays) of a small checkpoint that can be spoilt."""
    net = igc_gluon.get_model("cifar_resnet_igc10_l3m2", classes=5)
    net.initialize()
    prefix = str(tmp_path / "small")
    save_module_checkpoint(net, prefix, 1)
    with open(f"{prefix}-symbol.json") as file:
        return prefix, json.load(file), params_file.load(f"{prefix}-0001.params")


def convert_spoilt(prefix, document, arrays):
    with open(f"{prefix}-symbol.json", "w") as file:
        json.dump(document, file)
    with open(f"{prefix}-0001.params", "wb") as file:
        file.write(params_file.dumps(arrays))
    with pytest.raises(UserError) as error:
        convert.read_checkpoint(prefix, 1)
    assert "\n" not in str(error.value) and str(prefix) in str(error.value)
    return str(error.value)


def test_parameters_that_do_not_fit_are_all_named(small):
    prefix, document, arrays = small
    del arrays["arg:g1_b1_p2_two1_conv1_weight"], arrays["aux:g0_bn_moving_var"]
    arrays["arg:extra"] = np.zeros(3, np.float32)
    arrays["arg:fc_bias"] = np.zeros(7, np.float32)
    text = convert_spoilt(prefix, document, arrays)
    for part in (
        "missing g1_b1_p2_two1_conv1_weight",
        "missing g0_bn_moving_var",
        "left over extra",
        "fc_bias is (7,), not (5,)",
    ):
        assert part in text


def node(document, name):
    return next(node for node in document["nodes"] if node["name"] == name)


@pytest.mark.parametrize(
    "name, key, value, text",
    [
        ("g2_b1_p2_two1_conv1_fwd", "pad", "(0, 0)", "stride (2, 2) pad (0, 0) dilate"),
        ("g0_bn_fwd", "eps", "0.001", "g0_bn_fwd is BatchNorm eps 0.001"),
        ("g0_bn_fwd", "fix_gamma", "True", "fixed gamma"),
        ("g1_b1_activation0", "act_type", "tanh", "Activation tanh"),
    ],
)
def test_a_graph_that_is_no_network_of_this_package(small, name, key, value, text):
    prefix, document, arrays = small
    nodes = [n for n in document["nodes"] if n["name"] == name]
    if not nodes:
        nodes = [n for n in document["nodes"] if n["op"] == "Activation"]
    nodes[0]["attrs"][key] = value
    message = convert_spoilt(prefix, document, arrays)
    assert text in message and "name it: --model" in message


def test_a_graph_of_two_inputs(small):
    prefix, document, arrays = small
    relu = next(n for n in document["nodes"] if n["op"] == "Activation")
    relu["inputs"] = [[[n["name"] for n in document["nodes"]].index("g0_bn_gamma"), 0, 0]]
    assert "the graph takes 2 inputs" in convert_spoilt(prefix, document, arrays)


def test_permutations_are_compared(small):
    prefix, document, arrays = small
    reshapes = [
        n
        for n in document["nodes"]
        if n["attrs" if "attrs" in n else "op"] and n["op"] == "Reshape" and "-4" in n["attrs"]["shape"]
    ]
    reshapes[-1]["attrs"]["shape"] = "(0, -4, 6, -1, -2)"
    assert "is Reorder 6" in convert_spoilt(prefix, document, arrays)


def test_mistakes_are_one_line(small, tmp_path, capsys):
    prefix, _, _ = small
    for arguments, text in (
        ([prefix, "2", "out.params"], "cannot read"),
        ([prefix, "x", "out"], "EPOCH is a number"),
        ([prefix, "1", "out", "more"], "give PREFIX EPOCH"),
        (["none", "1", "out"], "cannot read"),
        ([prefix, "1", str(tmp_path / "no" / "out")], "cannot write"),
        ([prefix, "1", "out", "--model", "cifar_plain8_w4"], "cifar_plain8_w4 differs"),
        ([prefix, "1", "out", "--model", "nonsense"], "unknown model"),
        ([prefix, "1", "out", "--option", "downsample=code"], "goes with --model"),
        (["cifar_plain8_w4", "prefix"], "no published weights"),
        ([f"{prefix}-0001.params", "prefix"], "does not say which network"),
    ):
        assert main(["convert", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert text in error and len(error.splitlines()) == 1, error
