"""Photographs: from a file to the image that a network takes."""
import struct

import cv2
import numpy as np

from igc_gluon.errors import UserError

MAX_PIXELS = 1 << 28  # of a resized image; 40 times as many as a photograph has
_ORIENTATION = 0x0112  # the tag in Exif
_MOST_CHUNKS = 1000  # of a WebP file that are looked at


def natural_short_side(crop):
    """Of the image that a single center crop comes from: 256 for 224 (IGCV2, section 5), or in proportion."""
    return round(crop * 8 / 7)


def read_photo(path):
    """The image in the file at `path`: uint8 (height, width, 3), RGB, turned upright. Raises UserError."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    image = decode(data)
    if image is None:
        raise UserError(f"{path} is not an image that OpenCV can read")
    return image


def decode(data):
    """The image that `data` (uint8, one-dimensional) encodes: uint8 (height, width, 3), RGB, turned upright;
    None if OpenCV cannot read it."""
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error as error:  # more pixels than OpenCV takes
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        image = None
    if image is None:
        return None
    # OpenCV turns JPEG, PNG and TIFF.
    return _turned(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), _webp_orientation(data))


def _webp_orientation(data):
    """The number from 1 to 8 in the Exif data of a WebP file; 1, upright, where there is none and for other files."""
    if data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"WEBP":
        return 1
    at = 12
    for _ in range(_MOST_CHUNKS):
        head = data[at:at + 8].tobytes()
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        if name == b"EXIF":
            return _exif_orientation(data[at + 8:at + 8 + length].tobytes())
        at += 8 + length + length % 2
    return 1


def _exif_orientation(exif):
    exif = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        begin, = struct.unpack_from(order + "I", exif, 4)
        entries, = struct.unpack_from(order + "H", exif, begin)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, begin + 2 + 12 * number)
            if (tag, kind, count) == (_ORIENTATION, 3, 1) and 1 <= value <= 8:
                return value
    except (TypeError, struct.error):  # no Exif data, or cut off
        pass
    return 1


def _turned(image, orientation):
    """`image` upright. orientation: what Exif says of it, from 1, upright."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    image = image[::-1 if orientation in (3, 4, 7, 8) else 1, ::-1 if orientation in (2, 3, 6, 7) else 1]
    return np.ascontiguousarray(image)


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
