"""Runs one process of a distributed run: `python guard.py --role worker --index 2 --environment A=B -- COMMAND`.

Every line of the process is passed on with a prefix such as "[worker 2] ". Its end is reported in a line that begins
with MARK; the guard's exit code is that of the process, 128 + number after a signal. What the process leaves behind in
its process group ends with it.

With --control, standard input is the launcher: a line "signal 15" sends that signal, "close 1" says that nobody reads
standard output any more, which is then closed to the process too, and the end of the input, which comes however the
launcher or the connection to it has died, kills the process. Without it (mpirun, srun) the index is the one that the
MPI or Slurm environment tells.

SIGTERM, SIGINT and SIGHUP are passed on, but for those that nohup has it ignore, and the process has STOP_SECONDS to
save. Servers and the scheduler do not hear them: they are needed until the workers have saved, and Slurm, for example,
sends such a signal to every process.

Every second a line says whether the process works, waits for others or just lives, see `igc_gluon.launch.heartbeat`;
there is none while the guard or its process stands still.

Runs by its path, without igc_gluon or any other package.
"""

import argparse
import contextlib
import ctypes
import functools
import os
import platform
import re
import select
import signal
import subprocess
import sys
import threading
from typing import IO, List, Optional, Set, TextIO, Tuple

MARK = "@igc-launch "
HEARTBEAT = "IGC_HEARTBEAT"  # environment variable: where the process writes
LAST_BEAT, LIVES, WAITS, WORKS = b"0", b"1", b"2", b"3"  # what it writes
STATES = {WORKS: "works", WAITS: "waits", LIVES: "lives"}  # in words, the best first
BEAT_SECONDS = 1
LONGEST_LINE = 1 << 16  # bytes; what is longer is passed on in pieces, not gathered
STOP_SECONDS = 120  # for the workers to save after a signal
# A signal that comes so soon after the first is the same: to a process and, by way of its guard, to it again.
SAME_SECONDS = 1
INDEX_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
_LOCK = threading.Lock()


def main(argv: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--index", type=int)
    parser.add_argument("--directory")
    parser.add_argument("--environment", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--share", type=int, default=0, help="how many such processes share this machine's cores")
    parser.add_argument("--control", action="store_true")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args(argv)
    index = args.index
    if index is None:
        index = next((int(os.environ[name]) for name in INDEX_VARIABLES if name in os.environ), 0)
    name = args.role if args.role == "scheduler" else f"{args.role} {index}"
    environment = {
        **os.environ,
        **dict(pair.split("=", 1) for pair in args.environment),
        "DMLC_ROLE": args.role,
        "PYTHONUNBUFFERED": "1",
    }
    if args.role == "worker":
        environment["IGC_WORKER"] = str(index)
    if args.share:
        environment.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // args.share, 1)))
    here = platform.node()
    beats, environment[HEARTBEAT] = _pipe()
    try:
        process = subprocess.Popen(
            args.command,
            env=environment,
            cwd=args.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=functools.partial(_become, args.role),
        )
    except OSError as error:
        _write(sys.stderr, f"{MARK}{name} on {here} could not be started: {error.strerror}: {error.filename}")
        return 127
    closed: Set[int] = set()  # numbers of the streams that nobody reads
    if args.control:
        threading.Thread(target=_follow, args=(process, closed), daemon=True).start()
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, functools.partial(_pass_signal_on, process))
    threading.Thread(target=_tell, args=(beats, f"{name} on {here}"), daemon=True).start()
    pumps = [
        threading.Thread(target=_pass_on, args=(source, target, f"[{name}] ", number, closed), daemon=True)
        for number, source, target in ((1, process.stdout, sys.stdout), (2, process.stderr, sys.stderr))
    ]
    for pump in pumps:
        pump.start()
    code = process.wait()
    _kill_group(process)  # data loaders, for example; they would hold the pipes open
    for pump in pumps:
        pump.join(5)
    _write(sys.stderr, f"{MARK}{name} on {here} {in_words(code)}")
    return code if code >= 0 else 128 - code


def in_words(code: int) -> str:
    """How a process ended, from subprocess's return code."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def die_with_parent() -> None:
    """In the new process, before it runs its command; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(role: str) -> None:
    die_with_parent()
    if role != "worker":
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)


def _pipe() -> Tuple[int, str]:
    """(file descriptor to read from, path to write to) of a new pipe."""
    read, write = os.pipe()
    return read, f"/proc/{os.getpid()}/fd/{write}"


def _tell(beats: int, name: str) -> None:
    """Says, as long as this guard lives, what its process does; before that first tells, and after its last word, that
    it works, without asking it."""
    own = True
    while True:
        heard = os.read(beats, 1 << 16) if select.select([beats], [], [], BEAT_SECONDS)[0] else b""
        own = heard.endswith(LAST_BEAT) if heard else own
        if heard or own:
            best = WORKS if own else next(state for state in STATES if state in heard)
            _write(sys.stderr, f"{MARK}{STATES[best]}: {name}")


def _pass_signal_on(process: subprocess.Popen, number: int, frame: object) -> None:
    process.send_signal(number)
    limit = threading.Timer(STOP_SECONDS, _kill_group, (process,))
    limit.daemon = True
    limit.start()


def _follow(process: subprocess.Popen, closed: Set[int]) -> None:
    for line in sys.stdin:
        word, number = line.split()
        if word == "close":
            closed.add(int(number))
        elif word == "signal" and process.poll() is None:
            process.send_signal(int(number))
    _kill_group(process)


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(OSError):  # nobody is left in it
        os.killpg(process.pid, signal.SIGKILL)


def _pass_on(source: IO[bytes], target: TextIO, prefix: str, number: int, closed: Set[int]) -> None:
    rest = b""
    for piece in iter(lambda: os.read(source.fileno(), 1 << 16), b""):
        if number in closed:
            source.close()  # the process gets SIGPIPE, or an error where it ignores that
            return
        *lines, rest = re.split(b"[\r\n]", rest + piece)
        if b"\r" in piece or len(rest) > LONGEST_LINE:  # a progress bar, whose line ends only when it is overwritten
            lines.append(rest)
            rest = b""
        for line in lines:
            _write_line(target, prefix, line)
    _write_line(target, prefix, rest)


def _write_line(target: TextIO, prefix: str, line: bytes) -> None:
    text = line.decode("utf-8", "replace")
    if text.strip():
        _write(target, prefix + text)


def _write(target: TextIO, line: str) -> None:
    with _LOCK, contextlib.suppress(OSError):  # nobody reads any more
        target.write(line + "\n")
        target.flush()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a thread still waits for standard input
