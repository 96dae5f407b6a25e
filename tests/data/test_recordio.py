"""The authors' RecordIO files, written here by MXNet itself, and damaged ones."""

import struct

import make_archives
import mxnet as mx
import numpy as np
import pytest

from igc_gluon.data import load
from igc_gluon.data.recordio import MAGIC, read_records
from igc_gluon.errors import UserError


def test_records_written_by_mxnet(tmp_path):
    images, labels = make_archives.random_images(40, 100)
    make_archives.record_file(tmp_path / "train.rec", images, labels)
    make_archives.record_file(tmp_path / "test.rec", images[:9], labels[:9])
    train = load("cifar100", "train", tmp_path)
    np.testing.assert_array_equal(train.images, images)
    np.testing.assert_array_equal(train.labels, labels)
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int32
    assert len(load("cifar100", "test", tmp_path).images) == 9


def test_jpeg_equals_what_mxnet_decodes(tmp_path):
    coarse = np.random.RandomState(0).randint(0, 256, (5, 4, 4, 3))
    images = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.uint8)
    make_archives.record_file(tmp_path / "train.rec", images, range(5), ending=".jpg")
    loaded = load("cifar10", "train", tmp_path)
    reader = mx.recordio.MXRecordIO(str(tmp_path / "train.rec"), "r")
    for image in loaded.images:
        _, encoded = mx.recordio.unpack(reader.read())
        np.testing.assert_array_equal(image, mx.image.imdecode(encoded).asnumpy())


def test_payload_that_holds_the_magic_number_comes_back_whole(tmp_path):
    magic = struct.pack("<I", MAGIC)
    payloads = [magic * 3, b"abcd" + magic + b"efgh" + magic, b"x" + magic + b"yz", b"", b"plain"]
    writer = mx.recordio.MXRecordIO(str(tmp_path / "a.rec"), "w")
    for payload in payloads:
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, 3, 0, 0), payload))
    writer.close()
    records = list(read_records(tmp_path / "a.rec"))
    assert [encoded for _, encoded in records] == payloads
    assert all(labels.tolist() == [3] for labels, _ in records)


def test_records_with_several_labels(tmp_path):
    images, _ = make_archives.random_images(3, 10)
    make_archives.record_file(tmp_path / "one.rec", images, [[4.0], [5.0], [6.0]])
    assert [labels.tolist() for labels, _ in read_records(tmp_path / "one.rec")] == [[4], [5], [6]]
    (tmp_path / "one.rec").rename(tmp_path / "train.rec")
    assert load("cifar10", "train", tmp_path).labels.tolist() == [4, 5, 6]
    make_archives.record_file(tmp_path / "train.rec", images, [[4.0, 1.0]] * 3)
    assert [labels.tolist() for labels, _ in read_records(tmp_path / "train.rec")] == [[4, 1]] * 3
    with pytest.raises(UserError, match="record 0 has 2 labels; cifar10 needs one"):
        load("cifar10", "train", tmp_path)


@pytest.mark.parametrize("label, said", [(10, "10"), (-1, "-1"), (2.5, "2.5"), (float("nan"), "nan")])
def test_label_that_is_no_class(tmp_path, label, said):
    images, _ = make_archives.random_images(2, 10)
    make_archives.record_file(tmp_path / "train.rec", images, [3, label])
    with pytest.raises(UserError, match=f"record 1 has label {said}, but cifar10 has labels 0 to 9"):
        load("cifar10", "train", tmp_path)


def write(path, *records):
    """records: (magic, flag, payload)."""
    with open(path, "wb") as file:
        for magic, flag, payload in records:
            file.write(struct.pack("<II", magic, flag << 29 | len(payload)) + payload)
            file.write(b"\0" * (-len(payload) % 4))


def test_damaged_files_are_one_clear_line(tmp_path):
    path = tmp_path / "train.rec"
    images, labels = make_archives.random_images(3, 10)
    make_archives.record_file(path, images, labels)
    whole = path.read_bytes()
    second = 8 + (struct.unpack_from("<I", whole, 4)[0] + 3) // 4 * 4
    header = struct.pack("<IfQQ", 0, 1, 0, 0)

    def refused(message):
        with pytest.raises(UserError, match=message) as caught:
            load("cifar10", "train", tmp_path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)

    for cut in (4, 8, 100, second + 4):
        path.write_bytes(whole[:cut])
        refused(f"ends in the middle of record {cut // second}; it is truncated")
    path.write_bytes(whole[:second] + b"\0" + whole[second + 1 :])
    refused(f"no record at byte {second}, where record 1 should be")
    path.write_bytes(whole[:4] + struct.pack("<I", (1 << 29) - 1) + whole[8:])
    refused("ends in the middle of record 0")
    path.write_bytes(b"")
    refused("holds no images")
    for flags in ((2,), (3,), (1, 0), (1, 1)):
        write(path, *((MAGIC, flag, header) for flag in flags))
        refused("out of order")
    write(path, (MAGIC, 1, header), (MAGIC, 2, header))
    refused("ends in the middle of record 0")
    write(path, (MAGIC, 5, header))
    refused("no record at byte 0")
    write(path, (MAGIC, 0, header[:-1]))
    refused("too short for an image record")
    write(path, (MAGIC, 0, struct.pack("<IfQQ", 1 << 31, 1, 0, 0)))
    refused("2,147,483,648 labels")
    for image in (b"", b"no image at all", b"\x89PNG\r\n\x1a\n", b"x" * 100000):
        write(path, (MAGIC, 0, header + image))
        refused("record 0 holds no readable image")
    make_archives.record_file(path, images[:, :28, :30], labels)
    refused("an image of 30x28 pixels")


def test_any_mutation_is_refused_or_loads_and_never_crashes(tmp_path):
    path = tmp_path / "train.rec"
    images, labels = make_archives.random_images(2, 10)
    make_archives.record_file(path, images, labels, ending=".jpg")
    whole = path.read_bytes()
    random = np.random.RandomState(0)
    for _ in range(300):
        content = bytearray(whole)
        for position in random.randint(0, 200 if random.rand() < 0.5 else len(whole), random.randint(1, 4)):
            content[position] = random.randint(256)
        path.write_bytes(bytes(content[: random.randint(len(content))] if random.rand() < 0.2 else content))
        try:
            loaded = load("cifar10", "train", tmp_path)
        except UserError:
            continue
        assert loaded.images.shape[1:] == (32, 32, 3) and loaded.labels.max() < 10


def test_one_record_file_without_the_other(tmp_path):
    images, labels = make_archives.random_images(3, 10)
    make_archives.record_file(tmp_path / "train.rec", images, labels)
    with pytest.raises(UserError, match="train.rec is there, but there is no test.rec beside it"):
        load("cifar10", "test", tmp_path)
