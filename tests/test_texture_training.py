"""Photographs that must be seen at the right scale, packed and trained on with the defaults."""
import json

import pytest
from imagenet_tree import make_textures
from test_train_imagenet import IGC, run


def accuracy(root, photographs, short_side, crop, epochs=20, **count):
    """Of the best epoch, in percent. The network is one that a CPU trains in a minute."""
    make_textures(root, short_side=photographs, **count)
    run(*IGC, "data", "imagenet", "--root", root, "--short-side", short_side, "--workers", 2)
    run("train_imagenet.py", "--network", "resnet18_w8", "--cpus", 1, "--batch-size", 16, "--lr", 0.05,
        "--num-epochs", epochs, "--image-shape", f"3,{crop},{crop}", "--data-dir", root, "--log-dir", root / "runs")
    history = root / "runs" / "imagenet" / "resnet18_w8" / "seed0" / "history.jsonl"
    return 100 * max(json.loads(line)["test_accuracy"] for line in history.read_text().splitlines())


@pytest.mark.long
def test_textures_of_small_records(tmp_path):
    assert accuracy(tmp_path, 96, 64, 64, train=60, val=20) > 80


@pytest.mark.long
@pytest.mark.parametrize("photographs, short_side, crop", [(500, 480, 224), (500, 480, 64), (500, 256, 224),
                                                           (500, 64, 64), (1000, 0, 224)])
def test_textures_of_any_records_and_crops(tmp_path, photographs, short_side, crop):
    assert accuracy(tmp_path, photographs, short_side, crop, train=60, val=20) > 80
