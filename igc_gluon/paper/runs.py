"""The user's own results, from the folders that training leaves: <log-dir>/<data set>/<model>[_<exp-name>]/seed<n>/."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from igc_gluon.data import DATASETS
from igc_gluon.engine.progress import is_count, is_number
from igc_gluon.engine.run_folder import dataset_of, load_config, means_beside_the_papers
from igc_gluon.engine.saved_networks import complete
from igc_gluon.engine.schedule import PAPER
from igc_gluon.errors import printable
from igc_gluon.files import read_text
from igc_gluon.paths import expand

DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Run:
    """One run: `epochs` of `num_epochs` done, test accuracy in % after the last of them, `seconds` of training."""

    folder: Path
    model: str
    dataset: str
    options: dict
    num_epochs: int
    epochs: int
    accuracy: float
    seconds: float
    means: Tuple[str, ...] = ()  # that no paper has

    @property
    def finished(self) -> bool:
        return self.epochs >= self.num_epochs

    @property
    def as_named(self) -> bool:
        """Whether the network is the one that its name means: other options than those that its data set calls for make
        another."""
        return not set(self.options) - {"stem_strides"}


@dataclass(frozen=True)
class Summary:
    """Over the runs of one experiment: test accuracy in % after the last epoch, mean and, of several, sample standard
    deviation. `notes` say in what it is not the paper's experiment."""

    mean: float
    std: Optional[float]
    seeds: int
    dataset: str
    notes: Tuple[str, ...]


def read_run(folder: Path) -> Optional[Run]:
    """The `Run` in `folder`, or None if it has no epoch yet. Raises one of DAMAGE on damage."""
    try:
        config = complete(load_config(folder / "config.json"))
        lines = read_text(folder / "history.jsonl").splitlines()
    except OSError:
        return None
    history = [json.loads(line) for line in lines]
    if not history:
        return None
    names, num_epochs = (config["model"], dataset_of(config)), config["schedule"]["num_epochs"]
    accuracy, seconds = history[-1]["test_accuracy"], [entry["seconds"] for entry in history]
    if not (
        all(isinstance(name, str) for name in names)
        and is_count(num_epochs)
        and all(map(is_number, [accuracy, *seconds]))
    ):
        raise TypeError("a model and a data set have names, the others are numbers")
    return Run(
        folder,
        *names,
        dict(config.get("model_options") or {}),
        num_epochs,
        len(history),
        100 * accuracy,
        float(sum(seconds)),
        tuple(map(str, means_beside_the_papers(config))),
    )


class Runs:
    """All runs below the folder `log_dir` for which `wanted(run)` holds.

    `damaged` names the folders that could not be read.
    """

    def __init__(self, log_dir: Union[str, Path], wanted: Callable[[Run], bool] = lambda run: True) -> None:
        self.damaged = []
        self._experiments = defaultdict(list)
        for folder in sorted(expand(log_dir).glob("*/*/seed*")):
            try:
                run = read_run(folder)
            except DAMAGE:
                self.damaged.append(folder)
                continue
            if run and run.as_named and wanted(run):
                self._experiments[run.model, run.dataset, run.num_epochs, folder.parent].append(run)

    def datasets(self) -> Dict[str, List[str]]:
        """{model: the data sets that there are runs on}"""
        datasets_of: Dict[str, List[str]] = defaultdict(list)
        for model, dataset, *_ in self._experiments:
            if dataset not in datasets_of[model]:
                datasets_of[model].append(dataset)
        return datasets_of

    def summary(
        self, model: str, dataset: Optional[str], instead: Optional[str] = None, columns: Sequence[str] = ()
    ) -> Optional[Summary]:
        """`Summary` of the best experiment with `model`, or None: on `dataset`, the table's, or on `instead`; without
        either on a data set that everybody has and that has no column of its own among `columns`.

        Of several experiments it is one with the paper's means, then that with the most epochs, then the most seeds.
        """

        def on(wanted: Callable[[str], bool]) -> List[List[Run]]:
            return [runs for (of, dataset, *_), runs in self._experiments.items() if of == model and wanted(dataset)]

        matching = on(lambda name: name == (instead or dataset)) or on(
            lambda name: not instead and name not in columns and name in DATASETS
        )
        if not matching:
            return None
        return _summarize(
            max(
                matching,
                key=lambda runs: (any(run.finished for run in runs), not runs[0].means, runs[0].num_epochs, len(runs)),
            ),
            dataset,
        )


def _summarize(runs: List[Run], dataset: Optional[str]) -> Summary:
    notes = []
    finished = [run for run in runs if run.finished]
    used = finished or runs
    if used[0].dataset != dataset:
        notes.append(f"on {printable(used[0].dataset)}, not {dataset}")
    if not finished:
        notes.append(f"not finished: {max(run.epochs for run in runs)} of {runs[0].num_epochs} epochs")
    elif len(finished) < len(runs):
        notes.append(f"{len(runs) - len(finished)} more not finished")
    if used[0].means:
        notes.append(printable(f"with {', '.join(used[0].means)}"))
    paper_epochs = PAPER[dataset][0] if dataset in PAPER else 0
    if used[0].num_epochs < paper_epochs:
        notes.append(f"a schedule of {used[0].num_epochs} epochs in place of {paper_epochs}")
    accuracies = np.array([run.accuracy for run in used])
    return Summary(
        accuracies.mean(), accuracies.std(ddof=1) if len(used) > 1 else None, len(used), used[0].dataset, tuple(notes)
    )
