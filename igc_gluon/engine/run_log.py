"""What a run leaves behind for people and programs, all in its folder:

config.json     the exact configuration, and what it ran on: versions, processor, commit of a checkout
log.txt         MXNet's usual lines
history.jsonl   a line per epoch
tensorboard/    the same as events
curves.png      the same as a picture
checkpoints/    see `igc_gluon.engine.checkpoint`
"""

import contextlib
import json
import logging
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from tqdm import tqdm

import igc_gluon
from igc_gluon import processor
from igc_gluon.engine.curves import draw_curves
from igc_gluon.engine.progress import Entry
from igc_gluon.engine.run_folder import load_config
from igc_gluon.engine.versions import changes, versions
from igc_gluon.errors import UserError, printable
from igc_gluon.exits import OneLine
from igc_gluon.files import finite_or_none, write_atomically
from igc_gluon.locks import Held, Lock

logger = logging.getLogger(__name__)


def commit() -> Optional[str]:
    """The commit that this package was run from, with a + where files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(igc_gluon.__file__).parent), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # it may be installed somewhere within another project
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


class NullRunLog:
    """In place of a RunLog for the workers beside worker 0: keeps nothing."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def open(self, history: List[Entry]) -> None:
        """Begins (or, with a `history` of finished epochs, continues) the log."""

    def write_config(self, config: Mapping[str, Any], how: Mapping[str, Any]) -> None:
        """Writes config.json."""

    def add_epoch(self, history: List[Entry]) -> None:
        """Adds the last entry of `history`."""

    def draw(self, history: List[Entry], title: str) -> None:
        """Draws curves.png: loss and error over the epochs, the best epoch marked, the drops of the rate dotted."""

    def close(self) -> None:
        """Closes all files."""


class RunLog(NullRunLog):
    """Writes what one run leaves behind into `folder`, which it locks against a second run.

    Raises UserError if the folder cannot be written or another run is in it.
    """

    def __init__(self, folder: Path):
        super().__init__(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.folder / "run.lock")
        except Held as held:
            raise UserError(
                f"another run is at work in {self.folder} ({held}); wait for it or choose another --exp-name"
            ) from None
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}") from None
        self._handler: Optional[_LogFile] = None
        self._events: Optional[EventFile] = None

    def open(self, history: List[Entry]) -> None:
        """Begins (or, with a `history` of finished epochs, continues) the log.

        What a killed run wrote beyond its last checkpoint, or had half written, is gone afterwards.
        """
        try:
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink()
            self._handler = _LogFile(self.folder / "log.txt", encoding="utf-8")
            self._handler.setFormatter(OneLine("%(asctime)s %(message)s"))
            logging.getLogger("igc_gluon").addHandler(self._handler)
            self._write_history(history)
            self._events = EventFile(self.folder / "tensorboard", history)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror} ({error.filename})") from None

    def write_config(self, config: Mapping[str, Any], how: Mapping[str, Any]) -> None:
        """Writes config.json; a resumed run keeps the one it was begun with and adds what it goes on with.

        how: {name: value} of what a resumed run may change, and the last bits with it.
        """
        now: Dict[str, Any] = {
            "versions": {**versions(), **how},
            "processor": processor.name(),
            "commit": commit(),
            "command": " ".join(sys.argv),
        }
        before = self.read_config()
        if before is None:
            before = {**config, **now}
        elif changed := changes(before.get("versions") or {}, now["versions"]):
            logger.warning(
                "%s was begun with other versions (%s): it goes on, but not with the same last bits",
                self.folder,
                ", ".join(changed),
            )
            before.setdefault("resumed_with", []).append(now)
        with write_atomically(self.folder / "config.json", "w") as file:
            json.dump(before, file, indent=1)
            file.write("\n")

    def read_config(self) -> Optional[Dict[str, Any]]:
        """The configuration that the folder was begun with, or None."""
        return read_config(self.folder)

    def add_epoch(self, history: List[Entry]) -> None:
        self._write_history(history)
        if self._events:
            self._events.add(history[-1])

    def _write_history(self, history: List[Entry]) -> None:
        with write_atomically(self.folder / "history.jsonl", "w") as file:
            file.writelines(json.dumps(finite_or_none(entry)) + "\n" for entry in history)

    def draw(self, history: List[Entry], title: str) -> None:
        draw_curves(history, title, self.folder / "curves.png")

    def close(self) -> None:
        if self._events:
            self._events.close()
        if self._handler:
            logging.getLogger("igc_gluon").removeHandler(self._handler)
            with contextlib.suppress(OSError):  # a full disk, which has been reported
                self._handler.close()
        self._lock.close()


class _LogFile(logging.FileHandler):
    """Ends the run on a full disk, where logging would print a traceback for every line."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            raise
        raise UserError(f"cannot write {self.baseFilename}: {error.strerror}") from None


class EventFile:
    """The history as TensorBoard's events in `folder`, written at once (a SummaryWriter does it now and then, from a
    thread that a full disk kills). Begins with all of `history`, in place of what was there."""

    def __init__(self, folder: Path, history: List[Entry]):
        from tensorboardX.record_writer import RecordWriter  # slow: takes a second

        folder.mkdir(exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = RecordWriter(str(folder / f"events.out.tfevents.{int(time.time())}.{platform.node()}"))
        self._write(file_version="brain.Event:2", wall_time=time.time())
        for entry in history:
            self._add(entry)
        self._writer.flush()

    def add(self, entry: Entry) -> None:
        """Adds an epoch's entry. Raises UserError if the disk is full."""
        try:
            self._add(entry)
            self._writer.flush()
        except OSError as error:
            raise UserError(f"cannot write {self._writer.path}: {error.strerror}") from None

    def _add(self, entry: Entry) -> None:
        # slow: takes a second
        from tensorboardX.summary import scalar

        for key in (
            "train_loss train_accuracy test_loss test_accuracy lr images_per_second train_top5 test_top5 "
            "validation_loss validation_accuracy trained_test_loss trained_test_accuracy"
        ).split():
            if key not in entry:
                continue
            self._write(summary=scalar(key, entry[key]), step=entry["epoch"], wall_time=time.time())

    def _write(self, **fields: Any) -> None:
        # slow: takes a second
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write(Event(**fields).SerializeToString())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # everything that matters has been flushed
            self._writer.close()


def report_epoch(entry: Entry, best: bool) -> None:
    """Says of an epoch what its entry in the history holds: MXNet's usual lines to the log, a line for people."""

    def log(name: str, key: str) -> None:
        if key in entry:
            logger.info("Epoch[%d] %s=%f", entry["epoch"], name, entry[key])

    log("Train-accuracy", "train_accuracy")
    log("Train-cross-entropy", "train_loss")
    logger.info("Epoch[%d] Time cost=%.3f", entry["epoch"], entry["seconds"])
    log("Validation-accuracy", "test_accuracy")  # MXNet calls the test images so
    log("Validation-cross-entropy", "test_loss")
    log("Held-out-accuracy", "validation_accuracy")
    log("Train-top_k_accuracy_5", "train_top5")
    log("Validation-top_k_accuracy_5", "test_top5")
    more = "".join(
        f", {name} {100 * entry[key]:6.2f} %"
        for name, key in (
            ("top-5", "test_top5"),
            ("validation", "validation_accuracy"),
            ("not averaged", "trained_test_accuracy"),
        )
        if key in entry
    )
    print_line(
        f"epoch {entry['epoch'] + 1:3d}  lr {entry['lr']:<7.4g} train: loss {entry['train_loss']:.4f}, accuracy "
        f"{100 * entry['train_accuracy']:6.2f} %  test: loss {entry['test_loss']:.4f}, accuracy "
        f"{100 * entry['test_accuracy']:6.2f} %{more}{' (best)' if best else '       '}  "
        f"{entry['seconds']:.1f} s"
    )


def read_config(folder: Path) -> Optional[Dict[str, Any]]:
    """The configuration that the run in `folder` was begun with, or None. Raises UserError where it is damaged."""
    try:
        config = load_config(folder / "config.json")
        if isinstance(config.get("versions", {}), dict) and isinstance(config.get("resumed_with", []), list):
            return config
    except FileNotFoundError:
        return None
    except (OSError, UserError):
        pass
    raise UserError(f"{folder / 'config.json'} is damaged; choose another --exp-name")


def print_line(line: str) -> None:
    """Prints a line for people, or several, above a progress bar."""
    tqdm.write("\n".join(map(printable, line.split("\n"))), file=sys.stdout)
    sys.stdout.flush()
