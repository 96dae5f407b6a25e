"""Paths between channels, and the complementary condition, strict and loose (IGCV2, sections 3.2 and 5.1).

All functions take a stack, a list of GroupConv and Permutation as in `stack`. They look at which channels are
in one branch, not at the weights.
"""

from typing import Optional

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.theory.stack import GroupConv, Stack, check_stack, composed_kernel


def paths(stack: Stack) -> np.ndarray:
    """Number of paths from every input channel to every output channel, integers (C_out, C_in).

    Two channels are connected by a convolution when they are in the same branch, whatever the weights are.
    """
    ones = [
        GroupConv((*layer.weight.shape[:2], 1, 1), layer.groups) if isinstance(layer, GroupConv) else layer
        for layer in stack
    ]
    counts = composed_kernel(ones)[:, :, 0, 0]  # as floats, because numpy multiplies integer matrices slowly
    if counts.max() >= 2**53:
        raise UserError("more than 2^53 paths between two channels: give one block of the network at a time")
    return counts.astype(np.int64)


def has_one_path(stack: Stack) -> bool:
    """Whether there is exactly one path between any two channels, so that no connection is wasted."""
    return bool((paths(stack) == 1).all())


def is_loosely_complementary(stack: Stack) -> bool:
    """The loose complementary condition: the composed kernel is dense, channels may be connected repeatedly.

    For two convolutions this says that the channels of each branch of one come from all the branches of the
    other, where some may come from the same one (IGCV2, section 5.1).
    """
    return bool(paths(stack).all())


def is_complementary(stack: Stack) -> bool:
    """The complementary condition to the letter (IGCV2, Condition 1).

    Wherever the stack is cut in two, both parts act as group convolutions, and channels in one branch of one
    lie in different branches of the other and come from all of them. It implies one path between any two
    channels; the reverse holds for two convolutions, but not for more.
    """
    stack = check_stack(stack)
    starts = [number for number, layer in enumerate(stack) if isinstance(layer, GroupConv)]
    if len(starts) == 1:
        return has_one_path(stack)  # there is nothing to complement a single convolution
    return all(_are_complementary(stack[:start], stack[start:]) for start in starts[1:])


def _are_complementary(first: Stack, second: Stack) -> bool:
    """Whether two parts of a stack act as complementary group convolutions."""
    branch_out, branch_in = _branches(paths(first)), _branches(paths(second).T)
    if branch_out is None or branch_in is None:
        return False
    shared = np.zeros((branch_out.max() + 1, branch_in.max() + 1), dtype=int)
    np.add.at(shared, (branch_out, branch_in), 1)
    return bool((shared == 1).all())


def _branches(counts: np.ndarray) -> Optional[np.ndarray]:
    """The branch of every row, if `counts` connects rows and columns as a group convolution does, else None.

    It does if any two rows reach either the same columns or none in common.
    """
    reached, branch = np.unique(counts > 0, axis=0, return_inverse=True)
    return branch.ravel() if (reached.sum(axis=0) == 1).all() else None
