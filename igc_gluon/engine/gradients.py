"""What becomes of a batch's gradients, summed over all devices and workers, before the update."""

from typing import Dict, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from igc_gluon.engine.optimizer import scale_and_add_all
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.authors import check_parameters

_IMAGES = "images"  # the name that no parameter has, of how many images the sums are of


class Gradients:
    """Sums the gradients of `accumulate` batches, and makes the mean gradient's norm over all parameters at most
    `clip_norm` (None: whatever it is), as gluon.utils.clip_global_norm does.

    An epoch's last batch ends a sum, however many batches it has.
    """

    def __init__(
        self,
        parameters: Sequence[gluon.Parameter],
        devices: Sequence[mx.Context],
        accumulate: int = 1,
        clip_norm: Optional[float] = None,
    ):
        self._parameters = [p for p in parameters if p.grad_req != "null"]
        self._devices, self._accumulate, self._clip_norm = list(devices), accumulate, clip_norm
        self._sums: Dict[mx.Context, List[mx.nd.NDArray]] = {}
        self._batches = self._images = 0

    def ready(self, images: int, last: bool = False) -> int:
        """Takes the gradients of a batch of `images`, the same ones on every device; `last` of its epoch.

        Returns the number of images whose gradients are now in the parameters' arrays, to update by, or 0 where more
        batches are to come first.
        """
        if self._accumulate > 1:
            images = self._add(images, last)
        if images and self._clip_norm is not None:
            for device in self._devices:
                gluon.utils.clip_global_norm(self._of(device), self._clip_norm * images, check_isfinite=False)
        return images

    def state(self) -> Dict[str, np.ndarray]:
        """{name: array} of a sum that is not complete; empty between two."""
        if not self._batches:
            return {}
        sums = zip(self._parameters, self._sums[self._devices[0]])
        counts = np.array([self._batches, self._images], np.float32)
        return {**{p.name: array.asnumpy() for p, array in sums}, _IMAGES: counts}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """The opposite of `state`. Raises UserError, which names them, if the arrays are not this network's."""
        arrays = {name: array for name, array in state.items() if name != _IMAGES}
        self._batches, self._images = whole_numbers(state, _IMAGES, 2)
        self._sums = {}
        if self._batches:
            check_parameters(arrays, {p.name: p for p in self._parameters})
            self._sums = {d: [mx.nd.array(arrays[p.name], ctx=d) for p in self._parameters] for d in self._devices}

    def _add(self, images: int, last: bool) -> int:
        for device in self._devices:
            gradients = self._of(device)
            if self._batches:
                scale_and_add_all(self._sums[device], 1, gradients, 1)
            else:
                self._sums[device] = [gradient.copy() for gradient in gradients]
        self._batches, self._images = self._batches + 1, self._images + images
        if self._batches < self._accumulate and not last:
            return 0
        for device in self._devices:
            for gradient, total in zip(self._of(device), self._sums[device]):
                total.copyto(gradient)
        images, self._batches, self._images = self._images, 0, 0
        return images

    def _of(self, device: mx.Context) -> List[mx.nd.NDArray]:
        return [p.grad(device) for p in self._parameters]


def whole_numbers(arrays: Mapping[str, np.ndarray], name: str, count: int) -> List[int]:
    """The `count` numbers, from 0 on, in the array `name` of a checkpoint; zeros where there is none. Raises UserError
    on anything else."""
    if name not in arrays:
        return [0] * count
    values = arrays[name]
    if values.shape != (count,) or not all(0 <= value < 1 << 53 and value == int(value) for value in values.tolist()):
        raise UserError(f"these parameters are not this network's: {name} has no {count} whole numbers")
    return [int(value) for value in values.tolist()]
