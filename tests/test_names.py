"""Names of folders and files that nobody would choose, and folders deeper than Python calls itself."""

import csv
import os
import shutil

import cv2
import numpy as np
import pytest
from drawn_photographs import draw_photographs

from igc_gluon.cli import main
from igc_gluon.data import classes, pack, photos
from igc_gluon.engine.loop import Stopped
from igc_gluon.errors import UserError
from igc_gluon.paths import walk
from igc_gluon.report.experiments import find_runs

SMALL = ["--network", "cifar_plain5_w4", "--num-epochs", "1", "--batch-size", "4", "--image-shape", "3,16,16"]
ODD = os.fsdecode(b"$^$ \xff\x1b[2J")  # mathematics, a byte that is no text, what clears a terminal
LEVELS = 1500


def igc(capfd, *arguments):
    """(exit code, all that was printed), of which nothing controls a terminal."""
    code = main(list(map(str, arguments)))
    printed = "".join(capfd.readouterr())
    assert "\x1b[2J" not in printed
    return code, printed


def test_training_and_what_follows_it(tmp_path, capfd, monkeypatch):
    """Of a folder and a class that are called so: every command ends well, and finds its classes again."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ODD  # by which name OpenCV itself crashes
    draw_photographs(tmp_path / "drawn", 4, 24, classes=("disc", "square")).rename(folder)
    (folder / "disc").rename(folder / ODD)
    (folder / ODD / f"{ODD}.jpg").write_bytes(b"no image")
    code, printed = igc(capfd, "train", ODD, *SMALL)
    assert code == 0, printed
    run = tmp_path / "runs" / ODD / "cifar_plain5_w4" / "seed0"
    assert (run / "curves.png").stat().st_size
    (folder / ODD / f"{ODD}.jpg").unlink()
    code, printed = igc(
        capfd, "eval", run, "--data", folder, "--csv", "o.csv", "--json", "o.json", "--confusion", "o.png"
    )
    assert code == 0, printed
    with open("o.csv", newline="", encoding="utf-8") as file:
        assert [(row["name"], row["images"]) for row in csv.DictReader(file)] == [
            ("$^$ \ufffd\x1b[2J", "4"),
            ("square", "4"),
        ]
    for command in (["report", run, "-o", "o.html"], ["compare", run, "--csv", "c.csv"], ["predict", run, folder]):
        code, printed = igc(capfd, *command)
        assert code == 0, printed
    assert "\x1b" not in str(Stopped(15, run))


def test_packing_says_what_it_leaves_out_in_letters(tmp_path, capfd):
    folder = draw_photographs(tmp_path / "photos", 2, 24, classes=("disc", "square"))
    (folder / "disc" / f"{ODD}.jpg").write_bytes(b"no image")
    (folder / f"{ODD}.txt").write_text("")
    code, printed = igc(capfd, "data", "imagenet", "--root", folder, "--short-side", "0", "--workers", "1")
    assert code == 0 and "left out: " in printed and r"\x1b[2J.jpg" in printed, printed


def test_names_as_text_are_those_of_the_folders(tmp_path):
    """Also where two folders have the same: of training images they are two classes, as their bytes are."""
    for name in (b"a\xfe", b"a\xff", b"b"):
        (tmp_path / "all" / os.fsdecode(name)).mkdir(parents=True)
        (tmp_path / "all" / os.fsdecode(name) / "1.jpg").touch()
    both = pack.list_images(tmp_path / "all")
    assert both.labels == [0, 1, 2]
    assert pack.list_images(tmp_path / "all", both.classes).labels == [0, 1, 2]
    for names in (["a\ufffd", "a\ufffd", "b"], ["a\ufffd", "b"]):
        with pytest.raises(UserError, match="several folders whose names as text are a\ufffd; rename all but one"):
            pack.list_images(tmp_path / "all", names)
    shutil.rmtree(os.fsencode(str(tmp_path / "all")) + b"/a\xfe")
    written = ["a\ufffd", "b"]
    assert pack.list_images(tmp_path / "all", written).labels == [0, 1]
    with pytest.raises(UserError, match="a class b that"):
        pack.list_images(tmp_path / "all", written[:1])
    assert classes.as_written("\ud800x\udfff") == "\ufffdx\ufffd"  # of a config.json
    classes.write_classes(tmp_path / "classes.txt", pack.class_folders(tmp_path / "all"))
    assert classes.read_classes(tmp_path / "classes.txt") == written


def test_folders_are_walked_as_by_os_walk(tmp_path):
    rng = np.random.default_rng(0)
    places = [tmp_path]
    for number in range(60):
        place = places[rng.integers(len(places))] / str(number)
        if rng.random() < 0.6:
            place.mkdir()
            places.append(place)
        else:
            place.write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    found = []
    for where, folders, files in walk(tmp_path, pytest.fail):
        folders[:] = sorted(set(folders) - {"link"})
        found.append((where, folders, sorted(files)))
    expected = []
    for where, folders, files in os.walk(tmp_path):
        folders[:] = sorted(set(folders) - {"link"})
        expected.append((where, list(folders), sorted(files)))
    assert found == expected
    errors = []
    assert list(walk(tmp_path / "none", errors.append)) == [] and errors[0].filename == str(tmp_path / "none")


@pytest.fixture
def deep(tmp_path):
    """(a folder, the path of the deepest folder in it)"""
    root = tmp_path / "deep"
    root.mkdir()
    where = os.open(root, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("a", dir_fd=where)
        where, above = os.open("a", os.O_RDONLY, dir_fd=where), where
        os.close(above)
    os.close(where)
    deepest = os.path.join(root, *["a"] * LEVELS)
    yield root, deepest
    while deepest != str(root):  # shutil.rmtree calls itself, too
        for name in os.listdir(deepest):
            os.path.isdir(os.path.join(deepest, name)) or os.unlink(os.path.join(deepest, name))
        os.rmdir(deepest)
        deepest = os.path.dirname(deepest)


def test_deep_folders(deep, tmp_path):
    root, deepest = deep
    cv2.imwrite(os.path.join(deepest, "x.png"), np.zeros((4, 4, 3), np.uint8))
    assert photos.list_photos([root]) == [os.path.join(deepest, "x.png")]
    assert pack.list_images(tmp_path).paths == [os.path.relpath(os.path.join(deepest, "x.png"), tmp_path)]
    with pytest.raises(UserError, match="has no run that has finished an epoch"):
        find_runs([root])
