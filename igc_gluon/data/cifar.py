"""CIFAR-10 and CIFAR-100 from their official binary archives, read without unpacking to disk or unpickling.

A .bin file is a row of records: label bytes (CIFAR-10: the class; CIFAR-100: coarse, then fine class), then
3072 bytes of pixels, the red plane first, each plane row by row.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""
import lzma
import tarfile
import zlib
from dataclasses import dataclass
from typing import Dict, Tuple

import numpy as np

from igc_gluon.data.images import Images
from igc_gluon.errors import UserError

_PIXELS = 32 * 32 * 3
# What tarfile and the decompressors below it raise on damaged bytes.
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, OverflowError)
_LARGEST_MEMBER = 1 << 30  # bytes; seven times the largest official one, and far below what fills a memory


@dataclass(frozen=True)
class Layout:
    folder: str  # in the archive
    label_bytes: int  # the last of them is the class
    members: Dict[str, Tuple[str, ...]]


LAYOUTS = {
    "cifar10": Layout("cifar-10-batches-bin", 1, {
        "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}),
    "cifar100": Layout("cifar-100-binary", 2, {"train": ("train.bin",), "test": ("test.bin",)}),
}


def read_archive(dataset, split, path):
    """Images of one split from the .tar.gz (or .tar) at `path`; members are found by name in any folder.

    dataset: row of DATASETS. Raises UserError when the archive is damaged, incomplete or of another format.
    """
    members = LAYOUTS[dataset.name].members[split]
    found = {}
    with open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:*") as archive:
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if name not in members or not member.isreg():
                        continue
                    if member.size > _LARGEST_MEMBER:
                        raise UserError(f"{path}: {name} claims {member.size:,} bytes; it is no CIFAR file")
                    found[name] = archive.extractfile(member).read()
                # gzip's checksum stands at its end, behind the last member that anyone asks for.
                while archive.fileobj.read(1 << 20):
                    pass
        except UserError:
            raise
        except _DAMAGE as error:
            reason = str(error).partition("\n")[0].rstrip(":")  # below it tarfile lists every compression
            raise UserError(f"{path} is not a whole tar archive ({reason}); delete it or fetch it "
                            "again") from error
    missing = [name for name in members if name not in found]
    if missing:
        raise UserError(f"{path} does not hold {', '.join(missing)}; is it the binary version of "
                        f"{dataset.name}?")
    return _decode(dataset, {f"{path}, {name}": found[name] for name in members})


def find_unpacked(places, split):
    """Paths of the split's unpacked .bin files in order, or None when there is none of them.

    Raises UserError when only some are there. places: Places of the data set.
    """
    layout = LAYOUTS[places.dataset.name]
    paths = {name: places.find(name) or places.find(f"{layout.folder}/{name}")
             for name in layout.members[split]}
    missing = [name for name, path in paths.items() if not path]
    if len(missing) == len(paths):
        return None
    if missing:
        raise UserError(f"{places.folder} holds some of the unpacked files of {places.dataset.name}, but not "
                        f"{', '.join(missing)}; unpack the archive again, or put the archive itself there")
    return list(paths.values())


def read_unpacked(dataset, paths):
    """Images from the .bin files at `paths`, in that order. Raises UserError as `read_archive` does."""
    return _decode(dataset, {str(path): path.read_bytes() for path in paths})


def _decode(dataset, files):
    """files: what to call it in a message -> bytes of a .bin file."""
    label_bytes = LAYOUTS[dataset.name].label_bytes
    length = label_bytes + _PIXELS
    for title, content in files.items():
        if not content:
            raise UserError(f"{title} is empty")
        if len(content) % length:
            raise UserError(f"{title} has {len(content):,} bytes, which is no whole number of "
                            f"{length}-byte records; it is truncated or not {dataset.name}")
        labels = np.frombuffer(content, np.uint8)[label_bytes - 1::length]
        if labels.max() >= dataset.classes:
            record = int(np.argmax(labels >= dataset.classes))
            raise UserError(f"{title}: record {record} has label {labels[record]}, but {dataset.name} has "
                            f"labels 0 to {dataset.classes - 1}; the file is damaged or another data set")
    records = np.frombuffer(b"".join(files.values()), np.uint8).reshape(-1, length)
    labels = records[:, label_bytes - 1].astype(np.int32)
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    return Images(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
