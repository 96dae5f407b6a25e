"""The inference kernels against the equations in float64, on every instruction set of this machine."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import native_reference as ref
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library as lib

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))


many = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
some = settings(many, max_examples=100)
sizes = st.one_of(st.integers(1, 17), st.sampled_from([28, 31, 32, 33, 63, 65]))
kernels = st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (1, 3), (2, 2)])
threads = st.sampled_from([1, 2])
activations = st.sampled_from([None, "relu", "relu6"])


@many
@given(data=st.data())
def test_block(isa, data):
    draw, rng = data.draw, np.random.default_rng(0)
    primary = draw(st.one_of(st.integers(1, 26), st.sampled_from([4, 24, 32, 41, 50])))
    secondary, members = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    height, width = draw(sizes), draw(sizes)
    kernel, stride = draw(kernels), draw(st.sampled_from([1, 2]))
    inputs = primary * members
    op = ref.block_op(rng, inputs, primary, secondary, kernel, stride, activation=draw(activations))
    ref.assert_agrees([op], (inputs, height, width), draw(st.integers(1, 3)), draw(threads))


@many
@given(data=st.data())
def test_group_conv(isa, data):
    draw, rng = data.draw, np.random.default_rng(0)
    groups = draw(st.integers(1, 20))
    inputs, channels = groups * draw(st.integers(1, 6)), groups * draw(st.integers(1, 6))
    kernel, stride = draw(kernels), draw(st.integers(1, 3))
    op = ref.conv_op(rng, inputs, channels, kernel, groups, stride, activation=draw(activations))
    ref.assert_agrees([op], (inputs, draw(sizes), draw(sizes)), draw(st.integers(1, 3)), draw(threads))


@some
@given(data=st.data())
def test_residual_blocks(isa, data):
    """Stem, pooling, two residual blocks (projection dense or grouped), mean, fully connected."""
    draw, rng = data.draw, np.random.default_rng(0)
    primary, secondary = draw(st.integers(2, 20)), draw(st.integers(1, 4))
    first = primary * secondary
    grow = draw(st.sampled_from(["primary", "secondary"]))
    primary2, secondary2 = (2 * primary, secondary) if grow == "primary" else (primary, 2 * secondary)
    second, stride = 2 * first, draw(st.sampled_from([1, 2]))
    groups = draw(st.sampled_from([1, primary]))
    shape = (3, draw(sizes), draw(sizes))
    ops = [
        ref.conv_op(rng, 3, first, (7, 7), 1, 2, activation="relu"),
        lib.Op(lib.MAX_POOL, 1, kernel=(3, 3), stride=2, pad=(1, 1)),
        ref.block_op(rng, first, primary, secondary, source=2, activation="relu"),
        ref.block_op(rng, first, primary, secondary, source=3, residual=2, activation="relu"),
        ref.conv_op(rng, first, second, (1, 1), groups, stride, source=4),
        ref.block_op(rng, first, primary2, secondary2, stride=stride, source=4, activation="relu")
        if first % primary2 == 0
        else ref.block_op(rng, first, primary, second // primary, stride=stride, source=4, activation="relu"),
        ref.block_op(rng, second, primary2, secondary2, source=6, residual=5, activation="relu"),
        lib.Op(lib.MEAN_POOL, 7),
        ref.conv_op(rng, second, 10, (1, 1), source=8),
    ]
    ref.assert_agrees(ops, shape, draw(st.integers(1, 3)), draw(threads))


@some
@given(data=st.data())
def test_channelwise_between_group_pointwise(isa, data):
    """IGCV3's block: group 1x1, permutation, channel-wise 3x3, group 1x1, residual."""
    draw, rng = data.draw, np.random.default_rng(0)
    width, groups = 4 * draw(st.integers(1, 10)), draw(st.sampled_from([1, 2, 4]))
    expansion = draw(st.integers(1, 4))
    middle, stride = width * expansion, draw(st.sampled_from([1, 2]))
    ops = [
        ref.conv_op(rng, 3, width, activation="relu6"),
        ref.conv_op(rng, width, middle, (1, 1), groups, source=1),
        lib.Op(lib.PERMUTE, 2, groups=groups),
        ref.conv_op(rng, middle, middle, (3, 3), middle, stride, source=3, activation="relu6"),
        ref.conv_op(rng, middle, width, (1, 1), groups, source=4, residual=1 if stride == 1 else -1),
        lib.Op(lib.PERMUTE, 5, groups=2),
    ]
    ref.assert_agrees(ops, (3, draw(sizes), draw(sizes)), draw(st.integers(1, 2)), draw(threads))


@some
@given(data=st.data())
def test_two_group_pointwise_after_channelwise(isa, data):
    """IGCV2's block: channel-wise 3x3, then 1x1 convolutions in branches of K channels and permutations."""
    draw, rng = data.draw, np.random.default_rng(0)
    branch, branches = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    width, stride = branch * branches, draw(st.sampled_from([1, 2]))
    ops = [
        ref.conv_op(rng, 3, width, activation="relu"),
        ref.conv_op(rng, width, width, (3, 3), width, stride, source=1),
        ref.conv_op(rng, width, width, (1, 1), branches, source=2),
        lib.Op(lib.PERMUTE, 3, groups=branches),
        ref.conv_op(rng, width, width, (1, 1), branch, source=4),
        lib.Op(lib.PERMUTE, 5, groups=branch),
        ref.conv_op(rng, width, 2 * width, (3, 3), branch, source=6, activation="relu"),
    ]
    ref.assert_agrees(ops, (3, draw(sizes), draw(sizes)), 2, draw(threads))


@pytest.mark.parametrize("primary,secondary", [(24, 2), (4, 8), (100, 2), (16, 16), (4, 32), (64, 1), (1, 16), (17, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_published_shapes(isa, primary, secondary, stride):
    ops, width = ref.published_blocks(np.random.default_rng(1), primary, secondary, stride), primary * secondary
    ref.assert_agrees(ops, (width, 14, 16), 2, 2)


@pytest.mark.parametrize("shape", [(64, 7, 7), (64, 9, 14), (192, 14, 14)])
def test_many_channels_in_several_passes(isa, shape):
    """Dense and grouped, where a pass does not take all inputs (conv_plan.cpp)."""
    rng = np.random.default_rng(3)
    ops = [
        ref.conv_op(rng, shape[0], 160, activation="relu"),
        ref.conv_op(rng, 160, 160, source=1, residual=1, activation="relu6"),
        ref.conv_op(rng, 160, 640, groups=4, source=2, activation="relu"),
        ref.block_op(rng, 640, 4, 80, source=3, activation="relu"),
        ref.block_op(rng, 320, 16, 40, source=4, activation="relu"),
        ref.block_op(rng, 640, 16, 40, source=5, residual=5),
        ref.conv_op(rng, 640, 64, (1, 1), stride=2, source=6),
    ]
    ref.assert_agrees(ops, shape, 1, 2)


def test_orders_that_do_not_fit(isa):
    ref.assert_agrees(ref.several_orders(np.random.default_rng(4)), (24, 9, 11), 2, 2)


def test_several_threads_may_call_one_net(isa):
    rng = np.random.default_rng(5)
    net = lib.Net([ref.block_op(rng, 48, 24, 2), lib.Op(lib.MEAN_POOL, 1)], (48, 16, 16))
    inputs = rng.standard_normal((12, 2, 48, 16, 16)).astype(np.float32)
    expected = [net(x, 1) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for scores, wanted in zip(pool.map(lambda i: net(inputs[i], 1 + i % 3), range(12)), expected):
            np.testing.assert_array_equal(scores, wanted)


def test_batches_threads_and_calls_give_the_same_bits(isa):
    rng = np.random.default_rng(2)
    ops = [
        ref.conv_op(rng, 3, 48, activation="relu"),
        ref.block_op(rng, 48, 24, 2, source=1, activation="relu"),
        ref.block_op(rng, 48, 24, 4, stride=2, source=2, activation="relu"),
        lib.Op(lib.MEAN_POOL, 3),
    ]
    net = lib.Net(ops, (3, 20, 20))
    x = rng.standard_normal((5, 3, 20, 20)).astype(np.float32)
    once = net(x, 1)
    for threads in (1, 2, 3, 8):
        np.testing.assert_array_equal(net(x, threads), once)
        np.testing.assert_array_equal(np.concatenate([net(x[i : i + 1], threads) for i in range(5)]), once)


def test_empty_batch(isa):
    rng = np.random.default_rng(0)
    net = lib.Net([ref.block_op(rng, 8, 4, 2)], (8, 5, 5))
    assert net(np.zeros((0, 8, 5, 5))).shape == (0, 8, 5, 5)


def test_non_contiguous_input_and_other_dtypes(isa):
    rng = np.random.default_rng(0)
    net = lib.Net([ref.block_op(rng, 8, 4, 2)], (8, 5, 6))
    x = rng.standard_normal((2, 5, 6, 8)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(net(x), net(x.astype(np.float32).copy()))


def test_nan_stays_visible(isa):
    rng = np.random.default_rng(0)
    ops = [
        ref.block_op(rng, 8, 4, 2, activation="relu6"),
        lib.Op(lib.MAX_POOL, 1, kernel=(2, 2), stride=2),
        lib.Op(lib.MEAN_POOL, 2),
    ]
    x = np.ones((1, 8, 6, 6), np.float32)
    x[0, 3, 2, 2] = np.nan
    assert np.isnan(lib.Net(ops, (8, 6, 6))(x)).any()


@pytest.mark.parametrize(
    "groups,members,kernel,stride",
    [
        (groups, members, 3, stride)
        for groups, members in [(24, 2), (4, 8), (100, 2), (3, 5), (17, 3), (2, 32), (32, 1)]
        for stride in (1, 2)
    ]
    # Small groups share a vector in a product of 1x1: docs/cpu.md.
    + [(24, 2, 1, 1), (4, 8, 1, 1), (100, 2, 1, 1), (17, 3, 1, 1), (2, 32, 1, 1)],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_within_its_group(isa, groups, members, kernel, stride, value):
    rng = np.random.default_rng(0)
    channels, size = groups * members, 9
    weight = rng.standard_normal((channels, members, kernel, kernel)).astype(np.float32)
    net = lib.Net(
        [lib.Op(lib.CONV, 0, channels, groups, (kernel,) * 2, stride, (kernel // 2,) * 2, weight=weight)],
        (channels, size, size),
    )
    x = rng.standard_normal((2, channels, size, size)).astype(np.float32)
    finite = net(x)
    group = groups // 2
    x[1, group * members, 4, 4] = value
    own = np.zeros(finite.shape, bool)
    reach = slice((4 - kernel // 2 + stride - 1) // stride, (4 + kernel // 2) // stride + 1)
    own[1, group * members : (group + 1) * members, reach, reach] = True
    np.testing.assert_array_equal(np.isfinite(net(x)), ~own)
    np.testing.assert_array_equal(net(x)[~own], finite[~own])


def test_only_permutations_and_pools(isa):
    ops = [
        lib.Op(lib.PERMUTE, 0, groups=3),
        lib.Op(lib.MAX_POOL, 1, kernel=(3, 2), stride=2, pad=(1, 0)),
        lib.Op(lib.PERMUTE, 2, groups=2),
    ]
    ref.assert_agrees(ops, (6, 9, 7), 2)
    ref.assert_agrees(ops[:1], (6, 9, 7), 2)
    ref.assert_agrees([lib.Op(lib.MEAN_POOL, 0)], (21, 9, 7), 2)


def test_multiply_adds():
    rng = np.random.default_rng(0)
    net = lib.Net([ref.block_op(rng, 48, 24, 2)], (48, 32, 32))
    assert net.multiply_adds == 32 * 32 * (48 * 2 * 9 + 48 * 24)


@pytest.mark.parametrize(
    "change,words",
    [
        (dict(kind=9), "unknown kind"),
        (dict(normalized=True), "only in training"),
        (dict(permute=2), "only in training"),
        (dict(reorder=3), "permute and reorder must"),
        (dict(input=1), "its input must be"),
        (dict(residual=5), "its residual must be"),
        (dict(groups=3), "groups must divide"),
        (dict(groups=0), "groups must divide"),
        (dict(channels=0), "channels must be"),
        (dict(channels=-8), "channels must be"),
        (dict(kernel=(0, 3)), "kernel must be"),
        (dict(kernel=(9, 9)), "larger than the padded image"),
        (dict(stride=0), "stride must be"),
        (dict(pad=(-1, 0)), "pad must be"),
        (dict(weight=None), "weight lies outside"),
        (dict(weight2=None), "weight2 lies outside"),
        (dict(weight2=np.zeros(3)), "weight2 lies outside"),
        (dict(residual=0, stride=2), "another shape"),
        (dict(activation="tanh"), "activation must be"),
    ],
)
def test_bad_ops_are_refused(change, words):
    op = ref.block_op(np.random.default_rng(0), 8, 4, 2)._replace(scale=None, bias=None, **change)
    with pytest.raises(UserError, match=words) as error:
        lib.Net([op], (8, 6, 6))
    assert "\n" not in str(error.value)


def test_bad_shapes_are_refused():
    op = ref.block_op(np.random.default_rng(0), 8, 4, 2)
    with pytest.raises(UserError, match="1 to 65536 ops"):
        lib.Net([], (8, 6, 6))
    with pytest.raises(UserError, match="the input needs"):
        lib.Net([op], (8, 0, 6))
    with pytest.raises(UserError, match="2\\^31 floats"):
        lib.Net([lib.Op(lib.MAX_POOL, 0, kernel=(1, 1))], (1 << 20, 1 << 15, 1 << 15))
    net = lib.Net([op], (8, 6, 6))
    for x in (np.zeros((1, 8, 6, 7)), np.zeros((8, 6, 6)), np.zeros((1, 1, 8, 6, 6))):
        with pytest.raises(UserError, match="the network takes"):
            net(x)
    with pytest.raises(UserError, match="threads must be"):
        net(np.zeros((1, 8, 6, 6)), threads=-1)


def test_null_pointers_are_refused():
    library = lib.load()
    assert library.igc_net_create(None, 1, None, 0, 3, 4, 4, None) == 1
    assert library.igc_net_run(None, None, 1, None, 1) == 1
    assert library.igc_net_output_shape(None, None) == 1
    assert library.igc_net_multiply_adds(None) == 0
    assert library.igc_layout(0, 2, None, None) == 1
    library.igc_net_free(None)


def test_unknown_isa_is_named():
    with pytest.raises(UserError, match="sse9 is unknown"):
        lib.use_isa("sse9")


@pytest.mark.parametrize(
    "variable,value,words",
    [
        ("IGC_NATIVE_ISA", "portable", "portable"),
        ("IGC_NATIVE_ISA", "sse9", "IGC_NATIVE_ISA sse9 is unknown; there are avx512, avx2 and portable"),
        ("IGC_NATIVE", "0", "switched off by IGC_NATIVE=0"),
        ("IGC_NATIVE_LIBRARY", "/nonexistent/libigc.so", "python -m igc_gluon.native.build"),
        ("IGC_NATIVE_LIBRARY", __file__, "the kernel library cannot be loaded"),
    ],
)
def test_environment(variable, value, words):
    code = "from igc_gluon import native; print(native.unavailable_reason() or native.library.isa())"
    said = subprocess.check_output(
        [sys.executable, "-c", code], universal_newlines=True, env=dict(os.environ, **{variable: value})
    )
    assert words in said and said.count("\n") == 1


def test_layout():
    """The arithmetic of layout.h: 24 groups of 2, 4 groups of 8, 100 groups of 2."""
    pair = lib.layout(24, 2)
    assert list(pair[:16]) == list(range(0, 32, 2)) and list(pair[32:40]) == list(range(32, 48, 2))
    assert list(lib.layout(4, 8)[:8]) == [0, 8, 16, 24, 1, 9, 17, 25]
    hundred = lib.layout(100, 2)
    assert len(hundred) == 208 and (hundred[-8:] == -1).all()
    for groups in range(1, 40):
        for members in range(1, 6):
            channels = lib.layout(groups, members)
            assert sorted(channels[channels >= 0]) == list(range(groups * members))
