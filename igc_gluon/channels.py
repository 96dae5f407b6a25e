"""Orders of channels, in NumPy: interleavings, and the weight of a group convolution over all channels."""

from typing import Optional

import numpy as np

from igc_gluon.errors import UserError


def permutation_indices(channels: int, branch_factor: int) -> np.ndarray:
    """Which input channel each output channel reads: `out[c] = x[permutation_indices(C, b)[c]]`.

    The channels are seen as `branch_factor` (b) branches of C/b: output channel j*b + i is input channel
    i*(C/b) + j. With b = L, the channels of L primary partitions become M = C/L secondary partitions, the m-th of
    which holds the m-th channel of every primary partition: this is P^T of IGCV1's eq. 2. With b = M it is P, its
    inverse.

    Returns an int64 array of shape (C,). Raises UserError if b does not divide C.
    """
    if branch_factor < 1 or channels % branch_factor:
        raise UserError(f"the permutation's branch factor {branch_factor} does not divide {channels} channels")
    return np.arange(channels).reshape(branch_factor, channels // branch_factor).T.ravel()


def branches_of(index: np.ndarray) -> Optional[int]:
    """The branch factor whose `permutation_indices` are `index`, 1 if it changes nothing; None: there is none."""
    channels = len(index)
    step = int(index[1]) if channels > 1 else 1  # the second channel comes from the second branch
    if step < 1 or channels % step:
        return None
    branches = channels // step if step > 1 else 1
    return branches if (permutation_indices(channels, branches) == index).all() else None


def dense_weight(weight: np.ndarray, groups: int, nothing: int = 0) -> np.ndarray:
    """The weight of a group convolution, (channels, input channels of its group, ...), over all input channels, with
    `nothing` where there is none."""
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    whole = np.full((weight.shape[0], columns * groups, *weight.shape[2:]), nothing, weight.dtype)
    for g in range(groups):
        whole[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = weight[g * rows : (g + 1) * rows]
    return whole
