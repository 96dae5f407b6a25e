"""What was chosen for a run, in words: how it was trained, and all in which that is not the usual."""

from dataclasses import MISSING, fields
from typing import Any, List, Mapping, Tuple

from igc_gluon.data.mixing import Mixing
from igc_gluon.engine.experiment import Experiment

# Of config.json: what is said in other rows, or is a number of no meaning to a reader.
_ELSEWHERE = {"batch_size", "batch_shards", "wd", "momentum", "optimizer", "undecayed", "mixing"}
_OF_A_TEACHER = {"temperature", "hard_weight"}
# (entry, what it is called, its usual value) of entries that are the data's, not the experiment's.
_OF_THE_DATA = (("augment", "augmentation", None), ("augment_strength", "strength of the augmentation", 1.0))
_NAMES = {
    "model_options": "options of the network",
    "initializer": "initial values",
    "compression": "gradients in 2 bits, threshold",
    "dtype": "numbers",
    "bn_statistics": "statistics of batch normalization",
    "accumulate": "batches to an update",
    "clip_norm": "gradients clipped to the norm",
    "ema": "averaged weights, decay",
    "class_weights": "weights of the classes",
    "hard_weight": "share of the labels in the loss",
    "pretrained": "begins with the weights of",
    "freeze": "frozen",
    "erasing": "random erasing",
}


def choices(config: Mapping[str, Any]) -> List[Tuple[str, str]]:
    """[(what, its value)] of a run's config.json: epochs, rate, batch and optimizer, then each choice that is not the
    default."""
    rows = [("learning rate", _rate(config["schedule"])), ("batch", _batch(config)), ("optimizer", _optimizer(config))]
    for field in fields(Experiment):
        name, value = field.name, config.get(field.name)
        if field.default is MISSING or name in _ELSEWHERE or value in (None, field.default):
            continue
        if name in _OF_A_TEACHER and not config.get("teacher"):
            continue
        if name == "pretrained":
            value = config.get("pretrained_from", value)
        rows.append((_called(name), _text(value)))
    usual = Mixing()
    mixing = config.get("mixing") or {}
    rows += [(_called(name), _text(value)) for name, value in mixing.items() if value != getattr(usual, name, None)]
    rows += [
        (called, _text(config[name])) for name, called, default in _OF_THE_DATA if config.get(name, default) != default
    ]
    return rows


def _called(name: str) -> str:
    return _NAMES.get(name, name.replace("_", " "))


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rate(schedule: Mapping[str, Any]) -> str:
    parts = [_text(schedule.get("lr", "?"))]
    mode = schedule.get("mode", "step")
    if mode != "step":
        power = f" of power {_text(schedule['power'])}" if mode == "poly" and "power" in schedule else ""
        parts = [f"from {parts[0]} to {_text(schedule.get('target_lr', 0.0))}, {mode}{power}"]
    elif schedule.get("lr_steps"):
        parts.append(f"times {_text(schedule.get('lr_factor', '?'))} after {_text(schedule['lr_steps'])} epochs")
    if schedule.get("lr_decay", 1.0) != 1.0:
        parts.append(f"times {_text(schedule['lr_decay'])} each epoch")
    if schedule.get("warmup_epochs"):
        parts.append(f"grows over the first {schedule['warmup_epochs']}")
    return f"{', '.join(parts)}; {schedule['num_epochs']} epochs"


def _batch(config: Mapping[str, Any]) -> str:
    shards = config.get("batch_shards", 1)
    return f"{config.get('batch_size', '?')} images" + (f" in {shards} shards" if shards != 1 else "")


def _optimizer(config: Mapping[str, Any]) -> str:
    parts = [str(config.get("optimizer", Experiment.optimizer))]
    parts += [
        f"{name} {_text(config[key])}" for key, name in (("momentum", "momentum"), ("wd", "decay")) if key in config
    ]
    undecayed = config.get("undecayed")
    return ", ".join(parts) + (f", none of ...{', ...'.join(map(str, undecayed))}" if undecayed else "")
