"""IGCV2, section 3.2: parameters of interleaved structured sparse convolutions, and when they are the fewest.

A block is L group convolutions with K_1 ... K_L channels per branch on C channels. The first one is spatial
with S taps, the others are 1x1. Under the complementary condition the K_l multiply up to C (eq. 6).
"""

from math import exp, log
from typing import Iterator, List, Optional, Sequence, Tuple

from igc_gluon.errors import UserError
from igc_gluon.theory._checks import whole


def igcv2_params(C: int, Ks: Sequence[int], S: int = 9) -> int:
    """Q = C (K_2 + ... + K_L) + C S K_1, eq. 7. Every K_l must divide C; their product need not be C."""
    C, S = whole(C=C, S=S)
    Ks = check_branches(C, Ks)
    return C * sum(Ks[1:]) + C * S * Ks[0]


def check_branches(C: int, Ks: Sequence[int]) -> List[int]:
    """Ks as a list of ints; UserError if it is empty or if a K_l does not divide C."""
    Ks = [whole(**{f"K_{number}": K})[0] for number, K in enumerate(Ks, 1)]
    if not Ks:
        raise UserError("a block needs at least one group convolution: give K_1")
    for number, K in enumerate(Ks, 1):
        if C % K:
            raise UserError(f"K_{number} = {K} does not divide C = {C}: branches must be equally wide")
    return Ks


def params_lower_bound(C: int, L: int, S: int = 9) -> float:
    """C L (S C)^(1/L), which no block of L convolutions that meets eq. 6 is below, eq. 10."""
    C, L, S = whole(C=C, L=L, S=S)
    return C * L * (S * C) ** (1 / L)


def best_depth(C: int, S: int = 9) -> float:
    """L = log(S C), the number of group convolutions (not rounded) with the fewest parameters, eq. 14."""
    C, S = whole(C=C, S=S)
    return log(S * C)


def balanced_branches(C: int, L: int, S: int = 9, channelwise: bool = False) -> List[float]:
    """[K_1, ..., K_L], not rounded, that meet the balance condition S K_1 = K_2 = ... = K_L, eq. 11.

    With channelwise=True K_1 is 1 and the condition is K_2 = ... = K_L = C^(1/(L-1)), as in the paper's
    networks (section 3.2, Examples).
    """
    C, L, S = whole(C=C, L=L, S=S)
    if not channelwise:
        term = (S * C) ** (1 / L)
        return [term / S] + [term] * (L - 1)
    if L < 2:
        raise UserError("a channel-wise convolution alone connects no channels: L must be at least 2")
    return [1.0] + [C ** (1 / (L - 1))] * (L - 1)


def imbalance(terms: Sequence[float]) -> float:
    """How far a block is from the balance condition: arithmetic over geometric mean of its terms.

    The terms are S K_1, K_2, ..., K_L, the inputs of one output channel in every convolution, as `fan_ins`
    reads them from a stack; for IGCV1 M S and L; for a channel-wise block, of which the paper balances the
    1x1 convolutions only, K_2, ..., K_L. 1 is balance; 1.5 means 1.5 times the parameters that balanced
    convolutions with the same product of terms would have (eqs. 8-10).
    """
    terms = list(terms)
    if not terms or min(terms) <= 0:
        raise UserError(f"the balance condition needs positive terms S K_1, K_2, ..., got {terms}")
    geometric = exp(sum(log(term) for term in terms) / len(terms))
    return sum(terms) / len(terms) / geometric


def fewest_params(C: int, S: int = 9, L: Optional[int] = None, channelwise: bool = False) -> Tuple[List[int], int]:
    """(Ks, Q): whole K_1, ..., K_L with product C (eq. 6) for which Q is the smallest, found by trying all.

    L None looks for the best number of convolutions too. channelwise fixes K_1 = 1. The 1x1 convolutions have
    K of at least 2, since K = 1 mixes no channels; their order does not change Q, so they come by rising K.
    Raises UserError when C has no such factors.
    """
    C, S = whole(C=C, S=S)
    if L is not None:
        whole(L=L)
    designs = [
        [K_1, *rest]
        for K_1 in ([1] if channelwise else range(1, C + 1))
        if C % K_1 == 0
        for rest in _factorizations(C // K_1, 2)
        if L in (None, 1 + len(rest))
    ]
    if not designs:
        raise UserError(
            f"C = {C} is not a product of channels per branch for L = {L} group convolutions: "
            "take a C with more factors or a smaller L"
        )
    Ks = min(designs, key=lambda design: (igcv2_params(C, design, S), len(design), design))
    return Ks, igcv2_params(C, Ks, S)


def _factorizations(number: int, smallest: int) -> Iterator[List[int]]:
    """Every way to write the number as a product of rising factors of at least `smallest`; 1 is []."""
    if number == 1:
        yield []
    for factor in range(smallest, number + 1):
        if number % factor == 0:
            for rest in _factorizations(number // factor, factor):
                yield [factor, *rest]
