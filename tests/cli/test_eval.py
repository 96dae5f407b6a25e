"""igc eval: what it says of a network and a file that do not belong together, and of .params files.

Accuracies themselves: tests/test_train_imagenet.py."""
import sys
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon.cli import main
from igc_gluon.data import DATASETS, pack, records

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
    framed = [records.frame(records.encode(number % 3, number, cv2.imencode(".png", image[..., ::-1])[1].tobytes()))
              for number, image in enumerate(images)]
    (tmp_path / "val.rec").write_bytes(b"".join(framed))
    starts = np.cumsum([0] + [len(record) for record in framed[:-1]])
    (tmp_path / "val.idx").write_text("".join(f"{number}\t{at}\n" for number, at in enumerate(starts)))
    pack.write_classes(tmp_path / "classes.txt", ["ant", "bee", "cow"])
    return tmp_path / "val.rec", images


def evaluated(capsys, tmp_path, *arguments, code=0):
    flags = ["eval", tmp_path / "net.params", "--data", tmp_path / "val.rec", "--model", MODEL, *arguments]
    assert main([str(flag) for flag in flags]) == code
    out, err = capsys.readouterr()
    assert code == 0 or (out == "" and [line.startswith("error: ") for line in err.splitlines()
                                        if "images/s" not in line] == [True]), err
    return out if code == 0 else err


def test_mean_and_std_of_a_params_file(network, file, tmp_path, capsys):
    mean, std = np.array([100.0, 110.0, 120.0]), np.array([50.0, 60.0, 70.0])
    scores = network(mx.nd.array(((file[1] - mean) / std).transpose(0, 3, 1, 2))).asnumpy().astype(np.float64)
    expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(12), np.arange(12) % 3])
    out = evaluated(capsys, tmp_path, "--classes", 3, "--mean", "100,110,120", "--std", "50,60,70")
    assert f"cross-entropy  {expected:.4f}" in out
    assert f"top-1          {100 * np.mean(scores.argmax(axis=1) == np.arange(12) % 3):.2f} %" in out


@pytest.mark.parametrize("flags, text", [
    ([], "give --dataset or --mean and --std"), (["--mean", "1,2,3"], "go together"),
    (["--mean", "nan,2,3", "--std", "1,1,1"], "go together"), (["--mean", "1,2,3", "--std", "1,0,1"], "above 0")])
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
    flags = ["eval", str(tmp_path / "net.params"), "--data", str(tmp_path / "val.rec"), "--model", MODEL, "--dataset",
             "cifar10"]
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
    grey, labels = make_archives.idx_folder(tmp_path)["t10k"]
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    info = DATASETS["mnist"]
    pixels = np.pad(grey.astype(np.float64), ((0, 0), (2, 2), (2, 2)))
    scores = net(mx.nd.array(np.stack([(pixels - info.mean[0]) / info.std[0]] * 3, 1))).asnumpy().astype(np.float64)
    expected = np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(20), labels])
    flags = ["eval", tmp_path / "net.params", "--model", MODEL, "--dataset", "mnist", "--data-dir", tmp_path]
    for data in ([], ["--data", "MNIST"]):
        assert main([str(flag) for flag in [*flags, *data]]) == 0
        out = capsys.readouterr().out
        assert "on the test images of mnist: 20 images" in out and f"cross-entropy  {expected:.4f}" in out
        assert f"top-1          {100 * np.mean(scores.argmax(axis=1) == labels):.2f} %" in out


@pytest.mark.parametrize("flags, text", [
    (["--data", "cifar100"], "cifar100 has 100 classes"), (["--data", "tiny-imagenet"], "takes images of 32x32 pixels"),
    (["--data", "nothing.rec"], "there is no file nothing.rec"), (["--data", "x.rec", "--data-dir", "y"], "whole path"),
    ([], "give --data")])
def test_data_that_does_not_fit(tmp_path, capsys, flags, text):
    net = igc_gluon.get_model(MODEL)
    net.initialize()
    net.save_parameters(str(tmp_path / "net.params"))
    known = ["--mean", "0,0,0", "--std", "1,1,1"]
    assert main(["eval", str(tmp_path / "net.params"), "--model", MODEL, *known, *flags]) == 2
    out, err = capsys.readouterr()
    assert out == "" and text in err and err.count("\n") == 1
