"""The tables of commands: nothing is lost, and no line is wider than it may be."""

import re

import pytest

from igc_gluon.text_table import table

HEADER = ("name", "weights, M", "multiply-adds", "accuracy on the test images, %", "in words")
ROWS = [("first network", "1.5", "123,456,789", "92.13", "good"), ("b", "20.25", "1", "7", "")]


def test_what_fits_stands_in_columns():
    assert (
        table(("a", "long heading"), [("x", 5), ("yy", 10)]) == "a   long heading\nx              5\nyy            10"
    )


@pytest.mark.parametrize("width", [30, 40, 60, 80])
def test_what_is_wider_goes_on_below(width):
    text = table(HEADER, ROWS, width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    parts = text.split("\n\n")
    words = re.sub(r"\s+", " ", " ".join(parts))
    for cell in (*HEADER, *(cell for row in ROWS for cell in row)):
        assert all(word in words for word in cell.split())
    for part in parts:  # each piece tells its rows apart
        assert part.split()[0] in ("name", "accuracy", "weights,", "in") and "first" in part.split()
        assert ("b" in part.split()) != part.endswith("good")  # it has nothing in the last column
    assert (len(parts) == 1) == (width >= 60)


def test_columns_that_belong_together_stay_so():
    text = table(
        ("k", "printed", "computed", "x"), [("a", "1" * 10, "2" * 10, "3" * 10)], width=26, beside=("computed",)
    )
    first, second = text.split("\n\n")
    assert "1" * 10 + "  " + "2" * 10 in first and second.splitlines()[1].split() == ["a", "3" * 10]


def test_a_long_text_is_wrapped_and_a_long_name_whole():
    text = table(("block", "value"), [("convolution in place of a dense one", 5), ("x" * 50, 6)], width=30)
    assert "x" * 50 in text
    assert re.search(r"^convolution in place of +5\n  a dense one$", text, re.MULTILINE)
