"""The weights that come with the package: whole, small, and as good as their rows say."""

import gzip
import json
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import deploy, files
from igc_gluon.cli import main
from igc_gluon.data import dataset_files, find_dataset, load
from igc_gluon.data.photos import read_photo
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import shipped
from igc_gluon.native import library

ROWS = list(shipped.shipped().values())
OUTPUTS = json.loads(Path(__file__).with_name("shipped_outputs.json").read_text())
NAME, DATASET = "cifar_plain8_w16", "fashion-mnist"
each = pytest.mark.parametrize("row", ROWS, ids=[f"{row.model}-{row.dataset}" for row in ROWS])


@each
def test_file_is_the_one_of_the_row_and_small(row):
    assert files.digest(row.path, "sha256") == row.sha256
    assert row.path.stat().st_size < 1.5e6
    assert row.accuracy == row.seeds[0] and row.data_license and len(row.commit) == 40 and row.dataset in row.command


@each
def test_outputs_are_those_that_mxnets_operators_gave(row):
    net = igc_gluon.get_model(row.model, pretrained=row.dataset)
    info = find_dataset(row.dataset)
    pixels = np.random.RandomState(0).randint(0, 256, (2, info.size, info.size, 3))
    images = ((pixels - np.array(info.mean)) / np.array(info.std)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(
        net(mx.nd.array(images)).asnumpy(), OUTPUTS[f"{row.model}, {row.dataset}"], rtol=1e-4, atol=1e-4
    )
    assert (net.preprocessing, net.dataset) == (info.preprocessing, row.dataset)
    assert net.classes == list(info.class_names)


@each
def test_accuracy_on_the_first_thousand_test_images(row, tmp_path):
    if not (dataset_files.DEBIAN / row.dataset).is_dir():
        pytest.skip(f"needs Debian's package dataset-{row.dataset}")
    net, info = igc_gluon.get_model(row.model, pretrained=row.dataset), find_dataset(row.dataset)
    test = load(row.dataset, "test")
    images = ((test.images[:1000] - np.array(info.mean)) / np.array(info.std)).transpose(0, 3, 1, 2)
    scores = np.concatenate([net(mx.nd.array(images[i : i + 100])).asnumpy() for i in range(0, 1000, 100)])
    correct = int((scores.argmax(axis=1) == test.labels[:1000]).sum())
    # A PNG of the same image, gray and without a border, is prepared so, here and by the .igc file.
    with gzip.open(dataset_files.DEBIAN / row.dataset / "t10k-images-idx3-ubyte.gz") as file:
        gray = np.frombuffer(file.read(16 + 1000 * 784), np.uint8, offset=16).reshape(1000, 28, 28)
    deploy.compile(net).save(tmp_path / "net.igc")
    compiled = deploy.load(tmp_path / "net.igc")
    asked = np.empty((2, *images.shape), np.float32)
    for number, image in enumerate(gray):
        (tmp_path / "image.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
        photo = read_photo(tmp_path / "image.png")
        asked[:, number] = [prepared.preprocessing.prepare(photo)[0] for prepared in (net, compiled)]
    np.testing.assert_allclose(asked, [images, images], atol=1e-5)
    assert int((compiled(asked[1]).argmax(axis=1) == test.labels[:1000]).sum()) == correct
    assert abs(correct - row.correct_of_1000) <= 1  # an image whose two best scores are equal to float accuracy
    # The 1,000 are a sample of the 10,000 that the accuracy is of.
    assert abs(correct / 1000 - row.accuracy / 100) < 4 * np.sqrt(0.1 * 0.9 / 1000)


@pytest.mark.parametrize("precision, most", [("half", 2), ("int8", 5)])
@each
def test_accuracy_in_fewer_bits(row, precision, most):
    """Of a thousand test images at most 0.2 points are lost in half precision, half a point on 8-bit integers."""
    if not (dataset_files.DEBIAN / row.dataset).is_dir():
        pytest.skip(f"needs Debian's package dataset-{row.dataset}")
    reason = library.unavailable_reason(precision)
    if reason:
        pytest.skip(reason)
    net, test = igc_gluon.get_model(row.model, pretrained=row.dataset), load(row.dataset, "test")
    compiled = deploy.compile(net, precision=precision, calibration=row.dataset if precision == "int8" else None)
    assert compiled.reduced_layers > 0
    images, labels = compiled.normalize(test.images[:1000]), test.labels[:1000]
    correct = int((compiled(images).argmax(axis=1) == labels).sum())
    exact = int((deploy.compile(net)(images).argmax(axis=1) == labels).sum())
    print(f"{row.model}: {exact} of 1000 in float32, {correct} in {precision}")
    assert correct >= exact - most


def test_what_does_not_fit_is_said():
    for name, options, message in (
        (NAME, {"pretrained": "cifar10"}, f"no weights of {NAME} trained on cifar10"),
        ("cifar_plain8_w17", {"pretrained": DATASET}, f"but those of .*{NAME}"),
        (NAME, {"pretrained": DATASET, "classes": 5}, "from fashion-mnist are for 10 classes, not 5"),
        (NAME, {"pretrained": DATASET, "stem_strides": 2}, "without stem_strides"),
        (NAME, {"pretrained": True}, "pretrained='fashion-mnist', or --dataset fashion-mnist"),
    ):
        with pytest.raises(UserError, match=message):
            igc_gluon.get_model(name, **options)


def test_damaged_file(monkeypatch, tmp_path):
    row = shipped.shipped()[NAME, DATASET]
    whole = row.path.read_bytes()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    for _ in ("missing", "damaged"):
        with pytest.raises(UserError, match="is missing or damaged; install the package again"):
            igc_gluon.get_model(NAME, pretrained=DATASET)
        row.path.write_bytes(whole[:-1] + b"\1")


def test_other_prefix_and_devices():
    net = igc_gluon.get_model(NAME.upper(), pretrained=DATASET, prefix="mine_", ctx=[mx.cpu(0), mx.cpu(1)])
    assert net.output.bias.list_ctx() == [mx.cpu(0), mx.cpu(1)] and net.output.bias.name.startswith("mine_")


def test_commands_take_them_without_a_network(monkeypatch, tmp_path, capsys):
    """predict, compile and eval agree with the network in Python."""

    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    net = open_network(NAME, dataset=DATASET)
    inside = np.random.default_rng(0).integers(0, 256, (28, 28, 3)).astype(np.uint8)
    image = np.pad(inside, ((2, 2), (2, 2), (0, 0)))
    cv2.imwrite(str(tmp_path / "x.png"), inside[..., ::-1])
    info = find_dataset(DATASET)
    normalized = (image - np.array(info.mean)) / np.array(info.std)
    scores = net(mx.nd.array(normalized.transpose(2, 0, 1)[None])).asnumpy()[0]
    assert main(["predict", NAME, str(tmp_path / "x.png"), "--dataset", DATASET, "--top", "1"]) == 0
    assert capsys.readouterr().out.split()[-1] == net.classes[scores.argmax()].split()[-1]
    assert main(["compile", NAME, str(tmp_path / "x.igc"), "--dataset", DATASET]) == 0
    compiled = deploy.load(str(tmp_path / "x.igc"))
    np.testing.assert_allclose(compiled(compiled.normalize(image[None]))[0], scores, rtol=1e-3, atol=1e-3)
    assert compiled.preprocessing.class_names == tuple(net.classes)
    capsys.readouterr()
    assert main(["models", "--pretrained", "plain8"]) == 0
    row = shipped.shipped()[NAME, DATASET]
    assert f"{NAME}  {DATASET}" in (out := capsys.readouterr().out) and f"{row.accuracy:.2f}" in out
