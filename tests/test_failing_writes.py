"""Errors at every system call that writes, through training, resume, export and packing; see failing_writes.py."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@pytest.mark.long
@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not COMPILER, reason="the calls of Linux, and a C++ compiler"
)
def test_no_error_at_a_write_loses_what_was_saved(tmp_path):
    shim = tmp_path / "failing_calls.so"
    subprocess.run(
        [COMPILER, "-O1", "-std=c++17", "-shared", "-fPIC", HERE / "failing_calls.cpp", "-o", shim, "-ldl"], check=True
    )
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path  # where a sync costs nothing
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        done = sweep(folder, shim)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["training", "resume", "export", "packing"]


def sweep(folder, shim):
    return subprocess.run(
        [sys.executable, HERE / "failing_writes.py", folder, *os.environ.get("EVERY", "1").split()],
        capture_output=True,
        text=True,
        env={**os.environ, "LD_PRELOAD": str(shim), "OMP_NUM_THREADS": "1"},
    )
