"""The commands that fill a table, printed and run."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import train_cifar
from igc_gluon.cli import main
from igc_gluon.data import DATASETS
from igc_gluon.model_zoo import find_family
from igc_gluon.paper import published, reproduce

ROOT = Path(__file__).resolve().parent.parent.parent
WITH_RESULTS = [table for table in published.load_tables() if table.metric]
COMMAND = ["--table", "4", "--dataset", "digits", "--num-epochs", "1", "--num-runs", "1", "--only", "plain8"]


def igc(*arguments):
    return main(["reproduce", *map(str, arguments)])


def words(table):
    paper, number = table.id.split(maxsplit=1)
    which = ["--figure", number.split()[1]] if number.startswith("Figure") else ["--table", number]
    return ["--paper", paper.lower(), *which]


@pytest.mark.parametrize("table", WITH_RESULTS, ids=lambda table: table.id)
def test_the_training_script_takes_every_command(table, capsys):
    assert igc(*words(table)) == 0
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    assert commands and all(command[0] == "python" for command in commands)
    for _, script, *arguments in commands:
        if script == "train_imagenet.py":
            assert arguments[0] == "--network" and table.id in (
                "IGCV1 6",
                "README results",
                "IGCV2 9",
                "IGCV2 11",
                "IGCV3 ImageNet",
            )
            continue
        if "tiny-imagenet" in arguments and "tiny-imagenet" not in DATASETS:
            continue
        args = train_cifar.parse(arguments)
        experiment = train_cifar.experiment(args, batch_shards=2)
        find_family(experiment.model.name)  # exists
        epochs = {"svhn": 40, "tiny-imagenet": 200}.get(args.dataset, 400)
        assert args.resume and experiment.schedule.num_epochs == epochs


def test_every_result_of_this_papers_networks_has_its_command():
    """IGCV1 Table 4: 5 networks, 4 depths, 2 data sets, 5 seeds."""
    todo = reproduce.experiments(reproduce.select(published.find_tables("IGCV1 4")[0]))
    assert len(todo) == 5 * 4 * 2 and {experiment.runs for experiment in todo} == {5}
    assert todo[0].command(["--gpus", "0,1"]) == (
        "python train_cifar.py --network cifar_sumfusion8_l4m8 --dataset cifar10 --num-runs 5 --resume --gpus 0,1"
    )
    todo = reproduce.experiments(reproduce.select(published.find_tables("IGCV1 7")[0]))
    assert len(todo) == 3 + 3 + 2 and {experiment.runs for experiment in todo} == {1}  # no SVHN for L450M2
    some = reproduce.select(published.find_tables("IGCV1 4")[0], "Plain8,sumfusion8")
    assert [experiment.network for experiment in reproduce.experiments(some, "digits", 1)] == [
        "cifar_sumfusion8_l4m8",
        "cifar_plain8_w16",
        "cifar_plain8_w18",
    ]
    digits = reproduce.experiments(reproduce.select(published.find_tables("IGCV1 4")[0]), "digits", 2)
    assert len(digits) == 5 * 4 and {(experiment.dataset, experiment.runs) for experiment in digits} == {("digits", 2)}


def test_tables_of_igcv3_and_the_mobilenets():
    """One run where no deviation is printed, MobileNets among them."""
    todo = reproduce.experiments(reproduce.select(published.find_tables("IGCV3 CIFAR")[0]))
    assert [(experiment.network, experiment.dataset, experiment.runs) for experiment in todo] == [
        (name, on, 1)
        for name in ("cifar_mobilenetv2_1.0", "cifar_igcv3_d0.5", "cifar_igcv3_d0.7", "cifar_igcv3_d1.0")
        for on in ("cifar10", "cifar100")
    ]
    names = [
        experiment.network
        for experiment in reproduce.experiments(reproduce.select(published.find_tables("IGCV2 9")[0]))
    ]
    assert names == ["mobilenet1.0", "igcv2_1.0", "mobilenet0.5", "igcv2_0.5", "mobilenet0.25", "igcv2_0.25"]


def test_flags_go_on_to_the_script(capsys):
    assert igc(*COMMAND, "--cpus", 2, "--log-dir", "my runs", "--exp-name", "a") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    args = train_cifar.parse(shlex.split(line)[2:])
    assert (args.cpus, args.log_dir, args.exp_name, args.num_epochs, args.dataset) == (2, "my runs", "a", 1, "digits")


@pytest.mark.parametrize(
    "flags,text",
    [
        (["--table", "3"], "IGCV1, Table 3 holds no accuracies"),
        (["--table", "12"], "no table 'IGCV1 12'"),
        (["--figure", "9", "--paper", "igcv2"], "no table 'IGCV2 Figure 9'"),
        (["--table", "4", "--only", "vgg"], "contains 'vgg'; there are cifar_sumfusion8_l4m8"),
        (["--table", "4", "--dataset", "stl10"], "no data set 'stl10'"),
        (["--table", "6", "--dataset", "digits"], "224x224"),
        (["--table", "6", "--run"], "ImageNet"),
        (["--table", "9", "--paper", "igcv2", "--run"], "ImageNet"),
        (["--table", "4", "--num-runs", "0"], "--num-runs"),
        (["--table", "4", "--num-epochs", "0"], "--num-epochs"),
        ([*COMMAND, "--run", "--gpus", "0"], "without CUDA"),
        ([*COMMAND, "--run", "--cpus", "0"], "--cpus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(flags, text, capsys, tmp_path):
    assert igc(*flags, "--log-dir", tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and text in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_neither_table_nor_figure(capsys):
    for flags in ([], ["--table", "4", "--figure", "3"]):
        assert igc(*flags) == 2 and "--figure" in capsys.readouterr().err


def start(log_dir):
    igc = [sys.executable, "-c", "import sys; from igc_gluon.cli import main; sys.exit(main())"]
    return subprocess.Popen(
        [*igc, "reproduce", *COMMAND, "--log-dir", str(log_dir), "--run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def folder(log_dir, network):
    return log_dir / "digits" / network / "seed0"


def wait_until_it_trains(process, log_dir, network):
    while not (folder(log_dir, network) / "config.json").exists():
        time.sleep(0.02)
        assert process.poll() is None, process.communicate()
    time.sleep(0.5)


def test_a_table_is_filled_after_a_stop_and_a_kill(tmp_path):
    first, second = "cifar_plain8_w16", "cifar_plain8_w18"
    process = start(tmp_path)
    wait_until_it_trains(process, tmp_path, first)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    assert "stopped with 2 of 2 runs to go; the same command continues" in out

    process = start(tmp_path)
    wait_until_it_trains(process, tmp_path, second)
    process.kill()
    out, _ = process.communicate(timeout=120)
    assert f"[1/2] {first} on digits, seed 0 (resumed)" in out
    done = (folder(tmp_path, first) / "history.jsonl").stat()

    process = start(tmp_path)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "2 runs, of which 1 are done already" in out and f"[2/2] {second} on digits, seed 0" in out
    assert " left for 1 runs" in out
    assert (folder(tmp_path, first) / "history.jsonl").stat().st_mtime_ns == done.st_mtime_ns
    table = out[out.index("\nIGCV1, Table 4") :]
    for network, model in ((first, "RegConv-W16"), (second, "RegConv-W18")):
        (line,) = (folder(tmp_path, network) / "history.jsonl").read_text().splitlines()
        accuracy = 100 * json.loads(line)["test_accuracy"]
        rows = [row for row in table.splitlines() if row.startswith(f"{model}  8 ")]  # one in each part of the table
        assert sum(row.count(f"{accuracy:.2f} (1)") for row in rows) == 2
        assert sum(network in row and row.endswith("[1] [2]") for row in rows) == 1
    assert "on digits, not cifar10; a schedule of 1 epochs in place of 400" in table


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    """One run that the script refuses, one that breaks, one that is done."""
    from igc_gluon.cli.training import runner

    codes = {"cifar_plain8_w16": 2, "cifar_plain8_w18": 0}

    def one(args, experiment_of, classes_of, shards):
        if args.network == "cifar_plain8_w18" and args.rand_seed == 1:
            raise RuntimeError("MXNet is out of memory")
        return codes[args.network]

    monkeypatch.setattr(runner, "main", one)
    flags = ["--table", "4", "--dataset", "digits", "--num-epochs", "1", "--num-runs", "2", "--only", "plain8", "--run"]
    assert igc(*flags, "--log-dir", tmp_path) == 1
    out, err = capsys.readouterr()
    failed = [line for line in out.splitlines() if line.startswith("FAILED")]
    assert [line.split("  ")[1].split(",")[0] + line.split(",")[1] for line in failed] == [
        "cifar_plain8_w16 on digits seed 0",
        "cifar_plain8_w16 on digits seed 1",
        "cifar_plain8_w18 on digits seed 1",
    ]
    assert "MXNet is out of memory" in err and "[4/4] cifar_plain8_w18" in out


def test_a_folder_with_another_schedule_is_refused_by_name(tmp_path, capsys):
    """The script itself says why; the command names the run."""
    here = folder(tmp_path, "cifar_plain8_w16")
    (here / "checkpoints" / "epoch-0003-batch-000000").mkdir(parents=True)
    (here / "config.json").write_text(
        json.dumps({"model": "cifar_plain8_w16", "dataset": "digits", "schedule": {"num_epochs": 3}})
    )
    (here / "history.jsonl").write_text('{"epoch": 0, "test_accuracy": 0.5, "seconds": 1}\n' * 3)
    assert igc(*COMMAND, "--only", "plain8_w16", "--log-dir", tmp_path, "--run") == 1
    out, err = capsys.readouterr()
    assert "was begun with schedule" in err and "FAILED  cifar_plain8_w16 on digits, seed 0" in out


def test_a_history_without_checkpoints_counts_as_done(tmp_path, capsys):
    """As those that are kept in docs/results."""
    run = folder(tmp_path, "cifar_plain8_w16")
    run.mkdir(parents=True)
    (run / "config.json").write_text(
        json.dumps({"model": "cifar_plain8_w16", "dataset": "digits", "schedule": {"num_epochs": 2}})
    )
    (run / "history.jsonl").write_text('{"test_accuracy": 0.5, "seconds": 1}\n{"test_accuracy": 0.875, "seconds": 1}\n')
    assert (
        igc(
            *"--table 4 --dataset digits --num-epochs 2 --num-runs 1 --only plain8_w16 --run".split(),
            "--log-dir",
            tmp_path,
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "1 runs, of which 1 are done already" in out and "87.50 (1)" in out
    assert sorted(path.name for path in run.iterdir()) == ["config.json", "history.jsonl"]
