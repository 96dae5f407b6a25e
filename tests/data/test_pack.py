"""Folders of images -> record files."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time

import cv2
import mxnet as mx
import numpy as np
import pytest
from imagenet_tree import slow_packing

from igc_gluon.cli import main
from igc_gluon.data import pack, record_file, recordio, repair
from igc_gluon.errors import UserError


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """30 + 6 images of three classes; each class has a color, each image a size."""
    root = tmp_path_factory.mktemp("tree")
    for split, count in (("train", 10), ("val", 2)):
        for label, name in enumerate(("ant", "bee", "cow")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = np.full((40 + number, 50, 3), 60 * label + 5 * number, np.uint8)
                cv2.imwrite(str(folder / f"{number}.{('JPEG', 'png')[number % 2]}"), image)
    return root


def packed(tree, out, workers=1, seed=1, **form):
    listing = pack.list_images(tree / "train", shuffle_seed=seed)
    form = pack.Encoding(**{"short_side": 32, **form})
    count, left_out = pack.pack(listing, out, form, workers, report=lambda line: None)
    return listing, count, left_out


def test_records_are_the_images(tree, tmp_path):
    listing, count, left_out = packed(tree, tmp_path / "train.rec")
    assert (count, left_out, listing.classes) == (30, [], ["ant", "bee", "cow"])
    assert listing.labels != sorted(listing.labels)
    reader = mx.recordio.MXIndexedRecordIO(str(tmp_path / "train.idx"), str(tmp_path / "train.rec"), "r")
    for number, (path, label) in enumerate(zip(listing.paths, listing.labels)):
        header, image = mx.recordio.unpack_img(reader.read_idx(number))
        source = cv2.imread(str(tree / "train" / path))
        assert header.label == label == listing.classes.index(path.split("/")[0])
        assert min(image.shape[:2]) == 32 and abs(image.shape[1] / image.shape[0] - 50 / len(source)) < 0.04
        assert abs(image.mean() - source.mean()) < 2
    lines = (tmp_path / "train.lst").read_text().splitlines()
    assert lines[0].split("\t") == ["0", f"{listing.labels[0]:.6f}", listing.paths[0]]
    assert not repair.verify(tmp_path / "train.rec").broken


def test_the_same_images_give_the_same_bytes(tree, tmp_path):
    for name, workers, seed in (("a", 1, 1), ("b", 2, 1), ("c", 1, 2)):
        packed(tree, tmp_path / name / "train.rec", workers, seed)
    digests = [hashlib.sha256((tmp_path / name / "train.rec").read_bytes()).hexdigest() for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_a_packing_that_was_cut_off_goes_on(tree, tmp_path):
    packed(tree, tmp_path / "whole.rec")
    part = tmp_path / ".train.rec.part"
    whole = (tmp_path / "whole.rec").read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole)):
        listing = pack.list_images(tree / "train", shuffle_seed=1)
        (tmp_path / ".train.rec.part.json").write_text(f'"{pack._origin(listing, pack.Encoding(short_side=32))}"')
        part.write_bytes(whole[:cut])
        lines = []
        assert pack.pack(listing, tmp_path / "train.rec", pack.Encoding(short_side=32), 1, lines.append) == (30, [])
        assert (tmp_path / "train.rec").read_bytes() == whole and bool(lines) == (cut > 5)
        assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []
        (tmp_path / "train.rec").unlink()
    # of other images
    part.write_bytes(whole[: len(whole) // 2])
    (tmp_path / ".train.rec.part.json").write_text('"other"')
    packed(tree, tmp_path / "train.rec")
    assert (tmp_path / "train.rec").read_bytes() == whole


def test_what_is_done_is_not_done_again(tree, tmp_path, monkeypatch):
    packed(tree, tmp_path / "train.rec")
    monkeypatch.setattr(pack, "_fill", None)
    assert packed(tree, tmp_path / "train.rec")[1:] == (30, [])
    with pytest.raises(UserError, match="was not made from the same images with the same flags"):
        packed(tree, tmp_path / "train.rec", quality=50)


def test_images_that_cannot_be_read_are_left_out_and_named(tree, tmp_path):
    import shutil

    shutil.copytree(tree / "train", tmp_path / "train")
    (tmp_path / "train" / "ant" / "text.jpg").write_text("no image")
    (tmp_path / "train" / "bee" / "empty.png").write_bytes(b"")
    (tmp_path / "train" / "bee" / "gone.png").symlink_to(tmp_path / "nowhere")
    # 32 pixels wide the one would be longer than a JPEG can be, the other would fill the memory.
    for name, length in (("strip", 3000), ("thread", 1000000)):
        cv2.imwrite(str(tmp_path / "train" / "cow" / f"{name}.png"), np.zeros((length, 1), np.uint8))
    listing, count, left_out = packed(tmp_path, tmp_path / "train.rec")
    assert count == 30 and len(listing.paths) == 35
    assert sorted(path for path, _ in left_out) == [
        "ant/text.jpg",
        "bee/empty.png",
        "bee/gone.png",
        "cow/strip.png",
        "cow/thread.png",
    ]
    assert [problem for path, problem in sorted(left_out) if "cow" in path] == [
        "it is too long for a JPEG",
        "an image of 1x1000000 pixels is too long to be resized",
    ]
    assert record_file.structure(tmp_path / "train.rec").records == 30


def test_share_for_validation(tree):
    train, val = pack.divide(pack.list_images(tree / "train", shuffle_seed=0), 0.2)
    assert sorted(val.labels) == [0, 0, 1, 1, 2, 2] and len(train.labels) == 24
    assert not set(train.paths) & set(val.paths)


def test_what_is_not_packed_is_counted_and_classes_without_images_are_named(tree, tmp_path, capsys):
    import shutil

    shutil.copytree(tree, tmp_path / "tree")
    train = tmp_path / "tree" / "train"
    for folder in (train / "axe", train / "zoo" / "deep", train / ".git", train / "bee" / ".thumbs"):
        folder.mkdir(parents=True)
    shutil.copy(train / "bee" / "1.png", train / "bee" / ".thumbs" / "1.png")
    (train / "bee" / "linked").symlink_to(train / "ant")
    for name in ("ant/a.gif", "ant/b.GIF", "ant/list.txt", "bee/noending", "bee/._1.png", "zoo/deep/read.me", "README"):
        (train / name).write_text("")
    flags = ("--short-side", 32, "--workers", 1)
    assert igc("data", "imagenet", "--root", tmp_path / "tree", "--out", tmp_path, *flags) == 0
    out = capsys.readouterr().out
    assert (
        f"{train}: passed over 10 files and folders: 1 beside the class folders, 3 hidden, 1 links to folders, "
        "2 whose names end in .gif, 1 whose names end in .me, 1 whose names end in .txt, "
        "1 whose names have no ending"
    ) in out
    assert (
        f"{train}: no images of 2 of the 5 classes: axe, zoo; if these are none, remove their folders and pack again"
    ) in out
    assert f"{tmp_path / 'tree' / 'val'}: no images of 2 of the 5 classes: axe, zoo" in out
    assert "train.rec: 30 images of 3 classes" in out and "classes.txt: 5 classes" in out
    assert (tmp_path / "classes.txt").read_text() == "ant\naxe\nbee\ncow\nzoo\n"
    assert {recordio.HEADER.unpack_from(payload)[1] for _, payload in recordio.scan(tmp_path / "train.rec")} == {
        0,
        2,
        3,
    }
    assert igc("data", "imagenet", "--root", train, "--out", tmp_path / "b", *flags, "--val-share", 0.2) == 0


@pytest.mark.parametrize("name", [" ", "a\nb", "a\rb", "a\u2028b", "a\x1cb", "a\x85b"])
def test_names_that_would_be_no_line_of_the_class_file(tree, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match="rename it, a class needs a name that is one line of text") as caught:
        pack.list_images(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "ant" / "deep").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "ant" / "1.png"), np.zeros((9, 9, 3), np.uint8))
    real = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match="cannot read .*deep: Permission denied"):
        pack.list_images(tmp_path)


def igc(*arguments):
    return main([str(argument) for argument in arguments])


def test_commands(tree, tmp_path, capsys):
    assert igc("data", "imagenet", "--root", tree, "--out", tmp_path, "--short-side", 32, "--workers", 1) == 0
    out = capsys.readouterr().out
    assert "train.rec: 30 images of 3 classes" in out and "val.rec: 6 images of 3 classes" in out
    assert (tmp_path / "classes.txt").read_text() == "ant\nbee\ncow\n"
    assert igc("data", "verify", tmp_path / "val.rec") == 0
    assert "6 whole records, labels 0 to 2, 0 broken" in capsys.readouterr().out
    content = bytearray((tmp_path / "val.rec").read_bytes())
    content[-50] ^= 255
    (tmp_path / "val.rec").write_bytes(content)
    assert igc("data", "verify", tmp_path / "val.rec") == 1
    assert "checksum is another" in capsys.readouterr().out
    assert igc("data", "verify", tmp_path / "val.rec", "--repair", tmp_path / "good.rec") == 0
    assert "good.rec: 5 records" in capsys.readouterr().out
    assert igc("data", "verify", tmp_path / "good.rec") == 0
    assert igc("data", "verify", tmp_path / "good.rec", "--index") == 0


def test_names_of_files_that_are_no_text(tree, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "tree" / "ant"
    folder.mkdir(parents=True)
    (folder / "b\udcff.png").write_bytes((tree / "train" / "ant" / "1.png").read_bytes())
    (folder / "c\udcff.png").write_bytes(b"no image")
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    monkeypatch.setattr(sys, "stdout", out)
    assert igc("data", "imagenet", "--root", tmp_path / "tree", "--short-side", 32, "--workers", 1) == 0
    out.flush()
    shown = out.buffer.getvalue().decode()
    assert "c\\udcff.png: it is no image" in shown and "train.rec: 1 images of 1 classes" in shown


@pytest.mark.parametrize(
    "flags, text",
    [
        (["imagenet", "--root", "nowhere"], "there is no folder nowhere"),
        (["imagenet", "--root", "{tree}", "--quality", "0"], "--quality"),
        (["imagenet", "--root", "{tree}", "--short-side", "5"], "--short-side"),
        (["imagenet", "--root", "{tree}", "--workers", "0"], "--workers"),
        (["imagenet", "--root", "{tree}", "--seed", "-1"], "--seed"),
        (["imagenet", "--root", "{tree}", "--val-share", "0.5"], "leave --val-share out"),
        (["imagenet", "--root", "{tree}", "--val-share", "2"], "--val-share must be"),
        (["imagenet", "--root", "{tree}/train/ant"], "has no folders; it needs one for each class"),
        (["imagenet", "--root", "{empty}"], "there are no images in the folders"),
        (["imagenet", "--root", "{only_val}"], "has a folder val/ but no train/"),
        (["verify", "nowhere.rec"], "cannot read nowhere.rec"),
        (["verify", "{tree}"], "cannot read"),
        (["verify", "nowhere.rec", "--index", "--repair", "x"], "give one of them"),
        (["verify", "nowhere.rec", "--repair", "x.idx"], "x.idx should end in .rec"),
    ],
)
def test_mistakes_are_one_line(tree, tmp_path, capsys, flags, text):
    (tmp_path / "empty" / "ant").mkdir(parents=True)
    (tmp_path / "only" / "val" / "ant").mkdir(parents=True)
    places = {"tree": tree, "empty": tmp_path / "empty", "only_val": tmp_path / "only"}
    assert igc("data", *(flag.format(**places) for flag in flags)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], lines


def test_killed_packing_leaves_nothing_half_written_and_goes_on(tmp_path):
    command = slow_packing(tmp_path)
    part = tmp_path / "out" / ".train.rec.part"
    size = 1 << 18
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not (part.exists() and part.stat().st_size > size):
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(timeout=60) == (130 if number == signal.SIGTERM else -number)
        assert not (tmp_path / "out" / "train.rec").exists()
        size = part.stat().st_size + (1 << 18)
    os.truncate(part, part.stat().st_size - 1000)  # within a record, as a power cut leaves it
    listing = pack.list_images(tmp_path / "big" / "train", shuffle_seed=0)
    lines = []
    assert pack.pack(listing, tmp_path / "out" / "train.rec", report=lines.append) == (120, [])
    assert lines and not repair.verify(tmp_path / "out" / "train.rec").broken
