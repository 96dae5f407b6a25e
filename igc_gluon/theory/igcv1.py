"""IGCV1, section 3.2: how many parameters a block has, how wide it can be, and when it is the widest.

Parameters are convolution weights, without bias. At a fixed size of the feature map the multiply-adds of a
block are this number times the number of positions, so a budget of either is spent the same way.
"""

from math import isqrt, sqrt
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.theory._checks import whole


def igc_params(L: int, M: int, S: int = 9) -> int:
    """T_igc = L M M S + M L L, eq. 7."""
    L, M, S = whole(L=L, M=M, S=S)
    return L * M * M * S + M * L * L


def regular_params(C: int, S: int = 9) -> int:
    """T_rc = C C S, eq. 8."""
    C, S = whole(C=C, S=S)
    return C * C * S


def gpc_params(L: int, M: int, S: int = 9) -> int:
    """L M M S + (L M)^2, a group convolution and a dense 1x1 (supplementary, GPC block)."""
    L, M, S = whole(L=L, M=M, S=S)
    return L * M * M * S + (L * M) ** 2


def regular_width(T: int, S: int = 9) -> float:
    """C = sqrt(T / S), the width (not rounded) at which a regular convolution has T parameters, eq. 8."""
    T, S = whole(T=T, S=S)
    return sqrt(T / S)


def width_bound(T: int, S: int = 9) -> float:
    """(T / (2 sqrt(S)))^(2/3), which no block of T parameters is wider than, eq. 15.

    Reached where L = M S.
    """
    T, S = whole(T=T, S=S)
    return float(np.cbrt(T * T / (4 * S)))


def is_wider_than_regular(L: int, M: int, S: int = 9) -> bool:
    """Whether a block is wider than the regular convolution of the same cost: L / (L - 1) < M S, eq. 9."""
    L, M, S = whole(L=L, M=M, S=S)
    return L < M * S * (L - 1)


class Block(NamedTuple):
    """An IGC block of L primary partitions, M secondary partitions and S taps in the primary convolution."""

    L: int
    M: int
    S: int = 9

    @property
    def width(self) -> int:
        """G = L M."""
        return self.L * self.M

    @property
    def params(self) -> int:
        return igc_params(self.L, self.M, self.S)

    @property
    def balance(self) -> float:
        """L / (M S): 1 where the width is the greatest, above 1 with too many primary partitions."""
        return self.L / (self.M * self.S)

    @property
    def regular_width(self) -> float:
        """Width, not rounded, of the regular convolution with as many parameters as this block."""
        return regular_width(self.params, self.S)

    @property
    def bound(self) -> float:
        """The width that eq. 15 allows with as many parameters as this block has."""
        return width_bound(self.params, self.S)


def _most_primary(T: int, M: int, S: int) -> int:
    """The greatest L, 0 if none, for which the block (L, M) has at most T parameters.

    The root of M L^2 + S M^2 L = T, in integers because a float square root is off by one for a large T.
    """
    return (isqrt((S * M * M) ** 2 + 4 * M * T) - S * M * M) // (2 * M)


def best_blocks(T: int, S: int = 9, near: bool = False) -> List[Block]:
    """The blocks worth considering for a budget of T parameters, by rising M.

    By default those within the budget to which neither a primary nor a secondary partition can be added.
    With near=True, which is how Table 1 was made, for every M the L whose count is the nearest to T, above or
    below. Either way an M that ends at the same L as another one is left out if it uses the budget less well.

    Raises UserError when not even L = M = 1 fits, which takes S + 1 parameters.
    """
    T, S = whole(T=T, S=S)
    if T < S + 1:
        raise UserError(
            f"a budget of {T} parameters is too small: the smallest block with S = {S} taps (L = M = 1) has {S + 1}"
        )

    def miss(block: Block) -> Tuple[int, int]:
        return abs(T - block.params), block.params

    best_of: Dict[int, Block] = {}  # L -> block: of all M that end at one L only the best is of use
    M = 0
    while True:
        M += 1
        most = _most_primary(T, M, S)
        choices = [most, most + 1] if near else [most]
        blocks = [Block(L, M, S) for L in choices if L >= 1]
        if blocks:
            block = min(blocks, key=miss)
            best_of[block.L] = min(block, best_of.get(block.L, block), key=miss)
        if most < 1:
            return sorted(best_of.values(), key=lambda block: block.M)


def widest_block(T: int, S: int = 9) -> Block:
    """The widest block of at most T parameters, found exactly; of several the one with fewest parameters.

    Eq. 15 says how wide it can be at most; whole partitions rarely reach it. Raises UserError as best_blocks.
    """
    return widest_of(best_blocks(T, S))


def widest_of(blocks: Sequence[Block]) -> Block:
    """The widest of the blocks, and of several such the one with fewest parameters."""
    return max(blocks, key=lambda block: (block.width, -block.params))
