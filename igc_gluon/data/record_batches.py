"""RecordIO -> normalized batches. Images are decoded and cropped by OpenCV, in threads.

What comes out depends on seed and epoch alone: not on how many workers share a batch, not on the number of
cores, not on where a run was resumed. The order of an epoch is drawn at once; the crop of each place in it
has random numbers of its own.

MXNet's ImageRecordIter is not used: its random crops are of one size of records (see
`igc_gluon.data.augment`), depend on its threads and how far it has read ahead, and cannot be resumed; it
takes signs in names for addresses, reads fewer formats, and ends the process on some damaged images.
"""

import shlex
import struct
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Deque, Iterable, Iterator, List, Sequence, Tuple, Union

import numpy as np

from igc_gluon.data.augment import AUGMENTATIONS, draw, random_crop
from igc_gluon.data.batches import Batch
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.record_file import read_index
from igc_gluon.data.recordio import decode, problem_and_label, read_record
from igc_gluon.data.sharding import evaluation_batches, training_batches
from igc_gluon.errors import UserError
from igc_gluon.paths import expand
from igc_gluon.threads import cores

AUGMENTS = (*AUGMENTATIONS, "none")  # the last: the center crop, as for evaluation
_AHEAD = 2  # batches that are decoded while the network has one
_LOOKED_AT = 16  # images of a file whose size is looked at
_ORDER, _CROP = range(2)  # purposes of random numbers, each with its own stream
_Place = Tuple[int, Any]  # number of a record, and in training (epoch, place in its order), by which its crop is drawn


class _Records:
    """The file at `path`, FILE.rec with its index, checked by `record_file.structure`, as images that a network takes.
    preprocessing: what it expects of them, see `data.preprocessing`."""

    def __init__(self, path: Union[str, Path], preprocessing: Preprocessing) -> None:
        self._path, self._preprocessing = expand(path), preprocessing
        self._positions = read_index(self._path)

    def _read(self, batches: Iterable[List[_Place]]) -> Iterator[Batch]:
        """Yields (float32 (n, 3, H, W), labels float32 (n,)) for each of `batches`: arguments of `_example`."""
        try:
            with open(self._path, "rb") as file, ThreadPoolExecutor(cores()) as pool:
                yield from self._decoded(file, pool, batches)
        except MemoryError:
            raise UserError(
                f"there is too little memory to read {self._path}; lower --batch-size or --image-shape"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read {self._path}: {error.strerror or error}") from None

    def _decoded(self, file: BinaryIO, pool: ThreadPoolExecutor, batches: Iterable[List[_Place]]) -> Iterator[Batch]:
        waiting: Deque[Tuple[np.ndarray, List[Any]]] = deque()
        try:
            for batch in batches:
                data = np.empty((len(batch), *self._preprocessing.image_shape), np.float32)
                waiting.append(
                    (data, [pool.submit(self._example, file, target, *job) for target, job in zip(data, batch)])
                )
                if len(waiting) > _AHEAD:
                    yield _finished(waiting.popleft())
            while waiting:
                yield _finished(waiting.popleft())
        finally:
            for _, jobs in waiting:
                for job in jobs:
                    job.cancel()

    def _example(self, file: BinaryIO, target: np.ndarray, number: int, place: Any) -> float:
        """Writes record `number`, cropped by `_crop`, to `target`. Returns its label."""
        position = int(self._positions[number])
        try:
            payload = read_record(file, position)
        except struct.error:
            raise UserError(f"{self._path} has been changed since the run began") from None
        problem, label = problem_and_label(payload, look=False)  # flipped bytes mostly are an image still
        image = None if problem else decode(payload)[0]
        if image is None or label is None:
            raise UserError(
                f"{self._path}, record at byte {position}: {problem or 'it holds no readable image'}; igc "
                f"data verify {shlex.quote(str(self._path))} lists what is broken, with --repair OUT.rec "
                "it writes a file without it"
            )
        self._preprocessing.normalize(self._crop(image, place)[None], out=target[None])
        return label

    def _crop(self, image: np.ndarray, place: Any) -> np.ndarray:
        return self._preprocessing.pixels(image)


def _finished(batch: Tuple[np.ndarray, List[Any]]) -> Batch:
    data, jobs = batch
    return data, np.array([job.result() for job in jobs], np.float32)


class RecordTraining(_Records):
    """Batches of a file for training, in a new random order every epoch.

    path, preprocessing: see `_Records`. batch_size: over all workers, of which this is number part_index of num_parts.
    augment: one of AUGMENTS, with `strength` of its changes, see `Augmentation.scaled`. seed: integer, not negative.
    Every batch is full, the last one is filled up from the start of the order, as in `Batches`.

    Raises UserError if the file has fewer images than a batch, or a batch than there are workers.
    """

    def __init__(
        self,
        path: Union[str, Path],
        batch_size: int,
        preprocessing: Preprocessing,
        *,
        augment: str,
        strength: float = 1.0,
        seed: int,
        part_index: int = 0,
        num_parts: int = 1,
    ) -> None:
        super().__init__(path, preprocessing)
        count = len(self._positions)
        if augment not in AUGMENTS:
            raise UserError(f"--augment must be one of {', '.join(AUGMENTS)}, not {augment!r}")
        if count < batch_size:
            raise UserError(
                f"the training file has {count} images, fewer than a batch of {batch_size}; lower --batch-size"
            )
        if batch_size < num_parts:
            raise UserError(f"a batch of {batch_size} images is too small for {num_parts} workers")
        augmentation = AUGMENTATIONS.get(augment)
        self._augmentation, self._seed = augmentation and augmentation.scaled(strength), seed
        self._batches = training_batches(count, batch_size, part_index, num_parts)

    def __len__(self) -> int:
        """Number of batches in an epoch, the same for every worker."""
        return len(self._batches)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Yields (float32 (n, 3, H, W), labels float32 (n,)), as `Batches.epoch`.

        Raises UserError on an image that cannot be read.
        """
        order = self._random(epoch, _ORDER).permutation(len(self._positions))
        return self._read(
            [(order[place % len(order)], (epoch, place)) for place in batch] for batch in self._batches[first_batch:]
        )

    def _crop(self, image: np.ndarray, place: Any) -> np.ndarray:
        if self._augmentation is None:
            return super()._crop(image, place)
        drawn = draw(self._augmentation, self._random(place[0], _CROP, place[1]))
        return self._preprocessing.ordered(random_crop(image, *self._preprocessing.crop, self._augmentation, drawn))

    def _random(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self._seed, *purpose])))


class RecordEvaluation(_Records):
    """A file in its own order, the center crop of each image, for evaluation; of a worker its share.

    Arguments as of RecordTraining; batch_size: of this worker.
    """

    def __init__(
        self,
        path: Union[str, Path],
        batch_size: int,
        preprocessing: Preprocessing,
        *,
        part_index: int = 0,
        num_parts: int = 1,
    ) -> None:
        super().__init__(path, preprocessing)
        self._batches = evaluation_batches(len(self._positions), batch_size, part_index, num_parts)

    def __len__(self) -> int:
        return len(self._batches)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """As that of RecordTraining; the last batch is short."""
        return self._read([(number, None) for number in batch] for batch in self._batches[first_batch:])


def short_sides(path: Union[str, Path], number: int) -> List[int]:
    """Pixels of the short sides of `number` images of the file at `path`, evenly spaced; without those that cannot be
    read."""
    path = expand(path)
    positions = read_index(path)
    chosen = np.unique(np.linspace(0, len(positions) - 1, number).astype(int))
    with open(path, "rb") as file:
        images = [decode(read_record(file, position))[0] for position in positions[chosen].tolist()]
    return [min(image.shape[:2]) for image in images if image is not None]


def check_size(path: Union[str, Path], size: Sequence[int]) -> None:
    """Raises UserError if most images of the file at `path` are smaller than a crop of `size`, (height, width), of
    which training sees a part only: they would be enlarged to more than twice their size."""
    sides, crop = short_sides(path, _LOOKED_AT), min(size)
    if sides and np.median(sides) < crop:
        raise UserError(
            f"{expand(path)} is too small for images of {size[1]}x{size[0]} pixels: the short side of its images is "
            f"{np.median(sides):.0f}; pack the photographs with --short-side "
            f"{crop} or more"
        )
