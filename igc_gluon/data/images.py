"""What every data set is loaded into."""
from typing import NamedTuple

import numpy as np

SHAPE = (32, 32, 3)


class Images(NamedTuple):
    """images: uint8 (N, H, W, 3), RGB; of most data sets (N, 32, 32, 3). labels: int32 (N,), from 0."""
    images: np.ndarray
    labels: np.ndarray
