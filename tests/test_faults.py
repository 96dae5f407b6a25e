"""Faults, each done to a run that then continues: what is lost, what is printed, the exit code.

docs/faults.md lists them; every row names one of these tests or of those beside the code.
"""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from imagenet_tree import slow_packing
from test_train_cifar import TINY, final_files, folder, history, refused, run, start

from igc_gluon import params_file
from igc_gluon.cli import main as igc
from igc_gluon.engine.checkpoint import CheckpointStore

FAULTY = Path(__file__).with_name("faulty.py")
FLAGS = [*TINY, "--num-epochs", 4]


def faulty(fault, *flags, log_dir):
    """(exit code, stderr) of a run with a fault of faulty.py."""
    command = [sys.executable, FAULTY, fault, *flags, "--log-dir", log_dir]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    log_dir = tmp_path_factory.mktemp("undisturbed")
    run(*FLAGS, "--log-dir", log_dir)
    return log_dir


def ends_as(undisturbed, log_dir, *flags):
    """Goes on with the run, which must then end with the bits of the undisturbed one."""
    out, err = run(*FLAGS, "--resume", "--log-dir", log_dir, *flags)
    assert final_files(log_dir) == final_files(undisturbed)
    keys = ("epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
    assert [[e[k] for k in keys] for e in history(log_dir)] == [[e[k] for k in keys] for e in history(undisturbed)]
    assert igc(["checkpoint", "verify", str(folder(log_dir))]) == 0
    return out, err


def error_line(err):
    """The one line of an error, after the bar."""
    assert "Traceback" not in err and "Logging error" not in err, err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, err
    return lines[0]


def last(log_dir):
    return (folder(log_dir) / "checkpoints" / "last").read_text().strip()


def test_a_clock_that_jumps_changes_nothing(tmp_path, undisturbed):
    assert faulty("clock", *FLAGS, log_dir=tmp_path)[0] == 0
    ends_as(undisturbed, tmp_path)


def test_sigterm_during_validation(tmp_path, undisturbed):
    code, err = faulty("signal-in-evaluate", *FLAGS, log_dir=tmp_path)
    assert code == 143 and last(tmp_path) == "epoch-0001-batch-000023"  # all of the epoch's batches
    assert f"saved in {folder(tmp_path) / 'checkpoints' / last(tmp_path)}; go on with --resume" in err
    ends_as(undisturbed, tmp_path)


def test_sigterm_during_the_same_validation_again(tmp_path, undisturbed):
    """The same position is saved twice: of the first the folder is not touched before the second is there."""
    faulty("signal-in-evaluate", *FLAGS, log_dir=tmp_path)
    code, err = faulty("signal-in-first-evaluate", *FLAGS, "--resume", log_dir=tmp_path)
    assert code == 143 and last(tmp_path) == "epoch-0001-batch-000023-2" and f"saved in {folder(tmp_path)}" in err
    ends_as(undisturbed, tmp_path)


def test_checkpoints_that_are_gone_are_no_reason_to_begin_again(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path, dirs_exist_ok=True)
    for path in (folder(tmp_path) / "checkpoints").glob("epoch-*"):
        shutil.rmtree(path)
    line = refused(*FLAGS, "--resume", "--log-dir", tmp_path)
    assert "leads to no checkpoint that is there" in line and "start again without --resume" in line
    run(*FLAGS, "--log-dir", tmp_path)
    assert final_files(tmp_path) == final_files(undisturbed)


@pytest.mark.parametrize("fault", ["signal-in-save", "one-signal-twice"])
def test_sigterm_during_a_checkpoint_write(tmp_path, undisturbed, fault):
    code, err = faulty(fault, *FLAGS, log_dir=tmp_path)
    assert code == 143 and last(tmp_path) == "epoch-0002-batch-000001" and "Traceback" not in err
    ends_as(undisturbed, tmp_path)


@pytest.mark.parametrize("fault,code", [("two-signals", 143), ("kill-in-save", -signal.SIGKILL)])
def test_an_end_within_a_checkpoint_write_leaves_the_one_before(tmp_path, undisturbed, fault, code):
    assert faulty(fault, *FLAGS, log_dir=tmp_path)[0] == code
    assert last(tmp_path) == "epoch-0001-batch-000000" and list((folder(tmp_path) / "checkpoints").glob(".*.tmp"))
    ends_as(undisturbed, tmp_path)
    assert not list((folder(tmp_path) / "checkpoints").glob(".*"))


def test_a_full_disk_within_a_checkpoint_write(tmp_path, undisturbed):
    code, err = faulty("full", *FLAGS, log_dir=tmp_path)
    assert code == 2 and error_line(err).endswith("No space left on device")
    assert "cannot write" in err and last(tmp_path) == "epoch-0001-batch-000000"
    ends_as(undisturbed, tmp_path)


def _can_mount():
    return (
        shutil.which("unshare")
        and not subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /tmp"], capture_output=True
        ).returncode
    )


@pytest.mark.skipif(not _can_mount(), reason="a small disk can be mounted by root alone")
@pytest.mark.parametrize("kilobytes", [40, 120, 400])
def test_a_truly_full_disk(tmp_path, undisturbed, kilobytes):
    """Wherever it strikes: log, history, events, picture or checkpoint. 40 kB are not enough to begin."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    command = " ".join(
        map(
            str,
            [
                sys.executable,
                "train_cifar.py",
                *FLAGS,
                "--keep-checkpoints",
                50,
                "--log-dir",
                disk,
                "--checkpoint-batches",
                1,
            ],
        )
    )
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            f"mount -t tmpfs -o size={kilobytes}k tmpfs {disk} && {command}; code=$?; cp -r {disk} {copy}; exit $code",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2 and "No space left on device" in error_line(done.stderr), done.stderr
    assert not list(copy.glob("**/.*.tmp/*"))  # what was begun is gone, and leaves its room to others
    store = CheckpointStore(folder(copy) / "checkpoints")
    if store.names():
        assert store.load_last(pytest.fail)
        ends_as(undisturbed, copy)


def _without_the_powers_of_root():
    """In the child, before it starts: root writes into read-only folders otherwise."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (1, 2):  # DAC_OVERRIDE, DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_a_read_only_folder_is_said_before_anything_else(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs").chmod(0o555)
    line = refused(*FLAGS, "--log-dir", tmp_path / "runs", preexec_fn=_without_the_powers_of_root)
    assert f"cannot write to {folder(tmp_path / 'runs')}: Permission denied" in line


def test_a_folder_that_becomes_read_only(tmp_path, undisturbed):
    flags = [*TINY, "--num-epochs", 4, "--checkpoint-batches", 1, "--log-dir", tmp_path]
    process = start(*flags, preexec_fn=_without_the_powers_of_root)
    checkpoints = folder(tmp_path) / "checkpoints"
    while not (checkpoints / "last").exists():
        time.sleep(0.005)
        assert process.poll() is None
    checkpoints.chmod(0o555)
    _, err = process.communicate(timeout=120)
    checkpoints.chmod(0o755)
    assert process.returncode == 2 and error_line(err).endswith("Permission denied") and str(checkpoints) in err
    ends_as(undisturbed, tmp_path)


def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_taken(tmp_path, undisturbed):
    shutil.copytree(undisturbed, tmp_path / "runs")
    store = CheckpointStore(folder(tmp_path / "runs") / "checkpoints")
    damaged = store.folder / store.names()[-1] / "net.params"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 3] ^= 16
    damaged.write_bytes(data)
    out, _ = run(*FLAGS, "--resume", "--log-dir", tmp_path / "runs")
    assert (
        f"checkpoint {damaged.parent} is damaged: net.params: it is not what was written; taking the one before" in out
    )
    assert final_files(tmp_path / "runs") == final_files(undisturbed)


def test_a_checkpoint_within_an_epoch_goes_on_with_other_devices(tmp_path, undisturbed):
    """Equal to float accuracy, as on other numbers of devices from the start."""
    code, _ = faulty("signal-in-save", *FLAGS, "--checkpoint-batches", 9, log_dir=tmp_path)
    assert code == 143 and last(tmp_path) == "epoch-0000-batch-000019"
    run(*FLAGS, "--resume", "--cpus", 2, "--log-dir", tmp_path)
    one, two = (params_file.loads(final_files(d)["net.params"]) for d in (undisturbed, tmp_path))
    for name, value in one.items():
        assert np.linalg.norm(two[name] - value) <= 1e-3 * max(1, np.linalg.norm(value)), name


def test_a_run_begins_with_the_authors_prefix_0000_params(tmp_path, undisturbed):
    """And goes on after a kill, as any other."""
    import igc_gluon
    from igc_gluon.model_zoo.authors import to_module_params

    net = igc_gluon.get_model("cifar_plain5_w4", classes=10)
    net.initialize()
    arg_params, aux_params = to_module_params(net)
    arrays = {
        f"{kind}:{name}": array.asnumpy()
        for kind, of in (("arg", arg_params), ("aux", aux_params))
        for name, array in of.items()
    }
    (tmp_path / "igc-0000.params").write_bytes(params_file.dumps(arrays))
    flags = ["--model-prefix", tmp_path / "igc", "--load-epoch", 0]
    run(*FLAGS, *flags, "--log-dir", tmp_path / "a")
    assert final_files(tmp_path / "a") != final_files(undisturbed)
    assert faulty("kill-in-save", *FLAGS, *flags, log_dir=tmp_path / "b")[0] == -signal.SIGKILL
    run(*FLAGS, *flags, "--resume", "--log-dir", tmp_path / "b")
    assert final_files(tmp_path / "b") == final_files(tmp_path / "a")
    data = (tmp_path / "igc-0000.params").read_bytes()
    (tmp_path / "igc-0000.params").write_bytes(data[:-7])
    assert "igc-0000.params is not a whole .params file" in refused(*FLAGS, *flags, "--log-dir", tmp_path / "c")


def test_a_forged_checkpoint_is_one_line(tmp_path):
    run(*TINY, "--num-epochs", 1, "--log-dir", tmp_path)
    store = CheckpointStore(folder(tmp_path) / "checkpoints")
    arrays, state = store.load(store.names()[-1])
    flags = [*TINY, "--num-epochs", 1, "--resume", "--log-dir", tmp_path]
    for changed in (
        {"training.params": {"momentum:other": np.ones(3, "float32")}},
        {"training.params": {"momentum:g0_conv_weight": np.ones(3, "float32")}},
        {"net.params": {"other": np.ones(3, "float32")}},
    ):
        store.save(1, 0, {**arrays, **changed}, state, best=False)
        assert "are not this network's" in refused(*flags)
    store.save(1, 0, arrays, {**state, "position": {**state["position"], "batch": -3}}, best=False)
    assert "does not say where in the training" in refused(*flags)
    store.save(1, 0, arrays, json.loads('{"config": {}, "position": [1]}'), best=False)
    assert "does not say where in the training" in refused(*flags)


def test_a_killed_worker_of_packing(tmp_path):
    command = slow_packing(tmp_path)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    while not (tmp_path / "out" / ".train.rec.part").exists():
        time.sleep(0.01)
        assert process.poll() is None
    worker = None
    while worker is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        worker = next((int(c) for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()), None)
    os.kill(worker, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and "a process that encodes images was killed" in error_line(err)
    assert subprocess.run(command, capture_output=True).returncode == 0  # goes on
    assert (tmp_path / "out" / "train.rec").exists()


def test_members_of_archives_are_never_written(tmp_path):
    """Whatever their names."""
    sys.path.insert(0, str(Path(__file__).parent / "data"))
    import make_archives

    from igc_gluon.data import cifar, find_dataset, tiny_imagenet

    members, _, _ = make_archives.cifar10_members()
    (tmp_path / "in").mkdir()
    make_archives.tar(
        tmp_path / "in" / "a.tar.gz",
        {**{f"../../out/{name}": data for name, data in members.items()}, f"{tmp_path}/absolute": b"x", "../up": b"x"},
    )
    assert len(cifar.read(find_dataset("cifar10"), "train", [tmp_path / "in" / "a.tar.gz"]).images) == 50
    members, _, _ = make_archives.tiny_imagenet_members(val=2)
    make_archives.zip_file(tmp_path / "in" / "a.zip", {**members, "../up": b"x", f"{tmp_path}/absolute": b"x"})
    assert len(tiny_imagenet.read(find_dataset("tiny-imagenet"), "test", [tmp_path / "in" / "a.zip"]).images) == 2
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.tar.gz", "a.zip", "in"]


@pytest.mark.long
def test_a_hundred_kills_at_random_moments():
    """Minutes; `python tests/kill_and_resume.py 100` shows how far it is."""
    script = Path(__file__).with_name("kill_and_resume.py")
    done = subprocess.run([sys.executable, script, "100"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
