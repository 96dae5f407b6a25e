"""SVHN's split and its damaged files."""

import functools
import hashlib
import shutil

import make_archives
import numpy as np
import pytest
from scipy.io import savemat

from igc_gluon.data import load
from igc_gluon.errors import UserError


def numbered_images(count, source):
    """Images whose first pixel tells which one it is."""
    images = np.zeros((count, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    images[:, 0, 0, 2] = source
    images[:, 5, 9, 1] = 77
    return images


def number(images):
    return images[:, 0, 0, 0] + 256 * images[:, 0, 0, 1].astype(int)


COUNTS = {"train": 4130, "extra": 2070}


def official_labels(source):
    return np.random.RandomState(len(source)).permutation(np.arange(COUNTS[source]) % 10 + 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svhn")
    for index, source in enumerate(("train", "extra")):
        make_archives.svhn_mat(
            folder / f"{source}_32x32.mat", numbered_images(COUNTS[source], index), official_labels(source)
        )
    images, labels = make_archives.random_images(30, 10)
    make_archives.svhn_mat(folder / "test_32x32.mat", images, labels + 1)
    return folder


@pytest.fixture(scope="module")
def cached(folder):
    return functools.lru_cache(None)(lambda split: load("svhn", split, folder))


def test_test_images_and_label_10_means_digit_0(cached):
    images, labels = make_archives.random_images(30, 10)
    loaded = cached("test")
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, (labels + 1) % 10)
    assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int32
    assert loaded.images.transpose(0, 3, 1, 2).flags.c_contiguous


def test_validation_has_400_per_class_of_train_and_200_of_extra(cached):
    images, labels = cached("validation")
    for source, per_class in ((0, 400), (1, 200)):
        chosen = labels[images[:, 0, 0, 2] == source]
        np.testing.assert_array_equal(np.bincount(chosen), [per_class] * 10)
    assert len(cached("train").images) == 4130 + 2070 - 6000


def test_train_and_validation_are_everything_once_with_its_label(cached):
    images = np.concatenate([cached(split).images for split in ("train", "validation")])
    labels = np.concatenate([cached(split).labels for split in ("train", "validation")])
    for index, source in enumerate(("train", "extra")):
        here = images[:, 0, 0, 2] == index
        order = np.argsort(number(images[here]))
        np.testing.assert_array_equal(number(images[here])[order], np.arange(COUNTS[source]))
        np.testing.assert_array_equal(labels[here][order], official_labels(source) % 10)
    assert (images[:, 5, 9, 1] == 77).all() and images[:, 9, 5].max() == 0


def test_split_is_fixed_for_ever(cached):
    chosen = number(cached("validation").images).astype("<i4")
    assert hashlib.sha256(chosen.tobytes()).hexdigest()[:16] == "1757ec682bff413e"


def test_class_with_too_few_images(tmp_path):
    for name in ("train_32x32.mat", "extra_32x32.mat"):
        make_archives.svhn_mat(tmp_path / name, numbered_images(20, 0), np.arange(20) % 10 + 1)
    with pytest.raises(UserError, match="has 2 images of digit 0.*holds out 400"):
        load("svhn", "train", tmp_path)


def damage(path, kind):  # noqa: C901 (a case for each kind)
    images, labels = make_archives.random_images(30, 10)
    labels = labels + 1
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(bytes(content))
    elif kind == "no mat":
        path.write_bytes(b"<html>404</html>" * 1000)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "matlab 7.3":
        path.write_bytes(b"MATLAB 7.3 MAT-file" + b" " * 493 + b"\x89HDF\r\n\x1a\n" + b"\0" * 1000)
    elif kind == "header only":
        path.write_bytes(path.read_bytes()[:128])
    elif kind == "no y":
        savemat(path, {"X": images.transpose(1, 2, 3, 0)})
    elif kind == "wrong size":
        savemat(path, {"X": images[:, :28].transpose(1, 2, 3, 0), "y": labels[:, None]})
    elif kind == "floats":
        savemat(path, {"X": images.transpose(1, 2, 3, 0) / 255, "y": labels[:, None]})
    elif kind == "too few labels":
        make_archives.svhn_mat(path, images, labels[:-1])
    elif kind == "label 11":
        make_archives.svhn_mat(path, images, np.append(labels[:-1], 11))
    elif kind == "label 0":
        make_archives.svhn_mat(path, images, np.append(labels[:-1], 0))
    elif kind == "labels are cells":
        savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": np.array([["a"]] * 30, object)})
    elif kind == "no images":
        savemat(path, {"X": np.zeros((32, 32, 3, 0), np.uint8), "y": np.zeros((0, 1), np.uint8)})


@pytest.mark.parametrize(
    "kind, message",
    [
        ("truncated", "is damaged"),
        ("flipped", "is damaged"),
        ("no mat", "is not a MATLAB 5 file"),
        ("empty", "is not a MATLAB 5 file"),
        ("matlab 7.3", "is not a MATLAB 5 file"),
        ("header only", "holds no variable X"),
        ("no y", "holds no variable y"),
        ("wrong size", r"X is uint8 \(28, 32, 3, 30\)"),
        ("floats", "X is float64"),
        ("too few labels", "has 30 images, but 29 labels"),
        ("label 11", "image 29 has label 11"),
        ("label 0", "image 29 has label 0"),
        ("labels are cells", "y does not hold real numbers"),
        ("no images", "no images"),
    ],
)
def test_damaged_file_is_one_clear_line(tmp_path, folder, kind, message):
    path = tmp_path / "test_32x32.mat"
    shutil.copy(folder / "test_32x32.mat", path)
    damage(path, kind)
    with pytest.raises(UserError, match=message) as caught:
        load("svhn", "test", tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
