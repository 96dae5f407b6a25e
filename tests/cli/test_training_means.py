"""The flags of the usual means: what they make of an experiment, and what is refused in one line."""

import json

import mxnet as mx
import pytest

import train_cifar
import train_imagenet
from igc_gluon import get_model
from igc_gluon.cli.training import means
from igc_gluon.data.mixing import Mixing
from igc_gluon.engine.inputs import ArrayInput
from igc_gluon.engine.schedule import IMAGENET
from igc_gluon.errors import UserError


def experiment(*flags, script=train_cifar):
    args = script.parse([*flags])
    means.check(args)
    return means.experiment_with(script.experiment(args, 2), args, None)


def test_without_flags_an_experiment_is_the_papers():
    for script in (train_cifar, train_imagenet):
        assert experiment(script=script) == script.experiment(script.parse([]), 2)
    code = experiment("--schedule", "igcv3-code", script=train_imagenet)
    assert (code.optimizer, code.undecayed) == ("sgd", IMAGENET["igcv3-code"].undecayed)


def test_what_flags_make_of_it():
    chosen = experiment(
        *("--lr-mode", "poly", "--target-lr", "0.0001", "--power", "1.5", "--num-epochs", "7", "--warmup-epochs", "2"),
        *("--optimizer", "adamw", "--no-wd", "--clip-norm", "2", "--accumulate", "4", "--ema", "0.99"),
        *("--mixup", "0.2", "--cutmix", "1", "--random-erasing", "0.25", "--dropout", "0.1"),
        *("--class-weights", "1,2,0.5", "--bn-statistics", "anew"),
    )
    schedule = chosen.schedule
    assert (schedule.mode, schedule.lr, schedule.target_lr, schedule.power) == ("poly", 0.001, 0.0001, 1.5)
    assert (schedule.num_epochs, schedule.warmup_epochs, schedule.lr_steps) == (7, 2, ())
    assert (chosen.optimizer, chosen.undecayed) == ("adamw", ("_bias", "_beta", "_gamma"))
    assert (chosen.clip_norm, chosen.accumulate, chosen.ema, chosen.dropout) == (2.0, 4, 0.99, 0.1)
    assert (chosen.mixing, chosen.class_weights, chosen.bn_statistics) == (
        Mixing(0.2, 1.0, 0.25),
        (1.0, 2.0, 0.5),
        "anew",
    )
    assert experiment("--optimizer", "lamb").schedule.lr == 0.01
    assert experiment("--optimizer", "adam", "--lr", "0.3").schedule.lr == 0.3
    assert json.loads(json.dumps(chosen.as_config()))["mixing"] == {"mixup": 0.2, "cutmix": 1.0, "erasing": 0.25}


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--mixup", "-1"], "--mixup must be from 0 to 100, not -1"),
        (["--random-erasing", "1.5"], "--random-erasing must be from 0 to 1"),
        (["--dropout", "1"], "--dropout must be from 0 to below 1"),
        (["--ema", "1"], "--ema must be from 0 to below 1"),
        (["--ema", "nan"], "--ema must be"),
        (["--augment-strength", "3"], "--augment-strength must be from 0 to 2"),
        (["--clip-norm", "0"], "--clip-norm must be a positive number"),
        (["--accumulate", "0"], "--accumulate must be at least 1"),
        (["--temperature", "2"], "--temperature is of --teacher"),
        (["--teacher-model", "x"], "--teacher-model is of --teacher"),
        (["--teacher", "x", "--temperature", "-2"], "--temperature must be a positive number"),
        (["--teacher", "x", "--benchmark", "1"], "leave --teacher out"),
        (["--lr-mode", "cosine", "--lr-steps", "3"], "--lr-steps is for --lr-mode step"),
        (["--target-lr", "0.1"], "--target-lr is for --lr-mode cosine"),
        (["--lr-mode", "linear", "--target-lr", "0.5"], "--target-lr must be from 0 to --lr"),
    ],
)
def test_what_makes_no_sense(flags, text):
    with pytest.raises(UserError, match=text) as error:
        experiment(*flags)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("weights", ["1,-2", "some", "0,0", "inf"])
def test_class_weights_that_are_none(weights, capsys):
    with pytest.raises(SystemExit) as error:
        train_cifar.parse(["--class-weights", weights])
    assert error.value.code == 2 and "wants balanced, or numbers" in capsys.readouterr().err


def test_images_that_are_not_augmented():
    ArrayInput("svhn").set_augment_strength(1)
    with pytest.raises(UserError, match="images of svhn are not augmented"):
        ArrayInput("svhn").set_augment_strength(0.5)


def test_teachers(tmp_path):
    """A file, the name of weights that come with the package, nothing."""
    net = get_model("cifar_plain5_w4", classes=10)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    data = ArrayInput("digits")
    file = ["--teacher", str(tmp_path / "net.params"), "--teacher-model", "cifar_plain5_w4"]
    opened = means.open_teacher(train_cifar.parse(file), data)
    assert (opened.fc_score.weight if hasattr(opened, "fc_score") else opened.output.weight).shape == (10, 16)
    for name, parameter in net.collect_params().items():
        assert (opened.collect_params()[name].data() == parameter.data()).min() == 1
    assert opened.preprocessing.mean == data.preprocessing.mean
    named = means.open_teacher(train_cifar.parse(["--teacher", "cifar_plain8_w16"]), ArrayInput("fashion-mnist"))
    assert named(mx.nd.zeros((1, 3, 32, 32))).shape == (1, 10)
    assert means.open_teacher(train_cifar.parse([]), data) is None
    with pytest.raises(UserError, match="no file or folder"):
        means.open_teacher(train_cifar.parse(["--teacher", "nobody"]), data)
