"""All operations at random in one process; see soak.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon.native import operators

HERE = Path(__file__).resolve().parent


@pytest.mark.long
@pytest.mark.skipif(operators.unavailable_reason() is not None, reason=str(operators.unavailable_reason()))
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_memory_levels_off_and_nothing_is_left_over():
    """For ten minutes, or as many as $MINUTES says."""
    done = subprocess.run(
        [sys.executable, HERE / "soak.py", os.environ.get("MINUTES", "10")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-2000:]
