"""The images that SVHN holds out choose the best epoch."""

import json

import make_archives
import mxnet as mx
import numpy as np
import pytest

import train_cifar
from igc_gluon.data import DATASETS, has_validation, load, svhn
from igc_gluon.engine.saved_networks import open_network

EPOCHS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Few images that a network can learn; the labels of the test images are wrong, so that it gets worse at them."""
    folder, rng = tmp_path_factory.mktemp("svhn"), np.random.default_rng(3)
    for name, count in (("train", 280), ("extra", 140), ("test", 40)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 60, (count, 32, 32, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels % 3] += (40 * (labels // 3) + 40).astype(np.uint8)[:, None, None]
        labels = (labels + 5) % 10 if name == "test" else labels
        make_archives.svhn_mat(folder / f"{name}_32x32.mat", images, np.where(labels == 0, 10, labels))
    return folder


def run(folder, log_dir, *flags):
    args = train_cifar.parse(
        [
            *"--dataset svhn --network resnet --depth 8 --primary-partition 8 --secondary-partition 1".split(),
            "--num-epochs",
            str(EPOCHS),
            *"--batch-size 20 --batch-shards 1".split(),
            "--data-dir",
            str(folder),
            "--log-dir",
            str(log_dir),
            *flags,
        ]
    )
    return train_cifar.run(args)


def test_the_best_epoch_is_the_best_on_the_validation_images(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(svhn, "HELD_OUT_PER_CLASS", {"train_32x32.mat": 8, "extra_32x32.mat": 4})
    assert run(folder, tmp_path, "--keep-checkpoints", str(EPOCHS)) == 0
    here = tmp_path / "svhn" / "cifar_resnet8_w8" / "seed0"
    history = [json.loads(line) for line in (here / "history.jsonl").read_text().splitlines()]
    held_out = load("svhn", "validation", folder)
    assert len(held_out.labels) == 120 == json.loads((here / "config.json").read_text())["validation_images"]
    # of every epoch, from its checkpoint, with MXNet's operators alone
    info = DATASETS["svhn"]
    data = ((held_out.images - np.array(info.mean)) / info.std).transpose(0, 3, 1, 2)
    of_networks = []
    for checkpoint in sorted(path for path in (here / "checkpoints").iterdir() if path.is_dir()):
        scores = open_network(checkpoint)(mx.nd.array(data)).asnumpy()
        of_networks.append((scores.argmax(1) == held_out.labels).mean())
    accuracies = [entry["validation_accuracy"] for entry in history]
    np.testing.assert_allclose(of_networks, accuracies, atol=0.01)
    tests = [entry["test_accuracy"] for entry in history]
    assert accuracies[-1] > 0.5 and np.argmax(accuracies) != np.argmax(tests)  # or this shows nothing
    best = int(np.argmax(accuracies))
    out = capsys.readouterr().out
    assert f"{100 * tests[best]:.2f} % in the epoch that is best on the validation images (epoch {best + 1})" in out
    np.testing.assert_array_equal(
        open_network(here).output.weight.data().asnumpy(),
        open_network(sorted(path for path in (here / "checkpoints").iterdir() if path.is_dir())[best])
        .output.weight.data()
        .asnumpy(),
    )


def test_the_authors_records_hold_nothing_out(folder, tmp_path):
    assert has_validation("svhn", folder) and not has_validation("cifar10", folder)
    for name in ("train", "test"):
        images, labels = make_archives.random_images(20, 10)
        make_archives.record_file(tmp_path / f"{name}.rec", images, labels)
    assert not has_validation("svhn", tmp_path)
    assert run(tmp_path, tmp_path / "runs") == 0
    history = (tmp_path / "runs/svhn/cifar_resnet8_w8/seed0/history.jsonl").read_text()
    assert "validation" not in history
