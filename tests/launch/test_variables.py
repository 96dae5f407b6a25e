"""The environment of a distributed run, of which half is set or says something else: MXNet would abort or wait for
ever."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon.engine import workers
from igc_gluon.errors import UserError
from igc_gluon.launch import variables

ROOT = Path(__file__).resolve().parent.parent.parent
WHOLE = {
    "DMLC_ROLE": "worker",
    "DMLC_PS_ROOT_URI": "127.0.0.1",
    "DMLC_PS_ROOT_PORT": "9000",
    "DMLC_NUM_WORKER": "1",
    "DMLC_NUM_SERVER": "1",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)


def test_whole():
    variables.check()


@pytest.mark.parametrize("name", variables.VARIABLES)
@pytest.mark.parametrize("left", [True, False])
def test_half_of_them(name, left, monkeypatch):
    """One is missing, or is there alone."""
    for other in WHOLE:
        if (other == name) == left:
            monkeypatch.delenv(other)
    with pytest.raises(UserError, match="not set, but others of a distributed run are; start it with igc launch"):
        workers.connect("dist_sync")


@pytest.mark.parametrize("name", ["DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER"])
@pytest.mark.parametrize("value", ["x", "-1", "1.0", "65536", "9" * 30, "\u00b2", "\u0663", "1 2"])
def test_no_numbers(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name} is .* but must be a number from"):
        workers.connect("dist_sync")


def test_another_role(monkeypatch):
    monkeypatch.setenv("DMLC_ROLE", "server")
    with pytest.raises(UserError, match="DMLC_ROLE is server, but this is a worker"):
        workers.connect("dist_sync")


@pytest.mark.parametrize(
    "command, change, text",
    [
        (["train_cifar.py", "--help"], {"DMLC_ROLE": "banana"}, "DMLC_ROLE is 'banana'"),
        (["train_cifar.py"], {"DMLC_ROLE": "scheduler", "DMLC_NUM_WORKER": ""}, "DMLC_NUM_WORKER is not set"),
        (
            ["-m", "igc_gluon.engine.server"],
            {"DMLC_ROLE": "server", "DMLC_PS_ROOT_PORT": "http"},
            "DMLC_PS_ROOT_PORT is 'http'",
        ),
        (["-m", "igc_gluon.engine.server"], {"DMLC_ROLE": ""}, "DMLC_ROLE is ''"),
    ],
)
def test_every_program_says_it_in_one_line(command, change, text):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **change}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and done.stderr.startswith(f"error: {text}") and done.stderr.count("\n") == 1, (
        done.stderr
    )


def test_igc_is_no_server(monkeypatch):
    """It would never return from MXNet's import."""
    code = "import sys, igc_command; sys.argv = ['igc', 'models', 'plain8_w16']; sys.exit(igc_command.main())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "DMLC_ROLE": "server"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stderr == "" and "cifar_plain8_w16" in done.stdout
