"""The build of the kernels: without a compiler, for old processors, with sanitizers."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
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
        path.write_text(
            f'#!/bin/sh\n[ "$1" = -dumpmachine ] && {{ echo {target}; exit 0; }}\n'
            f'echo "$*" >> {self.log}\ncase " $* " in\n{refusals}esac\n'
            'while [ "$1" != -o ]; do shift; done\n: > "$2"\n'
        )
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        monkeypatch.setattr(build, "_mxnet", lambda: None)

    def commands(self):
        return self.log.read_text(encoding="utf-8").splitlines()


def test_an_instruction_set_that_the_compiler_does_not_know_is_left_out_alone(tmp_path, monkeypatch, capsys):
    fake = FakeCompiler(tmp_path, monkeypatch, unknown=["-mavx512vnni", "-mavxvnni", "-mavx512bf16", "-mamx-tile"])
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 5
    for line, name in zip(said, ("vnni", "avxvnni", "avx512_bf16", "amx_bf16", "amx_int8")):
        assert f"kernels for {name} are left out" in line and "error: unknown -m" in line
    (link,) = [line for line in fake.commands() if "-shared" in line]
    assert "vnni.o" not in link and "conv.avx2_int8.o" in link and "conv.avx512.o" in link
    (isa,) = [line for line in fake.commands() if "isa.cpp" in line]
    assert {word for word in isa.split() if word.startswith("-DIGC_HAS")} == {
        "-DIGC_HAS_AVX512",
        "-DIGC_HAS_AVX2",
        "-DIGC_HAS_PORTABLE",
        "-DIGC_HAS_AVX2_INT8",
        "-DIGC_HAS_EMULATED_BF16",
        "-DIGC_HAS_EMULATED_INT8",
        "-DIGC_HAS_EMULATED_AMX_BF16",
        "-DIGC_HAS_EMULATED_AMX_INT8",
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["libigc.so"]


def test_only_some_instruction_sets(tmp_path, monkeypatch, capsys):
    fake = FakeCompiler(tmp_path, monkeypatch)
    assert build.main(["--output", str(tmp_path / "out"), "--only", "avx2"]) == 0
    assert capsys.readouterr().err == ""
    (isa,) = [line for line in fake.commands() if "isa.cpp" in line]
    built = {word[len("-DIGC_HAS_") :].lower() for word in isa.split() if word.startswith("-DIGC_HAS")}
    assert built == {"avx2", "portable", *build.EMULATED}


def test_the_compiler_says_for_which_processor(tmp_path, monkeypatch):
    fake = FakeCompiler(tmp_path, monkeypatch, target="aarch64-linux-gnu")
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    assert not [line for line in fake.commands() if "-mavx" in line or "IGC_X86" in line]


def exported(library):
    said = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    return [line.split()[-1] for line in said.splitlines()]


@pytest.mark.skipif(not native.available() or not shutil.which("nm"), reason="needs the library and binutils")
def test_only_the_interface_is_seen_from_outside():
    declared = set()
    for header in (build.HERE / "include").glob("*.h"):
        declared |= set(re.findall(r"\b(igc_\w+)\(", header.read_text(encoding="utf-8")))
    assert set(exported(library.path())) == declared
    dynamic = subprocess.run(
        ["readelf", "-d", str(library.path())], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    assert re.search(r"SONAME.*\[libigc\.so\]", dynamic)


def test_the_map_names_every_file_and_no_other():
    named = re.findall(
        r"`([\w/]+\.(?:py|h|cpp))`",
        "".join(
            line.rsplit("|", 2)[0]
            for line in (build.HERE / "README.md").read_text(encoding="utf-8").splitlines(True)
            if line.startswith("| `")
        ),
    )
    files = [
        path.relative_to(build.HERE).as_posix()
        for path in build.HERE.rglob("*")
        if path.suffix in (".py", ".h", ".cpp") and "_lib" not in path.parts
    ]
    assert sorted(named) == sorted(files)


CLANG_FORMAT = shutil.which("clang-format", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(not CLANG_FORMAT, reason="there is no clang-format beside this Python")
def test_sources_are_formatted():
    files = [str(path) for path in sorted(build.HERE.rglob("*")) if path.suffix in (".h", ".cpp")]
    done = subprocess.run(
        [CLANG_FORMAT, "--dry-run", "-Werror", *files], check=False, stderr=subprocess.PIPE, text=True
    )
    assert not done.returncode, done.stderr[:3000]


COMPILERS = ["g++-9", "g++-10", "g++-11", "g++-12", "g++-13", "g++-14", "clang++-14", "clang++-19"]
# What a compiler is too old for.
LEFT_OUT = {"g++-9": ["avxvnni", "avx512_bf16", "amx_bf16", "amx_int8"], "g++-10": ["avxvnni", "amx_bf16", "amx_int8"]}


def find_compiler(name):
    """$IGC_COMPILERS is a folder of commands of such names, of compilers that are not on the PATH."""
    return shutil.which(name) or shutil.which(name, path=os.environ.get("IGC_COMPILERS", ""))


@pytest.mark.long
@pytest.mark.parametrize("name", COMPILERS)
def test_compilers_build_every_file_without_a_warning(name, tmp_path, monkeypatch, capsys):
    """And its kernels, of every instruction set that this processor has, agree with numpy. Each takes some minutes."""
    compiler = find_compiler(name)
    if not compiler:
        pytest.skip(f"there is no {name} here")
    strict = tmp_path / "strict-c++"
    strict.write_text(f'#!/bin/sh\nexec {compiler} -Werror "$@"\n')
    strict.chmod(0o755)
    monkeypatch.setenv("CXX", str(strict))
    assert build.main(["--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [re.search("kernels for (.*) are", line).group(1) for line in said] == LEFT_OUT.get(name, []), said
    environment = {**os.environ, "IGC_NATIVE_LIBRARY": str(tmp_path / "out" / "libigc.so")}
    files = [f"native/test_native_{tests}.py" for tests in ("inference", "int8", "half", "amx", "training")]
    run_tests(" ".join(files), environment, select="published_shapes or same_bits or dot_product or amx")


@pytest.mark.long
@pytest.mark.skipif(
    not shutil.which("aarch64-linux-gnu-g++") or not shutil.which("qemu-aarch64"),
    reason="needs Debian's g++-aarch64-linux-gnu and qemu-user",
)
def test_arm64_agrees_with_the_portable_kernels(tmp_path, monkeypatch, capsys):
    """Cross-built without a warning, run by an emulator: networks of every family, from a file to scores."""
    compiler = tmp_path / "strict-c++"
    compiler.write_text('#!/bin/sh\nexec aarch64-linux-gnu-g++ -Werror "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    built = tmp_path / "built"
    assert build.main(["--output", str(built)]) == 0
    assert not capsys.readouterr().err
    program = tmp_path / "run_model"
    subprocess.run(
        [
            "aarch64-linux-gnu-gcc",
            str(TESTS / "native" / "run_model.c"),
            f"-I{build.HERE / 'include'}",
            f"-L{built}",
            "-ligc",
            "-o",
            str(program),
        ],
        check=True,
    )
    agree_on_arm64(program, built, tmp_path)


def agree_on_arm64(program, built, folder):
    import mxnet as mx

    from igc_gluon import deploy, get_model

    rng = np.random.default_rng(0)
    library.use_isa("portable")
    try:
        for name in (
            "cifar_plain_igc8_l24m2",
            "cifar_resnet_igc8_l4m8",
            "cifar_plain8_w16",
            "cifar_igcv2_8_c64",
            "cifar_igcv3_d0.5",
        ):
            mx.random.seed(0)
            net = get_model(name, classes=10)
            net.initialize(mx.init.Xavier(magnitude=2))
            compiled = deploy.compile(net, (3, 32, 32))
            compiled.save(str(folder / "net.igc"))
            x = rng.standard_normal((3, 3, 32, 32)).astype(np.float32)
            done = subprocess.run(
                [
                    "qemu-aarch64",
                    "-L",
                    "/usr/aarch64-linux-gnu",
                    "-E",
                    f"LD_LIBRARY_PATH={built}",
                    str(program),
                    str(folder / "net.igc"),
                    "3",
                ],
                input=x.tobytes(),
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0 and done.stderr.decode().split() == ["portable"], done.stderr
            expected = compiled(x)
            scores = np.frombuffer(done.stdout, np.float32).reshape(expected.shape)
            # The products are added to sums without rounding between, which x86's portable kernels cannot.
            np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max(), err_msg=name)
    finally:
        library.use_isa()


@pytest.mark.long
@pytest.mark.parametrize(
    "tests",
    [
        "native/test_native_inference.py",
        "native/test_native_int8.py",
        "native/test_native_training.py",
        "native/test_native_gluon.py",
        "native/test_native_blocks.py",
        "native/test_native_update.py",
        "deploy",
    ],
)
def test_sanitizers_find_nothing(tests, sanitized):
    """In the tests of the kernels, of the operators on them and of compiled networks: some minutes each."""
    run_tests(tests, sanitized)


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("setarch"), reason="the sanitizer of threads wants addresses that are not random")
@pytest.mark.parametrize(
    "tests", ["deploy/test_deploy_calls.py", "native/test_native_gluon.py::test_a_step_and_inference_agree_with_stock"]
)
def test_no_two_threads_meet(tests, thread_sanitized):
    """In calls of a compiled network from many threads, and in training on the threads of MXNet's engine."""
    run_tests(tests, thread_sanitized, "setarch", "-R")


def run_tests(tests, environment, *before, select=""):
    done = subprocess.run(
        [
            *before,
            sys.executable,
            *"-m pytest -q -x -p no:cacheprovider".split(),
            "--capture=sys",  # the sanitizers write to file descriptor 2 and end the process
            "-k",
            select,
            *[str(TESTS / each) for each in tests.split()],
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=str(TESTS.parent),
    )
    assert done.returncode == 0, done.stdout[-5000:]
