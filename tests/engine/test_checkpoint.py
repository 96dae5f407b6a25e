import json

import numpy as np
import pytest

from igc_gluon.engine import checkpoint
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.errors import UserError


def write(store, epoch, batch=0, best=False):
    arrays = {file: {"w": np.full((2, 3), epoch, dtype="float32")} for file in ("net.params", "training.params")}
    return store.save(epoch, batch, arrays, {"epoch": epoch, "third": 1 / 3}, best)


def load(store):
    lines = []
    arrays, state = store.load_last(lines.append)
    assert (arrays["net.params"]["w"] == state["epoch"]).all() and state["third"] == 1 / 3
    return state["epoch"], lines


def test_last_and_best_survive(tmp_path):
    store = CheckpointStore(tmp_path / "c")
    assert store.load_last(pytest.fail) is None
    for epoch in range(1, 8):
        write(store, epoch, best=epoch == 2)
    assert store.names() == [f"epoch-{e:04d}-batch-000000" for e in (2, 6, 7)]
    assert store.pointer("best") == store.names()[0] and store.pointer("last") == store.names()[-1]
    assert load(store) == (7, [])


@pytest.mark.parametrize("file", ["net.params", "training.params", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(tmp_path, file, damage):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    path = write(store, 2) / file
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 0xFF
        path.write_bytes({"cut": data[:-1], "flip": data, "empty": b""}[damage])
    epoch, lines = load(store)
    assert epoch == 1 and len(lines) == 1
    assert "epoch-0002-batch-000000 is damaged" in lines[0] and file in lines[0] or damage == "remove"


@pytest.mark.parametrize("text", ["{}", "5", '"seed"', "null", "[]"])
def test_a_foreign_manifest(tmp_path, text):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    (write(store, 2) / "manifest.json").write_text(text)
    epoch, lines = load(store)
    assert epoch == 1 and "epoch-0002-batch-000000 is damaged" in lines[0]


def test_all_damaged(tmp_path):
    store = CheckpointStore(tmp_path)
    (write(store, 1) / "net.params").write_bytes(b"")
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        store.load_last(lambda line: None)


@pytest.mark.parametrize("at", ["write", "rename", "pointer"])
def test_a_kill_at_any_step_leaves_the_one_before(tmp_path, monkeypatch, at):
    """KeyboardInterrupt stands for the kill: nothing in the store catches it."""
    store = CheckpointStore(tmp_path)
    write(store, 1)

    def kill(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if at == "rename":
            patched.setattr(checkpoint.os, "rename", kill)
        else:
            real = checkpoint.write_atomically
            patched.setattr(checkpoint, "write_atomically", lambda path, *a: real(path, *a) if (
                at == "pointer" and path.name not in ("last", "best")) else kill())
        with pytest.raises(KeyboardInterrupt):
            write(store, 2)
    assert load(CheckpointStore(tmp_path)) == (1, [])
    write(store, 2)  # the next run gets over what was left behind
    assert load(store) == (2, [])
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_is_one_line_and_harms_nothing(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    with monkeypatch.context() as patched:
        def full(handle):
            raise OSError(28, "No space left on device")
        patched.setattr("igc_gluon.files.os.fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            write(store, 2)
    assert load(store) == (1, [])
    assert not list(tmp_path.glob(".*"))


def test_the_manifest_is_readable_by_people(tmp_path):
    manifest = json.loads((write(CheckpointStore(tmp_path), 3) / "manifest.json").read_text())
    assert set(manifest) == {"net.params", "training.params", "state.json"} and len(manifest["net.params"]["sha256"]) == 64
