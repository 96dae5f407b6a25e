"""Paths as users write them, and what lies below one."""

import os
from pathlib import Path
from typing import Callable, Iterator, List, Tuple, Union

from igc_gluon.errors import UserError


def expand(path: Union[str, Path]) -> Path:
    """The Path with `~` replaced, unless a file or folder is called so. Raises UserError where nobody knows what it
    stands for, and on an empty text, which an unset variable leaves."""
    if path == "":
        raise UserError("the path of a file or folder is empty")
    try:
        return Path(path).expanduser()
    except (RuntimeError, KeyError):  # no HOME and no entry in the password file, as in containers; or ~name of nobody
        if Path(path).exists():
            return Path(path)
        raise UserError(
            f"nothing says which folder {Path(path).parts[0]} of {path} stands for; set HOME, or give the path "
            "without it"
        ) from None


def walk(folder: Union[str, Path], on_error: Callable[[OSError], object]) -> Iterator[Tuple[str, List[str], List[str]]]:
    """Yields (path, names of its folders, of its files) of `folder` and every folder below, as os.walk does from above;
    of the names of folders, which may be changed, those that are left then are gone into, in their order.

    on_error: called with the OSError of a folder that cannot be read, which is passed over. However deep the folders
    lie: os.walk and Path.rglob call themselves for each level, until Python has had enough.
    """
    waiting = [str(folder)]
    while waiting:
        where = waiting.pop()
        folders: List[str] = []
        files: List[str] = []
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    (folders if entry.is_dir() else files).append(entry.name)
        except OSError as error:
            on_error(error)
            continue
        yield where, folders, files
        waiting += [os.path.join(where, name) for name in reversed(folders)]
