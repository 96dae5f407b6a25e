"""The authors' checkpoints by name: files of the published names and shapes, from a loopback server and folders."""

import hashlib
import os
from dataclasses import replace
from types import SimpleNamespace

import authors_graphs
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import deploy, files, params_file
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import published
from igc_gluon.model_zoo.attributes import set_attributes, wordnet_numbers

pytestmark = pytest.mark.usefixtures("quick_and_direct")
NAME = "igcv3_1.0"  # the smallest


@pytest.fixture(scope="module")
def arrays():
    return authors_graphs.random_arrays(authors_graphs.published(NAME))


@pytest.fixture(scope="module")
def content(arrays):
    return params_file.dumps(arrays)


@pytest.fixture
def row(content, monkeypatch):
    """The row of NAME for `content` in place of the authors' file, whose bytes nobody has here."""
    digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    row = replace(published.PUBLISHED[NAME], git_blob=digest)
    monkeypatch.setitem(published.PUBLISHED, NAME, row)
    monkeypatch.delenv("MXNET_HOME", raising=False)
    return row


@pytest.fixture
def mirror(server, content, monkeypatch):
    server.content = content
    monkeypatch.setenv("MXNET_GLUON_REPO", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setattr(published.Checkpoint, "url", f"http://127.0.0.1:{server.server_port}/authors.params")
    return server


def cached(row):
    return f"{NAME}-{row.git_blob[:8]}.params"


def check(net, arrays):
    values = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    assert len(values) == len(arrays)
    np.testing.assert_array_equal(
        values["seq-3-block2-linear-conv2d_weight"], arrays["arg:seq-3-block2-linear-conv2d_weight"]
    )
    np.testing.assert_array_equal(
        values["first-3x3-conv-batchnorm_running_var"], arrays["aux:first-3x3-conv-batchnorm_moving_var"]
    )


def test_the_table():
    assert {name: (row.url, row.git_blob[:8]) for name, row in published.PUBLISHED.items()}["resnet18_w69"] == (
        "https://raw.githubusercontent.com/hellozting/InterleavedGroupConvolutions/master/models/ResNet18-w69_ImageNet/"
        "resnet_d18_w69-0095.params",
        "11bb29af",
    )
    assert set(published.PUBLISHED) == set(authors_graphs.NAMES)
    assert all(len(row.git_blob) == 40 for row in published.PUBLISHED.values())


def test_download_with_cut_connections(row, mirror, arrays, tmp_path):
    mirror.cuts = 2
    net = igc_gluon.get_model(NAME.upper(), pretrained=True, root=str(tmp_path))
    check(net, arrays)
    assert os.listdir(tmp_path) == [cached(row)]
    assert len(mirror.requests) == 3 and mirror.requests[2].startswith("bytes")
    again = igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path), prefix="mine_", ctx=[mx.cpu(0), mx.cpu(1)])
    assert len(mirror.requests) == 3  # from the disk
    assert again.output.bias.list_ctx() == [mx.cpu(0), mx.cpu(1)]
    x = mx.nd.random.normal(shape=(1, 3, 32, 32))
    np.testing.assert_array_equal(net(x).asnumpy(), again(x).asnumpy())


def test_what_the_network_expects(row, mirror, tmp_path):
    net = igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path))
    assert (net.model, net.preprocessing) == (
        NAME,
        Preprocessing((224, 224), 256, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), class_names=net.classes),
    )
    assert len(net.classes) == len(net.classes_long) == len(net.synset) == 1000
    assert net.synset == sorted(net.synset) and (net.synset[0], net.classes[0]) == ("n01440764", "tench")
    assert net.classes[207] == "golden retriever" and net.classes_long[999].startswith("toilet tissue")


def test_wordnets_numbers_are_imagenets_classes():
    """So the folders are called, and by them the classes of a network that was trained here."""

    def named(names):
        return set_attributes(SimpleNamespace(), "any", Preprocessing((224, 224), class_names=names))

    by_number = named(wordnet_numbers())
    assert by_number.synset == wordnet_numbers() and by_number.classes[0] == "tench"
    assert by_number.preprocessing.class_names == tuple(by_number.classes)
    other = named(wordnet_numbers()[::-1])
    assert (other.classes, other.synset) == (wordnet_numbers()[::-1], None)


def test_the_authors_address_after_the_mirrors(row, mirror, arrays, tmp_path):
    mirror.status["/gluon/models/" + cached(row)] = 404
    check(igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path)), arrays)


def test_mxnet_home_has_the_last_word(row, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "home"))
    igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path / "root"))
    assert (tmp_path / "home" / "models" / cached(row)).is_file() and not (tmp_path / "root").exists()


def test_a_wrong_digest(row, mirror, tmp_path):
    mirror.content = mirror.content[:-1] + b"\xff"
    with pytest.raises(UserError, match="has git-blob .*, expected " + row.git_blob) as error:
        igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path))
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


def test_offline(row, tmp_path, monkeypatch):
    monkeypatch.setattr(published.Checkpoint, "url", "http://127.0.0.1:9/authors.params")
    with pytest.raises(UserError) as error:
        igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path))
    assert "http://127.0.0.1:9/authors.params" in str(error.value) and "no connection" in str(error.value)
    assert str(tmp_path / cached(row)) in str(error.value) and "\n" not in str(error.value)
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/mirror")
    with pytest.raises(UserError, match="get http://127.0.0.1:9/authors.params by other means"):
        igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="MXNET_GLUON_REPO is .*nowhere, which is neither"):
        igc_gluon.get_model(NAME, pretrained=True, root=str(tmp_path))


@pytest.mark.parametrize("place", ["{cached}", "{file}", "gluon/models/{cached}", "{path}"])
def test_a_folder_as_mirror(row, content, arrays, tmp_path, monkeypatch, place):
    place = tmp_path / place.format(cached=cached(row), file=row.file, path=row.path)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    monkeypatch.setenv("MXNET_GLUON_REPO", str(tmp_path))
    assert published.find_or_download(NAME, root=tmp_path / "root") == place
    assert published.find_or_download(NAME, tmp_path) == published.find_or_download(NAME, place) == place
    check(igc_gluon.get_model(NAME, pretrained=str(place)), arrays)
    assert not (tmp_path / "root").exists()


def test_a_file_put_into_the_folder_by_hand(row, content, tmp_path):
    (tmp_path / row.file).write_bytes(content)
    assert published.find_or_download(NAME, root=tmp_path) == tmp_path / row.file


def test_files_that_are_not_the_authors(row, tmp_path):
    with pytest.raises(UserError, match="there is neither"):
        igc_gluon.get_model(NAME, pretrained=str(tmp_path))
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        igc_gluon.get_model(NAME, pretrained=str(tmp_path / "none.params"))
    (tmp_path / "other.params").write_bytes(b"x")
    with pytest.raises(UserError, match=f"git blob id is .*, not {row.git_blob}"):
        igc_gluon.get_model(NAME, pretrained=tmp_path / "other.params")


def test_arrays_that_do_not_fit_are_named(arrays, tmp_path, monkeypatch):
    wrong = {**arrays, "arg:fc_bias": np.zeros(7, np.float32)}
    del wrong["aux:last-1x1-conv-batchnorm_moving_var"]
    path = tmp_path / "wrong.params"
    path.write_bytes(params_file.dumps(wrong))
    monkeypatch.setitem(
        published.PUBLISHED, NAME, replace(published.PUBLISHED[NAME], git_blob=files.digest(path, "git-blob"))
    )
    with pytest.raises(UserError) as error:
        igc_gluon.get_model(NAME, pretrained=path)
    assert "missing last-1x1-conv-batchnorm_moving_var" in str(error.value)
    assert "fc_bias is (7,), not (1000,)" in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "name, options, text",
    [
        ("cifar_plain8_w17", {}, "no published weights of cifar_plain8_w17 to load, only of resnet18_w64"),
        ("igcv3_0.7", {}, "no published weights of igcv3_0.7"),
        ("resnet18_w65", {}, "no published weights"),
        (NAME, {"classes": 10}, "are for 1000 classes, not 10"),
        (NAME, {"block": "paper"}, "the network without block"),
    ],
)
def test_what_has_no_published_weights(name, options, text, tmp_path):
    with pytest.raises(UserError, match=text) as error:
        igc_gluon.get_model(name, pretrained=True, root=str(tmp_path), **options)
    assert "\n" not in str(error.value) and os.listdir(tmp_path) == []


def test_opened_by_name_and_as_a_file(row, content, arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_GLUON_REPO", str(tmp_path))
    (tmp_path / row.file).write_bytes(content)
    by_name, as_file = open_network(NAME), open_network(tmp_path / row.file, NAME)
    check(by_name, arrays)
    compiled = deploy.compile(as_file)
    assert (compiled.name, compiled.input_shape, compiled.preprocessing.class_names[207]) == (
        NAME,
        (3, 224, 224),
        "golden retriever",
    )
    np.testing.assert_allclose(compiled.preprocessing.mean, by_name.preprocessing.mean, rtol=1e-6)
    for attribute in ("model", "preprocessing", "classes", "synset"):
        assert getattr(by_name, attribute) == getattr(as_file, attribute), attribute
