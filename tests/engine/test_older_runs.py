"""Runs of older releases, whose config.json says less: opened as what they were, resumed as that or refused."""

import json
import shutil
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment, check_same
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.engine.schedule import IMAGENET, Schedule, imagenet_schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_model
from igc_gluon.paper import runs

MODEL = "cifar_igcv3_d0.5"  # it had strides=(64, 160) where nothing was said
SCHEDULE = Schedule(1, 0.1, 0.1, ())


def older(experiment, *unsaid):
    config = json.loads(json.dumps({**experiment.as_config(), "pad": "mean", "classes": 10}))
    return {key: value for key, value in config.items() if key not in unsaid}


@pytest.fixture
def folder(tmp_path):
    net = igc_gluon.get_model(MODEL, strides=(64, 160))
    mx.random.seed(1)
    net.initialize()
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    folder = tmp_path / "cifar100" / MODEL / "seed0"
    CheckpointStore(folder / "checkpoints").save(1, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    (folder / "config.json").write_text(json.dumps(older(Experiment(find_model(MODEL), "digits", SCHEDULE))))
    (folder / "history.jsonl").write_text(json.dumps({"epoch": 0, "test_accuracy": 0.5, "seconds": 1.0}) + "\n")
    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    return folder, x, net(x).asnumpy()


def test_strides_of_an_older_run(folder):
    """Parameters have the same shapes, so that nothing else would tell."""
    folder, x, expected = folder
    np.testing.assert_array_equal(open_network(folder)(x).asnumpy(), expected)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_options": {"strides": [32, 64]}}))
    assert np.abs(open_network(folder)(x).asnumpy() - expected).max() > 0.01


def test_a_folder_of_runs_names_them(folder):
    run = folder[0]
    shutil.copytree(run, run.with_name("seed1"))
    for place, names in ((run.parent, "seed0, seed1"), (run.parents[1], f"{MODEL}/seed0, {MODEL}/seed1")):
        with pytest.raises(UserError, match=f"is no run.*{place.name} holds {names}: give one of them"):
            open_network(place)


def test_an_older_run_is_another_network_in_the_tables(folder):
    folder = folder[0]
    assert not runs.read_run(folder).as_named
    assert runs.Runs(folder.parents[2]).summary(MODEL, "cifar100", "digits") is None
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "interpolation": "area"}))  # as runs of today
    assert runs.Runs(folder.parents[2]).summary(MODEL, "cifar100", "digits").mean == 50


def test_going_on_with_older_strides():
    now = Experiment(find_model(MODEL), "digits", SCHEDULE)
    for options, message in (
        (None, "with model_options {'strides': .64, 160.}, not None; resume with the same"),
        ({"strides": (64, 160)}, None),
    ):
        config = Experiment(find_model(MODEL), "digits", SCHEDULE, model_options=options).as_config()
        if message is None:
            check_same(older(now), config, "run")
        else:
            with pytest.raises(UserError, match=message):
                check_same(older(now), config, "run")


@pytest.mark.parametrize("options", [[1], "x", 5, [["strides", 1]]])
def test_options_that_are_none(folder, options):
    folder = folder[0]
    config = {**json.loads((folder / "config.json").read_text()), "model_options": options}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="config.json is damaged"):
        open_network(folder)
    with pytest.raises(UserError, match="was begun with model_options"):
        check_same(config, Experiment(find_model(MODEL), "digits", SCHEDULE).as_config(), folder)


def test_going_on_with_an_older_recipe():
    """igcv3-code decayed all parameters and began with IGCV1's weights; config.json said neither."""
    recipe = IMAGENET["igcv3-code"]
    now = Experiment(
        find_model("igcv3_1.0"),
        "imagenet",
        imagenet_schedule(recipe),
        optimizer=recipe.optimizer,
        undecayed=recipe.undecayed,
        initializer=recipe.initializer,
    )
    before = older(now, "undecayed", "initializer")
    with pytest.raises(UserError, match=r"with undecayed \[\], not \['_bias', '_beta'\]"):
        check_same(before, now.as_config(), "run")
    plain = Experiment(find_model("igcv3_1.0"), "imagenet", imagenet_schedule(IMAGENET["igcv2"]), optimizer="sgd")
    check_same(older(plain, "undecayed", "initializer"), plain.as_config(), "run")


def test_one_more_option_or_number_is_another_experiment():
    begun = Experiment(find_model("cifar_resnet_igc5_l2m3"), "digits", SCHEDULE, model_options={"downsample": "code"})
    more = replace(begun, model_options={"downsample": "code", "between": "relu"})
    with pytest.raises(UserError, match="with model_options {'downsample': 'code'}, not {'downsample': 'code', "):
        check_same(older(begun), more.as_config(), "run")
    warm = replace(begun, schedule=replace(SCHEDULE, warmup_epochs=1))
    before = older(begun)
    del before["schedule"]["warmup_epochs"]
    check_same(before, begun.as_config(), "run")
    with pytest.raises(UserError, match="with schedule .*; resume with the same flags"):
        check_same(before, warm.as_config(), "run")


@pytest.mark.parametrize("before,now", [({}, 6000), ({"validation_images": 6000}, 0), ({"validation_images": 0}, 6000)])
def test_held_out_images_that_come_or_go(before, now):
    """The best epoch would be chosen otherwise, and the next checkpoint be taken for one of another program."""
    config = older(Experiment(find_model("cifar_plain5_w4"), "svhn", SCHEDULE))
    with pytest.raises(UserError, match=f"with validation_images {before.get('validation_images', 0)}, not {now}"):
        check_same({**config, **before}, {**config, "validation_images": now}, "run")
    check_same({**config, "validation_images": now}, {**config, "validation_images": now}, "run")
