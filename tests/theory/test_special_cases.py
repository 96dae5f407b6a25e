"""Every construction computes what the ordinary layer does, on random weights and random images."""

import numpy as np
import pytest
from direct_convolution import apply, convolve

from igc_gluon import theory
from igc_gluon.errors import UserError
from igc_gluon.theory import GroupConv

rng = np.random.default_rng(0)


def assert_equal(case, image, expected):
    out = apply(case.stack, np.tile(image, (case.input_copies, 1, 1)))
    np.testing.assert_allclose(out, np.tile(expected, (case.output_copies, 1, 1)), atol=1e-5)
    W = theory.composed_kernel(case.stack)
    np.testing.assert_allclose(convolve(np.tile(image, (case.input_copies, 1, 1)), W), out, atol=1e-5)


@pytest.mark.parametrize(
    "C_out, C_in, rows, columns, taps",
    [
        (4, 4, 2, None, 3),
        (8, 8, 4, None, 3),
        (6, 6, 3, 3, 1),
        (6, 6, 1, None, 3),
        (6, 6, 6, None, 2),
        (6, 4, 2, None, 3),
        (6, 4, 3, 2, 3),
        (5, 6, 1, 3, 3),
        (6, 5, 3, 1, 3),
    ],
)
def test_regular_convolution(C_out, C_in, rows, columns, taps):
    weight = rng.normal(size=(C_out, C_in, taps, taps))
    image = rng.normal(size=(C_in, 6, 5))
    case = theory.regular_as_igc(weight, rows, columns)
    assert case.stack[0].groups == rows * (columns or rows)
    assert_equal(case, image, convolve(image, weight))


def test_regular_convolution_as_the_paper_prints_it():
    weight = np.arange(36.0).reshape(6, 6, 1, 1)
    case = theory.regular_as_igc(weight, 2)
    W_p, _, W_s, _ = (layer for layer in case.stack)
    assert (case.input_copies, case.output_copies, W_p.groups, W_s.groups) == (2, 2, 4, 3)
    blocks = [weight[:3, :3], weight[:3, 3:], weight[3:, :3], weight[3:, 3:]]
    assert (W_p.weight == np.concatenate(blocks)).all()  # eq. 18
    eq_20 = [[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
    assert W_s.weight.reshape(3, 4, 4).tolist() == [eq_20] * 3


def test_blocks_for_regular_convolutions_follow_each_other():
    weights = [rng.normal(size=(4, 4, 3, 3)) for _ in range(2)]
    image = rng.normal(size=(4, 7, 7))
    first, second = (theory.regular_as_igc(weight, 2) for weight in weights)
    case = theory.SpecialCase(first.stack + second.stack, 2, 2)
    assert_equal(case, image, convolve(convolve(image, weights[0]), weights[1]))


@pytest.mark.parametrize("C_out, C_in", [(3, 3), (4, 2), (1, 3)])
def test_extreme_case_of_the_supplementary(C_out, C_in):
    weight = rng.normal(size=(C_out, C_in, 3, 3))
    image = rng.normal(size=(C_in, 5, 5))
    case = theory.extreme_case_as_igc(weight)
    primary, _, secondary, _ = case.stack
    assert primary.weight.shape == (C_out * C_in, 1, 3, 3) and secondary.groups == 1  # channel-wise, M = 1
    assert (primary.weight[:, 0] == weight.reshape(-1, 3, 3)).all()  # eqs. 2-5
    eq_6 = np.tile(np.kron(np.eye(C_out), np.ones(C_in)), (C_in, 1))
    assert (secondary.weight[:, :, 0, 0] == eq_6).all()
    assert_equal(case, image, convolve(image, weight))


@pytest.mark.parametrize("L, M_out, M_in", [(4, 8, 8), (2, 3, 1), (3, 1, 2), (1, 4, 4)])
def test_summation_fusion(L, M_out, M_in):
    weight = rng.normal(size=(L * M_out, M_in, 3, 3))
    image = rng.normal(size=(L * M_in, 5, 5))
    total = convolve(image, weight, L).reshape(L, M_out, 3, 3).sum(axis=0)  # eq. 21
    case = theory.summation_fusion_as_igc(weight, L)
    assert (case.stack[2].weight == 1).all() and case.output_copies == L  # eq. 22
    assert_equal(case, image, total)


@pytest.mark.parametrize("C, C_out", [(5, 5), (4, 6)])
def test_xception(C, C_out):
    depthwise, pointwise = rng.normal(size=(C, 1, 3, 3)), rng.normal(size=(C_out, C, 1, 1))
    image = rng.normal(size=(C, 6, 6))
    case = theory.xception_as_igc(depthwise, pointwise)
    assert_equal(case, image, convolve(convolve(image, depthwise, C), pointwise))


def test_one_primary_partition_weighs_the_channels_of_a_regular_convolution():
    weight, scale = rng.normal(size=(4, 4, 3, 3)), rng.normal(size=(4, 1, 1, 1))
    image = rng.normal(size=(4, 5, 5))
    out = apply(theory.igc_stack(weight, scale, L=1), image)
    np.testing.assert_allclose(out, convolve(image, weight) * scale[:, 0], atol=1e-5)


def test_weights_keep_their_type():
    case = theory.regular_as_igc(np.ones((4, 4, 3, 3), np.float32), 2)
    assert all(layer.weight.dtype == np.float32 for layer in case.stack if isinstance(layer, GroupConv))
    assert theory.composed_kernel(case.stack).dtype == np.float32


@pytest.mark.parametrize(
    "call, names",
    [
        (lambda w: theory.regular_as_igc(w, 4), "4 x 4 blocks"),
        (lambda w: theory.regular_as_igc(w, 0), "rows"),
        (lambda w: theory.regular_as_igc(w, 2, 5), "2 x 5"),
        (lambda w: theory.regular_as_igc(w[0], 1), "(6, 3, 3)"),
        (lambda w: theory.summation_fusion_as_igc(w, 4), "4 groups"),
        (lambda w: theory.xception_as_igc(w, w[:, :, :1, :1]), "(6, 1, ...)"),
    ],
)
def test_bad_weights_are_one_clear_line(call, names):
    with pytest.raises(UserError) as caught:
        call(np.ones((6, 6, 3, 3)))
    assert names in str(caught.value) and "\n" not in str(caught.value)
