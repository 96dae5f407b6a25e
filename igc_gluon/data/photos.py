"""Photographs: from a file to the image that a network takes."""
import os

import cv2
import numpy as np

from igc_gluon.data.bounds import PHOTO_BYTES, PHOTO_PIXELS, decode
from igc_gluon.errors import UserError
from igc_gluon.files import open_file


def natural_short_side(crop):
    """Of the image that a single center crop comes from: 256 for 224 (IGCV2, section 5), or in proportion."""
    return round(crop * 8 / 7)


def read_photo(path):
    """The image in the file at `path`: uint8 (height, width, 3), RGB, turned upright. Raises UserError."""
    try:
        return cv2.cvtColor(decode(read_image_file(path)), cv2.COLOR_BGR2RGB)
    except UserError as error:
        raise UserError(f"{path} is not an image that can be read: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None


def read_image_file(path):
    """The bytes of the file at `path`. Raises OSError, and UserError where they are more than an image has."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > PHOTO_BYTES:
            raise UserError(f"it has more than {PHOTO_BYTES:,} bytes")
        return file.read()


def resize(image, short_side):
    """`image` with its shorter side `short_side` long.

    As MXNet's inter_method 9, which the authors chose, it averages areas to shrink, and enlarges by cubic splines.
    Raises UserError on a strip that would become a huge image.
    """
    factor = short_side / min(image.shape[:2])
    size = tuple(max(short_side, round(side * factor)) for side in image.shape[1::-1])
    if size[0] * size[1] > PHOTO_PIXELS:
        raise UserError(f"an image of {image.shape[1]}x{image.shape[0]} pixels is too long to be resized")
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def central_crop(image, short_side, height, width):
    """The middle of `image` (uint8, RGB) after its shorter side has been resized to `short_side`: (height, width, 3).

    `short_side` is at least as long as `height` and `width`. Raises UserError as `resize`.
    """
    resized = resize(image, short_side)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top:top + height, left:left + width])
