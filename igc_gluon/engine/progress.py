"""Where a run is."""
from dataclasses import dataclass, field, fields
from typing import List

import numpy as np

from igc_gluon.errors import UserError

MEASURED = ("lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds", "images_per_second")


def _is_count(value):
    return type(value) is int and 0 <= value < 1 << 62


def _is_number(value):
    return type(value) in (int, float) and abs(value) <= 1e30


def _is_entry(entry, epoch):
    """Whether `entry` is that of epoch number `epoch` in a history. The loss of a test may overflow."""
    return (type(entry) is dict and {"epoch", *MEASURED} <= set(entry) and entry["epoch"] == epoch and
            all(_is_number(value) or (key == "test_loss" and type(value) is float) for key, value in entry.items()))


def choosing_accuracy(entry):
    """Of an epoch's entry, the accuracy by which the best epoch is chosen: that on images that are held out for it,
    and where there are none that on the test images."""
    return entry.get("validation_accuracy", entry["test_accuracy"])


def best_entry(history):
    """The entry of the first best epoch."""
    return max(history, key=choosing_accuracy)


@dataclass
class Progress:
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
    def of(cls, state, batches, epochs, first_epoch=0):
        """That of a checkpoint's state, of a run with so many batches an epoch, that began at epoch `first_epoch` and ends
        after `epochs`. Raises UserError if it has none."""
        try:
            position = cls(**state["position"])
            if {"epoch", "batch", "history"} <= set(state["position"]) and \
                    position._is_possible(batches, epochs, first_epoch):
                return position
        except (KeyError, TypeError, AttributeError):
            pass
        raise UserError("the checkpoint does not say where in the training it was made; it is not of this program")

    def _is_possible(self, batches, epochs, first_epoch):
        kinds = {int: _is_count, float: _is_number, List[dict]: lambda value: type(value) is list}
        done = self.epoch - first_epoch
        return (all(kinds[f.type](getattr(self, f.name)) for f in fields(self)) and
                first_epoch <= self.epoch <= epochs and 0 <= self.batch <= batches and
                (self.batch > 0) == (self.images > 0) and max(self.correct, self.correct_of_five) <= self.images and
                abs(self.best_accuracy) <= 1 and self.loss >= 0 <= self.seconds and len(self.history) == done and
                all(_is_entry(entry, first_epoch + number) for number, entry in enumerate(self.history)) and
                len({frozenset(entry) for entry in self.history}) < 2)

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
