"""A split of a data set, from whichever of its files is there."""

from pathlib import Path
from typing import Optional, Union

from igc_gluon.data import record_dataset
from igc_gluon.data.dataset_files import DatasetFiles
from igc_gluon.data.images import Images
from igc_gluon.data.registry import find_dataset
from igc_gluon.errors import UserError


def has_validation(name: str, data_dir: Union[str, Path, None] = None) -> bool:
    """Whether images of the data set are held out of "train" as "validation": those of svhn, but not of the authors'
    train.rec, where that is what `load` reads. Raises UserError as `load`."""
    dataset = find_dataset(name)
    if "validation" not in dataset.splits:
        return False
    files = DatasetFiles(dataset, data_dir)
    return files.has_archives("train") or not files.find("train.rec")


def load(name: str, split: str, data_dir: Union[str, Path, None] = None, download: bool = True) -> Images:
    """Images (uint8 (N, 32, 32, 3), or (N, 64, 64, 3); int32 (N,)) of one split of one data set.

    name: of `DATASETS`: "cifar10", "cifar100", "svhn", "tiny-imagenet", "digits", "fashion-mnist", "mnist" or "kmnist".
    split: "train" or "test", for svhn also "validation".
    data_dir: folder with the official archives, CIFAR's unpacked .bin files or the unpacked
    tiny-imagenet-200, or the authors' train.rec and test.rec, looked for in that order, there and in its
    sub-folder `name`. Official files that are missing are downloaded into it, once, unless `download` is
    False. None: ~/.mxnet/datasets/<name>, or the same under $MXNET_HOME, then where Debian's package puts them.
    "digits" needs neither files nor network.

    Raises UserError when files are missing and not to be had, damaged, empty, or of another format.
    """
    dataset = find_dataset(name)
    if split not in dataset.splits:
        raise UserError(f"{dataset.name} has no split {split!r}; it has {', '.join(dataset.splits)}")
    if not dataset.archives:
        return dataset.read(dataset, split, [])
    files: Optional[DatasetFiles] = None
    try:
        files = DatasetFiles(dataset, data_dir)
        if not files.has_archives(split):
            unpacked = dataset.read_unpacked(files, split) if dataset.read_unpacked else None
            if unpacked:
                return unpacked
            record = files.find_record(split)
            if record:
                return record_dataset.load(dataset, record)
        return dataset.read(dataset, split, files.archive_paths(split, download))
    except OSError as error:
        place = error.filename or (files.folder if files else data_dir)
        raise UserError(f"cannot read {place}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(
            f"{dataset.name} in {files.folder if files else data_dir} does not fit into the memory of this "
            "machine, or its files are damaged"
        ) from error
