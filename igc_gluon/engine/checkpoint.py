"""Checkpoints: a folder each, whole or absent, verified when read.

    checkpoints/
        epoch-0012-batch-000000/    net.params  training.params  state.json  manifest.json
        last  best                  text files: the name of such a folder

A folder is written under a temporary name, synced, renamed; then the pointers change, each by a rename. A kill at any
moment leaves the checkpoint before. `manifest.json` holds the size and SHA-256 of the other files.
"""
import contextlib
import hashlib
import json
import os
import shutil
from fnmatch import fnmatch
from pathlib import Path

from igc_gluon import params_file
from igc_gluon.errors import UserError
from igc_gluon.files import digest, sync_folder, write_atomically

KEPT = 2  # the newest so many are kept, and the best
FILES = ("net.params", "training.params", "state.json")


def folder_name(epoch, batch):
    return f"epoch-{epoch:04d}-batch-{batch:06d}"


class CheckpointStore:
    """The checkpoints of one run, in `folder`."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def save(self, epoch, batch, arrays, state, best):
        """Writes the checkpoint of the moment before batch `batch` of epoch `epoch` and returns its folder.

        arrays: {file name: {name: numpy array}}, state: what JSON can hold, best: whether the pointer `best` moves.
        Raises UserError if it cannot be written, with the checkpoints before untouched.
        """
        name = folder_name(epoch, batch)
        contents = {file: params_file.dumps(tensors) for file, tensors in arrays.items()}
        contents["state.json"] = json.dumps(state, indent=1).encode()
        manifest = {file: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                    for file, data in contents.items()}
        contents["manifest.json"] = json.dumps(manifest, indent=1).encode()
        temporary = self.folder / f".{name}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".epoch-*.tmp"):
                shutil.rmtree(leftover)
            temporary.mkdir()
            for file, data in contents.items():
                with write_atomically(temporary / file) as out:
                    out.write(data)
            if (self.folder / name).exists():  # left by a kill before the pointers changed
                shutil.rmtree(self.folder / name)
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
        self._drop_old()
        return self.folder / name

    def names(self):
        """Names of all checkpoints, oldest first."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if fnmatch(path.name, "epoch-*-batch-*"))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read {self.folder}: {error.strerror}") from None

    def pointer(self, which):
        """The name that 'last' or 'best' points to, or None."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            name = (self.folder / which).read_text(encoding="utf-8").strip()
            if name in self.names():
                return name
        return None

    def load_last(self, warn):
        """(arrays by file, state) of the newest whole checkpoint, or None if there is none at all.

        A damaged one is reported through `warn(line)` and the one before it is taken. Raises UserError if all are
        damaged.
        """
        names = self.names()
        last = self.pointer("last")
        if last:  # what is newer was cut off before the pointer changed; it is whole, but nobody was told of it
            names = [name for name in names if name <= last]
        for name in reversed(names):
            try:
                return self.load(name)
            except UserError as error:
                warn(f"{error}; taking the one before")
        if names:
            raise UserError(f"no checkpoint in {self.folder} is whole; start again without --resume in another folder")
        return None

    def load(self, name):
        """(arrays by file, state) of the checkpoint `name`. Raises UserError, which names the damage."""
        folder = self.folder / name
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            for file in FILES:
                entry = manifest[file]
                if (folder / file).stat().st_size != entry["size"] or \
                        digest(folder / file, "sha256") != entry["sha256"]:
                    raise UserError(f"checkpoint {folder} is damaged: {file} is not what was written")
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            return {file: params_file.load(folder / file) for file in FILES if file.endswith(".params")}, state
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, UserError):
                raise
            reason = getattr(error, "strerror", None) or f"manifest.json is not readable ({type(error).__name__})"
            raise UserError(f"checkpoint {folder} is damaged: {reason}") from None

    def _drop_old(self):
        kept = set(self.names()[-KEPT:]) | {self.pointer("best"), self.pointer("last")}
        for name in self.names():
            if name not in kept:
                shutil.rmtree(self.folder / name, ignore_errors=True)


class ReadOnlyStore(CheckpointStore):
    """The same folder for the workers beside worker 0, which writes."""

    def save(self, epoch, batch, arrays, state, best):
        return self.folder / folder_name(epoch, batch)
