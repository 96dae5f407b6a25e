"""Files of the user's that register networks: `--import my_networks.py`."""

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import Dict, Iterable, List, Union

from igc_gluon import files
from igc_gluon.errors import UserError, printable
from igc_gluon.model_zoo.registry import Family, families, remove_families
from igc_gluon.model_zoo.source_file import SourceFile
from igc_gluon.paths import expand

_imported: Dict[Path, SourceFile] = {}


def import_networks(path: Union[str, Path]) -> List[Family]:
    """Runs the Python file at `path` and returns the families that it registers, see `registry.register`.

    A file that has not changed since it was imported is not run again. It can import what lies beside it.
    Raises UserError where it is missing, fails, or registers nothing.
    """
    file = expand(path).absolute()
    try:
        source = SourceFile(file, files.digest(file, "sha256"))
    except OSError as error:
        raise UserError(f"cannot import {file}: {error.strerror}") from None
    if _imported.get(file) != source:
        _run(file)
        _imported[file] = source
    registered = families(source)
    if not registered:
        raise UserError(f"{file} registers no networks; decorate what builds one with igc_gluon.model_zoo.register")
    return registered


def import_all(paths: Iterable[Union[str, Path]]) -> None:
    """`import_networks` of each."""
    for path in paths:
        import_networks(path)


def _run(path: Path) -> None:
    name = f"igc_networks_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    remove_families(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"cannot import {path}: it is no .py file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        remove_families(name)
        raise UserError(
            f"cannot import {path}: {_line(error, path)}{printable(error)}"
            f"{'' if isinstance(error, UserError) else f' ({type(error).__name__})'}"
        ) from None


def _line(error: Exception, path: Path) -> str:
    """'line 3: ', the last one of the file that led to the error."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: "
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"line {lines[-1]}: " if lines else ""
