"""What all networks of this package are: networks of images."""

from typing import Any

import mxnet as mx
import numpy as np

from igc_gluon.data.preprocessing import not_images
from igc_gluon.errors import UserError
from igc_gluon.graph import NativeNetwork
from igc_gluon.model_zoo.attributes import preprocessing_attribute, write_preprocessing
from igc_gluon.paths import expand

CHANNELS = 3


class ImageNetwork(NativeNetwork):
    """(N, 3, H, W) -> scores. Raises UserError on what is no such batch, where MXNet would name an operator's input."""

    def __call__(self, x: Any, *args: Any) -> Any:
        if isinstance(x, mx.nd.NDArray) and (x.ndim != 4 or x.shape[1] != CHANNELS or np.dtype(x.dtype).kind in "iub"):
            channels = self._channels()
            if x.ndim != 4 or x.shape[1] != channels or np.dtype(x.dtype).kind in "iub":
                name = getattr(self, "model", self.name) or "the network"
                raise UserError(not_images(name, (channels, None, None), x, getattr(self, "preprocessing", None)))
        return super().__call__(x, *args)

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> Any:
        """As HybridBlock's; what the network expects of an image, where it is known, is an attribute of the input."""
        if self._cached_graph:
            self._cached_graph[0][0]._set_attr(**preprocessing_attribute(self))
        return super().export(str(expand(path)), epoch, remove_amp_cast)

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """As Block's; and writes FILENAME.json, see `write_preprocessing`."""
        super().save_parameters(filename, deduplicate)
        write_preprocessing(self, filename)

    def _channels(self):
        """Of an image: those of the first convolution, which somebody may have replaced."""
        weight = next((p for p in self.collect_params().values() if p.shape and len(p.shape) == 4), None)
        return weight.shape[1] if weight is not None and weight.shape[1] else CHANNELS
