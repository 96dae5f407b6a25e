"""MNIST and its kin from gzipped IDX files, whole and damaged, and where they are found."""

import gzip
import logging
import shutil
import struct
from dataclasses import replace

import make_archives
import numpy as np
import pytest
from mxnet.gluon.data.vision import datasets as gluon_datasets

from igc_gluon import files
from igc_gluon.data import DATASETS, dataset_files, idx, load
from igc_gluon.errors import UserError

FASHION = dataset_files.DEBIAN / "fashion-mnist"
NAMES = ("fashion-mnist", "mnist", "kmnist")
IMAGES, LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize("name", NAMES)
def test_gray_images_within_a_black_border(tmp_path, name, caplog):
    made = make_archives.idx_folder(tmp_path)
    with caplog.at_level(logging.WARNING):
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images, labels = load(name, split, tmp_path)
            gray, expected = made[prefix]
            assert images.dtype == np.uint8 and labels.dtype == np.int32 and images.flags.c_contiguous
            np.testing.assert_array_equal(images, np.pad(gray, ((0, 0), (2, 2), (2, 2)))[..., None].repeat(3, axis=3))
            np.testing.assert_array_equal(labels, expected)
    assert len(caplog.records) == 4 and "not the official file" in caplog.text


def test_mxnet_reads_the_same(tmp_path):
    """Gluon's own reader, on the same files."""
    made = make_archives.idx_folder(tmp_path)
    theirs = gluon_datasets.MNIST.__new__(gluon_datasets.MNIST)
    theirs._transform, theirs._train, theirs._root, theirs._namespace = None, False, str(tmp_path), "mnist"
    theirs._test_data, theirs._test_label = ((name, files.digest(tmp_path / name, "sha1")) for name in (IMAGES, LABELS))
    theirs._get_data()
    images, labels = load("mnist", "test", tmp_path)
    np.testing.assert_array_equal(theirs._data.asnumpy()[..., 0], images[:, 2:-2, 2:-2, 0])
    np.testing.assert_array_equal(theirs._label, labels)
    assert len(labels) == len(made["t10k"][1])


@pytest.mark.parametrize(
    "name, theirs", [("mnist", gluon_datasets.MNIST), ("fashion-mnist", gluon_datasets.FashionMNIST)]
)
def test_digests_of_the_mirror_are_those_in_mxnet(name, theirs, monkeypatch):
    monkeypatch.setattr(theirs, "_get_data", lambda self: None)
    published = theirs()
    expected = [published._train_data, published._train_label, published._test_data, published._test_label]
    digests = [(archive.name, archive.sources[1].digest) for archive in DATASETS[name].archives]
    assert digests == expected
    assert all(archive.sources[1].url.endswith(f"/{name}/{archive.name}") for archive in DATASETS[name].archives)


def test_mirrored_clothes_are_clothes_and_mirrored_characters_are_none():
    assert [DATASETS[name].mirror for name in NAMES] == [True, False, False]


def rewrite(path, change):
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))


DAMAGE = {
    "truncated gzip": (IMAGES, lambda p: p.write_bytes(p.read_bytes()[:5000]), "is not a whole gzip file"),
    "flipped byte": (IMAGES, lambda p: p.write_bytes(flipped(p.read_bytes())), "is not a whole gzip file"),
    "flipped checksum": (LABELS, lambda p: p.write_bytes(flipped(p.read_bytes(), -8)), "is not a whole gzip file"),
    "web page": (LABELS, lambda p: p.write_bytes(b"<html>404</html>"), "is not a whole gzip file"),
    "empty": (LABELS, lambda p: p.write_bytes(b""), "ends within its header"),
    "header cut": (IMAGES, lambda p: rewrite(p, lambda c: c[:15]), "ends within its header"),
    "header alone": (IMAGES, lambda p: rewrite(p, lambda c: c[:16]), "15,680 bytes of pixels, but has 0"),
    "pixel short": (IMAGES, lambda p: rewrite(p, lambda c: c[:-1]), "but has 15,679"),
    "trailing byte": (IMAGES, lambda p: rewrite(p, lambda c: c + b"\0"), "but has more"),
    "trailing label": (LABELS, lambda p: rewrite(p, lambda c: c + b"\0"), "20 bytes of labels, but has more"),
    "floats": (IMAGES, lambda p: rewrite(p, lambda c: b"\0\0\r" + c[3:]), "0x00000d03, not 0x00000803"),
    "labels as images": (IMAGES, lambda p: shutil.copy(p.with_name(LABELS), p), "it is no IDX file of images"),
    "other size": (
        IMAGES,
        lambda p: rewrite(p, lambda c: c[:8] + struct.pack(">II", 14, 56) + c[16:]),
        "images of 56x14 pixels, not 28x28",
    ),
    "none": (LABELS, lambda p: rewrite(p, lambda c: c[:4] + bytes(4)), "claims to hold 0 labels"),
    "billions": (IMAGES, lambda p: rewrite(p, lambda c: c[:4] + b"\xff" * 4 + c[8:]), "claims to hold 4,294,967,295"),
    "other split": (
        LABELS,
        lambda p: shutil.copy(p.with_name(LABELS.replace("t10k", "train")), p),
        "20 images, but .* 40 labels",
    ),
    "label 10": (
        LABELS,
        lambda p: rewrite(p, lambda c: c[:-1] + b"\n"),
        "image 19 has label 10, but mnist has labels 0",
    ),
}


def flipped(content, at=None):
    content = bytearray(content)
    content[len(content) // 2 if at is None else at] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_file_is_one_clear_line(tmp_path, kind):
    make_archives.idx_folder(tmp_path)
    name, damage, message = DAMAGE[kind]
    damage(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        load("mnist", "test", tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_no_more_is_decompressed_than_announced(tmp_path, monkeypatch):
    """A gigabyte of zeros behind the labels, packed into one megabyte: what is read is bounded by the header."""
    make_archives.idx_folder(tmp_path)
    bomb = gzip.compress(gzip.decompress((tmp_path / LABELS).read_bytes()) + bytes(1 << 26))
    (tmp_path / LABELS).write_bytes(bomb)
    read = []
    original = gzip.GzipFile.read

    def counting(self, size=-1):
        piece = original(self, size)
        read.append(len(piece))
        return piece

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    with pytest.raises(UserError, match="but has more"):
        idx.read(DATASETS["mnist"], "train", [tmp_path / IMAGES, tmp_path / LABELS])
    assert sum(read) < 20000


def test_folder_of_debian_is_found_without_being_named(tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    monkeypatch.setattr(dataset_files, "DEBIAN", tmp_path / "debian")
    (tmp_path / "debian" / "fashion-mnist").mkdir(parents=True)
    made = make_archives.idx_folder(tmp_path / "debian" / "fashion-mnist")
    np.testing.assert_array_equal(load("fashion-mnist", "test", download=False).labels, made["t10k"][1])
    with pytest.raises(UserError, match="there is no t10k-images.*Debian's package dataset-fashion-mnist holds them"):
        load("fashion-mnist", "test", tmp_path, download=False)  # a named folder is the only one
    own = tmp_path / "mxnet" / "datasets" / "fashion-mnist"
    own.mkdir(parents=True)
    mine = make_archives.idx_folder(own, {"t10k": 7})
    np.testing.assert_array_equal(load("fashion-mnist", "test").labels, mine["t10k"][1])


def test_files_of_another_data_set_are_refused(tmp_path, monkeypatch):
    """All three have the same names of files, and the labels would fit."""
    make_archives.idx_folder(tmp_path)
    kmnist = DATASETS["kmnist"]
    archives = tuple(
        replace(archive, sources=(replace(archive.sources[0], digest=files.digest(tmp_path / archive.name, "sha256")),))
        for archive in kmnist.archives
    )
    monkeypatch.setitem(DATASETS, "kmnist", replace(kmnist, archives=archives))
    assert len(load("kmnist", "test", tmp_path).labels) == 20
    with pytest.raises(UserError, match=f"{IMAGES} is a file of kmnist, not of mnist; name another folder"):
        load("mnist", "test", tmp_path)


def test_without_files_the_message_says_what_to_put_where(tmp_path):
    with pytest.raises(UserError) as caught:
        load("kmnist", "train", tmp_path, download=False)
    message = str(caught.value)
    assert f"there is no train-images-idx3-ubyte.gz in {tmp_path}" in message and "Debian" not in message
    assert "http://codh.rois.ac.jp/kmnist/dataset/kmnist/train-images-idx3-ubyte.gz" in message


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_debians_files_are_known_and_the_constants_are_theirs(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    dataset = DATASETS["fashion-mnist"]
    with caplog.at_level(logging.WARNING):
        train, test = (load("fashion-mnist", split) for split in ("train", "test"))
    assert not caplog.records
    assert len(train.images) == dataset.train_size and len(test.images) == dataset.test_size
    counts = np.bincount(train.images[..., 0].ravel(), minlength=256)
    values = np.arange(256)
    mean = (counts * values).sum() / counts.sum()
    std = np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum())
    np.testing.assert_allclose((dataset.mean, dataset.std), ((mean,) * 3, (std,) * 3), atol=5e-4)
    # The first test images are an ankle boot, a pullover, two pairs of trousers.
    assert [dataset.class_names[label] for label in test.labels[:4]] == ["ankle boot", "pullover", "trouser", "trouser"]
