"""Names that come from files, in pictures."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igc_gluon.cli import confusion_picture
from igc_gluon.engine.curves import draw_curves
from igc_gluon.nn import IGCBlock
from igc_gluon.pictures import plain, save_picture
from igc_gluon.report import charts, pattern_picture

NAMES = ["m$^$y", r"$\frac$", r"\$1$", "a\x1b[2J\nb\0", "ph\udcff", "\u202e日本語", "x" * 5000, "_", ""]
ENTRY = dict.fromkeys(("train_loss", "test_loss", "train_accuracy", "test_accuracy", "lr"), 0.5)


def pixels(text, **how):
    figure = Figure(figsize=(4, 1))
    canvas = FigureCanvasAgg(figure)
    figure.text(0.05, 0.5, text, **how)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


@pytest.mark.parametrize("name", ["m$^$y", "$a_b$", "100 %, no dollar", "one $"])
def test_dollars_are_drawn_as_themselves(name):
    np.testing.assert_array_equal(pixels(plain(name)), pixels(name, parse_math=False))
    assert (pixels(plain(name)) != pixels("")).any()


@pytest.mark.parametrize("name", NAMES)
def test_every_picture_takes_every_name(name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of letters that the font has not, on the terminal
        draw_curves([{"epoch": 0, **ENTRY}], name, tmp_path / "curves.png")
        confusion_picture.draw(tmp_path / "confusion.png", name, np.eye(2, dtype=int), [name, f"{name}2"])
        save_picture(pattern_picture.picture(name, pattern_picture.factors(IGCBlock(2, 4, 4))), tmp_path / "block.png")
        experiment = SimpleNamespace(
            label=name,
            runs=(SimpleNamespace(history=({"epoch": 0, **ENTRY},)),),
            cost=SimpleNamespace(weights=1, multiply_adds=1),
            accuracies=np.array([50.0]),
            deviation=None,
        )
        pages = [charts.test_curves([experiment]), charts.accuracy_against_cost([experiment])]
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    for page in pages:
        page.encode()
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)


def test_a_label_of_a_chart_is_the_name():
    experiment = SimpleNamespace(label="a $^$ & b", runs=(SimpleNamespace(history=({"epoch": 0, **ENTRY},)),))
    assert ">a $^$ &amp; b</text>" in charts.test_curves([experiment])
