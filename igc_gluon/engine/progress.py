"""How far a run has come; checkpoints hold it under the name "position"."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np

from igc_gluon.engine.workers import Workers
from igc_gluon.errors import UserError

Entry = Dict[str, Any]  # of an epoch in a history
MEASURED = ("lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds", "images_per_second")


def is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e30


def _is_entry(entry: Any, epoch: int) -> bool:
    """Whether `entry` is that of epoch number `epoch` in a history. The loss of a test may overflow."""
    return (
        type(entry) is dict
        and {"epoch", *MEASURED} <= set(entry)
        and entry["epoch"] == epoch
        and all(
            is_number(value) or (key in ("test_loss", "trained_test_loss") and type(value) is float)
            for key, value in entry.items()
        )
    )


def choosing_accuracy(entry: Entry) -> float:
    """Of an epoch's entry, the accuracy by which the best epoch is chosen: that on images that are held out for it,
    and where there are none that on the test images."""
    return entry["validation_accuracy" if "validation_accuracy" in entry else "test_accuracy"]


def _goodness(entry: Entry) -> Tuple[float, float]:
    """What the best epoch has most of. Accuracies on few images are often equal; then the lower loss counts."""
    loss = entry["validation_loss" if "validation_loss" in entry else "test_loss"]
    return choosing_accuracy(entry), -loss if loss is not None and loss == loss else -math.inf


def best_entry(history: List[Entry]) -> Entry:
    """The entry of the first best epoch."""
    return max(history, key=_goodness)


@dataclass
class Progress:
    """Before batch `batch` of epoch `epoch`, with the totals of the epoch so far and the history of those before."""

    epoch: int = 0
    batch: int = 0
    loss: float = 0.0
    correct: int = 0
    correct_of_five: int = 0
    images: int = 0
    seconds: float = 0.0
    best_accuracy: float = -1.0
    history: List[dict] = field(default_factory=list)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], batches: int, epochs: int, first_epoch: int = 0) -> "Progress":
        """That of a checkpoint's state, of a run with so many batches an epoch, that began at epoch `first_epoch` and
        ends after `epochs`. Raises UserError if it has none."""
        try:
            progress = cls(**state["position"])
            if {"epoch", "batch", "history"} <= set(state["position"]) and progress._is_possible(
                batches, epochs, first_epoch
            ):
                return progress
        except (KeyError, TypeError, AttributeError):
            pass
        raise UserError("the checkpoint does not say where in the training it was made; it is not of this program")

    def _is_possible(self, batches: int, epochs: int, first_epoch: int) -> bool:
        kinds: Dict[Any, Any] = {int: is_count, float: is_number, List[dict]: lambda value: type(value) is list}
        done = self.epoch - first_epoch
        return (
            all(kinds[f.type](getattr(self, f.name)) for f in fields(self))
            and first_epoch <= self.epoch <= epochs
            and 0 <= self.batch <= batches
            and (self.batch > 0) == (self.images > 0)
            and max(self.correct, self.correct_of_five) <= self.images
            and abs(self.best_accuracy) <= 1
            and self.loss >= 0 <= self.seconds
            and len(self.history) == done
            and all(_is_entry(entry, first_epoch + number) for number, entry in enumerate(self.history))
            and len({frozenset(entry) for entry in self.history}) < 2
        )

    def add_batch(self, loss: float, correct: int, correct_of_five: int, images: int) -> None:
        self.batch += 1
        self.loss += loss
        self.correct += correct
        self.correct_of_five += correct_of_five
        self.images += images

    def add_entry(self, entry: Entry) -> bool:
        """Adds the epoch's entry to the history and returns whether the epoch is the best so far."""
        self.best_accuracy = max(self.best_accuracy, choosing_accuracy(entry))
        self.history.append(entry)
        return best_entry(self.history) is entry

    def begin_epoch(self) -> None:
        self.epoch += 1
        self.batch = 0
        self.reset_totals()

    def reset_totals(self) -> None:
        self.correct = self.correct_of_five = self.images = 0
        self.loss = self.seconds = 0.0

    def sum_over(self, workers: Workers) -> None:
        """Makes the totals of this worker those of all `workers`."""
        own = np.array([self.loss, self.correct, self.correct_of_five, self.images])
        self.loss, *counts = workers.sum(own).tolist()
        self.correct, self.correct_of_five, self.images = map(round, counts)
