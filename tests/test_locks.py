"""Locks between processes, with the operating system's lock and without one."""

import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import portalocker
import pytest

from igc_gluon import downloads, locks
from igc_gluon.engine.run_log import RunLog
from igc_gluon.errors import UserError
from igc_gluon.locks import Held, Lock

HOLD = (
    "import sys, time\nfrom igc_gluon.locks import Lock\nlock = Lock(sys.argv[1])\n"
    "print('held', flush=True)\ntime.sleep(100)"
)


def without(monkeypatch, number, times=1 << 30):
    """flock fails so often with the error `number`."""
    left = [times]

    def flock(handle, flags):
        if left[0] > 0:
            left[0] -= 1
            raise OSError(number, os.strerror(number))
        return real(handle, flags)

    real = fcntl.flock
    monkeypatch.setattr(portalocker.portalocker, "LOCKER", flock)


@pytest.fixture
def other(tmp_path):
    """Another process, which holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [None, errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EIO, errno.ESTALE])
def test_one_at_a_time(tmp_path, monkeypatch, caplog, number):
    if number:
        without(monkeypatch, number)
    for _ in range(2):
        with Lock(tmp_path / "lock"), pytest.raises(Held):
            Lock(tmp_path / "lock")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"] and (tmp_path / "lock").read_bytes() == b""
    assert caplog.messages == (
        [f"{tmp_path / 'lock'} cannot be locked ({os.strerror(number)}); lock.taken stands for the lock"] * 2
        if number
        else []
    )


def test_both_kinds_heed_each_other(tmp_path, monkeypatch, other):
    with monkeypatch.context() as patched:
        without(patched, errno.EIO)
        with pytest.raises(Held, match=f"process {other.pid} on .* if that is gone, delete {tmp_path / 'lock'}"):
            Lock(tmp_path / "lock")
        other.kill()
        other.wait()
        by_file = Lock(tmp_path / "lock")
    with pytest.raises(Held, match=f"process {os.getpid()} on"):
        Lock(tmp_path / "lock")
    by_file.close()
    Lock(tmp_path / "lock").close()


@pytest.mark.parametrize("number", [None, errno.ENOSYS])
def test_what_a_dead_process_left_is_seen(tmp_path, monkeypatch, other, number):
    if number:
        without(monkeypatch, number)
    with pytest.raises(Held):
        Lock(tmp_path / "lock")
    other.kill()
    other.wait()
    (tmp_path / "lock.taken").write_bytes((tmp_path / "lock").read_bytes())
    Lock(tmp_path / "lock").close()
    assert not (tmp_path / "lock.taken").exists() or not number


def test_of_another_machine_nothing_is_known(tmp_path, monkeypatch):
    without(monkeypatch, errno.ENOSYS)
    (tmp_path / "lock.taken").write_text(json.dumps({"host": "elsewhere", "pid": 1, "began": "5", "numbers": "x"}))
    with pytest.raises(
        Held, match=f"process 1 on elsewhere holds it; if that is gone, delete {tmp_path / 'lock.taken'}"
    ):
        Lock(tmp_path / "lock")
    (tmp_path / "lock.taken").unlink()
    Lock(tmp_path / "lock").close()


@pytest.mark.parametrize("text", ["", "x", "[" * 100000, "5", '{"host": 5}', '{"host": "a", "pid": "1"}'])
def test_what_says_nothing_holds_nothing(tmp_path, monkeypatch, text):
    (tmp_path / "lock.taken").write_text(text)
    Lock(tmp_path / "lock").close()
    without(monkeypatch, errno.ENOSYS)
    (tmp_path / "lock").write_text(text)
    Lock(tmp_path / "lock").close()


@pytest.mark.parametrize("number", [None, errno.ENOSYS])
def test_waiting(tmp_path, monkeypatch, number):
    monkeypatch.setattr(locks, "PAUSE", 0.01)
    if number:
        without(monkeypatch, number)
    first, waits, order = Lock(tmp_path / "lock", temporary=True), [], []

    def second():
        with Lock(tmp_path / "lock", wait=lambda: waits.append(True), temporary=True):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.2)
    order.append("first")
    first.close()
    thread.join(10)
    assert order == ["first", "second"] and waits == [True] and list(tmp_path.iterdir()) == []


def test_a_pipe_in_place_of_a_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.lock")
    with pytest.raises(UserError, match="cannot write to .*: it is no file"):
        RunLog(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EIO])
def test_a_run_goes_on_without_the_systems_lock(tmp_path, monkeypatch, caplog, number):
    """'another run is at work' is said of other runs alone."""
    without(monkeypatch, number)
    record = RunLog(tmp_path)
    assert "cannot be locked" in caplog.text
    with pytest.raises(UserError, match=f"another run is at work in {tmp_path} \\(process {os.getpid()} on .*\\)"):
        RunLog(tmp_path)
    record.close()
    RunLog(tmp_path).close()


def test_a_download_goes_on_without_the_systems_lock(tmp_path, monkeypatch, server, quick_and_direct):
    without(monkeypatch, errno.ENOSYS)
    downloads.download([server.url], tmp_path / "a", "sha256", hashlib.sha256(server.content).hexdigest())
    assert [path.name for path in Path(tmp_path).iterdir()] == ["a"]
