"""What a compiled network takes, gives and refuses."""

import copy
import ctypes
import logging
import multiprocessing
import pickle
import re
import threading
from concurrent.futures import ProcessPoolExecutor

import mxnet as mx
import numpy as np
import pytest
from deploy_networks import assert_close, images, small, stock
from mxnet.base import _LIB, check_call

from igc_gluon import deploy, native
from igc_gluon.data import DATASETS, Batches
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
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
        result = compiled(module.array(x))
        assert type(result) is kind and result.context == mx.cpu()
        np.testing.assert_array_equal(result.asnumpy(), y)
    np.testing.assert_array_equal(compiled(np.asfortranarray(x)), y)
    np.testing.assert_array_equal(compiled(np.repeat(x, 2, axis=0)[::2]), y)
    unaligned = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(np.float32).reshape(x.shape)
    np.testing.assert_array_equal(compiled(unaligned), y)


def test_ndarrays_are_read_and_written_where_they_lie(compiled, monkeypatch):
    def address(array):
        pointer = ctypes.c_void_p()
        check_call(_LIB.MXNDArrayGetData(array.handle, ctypes.byref(pointer)))
        return pointer.value

    run, addresses = compiled._model.run, []

    def recorded(x, y, threads):
        addresses.extend([x.ctypes.data, y.ctypes.data])
        return run(x, y, threads)

    monkeypatch.setattr(compiled._model, "run", recorded)
    x = mx.nd.array(images(SHAPE, 2))
    result = compiled(x)
    assert addresses == [address(x), address(result)]


def test_what_it_knows(compiled, net):
    assert (compiled.input_shape, compiled.output_shape) == (SHAPE, (10,))
    assert compiled.native and compiled.multiply_adds > 0 and compiled.preprocessing == Preprocessing((16, 16))
    assert "(3, 16, 16) -> (10,)" in repr(compiled)


TAKES = "takes float32 \\(N, 3, 16, 16\\), normalized"


@pytest.mark.parametrize(
    "x,error,message",
    [
        (np.zeros((1, 3, 16, 15), np.float32), UserError, TAKES),
        (np.zeros((1, 1, 16, 16), np.float32), UserError, TAKES),
        (np.zeros((1, 4, 16, 16), np.float32), UserError, TAKES),
        (np.zeros((3, 16, 16), np.float32), UserError, TAKES),
        (np.zeros((1, 1, 3, 16, 16), np.float32), UserError, TAKES),
        (np.zeros((), np.float32), UserError, TAKES),
        (np.zeros((1, 16, 16, 3), np.float32), UserError, "channels come first: x.transpose"),
        (np.zeros((1, 3, 16, 16)), UserError, "not float64 .* if they are normalized, x.astype"),
        (np.zeros((1, 3, 16, 16), np.uint8), UserError, "not uint8"),
        (np.zeros((1, 3, 16, 16), int), UserError, "not int64"),
        (np.zeros((1, 3, 16, 16), object), UserError, "not object"),
        ([[1.0]], TypeError, "not a list"),
        (None, TypeError, "not a NoneType"),
        ("x", TypeError, "not a str"),
        (mx.nd.zeros((1, 3, 16, 15)), UserError, TAKES),
        (mx.nd.zeros((1, 3, 16, 16), dtype="float64"), UserError, "not float64"),
        (mx.nd.zeros((4, 3)).tostype("row_sparse"), UserError, "dense"),
    ],
)
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


def test_normalized_as_in_training(net):
    cifar = DATASETS["cifar10"]
    compiled = deploy.compile(net, SHAPE, mean=cifar.mean, std=cifar.std, class_names=[f"class {i}" for i in range(10)])
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    expected, _ = next(Batches(pixels, np.zeros(5), 5, cifar.mean, cifar.std, train=False).epoch(0))
    np.testing.assert_allclose(compiled.normalize(pixels), expected, atol=1e-6)
    np.testing.assert_array_equal(compiled.normalize(mx.nd.array(pixels, dtype="uint8")), compiled.normalize(pixels))
    assert compiled.preprocessing.class_names[3] == "class 3"
    np.testing.assert_allclose(compiled.preprocessing.std, cifar.std, rtol=1e-6)
    for bad in (pixels[0], pixels.astype(np.float32), pixels[:, 1:], "pixels"):
        with pytest.raises(UserError, match="uint8"):
            compiled.normalize(bad)
    with pytest.raises(UserError, match="compiled without the mean and std"):
        deploy.compile(net, SHAPE).normalize(pixels)


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 3, 1, 2)])
@pytest.mark.parametrize("kind", [np.asarray, lambda x: mx.nd.array(x, dtype="uint8")], ids=["numpy", "NDArray"])
def test_who_does_what_the_message_about_pixels_says_gets_the_right_scores(net, layout, kind):
    """Of astype('float32') alone, which was advised once, come other classes."""
    mean, std = (125.307, 122.95, 113.865), (62.993, 62.089, 66.705)
    compiled = deploy.compile(net, SHAPE, mean=mean, std=std)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    x = kind(pixels.transpose(layout))
    with pytest.raises(UserError, match="mean 125.307, 122.95, 113.865, std 62.993, 62.089, 66.705") as error:
        compiled(x)
    advised = re.search(r"net\.preprocessing\.normalize\(.*\)(?= makes)", str(error.value)).group()
    expected = stock(net, ((pixels - np.array(mean)) / np.array(std)).transpose(0, 3, 1, 2).astype(np.float32))
    assert_close(compiled(eval(advised, {"net": compiled, "x": x})), expected)


def test_copies_and_pickles(net, compiled, monkeypatch):
    x = images(SHAPE, 2)
    named = deploy.compile(net, SHAPE, threads=1, mean=1, std=2, class_names=list("abcdefghij"))
    for duplicate in (copy.copy(named), copy.deepcopy(named), pickle.loads(pickle.dumps(named))):
        np.testing.assert_array_equal(duplicate(x), named(x))
        assert (duplicate.threads, duplicate.preprocessing, duplicate.native) == (1, named.preprocessing, True)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(named, x).result(), named(x))
    monkeypatch.setenv("IGC_NATIVE", "0")
    on_mxnet = deploy.compile(net, SHAPE)
    for duplicate in (copy.deepcopy(on_mxnet), pickle.loads(pickle.dumps(on_mxnet))):
        np.testing.assert_array_equal(duplicate(x), on_mxnet(x))
        assert not duplicate.native


@pytest.mark.parametrize(
    "options",
    [
        {"mean": (1, 2)},
        {"std": (1, 0, 1)},
        {"mean": (1, 2, float("nan"))},
        {"class_names": ["one"]},
        {"class_names": ["a\0"] * 10},
        {"classes": 10},
        {"mean": (1, 2, 3)},
        {"mean": (1, 2), "std": (1, 2)},
        {"mean": 1, "std": 1e-60},
        {"class_names": [1] * 10},
        {"threads": -1},
    ],
)
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
    with pytest.raises(UserError, match="takes float32"):
        compiled(x[:, :2])
    pixels = np.full((1, 16, 16, 3), 12, np.uint8)
    np.testing.assert_allclose(compiled.normalize(pixels), np.ones((1, *SHAPE)))
    compiled.save(tmp_path / "net.igc")
    with pytest.raises(UserError, match="IGC_NATIVE=0"):
        deploy.load(tmp_path / "net.igc")
    monkeypatch.delenv("IGC_NATIVE")
    assert_close(deploy.load(tmp_path / "net.igc")(x), stock(net, x))
