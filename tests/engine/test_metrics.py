"""Metrics against scikit-learn's and against the definitions written out."""

import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from igc_gluon.engine.metrics import BINS, Metrics

CLASSES = 7


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES - 1, 500)  # the last class has no images
    scores = rng.standard_normal((500, CLASSES)).astype(np.float32) * 2
    scores[:, 3] -= 20  # nothing is taken for class 3
    scores[np.arange(500), labels] += 1.5
    return scores, labels


@pytest.fixture(scope="module")
def metrics(data):
    metrics = Metrics(CLASSES, mistakes=5)
    for first in range(0, 500, 64):
        metrics.add(
            data[0][first : first + 64], data[1][first : first + 64], np.arange(first, min(first + 64, 500))[:, None]
        )
    return metrics


def probabilities(scores):
    raised = np.exp(scores.astype(np.float64))
    return raised / raised.sum(axis=1, keepdims=True)


def test_counts_and_shares_are_those_of_scikit_learn(data, metrics):
    scores, labels = data
    predicted = scores.argmax(axis=1)
    np.testing.assert_array_equal(
        metrics.confusion, sklearn_metrics.confusion_matrix(labels, predicted, labels=range(CLASSES))
    )
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(CLASSES), zero_division=0
    )
    for ours, theirs in zip((metrics.precision, metrics.recall, metrics.f1), expected):
        np.testing.assert_allclose(np.nan_to_num(ours), theirs)
    assert np.isnan(metrics.precision[3]) and np.isnan(metrics.recall[6])
    np.testing.assert_array_equal(metrics.support, expected[3])
    evaluation = metrics.evaluation
    assert evaluation.accuracy == sklearn_metrics.accuracy_score(labels, predicted)
    assert evaluation.top5 == sklearn_metrics.top_k_accuracy_score(labels, scores, k=5, labels=range(CLASSES))
    np.testing.assert_allclose(
        evaluation.loss, sklearn_metrics.log_loss(labels, probabilities(scores), labels=range(CLASSES))
    )


def test_calibration(data, metrics):
    scores, labels = data
    p = probabilities(scores)
    confidence, right, error = p.max(axis=1), p.argmax(axis=1) == labels, 0
    for low in np.arange(BINS) / BINS:
        inside = (confidence >= low) & (confidence < low + 1 / BINS)
        if inside.any():
            error += abs(right[inside].mean() - confidence[inside].mean()) * inside.mean()
    np.testing.assert_allclose(metrics.calibration_error, error)
    assert sum(entry["images"] for entry in metrics.bins) == 500


def test_surest_mistakes_and_what_is_confused(data, metrics):
    scores, labels = data
    p = probabilities(scores)
    wrong = np.flatnonzero(p.argmax(axis=1) != labels)
    surest = wrong[np.argsort(-p.max(axis=1)[wrong])][:5]
    mistakes = metrics.mistakes()
    assert [mistake.number for mistake in mistakes] == surest.tolist()
    assert [mistake.image[0] for mistake in mistakes] == surest.tolist()
    assert [mistake.label for mistake in mistakes] == labels[surest].tolist()
    np.testing.assert_allclose([mistake.confidence for mistake in mistakes], p.max(axis=1)[surest], rtol=1e-6)
    (label, predicted, count), *_ = metrics.confused(1)
    assert count == max(metrics.confusion[a, b] for a in range(CLASSES) for b in range(CLASSES) if a != b)
    assert metrics.confusion[label, predicted] == count


def test_scores_that_are_not_finite_are_wrong():
    metrics = Metrics(3)
    metrics.add(np.array([[np.nan, 0, 0], [np.nan, np.nan, np.nan], [0, 5, 0]], np.float32), np.array([0, 0, 1]))
    assert metrics.accuracy == pytest.approx(1 / 3) and metrics.images == 3


def test_the_summary_is_json(metrics):
    summary = json.loads(json.dumps(metrics.summary([f"kind {i}" for i in range(CLASSES)]), allow_nan=False))
    assert summary["classes"][6]["recall"] is None and summary["classes"][2]["name"] == "kind 2"
    assert np.trace(summary["confusion"]) == round(summary["top1"] * 500)
