"""Whole runs with every means at once: killed in the middle and resumed, on two devices, evaluated and opened."""

import json
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

from igc_gluon import get_model, params_file
from igc_gluon.data.mixing import Mixing
from igc_gluon.engine import experiment as engine
from igc_gluon.engine.checkpoint import CheckpointStore, load
from igc_gluon.engine.evaluation import evaluate
from igc_gluon.engine.experiment import Experiment, Settings
from igc_gluon.engine.inputs import ArrayInput
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.engine.schedule import schedule_for, with_mode
from igc_gluon.engine.teacher import teacher_name
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import cifar_model
from igc_gluon.model_zoo.attributes import set_attributes

MODEL = cifar_model("plain", 5, 4, 1)


@pytest.fixture(scope="module")
def data():
    made = ArrayInput("digits")
    made.set_augment_strength(0.5)
    made.prepare()
    return made


@pytest.fixture(scope="module")
def teacher(data):
    mx.random.seed(5)
    net = get_model("cifar_plain8_w4", classes=10)
    net.initialize()
    return set_attributes(net, "cifar_plain8_w4", data.preprocessing)


def everything(teacher, epochs=2):
    schedule = with_mode(schedule_for("digits", num_epochs=epochs, lr=0.01, warmup_epochs=1), "cosine")
    return Experiment(
        MODEL,
        "digits",
        schedule,
        optimizer="adamw",
        undecayed=("_bias", "_beta", "_gamma"),
        label_smoothing=0.1,
        accumulate=3,
        clip_norm=1.0,
        ema=0.9,
        dropout=0.2,
        mixing=Mixing(0.2, 1.0, 0.3),
        class_weights="balanced",
        teacher=teacher_name(teacher),
        temperature=2.0,
        hard_weight=0.7,
    )


def train(experiment, data, log_dir, teacher, devices=1, resume=False, checkpoint_batches=None):
    settings = Settings(
        [mx.cpu(i) for i in range(devices)],
        log_dir=str(log_dir),
        resume=resume,
        teacher=teacher,
        checkpoint_batches=checkpoint_batches,
    )
    engine.run(experiment, data, settings, range(1), report=lambda line: None)


def last(log_dir):
    folder = log_dir / "digits" / "cifar_plain5_w4" / "seed0"
    name = (folder / "checkpoints" / "last").read_text().strip()
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return folder, load(folder / "checkpoints" / name)[0], history


@pytest.fixture(scope="module")
def whole(data, teacher, tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("whole")
    train(everything(teacher), data, log_dir, teacher)
    return log_dir


class Killed(BaseException):
    pass


@pytest.mark.parametrize("saves", [1, 2], ids=["first epoch", "second epoch"])
def test_killed_and_resumed_it_ends_with_the_same_bits(whole, data, teacher, tmp_path, monkeypatch, saves):
    """In epoch 1 or 2, after batch 10: in the middle of three batches to an update."""
    done, save = [], CheckpointStore.save

    def killing(self, *args, **kwargs):
        folder = save(self, *args, **kwargs)
        done.append(folder)
        if len(done) == saves:
            raise Killed
        return folder

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", killing)
        with pytest.raises(Killed):
            train(everything(teacher), data, tmp_path, teacher, checkpoint_batches=10 if saves == 1 else 23 + 10)
    train(everything(teacher), data, tmp_path, teacher, resume=True)
    (_, expected, history), (_, resumed, again) = last(whole), last(tmp_path)
    for file, arrays in expected.items():
        assert sorted(resumed[file]) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(resumed[file][name], array, err_msg=name)
    measured = ("train_loss", "test_loss", "test_accuracy", "trained_test_loss", "trained_test_accuracy", "lr")
    assert [[e[key] for key in measured] for e in again] == [[e[key] for key in measured] for e in history]


def test_two_devices_give_the_weights_of_one(whole, data, teacher, tmp_path):
    train(everything(teacher), data, tmp_path, teacher, devices=2)
    (_, expected, history), (_, other_arrays, others) = last(whole), last(tmp_path)
    for file, arrays in expected.items():
        for name, array in arrays.items():
            error = np.linalg.norm(other_arrays[file][name] - array) / max(np.linalg.norm(array), 1e-3)
            assert error < 2e-2, (file, name, error)
    np.testing.assert_allclose([e["train_loss"] for e in others], [e["train_loss"] for e in history], rtol=1e-3)


def test_the_checkpoint_holds_the_average_and_what_was_trained(whole, data):
    folder, arrays, history = last(whole)
    network, training = arrays["net.params"], arrays["training.params"]
    trained = {name[len("trained:") :]: array for name, array in training.items() if name.startswith("trained:")}
    assert sorted(trained) == sorted(network)
    assert all((trained[name] != network[name]).any() for name in network if name.endswith("weight"))
    _, test = data.batches(64, 0)
    for values, key in ((network, "test"), (trained, "trained_test")):
        net = get_model("cifar_plain5_w4", classes=10)
        net.initialize()
        for name, parameter in net.collect_params().items():
            parameter.set_data(mx.nd.array(values[name]))
        evaluation = evaluate(lambda images, net=net: net(mx.nd.array(images)).asnumpy(), test)
        np.testing.assert_allclose(evaluation.loss, history[-1][f"{key}_loss"], rtol=1e-4)
        np.testing.assert_allclose(evaluation.accuracy, history[-1][f"{key}_accuracy"])
    opened = open_network(folder / "checkpoints" / (folder / "checkpoints" / "last").read_text().strip())
    for name, parameter in opened.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), network[name])


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"ema": 0.5}, "begun with ema 0.9, not 0.5"),
        ({"mixing": Mixing(0.1)}, "begun with mixing"),
        ({"teacher": "another"}, "begun with teacher cifar_plain8_w4"),
        ({"optimizer": "lamb"}, "begun with optimizer adamw"),
    ],
)
def test_other_values_are_refused_when_it_is_resumed(whole, data, teacher, changes, text):
    with pytest.raises(UserError, match=text):
        train(replace(everything(teacher), **changes), data, whole, teacher, resume=True)


def test_teachers_of_other_data_are_refused(data, tmp_path):
    net = get_model("cifar_plain5_w4", classes=7)
    net.initialize()
    set_attributes(net, "cifar_plain5_w4", replace(data.preprocessing, class_names=None))
    plain = Experiment(MODEL, "digits", schedule_for("digits", num_epochs=1), teacher="x")
    with pytest.raises(UserError, match="has 7 classes, digits 10"):
        train(plain, data, tmp_path / "a", net)
    net = get_model("cifar_plain5_w4", classes=10)
    net.initialize()
    set_attributes(net, "cifar_plain5_w4", replace(data.preprocessing, mean=(1.0, 2.0, 3.0)))
    with pytest.raises(UserError, match="take a teacher that was trained on digits"):
        train(plain, data, tmp_path / "b", net)


def test_what_of_a_short_run_is_saved_is_right(data, tmp_path):
    """One epoch of 23 batches: the moving average would still have 79 % of its initial variances, 0."""
    plain = Experiment(cifar_model("plain", 8, 4, 2), "digits", schedule_for("digits", num_epochs=1))
    lines = []
    settings = Settings([mx.cpu()], log_dir=str(tmp_path), model_prefix=str(tmp_path / "module"))
    (summary,) = engine.run(plain, data, settings, range(1), report=lines.append)
    assert any("23 batches are too few for its moving average" in line for line in lines)
    net = open_network(summary["folder"])
    _, test = data.batches(64, 0)
    evaluation = evaluate(lambda images: net(mx.nd.array(images)).asnumpy(), test)
    assert evaluation.accuracy == summary["last_test_accuracy"]
    module = params_file.load(tmp_path / "module-0001.params")
    for name, parameter in net.collect_params().items():
        if "running" in name:
            key = f"aux:{name.replace('running', 'moving')}"
            np.testing.assert_array_equal(module[key], parameter.data().asnumpy())
