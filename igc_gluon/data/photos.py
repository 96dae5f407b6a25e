"""Photographs: from a file to the image that a network takes."""
import cv2
import numpy as np

from igc_gluon.errors import UserError

MAX_PIXELS = 1 << 28  # of a resized image; 40 times as many as a photograph has


def natural_short_side(crop):
    """Of the image that a single center crop comes from: 256 for 224 (IGCV2, section 5), or in proportion."""
    return round(crop * 8 / 7)


def read_photo(path):
    """The image in the file at `path`: uint8 (height, width, 3), RGB, turned upright. Raises UserError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error:  # more pixels than OpenCV takes
        image = None
    if image is None:
        raise UserError(f"{path} is not an image that OpenCV can read")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def resize(image, short_side):
    """`image` with its shorter side `short_side` long.

    As MXNet's inter_method 9, which the authors chose, it averages areas to shrink, and enlarges by cubic splines.
    Raises UserError on a strip that would become a huge image.
    """
    factor = short_side / min(image.shape[:2])
    size = tuple(max(short_side, round(side * factor)) for side in image.shape[1::-1])
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"an image of {image.shape[1]}x{image.shape[0]} pixels is too long to be resized")
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def central_crop(image, short_side, height, width):
    """The middle of `image` (uint8, RGB) after its shorter side has been resized to `short_side`: (height, width, 3).

    `short_side` is at least as long as `height` and `width`. Raises UserError as `resize`.
    """
    resized = resize(image, short_side)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top:top + height, left:left + width])
