"""What commands print fits 80 columns, whatever is in it."""

import json

import pytest

from igc_gluon.cli import main
from igc_gluon.engine.checkpoint import CheckpointStore

CHECKED = ("igcv3_1.0", "resnet18_igc_l100m2", "cifar_igcv2_20_c64", "cifar_igcv3_d1.0")
COMMANDS = [
    *(f"check {name} --no-picture" for name in CHECKED),
    "info igcv3_1.0 --all",
    "info resnet18_igc_l100m2",
    "info mobilenetv2_1.0",
    "info cifar_igcv2_20_c64",
    "models",
    "models --pretrained",
    "tables --runs {place}/runs",
    "widest --params 4672",
    "widest --params 123456789 --near --top 5",
    "compare {place}/runs",
    "checkpoint ls {place}/runs/photos/cifar_plain_igc8_l24m2/seed0",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with runs on two data sets, two of them seeds of one network with options."""
    root = tmp_path_factory.mktemp("place")
    networks = (("cifar_plain_igc8_l24m2", 0), ("cifar_plain_igc8_l24m2", 1), ("cifar_flat_igc_bottleneck8_l12m8", 0))
    for data in ("photos", "cifar100"):
        for name, seed in networks:
            folder = root / "runs" / data / name / f"seed{seed}"
            folder.mkdir(parents=True)
            schedule = {"num_epochs": 400, "lr": 0.1, "lr_factor": 0.1, "lr_steps": [1]}
            config = {"model": name, "dataset": data, "classes": 100, "schedule": schedule, "seed": seed}
            if data == "photos":
                config.update(image_shape=[3, 32, 32], mean=[100, 100, 100], std=[50, 50, 50])
            (folder / "config.json").write_text(json.dumps(config))
            entry = {"train_loss": 1.5, "train_accuracy": 0.5, "test_loss": 2.0, "test_accuracy": 0.5123 + seed / 9}
            (folder / "history.jsonl").write_text(json.dumps({"epoch": 0, "lr": 0.1, **entry, "seconds": 123456.0}))
            position = {"position": {"history": [entry]}}
            arrays = {"net.params": {}, "training.params": {}}
            CheckpointStore(folder / "checkpoints").save(1, 0, arrays, position, best=True)
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_no_wider_line(command, place, capsys):
    assert main([word.replace("{place}", str(place)) for word in command.split()]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "not used: " not in line]  # which names a path
    assert len(lines) > 1 and max(map(len, lines)) <= 80, max(lines, key=len)
