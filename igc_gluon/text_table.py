"""The tables that commands print: columns of text, in as many pieces as fit the terminal."""

import itertools
import re
import shutil
import sys
import textwrap
from typing import Collection, Iterable, List, NamedTuple, Optional, Sequence

WIDTH = 80  # of what goes into a pipe or a file
_GAP = 2
_LEAST = 12  # characters of a first column, where its texts are wrapped


class _Column(NamedTuple):
    heading: List[str]  # its lines
    cells: List[List[str]]  # the lines of each
    left: bool

    @property
    def width(self) -> int:
        return max(len(line) for lines in [self.heading, *self.cells] for line in lines)


def available_width() -> int:
    """Columns of the terminal that standard output is, or WIDTH."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else WIDTH


def table(
    header: Sequence[str],
    rows: Iterable[Sequence],
    left: int = 1,
    width: Optional[int] = None,
    keys: int = 1,
    beside: Collection[str] = (),
) -> str:
    """`rows` of texts and numbers below `header`, in columns: the first `left` of them flush left, the others flush
    right.

    width: default `available_width()`. What is wider goes on below, beside its first `keys` columns, without the
    rows that have nothing there. beside: headings of columns that stay with the one before. Nothing is cut:
    headings, and texts in the first columns that leave no room for another one, go on in the next line; a line is
    too long where a name of that length has no space in it.
    """
    texts = [list(map(str, row)) for row in rows]
    columns = [_Column([name], [[row[place]] for row in texts], place < left) for place, name in enumerate(header)]
    width = width or available_width()
    if _width(columns) > width:
        columns = [column._replace(heading=_heading(name, column.cells)) for name, column in zip(header, columns)]
    first, units = columns[:keys], _units(header[keys:], columns[keys:], beside)
    if units and _width(columns) > width:
        first = _narrowed(first, width - _GAP - max(map(_width, units)))
    bands = [first]
    for unit in units:
        if len(bands[-1]) > keys and _width(bands[-1] + unit) > width:
            bands.append(first)
        bands[-1] = bands[-1] + unit
    return "\n\n".join("\n".join(_lines(band if n == 0 else _filled(band, keys))) for n, band in enumerate(bands))


def _heading(name: str, cells: List[List[str]]) -> List[str]:
    """As many lines as keep it from being wider than the cells; a short unit stays with its word."""
    text = re.sub(r", (?=.{1,2}$)", ",\xa0", name)
    widest = max(map(len, [*text.split(" "), *(cell for (cell,) in cells), " "]))
    lines = textwrap.wrap(text, widest, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines] or [""]


def _narrowed(columns: List[_Column], width: int) -> List[_Column]:
    """With texts in several lines, so that the columns together take `width`, where that is possible."""
    widths = [column.width for column in columns]
    while sum(widths) + _GAP * (len(widths) - 1) > width and max(widths) > _LEAST:
        widths[widths.index(max(widths))] -= 1
    return [column if column.width <= most else _wrapped(column, most) for column, most in zip(columns, widths)]


def _wrapped(column: _Column, width: int) -> _Column:
    cells = [
        textwrap.wrap(cell, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False) or [""]
        for (cell,) in column.cells
    ]
    return column._replace(cells=cells)


def _filled(columns: List[_Column], keys: int) -> List[_Column]:
    """Without the rows that have nothing beside the first `keys` columns."""
    kept = [any(any(cell) for cell in cells) for cells in zip(*(column.cells for column in columns[keys:]))]
    return [column._replace(cells=list(itertools.compress(column.cells, kept))) for column in columns]


def _width(columns: Sequence[_Column]) -> int:
    return sum(column.width for column in columns) + _GAP * (len(columns) - 1)


def _units(header: Sequence[str], columns: List[_Column], beside: Collection[str]) -> List[List[_Column]]:
    """The columns that stay together."""
    units: List[List[_Column]] = []
    for name, column in zip(header, columns):
        if name in beside and units:
            units[-1].append(column)
        else:
            units.append([column])
    return units


def _lines(columns: Sequence[_Column]) -> List[str]:
    height = max(len(column.heading) for column in columns)
    heading = [[""] * (height - len(column.heading)) + column.heading for column in columns]
    rows = [*zip(*heading)]
    for cells in zip(*(column.cells for column in columns)):
        rows += itertools.zip_longest(*cells, fillvalue="")
    return [(" " * _GAP).join(_padded(text, column) for text, column in zip(row, columns)).rstrip() for row in rows]


def _padded(text: str, column: _Column) -> str:
    return text.ljust(column.width) if column.left else text.rjust(column.width)
