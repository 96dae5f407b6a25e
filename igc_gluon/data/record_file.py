"""Large RecordIO files, as MXNet's ImageRecordIter reads them: checked before they are trained on, scanned for damage.

Of a truncated file, or an index that does not fit, training would hear late, of changed bytes never. So
`structure` looks at the frame of every record and, where a record has one, at its checksum, which means to
read the whole file. What it found stands in `<file>.json` beside the file, so that it is looked at once.

A file FILE.rec has an index FILE.idx: a line for each record, its number and its position in bytes.
"""

import hashlib
import json
import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

import numpy as np

from igc_gluon.data.recordio import FIRST, HEADER, MAGIC, WHOLE, first_record, padded, problem_and_label, split_word
from igc_gluon.errors import UserError
from igc_gluon.files import open_file, write_atomically
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar

_AT_ONCE = 1 << 16  # records whose frames are looked at together
_LARGEST_NOTE = 1 << 28  # bytes; it names each image that was left out
_FRAME_BYTES = 8  # magic number and word before a payload
_SAMPLED = 1000  # records whose frames a note is compared with


@dataclass(frozen=True)
class Structure:
    """Of a whole file: how many records it has, and their labels' range."""

    records: int
    smallest_label: float
    largest_label: float


def index_path(path: Union[str, Path]) -> Path:
    """FILE.idx of FILE.rec."""
    return Path(path).with_suffix(".idx")


def structure(path: Union[str, Path]) -> Structure:
    """The `Structure` of the file at `path`, whose every record has a frame and a place in the index as it should.

    Does not decode the images, see `scan`. Raises UserError on anything that is no whole record, and on bytes
    that are not what was written.
    """
    file = expand(path)
    try:
        stamp = _stamp(file)
        facts, positions = _read_facts(file), read_index(file)
        noted = _noted(facts, stamp, file, positions)
        if noted:
            return noted
        walked = _walk(file, positions)
        write_facts(file, walked, facts.get("packed"))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or file}: {error.strerror or error}") from None
    return walked


def _noted(facts: Dict[str, Any], stamp: List[List[int]], path: Path, positions: np.ndarray) -> Optional[Structure]:
    """The `Structure` in a note that is of this very file, or None: a copied, stale or damaged one is not believed."""
    try:
        note = Structure(**facts["structure"])
        labels = [float(label) for label in (note.smallest_label, note.largest_label)]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    fits = (
        facts.get("stamp") == stamp
        and isinstance(note.records, int)
        and note.records == len(positions)
        and 0 <= labels[0] <= labels[1] < 1 << 24
        and all(label.is_integer() for label in labels)
    )
    return note if fits and facts.get("digest") == _digest(path, positions) else None


def _digest(path: Path, positions: np.ndarray) -> Optional[str]:
    """Of the index and of the frames of some records, the first and the last among them; reading all would take as long
    as the disk has seeks. None where one lies beyond the file."""
    chosen = np.unique(np.linspace(0, len(positions) - 1, _SAMPLED).astype(np.int64))
    state = hashlib.sha256(positions.tobytes())
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for position in positions[chosen].tolist():
            frame = os.pread(file.fileno(), 8 + HEADER.size, position) if position < size else b""
            if len(frame) < 8 + HEADER.size:
                return None
            state.update(frame)
    return state.hexdigest()


def write_facts(path: Path, contents: Structure, packed: Optional[Dict[str, Any]] = None) -> None:
    """Writes what is known of the file, see `structure`. packed: how it came about, of files that this package made."""
    try:
        with write_atomically(_facts_path(path), "w") as file:
            json.dump(
                {
                    "stamp": _stamp(path),
                    "structure": asdict(contents),
                    "digest": _digest(path, read_index(path)),
                    "packed": packed,
                },
                file,
                indent=1,
            )
    except (UserError, OSError):
        pass  # the folder may be read-only; then the file is looked at each time


def packing(path: Union[str, Path]) -> Optional[Dict[str, Any]]:
    """What `write_facts` was told of how the file came about, or None."""
    return _read_facts(expand(path)).get("packed")


def _facts_path(path: Path) -> Path:
    return Path(f"{path}.json")


def _read_facts(path: Path) -> Dict[str, Any]:
    try:
        with open_file(_facts_path(path)) as file:
            facts = json.loads(file.read(_LARGEST_NOTE).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _stamp(path: Path) -> List[List[int]]:
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    if not index_path(path).is_file():
        raise UserError(
            f"{path} has no index {index_path(path).name} beside it; igc data verify "
            f"{shlex.quote(str(path))} --index writes one"
        )
    return [[status.st_size, status.st_mtime_ns] for status in (os.stat(path), os.stat(index_path(path)))]


def read_index(path: Union[str, Path]) -> np.ndarray:
    """Positions of all records, in bytes, ascending."""
    advice = f"igc data verify {shlex.quote(str(path))} --index writes a new one"
    try:
        numbers = np.array(index_path(path).read_bytes().split(), np.int64)
    except (ValueError, OverflowError):
        raise UserError(f"{index_path(path)} is damaged; {advice}") from None
    if len(numbers) % 2 or not len(numbers):
        raise UserError(f"{index_path(path)} is {'empty' if not len(numbers) else 'cut off'}; {advice}")
    positions = np.sort(numbers[1::2])
    if positions[0] < 0 or (positions % 4).any() or (positions[1:] == positions[:-1]).any():
        raise UserError(f"{index_path(path)} is damaged; {advice}")
    return positions


def labels(path: Union[str, Path]) -> np.ndarray:
    """Integers (n,): the label of each record of the file at `path`, which `structure` has found sound."""
    path = expand(path)
    labels = []
    with open(path, "rb") as file:
        for position in read_index(path).tolist():
            file.seek(position + _FRAME_BYTES)
            count, label, *_ = HEADER.unpack(file.read(HEADER.size))
            labels.append(np.frombuffer(file.read(4), "<f4")[0] if count else label)
    return np.array(labels).astype(np.int64)


def _walk(path: Path, positions: np.ndarray) -> Structure:
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path} is empty")
    damaged = f"igc data verify {shlex.quote(str(path))} finds what is damaged"
    if size % 4 or positions[-1] > size - 8 - HEADER.size:  # a sum could go beyond 64 bits
        raise UserError(f"{path} and its index do not fit together, or it is truncated; {damaged}")
    words = np.memmap(path, "<u4", "r")
    ends = np.append(positions[1:], size)
    smallest, largest = np.inf, -np.inf
    with progress_bar(total=len(positions), desc=f"checking {path.name}", unit=" records", delay=2, leave=False) as bar:
        for first in range(0, len(positions), _AT_ONCE):
            at, until = positions[first : first + _AT_ONCE], ends[first : first + _AT_ONCE]
            labels = _check_frames(words, at // 4, until // 4)
            if labels is None or positions[0] != 0:
                raise UserError(f"{path} is damaged, or its index is of another file; {damaged}")
            smallest, largest = min(smallest, float(labels.min())), max(largest, float(labels.max()))
            if not (labels >= 0).all() or (labels != np.floor(labels)).any() or largest >= 1 << 24:
                raise UserError(
                    f"{path} has a label that is no class: "
                    f"{labels[~((labels >= 0) & (labels == np.floor(labels)))][:1]}; {damaged}"
                )
            for begin, end in zip(at // 4, until // 4):
                if not words[begin + 6 : begin + 8].any():  # it has no checksum
                    continue
                record = first_record(words[begin:end])
                if record is None or problem_and_label(record[0], look=False)[0]:
                    raise UserError(f"{path}: the record at byte {4 * begin:,} is not what was written; {damaged}")
            bar.update(len(at))
    return Structure(len(positions), smallest, largest)


def _check_frames(words: np.ndarray, at: np.ndarray, until: np.ndarray) -> Optional[np.ndarray]:
    """Labels of the records that lie from `at` to `until` (in words), or None if one does not."""
    heads = words[at + 1]
    flags, lengths = split_word(heads)
    lengths = lengths.astype(np.int64)
    if (words[at] != MAGIC).any() or (flags > FIRST).any():
        return None
    ends, counts = at + 2 + padded(lengths) // 4, words[at + 2].astype(np.int64)
    whole = flags == WHOLE
    if ((ends != until) | (counts > 1) | (lengths <= HEADER.size + 4 * counts))[whole].any():
        return None
    labels = words[np.where(whole & (counts == 1), at + 2 + HEADER.size // 4, at + 3)].view("<f4")
    for number in np.flatnonzero(~whole):  # few: they hold the magic number by chance
        record = first_record(words[at[number] : until[number]])
        label = record and problem_and_label(record[0], look=False)[1]
        if record is None or label is None or record[1] != until[number] - at[number]:
            return None
        labels[number] = label
    return labels
