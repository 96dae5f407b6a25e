"""Networks in half precision against numpy (half_reference), and the processor's instructions against their emulation.

Everything runs emulated, on any machine, and to the same bits on AVX512-BF16 where the processor has it.
"""

import half_reference as half
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


def half_in_use(how, isa=None):
    """On vectors: AMX has tests of its own."""
    return native_settings(isa, half=how, amx="off")


def has_unit():
    with half_in_use("on"):
        return lib.has("half")


WAYS = ["emulate", *(["on"] if native.available() and has_unit() else [])]
many = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
sizes = st.one_of(st.integers(2, 13), st.sampled_from([16, 17]))
activations = st.sampled_from([None, "relu", "relu6"])


def assert_agrees(ops, shape, batch=1, threads=1, fewest=1):
    x = np.random.default_rng(0).standard_normal((batch,) + tuple(shape)).astype(np.float32)
    results = []
    for way in WAYS:
        with half_in_use(way):
            net = lib.Net(ops, shape, precision="half")
        assert net.reduced.sum() >= fewest
        results.append(net(x, threads))
    for result in results[1:]:
        np.testing.assert_array_equal(result.view(np.uint32), results[0].view(np.uint32))
    expected = half.run(ops, x, net.units)[-1]
    scale = max(np.abs(expected).max(), 1e-6)
    wrong = np.abs(results[0] - expected) / scale
    # A sum next to the middle between two bfloat16 may be rounded the other way, here by 2^-8 of itself.
    flips = len(ops) > 1 or ops[0].kind == lib.BLOCK and ops[0].groups > 4
    assert wrong.mean() < (1e-3 if flips else 1e-6) and wrong.max() < (0.02 if flips else 1e-5)
    # Against exact arithmetic: each rounding costs 2^-9 of what is rounded.
    assert np.abs(results[0] - ref.run(ops, x)).max() / scale < 0.01 * len(ops)
    return net, x, results[-1]


@many
@given(data=st.data())
def test_block(data):
    draw, rng = data.draw, np.random.default_rng(0)
    primary = draw(st.one_of(st.integers(1, 26), st.sampled_from([4, 24, 32, 41, 50])))
    secondary, members = draw(st.integers(1, 9)), draw(st.integers(2, 9))
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (1, 3)]))
    op = ref.block_op(
        rng, primary * members, primary, secondary, kernel, draw(st.sampled_from([1, 2])), activation=draw(activations)
    )
    shape = (primary * members, draw(sizes), draw(sizes))
    assert_agrees([op], shape, draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])))


@many
@given(data=st.data())
def test_group_conv(data):
    draw, rng = data.draw, np.random.default_rng(0)
    groups = draw(st.integers(1, 20))
    inputs, channels = groups * draw(st.integers(4, 9)), groups * draw(st.integers(1, 6))
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (2, 2)]))
    op = ref.conv_op(rng, inputs, channels, kernel, groups, draw(st.integers(1, 3)), activation=draw(activations))
    assert_agrees([op], (inputs, draw(sizes), draw(sizes)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])))


@many
@given(data=st.data())
def test_residual_blocks(data):
    """Stem, pooling, residual blocks, a projection dense or grouped, mean, fully connected."""
    draw, rng = data.draw, np.random.default_rng(0)
    ops = ref.drawn_residual_network(draw, rng)
    shape = (3, draw(st.integers(9, 30)), draw(st.integers(9, 30)))
    assert_agrees(ops, shape, draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])), fewest=2)


@settings(many, max_examples=15)
@given(data=st.data())
def test_channelwise_between_pointwise(data):
    """IGCV3's block, whose channel-wise convolution stays in float32, and permutations between."""
    draw, rng = data.draw, np.random.default_rng(0)
    ops = ref.drawn_igcv3_block(draw, rng)
    assert_agrees(ops, (3, draw(sizes), draw(sizes)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])))


@pytest.mark.parametrize("primary,secondary", [(24, 2), (4, 8), (100, 2), (16, 16), (1, 16), (17, 3), (8, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_published_shapes(primary, secondary, stride):
    ops, width = ref.published_blocks(np.random.default_rng(1), primary, secondary, stride), primary * secondary
    assert_agrees(ops, (width, 8, 16), 1, 2, fewest=2)


def test_orders_that_do_not_fit():
    assert_agrees(ref.several_orders(np.random.default_rng(4)), (24, 9, 11), 2, 2, fewest=4)


@pytest.mark.parametrize("way", WAYS)
def test_batches_threads_and_calls_give_the_same_bits(way):
    rng = np.random.default_rng(2)
    ops = [
        ref.conv_op(rng, 3, 48, activation="relu"),
        ref.block_op(rng, 48, 24, 2, source=1, activation="relu"),
        ref.block_op(rng, 48, 4, 12, stride=2, source=2, activation="relu"),
        lib.Op(lib.MEAN_POOL, 3),
    ]
    x = rng.standard_normal((5, 3, 12, 12)).astype(np.float32)
    with half_in_use(way):
        net = lib.Net(ops, (3, 12, 12), precision="half")
    once = net(x, 1)
    for threads in (1, 2, 8):
        np.testing.assert_array_equal(net(x, threads), once)
        np.testing.assert_array_equal(np.concatenate([net(x[i : i + 1], threads) for i in range(5)]), once)


@pytest.mark.parametrize("isa", lib.ISAS)
def test_the_emulation_gives_the_same_bits_with_every_instruction_set(isa):
    rng = np.random.default_rng(6)
    ops = [
        ref.block_op(rng, 48, 24, 2, activation="relu"),
        ref.block_op(rng, 48, 4, 12, source=1, residual=1, activation="relu"),
        ref.conv_op(rng, 48, 10, (3, 3), source=2),
    ]
    x = rng.standard_normal((1, 48, 7, 9)).astype(np.float32)
    results = []
    for name in (isa, "portable"):
        try:
            with half_in_use("emulate", name):
                results.append(lib.Net(ops, x.shape[1:], precision="half")(x))
        except UserError as error:
            pytest.skip(str(error))
    np.testing.assert_array_equal(*results)


def elements(rng, kind, size):
    """Numbers of bfloat16 with any digits: near 1, of all sizes, of those whose products vanish; special ones."""
    low, high = {"near 1": (120, 132), "all": (0, 255), "vanishing": (50, 75), "special": (0, 256)}[kind]
    bits = rng.integers(0, 2, size) << 15 | rng.integers(low, high, size) << 7 | rng.integers(0, 128, size)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def dot(x, w):
    """VDPBF16PS on a sum of 0, as it is documented, and nothing after it. x, w: (..., 2)."""

    def flushed(v):
        return np.where(np.abs(v) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), v), v).astype(np.float32)

    x, w, total = flushed(x).astype(np.float64), flushed(w).astype(np.float64), np.float64(0)
    with np.errstate(all="ignore"):
        for i in (1, 0):
            total = flushed((total + x[..., i] * w[..., i]).astype(np.float32)).astype(np.float64)
    return total.astype(np.float32)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["near 1", "all", "vanishing", "special"])
def test_the_dot_product_bit_for_bit(way, kind):
    """Odd elements first, one rounding for each product, subnormal numbers are zeros."""
    rng = np.random.default_rng(3)
    weight, x = elements(rng, "all" if kind == "special" else kind, (16, 2)), elements(rng, kind, (1, 2, 40, 50))
    op = lib.Op(lib.CONV, 0, 16, weight=weight.reshape(16, 2, 1, 1))
    with half_in_use(way):
        net = lib.Net([op], x.shape[1:], precision="half")
    assert net.reduced.all()
    expected = dot(x[0].transpose(1, 2, 0)[:, :, None], weight).transpose(2, 0, 1)
    np.testing.assert_array_equal(net(x)[0], expected)


@pytest.mark.parametrize("way", WAYS)
def test_rounding_and_range(way):
    """To nearest even; float32's range; NaN and infinity go on."""
    cases = {
        1.0: 1.0, 1 + 2**-8: 1.0, 1 + 2**-8 + 2**-20: 1 + 2**-7, 1 + 3 * 2**-8: 1 + 2**-6, -1 - 3 * 2**-8: -1 - 2**-6,
        2.0**100: 2.0**100, 3e38: 226 * 2.0**120, 1e-40: 0.0, np.inf: np.inf, -np.inf: -np.inf,
    }  # fmt: skip
    x = np.zeros((1, 2, 1, len(cases) + 1), np.float32)
    x[0, 0, 0] = [*cases, np.nan]
    weight = np.zeros((16, 2, 1, 1), np.float32)
    weight[:, 0] = 1
    with half_in_use(way):
        sums = lib.Net([lib.Op(lib.CONV, 0, 16, weight=weight)], x.shape[1:], precision="half")(x)[0, 3, 0]
    np.testing.assert_allclose(sums, [*cases.values(), np.nan], rtol=1e-4)


def test_what_has_no_kernels_runs_in_float32():
    rng = np.random.default_rng(3)
    ops = [ref.block_op(rng, 48, 24, 2, activation="relu"), ref.block_op(rng, 48, 4, 12, source=1)]
    x = rng.standard_normal((2, 48, 9, 9)).astype(np.float32)
    for how, isa, reason in (("off", None, "IGC_NATIVE_HALF=off"), ("", "portable", "portable, have none")):
        with half_in_use(how, isa):
            assert not lib.has("half") and reason in lib.unavailable_reason("half")
            net = lib.Net(ops, (48, 9, 9), precision="half")
            assert not net.reduced.any()
            np.testing.assert_array_equal(net(x), lib.Net(ops, (48, 9, 9))(x))
    with half_in_use("emulate"):
        assert lib.has("half") and lib.unavailable_reason("half") is None


def test_the_unit_is_measured_once():
    with half_in_use(""):
        assert lib.has("half") == lib.has("half")
        assert lib.has("half") or lib.unavailable_reason("half")


def test_precisions_that_do_not_fit():
    op = ref.conv_op(np.random.default_rng(0), 8, 8)
    for precision in ("half", "float32"):
        with pytest.raises(UserError, match="ranges go with"):
            lib.Net([op], (8, 5, 5), np.zeros(4), precision)
    with pytest.raises(UserError, match="too few"):
        lib.Net([op], (8, 5, 5), precision="int8")
