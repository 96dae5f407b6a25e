"""`igc launch`"""

import argparse
import signal
import sys
from dataclasses import replace
from typing import Callable, Iterable

from igc_gluon.errors import UserError
from igc_gluon.launch import launchers
from igc_gluon.launch.guard import STOPPING
from igc_gluon.launch.job import Failed, Job
from igc_gluon.launch.launchers import scheduler
from igc_gluon.launch.variables import MOST

# Not tried again: a user's mistake, a command that is not there, and what somebody asked for.
FINAL = (2, 127, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", "--num-workers", type=int, required=True, metavar="WORKERS")
    parser.add_argument(
        "-s",
        "--num-servers",
        type=int,
        metavar="SERVERS",
        help="(default: as many as workers; 0 for a command without a KVStore)",
    )
    parser.add_argument(
        "--launcher", choices=("local", "ssh", "mpi", "slurm"), help="(default: ssh with a hostfile, otherwise local)"
    )
    parser.add_argument(
        "-H",
        "--hostfile",
        metavar="FILE",
        help="a host a line, or 'host slots=4'; Python, this package, the data and the run's folder "
        "must be under the same paths on all of them",
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="K",
        help="when a process dies, start all again from the last checkpoint, with --resume, up to K times",
    )
    parser.add_argument(
        "--hang-timeout",
        type=float,
        default=300,
        metavar="SECONDS",
        help="a worker that makes no step, no connection and no checkpoint for so long, without "
        "computing, and any process that gives no sign of life, or whose machine does not, counts "
        "as dead; 0: never (default: 300)",
    )
    parser.add_argument("--root-uri", metavar="ADDRESS", help="this machine's address as the others see it")
    parser.add_argument(
        "--interface", metavar="NAME", help="the network interface to use on every machine, such as eth0"
    )
    parser.add_argument(
        "script", nargs="+", metavar="COMMAND", help="after --: python train_cifar.py --kv-store dist_sync ..."
    )


def run(args: argparse.Namespace) -> int:
    servers = args.num_workers if args.num_servers is None else args.num_servers
    _check(args, servers, MOST)
    kind = args.launcher or ("ssh" if args.hostfile else "local")
    hosts = launchers.read_hosts(args.hostfile) if args.hostfile else []
    own = args.root_uri or ("127.0.0.1" if kind == "local" else launchers.own_address(hosts))
    environment = {"DMLC_PS_ROOT_URI": own, "DMLC_NUM_WORKER": str(args.num_workers), "DMLC_NUM_SERVER": str(servers)}
    if args.interface:
        environment["DMLC_INTERFACE"] = args.interface
    elif kind == "local":
        environment["DMLC_NODE_HOST"] = "127.0.0.1"  # also where there is no other network
    command = list(args.script)
    left = args.max_restarts
    while True:
        plan = launchers.Plan(command, args.num_workers, servers, hosts, args.hostfile or "", environment)
        try:
            return _attempt(plan, launchers.LAUNCHERS[kind], args.hang_timeout)
        except Failed as failed:
            if failed.silent:
                return failed.code
            if not left or failed.code in FINAL:
                print(f"error: {failed}; all others have been ended", file=sys.stderr)
                return failed.code
            print(
                f"igc launch: {failed}; starting again from the last checkpoint, {left} restarts left",
                file=sys.stderr,
                flush=True,
            )
            left -= 1
            if "--resume" not in command:
                command.append("--resume")


def _check(args: argparse.Namespace, servers: int, most_processes: int) -> None:
    """Raises UserError on numbers and flags that do not go together."""
    for flag, value, least, most in (
        ("--num-workers", args.num_workers, 1, most_processes),
        ("--num-servers", servers, 0, most_processes),
        ("--max-restarts", args.max_restarts, 0, 1 << 30),
        ("--hang-timeout", args.hang_timeout, 0, 1 << 30),
    ):
        if not least <= value <= most:
            raise UserError(
                f"{flag} must be at least {least}"
                + (f", not {value}" if value < least else f" and at most {most:,}, not {value}")
            )
    if args.launcher == "local" and args.hostfile:
        raise UserError("--launcher local starts everything here; leave -H out")
    if args.launcher == "ssh" and not args.hostfile:
        raise UserError("--launcher ssh needs -H FILE, a host a line")


def _attempt(
    plan: launchers.Plan, launcher: Callable[[launchers.Plan], Iterable[launchers.Start]], hang_timeout: float
) -> int:
    """Runs `plan` once and returns the exit code. Raises Failed, with everything ended."""
    with Job(hang_timeout) as job:
        before = {
            number: signal.signal(number, lambda number, frame: job.stop(number))
            for number in STOPPING
            if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
        }
        try:
            if plan.servers:
                job.start(scheduler(replace(plan, environment={**plan.environment, "DMLC_PS_ROOT_PORT": "0"})))
                port = job.wait_for_port(plan.environment["DMLC_PS_ROOT_URI"])
                plan = replace(plan, environment={**plan.environment, "DMLC_PS_ROOT_PORT": str(port)})
            for start in launcher(plan):
                job.start(start)
            return job.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
