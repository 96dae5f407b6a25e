"""Cross-entropy with label smoothing."""

from typing import Any

from mxnet.gluon import HybridBlock


class SoftmaxLoss(HybridBlock):
    """Scores (n, classes) and labels (n,) -> losses (n,): the cross-entropy to a distribution that gives the label
    1 - `smoothing` and shares the rest among all classes."""

    def __init__(self, smoothing: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self._smoothing = smoothing

    def hybrid_forward(self, F: Any, scores: Any, label: Any) -> Any:
        log_likelihood = F.log_softmax(scores, axis=1)
        loss = -F.pick(log_likelihood, label, axis=1)
        if self._smoothing:
            loss = (1 - self._smoothing) * loss - self._smoothing * F.mean(log_likelihood, axis=1)
        return loss
