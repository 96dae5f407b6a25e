import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from igc_gluon import theory
from igc_gluon.errors import UserError
from igc_gluon.theory import Block, igcv1

# L, M, #params, width of IGCV1's Table 1. The paper prints width 63 for L = 2, M = 31.
TABLE_1 = {
    4672: [
        (1, 23, 4784, 23),
        (2, 16, 4672, 32),
        (3, 13, 4680, 39),
        (5, 10, 4750, 50),
        (6, 9, 4698, 54),
        (12, 6, 4752, 72),
        (28, 3, 4620, 84),
        (40, 2, 4640, 80),
        (64, 1, 4672, 64),
    ],
    17536: [
        (1, 44, 17468, 44),
        (2, 31, 17422, 62),
        (4, 22, 17776, 88),
        (12, 12, 17280, 144),
        (14, 11, 17402, 154),
        (23, 8, 17480, 184),
        (28, 7, 17836, 196),
        (41, 5, 17630, 205),
        (64, 3, 17472, 192),
        (85, 2, 17510, 170),
        (128, 1, 17536, 128),
    ],
}
# L, M, #params of the supplementary's Table 1, its misprints put right: the counts of L = 6, 11, 15, 18 and
# 29 are printed rotated by one (17820 17640 17496 17632 17640), and that of L = 128 as 17532.
GPC = [
    (1, 22, 4840),
    (2, 15, 4950),
    (3, 12, 5184),
    (5, 8, 4480),
    (10, 5, 4750),
    (19, 3, 4788),
    (30, 2, 4680),
    (64, 1, 4672),
    (1, 42, 17640),
    (2, 28, 17248),
    (3, 22, 17424),
    (6, 14, 17640),
    (11, 9, 17820),
    (15, 7, 17640),
    (18, 6, 17496),
    (29, 4, 17632),
    (62, 2, 17608),
    (128, 1, 17536),
]
small = st.integers(1, 40)
taps = st.sampled_from([1, 3, 9, 25])


def nonzeros_of_a_block(L, M, S):
    """Counts the weights in the matrices W^p and W^s of eq. 5."""
    W_p = np.kron(np.eye(L), np.ones((M, M * S)))
    W_s = np.kron(np.eye(M), np.ones((L, L)))
    return np.count_nonzero(W_p) + np.count_nonzero(W_s)


@pytest.mark.parametrize("T, L, M, params, width", [(T, *row) for T, rows in TABLE_1.items() for row in rows])
def test_table_1(T, L, M, params, width):
    assert (theory.igc_params(L, M, 9), Block(L, M).params, Block(L, M).width) == (params, params, width)
    assert Block(L, M, 9) in theory.best_blocks(T, 9, near=True)


def test_widest_of_table_1_are_the_papers():
    for T, widest in ((4672, Block(28, 3)), (17536, Block(41, 5))):
        assert theory.widest_of(theory.best_blocks(T, near=True)) == widest
    assert theory.widest_block(4672) == Block(28, 3)
    # The paper's block of width 205 takes 17630; within 17536 the widest has 200.
    assert theory.widest_block(17536) == Block(40, 5)


@pytest.mark.parametrize("L, M, params", GPC)
def test_supplementary_table_1(L, M, params):
    assert theory.gpc_params(L, M, 9) == params


@given(L=st.integers(1, 8), M=st.integers(1, 8), S=taps)
def test_params_count_the_nonzeros_of_the_matrices(L, M, S):
    assert theory.igc_params(L, M, S) == nonzeros_of_a_block(L, M, S)
    G = L * M
    assert theory.igc_params(L, M, S) == pytest.approx(G**2 * (S / L + 1 / M))
    assert theory.gpc_params(L, M, S) == np.count_nonzero(np.kron(np.eye(L), np.ones((M, M * S)))) + G**2
    assert theory.regular_params(G, S) == np.ones((G, G * S)).size == theory.igc_params(1, G, S) - G


@given(L=small, M=small, S=taps)
@example(L=2, M=2, S=1)  # as wide as the regular convolution
def test_eq_9_says_when_a_block_is_wider_than_a_regular_convolution(L, M, S):
    G, T = L * M, theory.igc_params(L, M, S)
    wider = G * G * S > T  # G > C = sqrt(T / S)
    assert theory.is_wider_than_regular(L, M, S) is wider
    assert wider is (L > 1 and L / (L - 1) < M * S)
    if G * G * S != T:  # where they are equal, sqrt may round either way
        assert (G > theory.regular_width(T, S)) is wider


@given(L=small, M=small, S=taps)
def test_bound_holds_and_is_reached_where_L_is_M_S(L, M, S):
    block = Block(L, M, S)
    assert block.params >= 2 * np.sqrt(S) * block.width**1.5 * (1 - 1e-12)  # eq. 14, AM-GM
    assert block.width <= block.bound * (1 + 1e-12)
    assert block.balance == L / (M * S)
    balanced = Block(M * S, M, S)
    assert balanced.balance == 1 and balanced.width == pytest.approx(balanced.bound)


@given(T=st.integers(26, 2500), S=taps)
def test_search_equals_trying_every_block(T, S):
    within = [Block(L, M, S) for L in range(1, 51) for M in range(1, 51) if L * M * M * S + M * L * L <= T]
    maximal = [b for b in within if Block(b.L + 1, b.M, S) not in within and Block(b.L, b.M + 1, S) not in within]
    assert theory.best_blocks(T, S) == sorted(maximal, key=lambda block: block.M)
    widest = theory.widest_block(T, S)
    assert widest.width == max(b.width for b in within)
    assert widest.params == min(b.params for b in within if b.width == widest.width)
    assert 4 * S * widest.width**3 <= T**2  # eq. 15 without a root
    assert widest.width <= theory.width_bound(T, S) * (1 + 1e-15)


@given(T=st.integers(26, 2500), S=taps)
def test_near_blocks_are_the_nearest(T, S):
    def miss(block):
        return abs(T - block.params), block.params

    of_each_M = [min((Block(L, M, S) for L in range(1, 52)), key=miss) for M in range(1, 52)]
    nearest = [block for block in of_each_M if block == min((b for b in of_each_M if b.L == block.L), key=miss)]
    assert theory.best_blocks(T, S, near=True) == nearest


def test_search_is_exact_for_large_budgets():
    # Just enough for L primary and 1 secondary partition; a float square root would be off by one.
    L = 3 * 10**9
    T = theory.igc_params(L, 1, 9)
    assert igcv1._most_primary(T, 1, 9) == L
    assert igcv1._most_primary(T - 1, 1, 9) == L - 1


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: theory.igc_params(0, 2), "L"),
        (lambda: theory.igc_params(2, -1), "M"),
        (lambda: theory.igc_params(2, 2, 0), "S"),
        (lambda: theory.igc_params(2.5, 2), "L"),
        (lambda: theory.regular_params(True), "C"),
        (lambda: theory.regular_params("16"), "C"),
        (lambda: theory.width_bound(0), "T"),
        (lambda: theory.best_blocks(9), "10"),
        (lambda: theory.gpc_params(1, None), "M"),
    ],
)
def test_bad_numbers_are_one_clear_line(call, names):
    with pytest.raises(UserError) as caught:
        call()
    assert names in str(caught.value) and "\n" not in str(caught.value)
