"""(pixel - mean) / std as pixel * scale + shift: the one place where images become what a network takes."""

from typing import Optional, Sequence

import numpy as np


def normalize(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], out: Optional[np.ndarray] = None
) -> np.ndarray:
    """uint8 (N, channels, H, W), in any order in memory -> float32, into `out` where that is given.

    igc_normalize of the C runtime computes the same bits.
    """
    center, deviation = (np.asarray(values, np.float64)[:, None, None] for values in (mean, std))
    out = np.empty(images.shape, np.float32) if out is None else out
    np.multiply(images, (1 / deviation).astype(np.float32), out=out)
    out += (-center / deviation).astype(np.float32)
    return out
