"""IGCV3's weights from gluoncv2: files of random values that gluoncv2's own networks write, over a loopback server."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from gluoncv2.models import igcv3 as theirs

import igc_gluon
from igc_gluon.cli import main
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import gluoncv2

pytestmark = pytest.mark.usefixtures("quick_and_direct")
RNG = np.random.default_rng(0)
NAME = "igcv3_0.25"


def zipped(content, name="any.params"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture(scope="module")
def network():
    net = theirs.igcv3_wd4()
    net.initialize(mx.init.Xavier())
    for name, parameter in net.collect_params().items():
        if not name.endswith("weight"):
            low = 0.5 if name.endswith(("gamma", "var")) else -0.5
            parameter.set_data(mx.nd.array(RNG.uniform(low, low + 1, parameter.shape)))
    return net


@pytest.fixture
def release(network, server, tmp_path, monkeypatch):
    """The row of NAME for the weights of `network`, served in place of GitHub's."""
    network.save_parameters(str(tmp_path / "theirs"))
    content = (tmp_path / "theirs").read_bytes()
    release = replace(gluoncv2.RELEASES[NAME], sha1=hashlib.sha1(content).hexdigest())
    monkeypatch.setitem(gluoncv2.RELEASES, NAME, release)
    monkeypatch.setattr(gluoncv2.Release, "url", f"http://127.0.0.1:{server.server_port}/theirs.zip")
    monkeypatch.delenv("MXNET_HOME", raising=False)
    server.content = zipped(content)
    return release


def test_scores_are_those_of_gluoncv2(release, network, server, tmp_path):
    server.cuts = 1
    net = igc_gluon.get_model(NAME, pretrained="gluoncv2", root=str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == [release.file] and len(server.requests) == 2
    images = mx.nd.array(RNG.normal(size=(1, 3, 224, 224)))
    np.testing.assert_allclose(net(images).asnumpy(), network(images).asnumpy(), atol=1e-5)
    again = igc_gluon.get_model(NAME.upper(), pretrained=True, root=str(tmp_path / "root"))  # there is no other
    assert len(server.requests) == 2  # from the disk
    np.testing.assert_array_equal(again(images).asnumpy(), net(images).asnumpy())
    assert net.classes[207] == "golden retriever"


def test_photographs_are_prepared_as_there(release, tmp_path):
    """pixels / 255, minus (0.485, 0.456, 0.406), by (0.229, 0.224, 0.225); the central 224 of a short side of 256."""
    preprocessing = igc_gluon.get_model(NAME, pretrained="gluoncv2", root=str(tmp_path)).preprocessing
    pixels = RNG.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    expected = (pixels[16:240, 16:240] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    prepared = np.asarray(preprocessing.prepare(pixels))
    np.testing.assert_allclose(prepared.reshape(3, 224, 224), expected.transpose(2, 0, 1), atol=1e-5)


def test_parameters_are_as_many_as_published():
    for name, release in gluoncv2.RELEASES.items():
        parameters = igc_gluon.get_model(name, last_channels=1280).collect_params().values()
        assert sum(int(np.prod(p.shape)) for p in parameters if p.grad_req != "null") == release.parameters
        assert release.file == f"{release.file.split('-')[0]}-{release.top5 * 100:04.0f}-{release.sha1[:8]}.params"


@pytest.mark.parametrize(
    "content", [b"no archive", zipped(b"other weights"), zipped(b"")[:-9]], ids=["text", "other", "cut"]
)
def test_what_is_not_the_release(release, server, tmp_path, content):
    server.content = content
    with pytest.raises(UserError, match="cannot download .* by other means") as error:
        igc_gluon.get_model(NAME, pretrained="gluoncv2", root=str(tmp_path / "root"))
    assert "\n" not in str(error.value) and os.listdir(tmp_path / "root") == []


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("igcv3_0.7", {}, "no weights of igcv3_0.7, only of igcv3_1.0"),
        (NAME, {"classes": 10}, "for 1000 classes, not 10"),
        (NAME, {"block": "paper"}, "without block"),
        (NAME, {"last_channels": 320}, "without last_channels"),
        (NAME, {"last_channels": 1280, "block": "paper"}, "without block"),
    ],
)
def test_what_has_no_such_weights(name, options, text):
    with pytest.raises(UserError, match=text):
        igc_gluon.get_model(name, pretrained="gluoncv2", **options)


def test_last_channels_is_a_number():
    for wrong in (0, "many", 2.5):
        with pytest.raises(UserError, match="last_channels must be a number of channels"):
            igc_gluon.get_model(NAME, last_channels=wrong)


def test_listed(capsys):
    assert main(["models", "--pretrained", "igcv3_0.5"]) == 0
    assert "60.59" in capsys.readouterr().out  # 100 - 39.41
