"""igc predict: photographs through pretrained names, runs, .params files and .igc files."""

import csv
import fcntl
import io
import json
import os
import re
import subprocess
import sys
import termios
import threading
import time
from dataclasses import replace
from pathlib import Path

import authors_graphs
import cv2
import mxnet as mx
import numpy as np
import pytest
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

import igc_gluon
from igc_gluon import deploy, files, native, params_file
from igc_gluon.cli import main
from igc_gluon.data import DATASETS, load
from igc_gluon.data.photos import central_crop, read_photo
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment
from igc_gluon.engine.inputs import ArrayInput
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.engine.schedule import Schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_model, published

sys.path.insert(0, str(Path(__file__).parent.parent / "data"))

import make_archives  # noqa: E402

MODEL = "cifar_plain_igc5_l2m3"
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The two photographs that scikit-learn ships, 640x427."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for name, image in zip(("china.jpg", "flower.png"), load_sample_images().images):
        paths.append(str(folder / name))
        cv2.imwrite(paths[-1], image[:, :, ::-1])
    return paths


def predict(capsys, *arguments, code=0):
    assert main(["predict", *map(str, arguments)]) == code
    return capsys.readouterr()


def rows(text):
    """{photo: [(class, percent)]}"""
    rows_of, photo = {}, None
    for line in text.splitlines():
        match = re.match(r"  +([\d.]+) %  (.+)", line)
        if match:
            rows_of[photo].append((match.group(2), float(match.group(1))))
        else:
            photo = line
            rows_of[photo] = []
    return rows_of


def expected_rows(net, path, mean, std, short_side, crop, names, top=5):
    """The rows by OpenCV and MXNet's own operators."""
    image = cv2.imread(path)[:, :, ::-1]
    height, width = image.shape[:2]
    factor = short_side / min(height, width)
    image = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    high, wide = crop if isinstance(crop, tuple) else (crop, crop)
    top_, left = (image.shape[0] - high) // 2, (image.shape[1] - wide) // 2
    image = (image[top_ : top_ + high, left : left + wide].astype(np.float32) - mean) / std
    scores = mx.nd.softmax(net(mx.nd.array(image.transpose(2, 0, 1)[None]))).asnumpy()[0]
    return [(names[i], round(100 * float(scores[i]), 2)) for i in np.argsort(-scores)[:top]]


def same(actual, expected):
    assert [name for name, _ in actual] == [name for name, _ in expected]
    np.testing.assert_allclose([p for _, p in actual], [p for _, p in expected], atol=0.011)


def test_a_pretrained_name(photos, tmp_path, capsys, monkeypatch):
    name = "igcv3_1.0"
    path = tmp_path / published.PUBLISHED[name].file
    path.write_bytes(params_file.dumps(authors_graphs.random_arrays(authors_graphs.published(name), seed=3)))
    monkeypatch.setitem(
        published.PUBLISHED, name, replace(published.PUBLISHED[name], git_blob=files.digest(path, "git-blob"))
    )
    monkeypatch.setenv("MXNET_GLUON_REPO", str(tmp_path))
    monkeypatch.delenv("MXNET_HOME", raising=False)
    printed = rows(predict(capsys, name, *photos).out)
    net = igc_gluon.get_model(name, pretrained=path)
    assert list(printed) == photos
    for photo in photos:
        same(printed[photo], expected_rows(net, photo, (123.68, 116.779, 103.939), 1.0, 256, 224, net.classes))
    if native.available():
        deploy.compile(net).save(tmp_path / "net.igc")
        compiled = rows(predict(capsys, tmp_path / "net.igc", *photos).out)
        for photo in photos:
            same(compiled[photo], printed[photo])


@pytest.fixture
def network():
    net = igc_gluon.get_model(MODEL)
    mx.random.seed(1)
    net.initialize()
    return net


def test_a_run(photos, network, tmp_path, capsys):
    folder = tmp_path / "runs" / "seed0"
    arrays = {name: p.data().asnumpy() for name, p in network.collect_params().items()}
    CheckpointStore(folder / "checkpoints").save(1, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    config = Experiment(find_model(MODEL), "cifar10", Schedule(0.1, 2, 0.1, (1,))).as_config()
    (folder / "config.json").write_text(json.dumps(config))
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    mean, std = (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)
    same(
        rows(predict(capsys, folder, photos[0]).out)[photos[0]],
        expected_rows(network, photos[0], mean, std, 32, 32, names),
    )
    # What a newer run says itself wins.
    names = [f"kind {i}" for i in range(10)]
    config.update(classes=10, mean=[1, 2, 3], std=[4, 5, 6], image_shape=[3, 48, 48], short_side=60, class_names=names)
    (folder / "config.json").write_text(json.dumps(config))
    same(
        rows(predict(capsys, folder, photos[1], "--top", 2).out)[photos[1]],
        expected_rows(network, photos[1], (1, 2, 3), (4, 5, 6), 60, 48, names, top=2),
    )
    for key, value in (
        ("classes", "ten"),
        ("class_names", ["a"]),
        ("mean", [1, 2]),
        ("image_shape", ["x"] * 3),
        ("short_side", 47),
    ):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        assert "config.json is damaged" in predict(capsys, folder, photos[0], code=2).err
    assert (
        "no weights of igcv3_1.0 trained on cifar10"
        in predict(capsys, "igcv3_1.0", photos[0], "--dataset", "cifar10", code=2).err
    )


def write_run(folder, net, dataset, **config):
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    CheckpointStore(folder / "checkpoints").save(1, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    experiment = Experiment(find_model(MODEL), dataset, Schedule(0.1, 2, 0.1, (1,))).as_config()
    (folder / "config.json").write_text(json.dumps({**experiment, **config}))


RECORDS = {"classes": 10, "mean": [120, 110, 100], "std": [50, 60, 70], "class_names": [f"kind {i}" for i in range(10)]}
# Data set, what the configuration says beside it; short side and crop that follow from it.
RUNS = {
    "a data set": ("cifar10", {}, 32, 32),
    "records as they are trained on": ("imagenet", {**RECORDS, "image_shape": [3, 64, 64], "short_side": 73}, 73, 64),
    "a long short side": ("imagenet", {**RECORDS, "image_shape": [3, 32, 32], "short_side": 80}, 80, 32),
    "not square": ("imagenet", {**RECORDS, "image_shape": [3, 48, 40], "short_side": 60}, 60, (48, 40)),
}


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
@pytest.mark.parametrize("name", RUNS)
def test_a_run_and_its_igc_file_see_the_same(name, photos, network, tmp_path, capsys):
    """`igc predict RUN`, `igc predict RUN.igc` and Python: pixels, scores and what is printed, for any short side."""
    dataset, config, short_side, crop = RUNS[name]
    write_run(tmp_path / "run", network, dataset, **config)
    assert main(["compile", str(tmp_path / "run"), str(tmp_path / "run.igc")]) == 0
    capsys.readouterr()
    run, compiled = open_network(tmp_path / "run"), deploy.load(tmp_path / "run.igc")
    by_run, by_file = (rows(predict(capsys, tmp_path / file, *photos).out) for file in ("run", "run.igc"))
    info = DATASETS.get(dataset)
    mean, std = (np.array(config.get(key, info and getattr(info, key))) for key in ("mean", "std"))
    for photo in photos:
        names = config.get("class_names") or info.class_names or [f"class {i}" for i in range(10)]
        expected = expected_rows(network, photo, mean, std, short_side, crop, names)
        same(by_run[photo], expected)
        same(by_file[photo], expected)
        image = read_photo(photo)
        pixels = run.preprocessing.pixels(image)
        np.testing.assert_array_equal(compiled.preprocessing.pixels(image), pixels)
        x = run.preprocessing.prepare(image)
        np.testing.assert_allclose(compiled.preprocessing.prepare(image), x, atol=1e-5)
        np.testing.assert_allclose(compiled(x), run(mx.nd.array(x)).asnumpy(), atol=1e-4)


def drawn_data_set(name, folder):
    """Test images and labels of `name`, from a few drawn ones in official files in `folder`."""
    if name in ("mnist", "fashion-mnist", "kmnist"):
        make_archives.idx_folder(folder)
    elif name == "cifar10":
        make_archives.tar(folder / "cifar-10-binary.tar.gz", make_archives.cifar10_members()[0])
    elif name == "cifar100":
        images, labels = make_archives.random_images(10, 100)
        make_archives.tar(
            folder / "cifar-100-binary.tar.gz",
            {"cifar-100-binary/test.bin": make_archives.cifar_bin(images, labels, labels % 20)},
        )
    elif name == "svhn":
        images, labels = make_archives.random_images(10, 10)
        make_archives.svhn_mat(folder / "test_32x32.mat", images, labels + 1)
    elif name == "tiny-imagenet":
        make_archives.zip_file(folder / "tiny-imagenet-200.zip", make_archives.tiny_imagenet_members(val=10)[0])
    return load(name, "test", folder)


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
@pytest.mark.parametrize("name", DATASETS)
def test_every_way_of_asking_sees_the_pixels_that_training_tests_on(name, tmp_path, capsys):
    """Python, `igc predict RUN`, `igc predict RUN.igc` and `igc eval RUN` of images as they are in the data set's
    files."""
    data, test = ArrayInput(name, data_dir=tmp_path), drawn_data_set(name, tmp_path)
    data._train = data._test = test  # not prepare(): training images are not drawn
    batch, labels = next(data.batches(1, seed=0)[1].epoch(0))
    mx.random.seed(4)
    net = igc_gluon.get_model(MODEL, classes=data.classes)
    net.initialize()
    scores = net(mx.nd.array(batch)).asnumpy().astype(np.float64)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    write_run(tmp_path / "run", net, name)
    assert main(["compile", str(tmp_path / "run"), str(tmp_path / "run.igc")]) == 0
    run, compiled = open_network(tmp_path / "run"), deploy.load(tmp_path / "run.igc")
    side = 28 if "mnist" in name else test.images.shape[1]
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path, image, expected in zip(paths, test.images, batch):
        around = (len(image) - side) // 2
        cv2.imwrite(path, image[around : around + side, around : around + side, ::-1])
        np.testing.assert_array_equal(run.preprocessing.prepare(read_photo(path))[0], expected)
        np.testing.assert_allclose(compiled.preprocessing.prepare(read_photo(path))[0], expected, atol=1e-5)
    capsys.readouterr()
    names = DATASETS[name].class_names or [f"class {number}" for number in range(data.classes)]
    for network in ("run", "run.igc"):
        printed = rows(predict(capsys, tmp_path / network, *paths, "--top", 1).out)
        for path, row in zip(paths, probabilities):
            same(printed[path], [(names[row.argmax()], 100 * row.max())])
    assert main(["eval", str(tmp_path / "run"), "--data-dir", str(tmp_path)]) == 0
    of_labels = probabilities[np.arange(len(labels)), labels.astype(int)]
    loss = float(re.search("cross-entropy +(.*)", capsys.readouterr().out)[1])
    assert loss == pytest.approx(-np.log(of_labels).mean(), abs=1e-3)


def test_an_igc_file_needs_no_mxnet(photos, network, tmp_path, capsys):
    if not native.available():
        pytest.skip(str(native.unavailable_reason()))
    deploy.compile(network, mean=(100, 110, 120), std=50).save(tmp_path / "net.igc")
    program = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("mxnet", "gluoncv"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["igc", "predict", {str(tmp_path / "net.igc")!r}, {photos[0]!r}]
import igc_command
sys.exit(igc_command.main())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout) == rows(predict(capsys, tmp_path / "net.igc", photos[0]).out)


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_an_igc_file_without_mean_and_std_is_not_asked(photos, network, tmp_path, capsys):
    deploy.compile(network).save(tmp_path / "net.igc")
    assert "compile it again with --mean and --std" in predict(capsys, tmp_path / "net.igc", photos[0], code=2).err


def test_a_params_file(photos, network, tmp_path, capsys):
    path = tmp_path / "net.params"
    network.save_parameters(str(path))
    names, mean, std = [f"class {i}" for i in range(10)], (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    arguments = (path, photos[0], "--model", MODEL)
    output = predict(capsys, *arguments, "--mean", "100,110,120", "--std", "50,60,70").out
    same(rows(output)[photos[0]], expected_rows(network, photos[0], mean, std, 32, 32, names))
    digits = rows(predict(capsys, *arguments, "--dataset", "digits").out)[photos[0]]
    assert {name for name, _ in digits} <= set("0123456789")
    for more, text in (
        ((), "give --dataset or --mean and --std"),
        (("--mean", "1,2,3"), "go together"),
        (("--mean", "1", "--std", "2"), "three numbers"),
        (("--dataset", "cifar11"), "no data set"),
        (("--dataset", "cifar10", "--option", "x"), "NAME=VALUE"),
        (("--dataset", "cifar10", "--option", "downsample=code"), "resnet_igc only"),
        (("--dataset", "cifar10", "--top", 0), "--top must be at least 1"),
    ):
        try:
            error = predict(capsys, *arguments, *more, code=2).err
        except SystemExit:  # argparse's own
            error = capsys.readouterr().err
        assert text in error and len(error.splitlines()) == 1, error


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_an_igc_file(photos, network, tmp_path, capsys):
    names, mean, std = [f"kind {i}" for i in range(10)], (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    deploy.compile(network, mean=mean, std=std, class_names=names).save(tmp_path / "net.igc")
    same(
        rows(predict(capsys, tmp_path / "net.igc", photos[0]).out)[photos[0]],
        expected_rows(network, photos[0], mean, std, 32, 32, names),
    )
    assert "is compiled" in predict(capsys, tmp_path / "net.igc", photos[0], "--mean", "1,2,3", code=2).err


def test_bad_photos_are_a_line_each_and_the_others_go_on(photos, network, tmp_path, capsys):
    network.save_parameters(str(tmp_path / "net.params"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    cv2.imwrite(str(tmp_path / "strip.png"), np.zeros((1, 1000000, 3), np.uint8))
    whole = Path(photos[0]).read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder").mkdir()
    bad = [tmp_path / name for name in ("folder", "none.jpg", "strip.png", "half.jpg", "empty.jpg", "text.jpg")]
    done = predict(capsys, tmp_path / "net.params", *bad, photos[0], "--model", MODEL, "--dataset", "cifar10", code=2)
    assert len(done.err.splitlines()) == len(bad) and list(rows(done.out)) == [photos[0]]
    assert "No such file" in done.err and "directory" in done.err and "not an image" in done.err


def test_a_network_that_diverged(photos, network, tmp_path, capsys):
    network.output.bias.set_data(mx.nd.full((10,), np.nan))
    network.save_parameters(str(tmp_path / "net.params"))
    error = predict(capsys, tmp_path / "net.params", photos[0], "--model", MODEL, "--dataset", "cifar10", code=2).err
    assert "not finite" in error


def test_odd_files(photos, network, tmp_path, capsys):
    """A line each; the pipe must not be waited for."""
    network.save_parameters(str(tmp_path / "net.params"))
    os.mkfifo(tmp_path / "pipe.jpg")
    cv2.imwrite(str(tmp_path / "float.tif"), np.random.default_rng(0).random((8, 8, 3)).astype(np.float32))
    bad = [tmp_path / "pipe.jpg", tmp_path / "float.tif", "/dev/zero"]
    done = predict(capsys, tmp_path / "net.params", *bad, photos[0], "--model", MODEL, "--dataset", "cifar10", code=2)
    assert len(done.err.splitlines()) == len(bad) and list(rows(done.out)) == [photos[0]]
    assert "no regular file" in done.err and "float32" in done.err
    error = predict(capsys, tmp_path / "pipe.jpg", photos[0], "--model", MODEL, "--dataset", "cifar10", code=2).err
    assert "neither a folder nor a regular file" in error


def test_pixels_of_odd_images(tmp_path):
    """Against Pillow, or by the definition where it has no such mode."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (48, 32)))
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.fromarray(rng.integers(0, 256, (32, 48), dtype=np.uint8)))
    saved = {
        "gray.png": image.convert("L"),
        "gray.jpg": image.convert("L"),
        "two.png": image.convert("1"),
        "palette.png": image.convert("P"),
        "gray_alpha.png": image.convert("LA"),
        "rgba.png": transparent,
        "cmyk.jpg": image.convert("CMYK"),
        "cmyk.tif": image.convert("CMYK"),
    }
    for name, kind in saved.items():
        kind.save(tmp_path / name)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        for ending, more in (("jpg", {}), ("png", {}), ("tif", {}), ("webp", {"lossless": True})):
            saved[f"{orientation}.{ending}"] = image
            image.save(tmp_path / f"{orientation}.{ending}", exif=exif, **more)
    for name in saved:
        expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB"))
        pixels = read_photo(tmp_path / name)
        assert pixels.shape == expected.shape and np.abs(pixels.astype(int) - expected).max() <= 1, name
    deep = rng.integers(0, 1 << 16, (32, 48, 4), dtype=np.uint16)
    for channels in (1, 3, 4):
        cv2.imwrite(str(tmp_path / "deep.png"), deep[..., :channels])
        expected = np.repeat(deep[..., :1], 3, 2) if channels == 1 else deep[..., 2::-1]
        np.testing.assert_array_equal(read_photo(tmp_path / "deep.png"), expected >> 8)


@pytest.mark.parametrize("height, width", [(427, 640), (640, 427), (256, 256), (100, 37), (1, 500)])
def test_central_crop(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert central_crop(image, 64, 64, 56).shape == (64, 56, 3)
    if height == width == 256:
        np.testing.assert_array_equal(central_crop(image, 256, 224, 224), image[16:240, 16:240])


def test_photos_are_rgb_and_upright(tmp_path):
    image = np.zeros((8, 16, 3), np.uint8)
    image[:, :8] = (255, 0, 0)
    cv2.imwrite(str(tmp_path / "a.png"), image[:, :, ::-1])
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png"), image)
    cv2.imwrite(str(tmp_path / "gray.png"), image[:, :, 0])
    assert read_photo(tmp_path / "gray.png").shape == (8, 16, 3)
    with pytest.raises(UserError, match="cannot read"):
        read_photo(tmp_path / "none.png")


def close_when_read(pipe):
    """Not before: what is in a pipe that nobody has open is gone. Nor later than in a minute."""
    end = time.monotonic() + 60
    while fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4) and time.monotonic() < end:
        time.sleep(0.01)
    os.close(pipe)


def test_folders_lists_and_standard_input(photos, network, tmp_path, capsys, monkeypatch):
    """The same images however they are named, whatever the batch, in the order named."""
    network.save_parameters(str(tmp_path / "net.params"))
    weights = [tmp_path / "net.params", "--model", MODEL, "--dataset", "cifar10"]
    folder = Path(photos[0]).parent
    expected = rows(predict(capsys, *weights, *photos).out)
    assert rows(predict(capsys, *weights, folder, "--batch-size", 1).out) == expected
    (tmp_path / "names.txt").write_text(f"{photos[1]}\r\n\n{photos[0]}\n")
    listed = rows(predict(capsys, *weights, f"@{tmp_path / 'names.txt'}").out)
    assert listed == expected and list(listed) == photos[::-1]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(photos)))
    assert rows(predict(capsys, *weights, "-").out) == expected
    os.mkfifo(tmp_path / "pipe")  # as `@<(find ...)` of a shell gives one
    handle = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(handle, (tmp_path / "names.txt").read_bytes())
    closing = threading.Thread(target=close_when_read, args=(handle,))
    closing.start()
    assert rows(predict(capsys, *weights, f"@{tmp_path / 'pipe'}").out) == listed
    closing.join()
    (tmp_path / "empty").mkdir()
    (tmp_path / "nul.txt").write_text("a\0b.png\n")
    for arguments, text in (
        ([tmp_path / "empty"], "it is a folder without images"),
        (["@none"], "cannot read @none"),
        ([f"@{tmp_path / 'nul.txt'}"], "no file has such a name"),
        (["@/dev/zero"], "no list of names"),
        ([f"@{tmp_path / 'pipe'}"], "nobody writes into the pipe"),
        ([folder, "--batch-size", 0], "--batch-size"),
    ):
        error = predict(capsys, *weights, *arguments, code=2).err
        assert text in error and error.count("\n") == 1


def test_csv_and_json_lines(photos, network, tmp_path, capsys):
    """They hold what the text says, and errors in their place; nothing else on standard output."""
    network.save_parameters(str(tmp_path / "net.params"))
    weights = [tmp_path / "net.params", "--model", MODEL, "--dataset", "cifar10"]
    expected = rows(predict(capsys, *weights, *photos, "--top", 2).out)
    named = [photos[0], tmp_path / "none.jpg", photos[1]]
    done = predict(capsys, *weights, *named, "--top", 2, "--csv", tmp_path / "o.csv", "--jsonl", "-", code=2)
    assert done.err.count("error: ") == 1 and "none.jpg" in done.err
    lines = [json.loads(line) for line in done.out.splitlines()]
    with open(tmp_path / "o.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == [row["image"] for row in table] == [str(path) for path in named]
    assert "none.jpg" in lines[1]["error"] and "none.jpg" in table[1]["error"] and table[1]["class_1"] == ""
    for line, row in ((lines[0], table[0]), (lines[2], table[2])):
        same([(entry["name"], 100 * entry["probability"]) for entry in line["classes"]], expected[line["image"]])
        same([(row[f"class_{n}"], 100 * float(row[f"probability_{n}"])) for n in (1, 2)], expected[line["image"]])
        assert row["error"] == ""
