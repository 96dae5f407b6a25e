"""What a classifier does to each class, how far its confidence can be trusted, and its surest mistakes.

metrics = Metrics(classes=10)
for data, labels in batches.epoch(0):
    metrics.add(predict(data), labels, data)
metrics.accuracy, metrics.recall, metrics.calibration_error, metrics.mistakes()
"""

import heapq
from dataclasses import dataclass
from typing import List, Optional, Sequence

import numpy as np

from igc_gluon.engine.evaluation import Evaluation, count_correct, log_likelihood

BINS = 15  # of confidence, as Guo et al. (ICML 2017) and most after them
MISTAKES = 24  # are kept
TOP5_FROM = 20  # classes: of fewer, five guesses say little


@dataclass(frozen=True)
class Mistake:
    """Image `number` (from 0, in the order of evaluation) of class `label`, taken for `predicted` with `confidence`
    (0 to 1). image: what `Metrics.add` was given for it."""

    confidence: float
    number: int
    label: int
    predicted: int
    image: Optional[np.ndarray] = None


class Metrics:
    """Of the scores of any number of images, added batch by batch; keeps counts, not scores.

    classes: the number of scores. mistakes: how many of the surest ones to keep.
    """

    def __init__(self, classes: int, mistakes: int = MISTAKES):
        self.confusion = np.zeros((classes, classes), np.int64)  # [class, predicted]
        self._loss, self._correct_of_five, self._most = 0.0, 0, mistakes
        self._kept: List[tuple] = []  # a heap of the surest mistakes
        self._bins = np.zeros((3, BINS))  # images, sum of confidences, right ones

    def add(self, scores: np.ndarray, labels: np.ndarray, images: Optional[np.ndarray] = None) -> None:
        """scores (n, classes) before softmax, labels (n,); images (n, ...) as the network got them, for `mistakes`."""
        labels, first = np.asarray(labels).astype(int), self.images
        logarithms = log_likelihood(scores)
        # A row of NaN is wrong, as everywhere: argmax would call it class 0.
        predicted = np.where(np.isnan(scores).any(axis=1), (labels + 1) % scores.shape[1], scores.argmax(axis=1))
        confidence = np.nan_to_num(np.exp(logarithms.max(axis=1)))
        right = predicted == labels
        np.add.at(self.confusion, (labels, predicted), 1)
        self._loss -= logarithms[np.arange(len(labels)), labels].sum()
        self._correct_of_five += count_correct(scores, labels, 5)
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        for sums, values in zip(self._bins, (np.ones(len(labels)), confidence, right)):
            sums += np.bincount(place, values, BINS)
        for i in np.flatnonzero(~right):
            # Of equal confidence the first image wins, whatever the size of the batches.
            entry = (confidence[i], -(first + int(i)))
            if len(self._kept) < self._most or entry > self._kept[0][:2]:
                image = None if images is None else np.array(images[i])
                push = heapq.heappush if len(self._kept) < self._most else heapq.heapreplace
                push(self._kept, (*entry, int(labels[i]), int(predicted[i]), image))

    @property
    def images(self) -> int:
        return int(self.confusion.sum())

    @property
    def evaluation(self) -> Evaluation:
        """Loss and accuracies, as `evaluate` returns them."""
        return Evaluation(self._loss / self.images, self.accuracy, self._correct_of_five / self.images, self.images)

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.images)

    @property
    def support(self) -> np.ndarray:
        """Images of each class."""
        return self.confusion.sum(axis=1)

    @property
    def recall(self) -> np.ndarray:
        """Of each class, the share of its images that were found; NaN where it has none."""
        return _share(np.diag(self.confusion), self.support)

    @property
    def precision(self) -> np.ndarray:
        """Of each class, the share of right ones among the images that were taken for it; NaN where none was."""
        return _share(np.diag(self.confusion), self.confusion.sum(axis=0))

    @property
    def f1(self) -> np.ndarray:
        """Of each class, 2 right / (images of it + images taken for it)."""
        return _share(2 * np.diag(self.confusion), self.support + self.confusion.sum(axis=0))

    @property
    def bins(self) -> List[dict]:
        """The BINS intervals of confidence (0 to 1) that have images: {low, high, images, confidence, accuracy}, the
        last two means over its images."""
        return [
            {"low": i / BINS, "high": (i + 1) / BINS, "images": int(n), "confidence": c / n, "accuracy": r / n}
            for i, (n, c, r) in enumerate(self._bins.T.tolist())
            if n
        ]

    @property
    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al., ICML 2017, eq. 3): |accuracy - confidence| of each interval of
        confidence, averaged over the images."""
        return float(np.abs(self._bins[2] - self._bins[1]).sum() / self.images)

    def confused(self, most: int = 10) -> List[tuple]:
        """[(class, taken for, images)], the most frequent first; at most `most`."""
        wrong = self.confusion * (1 - np.eye(len(self.confusion), dtype=np.int64))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        return [
            (int(a), int(b), int(wrong[a, b])) for a, b in zip(*np.unravel_index(order, wrong.shape)) if wrong[a, b]
        ]

    def mistakes(self) -> List[Mistake]:
        """The wrong images with the highest confidence, the surest first."""
        return [
            Mistake(float(entry[0]), -entry[1], *entry[2:])
            for entry in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)
        ]

    def summary(self, class_names: Optional[Sequence[str]] = None) -> dict:
        """All numbers, for JSON; shares from 0 to 1, None where a class has no images."""
        names: Sequence[Optional[str]] = class_names or [None] * len(self.confusion)
        evaluation = self.evaluation
        columns = zip(names, self.support.tolist(), *(_or_none(v) for v in (self.precision, self.recall, self.f1)))
        return {
            "images": evaluation.images,
            "top1": evaluation.accuracy,
            "top5": evaluation.top5,
            "cross_entropy": evaluation.loss,
            "calibration_error": self.calibration_error,
            "classes": [
                {"class": number, "name": name, "images": images, "precision": p, "recall": r, "f1": f}
                for number, (name, images, p, r, f) in enumerate(columns)
            ],
            "calibration": self.bins,
            "confusion": self.confusion.tolist(),
            "surest_mistakes": [
                {"image": m.number, "class": m.label, "predicted": m.predicted, "confidence": m.confidence}
                for m in self.mistakes()
            ],
        }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _or_none(values: np.ndarray) -> List[Optional[float]]:
    return [None if np.isnan(value) else value for value in values.tolist()]
