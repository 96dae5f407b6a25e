"""Compiles the kernel library: `python -m igc_gluon.native.build`, and `pip install` by way of setup.py.

Uses the compiler that is there ($CXX, c++, g++ or clang++; a cross-compiler builds for its own target) and
the standard library only: setup.py runs this file before anything is installed. The sources in src/kernels
are compiled once for each instruction set, with flags for that set and in a namespace of its own; which one
runs is decided when the library is loaded, so it runs on any processor of the architecture, whichever built
it. An instruction set that the compiler or its assembler does not know is left out alone; one line says so.
"""

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

HERE = Path(__file__).resolve().parent
LIBRARY = "libigc.so"
OPERATORS = "libigc_mxnet.so"  # MXNet operators on it, where MXNet's headers are

# Instruction set -> floats in a register, compiler flags. The names are namespaces in the sources;
# IGC_HAS_<NAME> tells src/isa.cpp what is built in.
X86 = {
    # GCC 12 takes the undefined operand inside its own AVX-512 intrinsics for a mistake of the caller.
    "avx512": (
        16,
        "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -Wno-maybe-uninitialized -Wno-uninitialized".split(),
    ),
    "avx2": (8, ["-mavx2", "-mfma"]),
}
PORTABLE = "portable"
# By target. On ARM64 GCC orders instructions before it assigns registers, and then has too few for a tile
# that takes all of them.
PORTABLE_FLAGS = {"aarch64": ["-fno-schedule-insns", "-Wno-ignored-optimization-argument"]}
# Kernels for elements of 8 and 16 bits, src/kernels/reduced.
X86_REDUCED = {
    "vnni": (16, ["-DIGC_BYTES"] + X86["avx512"][1] + ["-mavx512vnni"]),
    "avxvnni": (8, ["-DIGC_BYTES"] + X86["avx2"][1] + ["-mavxvnni"]),
    "avx2_int8": (8, ["-DIGC_BYTES"] + X86["avx2"][1]),
    "avx512_bf16": (16, X86["avx512"][1] + ["-mavx512bf16"]),
}
# Convolutions on Intel's matrix unit, src/kernels/amx.
X86_AMX = {
    "amx_bf16": (16, X86["avx512"][1] + ["-mavx512bf16", "-mamx-tile", "-mamx-bf16"]),
    "amx_int8": (16, ["-DIGC_BYTES"] + X86["avx512"][1] + ["-mavx512vnni", "-mamx-tile", "-mamx-int8"]),
}
# What those for elements of 8 and 16 bits compute, on any processor.
_IN_PLAIN = ["-DIGC_EMULATED", "-O2", "-ffp-contract=off"]
EMULATED_REDUCED = {"emulated_bf16": (4, _IN_PLAIN), "emulated_int8": (4, ["-DIGC_BYTES", *_IN_PLAIN])}
EMULATED_AMX = {"emulated_amx_bf16": (4, _IN_PLAIN), "emulated_amx_int8": (4, ["-DIGC_BYTES", *_IN_PLAIN])}
EMULATED = {**EMULATED_REDUCED, **EMULATED_AMX}

# -Wno-unknown-warning-option: for Clang, which lacks -Wno-maybe-uninitialized; GCC minds no such flag.
# -Wno-ignored-attributes: a register's type as the argument of a template loses its alignment, unused there.
WARNINGS = ["-Wall", "-Wextra", "-Wno-unknown-warning-option", "-Wno-ignored-attributes"]
FLAGS = ["-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden"]
# Nothing but the interface is seen from outside, not even what is instantiated of the C++ library: another
# library's copy of such a function could be bound to ours.
INTERFACE = "{ global: igc_*; local: *; };\n"
# By what is looked for: wrong addresses and undefined behavior, or threads that meet on one place.
SANITIZE = {
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}
READABLE = ["-fno-omit-frame-pointer", "-g", "-O1"]  # what a sanitizer says


class BuildError(Exception):
    """One line (and what the compiler said) why there is no library."""


def compiler() -> Optional[str]:
    """Path of the C++ compiler, or None."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        compiler = name and shutil.which(name)
        if compiler:
            return compiler
    return None


def _target(cxx: str) -> str:
    """The architecture that the compiler builds for, e.g. x86_64."""
    try:
        triple = subprocess.run(
            [cxx, "-dumpmachine"], check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ).stdout
    except OSError:
        triple = ""
    return (triple.split("-")[0].strip() or platform.machine()).lower()


def _is_x86(target: str) -> bool:
    return target in ("x86_64", "amd64")


def parts(target: str) -> Dict[str, List[Tuple[Path, List[str]]]]:
    """{instruction set: [(source, flags)]} of the kernels; under "" all other sources but isa.cpp."""
    source, x86 = HERE / "src", _is_x86(target)
    floats = {**(X86 if x86 else {}), PORTABLE: (4, PORTABLE_FLAGS.get(target, []))}
    files: Dict[str, List[Tuple[Path, List[str]]]] = {}
    folders: Dict[Path, Dict[str, Tuple[int, List[str]]]] = {
        source / "kernels": floats,
        source / "kernels" / "reduced": {**(X86_REDUCED if x86 else {}), **EMULATED_REDUCED},
        source / "kernels" / "amx": {**(X86_AMX if x86 else {}), **EMULATED_AMX},
    }
    for folder, isas in folders.items():
        for isa, (lanes, flags) in isas.items():
            files[isa] = [
                (path, [*flags, f"-DIGC_TARGET={isa}", f"-DIGC_LANES={lanes}"]) for path in sorted(folder.glob("*.cpp"))
            ]
    files[""] = [(path, []) for path in sorted(source.glob("*.cpp")) if path.name != "isa.cpp"]
    return files


def _failure(command: Sequence[Any]) -> Optional[str]:
    """None if the command succeeds, else the line of what it says that tells why."""
    done = subprocess.run(
        [str(word) for word in command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if not done.returncode:
        return None
    lines = done.stdout.strip().splitlines()
    first = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
    return f"{Path(command[0]).name} failed: {first.strip()}"


def _run(command: Sequence[Any]) -> None:
    failure = _failure(command)
    if failure:
        raise BuildError(failure)


def _print_warning(line: str) -> None:
    print(f"igc_gluon: {line}", file=sys.stderr)


def build(
    output: Path = HERE / "_lib",
    jobs: Optional[int] = None,
    sanitize: Optional[str] = None,
    warn: Callable[[str], None] = _print_warning,
    only: Optional[Sequence[str]] = None,
) -> Path:
    """Compiles into `output`/libigc.so, atomically, and returns that path. Raises BuildError.

    Where MXNet is installed, libigc_mxnet.so beside it. sanitize: a key of SANITIZE. warn: called with a line
    for each part that the compiler cannot build and that is left out. only: the instruction sets to build, beside
    those that every processor has; None: all.
    """
    cxx = compiler()
    if cxx is None:
        raise BuildError("there is no C++ compiler (looked for $CXX, c++, g++, clang++)")
    target = _target(cxx)
    sanitizer = SANITIZE[sanitize] + READABLE if sanitize else []
    flags = FLAGS + WARNINGS + sanitizer + (["-DIGC_X86"] if _is_x86(target) else [])
    always = ("", PORTABLE, *EMULATED)
    chosen = {part: files for part, files in parts(target).items() if only is None or part in (*always, *only)}
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as work_folder:
        work = Path(work_folder)

        def compile_one(path: Path, more_flags: Sequence[str], part: str) -> Tuple[Path, Optional[str]]:
            made = work / f"{path.stem}.{part}.o"
            return made, _failure([cxx, *flags, *more_flags, "-c", path, "-o", made])

        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            running = {
                part: [pool.submit(compile_one, path, more_flags, part) for path, more_flags in files]
                for part, files in chosen.items()
            }
            results = {part: [each.result() for each in files] for part, files in running.items()}
        objects: List[Path] = []
        built, left_out = [], []
        for part, files in results.items():
            failure = next((failure for _, failure in files if failure), None)
            if failure and part in always:
                raise BuildError(failure)
            if failure:
                left_out.append(f"the kernels for {part} are left out: {failure}")
            else:
                objects += [made for made, _ in files]
                built.append(part)
        has = [f"-DIGC_HAS_{part.upper()}" for part in built if part]
        made, failure = compile_one(HERE / "src" / "isa.cpp", has, "")
        if failure:
            raise BuildError(failure)
        interface = work / "interface.map"
        interface.write_text(INTERFACE)
        _run(
            [
                cxx,
                *flags,
                "-shared",
                *objects,
                made,
                f"-Wl,-soname,{LIBRARY}",
                f"-Wl,--version-script={interface}",
                "-o",
                work / LIBRARY,
            ]
        )
        os.replace(work / LIBRARY, output / LIBRARY)
        mxnet = _mxnet()
        if mxnet:
            failure = _build_operators(cxx, output, work, mxnet, FLAGS + sanitizer)
            if failure:
                left_out.append(f"the operators for MXNet are left out: {failure}")
    for line in left_out:
        warn(line)
    return output / LIBRARY


def _mxnet() -> Optional[Path]:
    """MXNet's folder, or None. pip's isolated builds hide it from imports, not from where packages are."""
    spec = importlib.util.find_spec("mxnet")
    folders = list(spec.submodule_search_locations or []) if spec else []
    folders += [str(Path(sysconfig.get_paths()[key]) / "mxnet") for key in ("purelib", "platlib")]
    return next((Path(f) for f in folders if (Path(f) / "include" / "mxnet" / "lib_api.h").is_file()), None)


def _build_operators(cxx: str, output: Path, work: Path, mxnet: Path, flags: Sequence[str]) -> Optional[str]:
    """Compiles `output`/libigc_mxnet.so. Returns None, or why it cannot be.

    MXNet's file of the interface, which comes with it, finds our operators by name: nothing is hidden.
    """
    flags = [
        *(flag for flag in flags if flag != "-fvisibility=hidden"),
        "-ffp-contract=off",
        "-isystem",
        str(mxnet / "include"),
    ]
    objects = []
    for path in (*sorted((HERE / "src" / "mxnet").glob("*.cpp")), mxnet / "src" / "lib_api.cc"):
        objects.append(work / f"{path.stem}.mxnet.o")
        warnings = WARNINGS if path.parent.parent == HERE / "src" else ["-w"]
        failure = _failure([cxx, *flags, *warnings, "-c", path, "-o", objects[-1]])
        if failure:
            return failure
    failure = _failure(
        [
            cxx,
            *flags,
            "-shared",
            *objects,
            "-o",
            work / OPERATORS,
            f"-L{output}",
            "-ligc",
            f"-Wl,-soname,{OPERATORS}",
            "-Wl,-rpath,$ORIGIN",
        ]
    )
    if not failure:
        os.replace(work / OPERATORS, output / OPERATORS)
    return failure


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m igc_gluon.native.build", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output", default=str(HERE / "_lib"), help="folder of libigc.so (default: where it is looked for)"
    )
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: one per core)")
    parser.add_argument(
        "--sanitize",
        choices=SANITIZE,
        help="with the sanitizers of addresses and undefined behavior, or that of threads",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*X86, *X86_REDUCED, *X86_AMX],
        metavar="SET",
        help="instruction sets to build, beside what every processor runs (default: all that the compiler knows)",
    )
    options = parser.parse_args(arguments)
    try:
        print(build(options.output, options.jobs, options.sanitize, only=options.only))
    except BuildError as error:
        print(f"igc_gluon: no kernel library: {error}; MXNet's own operators will run", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
