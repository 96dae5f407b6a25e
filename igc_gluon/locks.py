"""Locks between processes, on any file system.

    with Lock(folder / "run.lock"):
        ...

The operating system's lock (flock) dies with its holder and is the one that counts. Where the file system has none, or
fails at it, a second file `run.lock.taken`, made exclusively, takes its place; it says who has made it, so that what a
dead process left is seen to be left. Each kind heeds the other, as a file system may fail once only.
"""

import contextlib
import errno
import json
import logging
import os
import platform
import stat
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Mapping, Optional, Union

import portalocker

logger = logging.getLogger(__name__)

PAUSE = 0.5  # seconds between two looks at a lock that cannot be waited for otherwise
_MOST_BYTES = 4096  # of what a holder says of itself


class Held(Exception):
    """Another process holds the lock; the message says what is known of it, with what to do where it may be gone."""


class Lock:
    """Holds the lock of `path`, which is made, until `close` or the end of the block.

    wait: called with no argument before waiting for another holder; None: not to wait. temporary: the file goes with
    the lock. Raises Held, and OSError where no lock of either kind can be made.
    """

    def __init__(
        self, path: Union[str, Path], wait: Optional[Callable[[], object]] = None, temporary: bool = False
    ) -> None:
        self._path, self._temporary = Path(path), temporary
        self._taken = self._path.with_name(self._path.name + ".taken")
        self._made = False
        self._file: Optional[IO[bytes]] = None
        try:
            while not self._take(patient=wait is not None):
                if wait:
                    wait()
                    wait = self._pause
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._made:
                self._taken.unlink()
            if self._temporary and (self._file or self._made):
                self._path.unlink()
            elif self._file:
                self._file.truncate(0)
        self._made = False
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    @staticmethod
    def _pause() -> None:
        time.sleep(PAUSE)

    def _take(self, patient: bool) -> bool:
        """Whether the lock is held now; if not, another holds it and is to be waited for, or has just gone."""
        file = _open(self._path)
        try:
            portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING)
        except portalocker.AlreadyLocked:
            file.close()
            if not patient:
                raise Held("it is locked") from None
            return False
        except portalocker.LockException as error:
            return self._take_by_file(file, error.args[0], patient)
        if not _is_at(file, self._path):  # who held it before has deleted it: others lock a new one
            file.close()
            return False
        try:
            if not self._is_free(self._taken, patient):
                file.close()
                return False
        except BaseException:
            file.close()
            raise
        self._file = file
        file.truncate(0)
        file.write(_who_am_i())
        return True

    def _take_by_file(self, file: IO[bytes], reason: object, patient: bool) -> bool:
        with file:
            if not self._is_free(self._path, patient) or not self._is_free(self._taken, patient):
                return False
        left = os.path.lexists(self._taken)
        if left and _holder(self._taken) is None:  # perhaps it is just being written
            self._pause()
            if not self._is_free(self._taken, patient):
                return False
        with contextlib.suppress(FileNotFoundError):
            self._taken.unlink()
        try:
            handle = os.open(self._taken, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False  # somebody was faster
        self._made = True
        with open(handle, "wb", buffering=0) as taken:
            taken.write(_who_am_i())
            if left:  # another may have seen the same left over, and have taken this one for it
                self._pause()
                self._made = _is_at(taken, self._taken)
                if not self._made:
                    return False
        logger.warning(
            "%s cannot be locked (%s); %s stands for the lock",
            self._path,
            getattr(reason, "strerror", None) or reason,
            self._taken.name,
        )
        return True

    @staticmethod
    def _is_free(path: Path, patient: bool) -> bool:
        """Whether nobody alive has written its name into `path`. Raises Held if somebody has and is not waited for."""
        holder = _holder(path)
        if holder is None or _is_gone(holder):
            return True
        if not patient:
            raise Held(f"process {holder['pid']} on {holder['host']} holds it; if that is gone, delete {path}")
        return False


def _open(path: Path) -> IO[bytes]:
    """`path`, made if it is not there, to be read and appended to. Raises OSError on a pipe, which it does not wait
    for, or anything else that is no file."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NONBLOCK", 0), 0o666)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return open(handle, "ab", buffering=0)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open `file` is still what lies at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _who_am_i() -> bytes:
    return json.dumps(
        {"host": platform.node(), "pid": os.getpid(), "began": _began(os.getpid()), "numbers": _numbers()}
    ).encode()


def _holder(path: Path) -> Optional[Dict[str, Any]]:
    """Who has written its name into `path`, or None."""
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            owner = json.loads(file.read(_MOST_BYTES))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    kinds = {"host": str, "pid": int, "began": str, "numbers": str}
    if isinstance(owner, dict) and all(isinstance(owner.get(key), kind) for key, kind in kinds.items()):
        return owner
    return None


def _is_gone(holder: Mapping[str, Any]) -> bool:
    """Whether the process is known to be gone; of another machine or container nothing is known."""
    if holder["host"] != platform.node() or holder["numbers"] != _numbers():
        return False
    return _began(holder["pid"]) != holder["began"]


def _began(pid: int) -> str:
    """When the process `pid` began, in the kernel's words; "" if there is none."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""


def _numbers() -> str:
    """What process numbers belong to: this start of this machine, or of a container."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    return ""
