"""FILE.rec.json, the note that a file was checked, and files made to take long."""

import json
import os
import struct
import time

import make_archives
import numpy as np
import pytest

from igc_gluon.data import record_file, recordio, repair
from igc_gluon.errors import UserError


def write(path, count=5, label=1.0):
    image = make_archives.jpeg(np.zeros((8, 8, 3), np.uint8))
    frames = [recordio.frame(recordio.encode(label, number, image)) for number in range(count)]
    path.write_bytes(b"".join(frames))
    repair.write_index(path)
    return frames


def note_of(path):
    return path.with_name(path.name + ".json")


def same_times(path, before):
    for file, status in zip((path, record_file.index_path(path)), before):
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def statuses(path):
    return [os.stat(path), os.stat(record_file.index_path(path))]


def test_a_note_saves_reading_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.rec"
    write(path)
    structure = record_file.structure(path)
    assert structure == record_file.Structure(5, 1.0, 1.0)
    monkeypatch.setattr(record_file, "_walk", lambda *args: pytest.fail("the file is read again"))
    assert record_file.structure(path) == structure


def test_an_index_beyond_what_files_can_be_beside_a_note_that_fits_it(tmp_path):
    path = tmp_path / "a.rec"
    write(path)
    record_file.structure(path)
    record_file.index_path(path).write_text(f"0\t{2**63 - 4}\n")
    note = json.loads(note_of(path).read_text())
    note["stamp"] = [[status.st_size, status.st_mtime_ns] for status in statuses(path)]
    note_of(path).write_text(json.dumps(note))
    with pytest.raises(UserError, match="do not fit together"):
        record_file.structure(path)


@pytest.mark.parametrize("what", ["frame of the first", "frame of the last", "index"])
def test_a_stale_note_is_not_believed(tmp_path, what):
    """Size and time fit."""
    path = tmp_path / "a.rec"
    frames = write(path)
    record_file.structure(path)
    before, data = statuses(path), bytearray(path.read_bytes())
    if what == "index":
        index = record_file.index_path(path)
        positions = index.read_text().split()
        positions[3] = str(int(positions[3]) + 4).zfill(len(positions[3]))
        index.write_text("".join(f"{a}\t{b}\n" for a, b in zip(positions[::2], positions[1::2])))
    else:
        data[4 if "first" in what else len(data) - len(frames[-1]) + 4] ^= 8
        path.write_bytes(data)
    same_times(path, before)
    assert [(s.st_size, s.st_mtime_ns) for s in statuses(path)] == [(s.st_size, s.st_mtime_ns) for s in before]
    with pytest.raises(UserError, match="igc data verify"):
        record_file.structure(path)


@pytest.mark.parametrize(
    "structure",
    [
        {"records": 10**9, "smallest_label": 0.0, "largest_label": 1.0},
        {"records": "5", "smallest_label": 0.0, "largest_label": 1.0},
        {"records": 5, "smallest_label": float("nan"), "largest_label": 1.0},
        {"records": 5, "smallest_label": [0], "largest_label": 1.0},
        {"records": 5, "smallest_label": 0.5, "largest_label": 1},
        {"records": 5, "smallest_label": -1.0, "largest_label": 1.0},
        {"records": 5},
        [],
        None,
        7,
        {"x": 1},
    ],
)
def test_a_forged_note_is_not_believed(tmp_path, structure):
    path = tmp_path / "a.rec"
    write(path)
    record_file.structure(path)
    note = json.loads(note_of(path).read_text())
    note_of(path).write_text(json.dumps({**note, "structure": structure}))
    assert record_file.structure(path) == record_file.Structure(5, 1.0, 1.0)
    assert json.loads(note_of(path).read_text()) == note


@pytest.mark.parametrize("text", ["", "[" * 100000, "5", '{"stamp": 5}'])
def test_a_damaged_note_is_made_anew(tmp_path, text):
    path = tmp_path / "a.rec"
    write(path)
    note_of(path).write_text(text)
    assert record_file.structure(path) == record_file.Structure(5, 1.0, 1.0)


def test_a_pipe_in_place_of_a_note_is_not_waited_for(tmp_path):
    path = tmp_path / "a.rec"
    write(path)
    os.mkfifo(note_of(path))
    assert record_file.structure(path) == record_file.Structure(5, 1.0, 1.0)


@pytest.mark.parametrize("length", [100, (1 << 27) - 8])
def test_a_file_of_heads_alone_is_scanned_at_once(tmp_path, length):
    """Each claims to be long; the time was the square of the file's length."""
    path = tmp_path / "a.rec"
    path.write_bytes((struct.pack("<II", recordio.MAGIC, length) + bytes(24)) * (1 << 16))
    begin = time.process_time()
    records = sum(1 for _ in recordio.scan(path))
    assert records == 1 << 16 and time.process_time() - begin < 20


def test_a_record_that_is_not_cut_where_it_holds_the_magic_word_is_one_line(tmp_path):
    """A writer cuts it there; it has a checksum, which fits."""
    path = tmp_path / "a.rec"
    frames = write(path)
    payload = recordio.encode(1.0, 5, struct.pack("<II", recordio.MAGIC, 0))
    path.write_bytes(b"".join([*frames, struct.pack("<II", recordio.MAGIC, len(payload)), payload]))
    index = record_file.index_path(path)
    index.write_text(index.read_text() + f"5\t{sum(map(len, frames))}\n")
    with pytest.raises(UserError, match="the record at byte .* is not what was written"):
        record_file.structure(path)


def image_with_checksum(wanted, label, number):
    """A JPEG, with four bytes behind its end that bring the record's checksum to `wanted`."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
        table.append(value)
    image = make_archives.jpeg(np.zeros((8, 8, 3), np.uint8))
    state = wanted ^ 0xFFFFFFFF
    for byte in reversed((recordio.checksum(label, number, image) ^ 0xFFFFFFFF).to_bytes(4, "little")):
        index = next(i for i, value in enumerate(table) if value >> 24 == state >> 24)
        state = (state ^ table[index]) << 8 & 0xFFFFFFFF | index ^ byte
    return image + state.to_bytes(4, "little")


def test_a_checksum_that_is_the_magic_word(tmp_path):
    """The record is cut within its header, and is as whole as any other; there is no note that could be damaged."""
    image = image_with_checksum(recordio.MAGIC, 1.0, 5)
    assert recordio.checksum(1.0, 5, image) == recordio.MAGIC
    path = tmp_path / "m.rec"
    frames = write(path)
    special = recordio.frame(recordio.encode(1.0, 5, image))
    assert special.count(struct.pack("<I", recordio.MAGIC)) == 2  # it heads both parts
    path.write_bytes(b"".join([*frames, special, frames[0]]))
    assert repair.write_index(path) == 7
    assert record_file.structure(path) == record_file.Structure(7, 1.0, 1.0)
    assert [encoded for _, encoded in recordio.read_records(path)][5] == image
