from itertools import product

import numpy as np
import pytest
from direct_convolution import apply, convolve
from hypothesis import given, settings
from hypothesis import strategies as st

from igc_gluon import theory
from igc_gluon.errors import UserError
from igc_gluon.theory import GroupConv, Permutation, complementary, reorder

rng = np.random.default_rng(0)


def random_conv(C_out, C_in, groups, taps=1, stride=1):
    return GroupConv(rng.normal(size=(C_out, C_in // groups, taps, taps)), groups, stride)


@st.composite
def stacks(draw):
    """Convolutions of all kinds with permutations between some of them, as shapes with random weights."""
    stack, C = [], draw(st.sampled_from([2, 4, 6]))
    for _ in range(draw(st.integers(1, 3))):
        C_out = draw(st.sampled_from([2, 4, 6, 8]))
        groups = draw(st.sampled_from([g for g in range(1, 9) if C % g == 0 and C_out % g == 0]))
        stack.append(random_conv(C_out, C, groups, draw(st.integers(1, 3)), draw(st.integers(1, 2))))
        C = C_out
        if draw(st.booleans()):
            stack.append(Permutation(draw(st.permutations(range(C)))))
    return stack


def brute_force_paths(stack):
    """Follows every path from every input channel."""
    counts = np.zeros((stack[-1].out_channels, stack[0].in_channels), dtype=int)

    def follow(channel, layers, start):
        if not layers:
            counts[channel, start] += 1
            return
        if isinstance(layers[0], Permutation):
            nexts = [i for i, index in enumerate(layers[0].indices) if index == channel]
        else:
            branch = channel // layers[0].weight.shape[1]
            per_branch = layers[0].out_channels // layers[0].groups
            nexts = range(branch * per_branch, (branch + 1) * per_branch)
        for following in nexts:
            follow(following, layers[1:], start)

    for start in range(stack[0].in_channels):
        follow(start, stack, start)
    return counts


@pytest.mark.parametrize("C, b", [(6, 2), (6, 3), (12, 4), (7, 1), (7, 7), (30, 5)])
def test_reorder_is_the_authors(C, b):
    indices = reorder(C, b)
    for i, j in product(range(b), range(C // b)):
        assert indices[j * b + i] == i * (C // b) + j
    x = rng.normal(size=C)
    assert (theory.permutation_matrix(indices) @ x == x[indices]).all()
    assert (theory.inverse(indices) == reorder(C, C // b)).all()
    P = theory.permutation_matrix(indices)
    assert (P @ theory.permutation_matrix(theory.inverse(indices)) == np.eye(C)).all()
    assert (P.T == theory.permutation_matrix(theory.inverse(indices))).all()


def test_secondary_partitions_hold_one_channel_of_every_primary_partition():
    L, M = 3, 4
    y = np.array([f"y{l}{m}" for l in range(L) for m in range(M)])
    eq_2 = [[f"y{l}{m}" for l in range(L)] for m in range(M)]
    assert y[reorder(L * M, L)].reshape(M, L).tolist() == eq_2


@given(groups=st.integers(1, 4), out=st.integers(1, 3), K=st.integers(1, 3), taps=st.integers(1, 3))
def test_dense_and_grouped_weights_convert_both_ways(groups, out, K, taps):
    weight = rng.normal(size=(groups * out, K, taps, taps))
    dense = theory.group_to_dense(weight, groups)
    for o, i in product(range(groups * out), range(groups * K)):
        expected = weight[o, i % K] if o // out == i // K else 0
        assert (dense[o, i] == expected).all()
    assert (theory.dense_to_group(dense, groups) == weight).all()
    image = rng.normal(size=(groups * K, 4, 4))
    np.testing.assert_allclose(convolve(image, dense), convolve(image, weight, groups), atol=1e-12)


def test_kernel_between_branches_is_not_a_group_convolution():
    dense = np.zeros((4, 4, 1, 1))
    dense[0, 3] = 1e-9
    with pytest.raises(UserError, match="different branches"):
        theory.dense_to_group(dense, 2)


@settings(max_examples=40)
@given(stack=stacks())
def test_composed_kernel_is_one_convolution_that_equals_the_stack(stack):
    W = theory.composed_kernel(stack)
    stride = np.prod([layer.stride for layer in stack if isinstance(layer, GroupConv)])
    image = rng.normal(size=(stack[0].in_channels, W.shape[2] + 3, W.shape[3] + 2))
    np.testing.assert_allclose(convolve(image, W, stride=stride), apply(stack, image), atol=1e-9)
    weights = sum(layer.weight.size for layer in stack if isinstance(layer, GroupConv))
    assert theory.stack_params(stack) == weights
    assert theory.non_sparsity(stack) == pytest.approx(weights / W.size)


def test_strides_spread_the_taps_of_all_layers_that_follow():
    stack = [random_conv(2, 2, 1, 3, stride=2), random_conv(2, 2, 2, 3, stride=2), random_conv(2, 2, 1, 3)]
    W = theory.composed_kernel(stack)
    assert W.shape == (2, 2, 15, 15)  # 3 + 2 x 2 + 4 x 2
    image = rng.normal(size=(2, 19, 15))
    np.testing.assert_allclose(convolve(image, W, stride=4), apply(stack, image), atol=1e-9)
    assert theory.non_sparsity(stack) == (36 + 18 + 36) / (2 * 2 * 15 * 15)


def test_composed_kernel_is_the_product_of_the_papers_matrices():
    L, M, S = 3, 2, 9
    W_p, W_s = rng.normal(size=(L * M, M, 3, 3)), rng.normal(size=(L * M, L, 1, 1))
    stack = theory.igc_stack(W_p, W_s, L)
    P_T = theory.permutation_matrix(reorder(L * M, L))
    matrix_p = theory.group_to_dense(W_p, L).reshape(L * M, L * M * S)
    matrix_s = theory.group_to_dense(W_s, M).reshape(L * M, L * M)
    W = theory.composed_kernel(stack)
    np.testing.assert_allclose(W.reshape(L * M, -1), P_T.T @ matrix_s @ P_T @ matrix_p, atol=1e-12)  # eq. 6
    assert (W != 0).all()
    # ||W^p||_0 + ||W^s||_0 = T, eq. 16
    assert np.count_nonzero(matrix_p) + np.count_nonzero(matrix_s) == theory.stack_params(stack)
    assert theory.stack_params(stack) == theory.igc_params(L, M, S)
    assert theory.fan_ins(stack) == [M * S, L]


@settings(max_examples=60)
@given(stack=stacks())
def test_paths_and_conditions_against_brute_force(stack):
    counts = brute_force_paths(stack)
    assert (theory.paths(stack) == counts).all()
    assert theory.is_loosely_complementary(stack) is bool((counts > 0).all())
    assert theory.has_one_path(stack) is bool((counts == 1).all())
    assert theory.is_complementary(stack) is complementary_to_the_letter(stack)
    # With positive weights nothing cancels, so the kernel is dense just where there is a path.
    positive = [
        layer if isinstance(layer, Permutation) else GroupConv(abs(layer.weight) + 0.1, layer.groups) for layer in stack
    ]
    assert ((theory.composed_kernel(positive) > 0).all(axis=(2, 3)) == (counts > 0)).all()


def complementary_to_the_letter(stack):
    """Condition 1 of IGCV2 with sets."""
    cuts = [n for n, layer in enumerate(stack) if isinstance(layer, GroupConv)][1:]
    if not cuts:
        return stack_has_one_branch(stack)
    for cut in cuts:
        below, above = brute_force_paths(stack[:cut]) > 0, brute_force_paths(stack[cut:]) > 0
        # One set of channels, those between the two parts, for every branch of either part.
        branches = []
        for reached in (below, above.T):
            rows = [frozenset(np.flatnonzero(row)) for row in reached]
            if any(a != b and a & b for a, b in product(rows, rows)):
                return False  # not a group convolution
            branches.append([{n for n, row in enumerate(rows) if row == kind} for kind in set(rows)])
        if any(len(a & b) != 1 for a, b in product(*branches)):
            return False
    return True


def stack_has_one_branch(stack):
    return bool((brute_force_paths(stack) == 1).all())


@pytest.mark.parametrize("L, M", [(2, 3), (4, 8), (24, 2), (1, 5), (5, 1)])
def test_igcv1_meets_the_complementary_condition(L, M):
    stack = theory.igc_stack((L * M, M, 3, 3), (L * M, L, 1, 1), L)
    assert theory.is_complementary(stack) and theory.has_one_path(stack)
    assert theory.is_loosely_complementary(stack)
    unpermuted = [layer for layer in stack if isinstance(layer, GroupConv)]
    assert theory.is_complementary(unpermuted) is (L == 1 or M == 1)  # else neighbors meet twice


@given(Ks=st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_igcv2_meets_it_when_the_branches_multiply_up_to_the_width(Ks):
    C = int(np.prod(Ks))
    stack = theory.igcv2_stack(C, Ks)
    assert theory.is_complementary(stack) and theory.has_one_path(stack)
    assert theory.stack_params(stack) == theory.igcv2_params(C, Ks, 9)
    assert theory.fan_ins(stack) == [9 * Ks[0], *Ks[1:]]
    assert (stack[-1].indices == reorder(C, C // Ks[-1])).all()
    # On twice the width an input reaches prod(K) = C of 2 C outputs.
    wider = theory.igcv2_stack(2 * C, Ks)
    assert not theory.is_loosely_complementary(wider) and not theory.is_complementary(wider)


@pytest.mark.parametrize(
    "stack, terms",
    [
        (theory.igc_stack((48, 2, 3, 3), (48, 24, 1, 1), 24), [18, 24]),  # M S and L
        (theory.igc_stack((64, 1, 3, 3), (64, 64, 1, 1), 64), [9, 64]),  # Xception
        (theory.igcv2_stack(98, [2, 7, 7]), [18, 7, 7]),
        (theory.igcv2_stack(144, [1, 12, 12]), [12, 12]),
        # 4 -> 8 -> 4 channels: 8 * 2 weights and 4 * 4 weights, over 4 channels
        ([GroupConv((8, 2, 1, 1), 2), GroupConv((8, 1, 3, 3), 8), GroupConv((4, 4, 1, 1), 2)], [4, 4]),
    ],
)
def test_balance_terms(stack, terms):
    assert theory.balance_terms(stack) == terms


@pytest.mark.parametrize(
    "C, Ks, least, most",
    [
        (144, [1, 12, 12], 1, 1),
        (256, [1, 16, 16], 1, 1),
        (361, [1, 19, 19], 1, 1),  # Table 2
        (98, [2, 7, 7], 1, 1),
        (162, [2, 9, 9], 1, 1),
        (242, [2, 11, 11], 1, 1),  # Table 5, IGCV2 I
        (216, [1, 8, 8, 8], 2, 3),
        (432, [1, 8, 8, 8], 1, 2),
        (864, [1, 8, 8, 8, 8], 4, 5),  # Table 3, IGCV2*
        (304, [1, 8, 8, 8], 1, 2),
        (608, [1, 8, 8, 8, 8], 6, 7),
        (1216, [1, 8, 8, 8, 8], 3, 4),
        (416, [1, 8, 8, 8], 1, 2),
        (832, [1, 8, 8, 8, 8], 4, 5),
        (1664, [1, 8, 8, 8, 8], 2, 3),
        (64, [1, 8, 8], 1, 1),
        (128, [1, 16, 16], 2, 2),
        (256, [1, 32, 32], 4, 4),  # Table 4, its three stages
        (272, [1, 4, 4], 0, 1),
        (174, [1, 6, 6, 6], 1, 2),
        (112, [1, 16, 16], 2, 3),  # Fig. 2
    ],
)
def test_published_blocks_of_igcv2(C, Ks, least, most):
    stack = theory.igcv2_stack(C, Ks)
    counts = theory.paths(stack)
    assert (counts.min(), counts.max()) == (least, most)
    assert theory.has_one_path(stack) is (most == least == 1)
    assert theory.is_complementary(stack) is (most == least == 1)
    assert theory.is_loosely_complementary(stack) is (least > 0)


def test_loose_condition_of_eight_branches():
    """IGCV2 for ImageNet: 8 branches in both 1x1 convolutions, more channels in a branch than branches."""
    C = 128
    convs = [GroupConv((C, C // 8, 1, 1), 8), GroupConv((C, C // 8, 1, 1), 8)]
    stack = [convs[0], Permutation(reorder(C, 8)), convs[1]]
    assert theory.is_loosely_complementary(stack)
    assert not theory.is_complementary(stack) and not theory.has_one_path(stack)
    assert theory.paths(stack).min() == theory.paths(stack).max() == C // 8 // 8
    assert not theory.is_loosely_complementary(convs)


def test_one_path_everywhere_does_not_imply_the_condition():
    """The condition is sufficient, not necessary: every part must act as a group convolution, and here the
    first two convolutions together do not."""
    mix = GroupConv((8, 2, 1, 1), 4)
    ring = Permutation([0, 7, 1, 2, 3, 4, 5, 6])  # a second branch takes channels of two neighbors
    cross = Permutation([0, 4, 1, 5, 2, 6, 3, 7])
    stack = [mix, ring, mix, cross, mix]
    assert theory.has_one_path(stack) and not theory.is_complementary(stack)


def test_what_acts_as_a_group_convolution():
    assert complementary._branches(np.array([[1, 0, 2], [0, 1, 0], [1, 0, 1]])).tolist() == [1, 0, 1]
    assert complementary._branches(np.array([[1, 1], [0, 1]])) is None  # rows overlap
    assert complementary._branches(np.array([[1, 0], [1, 0]])) is None  # a column is reached from nowhere


def test_single_convolution():
    assert theory.is_complementary([GroupConv((4, 4, 3, 3))])
    assert not theory.is_complementary([GroupConv((4, 2, 3, 3), 2)])


def test_more_paths_than_can_be_counted():
    with pytest.raises(UserError, match="paths"):
        theory.paths([GroupConv((64, 64, 1, 1))] * 11)


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda: GroupConv((8, 2, 3), 2), "(8, 2, 3)"),
        (lambda: GroupConv([[1.0]]), "list"),
        (lambda: GroupConv((8, 0, 3, 3)), "size 1"),
        (lambda: GroupConv((8, 2, 3, 3), 3), "3 groups"),
        (lambda: GroupConv((8, 2, 3, 3), 0), "groups"),
        (lambda: GroupConv((8, 2, 3, 3), 2, 0), "stride"),
        (lambda: GroupConv(np.zeros((0, 2, 3, 3))), "(0, 2, 3, 3)"),
        (lambda: Permutation([0, 2]), "each once"),
        (lambda: Permutation([]), "each once"),
        (lambda: Permutation([[0]]), "each once"),
        (lambda: Permutation([0.0, 1.5]), "each once"),
        (lambda: reorder(6, 4), "4 does not divide 6"),
        (lambda: reorder(0, 1), "C"),
        (lambda: theory.dense_to_group(np.ones((4, 4, 1, 1)), 3), "3 groups"),
        (lambda: theory.igc_stack((6, 2, 3, 3), (6, 2, 1, 1), 3), "takes 4 channels"),
        (lambda: theory.igcv2_stack(12, [1, 5]), "K_2 = 5"),
        (lambda: theory.paths([]), "at least one"),
        (lambda: theory.paths([Permutation([0])]), "at least one"),
        (
            lambda: theory.composed_kernel([GroupConv((8, 8, 1, 1)), GroupConv((6, 6, 1, 1))]),
            "layer 2 of the stack takes 6 channels, but layer 1 gives 8",
        ),
    ],
)
def test_bad_stacks_are_one_clear_line(call, names):
    with pytest.raises(UserError) as caught:
        call()
    assert names in str(caught.value) and "\n" not in str(caught.value)
