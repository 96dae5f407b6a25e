"""Order of what a run does before it trains."""

import mxnet as mx
import pytest

from igc_gluon.engine import experiment as engine
from igc_gluon.engine.experiment import Experiment, Settings
from igc_gluon.engine.schedule import Schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import Model, cifar_model


class Data:
    classes = 10

    def __init__(self, done):
        self._done = done

    def prepare(self):
        self._done.append("data")


def test_each_run_builds_its_network_once_and_before_data_is_read(monkeypatch, tmp_path):
    done = []
    monkeypatch.setattr(Model, "build", lambda self, classes, **options: done.append(f"network {classes}") or len(done))
    monkeypatch.setattr(
        engine, "_run_once", lambda experiment, net, data, settings, seed, *rest: done.append((net, seed))
    )
    monkeypatch.setattr(engine, "_write_mean", lambda *summaries: None)
    experiment = Experiment(cifar_model("plain", 5, 4, 1), "digits", Schedule(1, 0.1, 0.1, ()))
    engine.run(experiment, Data(done), Settings([mx.cpu()], log_dir=str(tmp_path)), range(2))
    assert done == ["network 10", "network 10", "data", (2, 0), (1, 1)]


def test_numbers_that_make_no_network_are_refused_before_data_is_read(tmp_path):
    done = []
    experiment = Experiment(cifar_model("plain", 9, 4, 1), "digits", Schedule(1, 0.1, 0.1, ()))
    with pytest.raises(UserError, match="nearest valid: 8 and 11"):
        engine.run(experiment, Data(done), Settings([mx.cpu()], log_dir=str(tmp_path)), range(1))
    assert not done and not list(tmp_path.iterdir())
