"""Where a run is."""
from dataclasses import dataclass, field, fields
from typing import List

import numpy as np

from igc_gluon.errors import UserError


def choosing_accuracy(entry):
    """Of an epoch's entry, the accuracy by which the best epoch is chosen: that on images that are held out for it,
    and where there are none that on the test images."""
    return entry.get("validation_accuracy", entry["test_accuracy"])


def best_entry(history):
    """The entry of the first best epoch."""
    return max(history, key=choosing_accuracy)


@dataclass
class Position:
    """Before batch `batch` of epoch `epoch`, with what the epoch has added up so far."""
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
    def of(cls, state, batches):
        """That of a checkpoint's state, of a run with so many batches an epoch. Raises UserError if it has none."""
        try:
            position = cls(**state["position"])
            if position._is_possible(batches):
                return position
        except (KeyError, TypeError, AttributeError):
            pass
        raise UserError("the checkpoint does not say where in the training it was made; it is not of this program")

    def _is_possible(self, batches):
        kinds = {int: int, float: (int, float)}
        return (all(isinstance(getattr(self, f.name), kinds.get(f.type, list)) for f in fields(self)) and
                self.epoch >= 0 and 0 <= self.batch <= batches and (self.batch > 0) == (self.images > 0) and
                all(isinstance(value, (int, float)) for entry in self.history for value in entry.values()))

    def begin_epoch(self):
        self.epoch += 1
        self.batch = 0
        self.forget()

    def forget(self):
        """Begins to add up anew."""
        self.correct = self.correct_of_five = self.images = 0
        self.loss = self.seconds = 0.0

    def add_up(self, workers):
        """Makes this worker's part of the epoch that of all `workers`."""
        own = np.array([self.loss, self.correct, self.correct_of_five, self.images])
        self.loss, *counts = workers.sum(own).tolist()
        self.correct, self.correct_of_five, self.images = map(round, counts)
