"""From photographs to predictions, with the commands of the README; and what goes wrong on the way."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from imagenet_tree import make_tree

import train_imagenet
from igc_gluon import params_file
from igc_gluon.cli import main
from igc_gluon.data import recordio
from igc_gluon.errors import UserError
from igc_gluon.exits import exit_code
from igc_gluon.model_zoo import find_family

ROOT = Path(__file__).resolve().parent.parent
# 12 batches an epoch of a small network at 32x32, on two CPU contexts
SMALL = (
    "--network cifar_plain_igc8_l4m2 --image-shape 3,32,32 --cpus 2 --batch-size 8 --num-epochs 2 --lr 0.05"
).split()


def start(*command, **kwargs):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **kwargs.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=ROOT,
        **kwargs,
    )


def run(*command, code=0, **kwargs):
    process = start(*command, **kwargs)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out, err


IGC = ("-c", "import sys; from igc_gluon.cli import main; sys.exit(main())")  # the command igc


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    root = make_tree(tmp_path_factory.mktemp("tree"), train=32, val=8, size=(64, 80))
    out, _ = run(*IGC, "data", "imagenet", "--root", root, "--out", root / "packed", "--short-side", 64, "--workers", 2)
    assert "train.rec: 96 images of 3 classes" in out and "classes.txt: 3 classes" in out
    return root / "packed"


def last_params(log_dir):
    checkpoints = Path(log_dir) / "packed" / "cifar_plain_igc8_l4m2" / "seed0" / "checkpoints"
    return params_file.load(checkpoints / (checkpoints / "last").read_text().strip() / "net.params")


def test_from_photographs_to_predictions(packed, tmp_path, capsys):
    """Pack, verify, train, stop, resume, evaluate, predict; the resumed run ends with an undisturbed one's bits."""
    assert main(["data", "verify", str(packed / "train.rec")]) == 0
    assert "96 whole records, labels 0 to 2, 0 broken" in capsys.readouterr().out
    flags = ["train_imagenet.py", *SMALL, "--data-dir", packed]
    out, _ = run(*flags, "--log-dir", tmp_path / "a")
    assert "2 epochs of 12 batches of 8 images on cpu(0), cpu(1)" in out and "top-5" not in out

    process = start(*flags, "--log-dir", tmp_path / "b", "--checkpoint-batches", 1)
    folder = tmp_path / "b" / "packed" / "cifar_plain_igc8_l4m2" / "seed0"
    while not (folder / "checkpoints" / "last").exists():
        time.sleep(0.01)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 143 and "go on with --resume" in err and "Traceback" not in err
    out, _ = run(*flags, "--log-dir", tmp_path / "b", "--resume")
    assert "going on after epoch" in out
    undisturbed, resumed = last_params(tmp_path / "a"), last_params(tmp_path / "b")
    for name, value in undisturbed.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)

    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [0, 1] and "test_top5" not in history[0]
    config = json.loads((folder / "config.json").read_text())
    assert config["class_names"] == ["china", "flower", "gray"] and config["augment"] == "authors"
    assert config["image_shape"] == [3, 32, 32] and config["classes"] == 3

    capsys.readouterr()
    assert main(["eval", str(folder), "--data", str(packed / "val.rec")]) == 0
    out = capsys.readouterr().out
    best = max(entry["test_accuracy"] for entry in history)
    assert "24 images" in out and f"top-1          {100 * best:.2f} %" in out and "top-5" not in out
    photo = next((packed.parent / "val" / "china").iterdir())
    assert main(["predict", str(folder), str(photo)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and {line.split()[-1] for line in lines[1:4]} == {"china", "flower", "gray"}


def test_devices_and_order(packed, tmp_path):
    """One device and two train to the same weights, to float accuracy: BN's shards and the images' order are alike."""
    for name, cpus in (("one", 1), ("two", 2)):
        code = train_main(
            [
                *SMALL,
                "--num-epochs",
                "1",
                "--data-dir",
                str(packed),
                "--log-dir",
                str(tmp_path / name),
                "--cpus",
                str(cpus),
                "--batch-shards",
                "2",
            ]
        )
        assert code == 0
    one, two = last_params(tmp_path / "one"), last_params(tmp_path / "two")
    for name, value in one.items():
        assert np.linalg.norm(two[name] - value) <= 1e-3 * max(1, np.linalg.norm(value)), name


def train_main(flags):
    def run():
        args = train_imagenet.parse(flags)
        return train_imagenet.run(args)

    try:
        return exit_code(run)
    except SystemExit as error:  # argparse
        return error.code


def parsed(*flags):
    args = train_imagenet.parse(list(flags))
    return args, train_imagenet.experiment(args, train_imagenet.paper_gpus(args)), train_imagenet.data(args)


def test_without_flags_it_is_the_papers_experiment():
    args, experiment, data = parsed()
    assert experiment.model.name == "resnet18_igc_l100m2" and experiment.batch_shards == 8
    assert (experiment.batch_size, experiment.wd, experiment.momentum) == (256, 1e-4, 0.9)
    assert experiment.optimizer == "nesterov"
    schedule = experiment.schedule
    assert (schedule.num_epochs, schedule.lr, schedule.lr_factor, schedule.lr_steps) == (95, 0.1, 0.1, (30, 60, 90))
    assert [round(schedule.lr_at(epoch), 5) for epoch in (0, 29, 30, 60, 90, 94)] == [0.1, 0.1, 0.01, 0.001, 1e-4, 1e-4]
    assert args.gpus == "0,1,2,3,4,5,6,7" and args.kv_store == "device" and data.classes == 1000
    assert data.preprocessing.image_shape == (3, 224, 224) and data.preprocessing.short_side == 256 and data.top5
    assert (experiment.label_smoothing, experiment.dtype, schedule.warmup_epochs) == (0.0, "float32", 0)


@pytest.mark.parametrize(
    "flags, model, options",
    [
        (
            ["--network=resnet_igc_imgnet_d18", "--depth=18", "--primary-partition=100", "--secondary-partition=1"],
            "resnet18_igc_l100m2",
            {},
        ),
        (
            ["--network=resnet_igc_imgnet_d18", "--primary-partition=8", "--secondary-partition=4"],
            "resnet18_igc_l8m8",
            {"doubled": "primary"},
        ),
        (["--network=resnet_imgnet_d18", "--depth=18"], "resnet18_w64", {}),
        (["--network=resnet_imgnet_d18", "--primary-partition=69"], "resnet18_w69", {}),
        (["--network=igcv3_1.0"], "igcv3_1.0", {}),
        (["--network=igcv3_1.0", "--option", "block=paper"], "igcv3_1.0", {"block": "paper"}),
        (
            ["--network=resnet18_igc_l4m2", "--option", "doubled=secondary"],
            "resnet18_igc_l4m2",
            {"doubled": "secondary"},
        ),
    ],
)
def test_networks(flags, model, options):
    described, options_given = train_imagenet.model_of(train_imagenet.parse(flags))
    assert (described.name, options_given) == (model, options)
    _, experiment, _ = parsed(*flags)
    assert (experiment.model.name, experiment.model_options or {}) == (model, options)
    find_family(model)


def test_schedules_of_the_mobile_networks():
    _, paper, data = parsed("--network", "igcv3_1.0")
    assert (paper.batch_size, paper.wd, paper.optimizer, paper.batch_shards) == (96, 4e-5, "sgd", 4)
    assert (paper.schedule.num_epochs, paper.schedule.lr, paper.schedule.lr_steps) == (120, 0.045, (30, 60, 90))
    assert data.preprocessing.std == (1.0, 1.0, 1.0)
    _, code, _ = parsed("--network", "igcv2_0.5", "--schedule", "igcv3-code")
    assert code.schedule.num_epochs == 480 and code.schedule.lr_steps == ()
    rates = [code.schedule.lr_at(epoch) for epoch in (0, 1, 479)]
    np.testing.assert_allclose(rates, [0.045, 0.0441, 0.045 * 0.98**479])
    _, short, _ = parsed("--network", "igcv2_0.5", "--schedule", "igcv3-code", "--num-epochs", "48")
    np.testing.assert_allclose(short.schedule.lr_at(24), 0.045 * 0.98**240)
    _, other, _ = parsed("--network", "igcv2_0.5", "--batch-size", "64", "--wd", "0", "--schedule", "igcv1")
    assert (other.batch_size, other.wd, other.schedule.num_epochs) == (64, 0, 95)


def refused(capfd, flags):
    assert train_main(flags) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


@pytest.mark.parametrize(
    "flags, text",
    [
        ([], "built without CUDA"),
        (["--gpus", "0"], "built without CUDA"),
        (["--cpus", "0"], "--cpus must be at least 1"),
        (["--cpus", "1", "--data-dir", "nowhere"], "there is no file nowhere/train.rec; igc data imagenet"),
        (["--cpus", "1", "--network", "resnet19"], "unknown model 'resnet19'"),
        (["--cpus", "1", "--network", "resnet_igc_imgnet_d18", "--depth", "34"], "has depth 18, not 34"),
        (
            ["--cpus", "1", "--network", "resnet_imgnet_d18", "--primary-partition", "0"],
            "has no width 0; the smallest is 1",
        ),
        (
            ["--cpus", "1", "--network", "resnet_igc_imgnet_d18", "--secondary-partition", "0"],
            "needs --primary-partition and --secondary-partition",
        ),
        (
            ["--cpus", "1", "--network", "resnet_igc_imgnet_d18", "--primary-partition", "100"],
            "100 and 1 are the published",
        ),
        (["--cpus", "1", "--network", "resnet_imgnet_d18", "--secondary-partition", "4"], "leave that out"),
        (["--cpus", "1", "--option", "block=paper"], "resnet18_igc_l100m2 has no option 'block'"),
        (["--cpus", "1", "--depth", "18"], "leave --depth"),
        (["--cpus", "1", "--image-shape", "3,224"], "--image-shape"),
        (["--cpus", "1", "--image-shape", "1,224,224"], "--image-shape"),
        (["--cpus", "1", "--augment", "more"], "--augment"),
        (["--cpus", "1", "--schedule", "fast"], "--schedule"),
        (["--cpus", "1", "--num-classes", "0"], "--num-classes must be at least 1"),
        (["--cpus", "1", "--dtype", "float16"], "--dtype float16 needs GPUs"),
        (["--cpus", "1", "--label-smoothing", "1"], "--label-smoothing"),
        (["--cpus", "1", "--warmup-epochs", "-1"], "--warmup-epochs"),
        (["--cpus", "1", "--kv-store", "fast"], "--kv-store"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(flags, text, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert text in refused(capfd, flags)
    assert not list(tmp_path.glob("**/checkpoints"))


def cut(content):
    return content[: len(content) // 8 * 4]


def flip_magic(content):
    return b"\0" + content[1:]


def foreign_label(content):
    """As another program would write it, without a checksum."""
    return content[:12] + struct.pack("<f", 7) + content[16:24] + bytes(8) + content[32:]


def flip_pixels(content):
    return content[:600] + bytes([content[600] ^ 1]) + content[601:]


@pytest.mark.parametrize(
    "damage, text",
    [
        (cut, "do not fit together"),
        (flip_magic, "is damaged"),
        (lambda content: b"", "is empty"),
        (lambda content: b"GIF89a" + bytes(1000), "is damaged|do not fit"),
        (foreign_label, "labels up to 7, too many for 3 classes"),
        (flip_pixels, "the record at byte 0 is not what was written"),
    ],
    ids=["truncated", "wrong magic", "empty", "foreign", "label", "pixels"],
)
def test_a_damaged_file_is_one_line(packed, tmp_path, capfd, damage, text):
    for file in packed.iterdir():
        if file.suffix in (".rec", ".idx", ".txt"):
            shutil.copy(file, tmp_path)
    (tmp_path / "train.rec").write_bytes(damage((packed / "train.rec").read_bytes()))
    line = refused(capfd, [*SMALL, "--data-dir", str(tmp_path), "--log-dir", str(tmp_path / "runs")])
    assert str(tmp_path / "train.rec") in line and any(part in line for part in text.split("|")), line


def test_an_image_that_cannot_be_decoded_is_one_line_from_the_process(packed, tmp_path):
    """Its frame is right and it carries no checksum, as in a file that another program wrote."""
    for file in packed.iterdir():
        shutil.copy(file, tmp_path)
    headers = [struct.pack("<IfQQ", 0, n % 3, n, 0) for n in range(16)]
    content = b"".join(recordio.frame(header + b"not a JPEG but as long") for header in headers)
    (tmp_path / "train.rec").write_bytes(content)
    (tmp_path / "train.idx").write_text("".join(f"{n}\t{n * len(content) // 16}\n" for n in range(16)))
    _, err = run("train_imagenet.py", *SMALL, "--data-dir", tmp_path, "--log-dir", tmp_path / "runs", code=2)
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "igc data verify" in lines[0] and "Traceback" not in err, err


def test_classes_that_do_not_fit(packed, capfd, tmp_path):
    assert "classes.txt has 3 classes, not 2; leave out --num-classes" in refused(
        capfd, [*SMALL, "--data-dir", str(packed), "--num-classes", "2", "--log-dir", str(tmp_path)]
    )
    assert "fewer than a batch of 128" in refused(
        capfd, [*SMALL, "--data-dir", str(packed), "--batch-size", "128", "--log-dir", str(tmp_path)]
    )


def test_files_of_other_classes(packed, capfd, tmp_path):
    for file in packed.iterdir():
        shutil.copy(file, tmp_path)
    (tmp_path / "classes.txt").write_text("china\ngray\nflower\n")
    line = refused(
        capfd,
        [
            *SMALL,
            "--data-train",
            str(packed / "train.rec"),
            "--data-val",
            str(tmp_path / "val.rec"),
            "--log-dir",
            str(tmp_path / "runs"),
        ],
    )
    assert "class 1 is 'flower' in" in line and "--num-classes" not in line
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_keeps_its_data(packed, tmp_path, capfd):
    flags = [*SMALL, "--data-dir", str(packed), "--log-dir", str(tmp_path)]
    assert train_main([*flags, "--num-epochs", "1"]) == 0
    capfd.readouterr()
    assert "was begun with augment authors, not resnet" in refused(
        capfd, [*flags, "--num-epochs", "1", "--resume", "--augment", "resnet"]
    )


def test_help_says_these_defaults_not_those_for_cifar(capsys):
    assert train_main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "(default: ~/.mxnet/datasets/imagenet)",
        "workers (default: the schedule's)",
        "parameter (default: the schedule's; igcv3-code",
        "0,...,7 or 0,...,3",
        "as many as the schedule has GPUs",
    ):
        assert line in text, line
    assert "default: 64)" not in text and "the CPU)" not in text


def test_evaluation_of_what_is_not_there(packed, capsys):
    assert main(["eval", "nowhere", "--data", str(packed / "val.rec")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no file or folder nowhere")


def test_benchmark_needs_no_files(tmp_path, capfd):
    assert train_main([*SMALL, "--benchmark", "1", "--data-dir", str(tmp_path), "--num-classes", "3"]) == 0
    assert "images/s in training" in capfd.readouterr().out


def test_bfloat16_trains(packed, tmp_path):
    """In a process of its own, all of which AMP changes."""
    import mxnet as mx

    from igc_gluon.engine.precision import check_dtype

    try:
        check_dtype("bfloat16", [mx.cpu()])
    except UserError as error:
        pytest.skip(str(error))
    run(
        "train_imagenet.py",
        *SMALL,
        "--data-dir",
        packed,
        "--dtype",
        "bfloat16",
        "--num-epochs",
        1,
        "--log-dir",
        tmp_path,
    )
    arrays = last_params(tmp_path)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays.values())


@pytest.mark.long
def test_the_papers_network_from_photographs_to_predictions(tmp_path):
    """The README's commands at full size: IGC-L100M2 at 224x224."""
    root = make_tree(tmp_path, train=40, val=8, size=(400, 500))
    run(*IGC, "data", "imagenet", "--root", root)
    run(*IGC, "data", "verify", root / "train.rec")
    flags = [
        *(
            "train_imagenet.py --network=resnet_igc_imgnet_d18 --depth=18 --primary-partition=100 "
            "--secondary-partition=1"
        ).split(),
        "--cpus",
        2,
        "--batch-size",
        16,
        "--num-epochs",
        2,
        "--data-dir",
        root,
        "--log-dir",
        root / "runs",
    ]
    process = start(*flags, "--checkpoint-batches", 2)
    folder = root / "runs" / "imagenet" / "resnet18_igc_l100m2" / "seed0"
    while not (folder / "checkpoints" / "last").exists():
        time.sleep(0.1)
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=300)
    assert process.returncode == 143
    run(*flags, "--resume")
    out, _ = run(*IGC, "eval", folder, "--data", root / "val.rec")
    assert "24 images" in out
    photo = next((root / "val" / "flower").iterdir())
    assert "flower" in run(*IGC, "predict", folder, photo)[0]
