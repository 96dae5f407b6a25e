"""What this machine can do at most, measured: multiply-adds of each instruction set, and memory."""

import ctypes
import functools
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Dict

from igc_gluon import processor
from igc_gluon.native import build
from igc_gluon.threads import cores

SECONDS = 0.03
FLOATS, ROUNDS = 16 << 20, 1  # 64 MB in each thread, read and copied
FLAGS = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, "avx2": {"avx2", "fma"}}  # in /proc/cpuinfo


def peaks(threads: int) -> Dict[str, float]:
    """{instruction set: multiply-adds per second} of `threads` threads; empty without a compiler."""
    return {isa: loaded.igc_peak(threads, SECONDS) for isa, loaded in libraries().items()}


def bandwidth(threads: int) -> Dict[str, float]:
    """{'read', 'copy': bytes per second}; empty without a compiler."""
    for loaded in list(libraries().values())[:1]:
        out = (ctypes.c_double * 2)()
        loaded.igc_bandwidth(threads, FLOATS, ROUNDS, out)
        return {"read": out[0], "copy": out[1]}
    return {}


@functools.lru_cache(None)
def libraries() -> Dict[str, ctypes.CDLL]:
    """{instruction set: peak.cpp compiled for it} of those that this processor has, the widest first."""
    cxx = build.compiler()
    if cxx is None:
        return {}
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:  # a loaded library needs its file no longer
        for isa, (lanes, flags) in {**(build.X86 if x86 else {}), build.PORTABLE: (4, [])}.items():
            if not _runs(isa):
                continue
            path = Path(folder) / f"{isa}.so"
            command = [
                cxx,
                *"-O3 -ffp-contract=fast -fPIC -shared -fopenmp".split(),
                *flags,
                f"-DIGC_LANES={lanes}",
                str(Path(__file__).with_name("peak.cpp")),
                "-o",
                str(path),
            ]
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
                continue
            peaks[isa] = ctypes.CDLL(str(path))
            peaks[isa].igc_peak.restype = ctypes.c_double
            peaks[isa].igc_peak.argtypes = [ctypes.c_int, ctypes.c_double]
            peaks[isa].igc_bandwidth.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_void_p]
            peaks[isa].igc_bandwidth.restype = None
    return peaks


def _runs(isa: str) -> bool:
    return FLAGS.get(isa, set()) <= set(processor.cpuinfo("flags").split())


def describe() -> str:
    """The processor, in words."""
    return f"{processor.name()}, {cores()} cores"
