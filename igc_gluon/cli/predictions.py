"""The likeliest classes of images, written as text, as CSV or as lines of JSON."""

import contextlib
import csv
import json
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, TextIO, Tuple, Union

from igc_gluon.errors import UserError, printable
from igc_gluon.files import write_atomically

Likeliest = List[Tuple[float, int, Optional[str]]]  # probability, number of the class, its name; the likeliest first
Result = Union[Likeliest, UserError]  # of one image


class Writer(Protocol):
    """Of the results of images, one after the other."""

    def write(self, path: Union[str, Path], result: Result) -> None: ...


class Text:
    """For people, on standard output. What could not be read has a line on standard error already."""

    def write(self, path: Union[str, Path], result: Result) -> None:
        if isinstance(result, UserError):
            return
        print(printable(path))
        for probability, number, name in result:
            print(f"  {100 * probability:6.2f} %  {_name(number, name)}")


class Csv:
    """A row for each image: its path, the `top` likeliest classes with their probabilities (0 to 1), what went
    wrong."""

    def __init__(self, file: TextIO, top: int) -> None:
        self._writer, self._top = csv.writer(file, lineterminator="\n"), top
        self._writer.writerow(
            ["image", *(f"{what}_{place}" for place in range(1, top + 1) for what in ("class", "probability")), "error"]
        )

    def write(self, path: Union[str, Path], result: Result) -> None:
        error, cells = "", []
        if isinstance(result, UserError):
            error = str(result)
        else:
            for probability, number, name in result:
                cells += [_name(number, name), f"{probability:.6f}"]
        self._writer.writerow([printable(path), *cells, *[""] * (2 * self._top - len(cells)), error])


class JsonLines:
    """An object in a line for each image: image, and classes ([{class, name, probability}]) or error."""

    def __init__(self, file: TextIO, top: int) -> None:
        self._file = file

    def write(self, path: Union[str, Path], result: Result) -> None:
        entry: Dict[str, Any] = {"image": printable(path)}
        if isinstance(result, UserError):
            entry["error"] = str(result)
        else:
            entry["classes"] = [{"class": number, "name": name, "probability": share} for share, number, name in result]
        self._file.write(json.dumps(entry) + "\n")


@contextlib.contextmanager
def writers(csv_path: Optional[str], jsonl_path: Optional[str], top: int) -> Iterator[Sequence[Writer]]:
    """A list of the writers that are asked for, of files that appear when all is written; - is standard output."""
    with contextlib.ExitStack() as stack:
        yield [
            kind(sys.stdout if path == "-" else stack.enter_context(write_atomically(path, "w")), top)
            for kind, path in ((Csv, csv_path), (JsonLines, jsonl_path))
            if path
        ]


def _name(number: int, name: Optional[str]) -> str:
    return f"class {number}" if name is None else printable(name)
