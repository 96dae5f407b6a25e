"""The training kernels against stock MXNet in float64, on every instruction set of this machine."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from native_reference import averaged, pooled, trained

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library as lib
from igc_gluon.native.training import Body, check

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))


def permute(F, x, branches):
    if branches == 1:
        return x
    split = F.reshape(x, shape=(0, -4, branches, -1, -2))
    return F.reshape(F.swapaxes(split, dim1=1, dim2=2), shape=(0, -3, -2))


def stock(layers, x, parameters, running, dy, dtype, maps):
    """The same in MXNet: output, gradients of parameters and of x, moving statistics, inference."""
    F = mx.nd
    arrays = [F.array(p, dtype=dtype) for p in parameters]
    moving = [F.array(r, dtype=dtype) for r in running]
    data = F.array(x, dtype=dtype)
    for a in arrays + [data]:
        a.attach_grad()

    def run():
        values, at, statistics = [data], iter(arrays), iter(moving)
        for l in layers:
            if l.kind == lib.MAX_POOL:
                values.append(
                    F.Pooling(values[l.input], kernel=l.kernel, stride=(l.stride,) * 2, pad=l.pad, pool_type="max")
                )
                continue
            y = F.Convolution(
                values[l.input],
                next(at),
                no_bias=True,
                kernel=l.kernel,
                pad=l.pad,
                stride=(l.stride,) * 2,
                num_filter=l.channels,
                num_group=l.groups,
            )
            y = permute(F, y, l.permute)
            if not l.normalized:
                values.append(y)
                continue
            y = F.BatchNorm(
                y,
                next(at),
                next(at),
                next(statistics),
                next(statistics),
                eps=l.epsilon,
                momentum=l.momentum,
                fix_gamma=False,
            )
            y = permute(F, y, l.reorder)
            if l.residual >= 0:
                y = y + values[l.residual]
            values.append({None: lambda y: y, "relu": F.relu, "relu6": lambda y: F.clip(y, 0, 6)}[l.activation](y))
        return values[-1] if maps else F.mean(values[-1], axis=(2, 3))

    inferred = run().asnumpy()
    with mx.autograd.record():
        y = run()
    y.backward(F.array(dy, dtype=dtype))
    mx.nd.waitall()
    results = [y, *[a.grad for a in arrays], data.grad, *moving]
    return [a.asnumpy().astype("float64") for a in results] + [inferred.astype("float64")]


def igc_block(source, primary, secondary, channels=None, kernel=3, stride=1, at=None, **options):
    """[Op] of an IGC block that reads value `source`, by default the last one, behind `at` layers; L, M,
    the channels L * M if they are not given."""
    channels = channels or primary * secondary
    return [
        trained(source, channels, primary, kernel, stride, permute=primary, normalized=False, activation=None),
        trained((source if at is None else at) + 1, channels, secondary, 1, permute=secondary, **options),
    ]


def random_parameters(rng, shapes, gain=1):
    """gain: what gamma is about; with 4, ReLU6 cuts some off."""
    result, gamma = [], True
    for shape in shapes:
        if len(shape) == 4:
            array, gamma = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])), True
        else:
            array, gamma = rng.uniform(0.5 * gain, 1.5 * gain, shape) if gamma else rng.normal(0, 0.3, shape), False
        result.append(array.astype("float32"))
    return result


def distance(actual, expected):
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-3) if expected.size else 0.0


def errors(layers, shape, batch, threads, seed, gain, maps):
    """{what: (relative error of the kernels, of stock MXNet in float32, the first relative to the largest gradient)},
    against stock MXNet in float64."""
    rng = np.random.default_rng(seed)
    body = Body(layers if maps else averaged(layers), shape)
    parameters = random_parameters(rng, body.shapes, gain)
    running = [
        a
        for l in layers
        if l.normalized
        for a in (rng.normal(0, 0.2, l.channels).astype("float32"), rng.uniform(0.5, 1.5, l.channels).astype("float32"))
    ]
    x = rng.standard_normal((batch, *shape[1:], shape[0])).astype("float32").transpose(0, 3, 1, 2)  # not contiguous
    inferred = body.infer(x, parameters, running, threads)
    dy = rng.standard_normal(inferred.shape).astype("float32")
    expected, single = (stock(layers, x, parameters, running, dy, dtype, maps) for dtype in ("float64", "float32"))
    y = body.forward(x, parameters, running, threads)
    gradients, dx = body.backward(dy, threads, data=True)
    results = [y, *gradients, dx, *running, inferred]
    what = (
        ["output"]
        + [f"gradient {i} of {s}" for i, s in enumerate(body.shapes)]
        + ["gradient of x"]
        + [f"moving statistic {i}" for i in range(len(running))]
        + ["inference"]
    )
    largest = max(np.linalg.norm(e) for w, e in zip(what, expected) if w.startswith("gradient"))
    return {
        w: (distance(f, e), distance(o, e), np.linalg.norm(f - e) / largest)
        for w, f, e, o in zip(what, results, expected, single)
    }


def compare(layers, shape, batch, threads=1, gain=1, maps=False):
    """Gradients of weights before a BN cancel to a part of their terms: where stock MXNet's float32 has lost
    half of 1e-5 and more, twice that is the measure, and where nothing is left of them (a convolution of one
    channel and tap, which BN undoes) 1e-6 of the largest gradient. An activation next to 0 may fall on either side
    of it; it does not for every seed."""
    for seed in range(3):
        error_of = errors(layers, shape, batch, threads, seed, gain, maps)
        bad = {
            what: e
            for what, e in error_of.items()
            if not (e[0] <= max(1e-5, 2 * e[1]) or (what.startswith("gradient") and e[2] <= 1e-6))
        }
        if not bad:
            return
    raise AssertionError(f"{layers} {shape} x {batch}: {bad}")


activations = st.sampled_from(["relu", "relu", "relu6", None])


@st.composite
def plain_networks(draw):
    """Stem and layers, each a convolution or an IGC block, some with stride 2 and more channels."""
    igc = draw(st.booleans())
    if igc:
        primary = draw(st.one_of(st.integers(1, 26), st.sampled_from([2, 4, 24, 33])))
        members = min(draw(st.integers(1, 5)), 80 // primary)
    else:
        primary, members = 1, draw(st.integers(1, 35))
    layers = [
        trained(0, primary * members, kernel=draw(st.sampled_from([1, 3, 5])), stride=draw(st.sampled_from([1, 1, 2])))
    ]
    for _ in range(draw(st.integers(1, 3))):
        stride = draw(st.sampled_from([1, 1, 2]))
        before = members
        members = members * draw(st.sampled_from([1, 1, 2])) if igc else draw(st.integers(1, 35))
        kernel = draw(st.sampled_from([1, 3, 3, 3, 5]))
        source = len(layers)
        if not igc:
            layers.append(trained(source, members, 1, kernel, stride, activation=draw(activations)))
            continue
        # Or the authors' form of a down-sampling block.
        secondary = before if members == 2 * before and draw(st.booleans()) else members
        layers += igc_block(source, primary, secondary, primary * members, kernel, stride, activation=draw(activations))
    return layers


@st.composite
def residual_networks(draw):
    """Stem and residual blocks with identity or projection, as in resnet and resnet_igc."""
    igc = draw(st.booleans())
    primary, members = draw(st.integers(2, 20)) if igc else 1, draw(st.integers(1, 3 if igc else 20))

    def unit(source, **options):
        return (
            igc_block(source, primary, members, at=len(layers), **options)
            if igc
            else [trained(source, primary * members, primary, **options)]
        )

    layers = [trained(0, primary * members)]
    if draw(st.booleans()):
        layers = [
            trained(0, primary * members, kernel=7, stride=draw(st.sampled_from([1, 2]))),
            pooled(1, primary * members, draw(st.sampled_from([3, 3, 5, 1])), draw(st.sampled_from([1, 2, 2]))),
        ]
    for _ in range(draw(st.integers(1, 3))):
        value = shortcut = len(layers)
        stride = 1
        if draw(st.booleans()):
            if igc and members == 2 and draw(st.booleans()):
                primary *= 2  # as in IGC-L100M2 for ImageNet
            else:
                members *= 2
            stride = draw(st.sampled_from([1, 2]))
            layers.append(
                trained(
                    value,
                    primary * members,
                    draw(st.sampled_from([1, primary])),
                    kernel=1,
                    stride=stride,
                    activation=None,
                )
            )
            shortcut = len(layers)
        layers += unit(value, stride=stride, activation=draw(activations))
        layers += unit(len(layers), residual=shortcut, activation=draw(st.sampled_from(["relu", None])))
    return layers


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


@st.composite
def interleaved_networks(draw):
    """Blocks of IGCV2 and IGCV3, Xception, GPC and what lies between them: any permutations and groups, several
    convolutions without a normalization between them, channel-wise ones, sums with and without an activation."""
    widths = st.sampled_from([3, 8, 10, 12, 16, 24, 30, 36, 40, 64, 72])
    layers = [
        trained(
            0,
            draw(widths),
            kernel=draw(st.sampled_from([1, 3])),
            stride=draw(st.sampled_from([1, 2])),
            activation=draw(activations),
        )
    ]

    def add(channels, groups, kernel=1, stride=1, **options):
        layers.append(
            trained(
                len(layers),
                channels,
                groups,
                kernel,
                stride,
                permute=draw(st.sampled_from(divisors(channels))),
                **{"normalized": False, "activation": None, **options},
            )
        )

    def common(a, b):
        return draw(st.sampled_from([d for d in divisors(a) if b % d == 0]))

    for _ in range(draw(st.integers(1, 3))):
        before = layers[-1].channels
        form = draw(st.sampled_from(["several", "several", "lowrank", "one"]))
        kernel, stride = draw(st.sampled_from([3, 3, 3, 5])), draw(st.sampled_from([1, 1, 2]))
        last = {"normalized": True, "activation": draw(activations), "reorder": 1}
        if form == "several":
            add(before, draw(st.sampled_from([before, common(before, before)])), kernel, stride)
            for _ in range(draw(st.integers(0, 2))):
                width = draw(st.sampled_from([before, 2 * before]))
                add(width, common(layers[-1].channels, width))
            channels = draw(st.sampled_from([before, draw(widths)]))
            add(channels, common(layers[-1].channels, channels), **last)
        elif form == "lowrank":
            width = before * draw(st.integers(1, 4))
            add(width, common(before, width), **{**last, "reorder": draw(st.sampled_from(divisors(width)))})
            add(width, width, kernel, stride, normalized=True, activation=draw(activations))
            channels = draw(st.sampled_from([before, draw(widths)]))
            add(channels, common(width, channels), normalized=True, reorder=draw(st.sampled_from(divisors(channels))))
        else:
            channels = draw(widths)
            add(channels, common(before, channels), draw(st.sampled_from([1, 3])), stride, **last)
        earlier = addable(layers)
        if earlier and draw(st.booleans()):
            layers[-1] = layers[-1]._replace(
                residual=draw(st.sampled_from(earlier)), activation=draw(st.sampled_from(["relu", None]))
            )
    return layers


def addable(layers):
    """Values of the last one's shape with a normalized layer between, that are not added yet."""
    return [
        v
        for v in range(1, len(layers))
        if layers[v - 1].channels == layers[-1].channels
        and layers[v - 1].normalized
        and all(layer.stride == 1 for layer in layers[v:])
        and sum(layer.normalized for layer in layers[v:]) > 1
        and all(layer.residual != v for layer in layers)
    ]


def supported(layers):
    """Two demands on the order of one value's channels may exclude each other."""
    try:
        check(layers, (3, 16, 16))
    except UserError as error:
        assert "no order of channels" in str(error)
        return False
    return True


sizes = st.one_of(st.integers(1, 17), st.sampled_from([31, 32, 33, 63, 65]))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    layers=st.one_of(plain_networks(), residual_networks(), interleaved_networks().filter(supported)),
    height=sizes,
    width=sizes,
    batch=st.integers(1, 5),
    threads=st.sampled_from([1, 2, 3]),
    gain=st.sampled_from([1, 1, 4]),
    maps=st.booleans(),
)
def test_any_network(isa, layers, height, width, batch, threads, gain, maps):
    """Over a few pixels the variance can be next to nothing, and then BN is all rounding: the batch is larger."""
    stride = 2 ** sum(layer.stride == 2 for layer in layers)
    pixels = -(-height // stride) * -(-width // stride)
    compare(layers, (3, height, width), max(batch, -(-40 // pixels)), threads, gain, maps)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    layers=st.one_of(plain_networks(), residual_networks(), interleaved_networks().filter(supported)),
    height=st.integers(16, 50),
    width=st.integers(8, 33),
    batch=st.integers(1, 3),
    threads=st.integers(2, 6),
    maps=st.booleans(),
)
def test_fewer_images_than_threads(isa, layers, height, width, batch, threads, maps):
    """Then threads share the rows of an image."""
    compare(layers, (3, height, width), batch, threads, maps=maps)


def test_rows_of_an_image_wait_for_each_other(isa):
    """The gradient of a layer's input may be written over that of its result, of which other threads read rows
    still."""
    layers, rng = [trained(0, 8), trained(1, 8, kernel=5), trained(2, 8)], np.random.default_rng(0)
    body = Body(averaged(layers), (3, 64, 8))
    parameters = random_parameters(rng, body.shapes)
    x, dy = rng.standard_normal((1, 3, 64, 8)).astype("float32"), rng.standard_normal((1, 8)).astype("float32")
    seen = set()
    for _ in range(60):
        body.forward(x, parameters, threads=4)
        gradients, dx = body.backward(dy, threads=4, data=True)
        seen.add(b"".join(array.tobytes() for array in [*gradients, dx]))
    assert len(seen) == 1


@pytest.mark.parametrize(
    "layers",
    [
        [trained(0, 8)],
        [trained(0, 64, kernel=7, stride=2), pooled(1, 64, 3, 2), trained(2, 128, 1, 3)],
        [trained(0, 48), *igc_block(1, 24, 2), *igc_block(3, 24, 4, stride=2)],
        [trained(0, 32), *igc_block(1, 4, 8), *igc_block(3, 4, 8, residual=1)],
    ],
)
def test_one_value_of_each_channel(isa, layers):
    """Batch 1, images of one pixel: what is normalized is its own mean."""
    compare(layers, (3, 1, 1), 1)


@pytest.mark.parametrize("threads,maps", [(1, True), (3, False)])
@pytest.mark.parametrize(
    "layers",
    [
        # Groups of 4 and of 6 read one value, a sum too.
        [trained(0, 12), *igc_block(1, 4, 3), trained(3, 12, residual=1), *igc_block(4, 6, 2)],
        [trained(0, 24), trained(1, 24, 4), trained(2, 24, 6), trained(3, 24, 2, stride=2)],
        [trained(0, 24), trained(1, 24, 6, kernel=5), *igc_block(2, 4, 6, stride=2), *igc_block(4, 3, 8)],
        # A shortcut comes out of groups, what it is added to goes into others.
        [trained(0, 24), trained(1, 24, 4), trained(2, 24), trained(3, 24, residual=2), trained(4, 24, 3)],
        # Channel-wise between orders that differ: its input is its output, and is added to it.
        [trained(0, 6), trained(1, 6, 6, reorder=2), trained(2, 6, 6, residual=1)],
        # Pooling between groups of two kinds; of the image itself.
        [trained(0, 24), trained(1, 24, 4), pooled(2, 24, 3, 2), trained(3, 24, 3)],
        [pooled(0, 12, 3, 2), trained(1, 12, 4), trained(2, 12, 3)],
        # Groups of two kinds read the image.
        [trained(0, 12, 4), trained(0, 12, 3, activation=None), trained(1, 12, residual=2), trained(3, 12, 6)],
    ],
)
def test_layers_that_read_one_value_in_several_orders(isa, layers, threads, maps):
    """They convert what they read, and the gradient on the way back."""
    compare(layers, (12 if layers[0].groups > 1 or layers[0].kind == lib.MAX_POOL else 3, 14, 9), 2, threads, maps=maps)


@pytest.mark.parametrize("primary,members", [(24, 2), (4, 8), (16, 4), (100, 2), (1, 16)])
def test_published_shapes(isa, primary, members):
    width = primary * members
    compare(
        [
            trained(0, width),
            *igc_block(1, primary, members),
            *igc_block(3, primary, 2 * members, stride=2),
            *igc_block(5, primary, 2 * members),
        ],
        (3, 16, 12),
        4,
        2,
    )


@pytest.mark.parametrize("primary,members,doubled", [(4, 8, 1), (16, 4, 1), (20, 2, 2), (100, 2, 2)])
def test_resnet_for_imagenet(isa, primary, members, doubled):
    """Stem, pooling, a block whose projection keeps the size, one that halves it. `doubled`: of L."""
    width, stem = primary * members, primary * members // doubled
    more, most = (primary * doubled, members * 2 // doubled), 2 * width
    compare(
        [
            trained(0, stem, kernel=7, stride=2),
            pooled(1, stem, 3, 2),
            trained(2, width, primary, kernel=1, activation=None),
            *igc_block(2, primary, members, at=3),
            *igc_block(5, primary, members, residual=3),
            *igc_block(7, primary, members),
            *igc_block(9, primary, members, residual=7),
            trained(11, most, more[0], kernel=1, stride=2, activation=None),
            *igc_block(11, *more, at=12, stride=2),
            *igc_block(14, *more, residual=12),
        ],
        (3, 43, 34),
        2,
        2,
    )


def test_kept_results_and_batches_after_larger_ones(isa):
    """The memory of a net serves any batch up to the largest; the same call gives the same bits."""
    layers = averaged([trained(0, 32), *igc_block(1, 4, 8), *igc_block(3, 4, 16, stride=2), *igc_block(5, 4, 16)])
    rng = np.random.default_rng(0)
    body, fresh = Body(layers, (3, 9, 8)), Body(layers, (3, 9, 8))
    parameters = random_parameters(rng, body.shapes)
    for batch in (5, 2, 7):
        x, dy = (rng.standard_normal(s).astype("float32") for s in ((batch, 3, 9, 8), (batch, 64)))
        results = []
        for net in (body, fresh if batch == 5 else Body(layers, (3, 9, 8))):
            y = net.forward(x, parameters, threads=2)
            results.append([y, *net.backward(dy, threads=2)[0]])
        for a, b in zip(*results):
            np.testing.assert_array_equal(a, b)


INNER = trained(1, 8, 4, activation=None, normalized=False)


@pytest.mark.parametrize(
    "layers,text",
    [
        ([], "1 to 65536 ops"),
        ([trained(1, 8)], "result of an earlier op"),
        ([trained(-1, 8)], "result of an earlier op"),
        ([trained(0, 0)], "channels must be"),
        ([trained(0, 8, 2)], "groups must divide"),
        ([trained(0, 8, 0)], "groups must divide"),
        ([trained(0, 8, permute=3)], "permute and reorder must"),
        ([trained(0, 8, reorder=-1)], "permute and reorder must"),
        ([trained(0, 8)._replace(pad=(0, 1))], "padded by half"),
        ([trained(0, 8), lib.Op(lib.MEAN_POOL, 0, 3)], "mean of the op before"),
        ([trained(0, 8), lib.Op(lib.MEAN_POOL, 1, 8), trained(1, 8)], "no kernel for its kind"),
        ([trained(0, 8), INNER], "last convolution must be normalized"),
        ([trained(0, 8), INNER, trained(2, 8)], "must be followed by a 1x1"),
        ([trained(0, 8), INNER, trained(2, 8, kernel=1, stride=2)], "must be followed by a 1x1"),
        ([trained(0, 8), INNER, trained(1, 8, kernel=1)], "must be followed by a 1x1"),
        ([trained(0, 8), INNER, trained(2, 8, kernel=1, residual=2)], "not normalized"),
        ([trained(0, 8), INNER, trained(2, 8, kernel=1), trained(2, 8)], "not normalized"),
        ([trained(0, 8), INNER, trained(2, 8, kernel=1), trained(3, 8, residual=2)], "not normalized"),
        ([trained(0, 8), INNER._replace(activation="relu"), trained(2, 8, kernel=1)], "what is not has no sum"),
        ([trained(0, 8, kernel=2)], "kernel must be odd and square"),
        ([trained(0, 8, stride=3)], "stride must be"),
        ([trained(0, 8, epsilon=0)], "a positive epsilon"),
        ([trained(0, 8, momentum=float("nan"))], "a positive epsilon"),
        ([trained(0, 8)._replace(kind=6)], "unknown kind"),
        ([trained(0, 8)._replace(kind=lib.BLOCK)], "no kernel for its kind"),
        ([trained(0, 8), pooled(1, 9, 3, 2)], "only convolutions change"),
        ([trained(0, 8), pooled(1, 8, 2, 2)], "kernel must be odd and square"),
        ([trained(0, 8), INNER, pooled(2, 8, 1, 1)], "must be followed by a 1x1"),
        ([trained(0, 8), trained(1, 8), trained(2, 8, residual=1, activation="relu6")], "sum with a ReLU6"),
        ([trained(0, 3, residual=0)], "its residual must be"),
        ([trained(0, 8), trained(1, 16), trained(2, 16, residual=1)], "another shape"),
        ([trained(0, 8), trained(0, 8)], "nothing uses"),
        ([trained(0, 8), trained(0, 8, activation=None), trained(1, 8)], "nothing uses"),
        ([trained(0, 8), trained(0, 8), trained(1, 8, residual=2)], "nothing convolves its residual"),
        ([trained(0, 12), trained(1, 12, 4), trained(2, 12), trained(3, 12, 3, residual=2)], "no order of channels"),
    ],
)
def test_layers_that_make_no_network(layers, text):
    with pytest.raises(UserError, match=text) as error:
        Body(layers, (3, 6, 6))
    assert "\n" not in str(error.value)


def test_calls_that_do_not_fit():
    body = Body(averaged([trained(0, 8)]), (3, 6, 6))
    parameters = random_parameters(np.random.default_rng(0), body.shapes)
    library = lib.load()
    with pytest.raises(UserError, match="the network takes"):
        body.forward(np.zeros((2, 3, 6, 5)), parameters)
    with pytest.raises(UserError, match="must have the shapes"):
        body.forward(np.zeros((2, 3, 6, 6)), parameters[:-1])
    with pytest.raises(UserError, match="batch must be"):
        body.forward(np.zeros((0, 3, 6, 6)), parameters)
    with pytest.raises(UserError, match="threads must be"):
        body.forward(np.zeros((2, 3, 6, 6)), parameters, threads=-1)
    body._x = np.zeros((2, 3, 6, 6), np.float32)
    with pytest.raises(UserError, match="without a forward pass"):
        body.backward(np.zeros((2, 8)))
    assert library.igc_train_create(None, 1, 3, 4, 4, None) == 1
    assert library.igc_train_forward(None, None, 1, None, None, None, 1) == 1
    assert library.igc_train_backward(None, None, None, None, None, 1) == 1
    with pytest.raises(UserError, match="the input needs"):
        Body([trained(0, 8)], (3, 0, 6))


def test_inference_at_many_sizes_packs_once_and_levels_off():
    layers = averaged([trained(0, 64), *igc_block(1, 16, 4), trained(3, 512, kernel=1), trained(4, 2048, kernel=1)])
    rng = np.random.default_rng(0)
    body = Body(layers, (3, 8, 8))
    parameters = random_parameters(rng, body.shapes)
    running = [np.full(l.channels, 0.1 * k + 0.5, "float32") for l in layers if l.normalized for k in range(2)]
    held = []
    for size in ((8, 8), (5, 6), (9, 4), (8, 8)):
        x = rng.standard_normal((2, 3, *size)).astype("float32")
        np.testing.assert_array_equal(
            body.infer(x, parameters, running), Body(layers, (3, *size)).infer(x, parameters, running)
        )
        held.append(body.bytes)
    weights = sum(p.nbytes for p in parameters)
    assert held[0] > 2 * weights and held[-1] - held[0] < weights / 2
    large, small = np.zeros((1, 3, 16, 20), "float32"), np.zeros((1, 3, 1, 1), "float32")
    for width in range(10, 20):  # 1.6 to 3.3 MB each
        body.infer(large[..., :width], parameters, running)
    assert 5e6 < body.bytes - held[0] < 8 * 2**20 + 5e6
    parameters[0] *= 2  # which frees what was packed
    body.infer(small, parameters, running)
    assert body.bytes < held[0]
    body.infer(large, parameters, running)
    with pytest.raises(UserError, match="input needs"):
        body.infer(np.zeros((1, 3, 0, 4)), parameters, running)
    with pytest.raises(UserError, match="the network takes"):
        body.infer(np.zeros((1, 4, 8, 8)), parameters, running)


@pytest.mark.long
def test_more_weights_than_floats_can_number():
    """2^24 + 2^13 in one convolution; of their gradients the first and the last rows are compared."""
    rng = np.random.default_rng(0)
    channels, outputs, batch = 4096, 4098, 16
    body = Body(averaged([trained(0, outputs, kernel=1, activation=None)]), (channels, 1, 1))
    w = rng.standard_normal((outputs, channels), dtype="float32") / 64
    x = rng.standard_normal((batch, channels)).astype("float32")
    gamma, beta = np.ones(outputs, "float32"), np.zeros(outputs, "float32")
    y = body.forward(x.reshape(batch, channels, 1, 1), [w.reshape(outputs, channels, 1, 1), gamma, beta])
    u = x.astype("float64") @ w.T
    inverse = 1 / np.sqrt(u.var(0) + 2e-5)
    normal = (u - u.mean(0)) * inverse
    np.testing.assert_allclose(y, normal, atol=1e-4)
    dy = rng.standard_normal((batch, outputs)).astype("float32")
    du = (dy - dy.mean(0) - normal * (dy * normal).mean(0)) * inverse
    (dw, *_), dx = body.backward(dy, data=True)
    for rows in (slice(0, 4), slice(-4, None)):
        np.testing.assert_allclose(dw[rows, :, 0, 0], du[:, rows].T @ x, atol=1e-3)
    np.testing.assert_allclose(dx[:, :, 0, 0], du @ w, atol=1e-3)
