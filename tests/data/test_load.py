"""The table of data sets, and what happens when files are not there."""

import errno
import http.server
import logging
import os
import threading
from dataclasses import replace

import make_archives
import numpy as np
import pytest
from mxnet.gluon.data.vision import datasets as gluon_datasets

from igc_gluon import data, downloads, files
from igc_gluon.data import DATASETS, load
from igc_gluon.errors import UserError


def test_constants_of_the_authors():
    constants = {name: (row.mean, row.std) for name, row in DATASETS.items()}
    assert constants["cifar10"] == ((125.307, 122.950, 113.865), (62.993, 62.089, 66.705))
    assert constants["cifar100"] == ((129.304, 124.070, 112.434), (68.170, 65.392, 70.418))
    assert constants["svhn"] == ((111.609, 113.161, 120.565), (50.498, 51.259, 50.244))


def test_sizes_and_augmentation_of_the_paper():
    assert {
        name: (row.classes, row.train_size, row.test_size, row.augment, row.mirror) for name, row in DATASETS.items()
    } == {
        "cifar10": (10, 50000, 10000, True, True),
        "cifar100": (100, 50000, 10000, True, True),
        "svhn": (10, 598388, 26032, False, False),
        "tiny-imagenet": (200, 100000, 10000, True, True),
        "digits": (10, 1437, 360, True, False),
        "fashion-mnist": (10, 60000, 10000, True, True),
        "mnist": (10, 60000, 10000, True, False),
        "kmnist": (10, 60000, 10000, True, False),
    }
    assert 73257 + 531131 - 10 * (400 + 200) == DATASETS["svhn"].train_size


@pytest.mark.parametrize("name, theirs", [("cifar10", gluon_datasets.CIFAR10), ("cifar100", gluon_datasets.CIFAR100)])
def test_digests_of_the_mirror_are_those_in_mxnet(name, theirs, monkeypatch):
    monkeypatch.setattr(theirs, "_get_data", lambda self: None)
    (archive,) = DATASETS[name].archives
    mirror = archive.sources[1]
    assert theirs()._archive_file == (archive.name, mirror.digest) and mirror.algorithm == "sha1"


def test_unknown_names_and_splits():
    with pytest.raises(
        UserError,
        match="no data set 'cifar'; there are cifar10, cifar100, svhn, "
        "tiny-imagenet, digits, fashion-mnist, mnist, kmnist",
    ):
        load("cifar", "train")
    with pytest.raises(UserError, match="cifar10 has no split 'validation'; it has train, test"):
        load("cifar10", "validation")


@pytest.mark.parametrize(
    "name, archive",
    [("cifar10", "cifar-10-binary.tar.gz"), ("cifar100", "cifar-100-binary.tar.gz"), ("svhn", "train_32x32.mat")],
)
def test_without_files_the_message_says_what_to_put_where(tmp_path, name, archive, monkeypatch):
    with pytest.raises(UserError) as caught:
        load(name, "train", tmp_path, download=False)
    message = str(caught.value)
    assert f"there is no {archive} in {tmp_path}" in message
    assert DATASETS[name].archives[0].sources[0].url in message
    assert "train.rec and test.rec" in message and "--dataset digits needs no files" in message
    assert "\n" not in message

    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr(downloads, "PAUSE", 0)
    with pytest.raises(UserError) as caught:
        load(name, "train", tmp_path)
    message = str(caught.value)
    assert "no connection to" in message and f"put it at {tmp_path / archive}" in message
    assert "train.rec and test.rec" in message and "--dataset digits needs no files" in message
    assert "\n" not in message


def test_data_dir_that_is_a_file(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is not a folder"):
        load("cifar10", "train", tmp_path / "x.tar.gz")


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    make_archives.tar(tmp_path / "cifar-10-binary.tar.gz", make_archives.cifar10_members()[0])

    def denied(path, *args):  # chmod would not keep root out
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(files, "digest", denied)
    with pytest.raises(UserError, match="cannot read .*cifar-10-binary.tar.gz: Permission denied"):
        load("cifar10", "train", tmp_path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A tiny CIFAR-10 archive on a loopback server; the table names it as the second source."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE", 0)
    folder = tmp_path / "server"
    folder.mkdir()
    members, train, _ = make_archives.cifar10_members()
    make_archives.tar(folder / "cifar-10-binary.tar.gz", members)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    row = DATASETS["cifar10"]
    (archive,) = row.archives
    url = f"http://127.0.0.1:{server.server_port}/"
    sha256 = files.digest(folder / archive.name, "sha256")
    sources = (
        replace(archive.sources[0], url=url + "nothing"),
        data.registry.Source(url + archive.name, "sha256", sha256),
    )
    monkeypatch.setitem(DATASETS, "cifar10", replace(row, archives=(replace(archive, sources=sources),)))
    yield train
    server.shutdown()
    thread.join()
    server.server_close()


def test_missing_archive_is_downloaded_once_from_the_mirror(tmp_path, served, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        loaded = load("cifar10", "train", tmp_path / "new")
        np.testing.assert_array_equal(loaded.images, served[0])
        assert [entry.name for entry in (tmp_path / "new").iterdir() if not entry.name.startswith(".")] == [
            "cifar-10-binary.tar.gz"
        ]
        monkeypatch.setattr(downloads, "download", None)  # a second download would fail
        np.testing.assert_array_equal(load("cifar10", "train", tmp_path / "new").images, served[0])
    assert not caplog.records


def test_archives_come_before_unpacked_files_before_records(tmp_path):
    members, train, _ = make_archives.cifar10_members()
    one = np.full((3, 32, 32, 3), 7, np.uint8)
    make_archives.record_file(tmp_path / "train.rec", one, [1, 2, 3])
    assert load("cifar10", "train", tmp_path).labels.tolist() == [1, 2, 3]
    for number in range(1, 6):
        (tmp_path / f"data_batch_{number}.bin").write_bytes(make_archives.cifar_bin(one, [4, 5, 6]))
    assert load("cifar10", "train", tmp_path).labels.tolist() == [4, 5, 6] * 5
    make_archives.tar(tmp_path / "cifar-10-binary.tar.gz", members)
    np.testing.assert_array_equal(load("cifar10", "train", tmp_path).images, train[0])
