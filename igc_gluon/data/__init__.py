"""Data sets of small images: official archive -> uint8 arrays (`load`) -> normalized batches (`Batches`). Photographs:
folders -> record files (`pack`), checked (`record_file`, `repair`) -> batches (`record_batches`) of random crops
(`augment`).

    train = load("cifar10", "train", data_dir="data")
    cifar10 = DATASETS["cifar10"]
    batches = Batches(*train, 64, cifar10.mean, cifar10.std, augment=cifar10.augment, mirror=cifar10.mirror,
                      short_side=cifar10.short_side)
    for data, label in batches.epoch(0): ...

Knows nothing of networks, the training loop or MXNet.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igc_gluon.data.batches import Batches
    from igc_gluon.data.dataset_files import default_folder
    from igc_gluon.data.images import Images
    from igc_gluon.data.loading import has_validation, load
    from igc_gluon.data.registry import DATASETS, find_dataset

__all__ = ["Batches", "DATASETS", "Images", "default_folder", "find_dataset", "has_validation", "load"]

# Modules of what is here once it is asked for (PEP 562): a compiled network needs neither OpenCV nor downloads.
_MODULES = {
    "Batches": "batches",
    "default_folder": "dataset_files",
    "Images": "images",
    "has_validation": "loading",
    "load": "loading",
    "DATASETS": "registry",
    "find_dataset": "registry",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"igc_gluon.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'igc_gluon.data' has no attribute {name!r}")
