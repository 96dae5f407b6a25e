"""Interleaved Group Convolutions (IGCV1, IGCV2, IGCV3) on Apache MXNet / Gluon.

    >>> import igc_gluon
    >>> net = igc_gluon.get_model("cifar_plain_igc20_l24m2", classes=10)

MXNet is imported with the first name that needs it, so that an entry point can still set OMP_NUM_THREADS,
which MXNet reads once, while it loads.
"""

import importlib
import warnings
from typing import Any, List

import numpy as np

__version__ = "0.2.0"


def _prepare_numpy_for_mxnet() -> None:
    """Makes `import mxnet` work, quietly, on every NumPy that pyproject.toml admits.

    Raises ImportError with one line on a NumPy that MXNet 1.9.1 cannot run on.
    """
    release = tuple(int(part) for part in np.__version__.split(".")[:2])
    if release >= (2, 0):
        raise ImportError(
            f"igc_gluon: MXNet 1.9.1 does not run on NumPy {np.__version__}; install one below 2: pip install 'numpy<2'"
        )
    if release >= (1, 24):
        # MXNet 1.9.1 still uses the aliases that NumPy 1.24 removed.
        for alias, builtin in {
            "bool": bool,
            "int": int,
            "float": float,
            "complex": complex,
            "object": object,
            "str": str,
        }.items():
            if alias not in vars(np):
                setattr(np, alias, builtin)
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"mxnet(\.|$)")


_prepare_numpy_for_mxnet()

# Names that are here once they are asked for (PEP 562), of the modules that have them, and modules.
_NAMES = {
    "get_model": "model_zoo",
    "get_model_list": "model_zoo",
    "register_with_gluoncv": "model_zoo",
    "accelerate": "graph",
    "non_native_operators": "graph",
}
_MODULES = ("complexity", "data", "deploy", "graph", "model_zoo", "native", "nn", "theory")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"igc_gluon.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"igc_gluon.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'igc_gluon' has no attribute '{name}'")


def __dir__() -> List[str]:
    return sorted({*globals(), *_NAMES, *_MODULES})
