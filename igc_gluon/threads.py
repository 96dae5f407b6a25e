"""How many cores an entry point uses. To be called before the first import of mxnet, which reads it once."""

import math
import os
from pathlib import Path
from typing import Iterator

from igc_gluon import environment

CONTROL_GROUPS = Path("/sys/fs/cgroup")  # of a container: its own


def cores() -> int:
    """How many cores this process may use: its affinity, and its container's quota, rounded up."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas()]
    return max(1, min([allowed, *quotas]))


def _quotas() -> Iterator[float]:
    """Cores that a container's control group allows, version 2 or 1, where it has a quota."""
    for quota_file, period_file in (("cpu.max", "cpu.max"), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota = (CONTROL_GROUPS / quota_file).read_text().split()[0]
            period = (CONTROL_GROUPS / period_file).read_text().split()[-1]
            if int(quota) > 0 and int(period) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError, IndexError):  # none, or "max"
            continue


def use_all_cores() -> None:
    """Has MXNet use every core that this process may run on; alone it would use one. The environment wins.

    Raises UserError where it says of MXNet what MXNet cannot read.
    """
    environment.check()
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    os.environ.setdefault("OMP_DYNAMIC", "false")  # with fewer threads under load the bits would be others
    # OpenMP's threads would spin for milliseconds after each of MXNet's operators, on the cores that the kernels want.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line per graph otherwise
