"""How many cores an entry point uses."""

import os

import pytest

from igc_gluon import threads

ALLOWED = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    "files, cores",
    [
        ({}, ALLOWED),
        ({"cpu.max": "max 100000\n"}, ALLOWED),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.max": "100000000 100000\n"}, ALLOWED),
        ({"cpu.max": ""}, ALLOWED),
        ({"cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "50000\n"}, 1),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, ALLOWED),
    ],
)
def test_a_containers_quota_counts(files, cores, tmp_path, monkeypatch):
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / ("cpu" if "cfs" in name else "") / name).write_text(text)
    monkeypatch.setattr(threads, "CONTROL_GROUPS", tmp_path)
    assert threads.cores() == cores
