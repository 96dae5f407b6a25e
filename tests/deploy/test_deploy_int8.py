"""Compiled networks on 8-bit integers: calibration, files, machines without, what is refused."""

import logging
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from deploy_networks import images, small

from igc_gluon import data, deploy, native
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.deploy import calibration, file
from igc_gluon.errors import UserError
from igc_gluon.native import library
from igc_gluon.native.library import CONV, Op

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
SHAPE = (3, 16, 16)
HAS = native.available() and library.has("int8")


@pytest.fixture(scope="module")
def net():
    return small("cifar_resnet_igc10_l4m3", 16)


@pytest.mark.parametrize(
    "name,size",
    [
        ("cifar_plain8_w16", 16),
        ("cifar_plain_igc8_l24m2", 16),
        ("cifar_plain_igc8_l4m8", 16),
        ("cifar_resnet8_w16", 16),
        ("cifar_resnet_igc10_l24m2", 16),
        ("cifar_sumfusion8_l2m8", 16),
        ("cifar_gpc5_l2m8", 16),
        ("cifar_igcv2_8_c16", 16),
        ("cifar_igcv3_d0.5", 16),
        ("igcv3_0.7", 32),
    ],
)
def test_families_stay_near_float32(name, size):
    shape = (3, size, size)
    network = small(name, size)
    x = images(shape, 8, 3)
    exact = deploy.compile(network, shape)(x)
    compiled = deploy.compile(network, shape, calibration=images(shape, 64, 4))
    scores = compiled(x)
    assert not HAS or compiled.reduced_layers > 0
    # Random networks on random images; measured 0.03 and 0.04.
    assert np.abs(scores - exact).max() < 0.1 * np.abs(exact).max()
    assert np.sqrt(np.square(scores - exact).mean()) < 0.08 * exact.std()
    for threads in (1, 2):
        np.testing.assert_array_equal(compiled(x, threads=threads), scores)


def test_the_file_runs_in_float32_where_there_are_no_kernels_for_bytes(net, tmp_path, caplog):
    x = images(SHAPE, 3)
    compiled, exact = deploy.compile(net, SHAPE, calibration=images(SHAPE, 16, 5)), deploy.compile(net, SHAPE)
    for written, precision in ((compiled, "int8"), (exact, "float32")):
        written.save(tmp_path / "net.igc")
        assert deploy.load(tmp_path / "net.igc").precision == written.precision == precision
        np.testing.assert_array_equal(deploy.load(tmp_path / "net.igc")(x), written(x))
    compiled.save(tmp_path / "net.igc")
    for isa in ("avx2", "portable"):
        try:
            library.use_isa(isa)
        except UserError:
            continue
        try:
            if library.has("int8"):  # avx2 on a processor with AVX-VNNI
                continue
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                loaded = deploy.load(tmp_path / "net.igc")
            assert loaded.reduced_layers == 0 and f"the kernels in use, {isa}, have none" in caplog.text
            assert caplog.text.count("\n") == 1
            np.testing.assert_array_equal(loaded(x), deploy.compile(net, SHAPE)(x))
        finally:
            library.use_isa()


@pytest.mark.skipif(not HAS, reason="needs AVX-512 with VNNI")
def test_what_it_says(net, caplog):
    compiled = deploy.compile(net, SHAPE, calibration=images(SHAPE, 16))
    assert f"{compiled.reduced_layers} layers in int8" in repr(compiled)
    tiny = [Op(CONV, 0, 4, weight=np.ones((4, 3, 1, 1), np.float32))]  # three inputs: not worth it
    with caplog.at_level(logging.WARNING):
        ranges = calibration.ranges(tiny, SHAPE, images(SHAPE, 8))
        assert deploy.Compiled(file.dumps(tiny, SHAPE, False, ranges=ranges)).reduced_layers == 0
    assert "no layer gains by it" in caplog.text


def test_kinds_of_images(net, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    facts = {"mean": (120, 121, 122.5), "std": (60, 61, 62)}
    x = images(SHAPE, 2)
    plain = deploy.compile(net, SHAPE, **facts)
    floats = plain.normalize(pixels)
    expected = deploy.compile(net, SHAPE, calibration=floats, **facts)(x)
    np.save(tmp_path / "pixels.npy", pixels)
    for source in (pixels, mx.nd.array(floats), str(tmp_path / "pixels.npy"), tmp_path / "pixels.npy"):
        np.testing.assert_allclose(deploy.compile(net, SHAPE, calibration=source, **facts)(x), expected, atol=0.1)


def test_a_data_set_by_name(monkeypatch):
    digits = data.load("digits", "train").images
    images = calibration.images_of("digits", Preprocessing((32, 32)), (3, 32, 32))
    assert images.shape == (calibration.ENOUGH, 3, 32, 32) and images.dtype == np.float32
    mean, std = (np.array(v, np.float32) for v in (data.DATASETS["digits"].mean, data.DATASETS["digits"].std))
    np.testing.assert_allclose(images[-1].transpose(1, 2, 0), (digits[-1] - mean) / std, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(data, "load", lambda *_: SimpleNamespace(images=pixels))
    pixels = np.random.default_rng(0).integers(0, 256, (300, 32, 32, 3), np.uint8)
    expected = Preprocessing((32, 32), 40, (1, 2, 3), (4, 5, 6), color_order="BGR")
    images = calibration.images_of("cifar10", expected, (3, 32, 32))
    for number in (0, 255):
        np.testing.assert_array_equal(images[number], expected.prepare(pixels[299 * number // 255])[0])


@pytest.mark.parametrize(
    "source,message",
    [
        (True, "only a run on a data set"),
        ("digits", "pixels for calibration are"),
        ("nothing", "data set"),
        ("none.npy", "cannot read images"),
        (__file__ + ".npy", "cannot read images"),
        (np.zeros((9, 16, 16, 3), np.uint8), "mean and std"),
        (np.zeros((9, 3, 16, 16)), "float32"),
        (np.zeros((9, 3, 16, 15), np.float32), "float32"),
        (np.zeros((7, 3, 16, 16), np.float32), "at least 8"),
        (np.zeros(3, np.float32), "float32"),
        (np.full((9, 3, 16, 16), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_calibration(net, source, message):
    with pytest.raises(UserError, match=message):
        deploy.compile(net, SHAPE, calibration=source)


def test_ranges_are_what_the_network_takes(net):
    """Of a block by itself: the image, the result, and the values between its convolutions."""
    rng = np.random.default_rng(0)
    weight, weight2 = (rng.standard_normal(s).astype(np.float32) for s in ((6, 2, 3, 3), (6, 3)))
    op = Op(library.BLOCK, 0, 6, 3, (3, 3), 1, (1, 1), "relu", weight=weight, weight2=weight2)
    x = rng.standard_normal((20, 6, 5, 5)).astype(np.float32)
    y = library.Net([op], (6, 5, 5))(x)
    middle = library.Net([Op(CONV, 0, 6, 3, (3, 3), 1, (1, 1), weight=weight)], (6, 5, 5))(x)
    expected = [x.min(), x.max(), 0, y.max(), *np.abs(middle).max((0, 2, 3))]
    np.testing.assert_allclose(calibration.ranges([op], (6, 5, 5), x), expected, rtol=1e-5)
