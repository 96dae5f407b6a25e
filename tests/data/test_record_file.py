"""Record files: checked against MXNet's own writer and reader, and damaged in every way."""

import struct

import mxnet as mx
import numpy as np
import pytest

from igc_gluon.data import record_file, recordio, repair
from igc_gluon.data.recordio import MAGIC, read_records
from igc_gluon.errors import UserError


def jpeg(seed=0, side=16):
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3))
    return cv2.imencode(".jpg", np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8))[1].tobytes()


def write(path, labels=(0, 1, 2, 0, 1), images=None):
    """With our own writer, index and all."""
    at, lines = 0, []
    with open(path, "wb") as file:
        for number, label in enumerate(labels):
            framed = recordio.frame(recordio.encode(label, number, images[number] if images else jpeg(number)))
            lines.append(f"{number}\t{at}\n")
            at += file.write(framed)
    record_file.index_path(path).write_text("".join(lines))
    return path


def positions(path):
    return [int(line.split()[1]) for line in record_file.index_path(path).read_text().splitlines()]


def test_mxnet_reads_what_is_written_here(tmp_path):
    # Images that hold the magic number, which is where records are split.
    magic = struct.pack("<I", MAGIC)
    images = [jpeg(0), magic + b"xyz", b"abcd" + magic * 2 + b"e", b"a" + magic]
    path = write(tmp_path / "a.rec", (7, 0, 3, 5), images)
    reader = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), str(path), "r")
    for number, image in enumerate(images):
        header, content = mx.recordio.unpack(reader.read_idx(number))
        assert (header.label, header.id, content) == ((7, 0, 3, 5)[number], number, image)
    assert [content for _, content in read_records(path)] == images
    assert record_file.structure(path) == record_file.Structure(4, 0.0, 7.0)


def test_mxnets_own_files_pass(tmp_path):
    writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / "a.idx"), str(tmp_path / "a.rec"), "w")
    for number in range(9):
        label = float(number) if number % 2 else [float(number)]
        writer.write_idx(number, mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), jpeg(number)))
    writer.close()
    assert record_file.structure(tmp_path / "a.rec") == record_file.Structure(9, 0.0, 8.0)
    report = repair.verify(tmp_path / "a.rec")
    assert (report.whole, report.broken, report.largest_label) == (9, [], 8.0)


def test_the_facts_are_taken_until_the_file_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.rec")
    expected = record_file.structure(path)
    monkeypatch.setattr(record_file, "_walk", None)
    assert record_file.structure(path) == expected
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        record_file.structure(path)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda b, at: b"", "is empty"),
        (lambda b, at: b[:-4], "damaged"),
        (lambda b, at: b[:-3], "truncated"),
        (lambda b, at: b[: at[-1]], "do not fit together"),
        (lambda b, at: b[: at[1]] + b"\0\0\0\0" + b[at[1] + 4 :], "damaged"),
        (lambda b, at: b[: at[1] + 4] + struct.pack("<I", 5) + b[at[1] + 8 :], "damaged"),
        (lambda b, at: b[: at[1] + 8] + struct.pack("<I", 2) + b[at[1] + 12 :], "damaged"),  # two labels
        (lambda b, at: b[: at[1] + 12] + struct.pack("<f", -1) + b[at[1] + 16 :], "a label that is no class"),
        (lambda b, at: b[: at[1] + 12] + struct.pack("<f", np.nan) + b[at[1] + 16 :], "a label that is no class"),
        (lambda b, at: b[: at[1] + 12] + struct.pack("<f", 1.5) + b[at[1] + 16 :], "a label that is no class"),
        (lambda b, at: b"no records at all" * 99, "damaged|do not fit"),
    ],
)
def test_damage_that_mxnet_must_not_meet(tmp_path, damage, message):
    path = write(tmp_path / "a.rec")
    path.write_bytes(damage(path.read_bytes(), positions(path)))
    with pytest.raises(UserError, match=message) as caught:
        record_file.structure(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        ("0\t0\n1", "cut off"),
        ("0\tx\n", "damaged"),
        ("0\t-4\n", "damaged"),
        ("0\t0\n1\t0\n", "damaged"),
        ("0\t0\n", "damaged"),
        ("0\t4\n", "damaged"),
        ("0\t99999999996\n", "do not fit"),
        ("0\t" + "9" * 30, "damaged"),
        *((f"0\t{near}\n", "damaged|do not fit") for near in (2**63 - 4, 2**63 - 1, 2**63, -(2**63), 2**64 - 4)),
    ],
)
def test_an_index_that_does_not_fit(tmp_path, text, message):
    path = write(tmp_path / "a.rec")
    record_file.index_path(path).write_text(text)
    with pytest.raises(UserError, match=message):
        record_file.structure(path)
    assert repair.write_index(path) == 5
    assert record_file.structure(path).records == 5


def test_without_index(tmp_path):
    path = write(tmp_path / "a.rec")
    expected = record_file.index_path(path).read_text()
    record_file.index_path(path).unlink()
    with pytest.raises(UserError, match="a.rec has no index a.idx beside it; igc data verify .* --index"):
        record_file.structure(path)
    repair.write_index(path)
    assert record_file.index_path(path).read_text() == expected


def test_verify_finds_every_broken_record_and_drops_it(tmp_path):
    path = write(tmp_path / "a.rec", [0, 1, 2, 3, 4, 5, 6], [jpeg(i) for i in range(6)] + [b"no image"])
    at, content = positions(path), bytearray(path.read_bytes())
    content[at[1] + 60] ^= 1  # within the image
    content[at[2] + 12] ^= 64  # within the label
    content[at[3] + 5] ^= 1  # its length, by 256
    content[at[4]] ^= 1  # the magic number
    path.write_bytes(content + b"xy")
    report = repair.verify(path, tmp_path / "good.rec", threads=2)
    assert report.whole == 2 and len(report.broken) == 5
    by_position = {position: problem for _, position, problem in report.broken}
    assert "checksum" in by_position[at[1]] and "checksum" in by_position[at[2]]
    assert by_position[at[3]] == repair.DAMAGE and by_position[at[6]] == "it holds no readable image"
    assert len(content) in by_position
    assert record_file.structure(tmp_path / "good.rec") == record_file.Structure(2, 0.0, 5.0)
    assert [int(labels[0]) for labels, _ in read_records(tmp_path / "good.rec")] == [0, 5]
    with pytest.raises(UserError, match="good.rec exists"):
        repair.verify(path, tmp_path / "good.rec")


def test_nothing_is_left_of_a_repair_that_finds_nothing(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"\0" * 4000)
    with pytest.raises(UserError, match="has no whole record"):
        repair.verify(tmp_path / "a.rec", tmp_path / "good.rec")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rec"]


def test_any_mutation_is_refused_or_as_before_and_never_crashes(tmp_path):
    path = write(tmp_path / "a.rec")
    whole, expected = path.read_bytes(), record_file.structure(path)
    payloads = [payload for _, payload in recordio.scan(path)]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 4)):
            content[place] = rng.integers(256)
        path.write_bytes(bytes(content[: rng.integers(len(content))] if rng.random() < 0.2 else content))
        try:
            structure = record_file.structure(path)
            assert structure.records == expected.records
        except UserError:
            refused += 1
        report = repair.verify(path)
        # What pads a record to a multiple of 4 bytes is nobody's.
        assert report.broken or [payload for _, payload in recordio.scan(path)] == payloads
    assert refused > 20
