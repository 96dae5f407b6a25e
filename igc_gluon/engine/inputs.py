"""What a run trains on. Every kind of input has

    name, classes, top5 (whether top-5 accuracy is reported)
    preprocessing (what evaluation does to its images, and so what a network that was trained on it expects)
    config()  what the result of a run depends on, for config.json
    prepare() reads or checks the files. Raises UserError
    batches(batch_size, seed, part_index=0, num_parts=1) -> (train, test)
              each with len() and epoch(number, first_batch=0), which yields (float32 (n, 3, H, W), labels (n,)); of
              worker part_index of num_parts, whose shares of a training batch together make the batch of one worker
    validation(part_index=0, num_parts=1) -> as test, of images that are held out to choose the best epoch by, or None
"""
import logging
import os
from dataclasses import replace
from pathlib import Path

from igc_gluon.data import DATASETS, Batches, has_validation, load, record_batches, records
from igc_gluon.data.classes import check_same_classes, class_file, classes_beside
from igc_gluon.data.photos import natural_short_side
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError

logger = logging.getLogger(__name__)

IMAGENET_CLASSES = 1000
TEST_BATCH = 400  # as the authors'; the result does not depend on it


class ArrayInput:
    """A data set of `igc_gluon.data.DATASETS`, which fits into memory. `pad`: see `Batches`."""
    top5 = False

    def __init__(self, dataset, pad="mean", data_dir=None):
        self._info, self._pad, self._data_dir = DATASETS[dataset], pad, data_dir
        self.name, self.classes, self.preprocessing = dataset, self._info.classes, self._info.preprocessing
        self._images = self._validation = None

    def config(self):
        return {"pad": self._pad, "validation_images": len(self._validation.labels) if self._validation else 0}

    def prepare(self):
        if has_validation(self.name, self._data_dir):
            self._validation = load(self.name, "validation", data_dir=self._data_dir)
        self._images = tuple(load(self.name, split, data_dir=self._data_dir) for split in ("train", "test"))

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        info, (train, test) = self._info, self._images
        if batch_size > len(train.images):
            raise UserError(f"{self.name} has {len(train.images)} training images, fewer than a batch of {batch_size}; "
                            "lower --batch-size")
        share = {"part_index": part_index, "num_parts": num_parts}
        return (Batches(train.images, train.labels, batch_size, info.mean, info.std, augment=info.augment,
                        mirror=info.mirror, pad_value=self._pad, seed=seed, short_side=info.short_side, **share),
                Batches(test.images, test.labels, TEST_BATCH, info.mean, info.std, train=False, **share))

    def validation(self, part_index=0, num_parts=1):
        if self._validation is None:
            return None
        return Batches(self._validation.images, self._validation.labels, TEST_BATCH, self._info.mean, self._info.std,
                       train=False, part_index=part_index, num_parts=num_parts)


class RecordInput:
    """RecordIO files, which are read as they are needed.

    train, val: paths of FILE.rec with FILE.idx beside it; train may be None where only val is evaluated. preprocessing:
    what evaluation does to an image; its size, mean and std are those of training too, and without class_names those of
    classes.txt beside the files are taken. classes: None to take the number of its lines, or 1000. augment: one of
    `record_batches.AUGMENTS`.
    """
    name, top5 = "imagenet", True

    def __init__(self, train, val, preprocessing, classes=None, augment="authors"):
        self._train, self._val = (path and Path(os.path.expanduser(path)) for path in (train, val))
        self._paths = [path for path in (self._train, self._val) if path]
        self._augment, self._structures = augment, None
        self._names, self._place = next(((names, class_file(path)) for path in self._paths[::-1]
                                         for names in [classes_beside(path)] if names), (None, None))
        self.classes = classes or (len(self._names) if self._names else IMAGENET_CLASSES)
        if preprocessing.class_names is None and self._names and len(self._names) == self.classes:
            preprocessing = replace(preprocessing, class_names=self._names)
        self.preprocessing = preprocessing

    def config(self):
        train, val = self._structures
        return {"augment": self._augment, "train_images": train.records, "test_images": val.records}

    def prepare(self):
        """Raises UserError on files that are not there or damaged, whose labels are no classes or are other classes than
        those of the other file, or whose images are too small."""
        for path in self._paths:
            if not path.is_file():
                raise UserError(f"there is no file {path}; igc data imagenet --root FOLDER makes it from folders of "
                                "images")
        if self._names:
            self.compare_classes(self._names, len(self._names), self._place)
            if self._train and self.classes != len(self._names):
                raise UserError(f"{self._place} has {len(self._names)} classes, not {self.classes}; leave out "
                                "--num-classes")
        self._structures = [path and records.structure(path) for path in (self._train, self._val)]
        for path, found in zip((self._train, self._val), self._structures):
            if found and found.largest_label >= self.classes:
                advice = ("it is not of the data that the network was trained on" if not self._train else
                          f"{self._place} is of another file" if self._names else
                          f"give --num-classes {found.largest_label + 1:.0f}, or another file")
                raise UserError(f"{path} has labels up to {found.largest_label:.0f}, too many for {self.classes} "
                                f"classes; {advice}")
            if found:
                record_batches.check_size(path, self.preprocessing.window)

    def compare_classes(self, names, number, place):
        """Raises UserError unless the classes beside each file are called so, or, without names, are so many. place:
        where these stand."""
        for path in self._paths:
            there = classes_beside(path)
            if there and names:
                check_same_classes(there, names, class_file(path), place)
            elif there and len(there) != number:
                raise UserError(f"{class_file(path)} has {len(there)} classes, {place} {number}; the labels of {path} "
                                "mean others")
            elif not there and len(self._paths) > 1:
                logger.warning("there is no %s, by which to see that the labels of %s mean the classes of %s",
                               class_file(path), path, place)

    @property
    def test_images(self):
        return self._structures[1].records

    def batches(self, batch_size, seed, part_index=0, num_parts=1):
        train = record_batches.RecordTraining(self._train, batch_size, self.preprocessing, self._augment, seed, part_index,
                                              num_parts)
        return train, self.evaluation(batch_size, part_index, num_parts)

    def validation(self, part_index=0, num_parts=1):
        return None

    def evaluation(self, batch_size, part_index=0, num_parts=1):
        """The second of `batches` alone."""
        return record_batches.RecordEvaluation(self._val, batch_size, self.preprocessing, part_index, num_parts)


def record_preprocessing(image_shape, mean, std):
    """What evaluation does to an image of record files: its central crop, see `natural_short_side`."""
    return Preprocessing(image_shape[1:], natural_short_side(max(image_shape[1:])), mean, std)
