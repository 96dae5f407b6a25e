"""Networks as tables of variants, and the getters that build them by name."""

# Importing a module registers its families; `igc models` lists them in this order.
from igc_gluon.model_zoo import cifar, cifar_igcv2, flat, resnet18, igcv2, igcv3, mobilenet  # noqa: F401, I001
from igc_gluon.model_zoo.cifar import CIFAR_NETWORKS, CIFARNet, cifar_model, cifar_model_name, stage_blocks
from igc_gluon.model_zoo.gluoncv_names import register_with_gluoncv
from igc_gluon.model_zoo.imports import import_networks
from igc_gluon.model_zoo.registry import Family, Model, find_family, find_model, get_model, get_model_list, register
from igc_gluon.model_zoo.resnet18 import imagenet_model, imagenet_model_name

__all__ = [
    "CIFAR_NETWORKS",
    "CIFARNet",
    "Family",
    "Model",
    "cifar_model",
    "cifar_model_name",
    "find_family",
    "find_model",
    "get_model",
    "get_model_list",
    "imagenet_model",
    "imagenet_model_name",
    "import_networks",
    "register",
    "register_with_gluoncv",
    "stage_blocks",
]
