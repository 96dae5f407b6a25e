"""Runs as they are compared: those that differ in nothing but the seed are one experiment."""

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from igc_gluon import complexity
from igc_gluon.engine.progress import best_entry, is_count, is_number
from igc_gluon.engine.run_folder import dataset_of
from igc_gluon.engine.saved_networks import read_config
from igc_gluon.errors import UserError
from igc_gluon.files import read_text
from igc_gluon.model_zoo import get_model
from igc_gluon.paths import expand, walk
from igc_gluon.report.choices import choices

_MOST_FOLDERS = 20_000  # are looked at for runs
_NEEDED = {"epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"}  # of an epoch's entry
# Entries of config.json that differ between runs of one experiment.
_OF_A_RUN = {"seed", "versions", "processor", "commit", "command", "resumed_with"}


@dataclass(frozen=True)
class Run:
    """The run in `folder`: its configuration and an entry for each finished epoch."""

    folder: Path
    config: Dict
    history: Tuple[Dict, ...]

    @property
    def accuracy(self) -> float:
        """In %, over the test images, after the last epoch."""
        return 100 * self.history[-1]["test_accuracy"]

    @property
    def best(self) -> Dict:
        """The entry of the epoch with the highest test accuracy (of runs with validation images: the highest on
        these)."""
        return best_entry(list(self.history))

    @property
    def dataset(self) -> str:
        return dataset_of(self.config)

    @property
    def num_epochs(self) -> int:
        return self.config["schedule"]["num_epochs"]

    @property
    def finished(self) -> bool:
        return len(self.history) >= self.num_epochs

    @property
    def minutes(self) -> float:
        """Of training, without tests."""
        return sum(entry["seconds"] for entry in self.history) / 60


@dataclass(frozen=True)
class Experiment:
    """Runs of one configuration, a seed each."""

    runs: Tuple[Run, ...]
    label: str

    @property
    def config(self) -> Dict:
        return self.runs[0].config

    @property
    def dataset(self) -> str:
        return self.runs[0].dataset

    @property
    def accuracies(self) -> np.ndarray:
        return np.array([run.accuracy for run in self.runs])

    @property
    def deviation(self) -> Optional[float]:
        """Sample standard deviation of the accuracies, None of one run."""
        return float(self.accuracies.std(ddof=1)) if len(self.runs) > 1 else None

    @property
    def accuracy_text(self) -> str:
        mean = f"{self.accuracies.mean():.2f}"
        return mean if self.deviation is None else f"{mean} ± {self.deviation:.2f}"

    @property
    def epochs_text(self) -> str:
        done = min(len(run.history) for run in self.runs)
        total = self.runs[0].num_epochs
        return str(total) if all(run.finished for run in self.runs) else f"{done} of {total}"

    @property
    def minutes(self) -> float:
        return float(np.mean([run.minutes for run in self.runs]))

    @cached_property
    def cost(self) -> complexity.Totals:
        """Weights and multiply-adds of the network on one image."""
        return complexity.totals(network(self.config), tuple(self.config["image_shape"]))


def network(config: Mapping[str, Any]) -> Any:
    """The network of a run's configuration, without its weights."""
    return get_model(config["model"], classes=config["classes"], **(config.get("model_options") or {}))


def find_runs(paths: Iterable[Union[str, Path]]) -> List[Run]:
    """The runs that `paths` name, each once: folders of runs, or folders below which there are runs.

    Raises UserError on a path with no run that has finished an epoch, and on damaged files.
    """
    configs = {}
    for path in map(expand, paths):
        folders = [path] if (path / "config.json").is_file() else sorted(_runs_below(path))
        runs = [run for run in map(_read, folders) if run]
        if not runs:
            raise UserError(f"{path} has no run that has finished an epoch" if path.is_dir() else f"there is no {path}")
        configs.update({run.folder.resolve(): run for run in runs})
    return list(configs.values())


def _runs_below(folder: Path) -> Iterator[Path]:
    """Links to folders, and what may not be read, are left out."""
    for number, (where, folders, files) in enumerate(walk(folder, lambda error: None)):
        if number > _MOST_FOLDERS:
            raise UserError(f"{folder} has too many folders to look for runs in; name a folder of runs")
        folders[:] = [name for name in folders if not os.path.islink(os.path.join(where, name))]
        if "config.json" in files and "history.jsonl" in files:
            yield Path(where)


def experiments(runs: Sequence[Run]) -> List[Experiment]:
    """The `Experiment`s of `runs`, in their order; labels tell them apart. Of two runs of one seed, which are a run and
    its copy, the longer one counts."""
    seeds: Dict[str, Dict[int, Run]] = defaultdict(dict)
    for run in sorted(runs, key=lambda run: len(run.history)):
        seeds[
            json.dumps(
                {key: value for key, value in run.config.items() if key not in _OF_A_RUN}, sort_keys=True, default=str
            )
        ][run.config.get("seed", 0)] = run
    groups = sorted((list(group.values()) for group in seeds.values()), key=lambda group: min(map(runs.index, group)))
    labels = [group[0].config["model"] for group in groups]
    for label in {label for label in labels if labels.count(label) > 1}:
        same = [place for place, other in enumerate(labels) if other == label]
        for place, difference in zip(same, _differences([groups[place][0].config for place in same])):
            labels[place] = f"{label} ({difference})" if difference else label
    return [
        Experiment(tuple(sorted(group, key=lambda run: run.config.get("seed", 0))), label)
        for group, label in zip(groups, labels)
    ]


def _differences(configs: Sequence[Mapping[str, Any]]) -> List[str]:
    """For each of `configs` the entries in which they differ, as text."""
    flat = [dict(_flat(config)) for config in configs]
    keys = [
        key
        for key in dict.fromkeys(key for entries in flat for key in entries)
        if key.split(".")[0] not in _OF_A_RUN and len({str(entries.get(key)) for entries in flat}) > 1
    ]
    return [", ".join(f"{key.split('.')[-1]} {entries[key]}" for key in keys[:3] if key in entries) for entries in flat]


def _flat(entries: Mapping[str, Any], prefix: str = "") -> Iterator[Tuple[str, Any]]:
    for key, value in entries.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _is_entry(entry: Any) -> bool:
    """Whether an epoch's entry holds numbers alone, and null only for losses, which may overflow."""
    return (
        isinstance(entry, dict)
        and _NEEDED <= set(entry)
        and is_count(entry["epoch"])
        and all(is_number(value) or (value is None and key.endswith("_loss")) for key, value in entry.items())
    )


def _read(folder: Path) -> Optional[Run]:
    try:
        text = read_text(folder / "history.jsonl")
        config, expected = read_config(folder / "config.json")
        history = tuple(json.loads(line) for line in text.splitlines())
        json.dumps(config, indent=1), choices(config)  # as pages show it: it may be nested too deep for that
        sound = (
            isinstance(config["dataset"], str)
            and is_count(config.get("seed", 0))
            and is_count(config["schedule"]["num_epochs"])
            and all(map(_is_entry, history))
            and len({frozenset(entry) for entry in history}) < 2
        )
    except OSError:
        return None
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound:
        raise UserError(f"{folder} is damaged: its config.json or history.jsonl does not hold what training writes")
    config.setdefault("image_shape", list(expected.image_shape))
    return Run(folder, config, history) if history else None
