"""RecordIO, the format of files of labeled images, in Python.

MXNet's own reader ends the process on a damaged file; this one says which record is damaged.

Framing (dmlc-core): magic number, then a word of 3 bits flag and 29 bits length, then that many bytes, padded
with zeros to a multiple of 4; little-endian. A payload that holds the magic number at a multiple of 4 is
split there: flag 1, 2 and 3 mark its first, middle and last part, flag 0 a payload in one part.
Payload (MXNet): flag uint32, label float32, id uint64, id2 uint64; if flag > 0, `flag` float32 labels, which
then stand for the one label; then the encoded image. Records that this package writes have the CRC-32 of label, first
id and image in id2, where MXNet writes 0.
"""

import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from igc_gluon.data import photos
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

MAGIC = 0xCED7230A
WHOLE, FIRST, MIDDLE, LAST = range(4)  # flags
HEADER = struct.Struct("<IfQQ")
_FRAME = struct.Struct("<II")
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_LARGEST_RECORD = 1 << 24  # bytes, of any payload of small images
_LARGEST = 1 << 27  # bytes of a record, as libjpeg's own limit allows for any image that is one


class Payload(NamedTuple):
    """What a record says of its image."""

    labels: np.ndarray  # float32 (n,)
    number: int
    checksum: int  # 0: there is none
    image: bytes  # encoded


def split_word(word: Any) -> Tuple[Any, Any]:
    """(flag, length in bytes) of the second word of a frame, or of an array of such words."""
    return word >> 29, word & ((1 << 29) - 1)


def padded(length: Any) -> Any:
    """Bytes that so many take in a file."""
    return (length + 3) // 4 * 4


def parse(payload: bytes) -> Optional[Payload]:
    """The parts of a record; None where it is too short for its header and labels."""
    if len(payload) < HEADER.size:
        return None
    count, label, number, checksum = HEADER.unpack_from(payload)
    end = HEADER.size + 4 * count
    if len(payload) < end:
        return None
    labels = np.frombuffer(payload, "<f4", count, HEADER.size) if count else np.array([label], np.float32)
    return Payload(labels, number, checksum, payload[end:])


def read_records(path: Union[str, Path]) -> Iterator[Tuple[np.ndarray, bytes]]:
    """Yields (labels float32 (n,), encoded image as bytes) for each record of the file at `path`.

    Raises UserError on the first record that is truncated or damaged, naming it by number and position.
    """
    for number, position, payload in _read_payloads(path):
        if len(payload) < HEADER.size:
            raise UserError(f"{path}: record {number} at byte {position} is too short for an image record")
        record = parse(payload)
        if record is None:
            raise UserError(
                f"{path}: record {number} at byte {position} is too short for its "
                f"{HEADER.unpack_from(payload)[0]:,} labels; the file is damaged"
            )
        yield record.labels, record.image


def _read_payloads(path: Union[str, Path]) -> Iterator[Tuple[int, int, bytes]]:
    """Yields (number, position in bytes, payload) of each record, its parts joined."""
    size = os.path.getsize(path)
    position = number = 0
    parts: List[bytes] = []
    start = 0
    with open_file(path) as file:
        while position < size:
            head = file.read(8)
            if len(head) < 8:
                raise UserError(f"{path} ends in the middle of record {number}; it is truncated")
            magic, word = _FRAME.unpack(head)
            flag, length = split_word(word)
            if magic != MAGIC or flag > LAST:
                raise UserError(
                    f"{path}: there is no record at byte {position}, where record {number} "
                    "should be; the file is damaged or no RecordIO"
                )
            if (flag in (WHOLE, FIRST)) == bool(parts):
                raise UserError(
                    f"{path}: the parts of record {number} at byte {position} are out of order; the file is damaged"
                )
            space = padded(length)
            if position + 8 + space > size:
                raise UserError(f"{path} ends in the middle of record {number}; it is truncated")
            if sum(map(len, parts)) + length > _LARGEST_RECORD:
                raise UserError(
                    f"{path}: record {number} at byte {position} claims more than {_LARGEST_RECORD:,} "
                    "bytes; the file is damaged or of larger images"
                )
            start = start if parts else position
            parts.append(file.read(space)[:length])
            position += 8 + space
            if flag in (WHOLE, LAST):
                yield number, start, _MAGIC_BYTES.join(parts)
                number, parts = number + 1, []
    if parts:
        raise UserError(f"{path} ends in the middle of record {number}; it is truncated")


def first_record(words: np.ndarray) -> Optional[Tuple[bytes, int]]:
    """The payload of the record that `words` begin with, and its length in words; None if there is no whole one."""
    parts: List[bytes] = []
    at = 0
    while at + 2 <= len(words) and words[at] == MAGIC:
        flag, length = split_word(int(words[at + 1]))
        end = at + 2 + padded(length) // 4
        if flag > LAST or (flag in (WHOLE, FIRST)) == bool(parts) or end > len(words) or length > _LARGEST:
            return None
        part = words[at + 2 : end]
        if _holds_magic(part[: length // 4]):  # a writer splits there: this length runs over another record
            return None
        parts.append(part.tobytes()[:length])
        at = end
        if flag in (WHOLE, LAST):
            payload = _MAGIC_BYTES.join(parts)
            # Where no record follows it may be this one's length that is wrong, unless its checksum says otherwise.
            follows = at == len(words) or (
                words[at] == MAGIC and at + 1 < len(words) and split_word(words[at + 1])[0] <= FIRST
            )
            return (payload, at) if follows or _has_checksum(payload) else None
    return None


def _holds_magic(words: np.ndarray) -> bool:
    """Looks at more and more of them: lengths that were made up must not cost the square of a file's."""
    begin, window = 0, 64
    while begin < len(words):
        if (words[begin : begin + window] == MAGIC).any():
            return True
        begin, window = begin + window, 2 * window
    return False


def scan(path: Union[str, Path]) -> Iterator[Tuple[int, Optional[bytes]]]:
    """Yields (position in bytes, payload or None) of everything in the file: None where there is damage, after which it
    goes on with the next record."""
    size = os.path.getsize(path)
    words = np.memmap(path, "<u4", "r", shape=(size // 4,)) if size >= 4 else np.zeros(0, "<u4")
    at = 0
    while at < len(words):
        # A window bounds what a wrong length can reach; the last word says whether a record follows.
        record = first_record(words[at : at + _LARGEST // 4 + 64])
        if record:
            yield 4 * at, record[0]
            at += record[1]
        else:
            yield 4 * at, None
            at = _next_head(words, at + 1)
    if size % 4:
        yield size - size % 4, None


def _next_head(words: np.ndarray, at: int) -> int:
    size = 64  # grows: after much damage the next record is near, and after little perhaps far
    while at < len(words):
        window, size = words[at : at + size], min(2 * size, 1 << 20)
        for place in np.flatnonzero(window == MAGIC):
            if at + place + 1 < len(words) and split_word(words[at + place + 1])[0] <= FIRST:
                return at + int(place)
        at += len(window)
    return len(words)


def encode(label: float, number: int, image: bytes) -> bytes:
    """The payload of a record, with a checksum."""
    return HEADER.pack(0, label, number, checksum(label, number, image)) + image


def checksum(label: float, number: int, image: bytes) -> int:
    """Of a record, in its header."""
    return zlib.crc32(image, zlib.crc32(struct.pack("<fQ", label, number)))


def _has_checksum(payload: bytes) -> bool:
    record = parse(payload)
    return record is not None and record.checksum != 0 and problem_and_label(payload, look=False)[0] is None


def frame(payload: bytes) -> bytes:
    """A payload as it lies in the file."""
    pieces, begin = [], 0
    # Parts end where the magic number stands at a multiple of 4, which is left out.
    for word in np.flatnonzero(np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC):
        pieces.append(payload[begin : 4 * int(word)])
        begin = 4 * int(word) + 4
    pieces.append(payload[begin:])
    flags = [WHOLE] if len(pieces) == 1 else [FIRST] + [MIDDLE] * (len(pieces) - 2) + [LAST]
    return b"".join(
        _FRAME.pack(MAGIC, flag << 29 | len(piece)) + piece + b"\0" * (-len(piece) % 4)
        for flag, piece in zip(flags, pieces)
    )


def problem_and_label(payload: bytes, look: bool = True) -> Tuple[Optional[str], Optional[float]]:
    """(one line why a record is none of an image with one label, or None; its label). look: at the image too."""
    if len(payload) <= HEADER.size:
        return "it is too short for an image record", None
    record, count = parse(payload), HEADER.unpack_from(payload)[0]
    if record is None or not record.image:
        return f"it is too short for its {count:,} labels", None
    if count > 1:
        return f"it has {count} labels", None
    label = float(record.labels[0])
    if record.checksum and record.checksum != checksum(label, record.number, record.image):
        return "it is not what was written: its checksum is another", None
    if not 0 <= label < 1 << 24 or label != int(label):
        return f"its label {label:g} is no class", None
    return ("it holds no readable image" if look and decode(payload)[0] is None else None), label


def decode(payload: bytes) -> Tuple[Optional[np.ndarray], float]:
    """(image or None, see `photos.decode`; label) of a record that is one."""
    record = parse(payload)
    assert record is not None, "problem_and_label has looked at it"
    return photos.decode(np.frombuffer(record.image, np.uint8)), float(record.labels[0])


def read_record(file: BinaryIO, position: int) -> bytes:
    """The payload of the record at `position` of an open file, which threads may share."""
    parts = []
    while True:
        flag, length = split_word(_FRAME.unpack(os.pread(file.fileno(), 8, position))[1])
        parts.append(os.pread(file.fileno(), length, position + 8))
        position += 8 + padded(length)
        if flag in (WHOLE, LAST):
            return _MAGIC_BYTES.join(parts)
