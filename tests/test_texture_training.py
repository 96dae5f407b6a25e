"""Photographs that must be seen at the right scale, packed and trained on with the defaults."""

import json

import numpy as np
import pytest
from imagenet_tree import make_textures
from test_train_imagenet import IGC, run

import train_imagenet
from igc_gluon.cli import main

EPOCHS = 20
BETWEEN = (1.35, 3.65, 9.75)  # waves: a crop shows 0.41 to 0.98 of 1.3, 3.5, 9.5 or 25
# short side of the photographs, --short-side (0: as they are), side of the crop
SIZES = pytest.mark.parametrize(
    "photographs, short_side, crop", [(500, 480, 224), (500, 480, 64), (500, 256, 224), (96, 64, 64), (1000, 0, 224)]
)


def waves(images):
    """How many waves of its texture each of `images` (N, 3, H, W) shows, the mean of those across and down."""
    gray = images.mean(axis=1)
    gray = gray - gray.mean(axis=(1, 2), keepdims=True)
    counts = []
    for lines in (gray, gray.transpose(0, 2, 1)):
        length = lines.shape[2]
        power = np.abs(np.fft.rfft(lines * np.hanning(length), 4 * length)) ** 2
        counts.append(power.sum(axis=1).argmax(axis=1) / 4)
    return np.mean(counts, axis=0)


@SIZES
def test_crops_show_each_texture_at_its_own_scale(tmp_path, photographs, short_side, crop):
    """Without a network: the waves that a crop shows tell its class, in training as in evaluation. With crops that show
    a quarter of the photograph, 480 to 64 before they kept to proportion, they tell another."""
    make_textures(tmp_path, train=4, val=1, short_side=photographs)
    assert main(["data", "imagenet", "--root", str(tmp_path), "--short-side", str(short_side), "--workers", "1"]) == 0
    data = train_imagenet.data(
        train_imagenet.parse(
            ["--network", "resnet18_w8", "--data-dir", str(tmp_path), "--image-shape", f"3,{crop},{crop}"]
        )
    )
    data.prepare()
    for batches, epochs in zip(data.batches(16, seed=0), (3, 1)):
        for epoch in range(epochs):
            for images, labels in batches.epoch(epoch):
                np.testing.assert_array_equal(np.digitize(waves(images), BETWEEN), labels)


def accuracy(root, photographs, short_side, crop):
    """Of the last epoch, in percent. The network is one that a CPU trains in minutes."""
    make_textures(root, train=60, val=20, short_side=photographs)
    run(*IGC, "data", "imagenet", "--root", root, "--short-side", short_side, "--workers", 2)
    run(
        "train_imagenet.py",
        "--network",
        "resnet18_w8",
        "--cpus",
        1,
        "--batch-size",
        16,
        "--lr",
        0.05,
        "--num-epochs",
        EPOCHS,
        "--image-shape",
        f"3,{crop},{crop}",
        "--data-dir",
        root,
        "--log-dir",
        root / "runs",
    )
    history = root / "runs" / "imagenet" / "resnet18_w8" / "seed0" / "history.jsonl"
    epochs = [json.loads(line) for line in history.read_text().splitlines()]
    assert len(epochs) == EPOCHS
    return 100 * epochs[-1]["test_accuracy"]


@pytest.mark.long
@SIZES
def test_textures_of_any_records_and_crops(tmp_path, photographs, short_side, crop):
    assert accuracy(tmp_path, photographs, short_side, crop) > 80
