"""The likeliest classes of images, written as text, as CSV or as lines of JSON."""

import contextlib
import csv
import json
import sys

from igc_gluon.errors import UserError, printable
from igc_gluon.files import write_atomically


class Text:
    """For people, on standard output. What could not be read has a line on standard error already."""

    def write(self, path, result):
        """result: [(probability, number of the class, its name or None)], the likeliest first; or a UserError."""
        if isinstance(result, UserError):
            return
        print(printable(path))
        for probability, number, name in result:
            print(f"  {100 * probability:6.2f} %  {_name(number, name)}")


class Csv:
    """A row for each image: its path, the `top` likeliest classes with their probabilities (0 to 1), what went
    wrong."""

    def __init__(self, file, top):
        self._writer, self._top = csv.writer(file, lineterminator="\n"), top
        self._writer.writerow(
            ["image", *(f"{what}_{place}" for place in range(1, top + 1) for what in ("class", "probability")), "error"]
        )

    def write(self, path, result):
        error = str(result) if isinstance(result, UserError) else ""
        cells = (
            []
            if error
            else [cell for probability, number, name in result for cell in (_name(number, name), f"{probability:.6f}")]
        )
        self._writer.writerow([printable(path), *cells, *[""] * (2 * self._top - len(cells)), error])


class JsonLines:
    """An object in a line for each image: image, and classes ([{class, name, probability}]) or error."""

    def __init__(self, file, top):
        self._file = file

    def write(self, path, result):
        entry = (
            {"error": str(result)}
            if isinstance(result, UserError)
            else {
                "classes": [
                    {"class": number, "name": name, "probability": probability} for probability, number, name in result
                ]
            }
        )
        self._file.write(json.dumps({"image": printable(path), **entry}) + "\n")


@contextlib.contextmanager
def writers(csv_path, jsonl_path, top):
    """A list of the writers that are asked for, of files that appear when all is written; - is standard output."""
    with contextlib.ExitStack() as stack:
        yield [
            kind(sys.stdout if path == "-" else stack.enter_context(write_atomically(path, "w")), top)
            for kind, path in ((Csv, csv_path), (JsonLines, jsonl_path))
            if path
        ]


def _name(number, name):
    return f"class {number}" if name is None else printable(name)
