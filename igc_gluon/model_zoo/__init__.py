"""Networks as tables of variants, and the getters that build them by name."""
from igc_gluon.model_zoo.cifar import CIFAR_NETWORKS, cifar_model, cifar_model_name
from igc_gluon.model_zoo.gluoncv_names import register_with_gluoncv
from igc_gluon.model_zoo.registry import Family, Model, find_family, find_model, get_model, get_model_list
from igc_gluon.model_zoo.resnet18 import imagenet_model, imagenet_model_name

__all__ = ["CIFAR_NETWORKS", "Family", "Model", "cifar_model", "cifar_model_name", "find_family", "find_model",
           "get_model", "get_model_list", "imagenet_model", "imagenet_model_name", "register_with_gluoncv"]
