"""What the processor of this machine is."""

import platform
from pathlib import Path


def cpuinfo(key: str) -> str:
    """The first processor's line in /proc/cpuinfo; empty where there is none."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


def name() -> str:
    """Its model, in words."""
    return cpuinfo("model name") or platform.machine()
