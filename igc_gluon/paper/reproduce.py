"""The training commands that fill a table, and their execution one after the other in this process.

A run that is done is skipped, one that was cut off is resumed, so the same call can be made again at any time.
"""

import shlex
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from igc_gluon.data import DATASETS, load
from igc_gluon.engine import devices
from igc_gluon.engine.run_folder import path_of_run
from igc_gluon.engine.schedule import schedule_for
from igc_gluon.errors import UserError
from igc_gluon.paper import quantities
from igc_gluon.paper.compare import recipe_of
from igc_gluon.paper.layer_counts import Network
from igc_gluon.paper.published import Table, load_tables
from igc_gluon.paper.runs import DAMAGE, Run, read_run
from igc_gluon.paths import expand

SCRIPTS = {"imagenet": "train_imagenet.py"}  # of all other data sets train_cifar.py


@dataclass(frozen=True)
class Experiment:
    """A network to train on a data set `runs` times. `obstacle` says why this package cannot, empty where it can."""

    network: str
    dataset: str
    runs: int
    obstacle: str = ""

    @property
    def script(self) -> str:
        return SCRIPTS.get(self.dataset, "train_cifar.py")

    def argv(self, flags: List[str], seed: Optional[int] = None) -> List[str]:
        """The script's arguments: for all runs, or for the one with `seed`."""
        dataset = [] if self.dataset == "imagenet" else ["--dataset", self.dataset]
        which = ["--rand-seed", str(seed)] if seed is not None else ["--num-runs", str(self.runs)] * (self.runs > 1)
        return ["--network", self.network, *dataset, *which, "--resume", *flags]

    def command(self, flags: List[str]) -> str:
        return " ".join(map(shlex.quote, ["python", self.script, *self.argv(flags)]))


def select(table: Table, only: str = "") -> Table:
    """`table` with those rows that this package has a network for and whose network's name contains `only`, or one of
    several texts with commas between them.

    Raises UserError where the table prints no results, or nothing is left.
    """
    if table.metric is None:
        with_results = "; ".join(str(other) for other in load_tables() if other.metric)
        raise UserError(f"{table} holds no accuracies to be trained for; these do: {with_results}")
    names = [
        (row, recipe.network.name) for row, recipe in ((row, recipe_of(table, row)) for row in table.rows) if recipe
    ]
    texts = only.lower().split(",")
    left = tuple(row for row, name in names if any(text in name for text in texts))
    if not left:
        known = ", ".join(dict.fromkeys(name for _, name in names))
        raise UserError(f"no network of {table} contains {only!r}; there are {known}")
    return replace(table, rows=left)


def experiments(table: Table, dataset: Optional[str] = None, num_runs: Optional[int] = None) -> List[Experiment]:
    """The different `Experiment`s behind the rows of `table` (from `select`), in its order.

    `dataset` takes the place of the table's own ones, `num_runs` that of the paper's number.
    """
    if dataset is not None and any("imagenet" in row.results for row in table.rows):
        raise UserError(f"{table} has networks for images of 224x224, which --dataset {dataset} does not hold")
    experiment_of: Dict[Tuple[str, str], Experiment] = {}
    for row in table.rows:
        recipe = recipe_of(table, row)
        if recipe is None:  # another paper's network
            continue
        for on in row.results:
            experiment = Experiment(
                recipe.network.name, dataset or on, num_runs or table.runs, _obstacle(dataset or on)
            )
            experiment_of.setdefault((experiment.network, experiment.dataset), experiment)
    return list(experiment_of.values())


def _obstacle(dataset: str) -> str:
    if dataset == "imagenet":
        return "it needs ImageNet"
    return "" if dataset in DATASETS else f"{dataset} is not a data set of train_cifar.py yet"


class Reproduction:
    """Fills a table: every seed of every experiment is one run.

    train: takes arguments of train_cifar.py and returns the exit code. flags: further ones, for all runs; log_dir,
    exp_name, num_epochs, data_dir, gpus, cpus: those of them that matter here too. Raises UserError on what would fail
    in every run.
    """

    def __init__(
        self,
        todo: Sequence[Experiment],
        flags: List[str],
        log_dir: Union[str, Path],
        exp_name: Optional[str],
        num_epochs: Optional[int],
        data_dir: Optional[str],
        gpus: Optional[str],
        cpus: int,
        train: Callable[[List[str]], int],
        report: Callable[[str], Any] = print,
    ) -> None:
        self.flags, self.train, self.report = flags, train, report
        self.log_dir, self.exp_name = expand(log_dir), exp_name
        self.left_out = [experiment for experiment in todo if experiment.obstacle]
        self.jobs = [
            (experiment, seed) for experiment in todo if not experiment.obstacle for seed in range(experiment.runs)
        ]
        if not self.jobs:
            raise UserError(f"nothing of this can be run by this command: {self.left_out[0].obstacle}")
        devices.contexts(gpus, cpus)
        self.epochs = {}
        for dataset in {experiment.dataset for experiment, _ in self.jobs}:
            self.epochs[dataset] = schedule_for(dataset, num_epochs).num_epochs
            for split in ("train", "test"):  # downloads it, once
                load(dataset, split, data_dir=data_dir)
        # By run that is done: multiply-adds of all its training images, seconds.
        self.speeds: Dict[Tuple[Experiment, int], Tuple[float, float]] = {}

    def run(self) -> int:
        """Returns the exit code: 0, 1 if a run failed or was left out, 128 + n after signal n."""
        waiting = [job for job in self.jobs if not self._note_if_done(job)]
        done = len(self.jobs) - len(waiting)
        self.report(f"{len(self.jobs)} runs, of which {done} are done already; all of it goes to {self.log_dir}")
        failed = []
        for number, (experiment, seed) in enumerate(waiting):
            cut_off = (self.folder(experiment, seed) / "checkpoints").is_dir()
            self.report(
                f"\n[{done + number + 1}/{len(self.jobs)}] {_name(experiment, seed)}"
                f"{' (resumed)' if cut_off else ''}; {self._time_left(waiting[number:])}"
            )
            begin = time.monotonic()
            try:
                code = self.train(experiment.argv(self.flags, seed))
            except Exception:  # one network that MXNet cannot run must not keep the others from running
                traceback.print_exc()
                code = 1
            if code > 128:
                self.report(
                    f"stopped with {len(waiting) - number} of {len(self.jobs)} runs to go; the same command "
                    "continues from here"
                )
                return code
            if code:
                failed.append((experiment, seed))
            elif not cut_off:
                self.speeds[experiment, seed] = self._cost(experiment), time.monotonic() - begin
        for experiment, seed in failed:
            self.report(f"FAILED  {_name(experiment, seed)}, see above; {self.folder(experiment, seed)}")
        for experiment in self.left_out:
            self.report(f"LEFT OUT  {experiment.network} on {experiment.dataset}: {experiment.obstacle}")
        return 1 if failed or self.left_out else 0

    def folder(self, experiment: Experiment, seed: Optional[int]) -> Path:
        return path_of_run(self.log_dir, experiment.dataset, experiment.network, self.exp_name, seed)

    def has(self, run: Run) -> bool:
        """Whether a `runs.Run` is one of these."""
        return any(run.folder == self.folder(experiment, seed) for experiment, seed in self.jobs)

    def _note_if_done(self, job: Tuple[Experiment, int]) -> bool:
        try:
            run = read_run(self.folder(*job))
        except DAMAGE:
            return False  # the training script says what is wrong with it
        experiment = job[0]
        if run is None or not run.finished or not run.as_named or run.num_epochs != self.epochs[experiment.dataset]:
            return False
        self.speeds[job] = self._cost(experiment), run.seconds
        return True

    def _cost(self, experiment: Experiment) -> float:
        per_image = float(quantities.weights(Network(experiment.network))[quantities.MULTIPLY_ADDS])
        return per_image * DATASETS[experiment.dataset].train_size * self.epochs[experiment.dataset]

    def _time_left(self, waiting: Sequence[Tuple[Experiment, int]]) -> str:
        """From the runs that are done: at their own network's speed, or at that of all of them."""
        if not self.speeds:
            return "the time left is known after the first run"
        seconds = 0.0
        for experiment, _ in waiting:
            known = [speed for (other, _), speed in self.speeds.items() if other.network == experiment.network] or list(
                self.speeds.values()
            )
            seconds += self._cost(experiment) * sum(s for _, s in known) / sum(cost for cost, _ in known)
        return f"about {_duration(seconds)} left for {len(waiting)} runs"


def _name(experiment: Experiment, seed: Optional[int]) -> str:
    return f"{experiment.network} on {experiment.dataset}, seed {seed}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
