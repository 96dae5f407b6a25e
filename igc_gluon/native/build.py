"""Compiles the kernel library: `python -m igc_gluon.native.build`, and `pip install` by way of setup.py.

Uses the compiler that is there ($CXX, c++, g++ or clang++) and the standard library only: setup.py runs this
file before anything is installed. The sources in src/kernels are compiled once for each instruction set, with
flags for that set and in a namespace of its own; which one runs is decided when the library is loaded, so it
runs on any processor of the architecture, whichever built it.
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

HERE = Path(__file__).resolve().parent
LIBRARY = "libigc.so"
OPERATORS = "libigc_mxnet.so"  # MXNet operators on it, where MXNet's headers are

# Instruction set -> floats in a register, compiler flags. The names are namespaces in the sources.
X86 = {
    "avx512": (16, ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"]),
    "avx2": (8, ["-mavx2", "-mfma"]),
}
PORTABLE = {"portable": (4, [])}
# Kernels for 8-bit integers, src/kernels/int8.
X86_INT8 = {"vnni": (16, X86["avx512"][1] + ["-mavx512vnni"])}

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra",
         # GCC 12 takes the undefined operand inside its own AVX-512 intrinsics for a mistake of the caller.
         "-Wno-maybe-uninitialized", "-Wno-uninitialized", "-Wno-ignored-attributes"]
# By what is looked for: wrong addresses and undefined behaviour, or threads that meet on one place.
SANITIZE = {"address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
            "thread": ["-fsanitize=thread"]}
READABLE = ["-fno-omit-frame-pointer", "-g", "-O1"]  # what a sanitizer says


class BuildError(Exception):
    """One line (and what the compiler said) why there is no library."""


def compiler():
    """Path of the C++ compiler, or None."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        found = name and shutil.which(name)
        if found:
            return found
    return None


def _run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        first = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no output")
        raise BuildError(f"{Path(command[0]).name} failed: {first.strip()}")


def build(output=HERE / "_lib", jobs=None, sanitize=None):
    """Compiles into `output`/libigc.so, atomically, and returns that path. Raises BuildError.

    Where MXNet is installed, libigc_mxnet.so beside it. sanitize: a key of SANITIZE.
    """
    cxx = compiler()
    if cxx is None:
        raise BuildError("there is no C++ compiler (looked for $CXX, c++, g++, clang++)")
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    sanitizer = SANITIZE[sanitize] + READABLE if sanitize else []
    flags = FLAGS + sanitizer + (["-DIGC_X86"] if x86 else [])
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output) as work:
        work = Path(work)
        commands, objects = [], []
        kernels = HERE / "src" / "kernels"
        for folder, targets in ((kernels, {**(X86 if x86 else {}), **PORTABLE}),
                                (kernels / "int8", X86_INT8 if x86 else {})):
            for isa, (lanes, isa_flags) in targets.items():
                for source in sorted(folder.glob("*.cpp")):
                    objects.append(work / f"{source.stem}.{isa}.o")
                    commands.append([cxx, *flags, *isa_flags, f"-DIGC_TARGET={isa}", f"-DIGC_LANES={lanes}",
                                     "-c", source, "-o", objects[-1]])
        for source in sorted((HERE / "src").glob("*.cpp")):
            objects.append(work / f"{source.stem}.o")
            commands.append([cxx, *flags, "-c", source, "-o", objects[-1]])
        with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
            list(pool.map(lambda command: _run([str(word) for word in command]), commands))
        linked = work / LIBRARY
        _run([cxx, *flags, "-shared", *map(str, objects), "-o", str(linked)])
        os.replace(linked, output / LIBRARY)
        if _mxnet():
            _run(_operators_command(cxx, output, work / OPERATORS, sanitizer))
            os.replace(work / OPERATORS, output / OPERATORS)
    return output / LIBRARY


def _mxnet():
    """MXNet's folder, or None. pip's isolated builds hide it from imports, not from where packages are."""
    spec = importlib.util.find_spec("mxnet")
    folders = list(spec.submodule_search_locations or []) if spec else []
    folders += [Path(sysconfig.get_paths()[key]) / "mxnet" for key in ("purelib", "platlib")]
    return next((Path(f) for f in folders if (Path(f) / "include" / "mxnet" / "lib_api.h").is_file()), None)


def _operators_command(cxx, library_folder, output, more_flags):
    """MXNet's file of the interface, which comes with it, finds our operators by name: nothing is hidden."""
    mxnet = _mxnet()
    flags = [flag for flag in FLAGS if flag not in ("-fvisibility=hidden", "-Wall", "-Wextra")]
    return [str(word) for word in (
        cxx, *flags, *more_flags, "-ffp-contract=off", "-shared", f"-I{mxnet / 'include'}",
        *sorted((HERE / "src" / "mxnet").glob("*.cpp")),
        mxnet / "src" / "lib_api.cc", "-o", output, f"-L{library_folder}", "-ligc", "-Wl,-rpath,$ORIGIN")]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m igc_gluon.native.build",
                                     description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=str(HERE / "_lib"),
                        help="folder of libigc.so (default: where it is looked for)")
    parser.add_argument("--jobs", type=int, help="compilers at a time (default: one per core)")
    parser.add_argument("--sanitize", choices=SANITIZE,
                        help="with the sanitizers of addresses and undefined behaviour, or that of threads")
    options = parser.parse_args(arguments)
    try:
        print(build(options.output, options.jobs, options.sanitize))
    except BuildError as error:
        print(f"igc_gluon: no kernel library: {error}; MXNet's own operators will run", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
