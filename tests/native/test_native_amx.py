"""Convolutions on AMX against numpy (half_reference, int8_reference), the processor's tiles against their emulation.

Everything runs emulated, on any machine, and to the same bits on AMX where the processor has it.
"""

import subprocess
from pathlib import Path

import half_reference as half
import int8_reference as ref8
import native_reference as ref
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_settings import native_settings
from test_native_half import elements

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import build
from igc_gluon.native import library as lib

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))

PRECISIONS = ("half", "int8")
many = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
sizes = st.one_of(st.integers(2, 9), st.sampled_from([15, 16, 17]))
activations = st.sampled_from([None, "relu", "relu6"])


def emulated(isa=None):
    """Bytes on vectors are emulated too. Half precision on vectors is not offered, so that groups of 8 gain by AMX."""
    return native_settings(isa, amx="emulate", half="off", int8="emulate")


def amx_reason(precision):
    with native_settings(amx="", half="off", int8=""):
        return lib.amx_unavailable_reason(precision)


def networks(ops, x, precision):
    """The network on emulated AMX and, where the processor has it, on AMX; the ranges of int8."""
    ranges = ref8.ranges_of(ops, x)[0] if precision == "int8" else ()
    made = []
    with emulated():
        made.append(lib.Net(ops, x.shape[1:], ranges, precision))
    if amx_reason(precision) is None:
        with native_settings(amx="", half="off", int8=""):
            made.append(lib.Net(ops, x.shape[1:], ranges, precision))
    return made, ranges


def assert_agrees(ops, shape, precision, batch=1, threads=1, fewest=1, bound=None):
    """fewest: how many ops run on AMX. bound: of the largest error against exact arithmetic."""
    x = np.random.default_rng(0).standard_normal((batch,) + tuple(shape)).astype(np.float32)
    nets, ranges = networks(ops, x, precision)
    assert np.isin(nets[0].units, (lib.AMX, lib.BOTH)).sum() >= fewest, nets[0].units
    results = [net(x, threads) for net in nets]
    for net, result in zip(nets[1:], results[1:]):
        if all(op.kind not in (lib.CONV, lib.BLOCK) or unit == lib.AMX for op, unit in zip(ops, net.units)):
            np.testing.assert_array_equal(result.view(np.uint32), results[0].view(np.uint32))
    for net, result in zip(nets, results):
        expected = half.run(ops, x, net.units)[-1] if precision == "half" else ref8.run(ops, x, ranges, net.units)
        scale = max(np.abs(expected).max(), 1e-6)
        wrong = np.abs(result - expected) / scale
        # A sum next to the middle between two elements may be rounded the other way: in half precision where other
        # layers follow, of bytes already where those are made of floats.
        flips = len(ops) > 1 or precision == "int8"
        assert wrong.mean() < (1e-3 if len(ops) > 1 else 1e-4 if flips else 1e-6), wrong.mean()
        assert wrong.max() < (0.03 if flips else 1e-5), wrong.max()
        exact = np.abs(result - ref.run(ops, x)).max() / scale
        assert exact < (bound or (0.01 if precision == "half" else 0.06) * len(ops)), exact
    return nets[0], x, results[0]


@pytest.mark.parametrize("precision", PRECISIONS)
@many
@given(data=st.data())
def test_dense_convolution(precision, data):
    draw, rng = data.draw, np.random.default_rng(0)
    kernel = draw(st.sampled_from([(3, 3), (1, 1), (5, 5), (3, 1), (1, 3), (2, 2)]))
    inputs, channels = draw(st.integers(24, 90)), draw(st.integers(1, 50))
    op = ref.conv_op(rng, inputs, channels, kernel, stride=draw(st.integers(1, 3)), activation=draw(activations))
    height, width = draw(st.integers(3, 9)), draw(st.one_of(st.integers(9, 19), st.sampled_from([32, 33])))
    assert_agrees([op], (inputs, height, 3 * width), precision, draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])))


@pytest.mark.parametrize("precision", PRECISIONS)
@many
@given(data=st.data())
def test_group_convolution(precision, data):
    draw, rng = data.draw, np.random.default_rng(0)
    groups, members = draw(st.integers(2, 10)), draw(st.one_of(st.integers(16, 24), st.sampled_from([8, 32, 48])))
    kernel = draw(st.sampled_from([(3, 3), (5, 5), (3, 2)]))
    channels = groups * draw(st.sampled_from([1, 8, 16, 20, 32]))
    op = ref.conv_op(
        rng, groups * members, channels, kernel, groups, draw(st.integers(1, 2)), activation=draw(activations)
    )
    width = draw(st.one_of(st.integers(8, 19), st.sampled_from([32, 33])))
    assert_agrees(
        [op],
        (groups * members, draw(sizes), 2 * width),
        precision,
        draw(st.integers(1, 2)),
        draw(st.sampled_from([1, 2])),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@many
@given(data=st.data())
def test_grouped_pointwise(precision, data):
    draw, rng = data.draw, np.random.default_rng(0)
    groups, members = draw(st.integers(2, 12)), draw(st.sampled_from([24, 30, 32, 36, 64, 72]))
    channels = groups * draw(st.integers(1, 40))
    op = ref.conv_op(rng, groups * members, channels, (1, 1), groups, activation=draw(activations))
    width = draw(st.one_of(st.integers(8, 19), st.sampled_from([32, 33])))
    assert_agrees([op], (groups * members, draw(sizes), width), precision, draw(st.integers(1, 2)), 1)


@pytest.mark.parametrize("precision", PRECISIONS)
@many
@given(data=st.data())
def test_block(precision, data):
    draw, rng = data.draw, np.random.default_rng(0)
    primary, inner = draw(st.integers(2, 13)), draw(st.sampled_from([16, 17, 32] + [8, 12] * (precision == "half")))
    secondary = draw(st.sampled_from([8, 11, 16, 20, 32]))
    op = ref.block_op(
        rng, primary * inner, primary, secondary, stride=draw(st.sampled_from([1, 2])), activation=draw(activations)
    )
    shape = (primary * inner, draw(sizes), 2 * draw(st.integers(8, 17)))
    assert_agrees([op], shape, precision, draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])))


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(many, max_examples=8)
@given(data=st.data())
def test_secondary_of_a_block(precision, data):
    """Few members, many groups: the primary runs on vectors."""
    draw, rng = data.draw, np.random.default_rng(0)
    primary, secondary = (
        draw(st.sampled_from([64, 96, 100, 130])),
        2 if precision == "half" else draw(st.integers(2, 3)),
    )
    ops = [
        ref.block_op(rng, 2 * primary, primary, secondary, stride=draw(st.sampled_from([1, 2])), activation="relu"),
        ref.block_op(rng, primary * secondary, primary, secondary, source=1, residual=1, activation=draw(activations)),
    ]
    shape = (2 * primary, draw(st.integers(2, 5)), 2 * draw(st.integers(8, 17)))
    assert_agrees(ops, shape, precision, draw(st.integers(1, 2)), draw(st.sampled_from([1, 2])), fewest=2)


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(many, max_examples=8)
@given(data=st.data())
def test_residual_blocks(precision, data):
    """Stem, residual blocks, a projection dense or grouped, stride 2, mean, scores; M of 8 and more throughout."""
    draw, rng = data.draw, np.random.default_rng(0)
    primary, members = draw(st.sampled_from([1, 2, 4, 5, 9])), draw(st.sampled_from([8, 16, 18]))
    first = primary * members
    groups = draw(st.sampled_from([1, primary]))
    ops = [
        ref.conv_op(rng, 3, first, activation="relu"),
        ref.block_op(rng, first, primary, members, source=1, activation="relu"),
        ref.block_op(rng, first, primary, members, source=2, residual=1, activation="relu"),
        ref.conv_op(rng, first, 2 * first, (1, 1), groups, 2, source=3),
        ref.block_op(rng, first, primary, 2 * members, stride=2, source=3, activation="relu6"),
        ref.block_op(rng, 2 * first, primary, 2 * members, source=5, residual=4, activation="relu"),
        lib.Op(lib.MEAN_POOL, 6),
        ref.conv_op(rng, 2 * first, 10, (1, 1), source=7),
    ]
    assert_agrees(
        ops,
        (3, draw(st.integers(15, 18)), draw(st.integers(16, 33))),
        precision,
        1,
        draw(st.sampled_from([1, 2])),
        fewest=3,
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@settings(many, max_examples=8)
@given(data=st.data())
def test_channelwise_between_pointwise(precision, data):
    """IGCV3's block: the products on AMX take in the channel-wise convolution, which stays in float32."""
    draw, rng = data.draw, np.random.default_rng(0)
    groups = draw(st.sampled_from([1, 2]))
    width, stride = 32 * groups * draw(st.integers(1, 2)), draw(st.sampled_from([1, 2]))
    ops = [
        ref.conv_op(rng, 3, width, activation="relu6"),
        ref.conv_op(rng, width, 2 * width, (1, 1), groups, source=1),
        lib.Op(lib.PERMUTE, 2, groups=groups),
        ref.conv_op(rng, 2 * width, 2 * width, (3, 3), 2 * width, stride, source=3, activation="relu6"),
        ref.conv_op(rng, 2 * width, width, (1, 1), groups, source=4, residual=1 if stride == 1 else -1),
        lib.Op(lib.PERMUTE, 5, groups=2),
    ]
    assert_agrees(ops, (3, draw(sizes), draw(st.integers(16, 34))), precision, draw(st.integers(1, 2)), fewest=2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_orders_that_do_not_fit(precision):
    """Groups cut in other ways, single channels between, permutations, residuals in another order."""
    rng = np.random.default_rng(4)
    ops = [
        ref.block_op(rng, 96, 4, 24, activation="relu"),
        ref.block_op(rng, 96, 6, 16, source=1, residual=1),
        ref.block_op(rng, 96, 48, 2, source=2, residual=1),
        ref.conv_op(rng, 96, 80, groups=2, source=3),
        lib.Op(lib.PERMUTE, 4, groups=5),
        ref.block_op(rng, 80, 5, 16, source=5, residual=4),
        ref.conv_op(rng, 80, 80, (1, 1), 10, source=6, residual=4),
        ref.conv_op(rng, 80, 80, groups=80, source=7),
        ref.conv_op(rng, 80, 160, (3, 3), 10, source=8),
        lib.Op(lib.MAX_POOL, 9, kernel=(3, 3), stride=1, pad=(1, 1)),
        ref.conv_op(rng, 160, 160, (5, 5), 2, source=10, residual=9),
        ref.conv_op(rng, 160, 64, (3, 3), source=11, stride=2),
        lib.Op(lib.PERMUTE, 12, groups=8),
    ]
    assert_agrees(ops, (96, 9, 17), precision, 2, 2, fewest=6, bound=0.3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batches_threads_and_calls_give_the_same_bits(precision):
    rng = np.random.default_rng(2)
    ops = [
        ref.conv_op(rng, 3, 48, activation="relu"),
        ref.conv_op(rng, 48, 64, groups=4, source=1, activation="relu"),
        ref.block_op(rng, 64, 4, 24, stride=2, source=2, activation="relu"),
        ref.block_op(rng, 96, 4, 24, source=3, residual=3),
        lib.Op(lib.MEAN_POOL, 4),
    ]
    x = rng.standard_normal((5, 3, 18, 18)).astype(np.float32)
    for net in networks(ops, x, precision)[0]:
        once = net(x, 1)
        for threads in (2, 8):
            np.testing.assert_array_equal(net(x, threads), once)
            np.testing.assert_array_equal(np.concatenate([net(x[i : i + 1], threads) for i in range(5)]), once)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("isa", lib.ISAS)
def test_the_emulation_gives_the_same_bits_with_every_instruction_set(precision, isa):
    rng = np.random.default_rng(6)
    ops = [
        ref.conv_op(rng, 48, 64, groups=4, activation="relu"),
        ref.block_op(rng, 64, 4, 16, source=1, residual=1, activation="relu"),
        ref.conv_op(rng, 64, 10, (3, 3), source=2),
    ]
    x = rng.standard_normal((1, 48, 7, 18)).astype(np.float32)
    ranges = ref8.ranges_of(ops, x)[0] if precision == "int8" else ()
    results = []
    for name in (isa, "portable"):
        try:
            with emulated(name):
                net = lib.Net(ops, x.shape[1:], ranges, precision)
        except UserError as error:
            pytest.skip(str(error))
        assert (net.units == lib.AMX).all()
        results.append(net(x))
    np.testing.assert_array_equal(*results)


def flushed(v):
    return np.where(np.abs(v) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), v), v).astype(np.float32)


def tile_products(total, x, w):
    """TDPBF16PS as Intel documents it: sums of the even and of the odd elements from zero, each product added with one
    rounding; both together; then to `total`. x, w: (..., elements), at most 32 of them."""
    x, w = (flushed(v).astype(np.float64) for v in (x, w))
    sums = []
    with np.errstate(all="ignore"):
        for parity in (0, 1):
            sum_ = np.zeros(np.broadcast_shapes(x.shape, w.shape)[:-1], np.float32)
            for i in range(parity, x.shape[-1], 2):
                sum_ = flushed((sum_.astype(np.float64) + x[..., i] * w[..., i]).astype(np.float32))
            sums.append(sum_)
        return flushed(flushed(total) + flushed(sums[0] + sums[1]))


@pytest.mark.parametrize("kind", ["near 1", "all", "vanishing", "special"])
@pytest.mark.parametrize("inputs", [32, 48, 64])
def test_products_of_tiles_bit_for_bit(kind, inputs):
    """One tile of 16 words, two of 12, two of 16."""
    rng = np.random.default_rng(3)
    weight, x = elements(rng, kind, (16, inputs)), elements(rng, kind, (1, inputs, 3, 35))
    if kind == "special":
        weight = elements(rng, "all", weight.shape)
    op = lib.Op(lib.CONV, 0, 16, weight=weight.reshape(16, inputs, 1, 1))
    at_once = inputs if inputs == 32 else inputs // 2
    pixels, total = x[0].transpose(1, 2, 0)[:, :, None], np.float32(0)
    for first in range(0, inputs, at_once):
        total = tile_products(total, pixels[..., first : first + at_once], weight[:, first : first + at_once])
    for net in networks([op], x, "half")[0]:
        assert (net.units == lib.AMX).all()
        np.testing.assert_array_equal(net(x)[0], total.transpose(2, 0, 1))


def test_the_largest_products_of_bytes():
    """Bytes of 255, weights of 127 and -127: exact in 32 bits."""
    weight = np.ones((16, 64, 3, 3), np.float32)
    weight[1::2] = -1
    op = lib.Op(lib.CONV, 0, 16, kernel=(3, 3), pad=(1, 1), weight=weight)
    x = np.ones((1, 64, 6, 16), np.float32)
    ranges = np.array([0, 1, -576, 576], np.float32)
    with emulated():
        net = lib.Net([op], x.shape[1:], ranges)
    assert (net.units == lib.AMX).all()
    np.testing.assert_allclose(net(x)[0, :2, 2, 2], [576, -576], rtol=1e-6)
    np.testing.assert_allclose(net(x), ref8.run([op], x, ranges, net.units), rtol=1e-6)


@pytest.mark.parametrize(
    "op",
    [
        ref.conv_op(np.random.default_rng(0), 32, 20, (1, 1)),
        ref.conv_op(np.random.default_rng(0), 40, 20, (3, 3)),
        ref.conv_op(np.random.default_rng(0), 64, 64, (3, 3), 4),
        ref.conv_op(np.random.default_rng(0), 272, 16, (1, 1)),
    ],
    ids=["1x1", "dense", "groups", "17 vectors"],
)
def test_infinity_stays_where_it_is_read(op):
    """Nothing that is finite becomes infinite or NaN by a product of a neighbor's infinity with a weight of zero."""
    x = np.random.default_rng(1).standard_normal((1, op.weight.shape[1] * op.groups, 6, 37)).astype(np.float32)
    x[0, 3, 2, 20] = np.inf
    x[0, 9, 4, 33] = np.nan
    for net in networks([op], x, "half")[0]:
        assert (net.units == lib.AMX).all()
        got = net(x)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(ref.run([op], x)))


def test_the_range_is_that_of_float32():
    """The largest and the smallest weights and activations; what overflows becomes infinite in float32 as well."""
    weight = np.zeros((16, 32, 1, 1), np.float32)
    weight[:, 0], weight[1, 0], weight[2, 0] = 1, 2.0**100, 2.0**-100
    x = np.zeros((1, 32, 1, 16), np.float32)
    x[0, 0, 0, :6] = [2.0**120, -(2.0**120), 3e38, 2.0**20, 1e-40, 2.0**-20]
    op = lib.Op(lib.CONV, 0, 16, weight=weight)
    with np.errstate(over="ignore"):
        expected = lib.Net([op], x.shape[1:])(x)
    for net in networks([op], x, "half")[0]:
        got = net(x)
        np.testing.assert_array_equal(np.isinf(got), np.isinf(expected))
        finite = np.isfinite(expected)
        np.testing.assert_allclose(got[finite], expected[finite], rtol=2.0**-8, atol=2.0**-126)


@pytest.mark.parametrize(
    "op, shape, half_unit, int8_unit",
    [
        (("conv", 16, 16, 1, (3, 3)), (16, 32, 32), lib.AMX, lib.AMX),
        (("conv", 64, 64, 4, (3, 3)), (64, 32, 32), lib.AMX, lib.AMX),
        (("conv", 64, 64, 1, (1, 1)), (64, 32, 32), lib.AMX, lib.AMX),
        (("block", 256, 16, 16), (256, 14, 14), lib.AMX, lib.AMX),
        (("block", 32, 4, 8), (32, 32, 32), lib.AMX, lib.AMX),
        (("block", 48, 24, 2), (48, 32, 32), lib.FLOAT32_UNIT, lib.VECTORS),  # M of 2 and 4
        (("block", 16, 4, 4), (16, 32, 32), lib.FLOAT32_UNIT, lib.VECTORS),
        (("block", 200, 100, 2), (200, 28, 28), lib.BOTH, lib.BOTH),
        (("conv", 64, 64, 64, (3, 3)), (64, 32, 32), lib.FLOAT32_UNIT, lib.FLOAT32_UNIT),  # channel-wise
        (("conv", 64, 10, 1, (1, 1)), (64, 1, 1), lib.FLOAT32_UNIT, lib.FLOAT32_UNIT),  # scores
    ],
)
def test_which_layers_run_on_amx(op, shape, half_unit, int8_unit):
    """Where VDPBF16PS is slow, as on the processors that have AMX so far."""
    rng, (kind, *sizes) = np.random.default_rng(0), op
    made = ref.block_op(rng, *sizes) if kind == "block" else ref.conv_op(rng, *sizes[:2], sizes[3], sizes[2])
    ranges = np.zeros(4 + (made.channels if kind == "block" else 0), np.float32)
    with emulated():
        assert lib.Net([made], shape, precision="half").units[0] == half_unit
        assert lib.Net([made], shape, ranges, "int8").units[0] == int8_unit


def test_what_the_units_are_called():
    with native_settings(amx="emulate", half="emulate", int8="emulate"):
        assert lib.unit_name("half", lib.AMX) == "AMX-BF16, emulated"
        assert lib.unit_name("int8", lib.AMX) == "AMX-INT8, emulated"
        assert lib.unit_name("half", lib.VECTORS) == "AVX512-BF16, emulated"
        assert lib.unit_name("int8", lib.VECTORS) == "VNNI, emulated"
        assert lib.unit_name("int8", lib.BOTH) == "VNNI, emulated + AMX-INT8, emulated"
        assert lib.amx_unavailable_reason("half") is None
    with native_settings(amx="off", half="off"):
        assert lib.unit_name("half", lib.AMX) is None and lib.unit_name("half", lib.VECTORS) is None
        assert lib.amx_unavailable_reason("half") == "IGC_NATIVE_AMX=off says so"
        assert not lib.has("half") and "IGC_NATIVE_HALF=off" in lib.unavailable_reason("half")
    with native_settings("portable", amx="", half="", int8=""):
        for precision in PRECISIONS:
            assert "portable, have none" in lib.amx_unavailable_reason(precision)
    with native_settings("portable", amx="emulate"):
        assert lib.has("half") and lib.has("int8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_unit_itself(precision):
    """The tests above compare it with its emulation; this one says where they could not."""
    reason = amx_reason(precision)
    if reason:
        pytest.skip(f"no AMX: {reason}")
    with native_settings(amx="", half="", int8=""):
        assert "emulated" not in lib.unit_name(precision, lib.AMX)


def test_the_machine_code(tmp_path):
    """The kernels for AMX as they are compiled, their instructions carried out one by one in a signal handler where the
    processor has none, give the bits of the emulation. They need the AVX-512 of their epilogues."""
    with native_settings(amx="off", half="on", int8=""):
        vectors = [lib.unit_name(precision, lib.VECTORS) for precision in PRECISIONS]
    if vectors != ["AVX512-BF16", "AVX-512 VNNI"]:
        pytest.skip(f"this processor lacks AVX512-BF16 or AVX-512 VNNI: {vectors}")
    compiler, objects = build.compiler(), []
    if compiler is None:
        pytest.skip("there is no compiler")
    for part in (*build.X86_AMX, *build.EMULATED_AMX):
        for source, flags in build.parts("x86_64")[part]:
            objects.append(str(tmp_path / f"{source.stem}.{part}.o"))
            command = [compiler, *build.FLAGS, *build.WARNINGS, *flags, "-c", str(source), "-o", objects[-1]]
            done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
            if done.returncode and part in build.X86_AMX:
                pytest.skip(f"the compiler has no AMX: {done.stderr[:200]}")
            assert not done.returncode, done.stderr
    check, include = tmp_path / "check", ["-I", str(build.HERE / "src")]
    source = str(Path(__file__).with_name("amx_check.cpp"))
    subprocess.run([compiler, *build.FLAGS, *build.WARNINGS, *include, source, *objects, "-o", str(check)], check=True)
    done = subprocess.run([str(check)], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert not done.returncode and done.stdout.startswith("well, "), done.stdout
