"""The library at the limits of threads and memory: a status and a line, never the end of the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon import native
from igc_gluon.native import build

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

ALL_THREADS = """
import numpy as np
from igc_gluon.native import library
from igc_gluon.native.training import Body
rng = np.random.RandomState(0)
x = rng.standard_normal((2, 3, 8, 8)).astype("float32")
weight = rng.standard_normal((8, 3, 3, 3)).astype("float32")
op = library.Op(library.CONV, 0, 8, kernel=(3, 3), pad=(1, 1))
net = library.Net([op._replace(weight=weight)], (3, 8, 8))
np.testing.assert_array_equal(net(x), net(x, threads=1))
body = Body([op._replace(normalized=True), library.Op(library.MEAN_POOL, 1, 8)], (3, 8, 8))
parameters = [weight, np.ones(8, "float32"), np.zeros(8, "float32")]
body.forward(x, parameters)
body.backward(np.ones((2, 8), "float32"))
"""


def run(command, **environment):
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.mark.parametrize("number", ["100000", "2147483647"])
def test_more_threads_than_there_can_be(number):
    done = run(["-c", ALL_THREADS], OMP_NUM_THREADS=number)
    assert done.returncode == 0, done.stderr[-2000:]


def test_every_failed_allocation_is_a_memory_error(tmp_path):
    """One that fails in a parallel region, too, which would end the process."""
    shim = tmp_path / "failing_new.so"
    subprocess.run(
        [build.compiler(), "-O1", "-std=c++17", "-shared", "-fPIC", HERE / "failing_new.cpp", "-o", shim], check=True
    )
    done = run([HERE / "without_memory.py"], LD_PRELOAD=str(shim), OMP_NUM_THREADS="4")
    assert done.returncode == 0, done.stderr[-2000:]
    train, anew, infer, compiled = map(int, done.stdout.split())
    assert train >= 4 and anew > 50 and infer > 0 and compiled > 20
