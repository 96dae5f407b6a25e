"""Named pipes and /dev/zero in place of files: refused in one line, never waited for, whoever reads them."""

import os
import signal

import pytest

from igc_gluon import symbol_file
from igc_gluon.data import pack
from igc_gluon.deploy import calibration
from igc_gluon.engine.run_log import RunLog
from igc_gluon.engine.saved_networks import read_config
from igc_gluon.errors import UserError
from igc_gluon.files import read_text
from igc_gluon.paper.runs import Runs
from igc_gluon.report.experiments import find_runs

CONFIG = '{"model": "cifar_plain5_w4", "dataset": "digits", "schedule": {"num_epochs": 1}}'


def config_of_a_resumed_run(path):
    record = RunLog(path.parent)
    try:
        return record.read_config()
    finally:
        record.close()


def history_of_a_compared_run(path):
    (path.parent / "config.json").write_text(CONFIG)
    return find_runs([path.parent])


def history_in_the_tables(path):
    folder = path.parent / "digits" / "cifar_plain5_w4" / "seed0"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(CONFIG)
    os.symlink(path, folder / "history.jsonl")
    assert Runs(path.parent).summary("cifar_plain5_w4", "digits") is None
    raise UserError("left out")


def state_of_packing(path):
    assert pack._read_state(path) is None
    raise UserError("begun anew")


def text(path):
    try:
        read_text(path)
    except OSError:
        raise UserError("as open does") from None


READERS = {
    "config.json": config_of_a_resumed_run,
    "config.json of a network": read_config,
    "symbol.json": symbol_file.load,
    "images.npy": lambda path: calibration.images_of(path, None, (3, 8, 8)),
    "history.jsonl": history_of_a_compared_run,
    "history.jsonl in tables": history_in_the_tables,
    "state": state_of_packing,
    "text": text,
}


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero"])
@pytest.mark.parametrize("name", READERS)
def test_it_is_refused(name, kind, tmp_path):
    path = tmp_path / name.split(" ")[0]
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(kind)
    signal.alarm(30)  # its default action ends the process, however deep it waits
    try:
        with pytest.raises(UserError) as error:
            READERS[name](path)
    finally:
        signal.alarm(0)
    assert "\n" not in str(error.value)


def test_a_text_has_an_end(tmp_path, monkeypatch):
    (tmp_path / "long").write_text("x" * 101)
    monkeypatch.setattr("igc_gluon.files._LONGEST_TEXT", 100)
    with pytest.raises(OSError, match="too long"):
        read_text(tmp_path / "long")
