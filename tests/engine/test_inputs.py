"""Record files that meet: of the same classes, or refused before anything is trained."""

import logging

import cv2
import numpy as np
import pytest

from igc_gluon.data import recordio
from igc_gluon.data.classes import write_classes
from igc_gluon.engine.experiment import check_same
from igc_gluon.engine.inputs import RecordInput, record_preprocessing
from igc_gluon.errors import UserError

EXPECTED = record_preprocessing((3, 32, 32), (1, 2, 3), (4, 5, 6))


def write_records(folder, name, classes, labels=3):
    folder.mkdir(exist_ok=True)
    image = cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes()
    framed = [recordio.frame(recordio.encode(number % labels, number, image)) for number in range(6)]
    (folder / name).write_bytes(b"".join(framed))
    starts = np.cumsum([0] + [len(record) for record in framed[:-1]])
    (folder / name).with_suffix(".idx").write_text("".join(f"{n}\t{at}\n" for n, at in enumerate(starts)))
    if classes:
        write_classes(folder / "classes.txt", classes)
    return folder / name


def prepared(tmp_path, train, val, **options):
    files = write_records(tmp_path / "a", "train.rec", *train), write_records(tmp_path / "b", "val.rec", *val)
    data = RecordInput(*files, EXPECTED, **options)
    data.prepare()
    return data


@pytest.mark.parametrize(
    "names", [["ant", "cow", "bee"], ["ant", "bee", "dog"], ["ant", "bee"], ["ant", "bee", "cow", "dog"]]
)
@pytest.mark.parametrize("named", [None, 3, 4])
def test_files_of_other_classes(tmp_path, names, named):
    """Trained on, they give 100 % and tested 0 %. No message may lead there."""
    with pytest.raises(UserError, match="labels mean other classes") as error:
        prepared(tmp_path, (["ant", "bee", "cow"], 3), (names, len(names)), classes=named)
    text = str(error.value)
    assert "--num-classes" not in text and "\n" not in text
    assert str(tmp_path / "a" / "classes.txt") in text and str(tmp_path / "b" / "classes.txt") in text


def test_files_of_the_same_classes(tmp_path):
    names = ["ant", "bee", "cow"]
    data = prepared(tmp_path, (names,), (names, 2))  # a class of which val.rec has no image
    assert (data.classes, data.preprocessing.class_names, data.preprocessing.short_side) == (3, tuple(names), 37)
    with pytest.raises(UserError, match="has 3 classes, not 4; leave out --num-classes"):
        prepared(tmp_path, (names,), (names,), classes=4)
    with pytest.raises(UserError, match="labels up to 3, too many for 3 classes; .*classes.txt is of another file"):
        prepared(tmp_path, (names, 4), (names,))


def test_where_classes_are_not_known(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        data = prepared(tmp_path, (None,), (["ant", "bee", "cow"],))
    assert data.classes == 3 and f"there is no {tmp_path / 'a' / 'classes.txt'}" in caplog.text
    (tmp_path / "b" / "classes.txt").unlink()
    caplog.clear()
    assert prepared(tmp_path, (None,), (None,), classes=3).preprocessing.class_names is None and not caplog.text
    with pytest.raises(UserError, match="too many for 2 classes; give --num-classes 3"):
        prepared(tmp_path, (None,), (None,), classes=2)


def test_a_run_is_not_resumed_on_other_classes():
    config = {"class_names": ["ant", "bee", "cow"]}
    check_same(config, {"class_names": ("ant", "bee", "cow")}, "run")
    with pytest.raises(UserError, match="class 1 is 'bee' in run and 'cow' in the data"):
        check_same(config, {"class_names": ("ant", "cow", "bee")}, "run")


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("train.rec", "val.rec"):
        write_records(tmp_path, name, ["ant", "bee", "cow"])
    data = RecordInput("~/train.rec", "~/val.rec", EXPECTED)
    data.prepare()
    assert data.classes == 3
