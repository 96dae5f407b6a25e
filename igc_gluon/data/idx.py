"""Data sets of gray 28x28 images in gzipped IDX files: MNIST, Fashion-MNIST, Kuzushiji-MNIST.

An IDX file starts with two zero bytes, the type of its numbers (8: unsigned bytes) and the number of dimensions, then
each dimension as big-endian uint32, then the numbers, the last dimension the fastest. A split is a file of images,
(N, 28, 28), and one of labels, (N,).
Source: http://yann.lecun.com/exdb/mnist/
"""

import gzip
import os
import struct
import zlib
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

from igc_gluon.data.bounds import ALWAYS, MOST_PACKED
from igc_gluon.data.images import Images
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

_UNSIGNED_BYTES = 8
_MOST_IMAGES = 1 << 20  # seventeen times the largest official file, and no more than 0.8 GB
# What gzip and zlib raise on damaged bytes; an unreadable file is no damage, but has a name, which these have not.
_DAMAGE = (gzip.BadGzipFile, zlib.error, EOFError)


def read(dataset: Any, split: str, paths: List[Path]) -> Images:
    """Images of one split, from its file of images and its file of labels. dataset: row of DATASETS.

    Gray becomes three equal channels, 28x28 pixels 32x32 by the border that `dataset.preprocessing` says. Raises
    UserError when a file is damaged, of another format, or does not belong to the other.
    """
    image_path, label_path = paths
    expected = dataset.preprocessing
    gray = _read(image_path, expected.window)
    labels = _read(label_path, ())
    if len(gray) != len(labels):
        raise UserError(
            f"{image_path} has {len(gray):,} images, but {label_path} has {len(labels):,} labels; they are "
            "not of the same split"
        )
    if labels.max() >= dataset.classes:
        wrong = int(np.argmax(labels >= dataset.classes))
        raise UserError(
            f"{label_path}: image {wrong} has label {labels[wrong]}, but {dataset.name} has labels 0 to "
            f"{dataset.classes - 1}; the file is damaged or another data set"
        )
    images = expected.bordered(np.broadcast_to(gray[..., None], (*gray.shape, 3)))
    return Images(images, labels.astype(np.int32))


def _read(path: Path, item: Tuple[int, ...]) -> np.ndarray:
    """The array (N,) + item of unsigned bytes in the file at `path`; N > 0."""
    header = struct.Struct(f">{2 + len(item)}I")
    magic = _UNSIGNED_BYTES << 8 | 1 + len(item)
    size = int(np.prod(item, dtype=int))
    with open_file(path) as file:
        try:
            # Not more is decompressed than the header announces, and that is bounded.
            content = gzip.GzipFile(fileobj=file)
            head = content.read(header.size)
            if len(head) < header.size:
                raise UserError(f"{path} ends within its header; it is truncated")
            first, count, *shape = header.unpack(head)
            if first != magic:
                raise UserError(
                    f"{path} starts with {first:#010x}, not {magic:#010x}; it is no IDX file of "
                    f"{'images' if item else 'labels'}"
                )
            if tuple(shape) != item:
                raise UserError(
                    f"{path} has images of {'x'.join(map(str, shape[::-1]))} pixels, not "
                    f"{'x'.join(map(str, item[::-1]))}"
                )
            if not 0 < count <= _MOST_IMAGES:
                raise UserError(f"{path} claims to hold {count:,} {'images' if item else 'labels'}; it is damaged")
            packed = os.fstat(file.fileno()).st_size
            if count * size > max(ALWAYS, MOST_PACKED * packed):
                raise UserError(f"{path} claims {count * size:,} bytes out of {packed:,}; it is damaged")
            data = content.read(count * size)
            # Behind the last number gzip's checksum is compared.
            more = len(content.read(1))
        except _DAMAGE as error:
            raise UserError(f"{path} is not a whole gzip file ({error}); delete it or fetch it again") from error
    if len(data) < count * size or more:
        raise UserError(
            f"{path} announces {count * size:,} bytes of {'pixels' if item else 'labels'}, but has "
            f"{'more' if more else f'{len(data):,}'}; it is damaged"
        )
    return np.frombuffer(data, np.uint8).reshape((count,) + item)
