"""CIFAR from archives, unpacked files and damaged ones."""

import gzip
import io
import logging
import tarfile

import make_archives
import numpy as np
import pytest

from igc_gluon.data import load
from igc_gluon.errors import UserError

ARCHIVE = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}


def check(loaded, expected):
    images, labels = expected
    assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int32
    assert loaded.images.transpose(0, 3, 1, 2).flags.c_contiguous  # plane by plane, as in the archive
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_array_equal(loaded.labels, labels)


@pytest.mark.parametrize("subfolder", [".", "cifar10"])
def test_cifar10_archive(tmp_path, subfolder, caplog):
    members, train, test = make_archives.cifar10_members()
    (tmp_path / subfolder).mkdir(exist_ok=True)
    make_archives.tar(tmp_path / subfolder / ARCHIVE["cifar10"], members)
    with caplog.at_level(logging.WARNING):
        check(load("cifar10", "train", tmp_path), train)
        check(load("CIFAR10", "test", str(tmp_path)), test)
    assert len(caplog.records) == 1 and "not the official file" in caplog.text


def test_members_are_taken_in_order_of_name_not_of_storage(tmp_path):
    members, train, _ = make_archives.cifar10_members()
    make_archives.tar(tmp_path / ARCHIVE["cifar10"], dict(reversed(list(members.items()))))
    check(load("cifar10", "train", tmp_path), train)


@pytest.mark.parametrize("mode", ["w", "w:xz"])
def test_repacked_archive_without_folder(tmp_path, mode):
    members, train, _ = make_archives.cifar10_members()
    members = {name.split("/")[1]: content for name, content in members.items()}
    make_archives.tar(tmp_path / ARCHIVE["cifar10"], members, mode)
    check(load("cifar10", "train", tmp_path), train)


def test_cifar100_has_fine_labels(tmp_path):
    images, fine = make_archives.random_images(120, 100)
    content = make_archives.cifar_bin(images, fine, coarse=fine // 5)
    make_archives.tar(
        tmp_path / ARCHIVE["cifar100"],
        {"cifar-100-binary/train.bin": content, "cifar-100-binary/test.bin": content[: 3074 * 7]},
    )
    check(load("cifar100", "train", tmp_path), (images, fine))
    check(load("cifar100", "test", tmp_path), (images[:7], fine[:7]))


@pytest.mark.parametrize("folder", [".", "cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"])
def test_unpacked_files(tmp_path, folder):
    members, train, test = make_archives.cifar10_members()
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        (tmp_path / folder / name.split("/")[1]).write_bytes(content)
    check(load("cifar10", "train", tmp_path), train)
    check(load("cifar10", "test", tmp_path), test)
    (tmp_path / folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match="but not data_batch_3.bin"):
        load("cifar10", "train", tmp_path)


def test_default_folder_follows_mxnet_home(tmp_path, monkeypatch):
    members, train, _ = make_archives.cifar10_members()
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    (tmp_path / "datasets" / "cifar10").mkdir(parents=True)
    make_archives.tar(tmp_path / "datasets" / "cifar10" / ARCHIVE["cifar10"], members)
    check(load("cifar10", "train"), train)


def flipped(content, position):
    changed = bytearray(content)
    changed[position] ^= 0xFF
    return bytes(changed)


def archive_bytes(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def damaged_archives():
    members, _, _ = make_archives.cifar10_members()
    whole = archive_bytes(members)
    one = "cifar-10-batches-bin/data_batch_2.bin"

    def with_one(content):
        return archive_bytes({**members, one: content})

    huge = tarfile.TarInfo(one)
    huge.size = 1 << 40
    return {
        "empty file": (b"", "not a whole tar archive"),
        "no tar": (b"<html>404</html>" * 100, "not a whole tar archive"),
        "truncated": (whole[: len(whole) // 2], "not a whole tar archive"),
        "last byte missing": (whole[:-1], "not a whole tar archive"),
        "byte flipped in the middle": (flipped(whole, len(whole) // 2), "not a whole tar archive"),
        "checksum flipped": (flipped(whole, len(whole) - 6), "not a whole tar archive"),
        "member missing": (
            archive_bytes({name: content for name, content in members.items() if name != one}),
            "does not hold data_batch_2.bin",
        ),
        "python version": (archive_bytes({"cifar-10-batches-py/data_batch_1": b"pickle"}), "is it the binary version"),
        "member is a link": (gzip.compress(link(one)), "does not hold"),
        "claims a terabyte": (gzip.compress(huge.tobuf() + b"\0" * 2048), "claims 1,099,511,627,776 bytes"),
        "member truncated": (with_one(members[one][:-1]), "data_batch_2.bin has 30,729 bytes"),
        "member empty": (with_one(b""), "data_batch_2.bin is empty"),
        "label out of range": (
            with_one(flipped(members[one], 3073 * 4)),
            f"record 4 has label {255 - 4}, but cifar10 has labels 0 to 9",
        ),
    }


def link(name):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info.tobuf() + b"\0" * 1024


@pytest.mark.parametrize("kind", damaged_archives())
def test_damaged_archive_is_one_clear_line(tmp_path, kind):
    content, message = damaged_archives()[kind]
    path = tmp_path / ARCHIVE["cifar10"]
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load("cifar10", "train", tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_any_flipped_byte_of_an_archive_is_refused_or_harmless(tmp_path):
    members, train, _ = make_archives.cifar10_members(train=5, test=1)
    whole = archive_bytes(members)
    path = tmp_path / ARCHIVE["cifar10"]
    refused = 0
    positions = np.random.RandomState(0).randint(0, len(whole), 150)
    for position in positions:
        path.write_bytes(flipped(whole, position))
        try:
            loaded = load("cifar10", "train", tmp_path)
        except UserError:
            refused += 1
        else:  # gzip's own header holds a time and a name, which nobody needs
            check(loaded, train)
    assert refused >= 145
