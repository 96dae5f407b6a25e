"""The tables that commands print."""

import shutil
import sys
from typing import Iterable, List, Optional, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence], left: int = 1, width: Optional[int] = None) -> str:
    """`rows` of texts and numbers below `header`, in columns: the first `left` of them flush left, the others flush
    right.

    width: of the terminal (default: the one that standard output is, if it is one). In a table that is wider the first
    column is cut, with an ellipsis; what goes into a pipe or a file is whole.
    """
    lines: List[List[str]] = [list(map(str, row)) for row in [header, *rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    if width is not None:
        widths[0] = min(widths[0], max(width - sum(widths[1:]) - 2 * (len(widths) - 1), 12))
    return "\n".join(
        "  ".join(_cell(text, size, column < left) for column, (text, size) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def _cell(text: str, size: int, left: bool) -> str:
    text = text if len(text) <= size else text[: size - 1] + "…"
    return text.ljust(size) if left else text.rjust(size)
