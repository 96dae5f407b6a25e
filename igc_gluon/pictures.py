"""Pictures that matplotlib draws, of which some texts are names that come from files."""

import contextlib
import warnings
from pathlib import Path
from typing import Any, Iterator, Union

from igc_gluon.errors import printable
from igc_gluon.files import write_atomically

_LONGEST = 60  # characters of a name, beside which there must be room for the picture


def plain(text: object) -> str:
    """`text` as matplotlib is to be given it: in one line, cut where it is very long, dollars as themselves, between
    which it would read mathematics."""
    line = printable(text)
    return (line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…").replace("$", r"\$")


def save_picture(figure: Any, path: Union[str, Path]) -> None:
    """Writes the matplotlib Figure as the PNG `path`. Raises UserError where it cannot be written."""
    with write_atomically(path) as file, quietly():
        figure.savefig(file, format="png")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within the block matplotlib does not warn of letters that its font has not, and of names without room."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        yield
