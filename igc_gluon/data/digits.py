"""1,797 handwritten digits that come with the package: a real data set that needs no download.

The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49; CC BY 4.0), the same images in the same order as in scikit-learn's
`load_digits`: 8x8 pixels, gray 0..16.
"""

import gzip
from pathlib import Path
from typing import Any, List

import numpy as np

from igc_gluon.data.images import Images

TEST_SIZE = 360
_FILE = Path(__file__).with_name("digits.npy.gz")
_SEED = 20170710  # of the split, never to be changed: published numbers on `digits` hang on it


def read(dataset: Any, split: str, paths: List[Path]) -> Images:
    """Images (1437 of "train", 360 of "test"; uint8 RGB 32x32) and labels 0..9, the same on every machine."""
    rows = stored()
    labels = rows[:, 0].astype(np.int32)
    chosen = _held_out(labels)
    if split == "train":
        chosen = np.setdiff1d(np.arange(len(labels)), chosen)
    gray = _enlarge(rows[chosen, 1:].reshape(-1, 8, 8).astype(np.int64))
    return Images.of_planes(np.repeat(gray[:, None], 3, axis=1), labels[chosen])


def stored() -> np.ndarray:
    """uint8 (1797, 65): of each image its label 0..9 and its 8x8 pixels 0..16, row by row."""
    with gzip.open(_FILE) as file:
        return np.load(file, allow_pickle=False)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Sorted indices of the test images: each class has the same share of them, to less than one image."""
    counts = np.bincount(labels)
    shares = counts * TEST_SIZE / len(labels)
    take = shares.astype(int)
    # What rounding down left over goes to the classes that lost most by it.
    take[np.argsort(take - shares, kind="stable")[: TEST_SIZE - take.sum()]] += 1
    random = np.random.RandomState(_SEED)  # its stream is frozen by NumPy, that of Generator is not
    return np.sort(
        np.concatenate(
            [random.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(take)]
        )
    )


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Bilinear enlargement of (N, 8, 8) in 0..16 to (N, 32, 32) in 0..255, pixel centers aligned.

    Done in integers, so that every machine and library version gives the same bytes: the weights of bilinear
    interpolation by 4 are eighths, 1/8, 3/8, 5/8, 7/8.
    """
    eighths = np.zeros((32, 8), dtype=np.int64)
    for row in range(32):
        position = 2 * row - 3  # in eighths of a source pixel: ((row + 1/2) / 4 - 1/2) * 8
        lower, weight = position // 8, position % 8
        eighths[row, max(lower, 0)] += 8 - weight
        eighths[row, min(lower + 1, 7)] += weight
    scaled = eighths @ images @ eighths.T * 255  # 0..255 in units of 1 / (8 * 8 * 16)
    return ((scaled + 512) // 1024).astype(np.uint8)
