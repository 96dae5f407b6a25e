"""Data sets of small images: official archive -> uint8 arrays (`load`) -> normalised batches (`Batches`). Photographs:
folders -> record files (`pack`), checked (`record_file`, `repair`) -> batches (`record_batches`) of random crops (`augment`).

    train = load("cifar10", "train", data_dir="data")
    cifar10 = DATASETS["cifar10"]
    batches = Batches(*train, 64, cifar10.mean, cifar10.std, augment=cifar10.augment, mirror=cifar10.mirror,
                      short_side=cifar10.short_side)
    for data, label in batches.epoch(0): ...

Knows nothing of networks, the training loop or MXNet.
"""
from igc_gluon.data import cifar, digits, idx, recordio, svhn, tiny_imagenet
from igc_gluon.data.batches import Batches
from igc_gluon.data.images import Images
from igc_gluon.data.dataset_files import DatasetFiles, default_folder
from igc_gluon.data.registry import DATASETS, find_dataset
from igc_gluon.errors import UserError

__all__ = ["Batches", "DATASETS", "Images", "default_folder", "find_dataset", "has_validation", "load"]


def has_validation(name, data_dir=None):
    """Whether images of the data set are held out of "train" as "validation": those of svhn, but not of the authors'
    train.rec, where that is what `load` reads. Raises UserError as `load`."""
    dataset = find_dataset(name)
    if "validation" not in dataset.splits:
        return False
    places = DatasetFiles(dataset, data_dir)
    return any(places.find(archive.name) for archive in dataset.archives if "train" in archive.splits) or \
        not places.find("train.rec")


def load(name, split, data_dir=None, download=True):
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
    if dataset.name == "digits":
        return digits.load(split)
    archives = [archive for archive in dataset.archives if split in archive.splits]
    places = None
    try:
        places = DatasetFiles(dataset, data_dir)
        if not any(places.find(archive.name) for archive in archives):
            if dataset.name in cifar.LAYOUTS:
                unpacked = cifar.find_unpacked(places, split)
                if unpacked:
                    return cifar.read_unpacked(dataset, unpacked)
            if dataset.name == "tiny-imagenet":
                unpacked = tiny_imagenet.find_unpacked(places)
                if unpacked:
                    return tiny_imagenet.read_unpacked(dataset, split, unpacked)
            record = places.find_record(split)
            if record:
                return recordio.load(dataset, record)
        paths = [places.obtain(archive, download) for archive in archives]
        if dataset.name in cifar.LAYOUTS:
            return cifar.read_archive(dataset, split, *paths)
        if dataset.name == "tiny-imagenet":
            return tiny_imagenet.read_archive(dataset, split, *paths)
        if dataset.name == "svhn":
            return svhn.read(split, paths)
        return idx.read(dataset, paths)
    except OSError as error:
        name = error.filename or (places.folder if places else data_dir)
        raise UserError(f"cannot read {name}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"{dataset.name} in {places.folder} does not fit into the memory of this machine, or "
                        "its files are damaged") from error
