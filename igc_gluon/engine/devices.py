"""The devices that a run trains on, and the key-value stores and numbers of shards that fit them."""

import logging
import os
from typing import List, Optional, Sequence

import mxnet as mx

from igc_gluon.engine.workers import HOROVOD, PARAMETER_SERVER
from igc_gluon.errors import UserError

logger = logging.getLogger(__name__)

KV_STORES = ("device", "local", "nccl", *PARAMETER_SERVER, HOROVOD)
COMPRESSIONS = ("none", "2bit")
# Images in a shard, of which BN needs enough: ResNet-50's error on ImageNet is 23.6, 23.7, 24.8, 27.3 and 34.7 % at 32,
# 16,
# 8, 4 and 2 images (Wu and He, Group Normalization, ECCV 2018, Table 2). All shards of the papers have more.
SMALLEST_SHARD = 16


def contexts(gpus: Optional[str] = None, cpus: int = 1) -> List[mx.Context]:
    """The devices to train on: `gpus` is a text such as '0,1' or None for `cpus` CPU contexts.

    Raises UserError on GPUs that are not there.
    """
    if not gpus:
        if cpus < 1:
            raise UserError(f"--cpus must be at least 1, not {cpus}")
        return [mx.cpu(i) for i in range(cpus)]
    try:
        numbers = [int(part) for part in gpus.split(",")]
    except ValueError:
        raise UserError(f"--gpus wants numbers, such as 0,1; not {gpus!r}") from None
    if len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise UserError(f"--gpus wants different numbers from 0 on; not {gpus!r}")
    if not mx.runtime.Features().is_enabled("CUDA"):
        raise UserError(
            "--gpus: this MXNet is built without CUDA; install the GPU one (pip install -e '.[cu112]') "
            "or use the CPU: leave --gpus out, or for train_imagenet.py give --cpus 1 in its place"
        )
    count = mx.context.num_gpus()
    missing = [n for n in numbers if n >= count]
    if missing:
        raise UserError(
            f"--gpus: there is no GPU {missing[0]}; this machine has {count}"
            + (f", numbered from 0 to {count - 1}" if count else "")
        )
    return [mx.gpu(n) for n in numbers]


def check_kv_store(name: str, devices: Sequence[mx.Context], compression: str = "none") -> None:
    """Raises UserError where the KVStore `name` cannot serve `devices`, or cannot compress gradients."""
    if name not in KV_STORES:
        raise UserError(f"--kv-store must be one of {', '.join(KV_STORES)}, not {name!r}")
    if name == "nccl" and not (mx.runtime.Features().is_enabled("NCCL") and devices[0].device_type == "gpu"):
        raise UserError("--kv-store nccl needs GPUs and an MXNet built with NCCL; use --kv-store device")
    if compression not in COMPRESSIONS:
        raise UserError(f"--gc-type must be one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    if compression != "none" and (name != "device" or len(devices) == 1):
        raise UserError(
            f"--gc-type {compression}: MXNet compresses gradients only between several devices of one "
            "process, with --kv-store device; leave it out"
        )


def choose_deterministic_operators(wanted: Optional[int], devices: Sequence[mx.Context], kv_store: str) -> None:
    """Has MXNet choose operators that give the same bits run after run, to be called before any of them runs.

    wanted: 1, 0, or None for 1 on the CPU. There all that is used here is deterministic at a number of threads in any
    case. Raises UserError where bits cannot repeat.
    """
    if wanted and kv_store == "dist_async":
        raise UserError(
            "--deterministic 1: with --kv-store dist_async the weights depend on which worker is first; use dist_sync"
        )
    if wanted or (wanted is None and devices[0].device_type == "cpu"):
        os.environ["MXNET_ENFORCE_DETERMINISM"] = "1"
        os.environ["MXNET_CUDNN_AUTOTUNE_DEFAULT"] = "0"


def usual_shards(shards: int, batch_size: int, number: int = 1) -> int:
    """The number of shards where nobody said one: `shards`, the paper's, but so few that each has SMALLEST_SHARD
    images, if not less than one for each of the devices, of all workers `number`."""
    return min(shards, max(number, batch_size // SMALLEST_SHARD))


def shards_for(devices: Sequence[mx.Context], shards: int, batch_size: int, workers: int = 1) -> int:
    """The number of shards of a batch: `shards`, raised to a multiple of the number of devices of all workers.

    Raises UserError if the batch has fewer images than shards.
    """
    if shards < 1:
        raise UserError(f"--batch-shards must be at least 1, not {shards}")
    total = len(devices) * workers
    rounded = -(-shards // total) * total
    if rounded > batch_size:
        raise UserError(
            f"a batch of {batch_size} images cannot be cut into {rounded} shards; raise --batch-size or "
            "lower --batch-shards or the number of devices"
        )
    if rounded != shards:
        logger.warning(
            "%d devices cut a batch into %d shards, not %d; --batch-shards %d gives the same training on "
            "any number of devices that divides it",
            total,
            rounded,
            shards,
            rounded,
        )
    return rounded
