"""Photographs: files to pixels, and pixels resized and cropped. What a network wants of them: `preprocessing`."""

import os
import stat
import struct
from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Union

import numpy as np

from igc_gluon.data import bounds
from igc_gluon.data.bounds import PHOTO_BYTES, PHOTO_PIXELS
from igc_gluon.errors import UserError, printable
from igc_gluon.files import open_file
from igc_gluon.paths import expand, walk

ENDINGS = (".jpeg", ".jpg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")  # of files that are images
HIDDEN = "hidden"  # why a file is passed over
_ORIENTATION = 0x0112  # the tag in Exif
_MOST_CHUNKS = 1000  # of a WebP file that are looked at
_EIGHT_OR_SIXTEEN_BITS = (b"\xff\xd8", b"\x89P", b"RI", b"BM")  # how a JPEG, a PNG, a WebP, a BMP begins
# How the pixels of a smaller and of a larger image are found. "area" is MXNet's inter_method 9, the authors' choice.
# By OpenCV's names.
INTERPOLATIONS = {
    "area": ("INTER_AREA", "INTER_CUBIC"),
    "bilinear": ("INTER_LINEAR", "INTER_LINEAR"),
    "bicubic": ("INTER_CUBIC", "INTER_CUBIC"),
    "nearest": ("INTER_NEAREST", "INTER_NEAREST"),
}


def natural_short_side(crop: int) -> int:
    """Of the image that a single center crop comes from: 256 for 224 (IGCV2, section 5), or in proportion."""
    return round(crop * 8 / 7)


def list_photos(names: Iterable[Union[str, Path]]) -> List[Union[str, Path]]:
    """Paths of the image files that `names` mean, in their order: a folder stands for all image files in it and below,
    sorted, hidden ones left out; one without any for itself, as what `read_photo` reports. Raises UserError on a folder
    that cannot be read."""
    paths: List[Union[str, Path]] = []
    for name in names:
        paths += list(_photos_of(name)) or [name]
    return paths


def _photos_of(name: Union[str, Path]) -> Iterable[str]:
    try:
        folder = str(expand(name))
    except UserError:  # which `read_photo` says
        return ()
    return photos_below(folder) if os.path.isdir(folder) else ()


def photos_below(folder: Union[str, Path], passed_over: Optional[Counter] = None) -> Iterator[str]:
    """Paths of the image files in `folder` and below, sorted in each folder, without hidden ones and links to folders;
    all else is counted in `passed_over`. Raises UserError on a folder that cannot be read."""
    passed_over = Counter() if passed_over is None else passed_over

    def fail(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from None

    for where, folders, files in walk(folder, fail):
        hidden = [entry for entry in folders if entry.startswith(".")]
        links = [entry for entry in folders if entry not in hidden and os.path.islink(os.path.join(where, entry))]
        passed_over.update([HIDDEN] * len(hidden) + ["links to folders"] * len(links))
        folders[:] = sorted(set(folders) - {*hidden, *links})
        for file in sorted(files):
            ending = os.path.splitext(file)[1].lower()
            if file.startswith("."):
                passed_over[HIDDEN] += 1
            elif ending not in ENDINGS:
                passed_over[f"whose names end in {printable(ending)}" if ending else "whose names have no ending"] += 1
            else:
                yield os.path.join(where, file)


def read_photo(path: Union[str, Path]) -> np.ndarray:
    """The image in the file at `path`: uint8 (height, width, 3), RGB, turned upright. Raises UserError.

    Gray becomes three equal channels, CMYK becomes RGB, of 16 bits the upper 8 are taken, transparency is left out.
    """
    place = expand(path)
    try:
        if not stat.S_ISREG(place.stat().st_mode):  # to open a pipe would wait for ever
            what = "a folder without images" if place.is_dir() else "no regular file"
            raise UserError(f"cannot read {path}: it is {what}")
        data = read_image_file(place)
    except UserError:
        raise
    except ValueError:  # of a name with a NUL in it
        raise UserError(f"cannot read {path}: no file has such a name") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not data:
        raise UserError(f"{path} is empty")
    try:
        image = _decode(data)
    except UserError as error:
        raise UserError(f"{path} is not an image that OpenCV can read: {error}") from None
    if data[:2] not in _EIGHT_OR_SIXTEEN_BITS:
        import cv2  # optional: OpenCV

        kind = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).dtype
        if kind not in (np.uint8, np.uint16):  # which OpenCV cuts off at 0 and 255
            raise UserError(f"{path} has pixels of type {kind}, which can mean any brightness; convert it to 8 bits")
    return image


def read_image_file(path: Union[str, Path]) -> bytes:
    """The bytes of the file at `path`. Raises OSError, and UserError where they are more than an image has."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > PHOTO_BYTES:
            raise UserError(f"{path} has more than {PHOTO_BYTES:,} bytes")
        return file.read()


def decode(data: np.ndarray) -> Optional[np.ndarray]:
    """The image that `data` (uint8, one-dimensional) encodes: uint8 (height, width, 3), RGB, turned upright; None if
    OpenCV cannot read it, or see `bounds`."""
    try:
        return _decode(data.tobytes())
    except UserError:
        return None


def _decode(data: bytes) -> np.ndarray:
    import cv2  # optional: OpenCV

    image = bounds.decode(data)  # OpenCV turns JPEG, PNG and TIFF
    return _turned(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), _webp_orientation(np.frombuffer(data, np.uint8)))


def _webp_orientation(data: np.ndarray) -> int:
    """The number from 1 to 8 in the Exif data of a WebP file; 1, upright, where there is none and for other files."""
    if data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"WEBP":
        return 1
    at = 12
    for _ in range(_MOST_CHUNKS):
        head = data[at : at + 8].tobytes()
        if len(head) < 8:
            break
        name, length = struct.unpack("<4sI", head)
        if name == b"EXIF":
            return _exif_orientation(data[at + 8 : at + 8 + length].tobytes())
        at += 8 + length + length % 2
    return 1


def _exif_orientation(exif: bytes) -> int:
    exif = exif[6:] if exif.startswith(b"Exif\0\0") else exif
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:  # no Exif data
        return 1
    try:
        (begin,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, begin)
        for number in range(entries):
            tag, kind, count, value = struct.unpack_from(order + "HHIH", exif, begin + 2 + 12 * number)
            if (tag, kind, count) == (_ORIENTATION, 3, 1) and 1 <= value <= 8:
                return value
    except struct.error:  # cut off
        pass
    return 1


def _turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """`image` upright. orientation: what Exif says of it, from 1, upright."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    image = image[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]
    return np.ascontiguousarray(image)


def resize(image: np.ndarray, short_side: int, interpolation: str = "area") -> np.ndarray:
    """`image` with its shorter side `short_side` long, see INTERPOLATIONS.

    Raises UserError on a strip that would become a huge image.
    """
    factor = short_side / min(image.shape[:2])
    size = tuple(max(short_side, round(side * factor)) for side in image.shape[1::-1])
    if size[0] * size[1] > PHOTO_PIXELS:
        raise UserError(f"an image of {image.shape[1]}x{image.shape[0]} pixels is too long to be resized")
    import cv2  # optional: OpenCV

    smaller, larger = INTERPOLATIONS[interpolation]
    return cv2.resize(image, size, interpolation=getattr(cv2, smaller if factor < 1 else larger))


def central_crop(
    image: np.ndarray, short_side: int, height: int, width: int, interpolation: str = "area"
) -> np.ndarray:
    """The middle of `image` (uint8, RGB) after its shorter side has been resized to `short_side`: (height, width, 3).

    `short_side` is at least as long as `height` and `width`. Raises UserError as `resize`.
    """
    resized = resize(image, short_side, interpolation)
    top, left = (resized.shape[0] - height) // 2, (resized.shape[1] - width) // 2
    return np.ascontiguousarray(resized[top : top + height, left : left + width])
