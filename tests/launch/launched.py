"""Starting `igc launch` from tests, and finding its processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from child_signals import heed_all

from igc_gluon.launch.guard import die_with_parent

ROOT = Path(__file__).resolve().parents[2]
TAG = "IGC_TEST_JOB"


class Launch:
    """`igc launch FLAGS -- COMMAND` as a process; whatever is left of it when the block ends is killed."""

    def __init__(self, flags, command, env=None, ignored=()):
        """ignored: signals, as by nohup."""

        def begin():
            die_with_parent()
            heed_all()
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)

        self.tag = uuid.uuid4().hex
        env = {**os.environ, "OMP_NUM_THREADS": "1", TAG: self.tag, **(env or {})}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from igc_gluon.cli import main; sys.exit(main())",
                "launch",
                *map(str, flags),
                "--",
                *map(str, command),
            ],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=begin,
        )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        for _ in range(3):  # one of them may be starting another
            for pid in self.pids():
                with contextlib.suppress(OSError):
                    os.kill(pid, 9)
        self.process.communicate()

    def finish(self, timeout=120):
        """(exit code, stdout, stderr) at the end, which must come."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err

    def pids(self, role=None, index=None):
        """Of the job's processes that are alive, but for guards and the launcher; of one role, or worker, only."""
        pids = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if not entry.name.isdigit() or b"guard.py" in (entry / "cmdline").read_bytes():
                    continue
                env = dict(
                    pair.partition("=")[::2]
                    for pair in (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
                )
                if (
                    env.get(TAG) == self.tag
                    and int(entry.name) != self.process.pid
                    and env.get("DMLC_ROLE")
                    and role in (None, env["DMLC_ROLE"])
                    and index in (None, env.get("IGC_WORKER"))
                ):
                    pids.append(int(entry.name))
        return pids

    def wait_for(self, condition, timeout=60):
        limit = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < limit, "waited too long"
            time.sleep(0.05)


def guard_of(pid):
    """The process that has started `pid`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_watched(pid):
    """Whether the process has begun to write to the pipe of which its guard has both ends."""

    def pipes(of):
        links = []
        for entry in Path(f"/proc/{of}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(entry))
        return [link for link in links if link.startswith("pipe:")]

    both = pipes(guard_of(pid))
    return any(both.count(pipe) == 2 for pipe in pipes(pid))


def gone(launch, timeout=10):
    """Whether all processes of the job end within so many seconds."""
    limit = time.monotonic() + timeout
    while launch.pids() and time.monotonic() < limit:
        time.sleep(0.05)
    return not launch.pids()
