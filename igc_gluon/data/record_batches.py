"""RecordIO -> normalised batches, by MXNet's ImageRecordIter. (The one module of this package that imports MXNet.)

The order. What comes out must depend on seed and epoch alone: not on how many workers share a batch, not on the number
of cores, not on where a run was resumed. An ImageRecordIter by itself gives this up in three places: with several
decoding threads it is chance which of them, and so which random crop, a record gets; its second pass over the data
depends on how far it had read ahead; and its parts are cut by the number of workers. So the file is cut into a fixed
number of parts, a property of the experiment; each part has an iterator of its own with one decoding thread, made anew
for each epoch with a seed from (seed, epoch, part); and every batch takes the same number of images from each part.
Workers share the parts. The parts are what runs in parallel.

Within its part a record's place is random in each epoch, its part never changes: files should be written in a random
order, as `igc data imagenet` does.
"""
import ctypes
import functools
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from igc_gluon.data.photos import natural_short_side
from igc_gluon.data.records import decode, index_path, read_index, read_record, what_is_wrong
from igc_gluon.errors import UserError
from igc_gluon.threads import cores

PARTS = 16
SEED_LIMIT = 1 << 31
OPENINGS = 50  # how often a file is tried to be opened
REST_SECONDS = 30  # until nobody reads ahead any more
AUGMENTS = ("authors", "igcv3", "resnet", "none")


def augmentation(name, image_shape):
    """Arguments of ImageRecordIter. Sizes are for records whose short side is 480 and crops of 224, or in proportion.

    "authors": those of the authors' code. "igcv3": those of their code of IGCV3, which jitters no aspect ratio, has no
    smallest size, interpolates bilinearly and fills with grey. "resnet": short side 256 to 480, crop, mirror, colours along the principal
    components (He et al. 2016, section 3.4, after Krizhevsky et al.). "none": the center crop, as the authors' code
    validates.
    """
    short_side = natural_short_side(min(image_shape[1:]))
    scaled = {"rand_crop": True, "rand_mirror": True, "max_random_scale": 1.0, "min_img_size": short_side,
              "inter_method": 9}
    if name == "authors":
        return {**scaled, "min_random_scale": 0.533, "max_aspect_ratio": 0.25, "random_h": 36, "random_s": 50,
                "random_l": 50}
    if name == "igcv3":
        return {"rand_crop": True, "rand_mirror": True, "min_random_scale": 0.533, "max_random_scale": 1.0,
                "random_h": 36, "random_s": 50, "random_l": 50, "fill_value": 127}
    if name == "resnet":
        return {**scaled, "min_random_scale": 256 / 480, "pca_noise": 0.1}
    if name == "none":  # not by `resize`: on an image that it cannot decode MXNet would then divide by zero
        return {**scaled, "rand_crop": False, "rand_mirror": False, "min_random_scale": 0.533,
                "max_random_scale": 0.533}
    raise UserError(f"--augment must be one of {', '.join(AUGMENTS)}, not {name!r}")


def parts_for(records, batch_size, most=PARTS):
    """Into how many parts a file of so many records is cut: the largest number up to `most` that divides the batch and
    leaves each part as many images as a batch takes from it.

    Raises UserError where the file has fewer images than a batch.
    """
    if records < batch_size:
        raise UserError(f"the training file has {records} images, fewer than a batch of {batch_size}; lower "
                        "--batch-size")
    return next(parts for parts in range(min(most, batch_size), 0, -1)
                if batch_size % parts == 0 and _smallest_part(records, parts) >= batch_size // parts)


def _smallest_part(records, parts):
    return records - (parts - 1) * -(-records // parts)  # MXNet rounds up, and the last part is what is left


class RecordTraining:
    """Batches of a file for training, see the module.

    path: FILE.rec, of `records` records, checked by `records.structure`. batch_size: over all workers. parts: of the
    file, see `parts_for`. augment: see `augmentation`. mean, std: per channel, of pixels 0..255. The others as in
    `Batches`. Raises UserError if the parts cannot be shared by the workers.
    """

    def __init__(self, path, records, batch_size, parts, image_shape, augment, mean, std, seed, part_index=0,
                 num_parts=1):
        if parts % num_parts:
            raise UserError(f"{num_parts} workers cannot share the {parts} parts of the data; use a number of workers "
                            f"that divides {parts}, or another --batch-size or --data-parts")
        self._path, self._seed, self._parts = path, seed, parts
        self._own = range(parts * part_index // num_parts, parts * (part_index + 1) // num_parts)
        self._batch = batch_size // parts  # from each part
        self._length = -(-(-(-records // parts)) // self._batch)
        self._arguments = {"shuffle": True, "batch_size": self._batch, "num_parts": parts, "preprocess_threads": 1,
                           "prefetch_buffer": 2, **_common(path, image_shape, mean, std),
                           **augmentation(augment, image_shape)}

    def __len__(self):
        """Number of batches in an epoch, the same for every worker."""
        return self._length

    def epoch(self, epoch, first_batch=0):
        """Yields (float32 (n, 3, H, W), labels float32 (n,)), as `Batches.epoch`.

        The images of the batches that `first_batch` leaves out are read all the same, as fast as they can be.
        """
        opened = {}  # by part
        with _one_line(self._path, opened):
            readers = [self._part(epoch, part, opened) for part in self._own]
            # Each reads the index, a second for a million records; MXNet lets other threads run meanwhile.
            with ThreadPoolExecutor(len(readers)) as pool:
                list(pool.map(next, readers))
            for number in range(self._length):
                pieces = [next(reader) for reader in readers]
                if number >= first_batch:
                    yield tuple(map(_joined, zip(*pieces)))

    def _part(self, epoch, part, opened):
        """Yields None once the file is open, then (images, labels) as NDArrays without end."""
        for number in range(1 << 30):
            seed = int(np.random.SeedSequence([self._seed, epoch, part, number]).generate_state(1)[0] % SEED_LIMIT)
            opened[part] = iterator = record_iter(part_index=part, seed=seed, seed_aug=seed, **self._arguments)
            if not number:
                yield None
            # Where the batches of all parts are more than those of this one, it begins again.
            for batch in iterator:
                yield batch.data[0], batch.label[0]


def _joined(arrays):
    """NDArrays one after the other in a new NumPy array. `asnumpy` and a concatenation would copy twice."""
    joined = np.empty((sum(map(len, arrays)), *arrays[0].shape[1:]), np.float32)
    at = 0
    for array in arrays:
        target = joined[at:at + len(array)]
        check_call(_LIB.MXNDArraySyncCopyToCPU(array.handle, target.ctypes.data_as(ctypes.c_void_p),
                                               ctypes.c_size_t(array.size)))
        at += len(array)
    return joined


class RecordEvaluation:
    """A file in its own order, the center crop of each image, for evaluation; of a worker its share.

    Decoded here, by OpenCV in threads: MXNet fills the last batch up with images of the one before and does not say so,
    and where it is to resize an image that it cannot decode it ends the process.

    Arguments as of RecordTraining; batch_size: of this worker. preprocessing: of an image, see `data.preprocessing`.
    """

    def __init__(self, path, batch_size, preprocessing, part_index=0, num_parts=1):
        positions = read_index(Path(path))
        share = slice(len(positions) * part_index // num_parts, len(positions) * (part_index + 1) // num_parts)
        self._path, self._batch, self._positions = path, batch_size, positions[share].tolist()
        self._preprocessing = preprocessing

    def __len__(self):
        return -(-len(self._positions) // self._batch)

    def epoch(self, epoch, first_batch=0):
        """As that of RecordTraining; the last batch is short. Raises UserError on an image that cannot be read."""
        starts = range(first_batch * self._batch, len(self._positions), self._batch)
        with ThreadPoolExecutor(cores()) as pool, open(self._path, "rb") as file:
            def submit(start):
                return [pool.submit(self._example, position, read_record(file, position))
                        for position in self._positions[start:start + self._batch]]
            waiting = [submit(start) for start in starts[:1]]
            for start in starts:  # the next batch is decoded while the network has this one
                if start + self._batch < len(self._positions):
                    waiting.append(submit(start + self._batch))
                images, labels = zip(*(job.result() for job in waiting.pop(0)))
                yield self._preprocessing.normalise(np.stack(images)), np.array(labels, np.float32)

    def _example(self, position, payload):
        problem, label = what_is_wrong(payload, look=False)  # flipped bytes mostly are an image still
        image = None if problem else decode(payload)[0]
        if image is None:
            raise UserError(f"{self._path}, record at byte {position}: {problem or 'it holds no readable image'}; igc "
                            f"data verify {self._path} lists what is broken, with --repair OUT.rec it writes a file "
                            "without it")
        return self._preprocessing.pixels(image), label


def _common(path, image_shape, mean, std):
    named = {f"{kind}_{channel}": float(value) for kind, values in (("mean", mean), ("std", std))
             for channel, value in zip("rgb", values)}
    return {"path_imgrec": str(path), "path_imgidx": str(index_path(path)), "data_shape": tuple(image_shape),
            "verbose": False, **named}


def record_iter(**arguments):
    """mx.io.ImageRecordIter, which would ignore an argument that it does not know, and which lists the file's folder
    and fails where another file in it, perhaps of another process, has just gone."""
    unknown = set(arguments) - _known_arguments()
    if unknown:
        raise TypeError(f"ImageRecordIter has no {', '.join(sorted(unknown))}")
    for left in range(OPENINGS)[::-1]:
        try:
            return mx.io.ImageRecordIter(**arguments)
        except mx.MXNetError as error:
            if not left or "GetPathInfo" not in str(error):
                raise


@functools.lru_cache(None)
def _known_arguments():
    return set(re.findall(r"^(\w+) : ", mx.io.ImageRecordIter.__doc__, re.MULTILINE))


class _one_line:  # noqa: N801 (a context manager, but for generators: GeneratorExit passes)
    """Turns MXNet's error about an image, with its C++ stack, into one line. opened: {part: iterator}, which at any end
    but the file's are freed later: one that is freed while it comes upon an image that it cannot decode ends the
    process. When it has read as far ahead as it may it is at rest."""

    def __init__(self, path, opened):
        self._path, self._opened = path, opened

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            rest = threading.Timer(REST_SECONDS, self._opened.clear)
            rest.daemon = True
            rest.start()
        if kind is not None and issubclass(kind, mx.MXNetError):
            lines = [line.strip() for line in str(error).splitlines() if "Check failed" in line or "rror" in line]
            reason = lines[0] if lines else ""
            if "Failed to allocate" in reason:
                raise UserError(f"there is too little memory to read {self._path}; lower --batch-size, --data-parts or "
                                "--image-shape") from None
            raise UserError(f"MXNet cannot read an image of {self._path} ({reason[:160]}); igc data verify "
                            f"{self._path} finds it, with --repair OUT.rec it writes a file without it") from None
