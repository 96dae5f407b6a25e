"""What is fuzzed: for each format how its samples are made, and what reads a damaged one.

`samples(folder)` writes whole files and returns their paths; `read(path)` is given the damaged one under the same
name, in a folder that is otherwise as it was. It must raise UserError or return.
"""

import hashlib
import json
import logging
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

for folder in ("data", "deploy"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))

import make_archives  # noqa: E402
from deploy_networks import images, small  # noqa: E402

from igc_gluon import deploy, params_file  # noqa: E402
from igc_gluon.data import cifar, find_dataset, idx, matfile, record_dataset, record_file, recordio, svhn, tiny_imagenet  # noqa: E402
from igc_gluon.data.dataset_files import DatasetFiles  # noqa: E402
from igc_gluon.engine import experiment  # noqa: E402
from igc_gluon.engine.checkpoint import CheckpointStore  # noqa: E402
from igc_gluon.engine.inputs import RecordInput, record_preprocessing  # noqa: E402
from igc_gluon.engine.progress import MEASURED, Progress  # noqa: E402
from igc_gluon.engine.run_log import RunLog  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.launch.launchers import read_hosts  # noqa: E402
from igc_gluon.model_zoo import convert, get_model  # noqa: E402
from igc_gluon.model_zoo.authors import save_module_checkpoint  # noqa: E402
from igc_gluon.paper.runs import Runs  # noqa: E402
from igc_gluon.report.experiments import experiments, find_runs  # noqa: E402


def _write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


class Params:
    is_text = False

    @staticmethod
    def samples(folder):
        rng = np.random.default_rng(0)
        arrays = {
            "arg:conv_weight": rng.random((4, 3, 3, 3), "float32"),
            "aux:mean": np.zeros(7, "float64"),
            "half": np.ones((1, 2), "float16"),
            "index": np.array([1 << 40], "int64"),
            "u": np.zeros((0, 3), "uint8"),
        }
        return [
            _write(folder / "net.params", params_file.dumps(arrays)),
            _write(folder / "small.params", params_file.dumps({"w": np.ones(3, "float32")})),
        ]

    @staticmethod
    def read(path):
        for array in params_file.load(path).values():
            array.sum()


class Checkpoint:
    """One file of a checkpoint; every second time with a manifest that has been made for the damaged file."""

    is_text = None  # by the file

    @staticmethod
    def samples(folder):
        store = CheckpointStore(folder / "checkpoints")
        arrays = {
            "net.params": {"w": np.ones((3, 2), "float32")},
            "training.params": {"momentum:w": np.ones((3, 2), "float32")},
        }
        position = Progress(
            epoch=1, batch=2, images=128, loss=3.5, history=[{"epoch": 0, **dict.fromkeys(MEASURED, 0.5)}]
        )
        made = store.save(
            1, 2, arrays, {"position": vars(position), "config": {"seed": 0}, "versions": {"mxnet": "1.9.1"}}, True
        )
        return [*sorted(made.iterdir()), store.folder / "last"]

    @classmethod
    def read(cls, path):
        store = CheckpointStore(path.parent if path.name == "last" else path.parent.parent)
        manifest = path.parent / "manifest.json"
        if path.name in ("net.params", "training.params", "state.json") and path.stat().st_size % 2:
            data = path.read_bytes()
            whole = json.loads(manifest.read_text())
            whole[path.name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            before = manifest.read_bytes()
            manifest.write_text(json.dumps(whole))
            try:
                cls.restore(path, store.load(store.names()[0])[1])
            finally:
                manifest.write_bytes(before)
        else:
            cls.restore(path, store.load_last(lambda line: None)[1])

    @staticmethod
    def restore(path, state):
        try:
            Progress.from_state(state, batches=23, epochs=2)
        except UserError as error:  # as igc_gluon.engine.experiment does
            raise UserError(f"{path.parent}: {error}") from None


class Record:
    is_text = False
    dataset = find_dataset("cifar10")

    @classmethod
    def samples(cls, folder):
        images, labels = make_archives.random_images(5, 10)
        make_archives.record_file(folder / "train.rec", images, labels)
        make_archives.record_file(folder / "jpeg.rec", images, labels, ending=".jpg")
        return [folder / "train.rec", folder / "jpeg.rec"]

    @classmethod
    def read(cls, path):
        record_dataset.load(cls.dataset, path)


class Large:
    """Record files for ImageNet with their index, read as `train_imagenet.py` does."""

    is_text = None  # the index is

    @staticmethod
    def samples(folder):
        images, labels = make_archives.random_images(6, 3)
        at, lines = 0, []
        with open(folder / "train.rec", "wb") as file:
            for number, (image, label) in enumerate(zip(images, labels)):
                data = cv2.imencode(".jpg", image)[1].tobytes()
                lines.append(f"{number}\t{at}\n")
                at += file.write(recordio.frame(recordio.encode(int(label), number, data)))
        return [folder / "train.rec", _write(folder / "train.idx", "".join(lines).encode())]

    @staticmethod
    def read(path):
        expected = record_preprocessing((3, 28, 28), (0, 0, 0), (1, 1, 1))
        source = RecordInput(path.parent / "train.rec", path.parent / "train.rec", expected, 3)
        source.prepare()
        for batches in source.batches(2, seed=0):
            for data, _ in batches.epoch(0):
                assert data.shape[1:] == (3, 28, 28)


class Symbol:
    """The graph of a checkpoint of the authors' code, read as `igc convert` does."""

    is_text = True

    @staticmethod
    def samples(folder):
        net = get_model("cifar_plain_igc5_l2m2", classes=3)
        net.initialize()
        save_module_checkpoint(net, folder / "igc", 1)
        return [folder / "igc-symbol.json"]

    @staticmethod
    def read(path):
        convert.read_checkpoint(path.with_name("igc"), 1)


class Tar:
    is_text = False
    dataset = find_dataset("cifar10")

    @classmethod
    def samples(cls, folder):
        members, _, _ = make_archives.cifar10_members(10, 2)
        for name, mode in (("a.tar.gz", "w:gz"), ("a.tar", "w"), ("a.tar.xz", "w:xz"), ("a.tar.bz2", "w:bz2")):
            make_archives.tar(folder / name, members, mode)
        return sorted(folder.glob("a.tar*"))

    @classmethod
    def read(cls, path):
        cifar.read(cls.dataset, "train", [path])


class Bin:
    is_text = False
    dataset = find_dataset("cifar100")

    @classmethod
    def samples(cls, folder):
        images, labels = make_archives.random_images(4, 100)
        return [_write(folder / "test.bin", make_archives.cifar_bin(images, labels, coarse=labels % 20))]

    @classmethod
    def read(cls, path):
        cifar.read_unpacked(DatasetFiles(cls.dataset, path.parent), "test")


class Zip:
    is_text = False
    dataset = find_dataset("tiny-imagenet")

    @classmethod
    def samples(cls, folder):
        make_archives.zip_file(folder / "tiny.zip", make_archives.tiny_imagenet_members(val=3)[0])
        return [folder / "tiny.zip"]

    @classmethod
    def read(cls, path):
        tiny_imagenet.read(cls.dataset, "test", [path])


class Mat:
    is_text = False

    @staticmethod
    def samples(folder):
        images, labels = make_archives.random_images(3, 10)
        make_archives.svhn_mat(folder / "test_32x32.mat", images, labels + 1)
        from scipy.io import savemat

        savemat(folder / "plain.mat", {"X": np.arange(12, dtype="uint8").reshape(3, 4), "y": np.ones((2, 1))})
        return [folder / "test_32x32.mat", folder / "plain.mat"]

    @staticmethod
    def read(path):
        if path.name == "plain.mat":
            matfile.read_arrays(path, ("X", "y"))
        else:
            svhn.read(find_dataset("svhn"), "test", [path])


class Idx:
    """One file of a split, the other being whole."""

    is_text = False
    dataset = find_dataset("mnist")

    @staticmethod
    def samples(folder):
        make_archives.idx_folder(folder, {"t10k": 4})
        return [folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte.gz"]

    @classmethod
    def read(cls, path):
        idx.read(
            cls.dataset,
            "test",
            [path.with_name(archive.name) for archive in cls.dataset.archives if "test" in archive.splits],
        )


class RunFiles:
    """config.json and history.jsonl, read by --resume, `igc tables`, `igc compare` and `igc compile`."""

    is_text = True

    @staticmethod
    def samples(folder):
        logging.getLogger("igc_gluon").setLevel(logging.ERROR)
        seed = folder / "digits" / "cifar_plain5_w4" / "seed0"
        config = {
            "model": "cifar_plain5_w4",
            "dataset": "digits",
            "schedule": {"num_epochs": 3, "lr": 0.1, "lr_steps": [2, 3]},
            "batch_size": 64,
            "model_options": None,
            "mean": [77.0, 77.0, 77.0],
            "std": [82.5, 82.5, 82.5],
            "image_shape": [3, 32, 32],
            "classes": 10,
            "versions": {"mxnet": "1.9.1", "OMP_NUM_THREADS": "1"},
        }
        entries = [
            {
                "epoch": e,
                "lr": 0.1,
                "train_loss": 2.3,
                "test_loss": 2.2,
                "train_accuracy": 0.1,
                "test_accuracy": 0.2,
                "seconds": 0.5,
                "images_per_second": 3000.0,
            }
            for e in range(3)
        ]
        (folder / "digits" / "cifar_plain5_w4" / "seed0" / "checkpoints").mkdir(parents=True)
        return [
            _write(seed / "config.json", json.dumps(config, indent=1).encode()),
            _write(seed / "history.jsonl", b"".join(json.dumps(e).encode() + b"\n" for e in entries)),
        ]

    @staticmethod
    def read(path):
        from igc_gluon.engine.saved_networks import read_config

        runs = Runs(path.parent.parent.parent.parent)
        runs.summary("cifar_plain5_w4", "digits")
        for compared in experiments(find_runs([path.parent])):
            assert compared.label and compared.accuracy_text and compared.epochs_text and compared.minutes >= 0
        record = RunLog(path.parent)
        try:
            before = path.read_bytes()
            experiment.check_same(
                record.read_config() or {}, {"model": "cifar_plain5_w4", "batch_size": 64}, path.parent
            )
            record.write_config({}, {})
            read_config(path.parent / "config.json")
        finally:
            path.write_bytes(before)
            record.close()


class Note(Large):
    """The note beside a record file that the file was checked."""

    @staticmethod
    def samples(folder):
        made = Large.samples(folder)
        record_file.structure(made[0])
        return [*made, made[0].with_name("train.rec.json")]


class Hostfile:
    is_text = True

    @staticmethod
    def samples(folder):
        return [_write(folder / "hosts", b"user@one slots=2\ntwo # and no more\n\nthree\n")]

    @staticmethod
    def read(path):
        read_hosts(path)


class Igc:
    """Compiled networks: what is accepted runs, where it is small."""

    is_text = False

    @staticmethod
    def samples(folder):
        deploy.compile(small("cifar_plain_igc5_l4m2", 16, classes=5), (3, 16, 16), mean=1, std=2).save(
            folder / "net.igc"
        )
        deploy.compile(
            small("cifar_resnet_igc8_l3m2", 8),
            (3, 8, 8),
            class_names=list("abcdefghij"),
            calibration=images((3, 8, 8), 8),
        ).save(folder / "int8.igc")
        deploy.compile(small("cifar_plain_igc5_l4m2", 8), (3, 8, 8), precision="half").save(folder / "half.igc")
        return [folder / "net.igc", folder / "int8.igc", folder / "half.igc"]

    @staticmethod
    def read(path):
        net = deploy.load(path, threads=2)
        if (
            np.prod(net.input_shape) <= 1 << 16
            and net.multiply_adds <= 1 << 24
            and np.prod(net.output_shape) <= 1 << 20
        ):
            net(np.ones((1, *net.input_shape), np.float32))


FORMATS = {
    "params": Params,
    "checkpoint": Checkpoint,
    "record": Record,
    "large-record": Large,
    "symbol": Symbol,
    "tar": Tar,
    "bin": Bin,
    "zip": Zip,
    "mat": Mat,
    "idx": Idx,
    "run": RunFiles,
    "note": Note,
    "hostfile": Hostfile,
    "igc": Igc,
}


def prepare(name, folder):
    """[(path, its whole bytes)] of the samples of the format, below `folder`, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return [(path, path.read_bytes()) for path in FORMATS[name].samples(folder)]
