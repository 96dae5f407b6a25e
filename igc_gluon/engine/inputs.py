"""What a run trains on: data sets that fit into memory, and record files."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from igc_gluon.data import DATASETS, Batches, Images, has_validation, load, record_batches, record_file
from igc_gluon.data.batches import BatchSource
from igc_gluon.data.classes import check_same_classes, class_file, classes_beside
from igc_gluon.data.photos import natural_short_side
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.metrics import TOP5_FROM
from igc_gluon.engine.run_folder import IMAGENET, IMAGENET_CLASSES
from igc_gluon.errors import UserError
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)

TEST_BATCH = 400  # as the authors'; the result does not depend on it


class Input:
    """What a run trains on.

    preprocessing: what evaluation does to the images, and so what a network that was trained on them expects.
    augment_strength: see `set_augment_strength`.
    """

    name: str
    classes: int
    preprocessing: Preprocessing
    augment_strength: float = 1.0

    @property
    def top5(self) -> bool:
        """Whether top-5 accuracy is reported."""
        return self.classes >= TOP5_FROM

    def config(self) -> Dict[str, Any]:
        """What the result of a run depends on, for config.json."""
        raise NotImplementedError

    def test_file(self) -> Optional[Path]:
        """The record file of the test images, or None; what `igc eval RUN` looks at unless it is told otherwise."""
        return None

    def prepare(self) -> None:
        """Reads or checks the files. Raises UserError."""
        raise NotImplementedError

    def batches(
        self, batch_size: int, seed: int, part_index: int = 0, num_parts: int = 1
    ) -> Tuple[BatchSource, BatchSource]:
        """(training, test) batches of worker `part_index` of `num_parts`, whose shares of a training batch together
        make the batch of one worker."""
        raise NotImplementedError

    def set_augment_strength(self, strength: float) -> None:
        """How large the changes of training images are, from 0 to 2 in shares of what they would be. Raises UserError
        where images are not changed."""
        if strength != 1 and not self._is_augmented():
            raise UserError(f"--augment-strength: images of {self.name} are not augmented; leave it out")
        self.augment_strength = strength

    def _is_augmented(self) -> bool:
        raise NotImplementedError

    def training_labels(self) -> np.ndarray:
        """Integers (n,), of all training images."""
        raise NotImplementedError

    def validation(self, part_index: int = 0, num_parts: int = 1) -> Optional[BatchSource]:
        """As the test batches, of images that are held out to choose the best epoch by, or None."""
        return None


class ArrayInput(Input):
    """A data set of `igc_gluon.data.DATASETS`, which fits into memory. `pad`: see `Batches`."""

    def __init__(self, dataset: str, pad: str = "mean", data_dir: Union[str, Path, None] = None):
        self._info, self._pad, self._data_dir = DATASETS[dataset], pad, data_dir
        self.name, self.classes, self.preprocessing = dataset, self._info.classes, self._info.preprocessing
        self._train: Optional[Images] = None
        self._test: Optional[Images] = None
        self._validation: Optional[Images] = None

    def config(self) -> Dict[str, Any]:
        return {
            "pad": self._pad,
            "augment_strength": self.augment_strength,
            "validation_images": len(self._validation.labels) if self._validation else 0,
        }

    def _is_augmented(self) -> bool:
        return self._info.augment

    def training_labels(self) -> np.ndarray:
        assert self._train, "prepare() comes first"
        return self._train.labels

    def prepare(self) -> None:
        if has_validation(self.name, self._data_dir):
            self._validation = load(self.name, "validation", data_dir=self._data_dir)
        self._train, self._test = (load(self.name, split, data_dir=self._data_dir) for split in ("train", "test"))

    def batches(
        self, batch_size: int, seed: int, part_index: int = 0, num_parts: int = 1
    ) -> Tuple[BatchSource, BatchSource]:
        assert self._train and self._test, "prepare() comes first"
        info, images = self._info, len(self._train.images)
        if batch_size > images:
            raise UserError(
                f"{self.name} has {images} training images, fewer than a batch of {batch_size}; lower --batch-size"
            )
        train = Batches(
            self._train.images,
            self._train.labels,
            batch_size,
            info.mean,
            info.std,
            augment=info.augment,
            mirror=info.mirror,
            pad_value=self._pad,
            short_side=info.short_side,
            strength=self.augment_strength,
            seed=seed,
            part_index=part_index,
            num_parts=num_parts,
        )
        return train, self._evaluation(self._test, part_index, num_parts)

    def validation(self, part_index: int = 0, num_parts: int = 1) -> Optional[BatchSource]:
        return self._validation and self._evaluation(self._validation, part_index, num_parts)

    def _evaluation(self, images: Images, part_index: int, num_parts: int) -> Batches:
        return Batches(
            images.images,
            images.labels,
            TEST_BATCH,
            self._info.mean,
            self._info.std,
            train=False,
            part_index=part_index,
            num_parts=num_parts,
        )


class RecordInput(Input):
    """RecordIO files, which are read as they are needed.

    train, val: paths of FILE.rec with FILE.idx beside it; train may be None where only val is evaluated. preprocessing:
    what evaluation does to an image; its size, mean and std are those of training too, and without class_names those of
    classes.txt beside the files are taken. classes: None to take the number of its lines, or 1000. augment: one of
    `record_batches.AUGMENTS`. name: what the data is called.
    """

    def __init__(
        self,
        train: Union[str, Path, None],
        val: Union[str, Path],
        preprocessing: Preprocessing,
        classes: Optional[int] = None,
        augment: str = "authors",
        name: str = IMAGENET,
    ):
        self.name = name
        self._train = expand(train) if train else None
        self._val = expand(val)
        self._paths = [path for path in (self._train, self._val) if path]
        self._augment = augment
        self._structures: Dict[Path, record_file.Structure] = {}
        self._names: Optional[List[str]] = None
        self._names_file: Optional[Path] = None  # where they stand
        for path in self._paths:
            names = classes_beside(path)
            if names:
                self._names, self._names_file = names, class_file(path)
        self.classes = classes or (len(self._names) if self._names else IMAGENET_CLASSES)
        if preprocessing.class_names is None and self._names and len(self._names) == self.classes:
            preprocessing = replace(preprocessing, class_names=tuple(self._names))
        self.preprocessing = preprocessing

    def config(self) -> Dict[str, Any]:
        assert self._train, "only trained on has it a configuration"
        return {
            "augment": self._augment,
            "augment_strength": self.augment_strength,
            "train_images": self._structures[self._train].records,
            "test_images": self.test_images,
        }

    def prepare(self) -> None:
        """Raises UserError on files that are not there or damaged, whose labels are no classes or are other classes
        than those of the other file, or whose images are too small."""
        for path in self._paths:
            if not path.is_file():
                raise UserError(
                    f"there is no file {path}; igc data imagenet --root FOLDER makes it from folders of images"
                )
        if self._names:
            self.compare_classes(self._names, len(self._names), self._names_file)
            if self._train and self.classes != len(self._names):
                raise UserError(
                    f"{self._names_file} has {len(self._names)} classes, not {self.classes}; leave out --num-classes"
                )
        self._structures = {path: record_file.structure(path) for path in self._paths}
        for path, structure in self._structures.items():
            if structure.largest_label >= self.classes:
                advice = (
                    "it is not of the data that the network was trained on"
                    if not self._train
                    else f"{self._names_file} is of another file"
                    if self._names
                    else f"give --num-classes {structure.largest_label + 1:.0f}, or another file"
                )
                raise UserError(
                    f"{path} has labels up to {structure.largest_label:.0f}, too many for {self.classes} "
                    f"classes; {advice}"
                )
            record_batches.check_size(path, self.preprocessing.window)

    def compare_classes(self, names: Optional[Sequence[str]], number: int, place: object) -> None:
        """Raises UserError unless the classes beside each file are called so, or, without names, are so many. place:
        where these stand."""
        for path in self._paths:
            beside = classes_beside(path)
            if beside and names:
                check_same_classes(beside, names, class_file(path), place)
            elif beside and len(beside) != number:
                raise UserError(
                    f"{class_file(path)} has {len(beside)} classes, {place} {number}; the labels of {path} mean others"
                )
            elif not beside and len(self._paths) > 1:
                logger.warning(
                    "there is no %s, by which to see that the labels of %s mean the classes of %s",
                    class_file(path),
                    path,
                    place,
                )

    def test_file(self) -> Optional[Path]:
        return self._val

    def _is_augmented(self) -> bool:
        return self._augment != "none"

    def training_labels(self) -> np.ndarray:
        assert self._train, "there is no file to train on"
        return record_file.labels(self._train)

    @property
    def test_images(self) -> int:
        return self._structures[self._val].records

    def batches(
        self, batch_size: int, seed: int, part_index: int = 0, num_parts: int = 1
    ) -> Tuple[BatchSource, BatchSource]:
        assert self._train, "there is no file to train on"
        train = record_batches.RecordTraining(
            self._train,
            batch_size,
            self.preprocessing,
            augment=self._augment,
            strength=self.augment_strength,
            seed=seed,
            part_index=part_index,
            num_parts=num_parts,
        )
        return train, self.evaluation(batch_size, part_index, num_parts)

    def evaluation(self, batch_size: int, part_index: int = 0, num_parts: int = 1) -> BatchSource:
        """The second of `batches` alone."""
        return record_batches.RecordEvaluation(
            self._val, batch_size, self.preprocessing, part_index=part_index, num_parts=num_parts
        )


def record_preprocessing(image_shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Preprocessing:
    """What evaluation does to an image of record files: its central crop, see `natural_short_side`."""
    height, width = image_shape[1:]
    return Preprocessing((height, width), natural_short_side(max(height, width)), tuple(mean), tuple(std))
