"""The exponential moving average of the weights over the updates."""

from typing import Dict, List, Mapping, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from igc_gluon.engine.gradients import whole_numbers
from igc_gluon.engine.optimizer import scale_and_add_all
from igc_gluon.model_zoo.authors import check_parameters

_UPDATES = "updates"  # the name that no parameter has, of their number


class WeightAverage:
    """average = d * average + (1 - d) * weight after update t = 1, 2, ..., with d = min(decay, (1 + t) / (10 + t)), as
    TensorFlow's ExponentialMovingAverage has it, so that the weights of the beginning are soon forgotten.

    Of all trained parameters; the statistics of BN are taken anew for it, see `igc_gluon.engine.statistics`.
    """

    def __init__(self, parameters: Sequence[gluon.Parameter], device: mx.Context, decay: float):
        self._parameters = [p for p in parameters if p.grad_req != "null"]
        self._device, self._decay, self._updates = device, decay, 0
        self._arrays: List[mx.nd.NDArray] = []

    def begin(self) -> None:
        """Starts from the weights as they are, unless `load_state` has been called."""
        if not self._arrays:
            self._arrays = [p.data(self._device).copy() for p in self._parameters]

    def update(self) -> None:
        """To be called after every update of the weights."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        scale_and_add_all(self._arrays, decay, [p.data(self._device) for p in self._parameters], 1 - decay)

    def values(self) -> Dict[str, np.ndarray]:
        """{parameter name: array}"""
        return {p.name: array.asnumpy() for p, array in zip(self._parameters, self._arrays)}

    def state(self) -> Dict[str, np.ndarray]:
        """What `load_state` needs beside `values`."""
        return {_UPDATES: np.array([self._updates], np.float32)}

    def load_state(self, state: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]) -> None:
        """The opposite of `state` and `values`, which may have more arrays. Raises UserError, which names them, if
        arrays are missing."""
        arrays = {p.name: values[p.name] for p in self._parameters if p.name in values}
        check_parameters(arrays, {p.name: p for p in self._parameters})
        (self._updates,) = whole_numbers(state, _UPDATES, 1)
        self._arrays = [mx.nd.array(arrays[p.name], ctx=self._device) for p in self._parameters]
