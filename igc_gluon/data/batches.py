"""Images -> normalized batches, augmented a whole batch at a time.

Augmentation is the papers': pad by 4 pixels (IGCV1, section 5.1) or, for Tiny ImageNet, resize to a random
size (IGCV2, section 4.1); crop 32x32 or 64x64 at random, mirror half of the images.
What comes out depends on seed and epoch alone, not on where a run was resumed or how many workers share it.
"""

from typing import Iterator, NamedTuple, Optional, Protocol, Sequence, Tuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from igc_gluon.data.normalization import normalize
from igc_gluon.data.prefetch import prefetched
from igc_gluon.data.sharding import evaluation_batches, training_batches
from igc_gluon.errors import UserError

PAD = 4
PAD_VALUES = ("mean", "zero")
_ORDER, _CROP, _MIRROR, _SIZE = range(4)  # purposes of random numbers, each with its own stream


Batch = Tuple[np.ndarray, np.ndarray]


class BatchSource(Protocol):
    """Batches of one worker."""

    def __len__(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yields (float32 (n, 3, H, W), labels float32 (n,)) of epoch number `epoch`, from `first_batch` on."""


class _Draws(NamedTuple):
    """The random numbers of an epoch, one of each for every position: indices of images (P,), heights and widths to
    resize to (P, 2), corners of crops (P, 2), flags of mirroring (P,); None for what is not done."""

    order: np.ndarray
    sizes: Optional[np.ndarray]
    corners: Optional[np.ndarray]
    mirrored: Optional[np.ndarray]


class Batches:
    """Cuts a data set into batches, epoch by epoch.

    images, labels: uint8 (N, H, W, 3) and integers (N,), as `load` returns them; not copied.
    batch_size: images in a batch of all workers together (train), of this worker (evaluation).
    mean, std: per channel, of pixels 0..255; what comes out is (pixel - mean) / std.
    train: every batch is full, the last one is filled up from the start of the epoch's order, as the authors'
        iterator does (782 batches of 64 for 50,000 images). Otherwise, for evaluation: in order and not
        augmented whatever the flags below say, and the last batch is short.
    shuffle, augment (crop), mirror: for training, see above.
    short_side: None, or (smallest, largest): with `augment` an image is not padded but resized, bilinearly,
        so that its shorter side has a random number of pixels in this range, both ends included, before an
        area as large as the image was is cropped out. The range starts at the images' own side or above.
    pad_value: "mean", the rounded mean color, as the authors' code has it, or "zero", black pixels, as the
        paper says. Both surround the image before normalization, so "zero" comes out as -mean / std.
    strength: of `augment`, from 0 to 2: how far an image is moved or enlarged, in shares of the papers'.
    seed: integer, not negative.
    part_index, num_parts: this is worker part_index of num_parts. In training it gets its contiguous share of
        every batch, in evaluation its contiguous share of the data set.

    Raises UserError on an empty data set and on numbers out of range.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        train: bool = True,
        shuffle: bool = True,
        augment: bool = False,
        mirror: bool = False,
        pad_value: str = "mean",
        short_side: Optional[Tuple[int, int]] = None,
        strength: float = 1.0,
        seed: int = 0,
        part_index: int = 0,
        num_parts: int = 1,
    ) -> None:
        _check_arrays(images, labels)
        _check_numbers(train, batch_size, seed, part_index, num_parts)
        if pad_value not in PAD_VALUES:
            raise UserError(f"the padding is {' or '.join(PAD_VALUES)}, not {pad_value!r}")
        if short_side and not min(images.shape[1:3]) <= short_side[0] <= short_side[1]:
            raise ValueError(
                f"the short side of {images.shape[2]}x{images.shape[1]} images cannot become "
                f"{short_side[0]} to {short_side[1]} pixels"
            )
        self._images, self._labels = images, np.asarray(labels)
        self._mean, self._std = tuple(mean), tuple(std)
        self._shuffle, self._augment, self._mirror = shuffle and train, augment and train, mirror and train
        self._short_side, self._seed, self._pad = short_side, seed, round(PAD * strength)
        if short_side:
            own = min(images.shape[1:3])
            smallest, largest = (own + round((side - own) * strength) for side in short_side)
            self._short_side = (smallest, largest)
        color = np.rint(np.asarray(mean, np.float64)) if pad_value == "mean" else np.zeros(3)
        self._pad_color = color.astype(np.uint8)[:, None, None]
        divide = training_batches if train else evaluation_batches
        self._batches = divide(len(images), batch_size, part_index, num_parts)
        self._positions = -(-len(images) // batch_size) * batch_size if train else len(images)

    def __len__(self) -> int:
        """Number of batches in an epoch; of this worker."""
        return len(self._batches)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yields (float32 (B, 3, H, W), labels float32 (B,)), new arrays each time, made by a thread that is a batch
        ahead.

        epoch: number of the epoch, from 0.
        first_batch: how many batches to leave out at the start; the others are what they are in a full pass.
        """
        # All random numbers of the epoch are drawn at once, one set for each position in the epoch, so that
        # neither first_batch nor the number of workers moves them. It costs 2 ms for 50,000 images.
        draws = self._draw(epoch)
        yield from prefetched(
            lambda batch: self._make(draws, slice(batch.start, batch.stop)), self._batches[first_batch:]
        )

    def _make(self, draws: _Draws, batch: slice) -> Batch:
        chosen = draws.order[batch]
        planes = self._images.transpose(0, 3, 1, 2)
        if draws.sizes is not None and draws.corners is not None:
            cropped = _resize_and_crop(self._images[chosen], draws.sizes[batch], draws.corners[batch])
            images = cropped.transpose(0, 3, 1, 2)
        elif draws.corners is not None:
            images = self._crop(planes[chosen], draws.corners[batch])
        else:
            images = planes[chosen]
        if draws.mirrored is not None:
            flags = draws.mirrored[batch]
            images = np.ascontiguousarray(images)
            images[flags] = images[flags][..., ::-1]
        data = normalize(images, self._mean, self._std, np.empty(images.shape, np.float32))
        return data, self._labels[chosen].astype(np.float32)

    def _draw(self, epoch: int) -> _Draws:
        count, positions = len(self._images), self._positions
        order = self._random(epoch, _ORDER).permutation(count) if self._shuffle else np.arange(count)
        sizes = corners = mirrored = None
        if self._augment and self._short_side:
            smallest, largest = self._short_side
            own = np.array(self._images.shape[1:3])
            shorter = self._random(epoch, _SIZE).integers(smallest, largest + 1, (positions, 1))
            sizes = np.rint(shorter * own / own.min()).astype(int)
            corners = (self._random(epoch, _CROP).random((positions, 2)) * (sizes - own + 1)).astype(int)
        elif self._augment:
            corners = self._random(epoch, _CROP).integers(0, 2 * self._pad + 1, (positions, 2))
        if self._mirror:
            mirrored = self._random(epoch, _MIRROR).random(positions) < 0.5
        # np.resize repeats the order from its start.
        return _Draws(np.resize(order, positions), sizes, corners, mirrored)

    def _random(self, epoch: int, purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, epoch, purpose])))

    def _crop(self, images: np.ndarray, corners: np.ndarray) -> np.ndarray:
        """Pads (B, 3, H, W) and cuts an HxW window out of each at its corner (row, column)."""
        count, channels, height, width = images.shape
        # Planes before the gather: rows of a window are then contiguous, which makes it three times as fast
        # as on NHWC.
        pad = self._pad
        padded = np.empty((count, channels, height + 2 * pad, width + 2 * pad), np.uint8)
        padded[:] = self._pad_color
        padded[:, :, pad : pad + height, pad : pad + width] = images
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))  # type: ignore[call-overload]  # NumPy 1.23's
        return windows[np.arange(count), :, corners[:, 0], corners[:, 1]]


def _check_arrays(images: np.ndarray, labels: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images are uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
    if len(labels) != len(images):
        raise ValueError(f"{len(images)} images have {len(labels)} labels")
    if not len(images):
        raise UserError("the data set is empty")


def _check_numbers(train: bool, batch_size: int, seed: int, part_index: int, num_parts: int) -> None:
    if batch_size < 1:
        raise UserError(f"the batch size must be at least 1, it is {batch_size}")
    if seed < 0:
        raise UserError(f"the random seed must not be negative, it is {seed}")
    if not 0 <= part_index < num_parts:
        raise ValueError(f"part_index is {part_index}, but there are {num_parts} parts")
    if train and batch_size < num_parts:
        raise UserError(f"a batch of {batch_size} images is too small for {num_parts} workers")


def _resize_and_crop(images: np.ndarray, sizes: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Resizes every image of (B, H, W, 3) to its size (height, width) and cuts HxW out at its corner."""
    cropped = np.empty(images.shape, np.uint8)
    height, width = images.shape[1:3]
    for target, image, size, (row, column) in zip(cropped, images, sizes.tolist(), corners.tolist()):
        # The exact kind gives the same bits on every machine. It is half as fast as the other.
        resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR_EXACT)
        target[:] = resized[row : row + height, column : column + width]
    return cropped
