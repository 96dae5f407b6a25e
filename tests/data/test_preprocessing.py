"""What a network expects of an image: against MXNet's own operators and equations, and through every form of it."""

import json
from dataclasses import replace

import cv2
import mxnet as mx
import numpy as np
import pytest

from igc_gluon.data import DATASETS, Batches, recordio
from igc_gluon.data.photos import read_photo
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.record_batches import RecordEvaluation
from igc_gluon.errors import UserError

MEAN, STD = (123.37, 112.757, 99.406), (68.998, 66.093, 68.292)
ALL = Preprocessing((48, 40), 60, MEAN, STD, "bilinear", "BGR", ("ant", "bee"), border=3, fill=9)


def photograph(height, width):
    from sklearn.datasets import load_sample_images

    return np.ascontiguousarray(load_sample_images().images[0][:height, :width])


@pytest.mark.parametrize("height, width", [(240, 320), (320, 240), (240, 240), (30, 40)])
@pytest.mark.parametrize("crop, short_side", [((33, 33), 33), ((32, 32), 39), ((48, 40), 60)])
def test_pixels_are_those_of_mxnets_operators(height, width, crop, short_side):
    """resize_short by method 9 (area to shrink, cubic to enlarge) and center_crop."""
    image = photograph(height, width)
    resized = mx.image.resize_short(mx.nd.array(image, dtype="uint8"), short_side, interp=9)
    expected = mx.image.center_crop(resized, crop[::-1])[0].asnumpy()
    pixels = Preprocessing(crop, short_side).pixels(image)
    # MXNet has an OpenCV of its own, whose cubic splines round otherwise.
    assert np.abs(pixels.astype(int) - expected).max() <= (short_side > min(height, width))


@pytest.mark.parametrize("name, interp", [("bilinear", 1), ("bicubic", 2), ("nearest", 0)])
def test_interpolations(name, interp):
    image = photograph(240, 320)
    expected = mx.image.imresize(mx.nd.array(image, dtype="uint8"), 80, 60, interp=interp).asnumpy()[:, 10:70]
    pixels = Preprocessing((60, 60), 60, interpolation=name).pixels(image)
    assert np.abs(pixels.astype(int) - expected).max() <= 1


def test_order_of_colors_and_normalization():
    image = photograph(60, 80)
    rgb, bgr = (Preprocessing((60, 60), 60, (1, 20, 30), (4, 5, 6), color_order=order) for order in ("RGB", "BGR"))
    middle = image[:, 10:70].astype(np.float64)
    for expected, pixels in ((rgb, middle), (bgr, middle[..., ::-1])):
        np.testing.assert_allclose(
            expected.prepare(image)[0], ((pixels - (1, 20, 30)) / (4, 5, 6)).transpose(2, 0, 1), atol=1e-5
        )


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_sets_network_sees_what_it_was_tested_on(name):
    """The same bits as the batches of evaluation, of an image as it is in the data set's files, and as `load` returns
    it."""
    info = DATASETS[name]
    border = 2 if name in ("mnist", "fashion-mnist", "kmnist") else 0  # black, around 28x28 pixels
    side = info.size - 2 * border
    files = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)
    images = np.pad(files, ((0, 0), (border, border), (border, border), (0, 0)))
    tested, _ = next(Batches(images, np.zeros(3), 3, info.mean, info.std, train=False).epoch(0))
    for file, image, expected in zip(files, images, tested):
        np.testing.assert_array_equal(info.preprocessing.prepare(file)[0], expected)
        np.testing.assert_array_equal(info.preprocessing.prepare(image)[0], expected)


@pytest.mark.parametrize("height, width", [(240, 320), (28, 40), (32, 32), (20, 20)])
def test_a_photograph_of_another_size_gets_the_border_too(height, width):
    """Its middle as at 28x28 without a border, which is then around it on all sides."""
    image = photograph(height, width)
    for fill in (0, 200):
        pixels = Preprocessing((32, 32), border=2, fill=fill).pixels(image)
        middle = Preprocessing((28, 28)).pixels(image)
        np.testing.assert_array_equal(pixels, np.pad(middle, ((2, 2), (2, 2), (0, 0)), constant_values=fill))
        np.testing.assert_array_equal(Preprocessing((32, 32), border=2, fill=fill).pixels(pixels), pixels)
    expected = Preprocessing((48, 40), 68, border=4, fill=1).pixels(image)
    middle = Preprocessing((40, 32), 60).pixels(image)
    np.testing.assert_array_equal(expected, np.pad(middle, ((4, 4), (4, 4), (0, 0)), constant_values=1))


def test_evaluation_of_records_sees_the_same(tmp_path):
    image = photograph(120, 160)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    payload = recordio.encode(1, 0, (tmp_path / "a.png").read_bytes())
    (tmp_path / "a.rec").write_bytes(recordio.frame(payload))
    (tmp_path / "a.idx").write_text("0\t0\n")
    for expected in (ALL, Preprocessing((64, 64), 73, MEAN, STD)):
        ((data, label),) = RecordEvaluation(tmp_path / "a.rec", 1, expected).epoch(0)
        np.testing.assert_array_equal(data, expected.prepare(read_photo(tmp_path / "a.png")))
        assert label.tolist() == [1]


def test_it_survives_every_form():
    for expected in (ALL, Preprocessing((32, 32)), DATASETS["tiny-imagenet"].preprocessing):
        assert Preprocessing.from_json(expected.to_json()) == expected
        config = json.loads(json.dumps(expected.as_config()))
        assert Preprocessing.from_config(config, Preprocessing((7, 7), 9, (5,) * 3, (5,) * 3, "nearest")) == expected


def test_configurations_of_older_runs():
    """Which said less, or nothing."""
    cifar = DATASETS["cifar10"].preprocessing
    assert Preprocessing.from_config({"model": "x"}, cifar) == cifar
    old = {"image_shape": [3, 64, 64], "mean": [1, 2, 3], "std": [4, 5, 6], "short_side": 73, "class_names": None}
    assert Preprocessing.from_config(old, cifar) == Preprocessing((64, 64), 73, (1, 2, 3), (4, 5, 6))
    del old["short_side"]
    assert Preprocessing.from_config(old, cifar).short_side == 64
    # It said no border, but was trained with the one of its data set.
    mnist = DATASETS["mnist"].preprocessing
    old = {key: value for key, value in mnist.as_config().items() if key not in ("border", "fill")}
    assert old["short_side"] == 32 and Preprocessing.from_config(old, mnist) == mnist
    for entries in ({}, {"image_shape": [3, 32, 32]}):
        assert Preprocessing.from_config(entries, mnist) == mnist


@pytest.mark.parametrize("crop, usual", [((32, 32), 32), ((64, 64), 64), ((224, 224), 256), ((128, 64), 146)])
def test_the_usual_short_side(crop, usual):
    assert Preprocessing(crop).short_side == usual


def test_another_size_sees_the_same_share():
    assert Preprocessing((224, 224)).with_crop((112, 112)).short_side == 128
    assert Preprocessing((64, 64), 73).with_crop((128, 96)) == Preprocessing((128, 96), 146)
    mnist = Preprocessing((32, 32), border=2, fill=3)
    for side, border in ((64, 4), (16, 1), (40, 2), (7, 0), (1, 0)):
        assert mnist.with_crop((side, side)) == Preprocessing((side, side), border=border, fill=3)
    assert mnist.with_crop((64, 3)) == Preprocessing((64, 3), border=1, fill=3)


@pytest.mark.parametrize(
    "change, text",
    [
        ({"crop": (32,)}, "a height and a width"),
        ({"crop": (0, 32)}, "a height and a width"),
        ({"crop": (32.5, 32)}, "a height and a width"),
        ({"short_side": 47}, "from 48 on"),
        ({"short_side": "60"}, "from 48 on"),
        ({"mean": None}, "go together"),
        ({"std": (1, 0, 1)}, "above 0"),
        ({"mean": (1, 2)}, "for every channel"),
        ({"mean": (1, 2, float("nan"))}, "finite"),
        ({"mean": 5}, "finite"),
        ({"interpolation": "lanczos"}, "area, bilinear"),
        ({"interpolation": []}, "area, bilinear"),
        ({"color_order": "GBR"}, "RGB or BGR"),
        ({"class_names": ()}, "names of classes"),
        ({"class_names": (1, 2)}, "names of classes"),
        ({"border": -1}, "leaves some"),
        ({"border": 20}, "leaves some"),
        ({"border": 2.0}, "leaves some"),
        ({"fill": 256}, "from 0 to 255"),
        ({"fill": -1}, "from 0 to 255"),
        ({"fill": 1.5}, "from 0 to 255"),
    ],
)
def test_what_makes_no_sense_is_one_line(change, text):
    with pytest.raises(UserError, match=text) as error:
        replace(ALL, **change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "config",
    [
        {"image_shape": 5},
        {"image_shape": [3]},
        {"image_shape": [4, 32, 32]},
        {"class_names": 3},
        {"image_shape": [3, 32, 32], "mean": [1]},
    ],
)
def test_damaged_configurations(config):
    with pytest.raises(UserError):
        Preprocessing.from_config(config, ALL)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"crop": [3, 3], "more": 1}', '{"crop": "ab"}', "[" * 100000])
def test_texts_that_are_none(text):
    with pytest.raises(UserError):
        Preprocessing.from_json(text)


def test_images_that_are_none():
    for image in (
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3)),
        np.zeros((0, 8, 3), np.uint8),
    ):
        with pytest.raises(UserError, match="an image is uint8"):
            ALL.pixels(image)
    with pytest.raises(UserError, match="too long to be resized"):
        ALL.pixels(np.zeros((1, 1000000, 3), np.uint8))
    with pytest.raises(UserError, match="nothing says how"):
        Preprocessing((8, 8)).normalize(np.zeros((1, 8, 8, 3), np.uint8))
