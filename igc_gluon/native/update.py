"""The optimizer's update of many parameters as one native operator (src/mxnet/optimizer_op.cpp)."""

import ctypes
from typing import Any, Iterable, Sequence

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from igc_gluon.native.operators import unavailable_reason


def nesterov(
    weights: Sequence[Any],
    gradients: Sequence[Any],
    momenta: Sequence[Any],
    rates: Sequence[float],
    decays: Sequence[float],
    momentum: float,
    rescale: float,
) -> bool:
    """AuthorsNesterov of all `weights` in place; False, with nothing changed, where no native operator can.

    weights, gradients, momenta: lists of NDArray, of one type and on one device; rates, decays: the learning
    rate and weight decay of each.
    """
    first = weights[0]
    if (
        first.context.device_type != "cpu"
        or first.dtype != np.float32
        or unavailable_reason() is not None
        or any(gradient.stype != "default" for gradient in gradients)
    ):
        return False
    for array in weights:
        _leave_blocks(array)
    mx.nd.igc_nesterov(
        *weights,
        *momenta,
        *gradients,
        out=[*weights, *momenta],
        rescale_grad=repr(rescale),
        decay=repr(momentum - 1),
        wd=_text(decays),
        rate=_text(-rate for rate in rates),
        rate_of_momentum=_text(-rate * momentum for rate in rates),
    )
    return True


def _text(numbers: Iterable[float]) -> str:
    return ",".join(map(repr, numbers))


def _leave_blocks(array: Any) -> None:
    """Puts weights in order that inference has left in oneDNN's blocks, where no operator of ours can write.

    Asking for the data's address does it.
    """
    check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(ctypes.c_void_p())))
