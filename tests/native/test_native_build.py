"""The build of the kernels: without a compiler, for old processors, with sanitizers."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from igc_gluon import native
from igc_gluon.native import build, library

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


class FakeCompiler:
    """Writes an empty file for -o, notes every command, and fails for commands that have one of `unknown`."""

    def __init__(self, folder, monkeypatch, unknown=(), target="x86_64-linux-gnu"):
        self.log = folder / "commands"
        path = folder / "fake-c++"
        refusals = "".join(f'  *" {word} "*) echo "error: unknown {word}"; exit 1;;\n' for word in unknown)
        path.write_text(f'#!/bin/sh\n[ "$1" = -dumpmachine ] && {{ echo {target}; exit 0; }}\n'
                        f'echo "$*" >> {self.log}\ncase " $* " in\n{refusals}esac\n'
                        'while [ "$1" != -o ]; do shift; done\n: > "$2"\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        monkeypatch.setattr(build, "_mxnet", lambda: None)

    def commands(self):
        return self.log.read_text(encoding="utf-8").splitlines()


def test_an_instruction_set_that_the_compiler_does_not_know_is_left_out_alone(tmp_path, monkeypatch, capsys):
    fake = FakeCompiler(tmp_path, monkeypatch, unknown=["-mavx512vnni", "-mavxvnni"])
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    for line, name in zip(said, ("vnni", "avxvnni")):
        assert f"kernels for {name} are left out" in line and f"unknown -m{'avx512' * (name == 'vnni')}{name}" in line
    link, = [line for line in fake.commands() if "-shared" in line]
    assert "vnni.o" not in link and "conv.avx2_int8.o" in link and "conv.avx512.o" in link
    isa, = [line for line in fake.commands() if "isa.cpp" in line]
    assert {word for word in isa.split() if word.startswith("-DIGC_HAS")} == {
        "-DIGC_HAS_AVX512", "-DIGC_HAS_AVX2", "-DIGC_HAS_PORTABLE", "-DIGC_HAS_AVX2_INT8"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["libigc.so"]


def test_the_compiler_says_for_which_processor(tmp_path, monkeypatch):
    fake = FakeCompiler(tmp_path, monkeypatch, target="aarch64-linux-gnu")
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    assert not [line for line in fake.commands() if "-mavx" in line or "IGC_X86" in line]


def exported(library):
    said = subprocess.run(["nm", "-D", "--defined-only", str(library)], stdout=subprocess.PIPE, check=True,
                          universal_newlines=True).stdout
    return [line.split()[-1] for line in said.splitlines()]


@pytest.mark.skipif(not native.available() or not shutil.which("nm"), reason="needs the library and binutils")
def test_only_the_interface_is_seen_from_outside():
    declared = set()
    for header in (build.HERE / "include").glob("*.h"):
        declared |= set(re.findall(r"\b(igc_\w+)\(", header.read_text(encoding="utf-8")))
    assert set(exported(library.path())) == declared
    dynamic = subprocess.run(["readelf", "-d", str(library.path())], stdout=subprocess.PIPE, check=True,
                             universal_newlines=True).stdout
    assert re.search(r"SONAME.*\[libigc\.so\]", dynamic)


COMPILERS = ["g++-9", "g++-10", "g++-11", "g++-12", "g++-13", "clang++-14", "clang++-19"]
# What a compiler is too old for.
LEFT_OUT = {"g++-9": ["avxvnni"], "g++-10": ["avxvnni"]}


def find_compiler(name):
    """$IGC_COMPILERS is a folder of commands of such names, of compilers that are not on the PATH."""
    return shutil.which(name) or shutil.which(name, path=os.environ.get("IGC_COMPILERS", ""))


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILERS)
def test_compilers_build_every_file_without_a_warning(name, tmp_path, monkeypatch, capsys):
    """And the library agrees with numpy. Each takes some minutes."""
    found = find_compiler(name)
    if not found:
        pytest.skip(f"there is no {name} here")
    strict = tmp_path / "strict-c++"
    strict.write_text(f'#!/bin/sh\nexec {found} -Werror "$@"\n')
    strict.chmod(0o755)
    monkeypatch.setenv("CXX", str(strict))
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [re.search("kernels for (.*) are", line).group(1) for line in said] == LEFT_OUT.get(name, []), said
    environment = {**os.environ, "IGC_NATIVE_LIBRARY": str(tmp_path / "out" / "libigc.so")}
    for tests in ("native/test_native_inference.py", "native/test_native_int8.py", "native/test_native_training.py"):
        run_tests(tests, environment)

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
