"""The progress bar of everything that takes time: redrawn on a terminal, now and then a line elsewhere."""

import sys
from typing import Any

from tqdm import tqdm

INTERVAL = 30  # seconds between two lines where standard error is no terminal


class _Lines:
    """What tqdm draws over the line before, as lines of their own; a bar that is wiped away leaves none."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(**options: Any) -> tqdm:
    """tqdm(**options) on standard error, as wide as a terminal is. Into a pipe or a file, the log of a job for example,
    it writes a line every INTERVAL seconds, and none of what is over sooner."""
    if sys.stderr.isatty():
        return tqdm(file=sys.stderr, dynamic_ncols=True, **options)
    return tqdm(file=_Lines(), **{**options, "mininterval": INTERVAL, "delay": INTERVAL, "ascii": True, "leave": False})
