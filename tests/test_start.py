import errno
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from igc_gluon import native, start
from igc_gluon.cli import main
from igc_gluon.errors import UserError
from igc_gluon.paths import expand

ROOT = Path(__file__).resolve().parent.parent


def test_mxnet_is_there_once():
    assert start.mxnet_problem() is None


def test_mxnet_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'igc-gluon[cpu]'" in start.mxnet_problem()


def test_the_two_mxnets_meet(monkeypatch):
    both = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", "mxnet", "mxnet-cu112")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: both)
    assert "both installed" in start.mxnet_problem()


@pytest.mark.parametrize("code", ["import igc_gluon", "import igc_gluon.model_zoo, igc_gluon.data, igc_gluon.theory"])
def test_importing_says_nothing(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "program",
    ["runpy.run_path('train_cifar.py', run_name='__main__')", "import igc_command; sys.exit(igc_command.main())"],
)
def test_a_numpy_that_mxnet_cannot_run_on_is_one_line(program):
    code = f"import numpy, runpy, sys; numpy.__version__ = '2.1.0'; {program}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: igc_gluon: MXNet 1.9.1 does not run on NumPy 2.1.0")
    assert len(done.stderr.splitlines()) == 1


def test_igc_without_mxnet_is_one_line():
    code = "import sys; sys.modules['mxnet'] = None; import igc_command; sys.argv = ['igc', 'info', 'plain5_w4']\n"
    code += "import importlib.util as u; u.find_spec = lambda name: None; sys.exit(igc_command.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: MXNet is not installed")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "word, off",
    [
        ("0", True),
        ("no", True),
        ("False", True),
        ("OFF", True),
        (" 0 ", True),
        ("1", False),
        ("yes", False),
        ("true", False),
        ("on", False),
        ("", False),
    ],
)
def test_igc_native(word, off, monkeypatch):
    monkeypatch.setenv("IGC_NATIVE", word)
    assert (native.unavailable_reason() == "switched off by IGC_NATIVE=0") == off


def test_another_word_in_igc_native_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("IGC_NATIVE", "maybe")
    assert main(["info", "cifar_plain5_w4"]) == 2
    assert capsys.readouterr().err == ("error: IGC_NATIVE must be 0, no, false, off or 1, yes, true, on, not 'maybe'\n")


@pytest.mark.parametrize(
    "command, code, lines",
    [
        ("train_cifar.py --help >/dev/full", 2, ["error: cannot write to standard output: No space left on device"]),
        ("train_imagenet.py --help >&- 2>&-", 0, []),
        ("train_imagenet.py --help | true", 0, []),
    ],
)
def test_the_scripts_help_where_it_cannot_be_written(command, code, lines):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} {command}"], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.splitlines()) == (code, lines)


def test_expand(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert (expand("~/x"), expand("x/~")) == (Path("/somewhere/x"), Path("x/~"))
    with pytest.raises(UserError, match="nothing says which folder ~no-user-of-this-name of ~no-user-of-this-name/x"):
        expand("~no-user-of-this-name/x")


@pytest.mark.parametrize(
    "error, line",
    [
        (
            OSError(errno.EIO, "Input/output error", "/runs/\x1b[2Jconfig.json"),
            "error: /runs/\\x1b[2Jconfig.json: Input/output error",
        ),
        (OSError(errno.ESTALE, "Stale file handle"), "error: Stale file handle"),
    ],
)
def test_a_disk_that_fails_anywhere_is_one_line(error, line, capsys):
    def fail():
        raise error

    assert start.exit_code(fail) == 2 and capsys.readouterr().err.splitlines() == [line]


@pytest.mark.parametrize("why, code, line", [("too\nold", 1, "too\\nold\n"), (None, 0, ""), (3, 3, "")])
def test_sys_exit_of_the_users_code(why, code, line, capsys):
    """In a file of --import, for example."""
    assert start.exit_code(sys.exit, why) == code
    assert capsys.readouterr().err == line
