"""Tiny ImageNet from zips in the official layout, right ones and ones damaged in every way."""

import logging
import random
import zipfile

import cv2
import make_archives
import numpy as np
import pytest

from igc_gluon.data import DATASETS, load
from igc_gluon.errors import UserError

ZIP = "tiny-imagenet-200.zip"
TOP = "tiny-imagenet-200/"


@pytest.fixture(scope="module")
def official():
    return make_archives.tiny_imagenet_members(per_class=2)


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.ERROR)  # a tiny archive is not the official file, which load says


def decoded(encoded):
    """RGB by the definition: three times the one channel of a gray image."""
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.stack([image] * 3, axis=2) if image.ndim == 2 else image[:, :, ::-1]


@pytest.mark.parametrize("where", ["", "tiny-imagenet"])
def test_a_zip(tmp_path, official, where):
    members, train, validation = official
    (tmp_path / where).mkdir(exist_ok=True)
    make_archives.zip_file(tmp_path / where / ZIP, members)
    number = {identifier: label for label, identifier in enumerate(sorted({i for _, i in train}))}
    assert len(number) == 200
    train = sorted(train, key=lambda image: number[image[1]])
    for split, expected in (("train", train), ("test", validation)):  # in the order of the annotations
        loaded = load("tiny-imagenet", split, tmp_path)
        assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int32
        np.testing.assert_array_equal(loaded.images, [decoded(encoded) for encoded, _ in expected])
        np.testing.assert_array_equal(loaded.labels, [number[identifier] for _, identifier in expected])
    assert [entry.name for entry in (tmp_path / where).iterdir()] == [ZIP]  # nothing is unpacked


@pytest.mark.parametrize("inside", [TOP, "tiny-imagenet/" + TOP, ""])
def test_an_unpacked_folder(tmp_path, official, inside):
    members, _, _ = official
    make_archives.zip_file(tmp_path / ZIP, members)
    expected = [load("tiny-imagenet", split, tmp_path) for split in ("train", "test")]
    folder = tmp_path / "unpacked"
    for name, content in members.items():
        path = folder / (inside + name[len(TOP) :])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for split, (images, labels) in zip(("train", "test"), expected):
        loaded = load("tiny-imagenet", split, folder, download=False)
        np.testing.assert_array_equal(loaded.images, images)
        np.testing.assert_array_equal(loaded.labels, labels)
    (folder / inside / "val/images/val_3.JPEG").unlink()
    with pytest.raises(UserError, match="does not hold val/images/val_3.JPEG; unpack the archive again"):
        load("tiny-imagenet", "test", folder, download=False)


def test_records_of_64x64(tmp_path):
    images = np.random.RandomState(0).randint(0, 256, (3, 64, 64, 3)).astype(np.uint8)
    make_archives.record_file(tmp_path / "train.rec", images, [0, 1, 199])
    loaded = load("tiny-imagenet", "train", tmp_path)
    np.testing.assert_array_equal(loaded.images, images)
    make_archives.record_file(tmp_path / "train.rec", images[:, :32, :32], [0, 1, 2])
    with pytest.raises(UserError, match="32x32 pixels, not 64x64"):
        load("tiny-imagenet", "train", tmp_path)


def some_class(members):
    return next(name.split("/")[2] for name in members if "_boxes" in name)


def without(name):
    return lambda members: {key: value for key, value in members.items() if key != TOP + name(members)}


def changed(name, change):
    def damage(members):
        key = TOP + (name(members) if callable(name) else name)
        return {**members, key: change(members[key])}

    return damage


def first_image(members):
    return f"train/{some_class(members)}/images/{some_class(members)}_0.JPEG"


def boxes(members):
    return f"train/{some_class(members)}/{some_class(members)}_boxes.txt"


def lines(change):
    return lambda text: "\n".join(change(text.decode().splitlines())).encode()


BIG = make_archives.jpeg(np.zeros((64, 32, 3), np.uint8))
DAMAGED = {
    "no class list": ("train", without(lambda m: "wnids.txt"), "does not hold wnids.txt; is it tiny-imagenet-200.zip"),
    "no boxes": ("train", without(boxes), "does not hold train/n.*_boxes.txt; the archive is not complete"),
    "no image": ("train", without(first_image), "does not hold train/n.*_0.JPEG; the archive is not complete"),
    "no annotations": ("test", without(lambda m: "val/val_annotations.txt"), "does not hold val/val_annotations.txt"),
    "no val image": ("test", without(lambda m: "val/images/val_7.JPEG"), "does not hold val/images/val_7.JPEG"),
    "few classes": ("test", changed("wnids.txt", lines(lambda t: t[:-1])), "199 different classes.*has 200"),
    "a class twice": ("test", changed("wnids.txt", lines(lambda t: t[:-1] + t[:1])), "199 different classes"),
    "no class": ("test", changed("wnids.txt", lines(lambda t: t[:-1] + ["cat"])), "'cat', which is no WordNet id"),
    "blank line": (
        "test",
        changed("wnids.txt", lines(lambda t: t[:5] + [""] + t[5:])),
        "line 6 of wnids.txt has 0 of 1",
    ),
    "binary list": ("test", changed("wnids.txt", lambda text: b"\xff\xfe" + text), "wnids.txt is no text"),
    "empty list": ("test", changed("val/val_annotations.txt", lambda text: b""), "val_annotations.txt is empty"),
    "unknown class": (
        "test",
        changed("val/val_annotations.txt", lines(lambda t: ["val_0.JPEG\tn99999999\t0"] + t[1:])),
        "gives val_0.JPEG the class 'n99999999', which is not in wnids.txt",
    ),
    "short line": (
        "test",
        changed("val/val_annotations.txt", lines(lambda t: t[:2] + ["val_2.JPEG"])),
        "line 3 of val/val_annotations.txt has 1 of 2 columns",
    ),
    "way out": ("train", changed(boxes, lambda text: b"../../images/secret.JPEG\t0"), "is no name of an image"),
    "no JPEG": ("train", changed(first_image, lambda jpeg: b"GIF89a" + bytes(100)), "_0.JPEG is no whole JPEG"),
    "empty JPEG": ("train", changed(first_image, lambda jpeg: b""), "_0.JPEG is no whole JPEG"),
    "noise": ("train", changed(first_image, lambda jpeg: bytes(range(255)) * 3 + b"\xff\xd9"), "is no whole JPEG"),
    "half a JPEG": ("train", changed(first_image, lambda jpeg: jpeg[: len(jpeg) // 2]), "is no whole JPEG"),
    "size": ("train", changed(first_image, lambda jpeg: BIG), "_0.JPEG has 32x64 pixels, not 64x64"),
    "giant": ("train", changed(first_image, lambda jpeg: bytes(1 << 21)), "claims 2,097,152 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damage_is_one_clear_line(tmp_path, official, damage):
    split, change, message = DAMAGED[damage]
    make_archives.zip_file(tmp_path / ZIP, change(official[0]))
    with pytest.raises(UserError, match=message) as caught:
        load("tiny-imagenet", split, tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path / ZIP) in str(caught.value)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda content: content[:-1000], "is not a whole zip archive .* fetch it again"),
        (lambda content: content[:1000], "is not a whole zip archive"),
        (lambda content: b"", "is not a whole zip"),
        (lambda content: b"<html>Not Found</html>" * 100, "is not a whole zip archive"),
    ],
)
def test_files_that_are_no_zip(tmp_path, official, damage, message):
    make_archives.zip_file(tmp_path / ZIP, official[0])
    (tmp_path / ZIP).write_bytes(damage((tmp_path / ZIP).read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load("tiny-imagenet", "train", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_an_image(tmp_path, official):
    members = official[0]
    make_archives.zip_file(tmp_path / ZIP, members)
    content = bytearray((tmp_path / ZIP).read_bytes())
    content[content.index(members[TOP + first_image(members)]) + 300] ^= 4
    (tmp_path / ZIP).write_bytes(content)
    with pytest.raises(UserError, match=r"_0.JPEG is damaged \(Bad CRC-32.*\); delete the archive or fetch"):
        load("tiny-imagenet", "train", tmp_path)


def test_flipped_bits_anywhere_are_found_or_harmless(tmp_path):
    """Headers, the central directory, compressed texts: an error of one line, or the same images."""
    members, train, _ = make_archives.tiny_imagenet_members(per_class=1, val=3)
    make_archives.zip_file(tmp_path / ZIP, members)
    whole = load("tiny-imagenet", "test", tmp_path)
    content = (tmp_path / ZIP).read_bytes()
    directory = content.index(b"PK\x01\x02")
    rng = random.Random(0)
    refused = 0
    for trial in range(60):
        damaged = bytearray(content)
        damaged[rng.randrange(directory if trial % 2 else 0, len(content))] ^= 1 << rng.randrange(8)
        (tmp_path / ZIP).write_bytes(damaged)
        try:
            loaded = load("tiny-imagenet", "test", tmp_path)
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(loaded.images, whole.images)
            np.testing.assert_array_equal(loaded.labels, whole.labels)
    assert refused


def test_an_encrypted_member(tmp_path, official):
    make_archives.zip_file(tmp_path / ZIP, official[0])
    content = bytearray((tmp_path / ZIP).read_bytes())
    with zipfile.ZipFile(tmp_path / ZIP) as archive:
        member = archive.getinfo(TOP + "wnids.txt")
    entry = content.index(b"PK\x01\x02")  # of wnids.txt, the first member
    content[member.header_offset + 6] |= 1
    content[entry + 8] |= 1
    (tmp_path / ZIP).write_bytes(content)
    with pytest.raises(UserError, match="wnids.txt is damaged .*encrypted"):
        load("tiny-imagenet", "train", tmp_path)


def test_without_files(tmp_path):
    with pytest.raises(UserError, match=f"there is no {ZIP} in .*http://cs231n.stanford.edu/{ZIP}"):
        load("tiny-imagenet", "train", tmp_path, download=False)


def test_the_row_of_the_paper():
    row = DATASETS["tiny-imagenet"]
    assert (row.classes, row.size, row.short_side, row.mirror, row.augment, row.pads) == (
        200,
        64,
        (64, 80),
        True,
        True,
        False,
    )
    assert (row.train_size, row.test_size) == (200 * 500, 200 * 50)
    assert [name for name, row in DATASETS.items() if row.pads] == [
        "cifar10",
        "cifar100",
        "digits",
        "fashion-mnist",
        "mnist",
        "kmnist",
    ]
