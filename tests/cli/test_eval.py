"""igc eval: what it says of a network and a file that do not belong together, and of .params files.

Accuracies themselves: tests/test_train_imagenet.py."""

import json
import os
import re
import sys
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon.cli import main
from igc_gluon.data import DATASETS, pack, recordio
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.model_zoo.attributes import set_attributes
from igc_gluon.model_zoo.authors import save_parameters

sys.path.insert(0, str(Path(__file__).parent.parent / "data"))

import make_archives  # noqa: E402

MODEL = "cifar_plain_igc5_l2m3"


@pytest.fixture
def network(tmp_path):
    """A .params file of a network of three classes."""
    net = igc_gluon.get_model(MODEL, classes=3)
    mx.random.seed(1)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    return net


@pytest.fixture
def file(tmp_path):
    """12 images of labels 0 to 2, and the names of the classes."""
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    framed = [
        recordio.frame(recordio.encode(number % 3, number, cv2.imencode(".png", image[..., ::-1])[1].tobytes()))
        for number, image in enumerate(images)
    ]
    (tmp_path / "val.rec").write_bytes(b"".join(framed))
    starts = np.cumsum([0] + [len(record) for record in framed[:-1]])
    (tmp_path / "val.idx").write_text("".join(f"{number}\t{at}\n" for number, at in enumerate(starts)))
    pack.write_classes(tmp_path / "classes.txt", ["ant", "bee", "cow"])
    return tmp_path / "val.rec", images


def evaluated(capsys, tmp_path, *arguments, code=0):
    flags = ["eval", tmp_path / "net.params", "--data", tmp_path / "val.rec", "--model", MODEL, *arguments]
    assert main([str(flag) for flag in flags]) == code
    out, err = capsys.readouterr()
    assert code == 0 or (
        out == "" and [line.startswith("error: ") for line in err.splitlines() if "images/s" not in line] == [True]
    ), err
    return out if code == 0 else err


def test_mean_and_std_of_a_params_file(network, file, tmp_path, capsys):
    mean, std = np.array([100.0, 110.0, 120.0]), np.array([50.0, 60.0, 70.0])
    scores = network(mx.nd.array(((file[1] - mean) / std).transpose(0, 3, 1, 2))).asnumpy().astype(np.float64)
    expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(12), np.arange(12) % 3])
    out = evaluated(capsys, tmp_path, "--classes", 3, "--mean", "100,110,120", "--std", "50,60,70")
    assert f"cross-entropy  {expected:.4f}" in out
    assert f"top-1          {100 * np.mean(scores.argmax(axis=1) == np.arange(12) % 3):.2f} %" in out


@pytest.mark.parametrize(
    "flags, text",
    [
        ([], "give --dataset or --mean and --std"),
        (["--mean", "1,2,3"], "go together"),
        (["--mean", "nan,2,3", "--std", "1,1,1"], "go together"),
        (["--mean", "1,2,3", "--std", "1,0,1"], "above 0"),
    ],
)
def test_mistakes_about_mean_and_std(network, file, tmp_path, capsys, flags, text):
    assert text in evaluated(capsys, tmp_path, "--classes", 3, *flags, code=2)


def test_classes_that_are_others(network, file, tmp_path, capsys):
    pack.write_classes(tmp_path / "classes.txt", ["ant", "bee"])
    known = ["--mean", "0,0,0", "--std", "1,1,1"]
    error = evaluated(capsys, tmp_path, "--classes", 3, *known, code=2)
    assert f"classes.txt has 2 classes, {MODEL} 3" in error
    (tmp_path / "classes.txt").unlink()
    evaluated(capsys, tmp_path, "--classes", 3, *known)
    two = igc_gluon.get_model(MODEL, classes=2)
    two.initialize()
    two.save_parameters(str(tmp_path / "net.params"))
    error = evaluated(capsys, tmp_path, "--classes", 2, *known, code=2)
    assert "labels up to 2, too many for 2 classes; it is not of the data" in error and "--num-classes" not in error


def test_classes_of_other_names(file, tmp_path, capsys):
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    flags = [
        "eval",
        str(tmp_path / "net.params"),
        "--data",
        str(tmp_path / "val.rec"),
        "--model",
        MODEL,
        "--dataset",
        "cifar10",
    ]
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    pack.write_classes(tmp_path / "classes.txt", names)
    assert main(flags) == 0
    capsys.readouterr()
    pack.write_classes(tmp_path / "classes.txt", names[:8] + ["truck", "ship"])
    assert main(flags) == 2
    error = capsys.readouterr().err
    assert f"class 8 is 'truck' in {tmp_path / 'classes.txt'} and 'ship' in {MODEL}" in error
    assert [line.startswith("error: ") for line in error.splitlines()] == [True]


def test_the_test_images_of_a_data_set(tmp_path, capsys):
    """Accuracy and cross-entropy of the network over the images as they are in the files."""
    gray, labels = make_archives.idx_folder(tmp_path)["t10k"]
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    info = DATASETS["mnist"]
    pixels = np.pad(gray.astype(np.float64), ((0, 0), (2, 2), (2, 2)))
    scores = net(mx.nd.array(np.stack([(pixels - info.mean[0]) / info.std[0]] * 3, 1))).asnumpy().astype(np.float64)
    expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(20), labels])
    flags = ["eval", tmp_path / "net.params", "--model", MODEL, "--dataset", "mnist", "--data-dir", tmp_path]
    for data in ([], ["--data", "MNIST"]):
        assert main([str(flag) for flag in [*flags, *data]]) == 0
        out = capsys.readouterr().out
        assert "on the test images of mnist: 20 images" in out and f"cross-entropy  {expected:.4f}" in out
        assert f"top-1          {100 * np.mean(scores.argmax(axis=1) == labels):.2f} %" in out


def test_a_folder_of_photographs_is_as_its_record_file(network, file, tmp_path, capsys):
    """The same images in folders by class, in the file's order, and what is written of them."""
    for label, name in enumerate(["ant", "bee", "cow"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(label, 12, 3):
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number:02}.png"), file[1][number][..., ::-1])
    (tmp_path / "photos" / "notes.txt").write_text("")
    known = ["--classes", "3", "--mean", "100,110,120", "--std", "50,60,70", "--model", MODEL]
    outs, summaries = [], []
    for data in (tmp_path / "val.rec", tmp_path / "photos"):
        written = [flag for kind in ("json", "csv") for flag in (f"--{kind}", tmp_path / f"out.{kind}")]
        flags = ["eval", tmp_path / "net.params", "--data", data, *known, *written, "--confusion", tmp_path / "out.png"]
        assert main([str(flag) for flag in flags]) == 0
        outs.append(capsys.readouterr().out)
        summaries.append(json.loads((tmp_path / "out.json").read_text()))
    first, second = summaries
    for key in ("top1", "cross_entropy", "confusion", "calibration_error"):
        np.testing.assert_allclose(first[key], second[key], rtol=1e-6)
    assert re.search(r"photos.(ant|bee|cow).\d\d.png$", second["surest_mistakes"][0]["image"])
    pixels = (file[1] - np.array([100.0, 110.0, 120.0])) / np.array([50.0, 60.0, 70.0])
    predicted = network(mx.nd.array(pixels.transpose(0, 3, 1, 2))).asnumpy().argmax(axis=1)
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (np.arange(12) % 3, predicted), 1)
    np.testing.assert_array_equal(second["confusion"], expected)
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[0] == "class,name,images,recall,precision,f1"
    assert rows[2].startswith(f"1,bee,4,{expected[1, 1] / 4:.6f},")
    bee = re.search(r"^bee +4 +(\d+\.\d\d) ", outs[1], re.MULTILINE)
    assert float(bee[1]) == 100 * expected[1, 1] / 4 and "top-5" not in outs[1]
    picture = cv2.imread(str(tmp_path / "out.png"))
    assert picture is not None and picture.std() > 20


def test_a_folder_with_a_class_that_the_network_has_not(network, file, tmp_path, capsys):
    for name in ("ant", "bee"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    flags = ["--classes", 3, "--mean", "0,0,0", "--std", "1,1,1", "--data", tmp_path / "photos"]
    assert "has 2 folders" in evaluated(capsys, tmp_path, *flags, code=2)


def test_a_photograph_that_cannot_be_prepared_is_named(network, tmp_path, capsys):
    """A strip that would become a huge image."""
    for name in "abc":
        (tmp_path / "photos" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "photos" / name / "1.png"), np.zeros((1, 200000 if name == "b" else 9, 3), np.uint8))
    flags = ["--data", tmp_path / "photos", "--dataset", "cifar10", "--classes", "3"]
    error = evaluated(capsys, tmp_path, *flags, code=2)
    assert f"{tmp_path / 'photos' / 'b' / '1.png'}: an image of 200000x1 pixels is too long" in error


def test_what_lies_beside_a_params_file_is_read_as_any_file(network, tmp_path, capsys):
    """Not without bounds, and what is wrong with it is said of it."""
    beside = tmp_path / "net.params.json"
    for write, text in (
        (lambda: beside.write_text("[" * 100000), "no description"),
        (lambda: beside.write_bytes(b"\xff"), "is no text"),
        (lambda: os.truncate(beside, 1 << 40), "too long for a text"),
    ):
        write()
        error = evaluated(capsys, tmp_path, code=2)
        assert f"{beside}" in error and text in error
    classes = tmp_path / "classes.txt"
    classes.touch()
    os.truncate(classes, 1 << 40)
    assert main(["compile", str(tmp_path / "net.params"), "x.igc", "--class-names", str(classes)]) == 2
    assert f"cannot read {classes}: it is too long for a text" in capsys.readouterr().err


def test_beside_a_pipe_no_file_is_made(network, tmp_path):
    """Or a device: /dev/null.json would stay there."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    set_attributes(network, MODEL, Preprocessing((32, 32), mean=(1, 2, 3), std=(4, 5, 6)))
    save_parameters(network, tmp_path / "pipe")
    os.close(reader)
    assert not (tmp_path / "pipe.json").exists()
    save_parameters(network, tmp_path / "file")
    assert (tmp_path / "file.json").exists()


def test_images_of_a_data_set_are_prepared_as_the_network_expects(tmp_path, capsys):
    """As `igc predict` does: of a network that wants blue first and a larger image's middle."""
    members, _, (images, labels) = make_archives.cifar10_members()
    make_archives.tar(tmp_path / "cifar-10-binary.tar.gz", members)
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    expected = Preprocessing((32, 32), 40, (1, 20, 30), (40, 50, 60), color_order="BGR")
    save_parameters(set_attributes(net, MODEL, expected), tmp_path / "net.params")
    seen = np.stack([cv2.resize(image, (40, 40), interpolation=cv2.INTER_CUBIC)[4:36, 4:36, ::-1] for image in images])
    scores = net(mx.nd.array(((seen - np.array((1, 20, 30))) / (40, 50, 60)).transpose(0, 3, 1, 2))).asnumpy()
    assert (
        main(["eval", str(tmp_path / "net.params"), "--model", MODEL, "--data", "cifar10", "--data-dir", str(tmp_path)])
        == 0
    )
    loss = np.mean(np.log(np.exp(scores.astype(np.float64)).sum(axis=1)) - scores[np.arange(10), labels])
    assert f"cross-entropy  {loss:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, text",
    [
        (["--data", "cifar100"], "cifar100 has 100 classes"),
        (["--data", "tiny-imagenet"], "takes images of 32x32 pixels"),
        (["--data", "nothing.rec"], "there is no file nothing.rec"),
        (["--data", "x.rec", "--data-dir", "y"], "whole path"),
        ([], "give --data"),
    ],
)
def test_data_that_does_not_fit(tmp_path, capsys, flags, text):
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    known = ["--mean", "0,0,0", "--std", "1,1,1"]
    assert main(["eval", str(tmp_path / "net.params"), "--model", MODEL, *known, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and text in err and err.count("\n") == 1
