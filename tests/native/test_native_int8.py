"""Networks on 8-bit integers against exact integers in numpy (int8_reference), and against float32."""

import int8_reference as ref8
import native_reference as ref
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_settings import native_settings

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library as lib

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))

# Instruction set, IGC_NATIVE_INT8. AVX2 without VNNI and plain C++ have kernels of the same bits, used when asked for.
KERNELS = [("avx512", ""), ("avx2", ""), ("avx2", "avx2"), (None, "emulate")]


def kernels_in_use(isa, forced):
    """On vectors: AMX has tests of its own."""
    return native_settings(isa, int8=forced, amx="off")


def has_int8(kernels):
    try:
        with kernels_in_use(*kernels):
            return lib.has("int8")
    except UserError:
        return False


AVAILABLE = [k for k in KERNELS if native.available() and has_int8(k)]


@pytest.fixture(params=AVAILABLE, ids=lambda k: "-".join(filter(None, k)))
def kernels(request):
    with kernels_in_use(*request.param):
        yield


with_int8 = pytest.mark.usefixtures("kernels")

many = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
sizes = st.one_of(st.integers(2, 17), st.sampled_from([28, 31, 32, 33]))
activations = st.sampled_from([None, "relu", "relu6"])


def assert_agrees(ops, shape, batch=1, threads=1, bound=0.03, fewest=1):
    """bound: of the largest error against float32, relative to the largest result."""
    x = np.random.default_rng(0).standard_normal((batch,) + tuple(shape)).astype(np.float32)
    ranges, tensors = ref8.ranges_of(ops, x)
    net = lib.Net(ops, shape, ranges)
    assert net.reduced.sum() >= fewest
    got, expected = net(x, threads), ref8.run(ops, x, ranges, net.units)
    scale = max(np.abs(tensors[-1]).max(), 1e-6)
    wrong = np.abs(got - expected) / scale
    # A value next to the middle between two bytes may be rounded the other way, and is then a step off.
    assert wrong.mean() < (1e-3 if len(ops) > 1 else 1e-4) and wrong.max() < 0.02, (wrong.mean(), wrong.max())
    if len(ops) == 1 and wrong.size > 200:
        assert (wrong > 1e-5).mean() < 0.1
    assert np.abs(got - tensors[-1]).max() / scale < bound
    return net, x, got


@with_int8
@many
@given(data=st.data())
def test_block(data):
    draw, rng = data.draw, np.random.default_rng(0)
    primary = draw(st.one_of(st.integers(1, 26), st.sampled_from([4, 24, 32, 41, 50])))
    secondary, members = draw(st.integers(1, 9)), draw(st.integers(1 if primary > 4 else 2, 9))
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (1, 3)]))
    op = ref.block_op(
        rng, primary * members, primary, secondary, kernel, draw(st.sampled_from([1, 2])), activation=draw(activations)
    )
    assert_agrees(
        [op],
        (primary * members, draw(sizes), draw(sizes)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2])),
        bound=0.06,
    )


@with_int8
@many
@given(data=st.data())
def test_group_conv(data):
    draw, rng = data.draw, np.random.default_rng(0)
    groups = draw(st.integers(1, 20))
    inputs, channels = groups * draw(st.integers(4, 12)), groups * draw(st.integers(1, 6))
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (2, 2)]))
    op = ref.conv_op(rng, inputs, channels, kernel, groups, draw(st.integers(1, 3)), activation=draw(activations))
    assert_agrees(
        [op], (inputs, draw(sizes), draw(sizes)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 2])), bound=0.06
    )


@with_int8
@many
@given(data=st.data())
def test_residual_blocks(data):
    """Stem, pooling, residual blocks, a projection dense or grouped, mean, fully connected."""
    draw, rng = data.draw, np.random.default_rng(0)
    ops = ref.drawn_residual_network(draw, rng)
    assert_agrees(
        ops,
        (3, draw(st.integers(9, 40)), draw(st.integers(9, 40))),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 2])),
        bound=0.1,
        fewest=2,
    )


@with_int8
@settings(many, max_examples=30)
@given(data=st.data())
def test_channelwise_between_pointwise(data):
    """IGCV3's block, whose channel-wise convolution stays in float32, and permutations between."""
    draw, rng = data.draw, np.random.default_rng(0)
    ops = ref.drawn_igcv3_block(draw, rng)
    assert_agrees(ops, (3, draw(sizes), draw(sizes)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])), 0.1)


@with_int8
@pytest.mark.parametrize("primary,secondary", [(24, 2), (4, 8), (100, 2), (16, 16), (4, 32), (1, 16), (17, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_published_shapes(primary, secondary, stride):
    ops, width = ref.published_blocks(np.random.default_rng(1), primary, secondary, stride), primary * secondary
    assert_agrees(ops, (width, 14, 16), 2, 2, fewest=2)


@with_int8
def test_orders_that_do_not_fit():
    assert_agrees(ref.several_orders(np.random.default_rng(4)), (24, 9, 11), 2, 2, bound=0.2, fewest=4)


@with_int8
def test_one_order_seen_as_groups_of_two_sizes():
    """IGCV2's block with K = 4: channel-wise, then an IGC block of 1x1 convolutions on the same order."""
    rng = np.random.default_rng(5)
    ops = [
        ref.conv_op(rng, 3, 16, activation="relu"),
        ref.conv_op(rng, 16, 16, groups=16, source=1),
        ref.block_op(rng, 16, 4, 4, (1, 1), source=2, activation="relu"),
    ]
    assert_agrees(ops, (3, 12, 12), 2)


@with_int8
def test_batches_threads_and_calls_give_the_same_bits():
    rng = np.random.default_rng(2)
    ops = [
        ref.conv_op(rng, 3, 48, activation="relu"),
        ref.block_op(rng, 48, 24, 2, source=1, activation="relu"),
        ref.block_op(rng, 48, 4, 16, stride=2, source=2, activation="relu"),
        lib.Op(lib.MEAN_POOL, 3),
    ]
    net, x, once = assert_agrees(ops, (3, 20, 20), 5, fewest=2)
    for threads in (1, 2, 3, 8):
        np.testing.assert_array_equal(net(x, threads), once)
        np.testing.assert_array_equal(np.concatenate([net(x[i : i + 1], threads) for i in range(5)]), once)


@with_int8
def test_values_beyond_the_ranges_saturate():
    rng = np.random.default_rng(3)
    op = ref.conv_op(rng, 16, 16, activation="relu")
    x = rng.standard_normal((1, 16, 8, 8)).astype(np.float32)
    ranges, _ = ref8.ranges_of([op], x)
    net = lib.Net([op], (16, 8, 8), ranges)
    far = 1e6 * x
    far[0, 0, 0, 0] = np.inf
    np.testing.assert_allclose(net(far), ref8.run([op], far, ranges, net.units), rtol=1e-5, atol=1e-4)
    zeros = lib.Net([op], (16, 8, 8), np.zeros(4))  # no image had anything in it
    assert np.isfinite(zeros(x)).all()


@with_int8
def test_the_largest_products_do_not_saturate():
    """Bytes of 255, weights of 127: two such products do not fit into 16 bits, nor all of a sum into 24."""
    weight = np.ones((16, 64, 3, 3), np.float32)
    weight[1::2] = -1
    op = lib.Op(lib.CONV, 0, 16, kernel=(3, 3), pad=(1, 1), weight=weight)
    x = np.ones((1, 64, 6, 6), np.float32)
    ranges = np.array([0, 1, -576, 576], np.float32)
    net = lib.Net([op], (64, 6, 6), ranges)
    assert net.reduced.all()
    np.testing.assert_allclose(net(x), ref8.run([op], x, ranges, net.units), rtol=1e-6)
    np.testing.assert_allclose(net(x)[0, :2, 2, 2], [576, -576], rtol=1e-6)


@pytest.mark.skipif(len(AVAILABLE) < 2, reason="there are no kernels for 8-bit integers but the emulated ones")
def test_all_kernels_give_the_same_bits():
    rng = np.random.default_rng(6)
    ops = [
        ref.conv_op(rng, 3, 48, activation="relu"),
        ref.block_op(rng, 48, 24, 2, source=1, activation="relu"),
        ref.block_op(rng, 48, 4, 12, source=2, residual=2, activation="relu"),
        ref.block_op(rng, 48, 16, 6, stride=2, source=3),
        ref.conv_op(rng, 96, 10, (1, 1), source=4),
    ]
    x = rng.standard_normal((2, 3, 15, 17)).astype(np.float32)
    ranges, _ = ref8.ranges_of(ops, x)
    # The stem is of floats, and its sums are not added in one order everywhere: it is computed once.
    stem, *rest = ops
    rest = [op._replace(input=op.input - 1, residual=max(op.residual - 1, -1)) for op in rest]
    x = lib.Net([stem], x.shape[1:])(x)
    results = []
    for kernels in AVAILABLE:
        with kernels_in_use(*kernels):
            results.append(lib.Net(rest, x.shape[1:], ranges[2:])(x))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("isa", lib.ISAS)
def test_other_instruction_sets_run_in_float32(isa):
    rng = np.random.default_rng(3)
    ops = [ref.block_op(rng, 48, 24, 2, activation="relu"), ref.block_op(rng, 48, 4, 12, source=1)]
    x = rng.standard_normal((2, 48, 9, 9)).astype(np.float32)
    ranges, _ = ref8.ranges_of(ops, x)
    try:
        lib.use_isa(isa)
    except UserError as error:
        pytest.skip(str(error))
    try:
        net = lib.Net(ops, (48, 9, 9), ranges)
        assert isa != "portable" or not lib.has("int8")
        if lib.has("int8"):
            assert net.reduced.all()
        else:
            assert not net.reduced.any()
            np.testing.assert_array_equal(net(x), lib.Net(ops, (48, 9, 9))(x))
    finally:
        lib.use_isa()


@pytest.mark.parametrize(
    "change,message",
    [
        (lambda r: r[:-1], "too few or too many"),
        (lambda r: np.append(r, 0), "too few or too many"),
        (lambda r: np.where(np.arange(len(r)) == 2, np.nan, r), "not finite"),
        (lambda r: np.where(np.arange(len(r)) == 1, -9, r), "ends before it begins"),
        (lambda r: np.where(np.arange(len(r)) == 5, -1, r), "negative"),
    ],
)
def test_ranges_that_do_not_fit(change, message):
    rng = np.random.default_rng(0)
    op = ref.block_op(rng, 8, 4, 2)
    ranges, _ = ref8.ranges_of([op], rng.standard_normal((1, 8, 5, 5)))
    with pytest.raises(UserError, match=message):
        lib.Net([op], (8, 5, 5), change(ranges))
