"""The loss of training: cross-entropy with label smoothing, class weights and mixed labels; distillation."""

from dataclasses import dataclass
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock, loss

from igc_gluon.engine.inputs import Input
from igc_gluon.errors import UserError


@dataclass(frozen=True)
class Objective:
    """What is minimized. class_weights: one for each class. teacher: a network that scores the same images; the rest:
    see `distillation_loss`."""

    label_smoothing: float = 0.0
    class_weights: Optional[Tuple[float, ...]] = None
    teacher: Optional[HybridBlock] = None
    temperature: float = 1.0
    hard_weight: float = 0.5


def class_weights(wanted: Union[str, Sequence[float], None], data: Input) -> Optional[Tuple[float, ...]]:
    """A weight for each class of `data`, None where nothing is `wanted`: numbers, or "balanced", images / (classes *
    images of the class), whose mean over the training images is 1. Raises UserError where they do not fit."""
    if wanted is None:
        return None
    if isinstance(wanted, str):
        counts = np.bincount(data.training_labels(), minlength=data.classes)
        if not counts.all():
            raise UserError(
                f"--class-weights balanced: {data.name} has no image of class {counts.argmin()} to train on"
            )
        return tuple((counts.sum() / (data.classes * counts)).tolist())
    if len(wanted) != data.classes:
        raise UserError(f"--class-weights gives {len(wanted)} numbers, {data.name} has {data.classes} classes")
    return tuple(wanted)


class SoftmaxLoss(loss.SoftmaxCrossEntropyLoss):
    """Scores (n, classes) and labels -> losses (n,): the cross-entropy to a distribution that gives the label
    1 - `smoothing` and shares the rest among all classes.

    sparse_label: labels are numbers of classes (n,), else distributions (n, classes). weights: of the classes, by which
    each one's part of the cross-entropy is multiplied; with them `initialize` comes first.
    """

    def __init__(
        self,
        smoothing: float = 0.0,
        weights: Optional[Sequence[float]] = None,
        sparse_label: bool = True,
        **kwargs: Any,
    ):
        super().__init__(axis=1, sparse_label=sparse_label, **kwargs)
        self._smoothing = smoothing
        if weights is not None:
            with self.name_scope():
                self.class_weights = self.params.get_constant("class_weights", mx.nd.array([weights]))

    def hybrid_forward(self, F: Any, scores: Any, label: Any, class_weights: Any = None) -> Any:
        log_likelihood = F.log_softmax(scores, axis=1)
        if class_weights is not None:
            log_likelihood = F.broadcast_mul(log_likelihood, class_weights)
        loss = -(F.pick(log_likelihood, label, axis=1) if self._sparse_label else F.sum(log_likelihood * label, axis=1))
        if self._smoothing:
            loss = (1 - self._smoothing) * loss - self._smoothing * F.mean(log_likelihood, axis=1)
        return loss


def distillation_loss(
    hard_loss: SoftmaxLoss, temperature: float, hard_weight: float, sparse_label: bool
) -> HybridBlock:
    """(scores, labels, the teacher's softmax of scores / T) -> losses (n,): `hard_weight` of `hard_loss`, and the rest
    of T^2 times the cross-entropy of scores / T to the teacher's (Hinton et al., arXiv 1503.02531, section 2)."""
    # slow: GluonCV, seconds
    from gluoncv.loss import DistillationSoftmaxCrossEntropyLoss

    made = DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight, sparse_label)
    made.hard_loss = hard_loss
    return made


class Loss:
    """The `objective` of batches on `devices`, on which its teacher has been initialized."""

    def __init__(self, objective: Objective, devices: Sequence[mx.Context]):
        self._objective, self._devices = objective, list(devices)
        self._made: Dict[bool, HybridBlock] = {}  # by whether labels are numbers

    def __call__(self, scores: mx.nd.NDArray, label: np.ndarray, data: np.ndarray) -> mx.nd.NDArray:
        """Losses (n,) of scores (n, classes), labels (n,) or (n, classes), and the images that were scored."""
        device, teacher = scores.context, self._objective.teacher
        made = self._of(sparse=label.ndim == 1)
        labels = mx.nd.array(label, ctx=device)
        if teacher is None:
            return made(scores, labels)
        with autograd.pause(train_mode=False):
            theirs = teacher(mx.nd.array(data, ctx=device))
            targets = mx.nd.softmax(theirs / self._objective.temperature, axis=1)
        return made(scores, labels, targets)

    def _of(self, sparse: bool) -> HybridBlock:
        if sparse not in self._made:
            objective = self._objective
            made: HybridBlock = SoftmaxLoss(objective.label_smoothing, objective.class_weights, sparse)
            if objective.teacher is not None:
                made = distillation_loss(made, objective.temperature, objective.hard_weight, sparse)
            made.initialize(ctx=self._devices)
            made.hybridize()
            self._made[sparse] = made
        return self._made[sparse]
