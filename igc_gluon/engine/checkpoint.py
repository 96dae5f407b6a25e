"""Checkpoints: a folder each, whole or absent, verified when read.

    checkpoints/
        epoch-0012-batch-000000/    net.params  training.params  state.json  manifest.json
        last  best                  text files: the name of such a folder

`net.params` holds parameters and moving statistics, `training.params` the optimizer's state and, within an epoch, the
statistics of every shard, `state.json` the position in schedule and data, the history, the configuration with its seed,
and the versions. `manifest.json` holds size and SHA-256 of the other files.

A folder is written under a temporary name, synced, renamed; then the pointers change, each by a rename; then what is
no longer needed goes. A kill or an error at any moment leaves the checkpoint before. A position that is saved again, as
by two SIGTERMs in one validation, gets a folder of its own, `epoch-0012-batch-000000-2`: a name never changes what it
holds. Nothing here asks the clock: a checkpoint is newer by its epoch, batch and this number.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from igc_gluon import params_file
from igc_gluon.errors import UserError
from igc_gluon.files import sync_folder, write_atomically
from igc_gluon.paths import expand

KEPT = 2  # the newest so many are kept, and the best
FILES = ("net.params", "training.params", "state.json")
POINTERS = ("last", "best")
_NAME = re.compile(r"epoch-(\d{4,9})-batch-(\d{6,12})(?:-([2-9]|[1-9]\d{1,5}))?")
_LARGEST_TEXT = 1 << 28  # bytes of a manifest, a state or a pointer
Arrays = Dict[str, np.ndarray]
Checkpoint = Tuple[Dict[str, Arrays], Dict[str, Any]]  # (arrays by file, state)


class CheckpointStore:
    """The checkpoints of one run, in `folder`, of which the newest `keep` are kept, and the best."""

    def __init__(self, folder: Union[str, Path], keep: int = KEPT):
        self.folder, self.keep = expand(folder), keep

    def save(self, epoch: int, batch: int, arrays: Mapping[str, Arrays], state: Mapping[str, Any], best: bool) -> Path:
        """Writes the checkpoint of the moment before batch `batch` of epoch `epoch` and returns its folder.

        arrays: {file name: {name: numpy array}}, state: what JSON can hold, best: whether the pointer `best` moves.
        Raises UserError if it cannot be written, with the checkpoints before untouched.
        """
        contents = {file: params_file.dumps(tensors) for file, tensors in arrays.items()}
        contents["state.json"] = json.dumps(state, indent=1).encode()
        manifest = {
            file: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for file, data in contents.items()
        }
        contents["manifest.json"] = json.dumps(manifest, indent=1).encode()
        name = self._free_name(epoch, batch)
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.tmp"):
                _remove(leftover)
            temporary.mkdir()
            for file, data in contents.items():
                with write_atomically(temporary / file) as out:
                    out.write(data)
            os.rename(temporary, self.folder / name)
            sync_folder(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"cannot write a checkpoint to {self.folder}: {error.strerror or error}") from None
        except UserError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for pointer in ["best"] * best + ["last"]:
            with write_atomically(self.folder / pointer, "w") as out:
                out.write(name + "\n")
        self._drop_old(name)
        return self.folder / name

    def names(self) -> List[str]:
        """Names of all checkpoints, oldest first."""
        try:
            names = [path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.folder}: {error.strerror}") from None
        return sorted(names, key=_order)

    def pointer(self, which: str) -> Optional[str]:
        """The name that 'last' or 'best' points to, or None."""
        with contextlib.suppress(OSError):
            return self._checked_pointer(which)
        return None

    def _checked_pointer(self, which: str) -> Optional[str]:
        """The same. Raises OSError where it is there and cannot be read."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            name = _read(self.folder / which, _LARGEST_TEXT).decode("utf-8").strip()
            if name in self.names():
                return name
        return None

    def load_last(self, warn: Callable[[str], object]) -> Optional[Checkpoint]:
        """(arrays by file, state) of the newest whole checkpoint, or None if there is none at all.

        A damaged one is reported through `warn(line)` and the one before it is taken. Raises UserError if all are
        damaged, or none is there though a pointer says that there was one.
        """
        names, last = self.names(), self.pointer("last")
        if not last:
            self._report_lost(names, warn)
        if last:  # what is newer was cut off before the pointer changed; it is whole, but nobody was told of it
            names = names[: names.index(last) + 1]
        for name in reversed(names):
            try:
                return self.load(name)
            except UserError as error:
                warn(f"{error}; taking the one before")
        if names:
            raise UserError(f"no checkpoint in {self.folder} is whole; start again without --resume in another folder")
        return None

    def _report_lost(self, names: List[str], warn: Callable[[str], object]) -> None:
        """A pointer is there only after what it leads to."""
        for which in POINTERS:
            path = self.folder / which
            if os.path.lexists(path):
                lost = f"{path} leads to no checkpoint that is there"
                if not names:
                    raise UserError(
                        f"{lost}, and there is no other; bring the checkpoints back, or start again without --resume"
                    )
                if which == "last":
                    warn(f"{lost}; taking the newest")

    def load(self, name: str) -> Checkpoint:
        """(arrays by file, state) of the checkpoint `name`. Raises UserError, which names the damage."""
        return load(self.folder / name)

    def _drop_old(self, last: str) -> None:
        """Only after the pointers have moved: whatever is then newer than `last` belongs to an abandoned course."""
        try:
            names, best = self.names(), self._checked_pointer("best")
        except (OSError, UserError):  # what cannot be told to be superfluous stays; the next save asks again
            return
        newest = {position_of(name): name for name in names[: names.index(last) + 1]}  # of those of one position
        for name in set(names) - set(list(newest.values())[-self.keep :]) - {best}:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _free_name(self, epoch: int, batch: int) -> str:
        """The name of the next checkpoint of this position."""
        taken = [_order(name)[2] for name in self.names() if position_of(name) == (epoch, batch)]
        return folder_name(epoch, batch) + (f"-{taken[-1] + 1}" if taken else "")


class ReadOnlyStore(CheckpointStore):
    """The same folder for the workers beside worker 0, which writes."""

    def save(self, epoch: int, batch: int, arrays: Mapping[str, Arrays], state: Mapping[str, Any], best: bool) -> Path:
        return self.folder / folder_name(epoch, batch)


def folder_name(epoch: int, batch: int) -> str:
    return f"epoch-{epoch:04d}-batch-{batch:06d}"


def position_of(name: str) -> Tuple[int, int]:
    """(epoch, batch) of the checkpoint called `name`; raises UserError if nothing is called so."""
    return _order(name)[:2]


def _order(name: str) -> Tuple[int, int, int]:
    """(epoch, batch, which of this position)"""
    match = _NAME.fullmatch(name)
    if not match:
        raise UserError(f"{name!r} is no name of a checkpoint, such as epoch-0012-batch-000000")
    epoch, batch, number = (int(digits or 1) for digits in match.groups())
    return epoch, batch, number


def load(folder: Union[str, Path]) -> Checkpoint:
    """(arrays by file, state) of the checkpoint in `folder`. Raises UserError, which names the damage."""
    place = expand(folder)
    contents: Dict[str, bytes] = {}
    file = "manifest.json"
    try:
        manifest = _json(_read(place / file, _LARGEST_TEXT))
        for name in FILES:
            file = "manifest.json"
            size, expected = int(manifest[name]["size"]), manifest[name]["sha256"]
            file = name
            contents[file] = data = _read(place / file, size)
            if len(data) != size or hashlib.sha256(data).hexdigest() != expected:
                raise UserError("it is not what was written")
        # What follows fails only where somebody has made a manifest for something else.
        state = _json(contents.pop(file))
        arrays = {}
        for file, data in contents.items():
            arrays[file] = params_file.loads(data)
        return arrays, state
    except FileNotFoundError:
        reason: object = "it is missing"
    except UserError as error:
        reason = error
    except OSError as error:
        reason = error.strerror or error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        reason = f"it is not readable ({type(error).__name__})"
    raise UserError(f"checkpoint {folder} is damaged: {file}: {reason}")


def read_state(folder: Union[str, Path]) -> Dict[str, Any]:
    """The state of the checkpoint in `folder`, not verified. Raises UserError if it is not there or not readable."""
    path = expand(folder) / "state.json"
    try:
        return _json(_read(path, _LARGEST_TEXT))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not readable ({type(error).__name__})") from None


def _json(data: bytes) -> Dict[str, Any]:
    """The object that `data` holds; state and manifest are objects, whatever else JSON may be."""
    value = json.loads(data.decode("utf-8"))
    if not isinstance(value, dict):
        raise TypeError
    return value


def _read(path: Path, most: int) -> bytes:
    """The bytes of a file, at most one more than `most`: a foreign size in a manifest must not fill the memory."""
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise TypeError
    with open(path, "rb") as file:
        return file.read(min(os.fstat(file.fileno()).st_size, most + 1))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
