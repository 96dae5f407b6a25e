"""Files of class names as people and editors leave them, and lists that are not the same."""

import os

import pytest

from igc_gluon.data.classes import check_same_classes, classes_beside, read_classes, write_classes
from igc_gluon.errors import UserError

NAMES = ["ant", "bee eater", "k\u00f6nig", "a\u2028b\x0bc"]


@pytest.mark.parametrize(
    "content", ["{n}", "{n}\n", "{n}\n\n\n", "{n}\r\n", "\ufeff{n}\n", "\ufeff{n}\r\n\r\n \t\r\n"], ids=repr
)
def test_what_editors_leave(tmp_path, content):
    text = "\n".join(NAMES)
    if "\r" in content:
        text = text.replace("\n", "\r\n")
    (tmp_path / "classes.txt").write_bytes(content.format(n=text).encode("utf-8"))
    assert read_classes(tmp_path / "classes.txt") == classes_beside(tmp_path / "train.rec") == NAMES


def test_written_and_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_classes("~/names.txt", NAMES)
    assert read_classes("~/names.txt") == NAMES
    assert classes_beside("~/train.rec") is None


@pytest.mark.parametrize(
    "content, text",
    [
        (b"", "names no class"),
        (b"\n \n", "names no class"),
        (b"ant\n\nbee\n", "line 2 of .* is blank"),
        ("ant\n".encode("utf-16"), "not UTF-8 text"),
        (b"\xff", "not UTF-8 text"),
    ],
)
def test_files_that_name_no_classes(tmp_path, content, text):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=text) as error:
        read_classes(tmp_path / "classes.txt")
    assert "\n" not in str(error.value)


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (("pipe", "no regular file"), (".", "no regular file"), ("none", "No such file")):
        with pytest.raises(UserError, match=text):
            read_classes(tmp_path / name)


@pytest.mark.parametrize(
    "second, text, may_rename",
    [
        (["ant", "cow", "bee"], "class 1 is 'bee' in A and 'cow' in B", False),
        (["ant", "bees", "cow"], "class 1 is 'bee' in A and 'bees' in B", True),
        (["ant", "bee"], "A has 3 classes, B 2; only A has 'cow'", False),
        (["ant", "bee", "cow", "dog"], "A has 3 classes, B 4; only B has 'dog'", False),
        (["ant", "ant", "bee", "cow"], "A has 3 classes, B 4, so", False),
    ],
)
def test_lists_that_differ(second, text, may_rename):
    with pytest.raises(UserError) as error:
        check_same_classes(["ant", "bee", "cow"], second, "A", "B")
    assert text in str(error.value) and ("make the names alike" in str(error.value)) == may_rename
    check_same_classes(second, tuple(second), "A", "B")
