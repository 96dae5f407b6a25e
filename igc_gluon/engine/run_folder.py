"""Where the folder of a run is, and what it was begun with."""

import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Union

from igc_gluon.errors import UserError
from igc_gluon.files import read_text
from igc_gluon.paths import expand

IMAGENET, IMAGENET_CLASSES = "imagenet", 1000  # what a run on it is called, and what it has


def path_of_run(
    log_dir: Union[str, Path], dataset: str, model: str, exp_name: Optional[str], seed: Optional[int]
) -> Path:
    """`<log-dir>/<data set>/<model>[_<exp-name>]/seed<seed>`."""
    return expand(log_dir) / dataset / (model + (f"_{exp_name}" if exp_name else "")) / f"seed{seed}"


def load_config(path: Path) -> Dict[str, Any]:
    """What the config.json at `path` holds. Raises OSError where it cannot be read, UserError where it is damaged."""
    try:
        config = json.loads(read_text(path))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise UserError(f"{path} is damaged")
    return config


def dataset_of(config: Dict[str, Any]) -> str:
    """What the run with this config.json was trained on, in a word. Runs of older releases call all photographs of
    train_imagenet.py imagenet; those of other than its classes are none."""
    name, classes = config.get("dataset", ""), config.get("classes", IMAGENET_CLASSES)
    return name if name != IMAGENET or classes == IMAGENET_CLASSES else f"photographs of {classes} classes"


def means_beside_the_papers(config: Dict[str, Any]) -> List[str]:
    """Names of what a run with this config.json was trained with that no paper has, "ema" for example."""
    names = [name for name in ("ema", "dropout", "class_weights", "clip_norm", "teacher") if config.get(name)]
    names += [name for name, usual in (("accumulate", 1), ("augment_strength", 1)) if config.get(name, usual) != usual]
    names += sorted(name for name, value in (config.get("mixing") or {}).items() if value)
    mode, optimizer = config["schedule"].get("mode", "step"), config.get("optimizer", "nesterov")
    return [*names, *([mode] if mode != "step" else []), *([optimizer] if optimizer not in ("nesterov", "sgd") else [])]
