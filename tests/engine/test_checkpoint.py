import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

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
            patched.setattr(
                checkpoint,
                "write_atomically",
                lambda path, *a: real(path, *a) if (at == "pointer" and path.name not in ("last", "best")) else kill(),
            )
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
    assert (
        set(manifest) == {"net.params", "training.params", "state.json"} and len(manifest["net.params"]["sha256"]) == 64
    )


def test_a_kill_before_any_file_operation_leaves_a_whole_checkpoint(tmp_path):
    script = Path(__file__).with_name("killed_saves.py")
    done = subprocess.run([sys.executable, script, tmp_path / "c"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kills, before = map(int, done.stdout.split())
    assert kills > 30 and 0 < before < kills


@pytest.mark.parametrize("what", ["folder", "loop"])
def test_a_pointer_that_is_no_file(tmp_path, what):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    (tmp_path / "last").unlink()
    (tmp_path / "last").mkdir() if what == "folder" else (tmp_path / "last").symlink_to("last")
    epoch, (line,) = load(store)
    assert epoch == 1 and str(tmp_path / "last") in line and "taking the newest" in line


def test_everything_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    """A power cut may lose what has not been synced, in any order."""
    done, real_fsync, real_rename = [], os.fsync, os.rename

    def fsync(handle):
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real_fsync(handle)

    def rename(source, target):
        assert source.parent == target.parent == tmp_path
        written = {
            name.split(".")[1] + "." + name.split(".")[2]
            for name in done
            if name.startswith(".") and name.count(".") > 3
        }
        assert written == {"net.params", "training.params", "state.json", "manifest.json"}
        assert done[-1] == source.name  # the folder, after all files in it
        done.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(checkpoint.os, "fsync", fsync)
    monkeypatch.setattr(checkpoint.os, "rename", rename)
    write(CheckpointStore(tmp_path), 1)
    assert done[done.index("rename") + 1] == tmp_path.name  # before any pointer


def test_so_many_are_kept(tmp_path):
    store = CheckpointStore(tmp_path, keep=4)
    for batch in range(12):
        write(store, 1, batch, best=batch == 3)
    assert store.names() == [f"epoch-0001-batch-{b:06d}" for b in (3, 8, 9, 10, 11)]


def test_the_order_is_that_of_numbers(tmp_path):
    store = CheckpointStore(tmp_path, keep=3)
    for epoch in (9, 9999, 10000):
        write(store, epoch)
    assert [name[6:-13] for name in store.names()] == ["0009", "9999", "10000"] and load(store) == (10000, [])


def test_what_an_abandoned_course_left_neither_counts_nor_stays(tmp_path):
    """The newest two are damaged; the run goes on from the one before and is stopped before it comes as far again."""
    store = CheckpointStore(tmp_path, keep=2)
    write(store, 3)
    for epoch in (4, 5):
        (write(CheckpointStore(tmp_path, keep=9), epoch) / "net.params").write_bytes(b"")
    assert load(store)[0] == 3
    write(store, 3, batch=7)
    assert store.names() == ["epoch-0003-batch-000000", "epoch-0003-batch-000007"]


@pytest.mark.parametrize("name", ["epoch-1-batch-2", "epoch-x-batch-y", "epoch-0001-batch-000000.tmp"])
def test_other_names_are_no_checkpoints(tmp_path, name):
    (tmp_path / name).mkdir()
    assert CheckpointStore(tmp_path).names() == []


@pytest.mark.parametrize("pointer", [b"", b"\xff\xfe", b"epoch-9999-batch-000000", b"../../etc", b"x" * 5000])
def test_a_damaged_pointer_is_passed_over(tmp_path, pointer):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    write(store, 2)
    (tmp_path / "last").write_bytes(pointer)
    epoch, (line,) = load(store)
    assert epoch == 2 and line == f"{tmp_path / 'last'} leads to no checkpoint that is there; taking the newest"


def test_every_damaged_byte_is_noticed(tmp_path):
    """Any byte of the files under the manifest; and in the manifest none that would let other files through."""
    store = CheckpointStore(tmp_path)
    folder = write(store, 1)
    before = store.load(folder.name)
    for file in folder.iterdir():
        data = bytearray(file.read_bytes())
        for position in range(len(data)):
            data[position] ^= 1 << position % 8
            file.write_bytes(data)
            try:
                arrays, state = store.load(folder.name)
            except UserError as error:
                assert str(folder) in str(error) and "is damaged" in str(error)
            else:
                assert file.name == "manifest.json" and state == before[1]
                assert all(arrays[f]["w"].tobytes() == before[0][f]["w"].tobytes() for f in arrays)
            data[position] ^= 1 << position % 8
        file.write_bytes(data)


@pytest.mark.parametrize("file", ["net.params", "state.json"])
def test_a_forged_manifest_lets_nothing_unreadable_through(tmp_path, file):
    store = CheckpointStore(tmp_path)
    folder = write(store, 1)
    manifest = json.loads((folder / "manifest.json").read_text())
    for data in (b"", b"[]", b"5", b"{", b"\xff", b"[" * 100000, b"\x12\x02" + bytes(30)):
        (folder / file).write_bytes(data)
        manifest[file] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match=f"{folder} is damaged: {file}: "):
            store.load(folder.name)
    for entry in (None, 5, {}, {"size": None}, {"size": "x", "sha256": 1}, {"size": -7, "sha256": ""}, {"size": 1e400}):
        (folder / "manifest.json").write_text(json.dumps({**manifest, file: entry}))
        with pytest.raises(UserError, match="is damaged"):
            store.load(folder.name)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path):
    store = CheckpointStore(tmp_path)
    folder = write(store, 1)
    for file in ("net.params", "manifest.json"):
        (folder / file).unlink()
        os.mkfifo(folder / file)
        with pytest.raises(UserError, match="is damaged"):
            store.load(folder.name)


def test_a_save_at_the_same_position_takes_nothing_away_before_it_is_there(tmp_path, monkeypatch):
    """As after SIGTERM in validation, --resume, SIGTERM in validation; the folder cannot be renamed the second time."""
    store = CheckpointStore(tmp_path)
    write(store, 1, 23)

    def broken(*args):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.os, "rename", broken)
        with pytest.raises(UserError, match="cannot write a checkpoint .*Input/output error"):
            write(store, 1, 23)
    assert load(store) == (1, [])
    second = write(store, 1, 23, best=True)
    assert store.names() == [second.name] and load(store) == (1, [])  # the newer one alone is left
    assert checkpoint.position_of(second.name) == (1, 23) and store.pointer("best") == second.name
    for _ in range(10):
        third = write(store, 1, 23)
    assert store.names() == [second.name, third.name] and store.pointer("last") == third.name


def test_a_damaged_checkpoint_at_the_same_position_gives_way(tmp_path):
    store = CheckpointStore(tmp_path)
    write(store, 1)
    (write(store, 2) / "net.params").write_bytes(b"")
    second = write(store, 2)
    assert load(store) == (2, []) and store.names() == ["epoch-0001-batch-000000", second.name]


@pytest.mark.parametrize("pointer", ["last", "best"])
def test_a_pointer_without_a_checkpoint_is_not_the_start_of_a_run(tmp_path, pointer):
    """Somebody, or a file system, has taken the folders away."""
    store = CheckpointStore(tmp_path)
    assert store.load_last(pytest.fail) is None
    (tmp_path / pointer).write_text("epoch-0007-batch-000000\n")
    with pytest.raises(UserError, match=f"{pointer} leads to no checkpoint that is there, and there is no other"):
        store.load_last(pytest.fail)


def test_a_pointer_that_cannot_be_read_lets_nothing_be_removed(tmp_path, monkeypatch):
    """The best checkpoint would go when `best` cannot be read once."""
    store = CheckpointStore(tmp_path, keep=1)
    write(store, 1, best=True)
    real = checkpoint._read

    def read(path, most):
        if path.name == "best":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, most)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_read", read)
        write(store, 2)
    assert store.pointer("best") == "epoch-0001-batch-000000"
    write(store, 3)
    assert store.names() == ["epoch-0001-batch-000000", "epoch-0003-batch-000000"]
