"""`igc checkpoint` on checkpoints made here; that a run's are such is tested with the training scripts."""

import threading

import numpy as np
import pytest

from igc_gluon.cli import main
from igc_gluon.engine.checkpoint import CheckpointStore


def save(folder, epoch, batch=0, value=1.0, best=False, **config):
    arrays = {
        "net.params": {"w": np.full((2, 3), value, "float32"), "b": np.ones(3, "float32")},
        "training.params": {"momentum:w": np.zeros((2, 3), "float32")},
    }
    history = [{"epoch": e, "test_accuracy": 0.25 + e / 100, "seconds": value} for e in range(epoch)]
    state = {
        "position": {"epoch": epoch, "batch": batch, "history": history, "seconds": value},
        "config": {"lr": 0.1, "schedule": {"num_epochs": 9}, **config},
    }
    return CheckpointStore(folder / "checkpoints", keep=9).save(epoch, batch, arrays, state, best)


@pytest.fixture
def run(tmp_path):
    save(tmp_path, 0, 5)
    save(tmp_path, 1, best=True)
    save(tmp_path, 2, value=3.0)
    return tmp_path


def igc(capsys, *args, code=0):
    assert main(["checkpoint", *map(str, args)]) == code
    return capsys.readouterr().out.splitlines()


def test_ls(run, capsys):
    for where in (run, run / "checkpoints"):
        _, *lines = igc(capsys, "ls", where)
        assert [line.split() for line in lines] == [
            ["epoch-0000-batch-000005", "0", "5", "-", "0.00"],
            ["epoch-0001-batch-000000", "1", "0", "25.00", "%", "0.00", "best"],
            ["epoch-0002-batch-000000", "2", "0", "26.00", "%", "0.00", "last"],
        ]
    _, line = igc(capsys, "ls", run / "checkpoints" / "epoch-0001-batch-000000")
    assert line.startswith("epoch-0001")
    (run / "checkpoints" / "epoch-0001-batch-000000" / "state.json").write_text("[]")
    assert "damaged" in igc(capsys, "ls", run)[2]


def test_verify(run, capsys):
    assert igc(capsys, "verify", run) == [
        f"epoch-{e:04d}-batch-{b:06d} is whole: 3 arrays, 0.00 MB" for e, b in ((0, 5), (1, 0), (2, 0))
    ]
    damaged = run / "checkpoints" / "epoch-0001-batch-000000" / "net.params"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    (run / "checkpoints" / "best").write_text("nowhere\n")
    lines = igc(capsys, "verify", run, code=1)
    assert lines[1] == f"checkpoint {damaged.parent} is damaged: net.params: it is not what was written"
    assert lines[3] == f"the pointer {run / 'checkpoints' / 'best'} leads to no checkpoint"
    assert igc(capsys, "verify", run / "checkpoints" / "epoch-0002-batch-000000", code=1)[0].endswith("0.00 MB")


def test_verify_names_what_is_not_finite(run, capsys):
    save(run, 3, value=np.nan)
    assert igc(capsys, "verify", run, code=1)[-1].endswith("; not finite: net.params: w")


def test_beside_a_run_that_saves(tmp_path, capsys):
    """Checkpoints go, and pointers move, between the look at the folder and the reading."""
    ended = threading.Event()

    def save_all_the_time():
        store, epoch = CheckpointStore(tmp_path / "checkpoints", keep=1), 0
        arrays = {
            file: {str(n): np.zeros(2000, "float32") for n in range(20)} for file in ("net.params", "training.params")
        }
        while not ended.is_set():
            epoch += 1
            store.save(epoch, 0, arrays, {"position": {"epoch": epoch, "batch": 0, "history": []}}, best=True)

    thread = threading.Thread(target=save_all_the_time)
    thread.start()
    try:
        while not (tmp_path / "checkpoints" / "last").exists():
            assert thread.is_alive()
        for _ in range(60):
            for action in ("ls", "verify"):
                assert main(["checkpoint", action, str(tmp_path)]) == 0
                out, err = capsys.readouterr()
                assert "damaged" not in out and "leads to no" not in out and err == "", out
    finally:
        ended.set()
        thread.join()


def test_diff(run, tmp_path_factory, capsys):
    lines = igc(capsys, "diff", run, code=1)  # the last and the one before
    assert lines[:2] == [f"- {run}/checkpoints/epoch-0001-batch-000000", f"+ {run}/checkpoints/epoch-0002-batch-000000"]
    assert lines[2:] == [
        "  position.epoch: 1 -> 2",
        "  net.params: 1 of 2 arrays differ, w the most: by 2.0e+00 of its largest value",
        "they differ",
    ]
    other = tmp_path_factory.mktemp("other")
    save(other, 2, value=3.0)
    assert igc(capsys, "diff", run, other)[-1] == "the same, bit for bit"
    save(other, 3, value=np.nan, lr=0.2)
    lines = igc(capsys, "diff", run / "checkpoints" / "epoch-0002-batch-000000", other, code=1)
    assert "  config.lr: 0.1 -> 0.2" in lines and any("by inf of its" in line for line in lines)


def test_mistakes(run, tmp_path_factory, capsys):
    empty = tmp_path_factory.mktemp("empty")
    for args, text in (
        (("ls", empty), "there is no checkpoint in"),
        (("verify", run / "none"), "there is no checkpoint in"),
        (("diff", run / "checkpoints" / "epoch-0001-batch-000000"), "name a second checkpoint"),
    ):
        assert main(["checkpoint", *map(str, args)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and text in error and error.count("\n") == 1
