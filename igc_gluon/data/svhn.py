"""SVHN (cropped digits) from its official .mat files, split as in the paper, section 5.1.

A file holds X, uint8 (32, 32, 3, N), and y, (N, 1), the digits 1..9 and 10, which means 0.
400 images per class of train_32x32.mat and 200 per class of extra_32x32.mat are held out for validation; the
paper does not say which, here a fixed seed does. 73,257 + 531,131 - 6,000 = 598,388 images are left to train.
"""
import numpy as np

from igc_gluon.data.images import SHAPE, Images
from igc_gluon.errors import UserError

HELD_OUT_PER_CLASS = {"train_32x32.mat": 400, "extra_32x32.mat": 200}
_SEED = 20170710  # of the split, never to be changed: published numbers on SVHN hang on it
_CLASSES = 10
_LARGEST_COUNT = 1 << 20  # images in a file; twice the largest official one
_PIECE = 10000  # images copied at a time, so that no second copy of half a million is ever in memory


def read(split, paths):
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
    images = np.empty((sum(len(chosen) for _, _, chosen in parts),) + SHAPE, np.uint8)
    start = 0
    for pixels, _, chosen in parts:
        for first in range(0, len(chosen), _PIECE):
            piece = chosen[first:first + _PIECE]
            images[start:start + len(piece)] = pixels[..., piece].transpose(3, 0, 1, 2)
            start += len(piece)
    if not start:
        raise UserError(f"{paths[-1]}: no image is left for the split {split!r}")
    return Images(images, np.concatenate([labels[chosen] for _, labels, chosen in parts]))


def _held_out(path, labels):
    """Sorted indices of the validation images of one file."""
    count = HELD_OUT_PER_CLASS[path.name]
    random = np.random.RandomState(_SEED)  # its stream is frozen by NumPy, that of Generator is not
    chosen = []
    for label in range(_CLASSES):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            raise UserError(f"{path} has {len(members)} images of digit {label}, but the paper's split holds out "
                            f"{count} of each for validation; the file is not complete")
        chosen.append(random.permutation(members)[:count])
    return np.sort(np.concatenate(chosen))


def _read_mat(path):
    """X as stored, uint8 (32, 32, 3, N), and labels int32 (N,) with 0 for the digit 0."""
    from scipy import io  # takes half a second, which other data sets need not pay
    with open(path, "rb") as file:
        # Older and newer formats share the ending; scipy would take arbitrary bytes for MATLAB 4.
        if not file.read(128).startswith(b"MATLAB 5.0 MAT-file"):
            raise UserError(f"{path} is not a MATLAB 5 file as SVHN's are; delete it or fetch it again")
        try:
            file.seek(0)
            # Headers first: what they claim decides whether the rest is worth reading into memory.
            claimed = {name: (shape, kind) for name, shape, kind in io.whosmat(file)}
            _check_claims(path, claimed)
            file.seek(0)
            content = io.loadmat(file, variable_names=("X", "y"))
            pixels, labels = content["X"], content["y"].ravel()
        except UserError:
            raise
        except Exception as error:  # on damaged bytes scipy raises nearly everything, MemoryError included
            raise UserError(f"{path} is damaged ({' '.join(str(error).split())}); delete it or fetch it "
                            "again") from error
    if pixels.shape != claimed["X"][0] or pixels.dtype != np.uint8 or labels.shape != pixels.shape[3:]:
        raise UserError(f"{path} is damaged (X is {pixels.dtype} {pixels.shape}, y is {labels.shape}); "
                        "delete it or fetch it again")
    if len(labels) == 0:
        raise UserError(f"{path} holds no images")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(1, _CLASSES + 1)))
    if len(wrong):
        raise UserError(f"{path}: image {wrong[0]} has label {labels[wrong[0]]}, but SVHN has labels 1 to 10; "
                        "the file is damaged or another data set")
    return pixels, (labels % _CLASSES).astype(np.int32)


def _check_claims(path, claimed):
    for name in ("X", "y"):
        if name not in claimed:
            raise UserError(f"{path} holds no variable {name}; is it one of SVHN's cropped digits files?")
    (shape, kind), (label_shape, label_kind) = claimed["X"], claimed["y"]
    if shape[:3] != SHAPE or len(shape) > 4 or kind != "uint8":
        raise UserError(f"{path}: X is {kind} {shape}, but SVHN has uint8 (32, 32, 3, N)")
    count = shape[3] if len(shape) == 4 else 1
    if label_shape not in ((count, 1), (1, count)) or label_kind in ("cell", "struct", "object", "function", "opaque"):
        raise UserError(f"{path}: y is {label_kind} {label_shape}, but X has {count} images")
    if count > _LARGEST_COUNT:
        raise UserError(f"{path} claims {count:,} images, more than any file of SVHN")
