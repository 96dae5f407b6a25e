import numpy as np
import pytest

from igc_gluon.engine.evaluation import count_correct, evaluate


class OneBatch:
    def __init__(self, data, label):
        self._batch = data, label

    def epoch(self, number):
        yield self._batch


@pytest.mark.parametrize("classes", [2, 5, 6, 40])
@pytest.mark.parametrize("k", [1, 5])
def test_against_sorting(classes, k):
    rng = np.random.default_rng(classes)
    scores, label = rng.standard_normal((300, classes)), rng.integers(0, classes, 300)
    best = np.argsort(-scores, axis=1)[:, :k]
    assert count_correct(scores, label, k) == sum(y in row for y, row in zip(label, best))


def test_nan_is_never_right():
    scores = np.full((4, 8), np.nan)
    scores[1, 3] = 5
    assert count_correct(scores, np.array([0, 3, 7, 1]), 1) == count_correct(scores, np.array([0, 3, 7, 1]), 5) == 0


def test_loss_and_accuracies():
    scores = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])) + 3  # softmax takes the 3 out again
    evaluation = evaluate(lambda data: scores, OneBatch(np.zeros((2, 3, 1, 1)), np.array([0.0, 1.0])))
    np.testing.assert_allclose(evaluation.loss, -(np.log(0.7) + np.log(0.3)) / 2)
    assert (evaluation.accuracy, evaluation.top5, evaluation.images) == (0.5, 1.0, 2)
