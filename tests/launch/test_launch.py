"""`igc launch` with commands that need no MXNet: what is started, with which environment, and how it ends."""

import os
import re
import signal
import stat
import sys
import time
import tracemalloc

import pytest
from launched import Launch, gone, guard_of, is_watched

from igc_gluon.cli import main
from igc_gluon.launch import launchers
from igc_gluon.launch.guard import in_words

SLEEP = [sys.executable, "-S", "-c", "import time; print('there', flush=True); time.sleep(100)"]
SHOW = [
    sys.executable,
    "-S",
    "-c",
    "import os; names = 'DMLC_ROLE', 'IGC_WORKER', 'DMLC_NUM_WORKER', 'PASSED'\n"
    "print(*(os.environ.get(name) for name in names), os.getcwd())",
]

# Each records its arguments and does here what the real one does elsewhere.
FAKE_SSH = """
import os, subprocess, sys, threading
args = sys.argv[1:]
while args[0] == "-o":
    args = args[2:]
host, command = args
with open(os.environ["RECORD"], "a") as file:
    file.write(host + "\\n")
keep = {name: os.environ[name] for name in ("IGC_TEST_JOB", "RECORD")}  # sshd starts with an environment of its own
process = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.PIPE, env=keep, cwd="/")
def forward():
    for line in sys.stdin.buffer:
        process.stdin.write(line)
        process.stdin.flush()
    process.stdin.close()
threading.Thread(target=forward, daemon=True).start()
os._exit(process.wait())
"""
FAKE_MPI = """
import os, subprocess, sys
args = sys.argv[1:]
count = int(args[args.index("-n") + 1]) if "-n" in args else int(args[0].split("=")[1])
with open(os.environ["RECORD"], "a") as file:
    file.write(" ".join(args[:args.index("--role") - 3]) + "\\n")
command = args[args.index("--role") - 3:]
ranks = [subprocess.Popen(command, env={**os.environ, "%s": str(rank)}) for rank in range(count)]
codes = [rank.wait() for rank in ranks]
sys.exit(max(codes))
"""


@pytest.fixture
def fakes(tmp_path):
    """A folder for PATH with ssh, mpirun and srun, and where they write what they were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (
        ("ssh", FAKE_SSH),
        ("mpirun", FAKE_MPI % "OMPI_COMM_WORLD_RANK"),
        ("srun", FAKE_MPI % "SLURM_PROCID"),
    ):
        (folder / name).write_text(f"#!{sys.executable} -S\n{text}")
        (folder / name).chmod(stat.S_IRWXU)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(tmp_path / "record"), "MXNET_PASSED": "1"}


def test_workers_get_their_numbers_and_lines_a_prefix():
    with Launch(["-n", 3, "-s", 0], SHOW) as launch:
        code, out, _ = launch.finish()
    assert code == 0
    assert sorted(line.split()[:5] for line in out.splitlines()) == [
        ["[worker", f"{i}]", "worker", str(i), "3"] for i in range(3)
    ]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_ends_the_others_and_is_named(number):
    with Launch(["-n", 3, "-s", 0], SLEEP) as launch:
        launch.wait_for(lambda: len(launch.pids("worker")) == 3)
        (pid,) = launch.pids("worker", "1")
        begin = time.monotonic()
        os.kill(pid, number)
        code, _, err = launch.finish(timeout=10)
        assert time.monotonic() - begin < 8 and not launch.pids()
    assert code == 128 + number
    assert f"worker 1 on {os.uname().nodename} was killed by {number.name}; all others have been ended" in err


def test_exit_codes_and_what_is_started_again(tmp_path):
    """Worker 1 fails at the first two attempts; only with --resume, once, does the command get there a third time."""
    script = (
        "import os, sys; from pathlib import Path; tries = Path(sys.argv[1]); own = os.environ['IGC_WORKER']\n"
        "if own == '1':\n"
        "    tries.write_text(tries.read_text() + ' '.join(sys.argv[2:]) + ';')\n"
        "    sys.exit(int(os.environ['CODE']) if tries.read_text().count(';') < 3 else 0)\n"
    )
    for code, restarts, expected, tried in (
        (1, 2, 0, ";--resume;--resume;"),
        (1, 1, 1, ";--resume;"),
        (2, 2, 2, ";"),
        (127, 2, 127, ";"),
    ):
        (tmp_path / "tries").write_text("")
        with Launch(
            ["-n", 2, "-s", 0, "--max-restarts", restarts],
            [sys.executable, "-S", "-c", script, tmp_path / "tries"],
            {"CODE": str(code)},
        ) as launch:
            exit_code, _, err = launch.finish()
        assert exit_code == expected and (tmp_path / "tries").read_text() == tried
        assert f"worker 1 on {os.uname().nodename} ended with exit code {code}" in err


def test_the_children_of_a_worker_end_with_it(tmp_path):
    script = f"import subprocess, sys; subprocess.Popen({SLEEP!r}); sys.exit(3)"
    with Launch(["-n", 1, "-s", 0], [sys.executable, "-S", "-c", script]) as launch:
        assert launch.finish(timeout=20)[0] == 3
        assert gone(launch)


def test_a_death_after_a_signal_is_no_reason_to_start_again():
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print('there', flush=True); time.sleep(100)"
    with Launch(["-n", 2, "-s", 0, "--max-restarts", 2], [sys.executable, "-S", "-c", script]) as launch:
        assert [launch.process.stdout.readline().split()[-1] for _ in range(2)] == ["there"] * 2
        launch.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)  # it is passed on at once
        os.kill(launch.pids("worker", "1")[0], signal.SIGKILL)
        code, _, err = launch.finish(timeout=20)
        assert code == 143 and "was killed by SIGKILL; all others have been ended" in err, err
        assert gone(launch)


WATCHED = """
from igc_gluon.launch import heartbeat
import time
import tracemalloc
class Late:
    def __del__(self, sleep=time.sleep):
        sleep(6)
late = Late()
heartbeat.begin()
for _ in range(%d):
    heartbeat.progress()
    time.sleep(1)
"""


@pytest.mark.parametrize("whom", ["process", "guard"])
def test_what_hangs_is_named_and_ends_the_others(whom):
    with Launch(["-n", 2, "-s", 0, "--hang-timeout", 4], [sys.executable, "-c", WATCHED % 100]) as launch:
        launch.wait_for(lambda: len(launch.pids("worker")) == 2 and is_watched(launch.pids("worker", "1")[0]))
        time.sleep(2.5)  # until the guard has heard of it
        (pid,) = launch.pids("worker", "1")
        os.kill(pid if whom == "process" else guard_of(pid), signal.SIGSTOP)
        code, _, err = launch.finish(timeout=60)
        assert code == 137 and gone(launch)
    # It makes no step either, which may be noticed first.
    assert re.search(
        rf"worker 1 on {os.uname().nodename} hangs: it has not (been heard of|made a step, a connection or a "
        "checkpoint) for 4 s; all others have been",
        err,
    )


LONG_STEP = """
while time.process_time() < 8:
    pass
"""


def test_what_only_takes_long_does_not_hang():
    """A step, the end of Python, and a launcher that is stopped and goes on; nor does what is done before the
    others."""
    script = (
        "import os, sys, time\nif os.environ['IGC_WORKER'] == '1':\n    time.sleep(2)\n    sys.exit()\n"
        + WATCHED % 0
        + LONG_STEP
    )
    with Launch(["-n", 2, "-s", 0, "--hang-timeout", 4], [sys.executable, "-c", script]) as launch:
        launch.wait_for(lambda: launch.pids("worker", "0") and is_watched(launch.pids("worker", "0")[0]))
        launch.process.send_signal(signal.SIGSTOP)
        time.sleep(6)
        launch.process.send_signal(signal.SIGCONT)
        code, _, err = launch.finish(timeout=60)
    assert code == 0 and not err


def test_life_without_progress_is_a_hang():
    """Its threads go on, but it makes no step: here it waits for a lock that nobody gives back."""
    script = WATCHED % 0 + "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"
    with Launch(["-n", 1, "-s", 0, "--hang-timeout", 4], [sys.executable, "-c", script]) as launch:
        code, _, err = launch.finish(timeout=60)
        assert code == 137 and gone(launch)
    assert (
        f"worker 0 on {os.uname().nodename} hangs: it has not made a step, a connection or a checkpoint for 4 s" in err
    )


def test_steps_and_said_waiting_are_progress():
    """Worker 0 makes a step a second and worker 1 waits for it at a barrier; then worker 0 waits too, for nobody."""
    script = (
        WATCHED % 0 + "import os\nif os.environ['IGC_WORKER'] == '0':\n"
        "    for step in range(8):\n        time.sleep(1)\n        heartbeat.progress()\n"
        "        print('step', flush=True)\n"
        "with heartbeat.waiting():\n    time.sleep(100)"
    )
    with Launch(["-n", 2, "-s", 0, "--hang-timeout", 4], [sys.executable, "-c", script]) as launch:
        code, out, err = launch.finish(timeout=60)
        assert code == 137 and gone(launch)
    assert out.count("step") == 8 and "has not made a step" in err


def test_a_line_without_end_is_passed_on_in_pieces():
    """A guard that gathered it would fill the memory, and take the square of its length."""
    script = "import sys\nfor _ in range(64):\n    sys.stdout.write('x' * (1 << 20))\nprint('end')"
    with Launch(["-n", 1, "-s", 0], [sys.executable, "-S", "-c", script]) as launch:
        code, out, _ = launch.finish(timeout=60)
    assert code == 0 and out.count("x") == 64 << 20 and max(map(len, out.splitlines())) < 1 << 18


def test_a_guard_passes_a_signal_on_and_waits():
    script = (
        "import signal, sys, time\ndef save(*_):\n    time.sleep(1)\n"
        "    print('saved', flush=True)\n    sys.exit(143)\n"
        "signal.signal(15, save); print('there', flush=True); time.sleep(100)"
    )
    with Launch(["-n", 1, "-s", 0, "--max-restarts", 2], [sys.executable, "-S", "-c", script]) as launch:
        assert launch.process.stdout.readline().split()[-1] == "there"
        os.kill(guard_of(launch.pids("worker")[0]), signal.SIGTERM)
        code, out, _ = launch.finish(timeout=20)
        assert code == 143 and "saved" in out and gone(launch), out


@pytest.mark.parametrize("fake", ["", "ssh"])
def test_a_reader_that_has_seen_enough_ends_the_command(fake, fakes, tmp_path):
    """As in a pipeline: `yes | head` gets SIGPIPE, and has nothing to say about it."""
    (tmp_path / "hosts").write_text("one\ntwo\n")
    flags = ["-H", tmp_path / "hosts", "--root-uri", "10.0.0.1"] if fake else []
    with Launch(["-n", 2, "-s", 0, "--max-restarts", 2, *flags], ["yes"], fakes) as launch:
        assert launch.process.stdout.readline().endswith("] y\n")
        launch.process.stdout.close()
        code, _, err = launch.finish()
        assert (code, err) == (128 + signal.SIGPIPE, "")
        launch.wait_for(lambda: not launch.pids())


def test_a_command_that_works_on_without_a_reader_may(tmp_path):
    """As training does; its errors still have one."""
    script = (
        "import sys\nfrom igc_gluon.exits import exit_code\ndef run():\n"
        "  for _ in range(20000): print('a line', flush=True)\n"
        "  print('done', file=sys.stderr)\n  open(sys.argv[1], 'w').close()\nsys.exit(exit_code(run))"
    )
    with Launch(["-n", 1, "-s", 0], [sys.executable, "-c", script, tmp_path / "done"]) as launch:
        launch.process.stdout.readline()
        launch.process.stdout.close()
        code, _, err = launch.finish()
    assert (code, err) == (0, "[worker 0] done\n") and (tmp_path / "done").exists()


def test_what_nohup_ignores_stays_ignored(tmp_path):
    script = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.05)\nprint('done')"
    with Launch(["-n", 1, "-s", 0], [sys.executable, "-S", "-c", script], ignored=[signal.SIGHUP]) as launch:
        launch.wait_for(lambda: launch.pids("worker"))
        os.kill(guard_of(launch.pids("worker")[0]), signal.SIGHUP)
        launch.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        (tmp_path / "go").touch()
        code, out, err = launch.finish()
    assert (code, out, err) == (0, "[worker 0] done\n", "")


@pytest.mark.parametrize("number,code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_launchers_end_is_everybodys(number, code):
    with Launch(["-n", 2, "-s", 0], SLEEP) as launch:
        launch.wait_for(lambda: len(launch.pids("worker")) == 2)
        time.sleep(0.3)  # Python in the workers needs a moment for its handlers
        launch.process.send_signal(number)
        assert launch.process.wait(timeout=10) == code
        assert gone(launch)


def test_ssh(tmp_path, fakes):
    (tmp_path / "hosts").write_text("alpha slots=2 # a comment\n\nme@beta\n")
    with Launch(
        ["-n", 3, "-s", 0, "-H", tmp_path / "hosts", "--root-uri", "10.0.0.1"],
        [*SHOW[:-1], SHOW[-1].replace("PASSED", "MXNET_PASSED")],
        fakes,
    ) as launch:
        code, out, err = launch.finish()
    assert code == 0, err
    assert sorted((tmp_path / "record").read_text().split()) == ["alpha", "alpha", "me@beta"]
    assert sorted(out.splitlines()) == [f"[worker {i}] worker {i} 3 1 {os.getcwd()}" for i in range(3)]


@pytest.mark.parametrize("whom", ["worker", "launcher"])
def test_over_ssh_all_end_together(tmp_path, fakes, whom):
    (tmp_path / "hosts").write_text("alpha\nbeta\n")
    with Launch(["-n", 2, "-s", 0, "-H", tmp_path / "hosts", "--root-uri", "10.0.0.1"], SLEEP, fakes) as launch:
        launch.wait_for(lambda: len(launch.pids("worker")) == 2)
        if whom == "launcher":
            launch.process.kill()
            launch.process.wait()
        else:
            os.kill(launch.pids("worker", "1")[0], signal.SIGKILL)
            code, _, err = launch.finish(timeout=20)
            assert code == 137 and "worker 1 on " in err and "was killed by SIGKILL" in err
        assert gone(launch)


@pytest.mark.parametrize(
    "launcher,asked",
    [("mpi", "-n 3 --hostfile {hosts}"), ("slurm", "--ntasks=3 --kill-on-bad-exit=1 --overlap --nodelist alpha,beta")],
)
def test_mpi_and_slurm(tmp_path, fakes, launcher, asked):
    hosts = tmp_path / "hosts"
    hosts.write_text("alpha slots=2\nbeta\n")
    flags = ["-n", 3, "-s", 0, "-H", hosts, "--launcher", launcher, "--root-uri", "10.0.0.1"]
    with Launch(flags, SHOW, fakes) as launch:
        code, out, err = launch.finish()
    assert code == 0, err
    assert (tmp_path / "record").read_text() == asked.format(hosts=hosts) + "\n"
    assert sorted(line.split()[:5] for line in out.splitlines()) == [
        ["[worker", f"{i}]", "worker", str(i), "3"] for i in range(3)
    ]
    fail = "import os, sys; sys.exit(5 * (os.environ['IGC_WORKER'] == '2'))"
    with Launch(flags, [sys.executable, "-S", "-c", fail], fakes) as launch:
        code, _, err = launch.finish()
    assert code == 5 and f"worker 2 on {os.uname().nodename} ended with exit code 5" in err


@pytest.mark.parametrize(
    "flags,text",
    [
        (["-n", "0"], "--num-workers must be at least 1"),
        (["-n", "1", "-s", "-1"], "--num-servers must be at least 0"),
        (["-n", "1", "-H", "no/such/file"], "cannot read the hostfile"),
        (["-n", "1", "-H", "/dev/zero"], "line 1"),
        (["-n", "1", "-H", "/dev"], "Is a directory"),
        (["-n", "1000000000"], "--num-workers must be at least 1 and at most 10,000"),
        (["-n", "1", "--hang-timeout", "nan"], "--hang-timeout must be"),
        (["-n", "1", "--launcher", "ssh", "--root-uri", "x"], "needs -H FILE"),
        (["-n", "1", "-s", "0", "--launcher", "mpi", "--root-uri", "x"], "cannot start mpirun"),
    ],
)
def test_mistakes(flags, text, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert main(["launch", *flags, "--", "true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and text in line


@pytest.mark.parametrize(
    "text,wrong",
    [
        ("", "names no host"),
        ("a b", "line 1"),
        ("a slots=x", "line 1"),
        ("-oProxy=x", "line 1"),
        ("a slots=\u00b2", "line 1"),
        ("a slots=\u0663", "line 1"),
        ("a slots=-1", "line 1"),
        ("a slots=", "line 1"),
        ("a slots=999999999", "more than 10000"),
        ("a slots=" + "9" * 5000, "line 1"),
        ("a\nb\0c", "line 2"),
        ("a\x1b[2J", "line 1"),
        ("a slots=0", "names no host"),
        ("a\n" * 600000, "more than 10000"),
    ],
)
def test_bad_hostfiles(tmp_path, text, wrong):
    (tmp_path / "hosts").write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(launchers.UserError, match=wrong):
            launchers.read_hosts(tmp_path / "hosts")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_words():
    assert in_words(-9) == "was killed by SIGKILL" and in_words(3) == "ended with exit code 3"
