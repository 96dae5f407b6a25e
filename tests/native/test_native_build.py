"""The build of the kernels: without a compiler, for old processors, with sanitizers."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon.native import build

TESTS = Path(__file__).resolve().parent.parent


def test_without_a_compiler_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.main(["--output", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no C++ compiler" in said and "MXNet's own operators" in said


def test_a_failing_compiler_is_quoted_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    broken = tmp_path / "broken-c++"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: error: no such thing'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert build.main(["--output", str(tmp_path / "out")]) == 2
    assert "error: no such thing" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_kernels_use_no_library_function_that_the_linker_could_share():
    """An inline std:: function compiled with AVX-512 may be the copy that old processors run too (simd.h)."""
    for source in (build.HERE / "src" / "kernels").rglob("*.*"):
        included = set(re.findall(r"#include <(.*)>", source.read_text(encoding="utf-8")))
        assert included <= {"cstddef", "cstdint", "immintrin.h"}, source.name


@pytest.mark.long
@pytest.mark.parametrize("tests", ["native/test_native_inference.py", "native/test_native_int8.py",
                                   "native/test_native_training.py", "native/test_native_gluon.py",
                                   "native/test_native_blocks.py", "native/test_native_update.py", "deploy"])
def test_sanitizers_find_nothing(tests, sanitized):
    """In the tests of the kernels, of the operators on them and of compiled networks: some minutes each."""
    run_tests(tests, sanitized)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("setarch"), reason="the sanitizer of threads wants addresses that are not random")
@pytest.mark.parametrize("tests", ["deploy/test_deploy_calls.py",
                                   "native/test_native_gluon.py::test_a_step_and_inference_agree_with_stock"])
def test_no_two_threads_meet(tests, thread_sanitized):
    """In calls of a compiled network from many threads, and in training on the threads of MXNet's engine."""
    run_tests(tests, thread_sanitized, "setarch", "-R")


def run_tests(tests, environment, *before):
    done = subprocess.run([*before, sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                           "--capture=sys",  # the sanitizers write to file descriptor 2 and end the process
                           str(TESTS / tests)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True,
                          env=environment, cwd=str(TESTS.parent))
    assert done.returncode == 0, done.stdout[-5000:]
