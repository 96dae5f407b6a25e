"""Variables of the environment that say nonsense: one line in place of MXNet's traceback or abort."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon import environment, native, threads
from igc_gluon.environment import KINDS, Number
from igc_gluon.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
IGC = ["-c", "import sys, igc_command; sys.argv = ['igc', 'info', 'plain5_w4']; sys.exit(igc_command.main())"]
THREADS = [name for name, kind in KINDS.items() if isinstance(kind, Number) and kind.what == "a number of threads"]


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("OMP_NUM_THREADS", "4,2", "4"),
        ("OMP_NUM_THREADS", " 3 , 1", "3"),
        ("OMP_NUM_THREADS", "", str(threads.cores())),
        ("OMP_NUM_THREADS", "0007", "7"),
        ("OMP_STACKSIZE", "8 M", "8 M"),
        ("MXNET_OMP_MAX_THREADS", "", None),
        ("MXNET_OMP_MAX_THREADS", " 2 ", "2"),
        ("MXNET_ENGINE_TYPE", "", None),  # MXNet looks for an engine of this name
        ("MXNET_ENGINE_TYPE", " NaiveEngine", "NaiveEngine"),
        ("MXNET_EXEC_BULK_EXEC_TRAIN", "True", "1"),
        ("MXNET_ENABLE_CYTHON", "false", "0"),  # which MXNet reads by int()
        ("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "0", "0"),
        ("MXNET_MKLDNN_CACHE_NUM", "-1", "-1"),
        ("MXNET_USE_OPERATOR_TUNING", "float32,float16", "float32,float16"),
        ("MXNET_KVSTORE_TREE_LINK_USAGE_PENALTY", "0.7", "0.7"),
        ("MXNET_SAFE_ACCUMULATION", "1", "1"),
        ("OPENCV_IO_MAX_IMAGE_PIXELS", "64MB", "64MB"),
        ("OPENCV_TRACE", "TRUE", "TRUE"),
        ("IGC_NATIVE", "OFF", "0"),
        ("IGC_NATIVE_ISA", "portable", "portable"),
    ],
)
def test_what_is_meant(name, value, expected, monkeypatch):
    monkeypatch.setenv(name, value)
    threads.use_all_cores()
    assert os.environ.get(name) == expected


@pytest.mark.parametrize("value", ["abc", "-2", "1e3", "9" * 30, "2,x", ",", "2;3", "\u0663", "0x1", "1\n2", "\x1b[2J"])
def test_nonsense_in_every_variable(value, monkeypatch):
    for name in KINDS:
        refused(name, value, monkeypatch)


def refused(name, value, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv(name, value)
        with pytest.raises(UserError) as refusal:
            threads.use_all_cores()
    line = str(refusal.value)
    assert line.startswith(f"{name} must be ") and line.endswith(f", not {value!r}") and line.isprintable()


@pytest.mark.parametrize("value", ["-1", "1.5", "1025", "100000"])
def test_numbers_of_threads_that_make_no_sense(value, monkeypatch):
    for name in THREADS:
        refused(name, value, monkeypatch)


@pytest.mark.parametrize(
    "name, value",
    [
        ("OMP_NUM_THREADS", "0"),
        ("MXNET_CPU_TEMP_COPY", "0"),  # by which MXNet divides
        ("MXNET_CPU_TEMP_COPY", "2000"),
        ("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "-1"),  # MXNet reserves a vector of as many
        ("MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "2147483647"),
        ("NNVM_EXEC_MATCH_RANGE", "-1"),  # MXNet does not come to an end
        ("MXNET_ENGINE_TYPE", "naiveengine"),
        ("MXNET_LIBRARY_PATH", __file__),
        ("MXNET_LIBRARY_PATH", "/"),
        ("MXNET_LIBRARY_PATH", "/dev/zero"),
        ("OMP_STACKSIZE", "100000G"),
        ("IGC_NATIVE_ISA", "sse9"),
        ("IGC_NATIVE_HALF", "emulated"),
    ],
)
def test_what_makes_no_sense_there(name, value, monkeypatch):
    refused(name, value, monkeypatch)


def test_a_library_is_a_library(monkeypatch):
    monkeypatch.setenv("MXNET_LIBRARY_PATH", sys.executable)  # of the same format
    assert environment.read("MXNET_LIBRARY_PATH") == sys.executable


def test_the_table_has_every_variable_that_mxnet_reads():
    """But those that hold a path, an address or another text, and those that only print."""
    import mxnet  # slow

    names = set(
        re.findall(
            rb"(?<![A-Z0-9_])(?:MXNET|NNVM)_[A-Z0-9_]{3,}\0", Path(mxnet.libinfo.find_lib_path()[0]).read_bytes()
        )
    )
    texts = {"MXNET_C_API", "MXNET_SUBGRAPH_BACKEND"}
    assert len(names) > 60 and {name[:-1].decode() for name in names} - texts <= set(KINDS)


@pytest.mark.parametrize(
    "program, name, value",
    [
        (["train_cifar.py", "--help"], "OMP_NUM_THREADS", "all"),
        (["train_imagenet.py", "--help"], "MXNET_EXEC_BULK_EXEC_MAX_NODE_TRAIN", "x"),  # aborts at import
        (IGC, "MXNET_ENGINE_TYPE", "foo"),
        (IGC, "OPENCV_TRACE", "abc"),  # aborts at import
        (["-m", "igc_gluon.engine.server"], "MXNET_CPU_TEMP_COPY", "abc"),
    ],
)
def test_every_program_says_it_in_one_line(program, name, value):
    done = subprocess.run(
        [sys.executable, *program], cwd=ROOT, capture_output=True, text=True, env={**os.environ, name: value}
    )
    assert done.returncode == 2 and done.stderr.startswith(f"error: {name} must be ") and not done.stdout
    assert len(done.stderr.splitlines()) == 1


def test_what_matplotlib_and_tqdm_are_told():
    """They make an error of nonsense while they are imported."""
    nonsense = {"MPLBACKEND": "foo", "TQDM_MININTERVAL": "abc", "TQDM_NCOLS": "x", "TQDM_DISABLE": "1"}
    code = (
        "from igc_gluon.exits import exit_code; import os, sys\n"
        "def run():\n"
        "    from matplotlib import pyplot; from tqdm import tqdm\n"
        "    print(pyplot.get_backend().lower(), list(tqdm([1])), os.environ['TQDM_DISABLE'])\n"
        "sys.exit(exit_code(run))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **nonsense}, check=True
    )
    assert done.stdout == "agg [1] 1\n" and not done.stderr


def test_kernels_are_asked_for_by_the_same_words(monkeypatch):
    """Where no entry point has looked."""
    monkeypatch.setenv("IGC_NATIVE", "maybe")
    with pytest.raises(UserError, match="IGC_NATIVE must be 0, no, false, off or 1, yes, true, on, not 'maybe'"):
        native.available()
