"""`igc train` on folders of photographs, record files and data sets: what it finds, chooses, refuses and leaves."""

import json
import os
import shutil

import cv2
import numpy as np
import pytest
from drawn_photographs import draw_photographs

from igc_gluon import params_file
from igc_gluon.cli import main
from igc_gluon.cli.training import records as record_training
from igc_gluon.cli.training import runner
from igc_gluon.data import pack, recordio
from igc_gluon.data.photo_folder import list_photographs, pack_photographs, place
from igc_gluon.data.photos import decode
from igc_gluon.engine.loop import TrainingLoop
from igc_gluon.engine.photo_input import choose
from igc_gluon.errors import UserError
from igc_gluon.paper.runs import Runs

SMALL = ["--network", "cifar_plain5_w4", "--num-epochs", "2", "--batch-size", "8"]


def train(*arguments):
    return main(["train", *map(str, arguments)])


def put(folder, count=4, size=40, kind="disc"):
    draw_photographs(folder.parent, count, size, classes=[kind])
    (folder.parent / kind).rename(folder)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return draw_photographs(tmp_path / "photos", 10, 40)


def records(path):
    """[(label, decoded image)]"""
    return [(label, decode(np.frombuffer(data, np.uint8))) for (label,), data in recordio.read_records(path)]


def test_a_folder_is_packed_once_and_its_run_is_found_by_the_other_commands(photos, tmp_path, capsys):
    assert train("photos", *SMALL) == 0
    out = capsys.readouterr().out
    assert "24 photographs of 3 classes to train on, 6 to test on: 40x40 pixels, rate 0.0" in out
    assert "epochs," not in out and "packed once" in out
    run = tmp_path / "runs" / "photos" / "cifar_plain5_w4" / "seed0"
    config = json.loads((run / "config.json").read_text())
    assert config["dataset"] == "photos" and config["class_names"] == ["disc", "square", "stripes"]
    (packed,) = (tmp_path / "runs" / "photos" / "packed").iterdir()
    train_set, test_set = (records(packed / f"{name}.rec") for name in ("train", "val"))
    # Stratified, and every photograph as large as it is: 40 x 53 pixels.
    assert sorted(label for label, _ in train_set) == [0] * 8 + [1] * 8 + [2] * 8
    assert sorted(label for label, _ in test_set) == [0, 0, 1, 1, 2, 2]
    assert {image.shape for _, image in train_set + test_set} == {(40, 53, 3)}
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    # Moved, and without a word where the test photographs are.
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "photos" / "cifar_plain5_w4" / "seed0"
    assert main(["eval", str(moved)]) == 0
    best = max(entry["test_accuracy"] for entry in history)
    assert f"top-1          {100 * best:.2f} %" in capsys.readouterr().out
    assert main(["tables", "--table", "IGCV1 4", "--runs", str(tmp_path / "elsewhere")]) == 0
    assert "photos" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "elsewhere" / "photos" / "packed")
    assert main(["eval", str(moved)]) == 2
    assert "no longer there; give --data" in capsys.readouterr().err


def test_a_run_goes_on_to_the_same_bits_from_a_moved_folder(photos, tmp_path, capsys, monkeypatch):
    assert train(photos, *SMALL, "--log-dir", "whole") == 0
    finish = TrainingLoop._finish_epoch

    def stop_after_it(*arguments):
        finish(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_finish_epoch", stop_after_it)
        assert train(photos, *SMALL, "--log-dir", "parts") == 130
    shutil.copytree(photos, tmp_path / "there" / "photos")
    shutil.rmtree(photos)
    last = {}
    capsys.readouterr()
    assert train(tmp_path / "there" / "photos", *SMALL, "--log-dir", "parts", "--resume") == 0
    out = capsys.readouterr().out
    assert "packed once" not in out and "going on after epoch 1" in out
    for log_dir in ("whole", "parts"):
        checkpoints = tmp_path / log_dir / "photos" / "cifar_plain5_w4" / "seed0" / "checkpoints"
        last[log_dir] = params_file.load(checkpoints / (checkpoints / "last").read_text().strip() / "net.params")
    for name, value in last["whole"].items():
        np.testing.assert_array_equal(last["parts"][name], value, err_msg=name)
    # More photographs: another set, which the run was not begun with.
    put(tmp_path / "there" / "photos" / "disc" / "more", 2)
    assert train(tmp_path / "there" / "photos", *SMALL, "--log-dir", "parts", "--resume") == 2
    assert "begun with other photographs" in capsys.readouterr().err


def test_two_folders_of_one_name_are_told_apart(photos, tmp_path, capsys):
    photographs, small = list_photographs(photos), pack.Encoding(32)
    pack_photographs(photographs, place(photographs, tmp_path / "runs" / "photos", small), small)
    other = draw_photographs(tmp_path / "b" / "photos", 5, 40, seed=1)
    capsys.readouterr()
    assert train(other, *SMALL) == 2
    assert f"runs on other photographs, of {photos}; give these another name: --data-name" in capsys.readouterr().err
    assert train(other, *SMALL, "--data-name", "others", "--num-epochs", "1") == 0
    assert (tmp_path / "runs" / "others" / "cifar_plain5_w4" / "seed0" / "config.json").is_file()


def test_most_stay_on_their_side_where_others_are_added(photos):
    before = list_photographs(photos)
    put(photos / "disc" / "more", 10)
    after = list_photographs(photos)
    moved = set(before.test.paths) & set(after.train.paths)
    assert len(after.train.paths) + len(after.test.paths) == 40 and len(moved) <= 2
    assert before.digest != after.digest == list_photographs(photos).digest
    labels = np.array(after.test.labels)
    assert [(labels == label).sum() for label in range(3)] == [4, 2, 2]


def test_folders_to_test_on(tmp_path):
    for split, count in (("train", 4), ("test", 2), ("extra", 2)):
        draw_photographs(tmp_path / "x" / split, count, 40)
    photographs = list_photographs(tmp_path / "x")
    assert len(photographs.train.paths) == 12 and len(photographs.test.paths) == 6
    assert photographs.remarks == (f"{tmp_path / 'x'}: train/ is trained on, test/ is tested on; extra left out",)
    shutil.rmtree(tmp_path / "x" / "test")
    shutil.rmtree(tmp_path / "x" / "extra")
    assert len(list_photographs(tmp_path / "x").test.paths) == 3  # of train/, by itself


def test_what_is_chosen_by_number_and_size():
    assert [choose(n, 480).network for n in (4, 999, 5000, 1_200_000)] == [
        *["resnet18_igc_l4m8"] * 3,
        "resnet18_igc_l100m2",
    ]
    few, paper = choose(240, 480), choose(1_200_000, 480)
    assert (few.side, few.recipe.batch_size, few.recipe.num_epochs, few.recipe.lr) == (96, 16, 100, 0.025)
    assert (paper.side, paper.recipe.batch_size, paper.recipe.num_epochs, paper.recipe.lr) == (224, 256, 95, 0.1)
    assert choose(240, 60).side == 56 and choose(240, 28).side == 28  # nothing is enlarged
    assert choose(240, 28).network == "cifar_plain_igc8_l24m2" and choose(2, 480).recipe.batch_size == 2


def test_record_files_and_data_sets(photos, tmp_path, capsys, monkeypatch):
    assert train("photos", *SMALL, "--benchmark", "1") == 0 and not (tmp_path / "runs").exists()
    photographs = list_photographs(photos)
    for name, listing in (("train", photographs.train), ("val", photographs.test)):
        pack.pack(listing, tmp_path / "p" / f"{name}.rec", pack.Encoding(64, enlarge=False), workers=0)
    assert train("p", *SMALL, "--num-epochs", "1") == 0
    run = tmp_path / "runs" / "p" / "cifar_plain5_w4" / "seed0"
    config = json.loads((run / "config.json").read_text())
    assert config["image_shape"] == [3, 40, 40] and config["test_file"] == str(tmp_path / "p" / "val.rec")
    assert train(tmp_path / "p" / "train.rec", *SMALL) == 2
    assert "runs/p/cifar_plain5_w4/seed0 holds a run already" in capsys.readouterr().err
    begun = []
    monkeypatch.setattr(runner, "main", lambda args, experiment, *_: begun.append(experiment(args, 2)) or 0)
    assert train("digits", "--depth", "8") == 0 and train("tiny-imagenet", "--network", "cifar_igcv2_20_c64") == 0
    digits, tiny = begun
    assert (digits.model.name, digits.batch_size, digits.wd) == ("cifar_plain_igc8_l24m2", 64, 1e-4)
    assert tiny.dataset == "tiny-imagenet" and tiny.model_options == {"stem_strides": 2}


def test_photographs_of_train_imagenet_are_not_imagenet(tmp_path):
    for classes, name in ((3, "photographs of 3 classes"), (1000, "imagenet")):
        run = tmp_path / str(classes) / "imagenet" / "resnet18_igc_l4m32" / "seed0"
        run.mkdir(parents=True)
        config = {"model": "resnet18_igc_l4m32", "dataset": "imagenet", "classes": classes}
        (run / "config.json").write_text(json.dumps({**config, "schedule": {"num_epochs": 1}}))
        (run / "history.jsonl").write_text('{"test_accuracy": 0.5, "seconds": 1}\n')
        runs = Runs(tmp_path / str(classes))
        assert runs.datasets() == {"resnet18_igc_l4m32": [name]}
        assert (runs.summary("resnet18_igc_l4m32", "imagenet", columns=["imagenet"]) is None) == (classes == 3)


def test_records_are_called_as_what_they_are(tmp_path):
    """imagenet with 1000 classes, else as the folder; a run that an older release called imagenet goes on as that."""

    def name(*flags):
        args = record_training.parse([*flags, "--log-dir", str(tmp_path / "runs"), "--network", "cifar_plain5_w4"])
        data = record_training.data(args)
        return record_training.experiment(args, 1).dataset, data.name, data.top5

    for folder, classes in (("imagenet", 3), ("birds", 25), ("digits", 3), ("wordnet", 1000)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "classes.txt").write_text("".join(f"class {n}\n" for n in range(classes)))
    folder = ("--data-dir", str(tmp_path / "birds"))
    assert name(*folder) == ("birds", "birds", True)
    assert name("--data-dir", str(tmp_path / "imagenet")) == ("imagenet_photographs", "imagenet_photographs", False)
    assert name("--data-dir", str(tmp_path / "digits"))[0] == "digits_photographs"
    assert name("--data-dir", str(tmp_path / "wordnet"))[0] == name()[0] == "imagenet"
    assert name("--data-train", str(tmp_path / "birds" / "small.rec"))[0] == "small"
    assert name(*folder, "--data-name", "parrots")[0] == "parrots"
    begun = tmp_path / "runs" / "imagenet" / "cifar_plain5_w4" / "seed0"
    begun.mkdir(parents=True)
    (begun / "config.json").write_text("{}")
    assert name(*folder, "--resume")[0] == "imagenet" and name(*folder)[0] == "birds"
    assert name(*folder, "--resume", "--data-name", "parrots")[0] == "parrots"
    for classes, called in ((25, "imagenet"), (1000, "birds")):  # the latter is a run on ImageNet itself
        (begun / "config.json").write_text(json.dumps({"classes": classes}))
        assert name(*folder, "--resume")[0] == called
    (begun / "config.json").write_text(json.dumps({"classes": 25}))
    of_today = tmp_path / "runs" / "birds" / "cifar_plain5_w4" / "seed0"
    of_today.mkdir(parents=True)
    (of_today / "config.json").write_text("{}")
    assert name(*folder, "--resume")[0] == "birds"
    for wrong in ("a/b", "imagenet", "cifar10"):
        with pytest.raises(UserError, match="--data-name"):
            name(*folder, "--data-name", wrong)


def one_class(root):
    put(root / "cats")
    return "photographs of one class, cats; at least two"


def nested(root):
    put(root / "animals" / "cats")
    put(root / "animals" / "dogs")
    return f"if the classes are cats, dogs, give {root / 'animals'}"


def three_images(root):
    put(root / "a", 2)
    put(root / "b", 1)
    return "class b of"


def no_class_folders(root):
    root.mkdir()
    cv2.imwrite(str(root / "a.jpg"), np.zeros((40, 40, 3), np.uint8))
    return "needs one for each class"


def no_images(root):
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        (root / name / "x.jpg").write_bytes(b"no image")
    return "none of the 2 files"


def only_val(root):
    put(root / "val" / "a")
    put(root / "val" / "b")
    return "has a folder val/ but no train/; give"


def other_class(root):
    for name in ("train/a", "train/b", "val/a", "val/c"):
        put(root / name, 2)
    return "has a class c that the training images have not"


def a_photograph(root):
    put(root, 1)
    os.rename(root / "disc 000.jpg", f"{root}.jpg")
    shutil.rmtree(root)
    os.rename(f"{root}.jpg", root)
    return "is a file; igc train takes a folder"


def nothing(root):
    return "there is no folder or file"


@pytest.mark.parametrize(
    "make",
    [one_class, nested, three_images, no_class_folders, no_images, only_val, other_class, a_photograph, nothing],
    ids=lambda make: make.__name__,
)
def test_a_folder_that_cannot_be_learned_is_one_line(make, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = make(tmp_path / "x")
    assert train(tmp_path / "x", *SMALL) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and text in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "flags, text",
    [
        (["photos", "--pad", "zero"], "--pad is for data sets of small images"),
        (["photos", "--val-share", "2"], "--val-share must be between 0 and 1"),
        (["photos", "--num-classes", "3"], "--num-classes is for record files"),
        (["photos", "--data-name", "a/b"], "--data-name is the name of a folder"),
        (["photos", "--data-name", "cifar10"], "is a data set that tables know"),
        (["photos", "--image-shape", "3,64,64"], "give --image-shape 3,40,40 or smaller"),
        (["photos", "--network", "nonsense"], "unknown model 'nonsense'"),
        (["digits", "--val-share", "0.5"], "--val-share is for photographs"),
        (["cifr10"], "did you mean cifar10?"),
        ([], "DATASET|FOLDER|FILE.rec"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(flags, text, photos, capsys, tmp_path):
    try:
        code = train(*flags)
    except SystemExit as error:  # argparse
        code = error.code
    err = capsys.readouterr().err
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and text in err, err
    assert not list(tmp_path.glob("runs/**/checkpoints"))


def test_what_is_left_out_is_said(photos, capsys):
    """Files that are no images, odd names, an empty class; the batch fits what is left."""
    (photos / "disc" / "notes.txt").write_text("x")
    (photos / "disc" / "broken.jpg").write_bytes(b"no image")
    (photos / "empty").mkdir()
    (photos / "square").rename(photos / "größe $x$ 雪")
    assert train("photos", "--network", "cifar_plain5_w4", "--num-epochs", "1") == 0
    out = capsys.readouterr().out
    assert "1 that are no images (disc/broken.jpg), 1 whose names end in .txt, 1 without photographs (empty)" in out
    assert "24 photographs of 3 classes to train on, 6 to test on" in out


def test_what_was_packed_and_is_gone_or_damaged(photos, capsys):
    """Is packed anew, by itself or as the line says."""
    flags = ["photos", "--network", "cifar_plain5_w4", "--num-epochs", "1", "--batch-size", "8"]
    assert train(*flags) == 0
    (packed,) = (photos.parent / "runs" / "photos" / "packed").iterdir()
    whole = {name: (packed / name).read_bytes() for name in ("train.rec", "val.rec", "classes.txt")}
    for number, name in enumerate(whole):
        (packed / name).unlink()
        assert train(*flags, "--exp-name", number) == 0, capsys.readouterr().err
        assert {name: (packed / name).read_bytes() for name in whole} == whole
    os.truncate(packed / "val.rec", 100)
    capsys.readouterr()
    assert train(*flags, "--exp-name", "cut") == 2
    line = capsys.readouterr().err
    assert "val.rec" in line and f"or delete {os.path.relpath(packed)}, and they are packed anew" in line
    shutil.rmtree(packed)
    assert train(*flags, "--exp-name", "cut") == 0
    assert {name: (packed / name).read_bytes() for name in whole} == whole


@pytest.mark.parametrize(
    "flags",
    [
        "--lr 1e300",
        "--lr 1e-300",
        "--wd 1e300",
        "--wd 1e-300",
        "--momentum 1e-300",
        "--gc-threshold 1e300",
        "--lr-factor 1e300",
        "--exp-name ../../x",
    ],
)
def test_numbers_that_mxnet_does_not_take(flags, photos, capsys):
    assert train("photos", *SMALL, *flags.split()) == 2
    assert capsys.readouterr().err.startswith(f"error: {flags.split()[0]} ") and not (photos.parent / "runs").exists()


def test_runs_where_no_folder_can_be(photos, capsys):
    (photos.parent / "file").touch()
    assert train("photos", *SMALL, "--log-dir", "file") == 2
    line = capsys.readouterr().err
    assert "cannot write file/" in line and "Not a directory" in line and "free the disk" not in line
