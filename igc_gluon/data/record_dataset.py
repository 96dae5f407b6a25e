"""The authors' train.rec and test.rec: a data set of small images in RecordIO files."""

import contextlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from igc_gluon.data.bounds import decode, image_size
from igc_gluon.data.images import Images
from igc_gluon.data.recordio import read_records
from igc_gluon.errors import UserError

_LARGEST_IMAGE = 1 << 16  # bytes; an encoded 32x32 image takes about 3,000


def load(dataset: Any, path: Path) -> Images:
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
            raise UserError(
                f"{path}: record {number} has label {labels[0]:g}, but {dataset.name} has labels "
                f"0 to {dataset.classes - 1}; the file is damaged or another data set"
            )
        image, (height, width) = None, shape[:2]
        if 0 < len(encoded) <= _LARGEST_IMAGE:
            height, width, _ = image_size(encoded) or shape
            if (height, width) == shape[:2]:
                with contextlib.suppress(UserError):
                    image = decode(encoded, height * width, flags)
        if image is None and (height, width) == shape[:2]:
            raise UserError(f"{path}: record {number} holds no readable image; the file is damaged")
        if image is None or image.shape != shape:
            raise UserError(
                f"{path}: record {number} holds an image of {width}x{height} pixels, not {shape[1]}x{shape[0]}"
            )
        pixels += image[:, :, ::-1].tobytes()  # OpenCV decodes to BGR
        classes.append(int(labels[0]))
    if not classes:
        raise UserError(f"{path} holds no images")
    return Images(np.frombuffer(pixels, np.uint8).reshape((-1,) + shape), np.array(classes, np.int32))
