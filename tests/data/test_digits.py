"""The embedded digits: the same bytes for ever, and a faithful enlargement."""

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from igc_gluon.data import DATASETS, digits, load


def fingerprint(loaded):
    return hashlib.sha256(loaded.images.tobytes() + loaded.labels.astype("<i4").tobytes()).hexdigest()[:16]


def test_arrays_are_fixed_for_ever():
    assert fingerprint(load("digits", "train")) == "3c936bfefd20d60f"
    assert fingerprint(load("digits", "test")) == "f501c15ba408d722"


def test_shapes_and_classes():
    sizes = {"train": (1437, range(139, 147)), "test": (360, range(35, 38))}
    for split, (count, per_class) in sizes.items():
        loaded = load("digits", split)
        assert loaded.images.shape == (count, 32, 32, 3) and loaded.images.dtype == np.uint8
        assert loaded.labels.dtype == np.int32
        assert all(number in per_class for number in np.bincount(loaded.labels, minlength=10))
        assert (loaded.images == loaded.images[..., :1]).all()


def test_splits_share_no_image_and_leave_none_out():
    images = np.concatenate([load("digits", split).images[..., 0] for split in ("train", "test")])
    labels = np.concatenate([load("digits", split).labels for split in ("train", "test")])
    theirs = load_digits()
    np.testing.assert_array_equal(digits.stored()[:, 0], theirs.target)
    np.testing.assert_array_equal(digits.stored()[:, 1:], theirs.data)

    def content(images, labels):
        return sorted(bytes([label]) + image.tobytes() for image, label in zip(images, labels))

    assert content(images, labels) == content(bilinear(theirs.images), theirs.target)


def bilinear(images):
    """(N, 8, 8) in 0..16 -> (N, 32, 32), by the definition of bilinear interpolation, in floating point."""
    position = np.clip((np.arange(32) + 0.5) / 4 - 0.5, 0, 7)
    lower = np.minimum(position.astype(int), 6)
    weight = position - lower
    rows = images[:, lower] * (1 - weight)[:, None] + images[:, lower + 1] * weight[:, None]
    both = rows[:, :, lower] * (1 - weight) + rows[:, :, lower + 1] * weight
    return np.floor(both * 255 / 16 + 0.5).astype(np.uint8)


def test_constants_are_those_of_the_training_images():
    images = load("digits", "train").images
    np.testing.assert_allclose(DATASETS["digits"].mean, images.mean(axis=(0, 1, 2)), atol=5e-4)
    np.testing.assert_allclose(DATASETS["digits"].std, images.std(axis=(0, 1, 2)), atol=5e-4)
    assert (DATASETS["digits"].train_size, DATASETS["digits"].test_size) == (1437, 360)
