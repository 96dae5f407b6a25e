"""What every data set is loaded into."""
from typing import NamedTuple

import numpy as np

SHAPE = (32, 32, 3)


class Images(NamedTuple):
    """images: uint8 (N, 32, 32, 3), RGB. labels: int32 (N,), from 0."""
    images: np.ndarray
    labels: np.ndarray
