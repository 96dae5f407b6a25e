"""Training from weights that are there, and layers that stay as they are."""

import json
import shutil

import mxnet as mx
import numpy as np
import pytest
from drawn_photographs import draw_photographs

import igc_gluon
from igc_gluon import params_file
from igc_gluon.cli import main
from igc_gluon.engine.loop import TrainingLoop
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.engine.pretrained import freeze_layers, frozen_layers, open_pretrained
from igc_gluon.errors import UserError

NAME = "cifar_plain_igc8_l24m2"  # with weights in the package
LOG = ["--log-dir"]


def train(*arguments):
    return main(["train", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_photographs(tmp_path / "photos", 10, 40)


def last_checkpoint(log_dir, model=NAME, name="net.params"):
    folder = log_dir / "photos" / model / "seed0" / "checkpoints"
    return params_file.load(folder / (folder / "last").read_text().strip() / name)


def images(n=6, size=32, seed=0):
    return mx.nd.array(np.random.default_rng(seed).standard_normal((n, 3, size, size)))


def stock_internals(net, x, ending):
    """What MXNet's own executor computes at the internal output whose name ends so."""
    whole = net(mx.sym.var("data"))
    names = [name for name in whole.get_internals().list_outputs() if name.endswith(ending)]
    symbol = whole.get_internals()[names[-1]]
    arrays = {name: p.data() for name, p in net.collect_params().items()}
    executor = symbol.bind(
        mx.cpu(),
        {**{n: arrays[n] for n in symbol.list_arguments() if n != "data"}, "data": x},
        aux_states={n: arrays[n] for n in symbol.list_auxiliary_states()},
    )
    return executor.forward(is_train=False)[0].asnumpy()


@pytest.mark.parametrize(
    "name, features", [(NAME, 192), ("resnet18_igc_l2m2", 32), ("igcv2_0.25", 256), ("mobilenetv2_1.0", 1280)]
)
def test_embeddings_and_a_new_classifier(name, features):
    net = igc_gluon.get_model(name)
    mx.random.seed(0)
    net.initialize()
    x = images(2, 64)
    embedding = net.forward_features(x).asnumpy()
    assert net.num_features == embedding.shape[1]
    pooled = next(i for i, layer in enumerate(net.features) if isinstance(layer, mx.gluon.nn.GlobalAvgPool2D))
    stock = stock_internals(net, x, net.features[pooled].name + "_fwd_output")
    np.testing.assert_allclose(embedding, stock.reshape(2, -1), rtol=2e-4, atol=1e-5)
    classes = 16
    net.classes = ["x"] * 1000
    net.reset_classifier(classes)
    assert net(x).shape == (2, classes) and net.classes is None
    np.testing.assert_array_equal(net.forward_features(x).asnumpy(), embedding)
    compiled = igc_gluon.deploy.compile(net.features_only(), input_shape=(3, 64, 64))
    np.testing.assert_allclose(np.reshape(compiled(x.asnumpy()), (2, -1)), embedding, rtol=2e-4, atol=1e-5)
    assert embedding.shape[1] == features or name == "igcv2_0.25"


def test_features_up_to_a_stage():
    net = igc_gluon.get_model("cifar_plain5_w4")
    net.initialize()
    x = images()
    assert net.features_only("g1").layers == list(net.features)[:2]
    np.testing.assert_allclose(
        net.features_only("g2")(x).asnumpy(), stock_internals(net, x, "g2_b1_relu_fwd_output"), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(UserError, match="has no stage 'g9'; its layers are g0, g1_b1"):
        net.features_only("g9")
    with pytest.raises(UserError, match="at least one class"):
        net.reset_classifier(0)


def test_the_classifier_alone_learns_as_the_formula_says():
    """One step of Nesterov on the softmax's gradient, in NumPy, from the embedding of MXNet's own operators."""
    net = igc_gluon.get_model("cifar_plain5_w4", classes=3)
    mx.random.seed(1)
    net.initialize()
    x, label = images(8), np.arange(8) % 3
    embedding = stock_internals(net, x, net.features[4].name + "_fwd_output").reshape(8, -1)
    weight, bias = (p.data().asnumpy().astype(float) for p in (net.output.weight, net.output.bias))
    scores = embedding @ weight.T + bias
    share = np.exp(scores - scores.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    wrong = (share - np.eye(3)[label]) / 8
    before = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    freeze_layers(net, "all")
    optimizer = AuthorsNesterov(momentum=0.9, wd=1e-2, learning_rate=0.1)
    parallel = DataParallel(net, [mx.cpu()], 2, optimizer, frozen=frozen_layers(net, "all"))
    parallel.step(x.asnumpy(), label.astype("float32"), 0.1)
    for parameter, value, gradient in (
        (net.output.weight, weight, wrong.T @ embedding),
        (net.output.bias, bias, wrong.sum(0)),
    ):
        expected = value - 0.1 * 1.9 * (gradient + 1e-2 * value)
        np.testing.assert_allclose(parameter.data().asnumpy(), expected, rtol=1e-4, atol=1e-6)
    assert {name.rpartition(":")[2] for name in parallel.updates.states()} == {
        net.output.weight.name,
        net.output.bias.name,
    }
    for name, p in net.collect_params().items():
        if not name.startswith(net.output.prefix):
            np.testing.assert_array_equal(p.data().asnumpy(), before[name])


def test_frozen_layers_stay_through_training_and_resuming(photos, tmp_path, capsys, monkeypatch):
    flags = [photos, "--pretrained", NAME, "--freeze", "g1", "--num-epochs", "2", "--batch-size", "8", "--cpus", "2"]
    assert train(*flags, *LOG, "whole") == 0
    out = capsys.readouterr().out
    assert f"begins with the weights of {NAME}; the scores, of other classes, begin anew" in out
    assert "no border of 2 pixels" in out and "rate 0.00125" in out
    begun = open_pretrained(NAME).arrays
    trained = last_checkpoint(tmp_path / "whole")
    for name, value in trained.items():
        before = begun[name.replace("running", "moving")]
        if name.startswith(("g0", "g1")):
            np.testing.assert_array_equal(value, before, err_msg=name)
        else:
            assert value.shape != before.shape or not np.array_equal(value, before), name
    momenta = last_checkpoint(tmp_path / "whole", name="training.params")
    assert momenta and not any(":g0" in name or ":g1" in name for name in momenta)
    config = json.loads((tmp_path / "whole" / "photos" / NAME / "seed0" / "config.json").read_text())
    assert config["freeze"] == "g1" and len(config["pretrained"]) == 16 and config["pretrained_from"] == NAME
    assert config["mean"] == [55.845] * 3 and config["image_shape"] == [3, 32, 32] and config["border"] == 0

    finish = TrainingLoop._finish_epoch

    def stop_after_it(*arguments):
        finish(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_finish_epoch", stop_after_it)
        assert train(*flags, *LOG, "parts") == 130
    assert train(*flags, *LOG, "parts", "--resume") == 0
    for name, value in last_checkpoint(tmp_path / "parts").items():
        np.testing.assert_array_equal(value, trained[name], err_msg=name)
    capsys.readouterr()
    assert train(*flags[:3], *flags[5:], *LOG, "parts", "--resume") == 2
    assert "was begun with freeze g1, not None" in capsys.readouterr().err


def test_weights_of_a_run_and_of_a_file(photos, tmp_path, capsys):
    small = ["--network", "cifar_plain5_w4", "--num-epochs", "1", "--batch-size", "8"]
    assert train(photos, *small) == 0
    run = tmp_path / "runs" / "photos" / "cifar_plain5_w4" / "seed0"
    assert main(["convert", str(run), str(tmp_path / "prefix")]) == 0
    file = tmp_path / "prefix-0000.params"
    for source, flags in ((run, small[2:]), (file, small)):
        capsys.readouterr()
        assert train(photos, *flags, "--pretrained", source, *LOG, f"again {source.name}") == 0
        assert f"begins with the weights of {source}; of the same classes" in capsys.readouterr().out
    # Another depth: the layers that do not fit are named.
    assert train(photos, *small, "--network", "cifar_plain8_w4", "--pretrained", run, *LOG, "deeper") == 0
    assert "6 layers do not fit and are initialized anew: g1_b2_conv, g1_b2_bn, g2_b2_conv" in capsys.readouterr().out
    shutil.rmtree(run)


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--pretrained", NAME, "--network", "resnet18_igc_l4m8"], "none of the layers of"),
        (["--pretrained", "nothing"], "there is no run or file nothing"),
        (["--pretrained", "cifar_plain5_w4"], "no published weights"),
        (["--pretrained", "photos"], "is no run"),
        (["--pretrained", "photos/disc/disc 000.jpg"], "does not say which network"),
        (["--pretrained", "photos/disc/disc 000.jpg", "--network", NAME], "disc 000.jpg"),
        (["--pretrained", NAME, "--freeze", "g7"], "has no stage 'g7'; its layers are g0, g1_b1"),
        (["--pretrained", NAME, "--load-epoch", "1"], "give one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(flags, text, photos, tmp_path, capsys):
    assert train("photos", *flags, "--num-epochs", "1") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip() and "images/s" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], lines
    assert not list(tmp_path.glob("runs/**/checkpoints/*"))


@pytest.mark.long
def test_what_was_learned_helps(tmp_path, monkeypatch, capsys):
    """Shapes in other colors and under other names, few of them: better than from scratch in the same epochs."""
    monkeypatch.chdir(tmp_path)
    draw_photographs(tmp_path / "many", 150, 40)
    draw_photographs(tmp_path / "photos", 20, 40, seed=7)
    for kind in ("disc", "square", "stripes"):
        (tmp_path / "photos" / kind).rename(tmp_path / "photos" / f"new {kind}")
    assert train("many", "--network", NAME, "--num-epochs", "40", "--image-shape", "3,32,32") == 0
    run = tmp_path / "runs" / "many" / NAME / "seed0"
    reached = {}
    for name, flags in (("scratch", ["--network", NAME]), ("pretrained", ["--pretrained", run])):
        assert train("photos", *flags, "--num-epochs", "10", "--image-shape", "3,32,32", *LOG, name) == 0
        history = tmp_path / name / "photos" / NAME / "seed0" / "history.jsonl"
        reached[name] = json.loads(history.read_text().splitlines()[-1])["test_accuracy"]
    print(reached)
    assert reached["pretrained"] > reached["scratch"] + 0.1
