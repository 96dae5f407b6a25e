"""Other layers as IGC blocks with fixed secondary weights (IGCV1, section 4, and supplementary).

Each function takes the weights of an ordinary layer and gives the IGC block that computes the same. Some
blocks compute it on copies: the input x stands in the block's input `input_copies` times in a row, and the
result x' in its output `output_copies` times.
"""

from typing import Any, NamedTuple, Optional

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.theory._checks import whole
from igc_gluon.theory.stack import GroupConv, igc_stack


class SpecialCase(NamedTuple):
    """stack: a list [W^p, P^T, W^s, P], applied to [x; x; ...] gives [x'; x'; ...]."""

    stack: list
    input_copies: int = 1
    output_copies: int = 1


def regular_as_igc(weight: np.ndarray, rows: int, columns: Optional[int] = None) -> SpecialCase:
    """A regular convolution as an IGC block of L = rows x columns primary partitions, eqs. 17-20.

    weight (C_out, C_in, ...) is cut into rows x columns blocks W_ij (eq. 19), by default as many columns as
    rows; the paper shows 2 x 2. W^p = diag(W_11, W_12, ..., W_21, ...) (eq. 18) applies block ij to part j
    of copy i of x, and W^s adds up the parts of each row (eq. 20). The input holds `rows` copies, the output
    `columns`, so that with rows = columns such blocks can follow each other.
    """
    weight = GroupConv(weight).weight
    C_out, C_in, *taps = weight.shape
    rows, columns = whole(rows=rows, columns=rows if columns is None else columns)
    if C_out % rows or C_in % columns:
        raise UserError(
            f"a kernel of {C_out} x {C_in} channels cannot be cut into {rows} x {columns} "
            f"blocks: rows must divide {C_out} and columns {C_in}"
        )
    L = rows * columns
    height, width = C_out // rows, C_in // columns
    primary = weight.reshape(rows, height, columns, width, *taps).swapaxes(1, 2).reshape(-1, width, *taps)
    add_row = np.tile(np.kron(np.eye(rows), np.ones((1, columns))), (columns, 1))
    return SpecialCase(igc_stack(primary, _secondary(add_row, height, weight.dtype), L), rows, columns)


def extreme_case_as_igc(weight: np.ndarray) -> SpecialCase:
    """A regular convolution whose IGC block has a channel-wise primary convolution (supplementary, eqs. 1-6).

    The finest cut of `regular_as_igc`: L = C_out C_in, M = 1.
    """
    return regular_as_igc(weight, *GroupConv(weight).weight.shape[:2])


def summation_fusion_as_igc(weight: np.ndarray, groups: int) -> SpecialCase:
    """Group convolution of L = groups branches and summation of their outputs, eqs. 21-22.

    weight (L M, M_in, ...) is that of the group convolution. W^s is all ones; the sum x' of M channels comes
    out L times, as the input of the L branches that follow.
    """
    conv = GroupConv(weight, groups)
    secondary = _secondary(np.ones((groups, groups)), conv.out_channels // groups, conv.weight.dtype)
    return SpecialCase(igc_stack(weight, secondary, groups), output_copies=groups)


def xception_as_igc(depthwise: np.ndarray, pointwise: np.ndarray) -> SpecialCase:
    """A channel-wise convolution (C, 1, ...) and a 1x1 convolution (C_out, C, 1, 1): M = 1, L = C."""
    C = GroupConv(pointwise).in_channels
    weight = GroupConv(depthwise).weight
    if weight.shape[:2] != (C, 1):
        raise UserError(
            f"the 1x1 convolution takes {C} channels, so the channel-wise one must be of shape "
            f"({C}, 1, ...), got {weight.shape}"
        )
    return SpecialCase(igc_stack(weight, pointwise, L=C))


def _secondary(matrix: np.ndarray, M: int, dtype: Any) -> np.ndarray:
    """The weight of a secondary convolution whose M partitions all have this L x L matrix."""
    return np.tile(matrix, (M, 1)).astype(dtype)[:, :, None, None]
