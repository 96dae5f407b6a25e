"""Number types to train in: float32, float16 on GPUs, bfloat16 on CPUs that have it.

float16: the network's parameters are float16 but for BN's, the optimizer keeps float32 copies of them.
bfloat16: MXNet's automatic mixed precision. Parameters stay float32 and are cast at each convolution and FC; our own
kernels, which are float32, do not run.
"""

import os
from pathlib import Path
from typing import Sequence

import mxnet as mx
from mxnet.contrib import amp

from igc_gluon.errors import UserError

_CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def check_dtype(dtype: str, devices: Sequence[mx.Context]) -> None:
    """Raises UserError where `devices` cannot compute in `dtype`."""
    on_gpu = devices[0].device_type == "gpu"
    if dtype == "float16" and not on_gpu:
        raise UserError(
            "--dtype float16 needs GPUs: MXNet has no float16 convolutions on CPUs; use --gpus, or another --dtype"
        )
    if dtype == "bfloat16" and on_gpu:
        raise UserError("--dtype bfloat16 is for CPUs; use --dtype float16 on GPUs")
    if dtype == "bfloat16" and not _cpu_has_bfloat16():
        raise UserError(
            f"--dtype bfloat16 needs a CPU with {' or '.join(_CPU_FLAGS)}, which this one has not; use float32"
        )


def use_dtype(dtype: str) -> None:
    """Has all of this process compute in bfloat16, if that is `dtype`; to be called before a network is built."""
    if dtype == "bfloat16":
        os.environ["IGC_NATIVE"] = "0"
        amp.init(target_dtype="bfloat16")


def _cpu_has_bfloat16() -> bool:
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return any(flag in words for flag in _CPU_FLAGS)
