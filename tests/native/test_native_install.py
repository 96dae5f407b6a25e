"""What pip makes of the sources: a wheel that runs on other machines, an installation without a compiler."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import build, library

ROOT = Path(__file__).resolve().parent.parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in ("IGC_NATIVE", "IGC_NATIVE_ISA", "IGC_NATIVE_LIBRARY", "PYTHONPATH")
}

# Compares compiled scores, scores and a gradient with MXNet's own. Prints where the package is, what runs it.
USES = """
import os
import mxnet as mx, numpy as np
import igc_gluon
from igc_gluon import deploy
from igc_gluon.native import library, operators

mx.random.seed(0)
net = igc_gluon.get_model("cifar_plain_igc8_l4m2", classes=5)
net.initialize(mx.init.Xavier())
x = mx.nd.random.normal(shape=(2, 3, 16, 12))

def gradient():
    with mx.autograd.record():
        loss = net(x).square().sum()
    loss.backward()
    return next(iter(net.collect_params().values())).grad().asnumpy()

net(x)
net.save_parameters("start.params")
used = str(operators.unavailable_reason() or library.isa())
found = deploy.compile(net, (3, 16, 12))(x).asnumpy(), net(x).asnumpy(), gradient()
net.load_parameters("start.params")  # a step moves the statistics
os.environ["IGC_NATIVE"] = "0"
expected = net(x).asnumpy(), net(x).asnumpy(), gradient()
for one, other in zip(found, expected):
    assert np.abs(one - other).max() < 1e-3 * np.abs(other).max()
print(igc_gluon.__file__, used, sep="\\n")
"""


@pytest.fixture
def sources(tmp_path):
    """A copy of what pip reads, with nothing that is built; pip leaves what it builds there."""
    copy = tmp_path / "sources"
    built = shutil.ignore_patterns("_lib", "__pycache__")
    shutil.copytree(ROOT / "igc_gluon", copy / "igc_gluon", ignore=built)
    for name in ("setup.py", "pyproject.toml", "README.md", "igc_command.py"):
        shutil.copy(ROOT / name, copy)
    return copy


def pip(*arguments, **environment):
    done = subprocess.run(
        [*PIP, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**CLEAN, **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def use(folder, elsewhere, **environment):
    """Runs USES on the package in `folder`: what ran, and what was said of kernels."""
    done = subprocess.run(
        [sys.executable, "-c", USES],
        capture_output=True,
        text=True,
        cwd=str(elsewhere),
        env={**CLEAN, "PYTHONPATH": str(folder), **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    where, used = done.stdout.splitlines()[-2:]
    assert Path(where).parent == folder / "igc_gluon"
    said = [line for line in done.stderr.splitlines() if "kernel" in line]
    assert said.pop() == "native CPU kernels are not used: switched off by IGC_NATIVE=0"
    return used, said


def test_only_the_kernels_of_an_instruction_set_are_compiled_for_it(tmp_path, monkeypatch):
    """Nothing for the processor that builds; all else for every processor of the architecture."""
    log, compiler = tmp_path / "log", tmp_path / "c++"
    compiler.write_text(
        f'#!/bin/sh\necho "$@" >> {log}\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    build.build(tmp_path / "out", jobs=1)
    commands = log.read_text().splitlines()
    assert len(commands) > 20 and "native" not in re.findall(r"-m(?:arch|tune|cpu)=(\S+)", " ".join(commands))
    for command in commands:
        machine = [word for word in command.split() if re.match(r"-m|-x[A-Z]|-Ofast|-ffast-math", word)]
        target = re.search(r"-DIGC_TARGET=(\w+)", command)
        expected = (
            {**build.X86, **build.X86_REDUCED, **build.X86_AMX, **build.EMULATED, build.PORTABLE: (4, [])}[
                target.group(1)
            ][1]
            if target
            else []
        )
        assert machine == [word for word in expected if word.startswith("-m")], command


WITH_512_BITS = ("avx512", "avx512_bf16", "vnni", "amx_bf16", "amx_int8")


@pytest.mark.skipif(
    not native.available() or not shutil.which("objdump") or platform.machine() != "x86_64",
    reason="needs an x86 library and objdump",
)
def test_wide_instructions_stand_in_the_kernels_of_their_instruction_set_only():
    """An older processor that chooses the portable code never meets one."""
    listing = subprocess.check_output(
        ["objdump", "-d", "--no-show-raw-insn", str(library.path())], universal_newlines=True
    )
    counts = {}
    for line in listing.splitlines():
        if line.endswith(">:"):
            function = line
        elif re.search(r"\t(v[a-z]|.*%([yz]mm|tmm)|k(mov|or|and)|ldtilecfg|tilerelease)", line):
            isa = re.search("amx_bf16|amx_int8|avx512_bf16|avx512|avx2_int8|avxvnni|avx2|vnni", function)
            assert isa and "emulated" not in function, f"{line} in {function}"
            assert isa.group() in WITH_512_BITS or "%zmm" not in line, f"{line} in {function}"
            assert isa.group() in build.X86_AMX or not re.search("tmm|tile", line), f"{line} in {function}"
            counts[isa.group()] = counts.get(isa.group(), 0) + 1
    assert set(counts) == {*build.X86, *build.X86_REDUCED, *build.X86_AMX} and min(counts.values()) > 100


@pytest.mark.long
@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_a_wheel_runs_on_every_instruction_set(sources, tmp_path):
    """Built as pip does it, in isolation: three minutes on one core."""
    start = time.time()
    pip("wheel", "--no-deps", "--wheel-dir", tmp_path, sources)
    print(f"pip wheel: {time.time() - start:.0f} s")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith("igc_gluon-") and "-py3-none-linux_" in wheel.name
    files = zipfile.ZipFile(wheel).namelist()
    for name in (build.LIBRARY, build.OPERATORS):
        assert f"igc_gluon/native/_lib/{name}" in files
    folder = tmp_path / "installed"
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    for isa in library.ISAS:
        try:
            library.use_isa(isa)
        except UserError:
            continue
        finally:
            library.use_isa()
        used, said = use(folder, tmp_path, IGC_NATIVE_ISA=isa)
        assert used == isa and said == []
    start, before = time.time(), os.times()
    build.build(tmp_path / "timed")
    after = os.times()
    busy = after.children_user + after.children_system - before.children_user - before.children_system
    print(f"compilation alone: {time.time() - start:.0f} s, {busy:.0f} s of processor time")


@pytest.mark.long
def test_without_a_compiler_the_installation_succeeds_and_says_so(sources, tmp_path):
    folder, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    said = pip("install", "-v", "--no-deps", "--target", folder, sources, CXX="/nonexistent", PATH=str(empty))
    lines = [line for line in said.splitlines() if "no kernel library" in line]
    assert len(lines) == 1 and "no C++ compiler" in lines[0] and "MXNet's own operators will run" in lines[0]
    assert not list((folder / "igc_gluon").rglob("*.so"))
    used, said = use(folder, tmp_path)
    assert used.startswith("there is no kernel library at ")
    assert used.endswith("; run: python -m igc_gluon.native.build")
    assert said[0] == f"native CPU kernels are not used: {used}"
    assert len(said) == 2 and said[1].endswith(f"runs on MXNet's operators, not compiled: {used}")
