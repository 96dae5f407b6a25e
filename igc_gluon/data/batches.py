"""Images -> normalised batches, augmented a whole batch at a time.

Augmentation is the paper's (section 5.1): pad by 4 pixels, crop 32x32 at random, mirror half of the images.
What comes out depends on seed and epoch alone, not on where a run was resumed or how many workers share it.
"""
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from igc_gluon.errors import UserError

PAD = 4
PAD_VALUES = ("mean", "zero")
_ORDER, _CROP, _MIRROR = range(3)  # purposes of random numbers, each with its own stream


class Batches:
    """Cuts a data set into batches, epoch by epoch.

    images, labels: uint8 (N, H, W, 3) and integers (N,), as `load` returns them; not copied.
    batch_size: images in a batch of all workers together (train), of this worker (evaluation).
    mean, std: per channel, of pixels 0..255; what comes out is (pixel - mean) / std.
    train: every batch is full, the last one is filled up from the start of the epoch's order, as the authors'
        iterator does (782 batches of 64 for 50,000 images). Otherwise, for evaluation: in order and not
        augmented whatever the flags below say, and the last batch is short.
    shuffle, augment (pad and crop), mirror: for training, see above.
    pad_value: "mean", the rounded mean colour, as the authors' code has it, or "zero", black pixels, as the
        paper says. Both surround the image before normalisation, so "zero" comes out as -mean / std.
    seed: integer, not negative.
    part_index, num_parts: this is worker part_index of num_parts. In training it gets its contiguous share of
        every batch, in evaluation its contiguous share of the data set.

    Raises UserError on an empty data set and on numbers out of range.
    """

    def __init__(self, images, labels, batch_size, mean, std, train=True, shuffle=True, augment=False,
                 mirror=False, pad_value="mean", seed=0, part_index=0, num_parts=1):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images are uint8 (N, H, W, 3), not {images.dtype} {images.shape}")
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} images have {len(labels)} labels")
        if not len(images):
            raise UserError("the data set is empty")
        if batch_size < 1:
            raise UserError(f"the batch size must be at least 1, it is {batch_size}")
        if seed < 0:
            raise UserError(f"the random seed must not be negative, it is {seed}")
        if pad_value not in PAD_VALUES:
            raise UserError(f"the padding is {' or '.join(PAD_VALUES)}, not {pad_value!r}")
        if not 0 <= part_index < num_parts:
            raise ValueError(f"part_index is {part_index}, but there are {num_parts} parts")
        if train and batch_size < num_parts:
            raise UserError(f"a batch of {batch_size} images is too small for {num_parts} workers")
        self._images, self._labels = images, np.asarray(labels)
        self._batch_size, self._train, self._seed = batch_size, train, seed
        self._shuffle, self._augment, self._mirror = shuffle and train, augment and train, mirror and train
        mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        colour = np.rint(mean) if pad_value == "mean" else np.zeros(3)
        self._pad_colour = colour.astype(np.uint8)[:, None, None]
        # (pixel - mean) / std = pixel * scale + shift
        self._scale = (1 / std).astype(np.float32)[:, None, None]
        self._shift = (-mean / std).astype(np.float32)[:, None, None]
        count = len(images)
        if train:
            self._length = -(-count // batch_size)
            self._shares = [(first + batch_size * part_index // num_parts,
                             first + batch_size * (part_index + 1) // num_parts)
                            for first in range(0, self._length * batch_size, batch_size)]
        else:
            end = count * (part_index + 1) // num_parts
            self._shares = [(first, min(first + batch_size, end))
                            for first in range(count * part_index // num_parts, end, batch_size)]
            self._length = len(self._shares)

    def __len__(self):
        """Number of batches in an epoch; of this worker."""
        return self._length

    def epoch(self, epoch, first_batch=0):
        """Yields (float32 (B, 3, H, W), labels float32 (B,)), new arrays each time.

        epoch: number of the epoch, from 0.
        first_batch: how many batches to leave out at the start; the others are what they are in a full pass.
        """
        # All random numbers of the epoch are drawn at once, one set for each position in the epoch, so that
        # neither first_batch nor the number of workers moves them. It costs 2 ms for 50,000 images.
        order, corners, mirrored = self._draw(epoch)
        for first, last in self._shares[first_batch:]:
            chosen = order[first:last]
            images = self._images[chosen].transpose(0, 3, 1, 2)
            if self._augment:
                images = self._crop(images, corners[first:last])
            if self._mirror:
                flags = mirrored[first:last]
                images = np.ascontiguousarray(images)
                images[flags] = images[flags][..., ::-1]
            data = np.empty(images.shape, np.float32)
            np.multiply(images, self._scale, out=data)
            data += self._shift
            yield data, self._labels[chosen].astype(np.float32)

    def _draw(self, epoch):
        """Indices of images (P,), corners of crops (P, 2) and flags of mirroring (P,) for all P positions."""
        count = len(self._images)
        positions = self._length * self._batch_size if self._train else count
        order = self._random(epoch, _ORDER).permutation(count) if self._shuffle else np.arange(count)
        corners = mirrored = None
        if self._augment:
            corners = self._random(epoch, _CROP).integers(0, 2 * PAD + 1, (positions, 2))
        if self._mirror:
            mirrored = self._random(epoch, _MIRROR).random(positions) < 0.5
        return np.resize(order, positions), corners, mirrored  # resize repeats the order from its start

    def _random(self, epoch, purpose):
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, epoch, purpose])))

    def _crop(self, images, corners):
        """Pads (B, 3, H, W) and cuts an HxW window out of each at its corner (row, column)."""
        count, channels, height, width = images.shape
        # Planes before the gather: rows of a window are then contiguous, which makes it three times as fast
        # as on NHWC.
        padded = np.empty((count, channels, height + 2 * PAD, width + 2 * PAD), np.uint8)
        padded[:] = self._pad_colour
        padded[:, :, PAD:-PAD, PAD:-PAD] = images
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        return windows[np.arange(count), :, corners[:, 0], corners[:, 1]]
