"""Names of classes: files of them, a name in each line in the order of the labels; whether two lists are the same."""

import re
from pathlib import Path
from typing import List, Optional, Sequence, Union

from igc_gluon.errors import UserError
from igc_gluon.files import read_text, write_atomically
from igc_gluon.paths import expand

CLASS_FILE = "classes.txt"  # beside a record file
_NO_BYTES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # surrogates, of JSON, that stand for no byte of a file's name


def write_classes(path: Union[str, Path], classes: Sequence[str]) -> None:
    """A line for each class, in the order of the labels."""
    with write_atomically(path, "w") as file:
        file.writelines(f"{as_written(name)}\n" for name in classes)


def as_written(name: str) -> str:
    """The name of a file, or from one, as UTF-8 text holds it: with U+FFFD in place of what is no text."""
    name = _NO_BYTES.sub("\ufffd", name)
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_classes(path: Union[str, Path]) -> List[str]:
    """The names in the file at `path`, a list.

    Lines may end as on Windows, a mark of the byte order may stand before them and blank lines after them: editors
    leave these. Raises UserError where it cannot be read, is not UTF-8 text, or has a blank line between names or no
    name.
    """
    file = expand(path)
    if file.exists() and not file.is_file():  # to open a pipe would wait for ever
        raise UserError(f"cannot read {path}: it is no regular file")
    try:
        text = read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None
    # Not splitlines, which ends a line at characters that the name of a folder may have.
    names = text.lstrip("\ufeff").replace("\r\n", "\n").split("\n")
    while names and not names[-1].strip():
        names.pop()
    if not names:
        raise UserError(f"{path} names no class; a line for each is needed")
    blank = next((number for number, name in enumerate(names, 1) if not name.strip()), None)
    if blank is not None:
        raise UserError(
            f"line {blank} of {path} is blank, so that class {blank - 1} has no name; take the line out or "
            "name the class"
        )
    return names


def classes_beside(path: Union[str, Path]) -> Optional[List[str]]:
    """The names in classes.txt beside the record file at `path`, or None if there is no such file."""
    file = class_file(path)
    return read_classes(file) if file.exists() else None


def class_file(path: Union[str, Path]) -> Path:
    """classes.txt beside the record file at `path`."""
    return expand(path).with_name(CLASS_FILE)


def check_same_classes(first: Sequence[str], second: Sequence[str], first_place: object, second_place: object) -> None:
    """Raises UserError unless both lists of names are the same in the same order: otherwise a label means one class in
    the one place and another in the other. The places are for the message."""
    first, second = list(first), list(second)
    if first == second:
        return
    if len(first) == len(second):
        number = next(i for i, pair in enumerate(zip(first, second)) if pair[0] != pair[1])
        what = f"class {number} is {first[number]!r} in {first_place} and {second[number]!r} in {second_place}"
    else:
        what = f"{first_place} has {len(first)} classes, {second_place} {len(second)}"
        for names, others, place in ((first, second, first_place), (second, first, second_place)):
            only = next((name for name in names if name not in others), None)
            if only is not None:
                what += f"; only {place} has {only!r}"
                break
    advice = "pack the files from folders of the same names"
    if len(first) == len(second) and not any(name in second and second[i] != name for i, name in enumerate(first)):
        advice += ", or, where they mean the same, make the names alike in classes.txt"
    raise UserError(f"{what}, so that labels mean other classes; {advice}")
