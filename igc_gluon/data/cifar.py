"""CIFAR-10 and CIFAR-100 from their official binary archives, read without unpacking to disk or unpickling.

A .bin file is a row of records: label bytes (CIFAR-10: the class; CIFAR-100: coarse, then fine class), then
3072 bytes of pixels, the red plane first, each plane row by row.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

import lzma
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from igc_gluon.data.bounds import Unpacked, tar_members
from igc_gluon.data.images import Images
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

_PIXELS = 32 * 32 * 3
_DAMAGE = (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)  # of the decompressors and of tar
_PIECE = 300  # records looked at together


@dataclass(frozen=True)
class Layout:
    folder: str  # in the archive
    label_bytes: int  # the last of them is the class
    members: Dict[str, Tuple[str, ...]]


LAYOUTS = {
    "cifar10": Layout(
        "cifar-10-batches-bin",
        1,
        {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    ),
    "cifar100": Layout("cifar-100-binary", 2, {"train": ("train.bin",), "test": ("test.bin",)}),
}


def read(dataset: Any, split: str, paths: List[Path]) -> Images:
    """Images of one split from the .tar.gz (or .tar) at the one of `paths`; members are found by name in any folder.

    dataset: row of DATASETS. Raises UserError when the archive is damaged, incomplete or of another format.
    """
    (path,), members = paths, LAYOUTS[dataset.name].members[split]
    with open_file(path) as file:
        try:
            # Once to look, for what is refused must not fill the memory, and once to keep.
            contents: Dict[str, bytes] = {}
            for keep in (False, True):
                file.seek(0)
                for name, size, stream in tar_members(Unpacked(file)):
                    if name in members:
                        title = f"{path}, {name}"
                        if keep:
                            contents[name] = stream.read(size)
                        else:
                            _check(dataset, title, size, stream.read)
                            contents[name] = b""
                missing = [name for name in members if name not in contents]
                if missing:
                    raise UserError(
                        f"{path} does not hold {', '.join(missing)}; is it the binary version of {dataset.name}?"
                    )
        except _DAMAGE as error:
            if isinstance(error, UserError):
                raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
            reason = str(error).partition("\n")[0].rstrip(":")
            raise UserError(f"{path} is not a whole tar archive ({reason}); delete it or fetch it again") from error
    return _decode(dataset, [contents[name] for name in members])


def read_unpacked(files: Any, split: str) -> Optional[Images]:
    """Images from the split's unpacked .bin files, or None when there is none of them.

    files: DatasetFiles. Raises UserError when only some are there, and as `read` does.
    """
    dataset, layout = files.dataset, LAYOUTS[files.dataset.name]
    paths = {name: files.find(name) or files.find(f"{layout.folder}/{name}") for name in layout.members[split]}
    missing = [name for name, path in paths.items() if not path]
    if len(missing) == len(paths):
        return None
    if missing:
        raise UserError(
            f"{files.folder} holds some of the unpacked files of {dataset.name}, but not "
            f"{', '.join(missing)}; unpack the archive again, or put the archive itself there"
        )
    for path in paths.values():
        with open_file(path) as file:
            _check(dataset, str(path), os.fstat(file.fileno()).st_size, file.read)
    return _decode(dataset, [path.read_bytes() for path in paths.values() if path])


def _check(dataset: Any, title: str, size: int, read: Callable[[int], bytes]) -> None:
    """Raises UserError unless read(n) gives `size` bytes of a .bin file."""
    length, label_byte = _record(dataset)
    if not size:
        raise UserError(f"{title} is empty")
    if size % length:
        raise UserError(
            f"{title} has {size:,} bytes, which is no whole number of "
            f"{length}-byte records; it is truncated or not {dataset.name}"
        )
    for first in range(0, size, length * _PIECE):
        labels = np.frombuffer(read(min(length * _PIECE, size - first)), np.uint8)[label_byte::length]
        if labels.max() >= dataset.classes:
            record = int(np.argmax(labels >= dataset.classes))
            raise UserError(
                f"{title}: record {first // length + record} has label {labels[record]}, but "
                f"{dataset.name} has labels 0 to {dataset.classes - 1}; the file is damaged or another "
                "data set"
            )


def _record(dataset: Any) -> Tuple[int, int]:
    """(bytes of a record, which of them is its class)"""
    label_bytes = LAYOUTS[dataset.name].label_bytes
    return label_bytes + _PIXELS, label_bytes - 1


def _decode(dataset: Any, contents: List[bytes]) -> Images:
    """contents: bytes of .bin files, which `_check` has passed."""
    length, label_byte = _record(dataset)
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, length)
    labels = records[:, label_byte].astype(np.int32)
    planes = records[:, label_byte + 1 :].reshape(-1, 3, 32, 32)
    return Images.of_planes(np.ascontiguousarray(planes), labels)
