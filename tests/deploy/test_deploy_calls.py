"""What a compiled network takes, gives and refuses."""
import logging
import threading

import mxnet as mx
import numpy as np
import pytest
from deploy_networks import assert_close, images, small, stock

from igc_gluon import deploy, native
from igc_gluon.data import DATASETS, Batches
from igc_gluon.errors import UserError

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))
SHAPE = (3, 16, 16)


@pytest.fixture(scope="module")
def net():
    return small("cifar_resnet_igc10_l2m3", 16)


@pytest.fixture(scope="module")
def compiled(net):
    return deploy.compile(net, SHAPE)


def test_it_gives_the_kind_that_it_takes(compiled):
    x = images(SHAPE, 2)
    y = compiled(x)
    for kind, module in ((mx.nd.NDArray, mx.nd), (mx.np.ndarray, mx.np)):
        got = compiled(module.array(x))
        assert type(got) is kind and got.context == mx.cpu()
        np.testing.assert_array_equal(got.asnumpy(), y)
    np.testing.assert_array_equal(compiled(np.asfortranarray(x)), y)
    np.testing.assert_array_equal(compiled(np.repeat(x, 2, axis=0)[::2]), y)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    np.testing.assert_array_equal(compiled(unaligned), y)


def test_what_it_knows(compiled, net):
    assert (compiled.input_shape, compiled.output_shape, compiled.class_names) == (SHAPE, (10,), None)
    assert compiled.native and compiled.multiply_adds > 0 and compiled.mean == (0, 0, 0) and compiled.std == (1, 1, 1)
    assert "(3, 16, 16) -> (10,)" in repr(compiled)


@pytest.mark.parametrize("x,error,message", [
    (np.zeros((1, 3, 16, 15), np.float32), UserError, "takes images"),
    (np.zeros((3, 16, 16), np.float32), UserError, "takes images"),
    (np.zeros((1, 1, 3, 16, 16), np.float32), UserError, "takes images"),
    (np.zeros((), np.float32), UserError, "takes images"),
    (np.zeros((1, 3, 16, 16)), UserError, "float32, not float64"),
    (np.zeros((1, 3, 16, 16), np.uint8), UserError, "float32, not uint8"),
    (np.zeros((1, 3, 16, 16), object), UserError, "float32, not object"),
    ([[1.0]], TypeError, "not a list"), (None, TypeError, "not a NoneType"), ("x", TypeError, "not a str"),
    (mx.nd.zeros((1, 3, 16, 15)), UserError, "takes images"),
    (mx.nd.zeros((1, 3, 16, 16), dtype="float64"), UserError, "float32, not float64"),
    (mx.nd.zeros((4, 3)).tostype("row_sparse"), UserError, "dense"),
])
def test_bad_images(compiled, x, error, message):
    with pytest.raises(error, match=message):
        compiled(x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite(compiled, value):
    x = images(SHAPE, 3)
    x[2, 1, 5, 5] = value
    with pytest.raises(UserError, match="image 2 of the batch is not finite"):
        compiled(x)
    x[2, 1, 5, 5] = 3e38
    x[2, 1, 5, 6] = 3e38  # finite, but not its sum
    compiled(x)


@pytest.mark.parametrize("threads", [-1, 1025, 1.5, "2", True])
def test_bad_threads(compiled, threads):
    with pytest.raises(UserError, match="threads must be"):
        compiled(images(SHAPE, 1), threads=threads)
    with pytest.raises(UserError, match="threads must be"):
        deploy.Compiled(compiled._data, threads)


def test_many_callers_at_once(compiled):
    batches = [images(SHAPE, count, seed=count) for count in range(1, 7)]
    expected, wrong = [compiled(x, threads=1) for x in batches], []

    def call(number):
        for i in range(20):
            which = (number + i) % len(batches)
            if not np.array_equal(compiled(batches[which], threads=1 + i % 2), expected[which]):
                wrong.append((number, i))

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_later_training_does_not_change_it():
    net = small("cifar_plain8_w4", 16)
    compiled = deploy.compile(net, SHAPE)
    x = images(SHAPE, 1)
    before = compiled(x)
    for parameter in net.collect_params().values():
        parameter.set_data(parameter.data() * 2)
    np.testing.assert_array_equal(compiled(x), before)


def test_normalised_as_in_training(net):
    cifar = DATASETS["cifar10"]
    compiled = deploy.compile(net, SHAPE, mean=cifar.mean, std=cifar.std, class_names=[f"class {i}" for i in range(10)])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    expected, _ = next(Batches(pixels, np.zeros(5), 5, cifar.mean, cifar.std, train=False).epoch(0))
    np.testing.assert_allclose(compiled.normalise(pixels), expected, atol=1e-6)
    assert compiled.class_names[3] == "class 3"
    np.testing.assert_allclose(compiled.std, cifar.std, rtol=1e-6)
    for bad in (pixels[0], pixels.astype(np.float32), pixels[:, 1:], "pixels"):
        with pytest.raises(UserError, match="uint8"):
            compiled.normalise(bad)


@pytest.mark.parametrize("options", [{"mean": (1, 2)}, {"std": (1, 0, 1)}, {"mean": (1, 2, float("nan"))},
                                     {"class_names": ["one"]}, {"class_names": ["a\0"] * 10}, {"classes": 10},
                                     {"class_names": [1] * 10}, {"threads": -1}])
def test_bad_options(net, options):
    with pytest.raises(UserError):
        deploy.compile(net, SHAPE, **options)


def test_without_the_library_mxnet_runs_it(net, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("IGC_NATIVE", "0")
    with caplog.at_level(logging.WARNING):
        compiled = deploy.compile(net, SHAPE, mean=10, std=(2, 2, 2))
    assert len(caplog.records) == 1 and "IGC_NATIVE=0" in caplog.text and not compiled.native
    x = images(SHAPE, 3)
    assert_close(compiled(x), stock(net, x))
    assert type(compiled(mx.nd.array(x))) is mx.nd.NDArray
    assert compiled(x[:0]).shape == (0, 10) and "MXNet" in repr(compiled)
    with pytest.raises(UserError, match="takes images"):
        compiled(x[:, :2])
    pixels = np.full((1, 16, 16, 3), 12, np.uint8)
    np.testing.assert_allclose(compiled.normalise(pixels), np.ones((1, *SHAPE)))
    compiled.save(tmp_path / "net.igc")
    with pytest.raises(UserError, match="IGC_NATIVE=0"):
        deploy.load(tmp_path / "net.igc")
    monkeypatch.delenv("IGC_NATIVE")
    assert_close(deploy.load(tmp_path / "net.igc")(x), stock(net, x))
