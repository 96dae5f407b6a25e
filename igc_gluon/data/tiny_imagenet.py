"""Tiny ImageNet from its official zip, read without unpacking it, or from the unpacked folder.

    tiny-imagenet-200/wnids.txt                          the 200 classes, one WordNet id a line
                      train/<id>/<id>_boxes.txt          a line per image: name, bounding box
                      train/<id>/images/<id>_0.JPEG ...  500 of 64x64 pixels, some of them gray
                      val/val_annotations.txt            a line per image: name, WordNet id, bounding box
                      val/images/val_0.JPEG ...

The labels of test/ are not published, so val/ is what everyone tests on, here too. Classes are numbered in
the order of their sorted ids, as in ImageNet and by readers that sort the folders, not in that of wnids.txt.
The images are decoded at each start: a core does some 16,000 a second, so a cache would save seconds.
"""

import re
import zipfile
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import cv2
import numpy as np

from igc_gluon.data.bounds import TEXT_BYTES, ZIP_DAMAGE, check_zip, decode, image_size
from igc_gluon.data.images import Images
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

FOLDER = "tiny-imagenet-200"
_ID = re.compile(r"n\d{8}")
_IMAGE = re.compile(r"[\w-]+\.JPEG")  # no way out of the folder
_LARGEST_MEMBER = TEXT_BYTES  # the images have about 2,000, the largest text 300,000
_MOST_IMAGES = 1 << 17


def read(dataset: Any, split: str, paths: List[Path]) -> Images:
    """Images of one split, "train" or "test", from the zip at the one of `paths`. dataset: row of DATASETS.

    Raises UserError when the zip is damaged, incomplete or of another format.
    """
    (path,) = paths
    with open_file(path) as file:
        try:
            check_zip(file)
            archive = zipfile.ZipFile(file)
        except UserError as error:
            raise UserError(f"{path}: {error}; it is no {FOLDER}.zip") from None
        except ZIP_DAMAGE as error:
            raise UserError(
                f"{path} is not a whole zip archive ({_line(error)}); delete it or fetch it again"
            ) from error
        with archive:
            names = archive.namelist()
            root = next((name[: -len("wnids.txt")] for name in names if name.rpartition("/")[2] == "wnids.txt"), None)
            if root is None:
                raise UserError(f"{path} does not hold wnids.txt; is it {FOLDER}.zip?")

            def read_member(name: str) -> bytes:
                try:
                    member = archive.getinfo(root + name)
                    if member.file_size > _LARGEST_MEMBER:
                        raise UserError(
                            f"{path}: {name} claims {member.file_size:,} bytes; it is no file of {dataset.name}"
                        )
                    with archive.open(member) as packed:  # no more than it claims is unpacked
                        return packed.read(_LARGEST_MEMBER + 1)
                except KeyError:
                    raise UserError(
                        f"{path} does not hold {name}; the archive is not complete, fetch it again"
                    ) from None
                except UserError:
                    raise
                except ZIP_DAMAGE as error:
                    raise UserError(
                        f"{path}: {name} is damaged ({_line(error)}); delete the archive or fetch it again"
                    ) from error

            return _read(dataset, split, path, read_member)


def read_unpacked(files: Any, split: str) -> Optional[Images]:
    """Images of one split from the unpacked folder, or None where there is none. files: DatasetFiles. Raises UserError
    as `read` does."""
    dataset, folder = files.dataset, _find_unpacked(files)
    if folder is None:
        return None

    def read_file(name: str) -> bytes:
        try:
            with open_file(Path(folder, name)) as file:
                data = file.read(_LARGEST_MEMBER + 1)
            if len(data) > _LARGEST_MEMBER:
                raise UserError(
                    f"{folder}: {name} has more than {_LARGEST_MEMBER:,} bytes; it is no file of {dataset.name}"
                )
            return data
        except FileNotFoundError:
            raise UserError(
                f"{folder} does not hold {name}; unpack the archive again, or put the archive itself beside the folder"
            ) from None
        except OSError as error:
            raise UserError(f"{folder}: cannot read {name}: {error.strerror or error}") from None

    return _read(dataset, split, folder, read_file)


def _find_unpacked(files: Any) -> Optional[Path]:
    for folder in (files.folder, files.folder / files.dataset.name):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    wnids = files.find("wnids.txt")
    return wnids.parent if wnids else None


def _read(dataset: Any, split: str, where: Path, read: Callable[[str], bytes]) -> Images:
    """read(name) -> bytes; where: the zip or folder, for messages."""
    ids = [identifier for (identifier,) in _lines(where, "wnids.txt", read, 1)]
    wrong = [identifier for identifier in ids if not _ID.fullmatch(identifier)]
    if wrong or len(set(ids)) != dataset.classes or len(ids) != dataset.classes:
        problem = f"{wrong[0]!r}, which is no WordNet id" if wrong else f"{len(set(ids))} different classes"
        raise UserError(f"{where}: wnids.txt lists {problem}; {dataset.name} has {dataset.classes} classes")
    label_of = {identifier: label for label, identifier in enumerate(sorted(ids))}
    listed = []  # (folder, name, label)
    if split == "train":
        for identifier, label in label_of.items():
            for (name,) in _lines(where, f"train/{identifier}/{identifier}_boxes.txt", read, 1):
                listed.append((f"train/{identifier}/images", name, label))
    else:
        for name, identifier in _lines(where, "val/val_annotations.txt", read, 2):
            if identifier not in label_of:
                raise UserError(
                    f"{where}: val/val_annotations.txt gives {name} the class {identifier!r}, which is not in wnids.txt"
                )
            listed.append(("val/images", name, label_of[identifier]))
    if len(listed) > _MOST_IMAGES:
        raise UserError(f"{where} lists {len(listed):,} images; {dataset.name} has {dataset.train_size:,}")
    images = np.empty((len(listed), dataset.size, dataset.size, 3), np.uint8)
    for image, (folder, name, _) in zip(images, listed):
        if not _IMAGE.fullmatch(name):
            raise UserError(f"{where}: the list of {folder} is damaged; {name!r} is no name of an image")
        image[:] = _decode(read(f"{folder}/{name}"), f"{where}: {folder}/{name}", image.shape)
    return Images(images, np.array([label for _, _, label in listed], np.int32))


def _lines(where: Path, name: str, read: Callable[[str], bytes], columns: int) -> List[List[str]]:
    """The first columns of each line of a text file, of which none may be missing and there must be one."""
    try:
        lines = read(name).decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"{where}: {name} is no text; it is damaged") from None
    if not lines:
        raise UserError(f"{where}: {name} is empty")
    rows = [line.split()[:columns] for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) < columns:
            raise UserError(f"{where}: line {number} of {name} has {len(row)} of {columns} columns; it is damaged")
    return rows


def _decode(encoded: bytes, title: str, shape: Tuple[int, ...]) -> np.ndarray:
    """RGB; a gray image becomes three equal channels."""
    # OpenCV fills up a JPEG that breaks off, which a missing end marker tells.
    size = image_size(encoded)
    if size and size[:2] != shape[:2]:
        raise UserError(f"{title} has {size[1]}x{size[0]} pixels, not {shape[1]}x{shape[0]}")
    try:
        image = decode(encoded, shape[0] * shape[1], cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except UserError:
        image = None
    if image is None or b"\xff\xd9" not in encoded:
        raise UserError(f"{title} is no whole JPEG; it is damaged")
    if image.shape != shape:
        raise UserError(f"{title} has {image.shape[1]}x{image.shape[0]} pixels, not {shape[1]}x{shape[0]}")
    return image[:, :, ::-1]  # OpenCV decodes to BGR


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
