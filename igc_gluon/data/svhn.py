"""SVHN (cropped digits) from its official .mat files, split as in the paper, section 5.1.

A file holds X, uint8 (32, 32, 3, N), and y, (N, 1), the digits 1..9 and 10, which means 0.
400 images per class of train_32x32.mat and 200 per class of extra_32x32.mat are held out for validation; the
paper does not say which, here a fixed seed does. Of the papers that it follows in this some choose the best epoch by
them, and so does training here. 73,257 + 531,131 - 6,000 = 598,388 images are left to train.
"""

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np

from igc_gluon.data.images import SHAPE, Images
from igc_gluon.data.matfile import read_arrays
from igc_gluon.errors import UserError

HELD_OUT_PER_CLASS = {"train_32x32.mat": 400, "extra_32x32.mat": 200}
_SEED = 20170710  # of the split, never to be changed: published numbers on SVHN hang on it
_CLASSES = 10
_PIECE = 10000  # images copied at a time, so that no second copy of half a million is ever in memory


def read(dataset: Any, split: str, paths: List[Path]) -> Images:
    """Images of one split. paths: test_32x32.mat for "test", else train_32x32.mat and extra_32x32.mat.

    Raises UserError when a file is damaged, of another format, or too small for the split.
    """
    parts = []
    for path in paths:
        pixels, labels = _read_mat(path)
        chosen = np.arange(len(labels))
        if split != "test":
            held_out = _held_out(path, labels)
            chosen = held_out if split == "validation" else np.setdiff1d(chosen, held_out)
        parts.append((pixels, labels, chosen))
    planes = np.empty((sum(len(chosen) for _, _, chosen in parts), 3, *SHAPE[:2]), np.uint8)
    start = 0
    for pixels, _, chosen in parts:
        for first in range(0, len(chosen), _PIECE):
            piece = chosen[first : first + _PIECE]
            planes[start : start + len(piece)] = pixels[..., piece].transpose(3, 2, 0, 1)
            start += len(piece)
    if not start:
        raise UserError(f"{paths[-1]}: no image is left for the split {split!r}")
    return Images.of_planes(planes, np.concatenate([labels[chosen] for _, labels, chosen in parts]))


def _held_out(path: Path, labels: np.ndarray) -> np.ndarray:
    """Sorted indices of the validation images of one file."""
    count = HELD_OUT_PER_CLASS[path.name]
    random = np.random.RandomState(_SEED)  # its stream is frozen by NumPy, that of Generator is not
    chosen = []
    for label in range(_CLASSES):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            raise UserError(
                f"{path} has {len(members)} images of digit {label}, but the paper's split holds "
                f"out {count} of each for validation; the file is not complete"
            )
        chosen.append(random.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def _read_mat(path: Path) -> Tuple[np.ndarray, np.ndarray]:
    """X as stored, uint8 (32, 32, 3, N), and labels int32 (N,) with 0 for the digit 0."""
    variables = read_arrays(path, ("X", "y"))
    pixels, labels = variables["X"], variables["y"].ravel()
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != SHAPE:
        raise UserError(f"{path}: X is {pixels.dtype} {pixels.shape}, but SVHN has uint8 (32, 32, 3, N)")
    if len(labels) != pixels.shape[3]:
        raise UserError(f"{path} has {pixels.shape[3]} images, but {len(labels)} labels; it is damaged")
    if not len(labels):
        raise UserError(f"{path} holds no images")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(1, _CLASSES + 1)))
    if len(wrong):
        raise UserError(
            f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, but SVHN has labels 1 to "
            f"{_CLASSES}; the file is damaged or another data set"
        )
    return pixels, (labels % _CLASSES).astype(np.int32)
