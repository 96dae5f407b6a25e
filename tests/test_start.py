import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from igc_gluon import start

ROOT = Path(__file__).resolve().parent.parent


def test_mxnet_is_there_once():
    assert start.mxnet_problem() is None


def test_mxnet_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[cpu]'" in start.mxnet_problem()


def test_the_two_mxnets_meet(monkeypatch):
    both = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", "mxnet", "mxnet-cu112")]
    monkeypatch.setattr(start.metadata, "distributions", lambda: both)
    assert "both installed" in start.mxnet_problem()


@pytest.mark.parametrize("code", ["import igc_gluon", "import igc_gluon.model_zoo, igc_gluon.data, igc_gluon.theory"])
def test_importing_says_nothing(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("program", ["runpy.run_path('train_cifar.py', run_name='__main__')",
                                     "import igc_command; sys.exit(igc_command.main())"])
def test_a_numpy_that_mxnet_cannot_run_on_is_one_line(program):
    code = f"import numpy, runpy, sys; numpy.__version__ = '2.1.0'; {program}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: igc_gluon: MXNet 1.9.1 does not run on NumPy 2.1.0")
    assert len(done.stderr.splitlines()) == 1


def test_igc_without_mxnet_is_one_line():
    code = "import sys; sys.modules['mxnet'] = None; import igc_command; sys.argv = ['igc', 'models']\n"
    code += "import importlib.util as u; u.find_spec = lambda name: None; sys.exit(igc_command.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: MXNet is not installed")
    assert len(done.stderr.splitlines()) == 1
