"""Update rules: the authors' own and MXNet's SGD, and the parts of their states."""

import sys
from typing import Any, Optional, Tuple

import mxnet as mx

from igc_gluon.native import update


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


# sgd, which the authors' code of IGCV3 names, keeps the learning rate inside the momentum.
OPTIMIZERS = {"nesterov": AuthorsNesterov, "sgd": mx.optimizer.SGD}


def momentum_and_master(
    optimizer: mx.optimizer.Optimizer, state: Any
) -> Tuple[Optional[mx.nd.NDArray], Optional[mx.nd.NDArray]]:
    """The parts of one parameter's state, None for what it has not: momentum, and float32 weights of a float16 one."""
    if not isinstance(state, tuple):
        return state, None
    # MXNet's SGD and its base class have them in different orders.
    return state if isinstance(optimizer, mx.optimizer.SGD) else state[::-1]


def state_of(
    optimizer: mx.optimizer.Optimizer, weight: mx.nd.NDArray, momentum: mx.nd.NDArray, master: mx.nd.NDArray
) -> Any:
    """The opposite of `momentum_and_master`, for a parameter whose value is `weight`."""
    if weight.dtype == "float32" or not optimizer.multi_precision:
        return momentum
    return (momentum, master) if isinstance(optimizer, mx.optimizer.SGD) else (master, momentum)
