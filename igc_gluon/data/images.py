"""What every data set is loaded into."""

from typing import NamedTuple

import numpy as np

SHAPE = (32, 32, 3)


class Images(NamedTuple):
    """images: uint8 (N, H, W, 3), RGB; of most data sets (N, 32, 32, 3). labels: int32 (N,), from 0.

    In memory the images are as their archive has them, plane by plane or pixel by pixel: `Batches` takes either.
    """

    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def of_planes(cls, planes: np.ndarray, labels: np.ndarray) -> "Images":
        """Of uint8 (N, 3, H, W), not copied."""
        return cls(planes.transpose(0, 2, 3, 1), labels)
