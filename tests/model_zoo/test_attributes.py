"""What a network expects of an image goes with its weights through every form that they are written in."""

import json

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon.cli import main
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.engine.schedule import Schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_model
from igc_gluon.model_zoo.attributes import set_attributes, wordnet_numbers
from igc_gluon.model_zoo.authors import save_module_checkpoint, save_parameters
from igc_gluon.nn import ConvBNReLU

MODEL = "cifar_plain5_w4"
EXPECTED = Preprocessing(
    (48, 40), 60, (1.5, 2, 3), (4, 5, 6.25), "bilinear", "BGR", ("ant", 'a "bee"', "k\u00f6nig"), border=3, fill=7
)


def network(expected=EXPECTED, classes=3):
    net = igc_gluon.get_model(MODEL, classes=classes)
    net.initialize()
    return set_attributes(net, MODEL, expected)


def test_a_runs_configuration(tmp_path):
    net = network()
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    CheckpointStore(tmp_path / "checkpoints").save(1, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    config = Experiment(find_model(MODEL), "imagenet", Schedule(0.1, 2, 0.1, (1,))).as_config()
    (tmp_path / "config.json").write_text(json.dumps({**config, "classes": 3, **EXPECTED.as_config()}))
    assert open_network(tmp_path).preprocessing == EXPECTED


def test_igc_convert(tmp_path, capsys):
    """To a checkpoint for Module, which is opened again without a word about its images."""
    net = network()
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    CheckpointStore(tmp_path / "checkpoints").save(1, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    config = Experiment(find_model(MODEL), "imagenet", Schedule(0.1, 2, 0.1, (1,))).as_config()
    (tmp_path / "config.json").write_text(json.dumps({**config, "classes": 3, **EXPECTED.as_config()}))
    assert main(["convert", str(tmp_path), str(tmp_path / "module")]) == 0
    capsys.readouterr()
    symbol, _, _ = mx.model.load_checkpoint(str(tmp_path / "module"), 0)
    assert Preprocessing.from_json(symbol.attr_dict()["data"]["__preprocessing__"]) == EXPECTED
    again = open_network(tmp_path / "module-0000.params", MODEL)
    assert again.preprocessing == EXPECTED and again.classes == list(EXPECTED.class_names)
    x = mx.nd.random.normal(shape=(1, 3, 48, 40))
    np.testing.assert_array_equal(again(x).asnumpy(), net(x).asnumpy())
    # And back, to Gluon.
    assert main(["convert", str(tmp_path / "module"), "0", str(tmp_path / "net.params"), "--model", MODEL]) == 0
    assert "--dataset" not in capsys.readouterr().out
    assert open_network(tmp_path / "net.params", MODEL).preprocessing == EXPECTED
    (tmp_path / "net.params.json").write_text("{")
    with pytest.raises(UserError, match="no description of a network's images"):
        open_network(tmp_path / "net.params", MODEL)


def test_gluons_export(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    net = network()
    net.hybridize()
    x = mx.nd.random.normal(shape=(1, 3, 48, 40))
    expected = net(x).asnumpy()
    net.export("~/net")
    symbol = mx.sym.load(str(tmp_path / "net-symbol.json"))
    assert Preprocessing.from_json(symbol.attr_dict()["data"]["__preprocessing__"]) == EXPECTED
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), ["data"], str(tmp_path / "net-0000.params"))
    np.testing.assert_allclose(block(x).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    plain = igc_gluon.get_model(MODEL)
    plain.initialize()
    plain.hybridize()
    plain(x)
    plain.export(str(tmp_path / "plain"))
    assert "__preprocessing__" not in (tmp_path / "plain-symbol.json").read_text()


def test_gluons_save_parameters(tmp_path):
    """Opened again without a word about its images; other weights in its place do not keep what it says."""
    path = str(tmp_path / "net.params")
    network().save_parameters(path)
    assert open_network(path, MODEL).preprocessing == EXPECTED
    for save in (lambda net: net.save_parameters(path), lambda net: save_parameters(net, path)):
        save(network())
        plain = igc_gluon.get_model(MODEL)
        plain.initialize()
        save(plain)
        assert open_network(path, MODEL).preprocessing == Preprocessing((32, 32))


def test_imagenets_names_are_kept_by_their_numbers(tmp_path):
    expected = Preprocessing((224, 224), mean=(1, 2, 3), std=(4, 5, 6), class_names=wordnet_numbers())
    save_module_checkpoint(network(expected, 1000), str(tmp_path / "module"), 3)
    again = open_network(tmp_path / "module-0003.params", MODEL)
    assert again.synset == wordnet_numbers() and again.classes[0] == again.preprocessing.class_names[0] == "tench"


@pytest.mark.parametrize(
    "x, text",
    [
        (mx.nd.zeros((1, 1, 32, 32)), "(1, 1, 32, 32)"),
        (mx.nd.zeros((2, 4, 32, 32)), "(2, 4, 32, 32)"),
        (mx.nd.zeros((1, 32, 32, 3)), "channels come first: x.transpose((0, 3, 1, 2))"),
        (mx.nd.zeros((3, 32, 32)), "(3, 32, 32)"),
        (mx.nd.zeros((1, 48, 40, 3), dtype="uint8"), "normalize(x)"),
        (mx.nd.zeros((1, 3, 48, 40), dtype="uint8"), "normalize(x.transpose((0, 2, 3, 1)))"),
        (mx.nd.zeros((1, 3, 48, 40), dtype="int32"), "not int32"),
    ],
)
@pytest.mark.parametrize("hybrid", [False, True])
def test_what_is_no_batch_of_images(x, text, hybrid):
    """Of any network: MXNet would name an operator's input."""
    for name in ("cifar_plain5_w4", "cifar_resnet_igc8_l2m2", "resnet18_w4", "igcv2_0.25", "cifar_igcv3_d0.5"):
        net = igc_gluon.get_model(name)
        net.initialize()
        set_attributes(net, name, EXPECTED)
        if hybrid:
            net.hybridize()
        with pytest.raises(UserError) as error:
            net(x)
        line = str(error.value)
        assert "\n" not in line and text in line and "mean 1.5, 2, 3, std 4, 5, 6.25" in line
        assert f"{name} takes float32 (N, 3, H, W)" in line


def test_a_network_whose_first_layer_was_replaced_takes_other_images(monkeypatch):
    monkeypatch.setenv("IGC_NATIVE", "0")
    net = igc_gluon.get_model(MODEL)
    net.features._children["0"] = ConvBNReLU(4, 1)
    net.initialize()
    assert net(mx.nd.zeros((2, 1, 16, 16))).shape == (2, 10)
    with pytest.raises(UserError, match=r"takes float32 \(N, 1, H, W\)"):
        net(mx.nd.zeros((2, 4, 16, 16)))
