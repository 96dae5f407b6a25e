from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igc_gluon import theory
from igc_gluon.errors import UserError

# K and C of the designs in IGCV2's Fig. 2, by the number of 1x1 convolutions (there called L), each of about
# 4700 parameters.
FIG_2 = {
    2: [(4, 272), (6, 222), (8, 184), (12, 144), (16, 112)],
    3: [(3, 258), (4, 220), (6, 174), (8, 136), (12, 108)],
    4: [(3, 222), (4, 184), (6, 144), (8, 112), (12, 84)],
}
branches = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@pytest.mark.parametrize("pointwise, K, C", [(n, *row) for n, rows in FIG_2.items() for row in rows])
def test_designs_of_figure_2_cost_the_same(pointwise, K, C):
    assert theory.igcv2_params(C, [1] + [K] * pointwise, 9) == pytest.approx(4700, rel=0.05)


@given(Ks=branches, S=st.sampled_from([1, 9, 25]))
def test_params_count_the_nonzeros_of_the_matrices(Ks, S):
    C = prod(Ks)
    matrices = [np.kron(np.eye(C // K), np.ones((K, K * (S if number == 0 else 1)))) for number, K in enumerate(Ks)]
    assert theory.igcv2_params(C, Ks, S) == sum(map(np.count_nonzero, matrices))


@given(Ks=branches, S=st.sampled_from([1, 9, 25]))
def test_jensen_bound_and_the_imbalance_that_separates_from_it(Ks, S):
    C, L = prod(Ks), len(Ks)
    Q, bound = theory.igcv2_params(C, Ks, S), theory.params_lower_bound(C, L, S)
    assert Q >= bound * (1 - 1e-12)
    assert Q / bound == pytest.approx(theory.imbalance([S * Ks[0], *Ks[1:]]))


def test_balance_condition():
    for C, L, S in product([64, 144, 216], [1, 2, 3, 5], [1, 9]):
        Ks = theory.balanced_branches(C, L, S)
        assert len(Ks) == L and prod(Ks) == pytest.approx(C)  # eq. 6
        assert theory.imbalance([S * Ks[0], *Ks[1:]]) == pytest.approx(1)
        assert C * (S * Ks[0] + sum(Ks[1:])) == pytest.approx(theory.params_lower_bound(C, L, S))
    assert theory.balanced_branches(144, 3, channelwise=True) == pytest.approx([1, 12, 12])
    assert theory.balanced_branches(216, 4, channelwise=True) == pytest.approx([1, 6, 6, 6])
    assert theory.imbalance([12, 12]) == pytest.approx(1)
    assert theory.imbalance([4, 36]) == pytest.approx(20 / 12)


@given(L=st.integers(1, 50), M=st.integers(1, 50), S=st.sampled_from([1, 9]))
def test_igcv1_is_the_case_of_two_convolutions(L, M, S):
    assert theory.igcv2_params(L * M, [M, L], S) == theory.igc_params(L, M, S)
    assert (theory.imbalance([M * S, L]) == pytest.approx(1, abs=1e-12)) is (L == M * S)
    # Eqs. 10-15 and 8-10 are one inequality.
    block = theory.Block(L, M, S)
    assert block.bound / block.width == pytest.approx(theory.imbalance([M * S, L]) ** (2 / 3))


@pytest.mark.parametrize("C", [16, 64, 144, 216, 361, 416])
def test_best_depth_is_where_the_bound_is_lowest(C):
    best = theory.best_depth(C, 9)
    assert best == pytest.approx(np.log(9 * C))
    bounds = {L: theory.params_lower_bound(C, L, 9) for L in range(1, 30)}
    assert abs(min(bounds, key=bounds.get) - best) < 1
    assert min(bounds.values()) >= C * best * np.e * (1 - 1e-12)  # C L (SC)^(1/L) at L = log(SC)


@pytest.mark.parametrize("S, L, channelwise", list(product([1, 9], [None, 1, 2, 3], [False, True])))
def test_fewest_params_equals_trying_every_design(S, L, channelwise):
    for C in range(2, 40):
        lengths = [L] if L else range(1, 7)
        designs = [
            Ks
            for length in lengths
            for Ks in product(*[[K for K in range(1, C + 1) if C % K == 0]] * length)
            if prod(Ks) == C and 1 not in Ks[1:] and (Ks[0] == 1 or not channelwise)
        ]
        if not designs:
            with pytest.raises(UserError):
                theory.fewest_params(C, S, L, channelwise)
            continue
        Ks, Q = theory.fewest_params(C, S, L, channelwise)
        assert tuple(Ks) in designs and Q == theory.igcv2_params(C, Ks, S)
        assert Q == min(C * (sum(Ks[1:]) + S * Ks[0]) for Ks in designs)
        assert Q >= theory.params_lower_bound(C, len(Ks), S) * (1 - 1e-12)


def test_published_widths_are_the_optima():
    """IGCV2's Table 2: two 1x1 convolutions after the channel-wise one."""
    for C, K in ((144, 12), (256, 16), (361, 19)):
        assert theory.fewest_params(C, 9, L=3, channelwise=True) == ([1, K, K], 9 * C + 2 * C * K)


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: theory.igcv2_params(12, [5]), "K_1 = 5 does not divide C = 12"),
        (lambda: theory.igcv2_params(12, [1, 0]), "K_2"),
        (lambda: theory.igcv2_params(0, [1]), "C"),
        (lambda: theory.igcv2_params(12, []), "K_1"),
        (lambda: theory.igcv2_params(12, [1.5]), "K_1"),
        (lambda: theory.params_lower_bound(12, 0), "L"),
        (lambda: theory.best_depth(-1), "C"),
        (lambda: theory.balanced_branches(12, 1, channelwise=True), "L must be at least 2"),
        (lambda: theory.imbalance([]), "positive"),
        (lambda: theory.imbalance([3, 0]), "positive"),
        (lambda: theory.fewest_params(7, 9, L=3), "C = 7"),
        (lambda: theory.fewest_params(8, 9, L=0), "L"),
    ],
)
def test_bad_designs_are_one_clear_line(call, names):
    with pytest.raises(UserError) as caught:
        call()
    assert names in str(caught.value) and "\n" not in str(caught.value)
