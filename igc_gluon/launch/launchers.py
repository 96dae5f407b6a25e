"""From "so many workers and servers" to command lines, a guard around every process.

Each function takes a Plan and returns a list of Start, one per process to start from here.
"""

import os
import re
import shlex
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from igc_gluon.errors import UserError
from igc_gluon.launch.variables import MOST
from igc_gluon.paths import expand

GUARD = str(Path(__file__).with_name("guard.py"))
SERVER = [sys.executable, "-m", "igc_gluon.engine.server"]
# What a process on another machine gets of this one's environment.
PASSED_ON = ("DMLC_", "PS_", "MXNET_", "IGC_", "OMP_", "PYTHONPATH", "LD_LIBRARY_PATH", "PATH", "NCCL_")
_HOST = re.compile(r"(?P<host>[^\s-]\S*)(\s+slots=(?P<slots>[0-9]{1,9}))?")
_LARGEST_HOSTFILE = 1 << 20  # characters
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=5 -o ServerAliveCountMax=3".split()


@dataclass(frozen=True)
class Plan:
    """What is to be started: `command` as `workers` workers, served by `servers` servers."""

    command: List[str]
    workers: int
    servers: int
    hosts: List[str] = field(default_factory=list)
    hostfile: str = ""
    environment: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """A command line to run here, for one process, "worker 2", or for all "workers" of an mpirun."""

    command: List[str]
    name: str
    controlled: bool  # whether its guard listens to standard input

    @property
    def is_worker(self) -> bool:
        return self.name.startswith("worker")


def scheduler(plan: Plan) -> Start:
    """Always on this machine, and first: it takes a free port and tells it."""
    return _local(plan, "scheduler", 0, 0, SERVER)


def local(plan: Plan) -> List[Start]:
    return [
        _local(plan, role, index, plan.workers if role == "worker" else 0, command)
        for role, index, command in _processes(plan)
    ]


def ssh(plan: Plan) -> List[Start]:
    """Server and worker i on host i, beginning again at the first host; the folder is the one of the launcher."""
    placed = [(role, index, command, plan.hosts[index % len(plan.hosts)]) for role, index, command in _processes(plan)]
    workers = [host for role, _, _, host in placed if role == "worker"]
    return [
        Start(
            [
                *SSH,
                host,
                shlex.join(
                    _guard(plan, role, index, workers.count(host) if role == "worker" else 0, command, remote=True)
                ),
            ],
            f"{role} {index}",
            True,
        )
        for role, index, command, host in placed
    ]


def mpi(plan: Plan) -> List[Start]:
    """One mpirun for the servers and one for the workers, as it gives all its processes one command."""
    hosts = ["--hostfile", plan.hostfile] if plan.hostfile else []
    return [
        Start(
            ["mpirun", "-n", str(count), *hosts, *_guard(plan, role, None, 0, command, remote=True)], f"{role}s", False
        )
        for role, count, command in _roles(plan)
    ]


def slurm(plan: Plan) -> List[Start]:
    """One srun for the servers and one for the workers, inside an allocation (salloc, sbatch)."""
    hosts = ["--nodelist", ",".join(dict.fromkeys(plan.hosts))] if plan.hosts else []
    return [
        Start(
            [
                "srun",
                f"--ntasks={count}",
                "--kill-on-bad-exit=1",
                "--overlap",
                *hosts,
                *_guard(plan, role, None, 0, command, remote=True),
            ],
            f"{role}s",
            False,
        )
        for role, count, command in _roles(plan)
    ]


LAUNCHERS = {"local": local, "ssh": ssh, "mpi": mpi, "slurm": slurm}


def read_hosts(path: str) -> List[str]:
    """The hosts of a hostfile: a host a line, `user@host` or `host slots=4` (then four times in a row), # comments."""
    hosts = []
    try:
        with open(expand(path), encoding="utf-8-sig") as file:
            text = file.read(_LARGEST_HOSTFILE + 1)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the hostfile {path}: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        host = _HOST.fullmatch(line)
        if line and not (host and host["host"].isprintable()):
            raise UserError(f"{path}, line {number}: wants 'host' or 'host slots=4', not {line[:80]!r}")
        hosts += [host["host"]] * min(int(host["slots"] or 1), MOST + 1) if host else []
        if len(hosts) > MOST or len(text) > _LARGEST_HOSTFILE:
            raise UserError(f"the hostfile {path} has places for more than {MOST} processes")
    if not hosts:
        raise UserError(f"the hostfile {path} names no host")
    return hosts


def own_address(hosts: List[str]) -> str:
    """This machine's address as the other hosts see it. Raises UserError where it cannot be told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((hosts[0].split("@")[-1] if hosts else "192.0.2.1", 9))  # sends nothing
            return probe.getsockname()[0]
    except OSError as error:
        raise UserError(
            f"cannot tell this machine's address ({error.strerror or error}); say it with --root-uri"
        ) from None


def _processes(plan: Plan) -> List[Tuple[str, int, List[str]]]:
    return [(role, index, command) for role, count, command in _roles(plan) for index in range(count)]


def _roles(plan: Plan) -> List[Tuple[str, int, List[str]]]:
    roles = [("server", plan.servers, SERVER), ("worker", plan.workers, plan.command)]
    return [role for role in roles if role[1]]


def _local(plan: Plan, role: str, index: int, share: int, command: List[str]) -> Start:
    return Start(_guard(plan, role, index, share, command), role if role == "scheduler" else f"{role} {index}", True)


def _guard(
    plan: Plan, role: str, index: Optional[int], share: int, command: List[str], remote: bool = False
) -> List[str]:
    environment = dict(plan.environment)
    if remote:
        environment = {**{k: v for k, v in os.environ.items() if k.startswith(PASSED_ON)}, **environment}
    if role != "worker":
        environment["OMP_NUM_THREADS"] = "1"  # its work is copying
    words = [sys.executable, "-S", GUARD, "--role", role]
    words += ["--index", str(index), "--control"] if index is not None else []
    words += ["--share", str(share)] if share else []
    words += ["--directory", os.getcwd()] if remote else []
    for name, value in sorted(environment.items()):
        words += ["--environment", f"{name}={value}"]
    return [*words, "--", *command]
