"""Update rules: the authors' own, MXNet's, AdamW on MXNet's operator; and the parts of their states."""

import math
import sys
from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from igc_gluon.native import update

_AT_ONCE = 45  # weights that one of MXNet's operators for many takes


@mx.optimizer.register
class AuthorsNesterov(mx.optimizer.Optimizer):
    """SGD with Nesterov momentum as the authors state it (and as PyTorch has it):

        g = gradient / batch size + wd * w
        m = momentum * m + g
        w = w - lr * (g + momentum * m)

    MXNet's own `nag` keeps the learning rate inside m, so the two part after a drop of the rate; and on CPU its update
    with weight decay re-reads the weight it has just written, with a result that depends on timing.
    Weight decay applies to every parameter: weights, biases, gamma and beta.

    On a CPU one native operator updates all parameters, to the same bits.
    """

    def __init__(self, momentum: float = 0.9, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum
        if not self.multi_precision:
            self.aggregate_num = sys.maxsize  # update() gets lists

    def create_state(self, index: int, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.zeros(weight.shape, weight.context, dtype=weight.dtype)

    def update(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        """Of one parameter, or of as many as the lists hold."""
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        self._update_count(index)
        lrs, wds = self._get_lrs(index), self._get_wds(index)
        if not update.nesterov(weight, grad, state, lrs, wds, self.momentum, self.rescale_grad):
            for arrays in zip(weight, grad, state, lrs, wds):
                self._update_one(*arrays)

    def _update_one(
        self, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: mx.nd.NDArray, lr: float, wd: float
    ) -> None:
        gradient = grad * self.rescale_grad
        _scale_and_add(gradient, 1, weight, wd)
        _scale_and_add(state, self.momentum, gradient, 1)
        _scale_and_add(weight, 1, gradient, -lr)
        _scale_and_add(weight, 1, state, -lr * self.momentum)


def _scale_and_add(y: mx.nd.NDArray, a: float, x: mx.nd.NDArray, b: float) -> None:
    """y = a*y + b*x in place and in one pass: `sgd_update` is y - lr * (rescale_grad*x + wd*y)."""
    mx.nd.sgd_update(y, x, lr=-1, wd=a - 1, rescale_grad=b, out=y)


def scale_and_add_all(ys: Sequence[mx.nd.NDArray], a: float, xs: Sequence[mx.nd.NDArray], b: float) -> None:
    """y = a*y + b*x in place, of many float32 arrays by one operator."""
    for first in range(0, len(ys), _AT_ONCE):
        y, x = list(ys[first : first + _AT_ONCE]), xs[first : first + _AT_ONCE]
        both = [array for pair in zip(y, x) for array in pair]
        mx.nd.multi_sgd_update(
            *both, out=y, num_weights=len(y), lrs=[-1.0] * len(y), wds=[a - 1] * len(y), rescale_grad=b
        )


class AdamW(mx.optimizer.Adam):
    """MXNet's Adam with weight decay apart from the gradient (Loshchilov and Hutter, arXiv 1711.05101, Algorithm 2):

        m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
        w = w - lr * (sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon) + wd * w)

    MXNet has the operator, contrib.adamw_update, and no class for it.
    """

    def update(self, index: int, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: Any) -> None:
        self._update_count(index)
        lr, wd, t = self._get_lr(index), self._get_wd(index), self._index_update_count[index]
        mx.nd.contrib.adamw_update(
            weight,
            grad,
            *state,
            mx.nd.full((1,), self.rescale_grad, ctx=weight.context),
            lr=lr * math.sqrt(1 - self.beta2**t) / (1 - self.beta1**t),
            wd=lr * wd,
            eta=1.0,
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            out=weight,
        )


def _with_beta(rule: type) -> Any:
    """`rule` with the flag's momentum as beta1."""
    return lambda momentum=0.9, **kwargs: rule(beta1=momentum, **kwargs)


# sgd, which the authors' code of IGCV3 names, keeps the learning rate inside the momentum.
OPTIMIZERS: Dict[str, Any] = {
    "nesterov": AuthorsNesterov,
    "sgd": mx.optimizer.SGD,
    "adam": _with_beta(mx.optimizer.Adam),
    "adamw": _with_beta(AdamW),
    "lamb": _with_beta(mx.optimizer.LAMB),
}
# Names of the arrays of a parameter's state, by their number.
_PARTS = {0: (), 1: ("momentum",), 2: ("mean", "variance")}


def counts(optimizer: mx.optimizer.Optimizer) -> bool:
    """Whether an update depends on how many there were before."""
    return isinstance(optimizer, (mx.optimizer.Adam, mx.optimizer.LAMB))


def part_names(optimizer: mx.optimizer.Optimizer) -> Tuple[str, ...]:
    """Names of the arrays of a parameter's state."""
    return _PARTS[2 if counts(optimizer) else 1]


def state_parts(
    optimizer: mx.optimizer.Optimizer, weight: mx.nd.NDArray, state: Any
) -> Tuple[Dict[str, mx.nd.NDArray], Optional[mx.nd.NDArray]]:
    """({name: array} of the state of a parameter whose value is `weight`, float32 weights of a float16 one or None)."""
    master = None
    if _has_master(optimizer, weight):
        # MXNet's SGD and its base class have them in different orders.
        state, master = state if isinstance(optimizer, mx.optimizer.SGD) else state[::-1]
    arrays: List[mx.nd.NDArray] = [] if state is None else list(state) if isinstance(state, (tuple, list)) else [state]
    return dict(zip(_PARTS[len(arrays)], arrays)), master


def state_of(
    optimizer: mx.optimizer.Optimizer, weight: mx.nd.NDArray, parts: Dict[str, mx.nd.NDArray], master: mx.nd.NDArray
) -> Any:
    """The opposite of `state_parts`. Raises KeyError where a part is missing."""
    arrays = tuple(parts[name] for name in part_names(optimizer))
    state = arrays if len(arrays) > 1 else arrays[0]
    if not _has_master(optimizer, weight):
        return state
    return (state, master) if isinstance(optimizer, mx.optimizer.SGD) else (master, state)


def _has_master(optimizer: mx.optimizer.Optimizer, weight: mx.nd.NDArray) -> bool:
    return optimizer.multi_precision and weight.dtype == np.float16
