"""Augmentation across the images of a batch: random erasing, mixup, cutmix.

What comes out depends on seed, epoch and batch alone. Images are mixed within a shard of the batch, which one device
has at a time, so that neither workers nor devices change the result.
"""

from dataclasses import dataclass
from typing import Iterator, Tuple

import numpy as np

from igc_gluon.data.batches import Batch, BatchSource
from igc_gluon.data.prefetch import prefetched
from igc_gluon.data.sharding import shard

# Zhong et al. (AAAI 2020), section 4.1: share of the image and height over width of what is erased.
ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = 0.3  # to 1 / 0.3
_TRIES = 10  # for a rectangle that fits
_ERASE, _MIX, _ORDER = range(100, 103)  # purposes of random numbers, none of `Batches`


@dataclass(frozen=True)
class Mixing:
    """mixup: alpha of Zhang et al. (ICLR 2018), eq. 1-2: images and labels are mixed by lambda from Beta(alpha, alpha).
    cutmix: alpha of Yun et al. (ICCV 2019), eq. 1-2: a rectangle of 1 - lambda of the image comes from another one.
    With both, each batch has one of them, by a toss of a coin. erasing: probability that an image has a rectangle of
    the mean color (random erasing). 0: without.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.mixup or self.cutmix or self.erasing)


class MixedBatches:
    """The batches of `source`, those of worker `part_index` of `num_parts`, with `mixing`.

    batch_size, shards: over all workers. Where images are mixed labels are float32 (n, classes), shares of the classes.
    """

    def __init__(
        self,
        source: BatchSource,
        mixing: Mixing,
        *,
        batch_size: int,
        shards: int,
        classes: int,
        seed: int,
        part_index: int = 0,
        num_parts: int = 1,
    ) -> None:
        self._source, self._mixing, self._classes, self._seed = source, mixing, classes, seed
        self._mine = shard(batch_size, part_index, num_parts)
        mine = shard(shards, part_index, num_parts)
        self._shards = [(number, shard(batch_size, number, shards)) for number in mine]

    def __len__(self) -> int:
        """Number of batches in an epoch; of this worker."""
        return len(self._source)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """As that of `source`."""
        numbered = enumerate(self._source.epoch(epoch, first_batch), first_batch)
        yield from prefetched(lambda job: self._make(epoch, job[0], *job[1]), numbered)

    def _make(self, epoch: int, batch: int, data: np.ndarray, label: np.ndarray) -> Batch:
        if self._mixing.erasing:
            for place, image in zip(self._mine, data):
                erase(image, self._mixing.erasing, self._random(epoch, batch, _ERASE, place))
        if not (self._mixing.mixup or self._mixing.cutmix):
            return data, label
        random = self._random(epoch, batch, _MIX)
        cut = self._mixing.cutmix > 0 and (not self._mixing.mixup or random.random() < 0.5)
        alpha = self._mixing.cutmix if cut else self._mixing.mixup
        share, center = random.beta(alpha, alpha), random.random(2)
        target = np.eye(self._classes, dtype=np.float32)[label.astype(int)]
        for number, places in self._shards:
            own = slice(places.start - self._mine.start, places.stop - self._mine.start)
            order = self._random(epoch, batch, _ORDER, number).permutation(len(places))
            mix = cutmix if cut else mixup
            data[own], target[own] = mix(data[own], target[own], order, share, center)
        return data, target

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, *purpose])))


Mixed = Tuple[np.ndarray, np.ndarray]


def mixup(data: np.ndarray, target: np.ndarray, order: np.ndarray, share: float, center: object = None) -> Mixed:
    """(images, targets), of which each is `share` of its own and the rest of that at its place in `order`."""
    own, other = np.float32(share), np.float32(1 - share)
    return own * data + other * data[order], own * target + other * target[order]


def cutmix(data: np.ndarray, target: np.ndarray, order: np.ndarray, share: float, center: np.ndarray) -> Mixed:
    """(images, targets): a rectangle around `center` (row, column, from 0 to 1), of the image's sides times
    sqrt(1 - share), comes from the image at the place in `order`. Targets have the shares of what is within the
    image."""
    sides = np.array(data.shape[2:])
    middle, half = (center * sides).astype(int), (sides * np.sqrt(1 - share)).astype(int) // 2
    (top, left), (bottom, right) = np.maximum(middle - half, 0), np.minimum(middle + half, sides)
    mixed = data.copy()
    mixed[:, :, top:bottom, left:right] = data[order, :, top:bottom, left:right]
    other = np.float32((bottom - top) * (right - left) / sides.prod())
    return mixed, (1 - other) * target + other * target[order]


def erase(image: np.ndarray, probability: float, random: np.random.Generator) -> None:
    """With `probability` makes a rectangle of the normalized image (3, H, W) 0, the mean color, in place."""
    if random.random() >= probability:
        return
    height, width = image.shape[1:]
    for _ in range(_TRIES):
        area = random.uniform(*ERASED_AREA) * height * width
        aspect = random.uniform(ERASED_ASPECT, 1 / ERASED_ASPECT)
        rows, columns = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < rows < height and 0 < columns < width:
            top, left = random.integers(height - rows + 1), random.integers(width - columns + 1)
            image[:, top : top + rows, left : left + columns] = 0
            return
