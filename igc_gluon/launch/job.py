"""All processes of one attempt at a distributed run, started and ended together."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Set, TextIO, Tuple

from igc_gluon.errors import UserError
from igc_gluon.launch.guard import LIVES, MARK, SAME_SECONDS, STATES, STOP_SECONDS, WAITS, in_words
from igc_gluon.launch.launchers import Start

START_SECONDS = 60  # for the scheduler to take its port
END_SECONDS = 20  # for servers and scheduler once the workers are done
POLL_SECONDS = 0.05
QUIET_SECONDS = 5  # without a sign of life: enough to suspect this process rather than those that wait for it
PORT = "port "  # the scheduler's first words


class Failed(Exception):
    """A process died; the message names it. code: what the launcher should exit with. silent: as of a command whose
    reader has gone, there is nothing to say."""

    def __init__(self, message: str, code: int, silent: bool = False) -> None:
        super().__init__(message)
        self.code, self.silent = code or 1, silent


class Job:
    """The processes of one attempt. `stop(number)` may be called from a signal handler.

    hang_timeout: seconds without a sign of life of a process, or its guard, or without progress of a worker, after
    which it counts as dead; 0: never.
    """

    def __init__(self, hang_timeout: float = 0) -> None:
        self._hang_timeout = hang_timeout
        # Name of a process: when, by the clock below, its guard last said that it lives.
        self._heard: Dict[str, float] = {}
        self._worked: Dict[str, float] = {}  # of a worker: when it last made progress, or waited for one that did
        self._last_work = 0.0  # of any worker
        self._clock, self._looked = 0.0, time.monotonic()
        self._processes: List[Tuple[Start, subprocess.Popen]] = []
        self._ended: List[str] = []  # reports of guards, in the order they came
        self._ports: Any = queue.Queue()
        self._pumps: List[threading.Thread] = []
        self._closed: Set[int] = set()  # numbers of this process's streams that nobody reads any more
        self._control = threading.Lock()
        self._stop_number: Optional[int] = None
        self._stopped_at, self._at_once = 0.0, False
        self._deadline: Optional[float] = None

    def __enter__(self) -> "Job":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def start(self, start: Start) -> None:
        if self._stop_number is not None:
            return
        try:
            stdin = subprocess.PIPE if start.controlled else subprocess.DEVNULL
            process = subprocess.Popen(
                start.command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise UserError(
                f"cannot start {start.command[0]}: {error.strerror}; install it or choose another --launcher"
            ) from None
        self._processes.append((start, process))
        for number, source, target in ((1, process.stdout, sys.stdout), (2, process.stderr, sys.stderr)):
            pump = threading.Thread(target=self._pass_on, args=(source, target, number), daemon=True)
            pump.start()
            self._pumps.append(pump)

    def wait_for_port(self, address: str, seconds: float = START_SECONDS) -> Optional[int]:
        """The port of `address` that the scheduler, the only process so far, has taken and listens on."""
        port, limit = None, time.monotonic() + seconds
        while self._stop_number is None:
            self._raise_for_dead()
            with contextlib.suppress(queue.Empty, OSError):
                port = port or self._ports.get(timeout=POLL_SECONDS)
                socket.create_connection((address, port), timeout=1).close()
                return port
            if time.monotonic() > limit:
                raise Failed(f"the scheduler has not started within {seconds} s", 1)
            time.sleep(POLL_SECONDS)
        return None

    def wait(self) -> int:
        """Returns the workers' exit code when they are done. Raises Failed when a process dies before."""
        workers_done = None
        while True:
            self._pass_signals_on()
            codes = self._raise_for_dead()
            self._raise_for_silent()
            if all(code is not None for code in codes):
                return self._code(codes)
            workers = [code for (start, _), code in zip(self._processes, codes) if start.is_worker]
            if all(code is not None for code in workers):
                workers_done = workers_done or time.monotonic()
                # The command used no servers, or left without their leave.
                if any(workers) or self._stop_number is not None or time.monotonic() - workers_done > END_SECONDS:
                    return self._code(codes)
            time.sleep(POLL_SECONDS)

    def stop(self, number: int) -> None:
        """Has the workers stop; at a second call, later on, everything is killed."""
        if self._stop_number is None:
            self._stop_number, self._stopped_at = number, time.monotonic()
        self._at_once |= time.monotonic() - self._stopped_at > SAME_SECONDS

    def kill(self) -> None:
        """Ends whatever is left. A guard whose input ends kills its process first."""
        for _, process in self._processes:
            if process.stdin:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            elif process.poll() is None:
                process.terminate()
        limit = time.monotonic() + 5
        for _, process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(limit - time.monotonic(), 0.01))
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for pump in self._pumps:
            pump.join(5)

    def _code(self, codes: List[Optional[int]]) -> int:
        """After a signal the workers' own exit code, 143 for example."""
        return max([code for code in codes if code is not None] + [128 + self._stop_number if self._stop_number else 0])

    def _pass_signals_on(self) -> None:
        if self._stop_number is None:
            return
        if self._deadline is None:
            self._deadline = time.monotonic() + STOP_SECONDS
            for start, process in self._processes:
                if start.is_worker and start.controlled:
                    self._tell(process, f"signal {self._stop_number}")
                elif start.is_worker:
                    with contextlib.suppress(OSError):
                        process.send_signal(self._stop_number)
        elif self._at_once or time.monotonic() > self._deadline:
            raise Failed(f"stopped by {signal.Signals(self._stop_number).name} without saving", 128 + self._stop_number)

    def _raise_for_dead(self) -> List[Optional[int]]:
        """The exit codes so far. Raises Failed for a process that ended badly."""
        codes = [process.poll() for _, process in self._processes]
        if self._stop_number is not None and not any(code for code in codes if code != 128 + self._stop_number):
            return codes
        bad = [
            (code if code > 0 else 128 - code, start.name, code)
            for (start, _), code in zip(self._processes, codes)
            if code
        ]
        if not bad:
            return codes
        time.sleep(4 * POLL_SECONDS)  # the guard's report is on its way through a pipe
        # What was killed from outside is the cause, what gave up because of it is not.
        code, name, raw = max(bad)
        reports = sorted(self._ended, key=lambda line: "killed by" not in line)
        if self._stop_number is not None:  # who asked for the end does not want another start
            code = 128 + self._stop_number
        raise Failed(
            reports[0] if reports else f"{name} {in_words(raw)}",
            code,
            silent=bool(self._closed) and code == 128 + signal.SIGPIPE,
        )

    def _raise_for_silent(self) -> None:
        """Raises Failed for a process that hangs."""
        # Where this process was itself stopped, the others did not hang: it has not listened.
        now = time.monotonic()
        self._clock += min(now - self._looked, 1)
        self._looked = now
        quiet = max((self._clock - heard for heard in list(self._heard.values())), default=0)
        checks = [(self._heard, "been heard of")]
        if quiet < QUIET_SECONDS:
            checks.append((self._worked, "made a step, a connection or a checkpoint"))
        for last, what in checks:
            for name, when in list(last.items()):
                if self._hang_timeout and self._clock - when > self._hang_timeout:
                    raise Failed(
                        f"{name} hangs: it has not {what} for {self._hang_timeout:g} s",
                        128 + (self._stop_number or signal.SIGKILL),
                    )

    def _note(self, report: str) -> None:
        """What a guard says of its process."""
        state, _, name = report.partition(": ")
        if state in STATES.values():
            self._heard[name] = max(self._heard.get(name, 0), self._clock)
            if name.startswith("worker "):
                self._note_work(name, state)
            return
        for name in list(self._heard):
            if report.startswith(name + " "):  # it has ended: its guard will say no more
                self._heard[name] = self._worked[name] = float("inf")
        if "exit code 0" not in report:
            self._ended.append(report)

    def _note_work(self, name: str, state: str) -> None:
        if state == STATES[WAITS]:
            now = self._last_work
        elif state == STATES[LIVES]:
            now = 0
        else:
            now = self._last_work = self._clock
        self._worked[name] = max(self._worked.get(name, 0), now)

    def _tell(self, process: subprocess.Popen, order: str) -> None:
        """A line to a guard."""
        with self._control, contextlib.suppress(OSError, ValueError):  # it has ended
            assert process.stdin
            process.stdin.write(order + "\n")
            process.stdin.flush()

    def _write(self, target: TextIO, line: str, number: int) -> None:
        """What nobody reads any more goes nowhere; as in a pipeline, who writes it is to know."""
        try:
            target.write(line)
            target.flush()
            error = getattr(target, "error", None)  # of a stream that drops what it cannot write
        except (OSError, ValueError) as raised:
            error = raised
        if isinstance(error, BrokenPipeError) and number not in self._closed:
            self._closed.add(number)
            for start, process in list(self._processes):
                if start.controlled:
                    self._tell(process, f"close {number}")

    def _pass_on(self, source: TextIO, target: TextIO, number: int) -> None:
        for line in source:
            if line.startswith(MARK):
                self._note(line[len(MARK) :].rstrip())
            elif line.startswith(f"[scheduler] {PORT}"):
                self._ports.put(int(line.split()[-1]))
            else:
                self._write(target, line, number)
        source.close()
