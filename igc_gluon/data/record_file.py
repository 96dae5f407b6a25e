"""Large RecordIO files, as MXNet's ImageRecordIter reads them: checked before they are trained on, scanned for damage.

Of a truncated file, or an index that does not fit, training would hear late, of changed bytes never. So
`structure` looks at the frame of every record and, where a record has one, at its checksum, which means to
read the whole file. What it found stands in `<file>.json` beside the file, so that it is looked at once.

A file FILE.rec has an index FILE.idx: a line for each record, its number and its position in bytes. Records that this
package writes have the CRC-32 of label, first id and image in the second id of their header, where MXNet writes 0.
"""
import hashlib
import json
import os
import shlex
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from igc_gluon.data import photos
from igc_gluon.data.recordio import FIRST, HEADER, LAST, MAGIC, MIDDLE, WHOLE
from igc_gluon.errors import UserError
from igc_gluon.files import open_file, write_atomically

_LENGTH = (1 << 29) - 1
_AT_ONCE = 1 << 16  # records whose frames are looked at together
_LARGEST_NOTE = 1 << 28  # bytes; it names each image that was left out
_SAMPLED = 1000  # records whose frames a note is compared with
_LARGEST = 1 << 27  # bytes of a record, as libjpeg's own limit allows for any image that is one


@dataclass(frozen=True)
class Structure:
    """Of a whole file: how many records it has, and their labels' range."""
    records: int
    smallest_label: float
    largest_label: float


def index_path(path):
    return Path(path).with_suffix(".idx")


def structure(path):
    """The `Structure` of the file at `path`, whose every record has a frame and a place in the index as it should.

    Does not decode the images, see `scan`. Raises UserError on anything that is no whole record, and on bytes
    that are not what was written.
    """
    path = Path(path)
    try:
        stamp = _stamp(path)
        facts, positions = _read_facts(path), read_index(path)
        noted = _noted(facts, stamp, path, positions)
        if noted:
            return noted
        found = _walk(path, positions)
        write_facts(path, found, facts.get("packed"))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    return found


def _noted(facts, stamp, path, positions):
    """The `Structure` in a note that is of this very file, or None: a copied, stale or damaged one is not believed."""
    try:
        found = Structure(**facts["structure"])
        labels = [float(label) for label in (found.smallest_label, found.largest_label)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    fits = (facts.get("stamp") == stamp and isinstance(found.records, int) and found.records == len(positions) and
            0 <= labels[0] <= labels[1] < 1 << 24 and all(label.is_integer() for label in labels))
    return found if fits and facts.get("digest") == _digest(path, positions) else None


def _digest(path, positions):
    """Of the index and of the frames of some records, the first and the last among them; reading all would take as long
    as the disk has seeks. None where one lies beyond the file."""
    chosen = np.unique(np.linspace(0, len(positions) - 1, _SAMPLED).astype(np.int64))
    state = hashlib.sha256(positions.tobytes())
    with open(path, "rb") as file:
        for position in positions[chosen].tolist():
            frame = os.pread(file.fileno(), 8 + HEADER.size, position) if position >= 0 else b""
            if len(frame) < 8 + HEADER.size:
                return None
            state.update(frame)
    return state.hexdigest()


def write_facts(path, found, packed=None):
    """Writes what is known of the file, see `structure`. packed: how it came about, of files that this package made."""
    try:
        with write_atomically(_facts_path(path), "w") as file:
            json.dump({"stamp": _stamp(path), "structure": asdict(found), "digest": _digest(path, read_index(path)),
                       "packed": packed}, file, indent=1)
    except (UserError, OSError):
        pass  # the folder may be read-only; then the file is looked at each time


def packing(path):
    """What `write_facts` was told of how the file came about, or None."""
    return _read_facts(Path(path)).get("packed")


def _facts_path(path):
    return Path(f"{path}.json")


def _read_facts(path):
    try:
        with open_file(_facts_path(path)) as file:
            facts = json.loads(file.read(_LARGEST_NOTE).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _stamp(path):
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if not index_path(path).is_file():
        raise UserError(f"{path} has no index {index_path(path).name} beside it; igc data verify "
                        f"{shlex.quote(str(path))} --index writes one")
    return [[status.st_size, status.st_mtime_ns] for status in (os.stat(path), os.stat(index_path(path)))]


def read_index(path):
    """Positions of all records, in bytes, ascending."""
    advice = f"igc data verify {shlex.quote(str(path))} --index writes a new one"
    try:
        numbers = np.array(index_path(path).read_bytes().split(), np.int64)
    except (ValueError, OverflowError):
        raise UserError(f"{index_path(path)} is damaged; {advice}") from None
    if len(numbers) % 2 or not len(numbers):
        raise UserError(f"{index_path(path)} is {'empty' if not len(numbers) else 'cut off'}; {advice}")
    positions = np.sort(numbers[1::2])
    if (positions % 4).any() or (positions[1:] == positions[:-1]).any():
        raise UserError(f"{index_path(path)} is damaged; {advice}")
    return positions


def _walk(path, positions):
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path} is empty")
    damaged = f"igc data verify {shlex.quote(str(path))} finds what is damaged"
    if size % 4 or positions[-1] + 8 + HEADER.size > size:
        raise UserError(f"{path} and its index do not fit together, or it is truncated; {damaged}")
    words = np.memmap(path, "<u4", "r")
    ends = np.append(positions[1:], size)
    smallest, largest = np.inf, -np.inf
    with tqdm(total=len(positions), desc=f"checking {path.name}", unit=" records", delay=2, leave=False) as bar:
        for first in range(0, len(positions), _AT_ONCE):
            at, until = positions[first:first + _AT_ONCE], ends[first:first + _AT_ONCE]
            labels = _check_frames(words, at // 4, until // 4)
            if labels is None or positions[0] != 0:
                raise UserError(f"{path} is damaged, or its index is of another file; {damaged}")
            smallest, largest = min(smallest, float(labels.min())), max(largest, float(labels.max()))
            if not (labels >= 0).all() or (labels != np.floor(labels)).any() or largest >= 1 << 24:
                raise UserError(f"{path} has a label that is no class: "
                                f"{labels[~((labels >= 0) & (labels == np.floor(labels)))][:1]}; {damaged}")
            for begin, end in zip(at // 4, until // 4):
                if not words[begin + 6:begin + 8].any():  # it has no checksum
                    continue
                found = _parts(words[begin:end])
                if found is None or what_is_wrong(found[0], look=False)[0]:
                    raise UserError(f"{path}: the record at byte {4 * begin:,} is not what was written; {damaged}")
            bar.update(len(at))
    return Structure(len(positions), smallest, largest)


def _check_frames(words, at, until):
    """Labels of the records that lie from `at` to `until` (in words), or None if one does not."""
    heads = words[at + 1]
    flags, lengths = heads >> 29, (heads & _LENGTH).astype(np.int64)
    if (words[at] != MAGIC).any() or (flags > FIRST).any():
        return None
    ends, counts = at + 2 + (lengths + 3) // 4, words[at + 2].astype(np.int64)
    whole = flags == WHOLE
    if ((ends != until) | (counts > 1) | (lengths <= HEADER.size + 4 * counts))[whole].any():
        return None
    labels = words[np.where(whole & (counts == 1), at + 2 + HEADER.size // 4, at + 3)].view("<f4")
    for number in np.flatnonzero(~whole):  # few: they hold the magic number by chance
        found = _parts(words[at[number]:until[number]])
        label = found and what_is_wrong(found[0], look=False)[1]
        if label is None or found[1] != until[number] - at[number]:
            return None
        labels[number] = label
    return labels


def _parts(words):
    """The payload of the record that `words` begin with, and its length in words; None if there is no whole one."""
    parts, at = [], 0
    while at + 2 <= len(words) and words[at] == MAGIC:
        flag, length = int(words[at + 1]) >> 29, int(words[at + 1]) & _LENGTH
        end = at + 2 + (length + 3) // 4
        if flag > LAST or (flag in (WHOLE, FIRST)) == bool(parts) or end > len(words) or length > _LARGEST:
            return None
        part = words[at + 2:end]
        if _holds_magic(part[:length // 4]):  # a writer splits there: this length runs over another record
            return None
        parts.append(part.tobytes()[:length])
        at = end
        if flag in (WHOLE, LAST):
            payload = struct.pack("<I", MAGIC).join(parts)
            # Where no record follows it may be this one's length that is wrong, unless its checksum says otherwise.
            follows = at == len(words) or (words[at] == MAGIC and at + 1 < len(words) and words[at + 1] >> 29 <= FIRST)
            return (payload, at) if follows or _has_checksum(payload) else None
    return None


def _holds_magic(words):
    """Looks at more and more of them: lengths that were made up must not cost the square of a file's."""
    begin, window = 0, 64
    while begin < len(words):
        if (words[begin:begin + window] == MAGIC).any():
            return True
        begin, window = begin + window, 2 * window
    return False


def scan(path):
    """Yields (position in bytes, payload or None) of everything in the file: None where there is damage, after which it
    goes on with the next record."""
    size = os.path.getsize(path)
    words = np.memmap(path, "<u4", "r", shape=(size // 4,)) if size >= 4 else np.zeros(0, "<u4")
    at = 0
    while at < len(words):
        # A window bounds what a wrong length can reach; the last word says whether a record follows.
        found = _parts(words[at:at + _LARGEST // 4 + 64])
        if found:
            yield 4 * at, found[0]
            at += found[1]
        else:
            yield 4 * at, None
            at = _next_head(words, at + 1)
    if size % 4:
        yield size - size % 4, None


def _next_head(words, at):
    size = 64  # grows: after much damage the next record is near, and after little perhaps far
    while at < len(words):
        window, size = words[at:at + size], min(2 * size, 1 << 20)
        for place in np.flatnonzero(window == MAGIC):
            if at + place + 1 < len(words) and words[at + place + 1] >> 29 <= FIRST:
                return at + int(place)
        at += len(window)
    return len(words)


def encode(label, number, image):
    """The payload of a record, with a checksum."""
    return HEADER.pack(0, label, number, _checksum(label, number, image)) + image


def _checksum(label, number, image):
    return zlib.crc32(image, zlib.crc32(struct.pack("<fQ", label, number)))


def _has_checksum(payload):
    return len(payload) > HEADER.size and HEADER.unpack_from(payload)[3] and not what_is_wrong(payload, look=False)[0]


def frame(payload):
    """A payload as it lies in the file."""
    magic, pieces, begin = struct.pack("<I", MAGIC), [], 0
    # Parts end where the magic number stands at a multiple of 4, which is left out.
    for word in np.flatnonzero(np.frombuffer(payload, "<u4", len(payload) // 4) == MAGIC):
        pieces.append(payload[begin:4 * int(word)])
        begin = 4 * int(word) + 4
    pieces.append(payload[begin:])
    flags = [WHOLE] if len(pieces) == 1 else [FIRST] + [MIDDLE] * (len(pieces) - 2) + [LAST]
    return b"".join(magic + struct.pack("<I", flag << 29 | len(piece)) + piece + b"\0" * (-len(piece) % 4)
                    for flag, piece in zip(flags, pieces))


def what_is_wrong(payload, look=True):
    """One line why a record is none of an image with one label, or None; and its label. look: at the image too."""
    if len(payload) <= HEADER.size:
        return "it is too short for an image record", None
    count, label, number, checksum = HEADER.unpack_from(payload)
    begin = HEADER.size + 4 * count
    if count > 1 or len(payload) <= begin:
        return f"it is too short for its {count:,} labels" if len(payload) <= begin else f"it has {count} labels", None
    if count:
        label, = struct.unpack_from("<f", payload, HEADER.size)
    image = payload[begin:]
    if checksum and checksum != _checksum(label, number, image):
        return "it is not what was written: its checksum is another", None
    if not 0 <= label < 1 << 24 or label != int(label):
        return f"its label {label:g} is no class", None
    return ("it holds no readable image" if look and decode(payload)[0] is None else None), label


def decode(payload):
    """(image or None, see `photos.decode`; label) of a record that is one."""
    count, label, _, _ = HEADER.unpack_from(payload)
    if count:
        label, = struct.unpack_from("<f", payload, HEADER.size)
    return photos.decode(np.frombuffer(payload, np.uint8, offset=HEADER.size + 4 * count)), label


def read_record(file, position):
    """The payload of the record at `position` of an open file, which threads may share."""
    parts = []
    while True:
        _, word = struct.unpack("<II", os.pread(file.fileno(), 8, position))
        length = word & _LENGTH
        parts.append(os.pread(file.fileno(), length, position + 8))
        position += 8 + (length + 3) // 4 * 4
        if word >> 29 in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts)
