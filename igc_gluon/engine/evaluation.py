"""Loss, top-1 and top-5 accuracy of a network over a data set."""

from dataclasses import dataclass
from typing import Callable

import numpy as np

from igc_gluon.data.batches import BatchSource


@dataclass(frozen=True)
class Evaluation:
    """Over `images` images: the mean cross-entropy and the accuracies, from 0 to 1."""

    loss: float
    accuracy: float
    top5: float
    images: int


def evaluate(
    predict: Callable[[np.ndarray], np.ndarray],
    batches: BatchSource,
    after_batch: Callable[[int], object] = lambda images: None,
    reduce: Callable[[np.ndarray], np.ndarray] = lambda sums: sums,
) -> Evaluation:
    """The `Evaluation` of predict(numpy (n, 3, H, W)) -> scores (n, classes) over `batches`, see igc_gluon.data.

    after_batch(images seen so far) is called after each batch. reduce(sums) gives the sums over all workers, where
    `batches` are one worker's.
    """
    loss, correct, correct_of_five, images = 0.0, 0, 0, 0
    for data, label in batches.epoch(0):
        scores = predict(data).astype(np.float64)
        loss -= log_likelihood(scores)[np.arange(len(label)), label.astype(int)].sum()
        correct += count_correct(scores, label)
        correct_of_five += count_correct(scores, label, 5)
        images += len(label)
        after_batch(images)
    loss, correct, correct_of_five, images = reduce(np.array([loss, correct, correct_of_five, images])).tolist()
    return Evaluation(loss / images, correct / images, correct_of_five / images, int(images))


def log_likelihood(scores: np.ndarray) -> np.ndarray:
    """The logarithm of the softmax of `scores` (n, classes), float64."""
    shifted = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def count_correct(scores: np.ndarray, label: np.ndarray, k: int = 1) -> int:
    """How many of the labels (n,) are among the k best of the scores (n, classes). A row with NaN is wrong."""
    if k == 1:
        return int(((scores.argmax(axis=1) == label) & ~np.isnan(scores).any(axis=1)).sum())
    own = np.take_along_axis(scores, label.astype(int)[:, None], axis=1)
    # Not `scores > own`, by which a row of NaN would have no score before its own.
    return int(((~(scores <= own)).sum(axis=1) < k).sum())
