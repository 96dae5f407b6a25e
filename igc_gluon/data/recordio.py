"""RecordIO, the format of the authors' train.rec and test.rec, read in Python.

MXNet's own reader ends the process on a damaged file; this one says which record is damaged.

Framing (dmlc-core): magic number, then a word of 3 bits flag and 29 bits length, then that many bytes, padded
with zeros to a multiple of 4; little-endian. A payload that holds the magic number at a multiple of 4 is
split there: flag 1, 2 and 3 mark its first, middle and last part, flag 0 a payload in one part.
Payload (MXNet): flag uint32, label float32, id uint64, id2 uint64; if flag > 0, `flag` float32 labels, which
then stand for the one label; then the encoded image.
"""
import contextlib
import os
import struct

import cv2
import numpy as np

from igc_gluon.data.bounds import decode, image_size
from igc_gluon.data.images import Images
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

MAGIC = 0xced7230a
WHOLE, FIRST, MIDDLE, LAST = range(4)  # flags
HEADER = struct.Struct("<IfQQ")
_LARGEST_IMAGE = 1 << 16  # bytes; an encoded 32x32 image takes about 3,000
_LARGEST_RECORD = 1 << 24  # bytes, of any payload


def read_records(path):
    """Yields (labels float32 (n,), encoded image as bytes) for each record of the file at `path`.

    Raises UserError on the first record that is truncated or damaged, naming it by number and position.
    """
    for number, position, payload in _read_payloads(path):
        if len(payload) < HEADER.size:
            raise UserError(f"{path}: record {number} at byte {position} is too short for an image record")
        label_count, label, _, _ = HEADER.unpack_from(payload)
        end = HEADER.size + 4 * label_count
        if len(payload) < end:
            raise UserError(f"{path}: record {number} at byte {position} is too short for its "
                            f"{label_count:,} labels; the file is damaged")
        labels = np.array([label], np.float32)
        if label_count:
            labels = np.frombuffer(payload, "<f4", label_count, HEADER.size)
        yield labels, payload[end:]


def load(dataset, path):
    """Images of the whole file: RGB, as large as the data set's, labels whole and within the classes.

    dataset: row of DATASETS.
    Raises UserError on a damaged file and on images or labels that are not those of the data set.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    shape = (dataset.size, dataset.size, 3)
    pixels, classes = bytearray(), []
    for number, (labels, encoded) in enumerate(read_records(path)):
        if len(labels) != 1:
            raise UserError(f"{path}: record {number} has {len(labels)} labels; {dataset.name} needs one")
        if not (0 <= labels[0] < dataset.classes and labels[0] == int(labels[0])):
            raise UserError(f"{path}: record {number} has label {labels[0]:g}, but {dataset.name} has labels "
                            f"0 to {dataset.classes - 1}; the file is damaged or another data set")
        image, (height, width) = None, shape[:2]
        if 0 < len(encoded) <= _LARGEST_IMAGE:
            height, width, _ = image_size(encoded) or shape
            if (height, width) == shape[:2]:
                with contextlib.suppress(UserError):
                    image = decode(encoded, height * width, flags)
        if image is None and (height, width) == shape[:2]:
            raise UserError(f"{path}: record {number} holds no readable image; the file is damaged")
        if image is None or image.shape != shape:
            raise UserError(f"{path}: record {number} holds an image of {width}x{height} pixels, not "
                            f"{shape[1]}x{shape[0]}")
        pixels += image[:, :, ::-1].tobytes()  # OpenCV decodes to BGR
        classes.append(int(labels[0]))
    if not classes:
        raise UserError(f"{path} holds no images")
    return Images(np.frombuffer(pixels, np.uint8).reshape((-1,) + shape), np.array(classes, np.int32))


def _read_payloads(path):
    """Yields (number, position in bytes, payload) of each record, its parts joined."""
    size = os.path.getsize(path)
    position = number = 0
    parts, start = [], 0
    with open_file(path) as file:
        while position < size:
            head = file.read(8)
            if len(head) < 8:
                raise UserError(f"{path} ends in the middle of record {number}; it is truncated")
            magic, word = struct.unpack("<II", head)
            flag, length = word >> 29, word & ((1 << 29) - 1)
            if magic != MAGIC or flag > LAST:
                raise UserError(f"{path}: there is no record at byte {position}, where record {number} "
                                "should be; the file is damaged or no RecordIO")
            if (flag in (WHOLE, FIRST)) == bool(parts):
                raise UserError(f"{path}: the parts of record {number} at byte {position} are out of order; "
                                "the file is damaged")
            padded = (length + 3) // 4 * 4
            if position + 8 + padded > size:
                raise UserError(f"{path} ends in the middle of record {number}; it is truncated")
            if sum(map(len, parts)) + length > _LARGEST_RECORD:
                raise UserError(f"{path}: record {number} at byte {position} claims more than {_LARGEST_RECORD:,} bytes; "
                                "the file is damaged or of larger images")
            start = start if parts else position
            parts.append(file.read(padded)[:length])
            position += 8 + padded
            if flag in (WHOLE, LAST):
                yield number, start, struct.pack("<I", MAGIC).join(parts)
                number, parts = number + 1, []
    if parts:
        raise UserError(f"{path} ends in the middle of record {number}; it is truncated")
