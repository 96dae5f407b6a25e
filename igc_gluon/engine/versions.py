"""What the bits of a run may depend on beside its configuration: recorded at its start, compared at --resume."""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import mxnet as mx
import numpy as np

import igc_gluon
from igc_gluon import native
from igc_gluon.threads import cores

# Variables that may choose other kernels or another number of threads, which adds up in another order.
_VARIABLES = re.compile(
    "(G?OMP|KMP|MKL|OPENBLAS|GOTO|BLIS|DNNL|ONEDNN|MKLDNN|MXNET|CUDNN|CUBLAS|NVIDIA_TF32)_.*|IGC_NATIVE(_ISA)?"
)
# Where files are, what is printed, where threads and memory lie: the numbers stay.
_HARMLESS = re.compile(
    "MXNET_(HOME|GLUON_REPO|SUBGRAPH_VERBOSE|(GPU|CPU)_MEM_.*|PROFILER_.*|MKLDNN_VERBOSE)|"
    "(DNNL|ONEDNN|MKLDNN|MKL|KMP)_VERBOSE|G?OMP_(DISPLAY_.*|PROC_BIND|PLACES|WAIT_POLICY|"
    "CPU_AFFINITY|SPINCOUNT|STACKSIZE|NUM_THREADS)|KMP_(AFFINITY|BLOCKTIME)"
)
_VECTORS = re.compile("sse4.*|avx.*|fma.*|f16c|amx.*|asimd.*|sve.*|neon")
_DIGITS = 16  # of a library's SHA-256


def versions() -> Dict[str, Any]:
    """{what: value}, as JSON can hold it; "environment" is a dict of its own."""
    return {
        "igc_gluon": igc_gluon.__version__,
        "mxnet": mx.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": cores(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        "environment": {
            name: value
            for name, value in sorted(os.environ.items())
            if _VARIABLES.fullmatch(name) and not _HARMLESS.fullmatch(name)
        },
        "native": native.unavailable_reason() or native.library.isa(),
        **_of_the_machine(),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> List[str]:
    """What of `before` is not so `now`, in words; what an older release did not record is not compared."""
    changed = []
    for key, value in now.items():
        if key in before and isinstance(value, dict) and isinstance(before[key], dict):
            old = before[key]
            changed += [
                f"{name} {old.get(name)} -> {value.get(name)}"
                for name in sorted({*old, *value})
                if old.get(name) != value.get(name)
            ]
        elif key in before and before[key] != value:
            changed.append(f"{key} {before[key]} -> {value}")
    return changed


@functools.lru_cache(maxsize=None)
def _of_the_machine() -> Dict[str, str]:
    """What does not change while a process runs."""
    model, flags = _processor()
    kernels = [native.library.path(), native.library.path().with_name("libigc_mxnet.so")]
    return {
        "processor": model,
        "vectors": " ".join(sorted(flag for flag in flags if _VECTORS.fullmatch(flag))),
        "kernels": " ".join(map(_digest, kernels)),
        "mxnet_features": " ".join(sorted(f.name for f in mx.runtime.feature_list() if f.enabled)),
        "mxnet_blas": _blas(Path(mx.__file__).parent),
        "numpy_blas": _blas(Path(np.__file__).parents[1] / "numpy.libs"),
    }


def _processor() -> Tuple[str, List[str]]:
    """(model, flags) of the first processor, of which both may be empty."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        facts = dict(line.partition(":")[::2] for line in lines)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        return facts.get("model name", ""), (facts.get("flags") or facts.get("Features") or "").split()
    return platform.processor(), []


def _digest(path: Path) -> str:
    with contextlib.suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS]
    return "none"


def _blas(folder: Path) -> str:
    """The BLAS libraries in `folder`, OpenBLAS with its version and the kernels that it chose for this processor."""
    libraries = []
    for path in sorted(folder.glob("*")):
        if not re.search(r"(blas|mkl|dnnl|atlas|blis).*\.(so|dylib|dll)", path.name):
            continue
        words = [path.name]
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(str(path))
            for suffix in ("", "64_"):
                for name in ("config", "corename"):
                    function = getattr(library, f"openblas_get_{name}{suffix}", None)
                    if function:
                        function.restype = ctypes.c_char_p
                        words.append(function().decode("ascii", "replace"))
        libraries.append(" ".join(words))
    return ", ".join(libraries)
