"""The tables that commands print."""

import shutil
from typing import Iterable, List, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence], left: int = 1, width: int = None) -> str:
    """`rows` of texts and numbers below `header`, in columns: the first `left` of them flush left, the others flush
    right.

    width: of the terminal (default: the one that is there, 80 where there is none); of a table that is wider the first
    column is cut, with an ellipsis.
    """
    lines: List[List[str]] = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    room = (width or shutil.get_terminal_size().columns) - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(room, 12))
    return "\n".join(
        "  ".join(_cell(text, size, column < left) for column, (text, size) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def _cell(text, size, left):
    text = text if len(text) <= size else text[: size - 1] + "…"
    return text.ljust(size) if left else text.rjust(size)
