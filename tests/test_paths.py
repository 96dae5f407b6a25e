"""`~` in every path that a user may give: a folder of his, or a clear line where nobody knows which."""

import pwd
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import deploy, downloads, files, params_file, symbol_file
from igc_gluon.data import classes, load, pack, photos, record_batches, record_file, repair
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine import checkpoint, inputs
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import authors, convert
from igc_gluon.paths import expand

EXPECTED = Preprocessing((32, 32), mean=(1, 2, 3), std=(4, 5, 6))


def network():
    net = igc_gluon.get_model("cifar_plain5_w2")
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    return net


def written(path):
    with files.write_atomically(path) as file:
        file.write(b"x")


CALLS = {
    "deploy.load": lambda path: deploy.load(path),
    "deploy.Compiled.save": lambda path: deploy.compile(network()).save(path),
    "calibration": lambda path: deploy.compile(network(), calibration=path + ".npy", mean=0, std=1),
    "RecordInput": lambda path: inputs.RecordInput(path, None, EXPECTED),
    "RecordEvaluation": lambda path: record_batches.RecordEvaluation(path, 1, EXPECTED),
    "check_size": lambda path: record_batches.check_size(path, (32, 32)),
    "structure": record_file.structure,
    "packing": record_file.packing,
    "pack": lambda path: pack.pack(pack.Listing(Path("."), [], [], []), path),
    "repair": lambda path: repair.verify(path, None),
    "classes": classes.read_classes,
    "class_file": classes.class_file,
    "read_photo": photos.read_photo,
    "CheckpointStore": checkpoint.CheckpointStore,
    "checkpoint.load": checkpoint.load,
    "checkpoint.read_state": checkpoint.read_state,
    "params_file.load": params_file.load,
    "symbol_file.load": symbol_file.load,
    "write_atomically": written,
    "download": lambda path: downloads.download(["http://localhost:1/x"], path, "sha256", "0"),
    "data_dir": lambda path: load("mnist", "test", path, download=False),
    "open_network": lambda path: open_network(path),
    "read_checkpoint": lambda path: convert.read_checkpoint(path, 3),
    "save_parameters": lambda path: authors.save_parameters(network(), path),
    "save_module_checkpoint": lambda path: authors.save_module_checkpoint(network(), path, 3),
    "export": lambda path: network().export(path),
    "pretrained": lambda path: igc_gluon.get_model("resnet18_w64", pretrained=path),
}


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """Neither HOME nor a line in the password file."""

    def missing(_):
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", missing)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CALLS)
def test_without_a_home(name, nobody):
    with pytest.raises(UserError) as error:
        CALLS[name]("~/folder/name")
    assert "nothing says which folder ~ of ~/folder/name" in str(error.value) and "set HOME" in str(error.value)
    assert "\n" not in str(error.value) and not list(nobody.iterdir())


def test_what_is_called_so_is_meant(nobody):
    """A file ~a.png in the folder, an editor's for example, is no user's home."""
    (nobody / "~a.png").write_bytes(b"")
    assert expand("~a.png") == Path("~a.png")
    with pytest.raises(UserError, match="is empty"):
        photos.read_photo("~a.png")
    with pytest.raises(UserError, match="which folder ~b.png of"):
        photos.read_photo("~b.png")


def test_a_list_of_photographs_goes_on(nobody):
    assert photos.list_photos(["~/x", "y.png"]) == ["~/x", "y.png"]


def test_with_a_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written("~/a")
    assert (tmp_path / "a").read_bytes() == b"x" and expand("~") == tmp_path
    (tmp_path / "b.params").write_bytes(params_file.dumps({"a": np.zeros(3, np.float32)}))
    assert list(params_file.load("~/b.params")) == ["a"]
