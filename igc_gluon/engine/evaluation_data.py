"""Images with labels that a network with weights is evaluated on: a data set, a record file, a folder of
photographs."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from igc_gluon.data import DATASETS, Batches, load
from igc_gluon.data.batches import BatchSource
from igc_gluon.data.classes import as_written, check_same_classes
from igc_gluon.data.pack import class_folders, list_images
from igc_gluon.data.photo_batches import PhotoEvaluation
from igc_gluon.data.registry import Dataset
from igc_gluon.engine.inputs import RecordInput
from igc_gluon.engine.metrics import Metrics
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.attributes import class_names
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluationData:
    """name: in words. batches: with epoch(0), as igc_gluon.data's. paths: of the files, where each image is one."""

    name: str
    images: int
    batches: BatchSource
    class_names: Optional[Sequence[str]]
    paths: Optional[Tuple[Path, ...]] = None

    def image_name(self, number: int, below: bool = False) -> str:
        """The path of the image, below the folder of all or as it was given; or its number."""
        if not self.paths:
            return f"image {number}"
        path = self.paths[number]
        return str(path.relative_to(self.name) if below and self.name in map(str, path.parents) else path)


def evaluation_data(
    net: mx.gluon.Block,
    classes: int,
    source: Union[str, Path, None] = None,
    data_dir: Union[str, Path, None] = None,
    batch_size: int = 64,
) -> EvaluationData:
    """What `source` means for `net`, a network with weights and `classes` scores.

    source: the path of a folder with a folder of photographs for each class, or of a record file; the name of a data
    set, whose test images are taken; None for what the weights were trained on. data_dir: the folder of a
    data set's files. Raises UserError where there is nothing, or it has other classes or sizes than the network.
    """
    source = source or getattr(net, "dataset", None)
    trained_on: Optional[Path] = getattr(net, "test_file", None)
    if source is None and trained_on:
        if not trained_on.is_file():
            raise UserError(
                f"the test images of {net.model}, {trained_on}, are no longer there; give --data: a folder of "
                "photographs or a record file"
            )
        source = trained_on
    if source is None:
        raise UserError(
            f"nothing says what {net.model} was trained on; give --data: a folder of photographs, a record "
            "file or the name of a data set"
        )
    if str(source).lower() in DATASETS:
        return _of_data_set(net, classes, DATASETS[str(source).lower()], data_dir, batch_size)
    if data_dir:
        raise UserError(
            "--data-dir is the folder of a data set; --data gives the whole path of a record file or folder"
        )
    path = expand(source)
    if path.is_dir():
        return _of_folder(net, classes, path, batch_size)
    data = _of_records(net, classes, path, batch_size)
    return replace(data, name=f"the test images of {net.data_name}") if source == trained_on else data


def measure(
    predict: Callable[[np.ndarray], np.ndarray],
    data: EvaluationData,
    classes: int,
    title: str,
    keep_images: bool = False,
) -> Metrics:
    """The `Metrics` of predict(float32 (n, 3, H, W)) -> scores (n, classes) over `data`, with a progress bar of that
    title. keep_images: whether its mistakes have their images."""
    metrics = Metrics(classes)
    with progress_bar(total=data.images, unit=" images", desc=title, leave=False) as bar:
        for images, labels in data.batches.epoch(0):
            metrics.add(predict(images), labels, images if keep_images else None)
            bar.update(len(labels))
    return metrics


def _of_data_set(
    net: mx.gluon.Block, classes: int, info: Dataset, data_dir: Union[str, Path, None], batch_size: int
) -> EvaluationData:
    expected, names = net.preprocessing, class_names(net)
    if (info.size, info.size) != expected.crop:
        raise UserError(
            f"{net.model} takes images of {'x'.join(map(str, expected.crop))} pixels, {info.name} has "
            f"{info.size}x{info.size}"
        )
    if info.classes != classes:
        raise UserError(f"{info.name} has {info.classes} classes, {net.model} {classes}")
    if names and info.class_names:
        check_same_classes(info.class_names, names, info.name, net.model)
    test = load(info.name, "test", data_dir)
    return EvaluationData(
        f"the test images of {info.name}",
        len(test.labels),
        Batches(
            np.stack([expected.pixels(image) for image in test.images]),
            test.labels,
            batch_size,
            expected.mean,
            expected.std,
            train=False,
        ),
        names or info.class_names,
    )


def _of_records(net: mx.gluon.Block, classes: int, path: Path, batch_size: int) -> EvaluationData:
    names = class_names(net)
    data = RecordInput(None, path, net.preprocessing, classes)
    data.compare_classes(names, classes, net.model)
    data.prepare()
    return EvaluationData(
        str(path), data.test_images, data.evaluation(batch_size), names or data.preprocessing.class_names
    )


def _of_folder(net: mx.gluon.Block, classes: int, folder: Path, batch_size: int) -> EvaluationData:
    names = class_names(net)
    if names is None:
        folders = class_folders(folder)
        if len(folders) != classes:
            raise UserError(
                f"{folder} has {len(folders)} folders, {net.model} {classes} classes, and nothing names "
                f"them; {folder} needs a folder for each class"
            )
        names = folders
    listing = list_images(folder, list(names))
    if listing.passed_over:
        logger.warning("%s", listing.remarks()[0])
    paths = tuple(folder / path for path in listing.paths)
    batches = PhotoEvaluation(paths, listing.labels, net.preprocessing, batch_size)
    return EvaluationData(str(folder), len(paths), batches, tuple(map(as_written, names)), paths)
