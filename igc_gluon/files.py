"""Files that are whole or absent: atomic writes, and digests.

    with write_atomically("history.json", "w") as file:
        file.write(text)

Used for data sets, models and checkpoints alike; knows nothing of MXNet.
"""

import contextlib
import errno
import hashlib
import io
import math
import os
import secrets
import stat
from pathlib import Path
from typing import Any, BinaryIO, Callable, Iterator, Tuple, Union

from igc_gluon.errors import UserError
from igc_gluon.paths import expand

_LONGEST_TEXT = 64 << 20  # bytes; the history of a million epochs is shorter
_NAME_BYTES = 200  # of a file's name that a temporary one has: with what is added it is to be no longer than may be
_MOST_LINKS = 40  # in a row, as many as Linux follows

Algorithm = Union[str, Callable[[Path], str]]  # see `digest`


@contextlib.contextmanager
def write_atomically(path: Union[str, Path], mode: str = "wb") -> Iterator[Any]:
    """Opens a file that replaces `path` when the block ends, and only if it ends well.

    mode: "wb", or "w" for UTF-8 text. After the block the bytes and the rename are on the disk (fsync of file
    and folder); a kill at any moment leaves the old file or the new one. When the block raises, the old file
    is untouched and the temporary one, which lies in the same folder, is gone.
    Symbolic links stay: what they lead to is replaced. A character device, a pipe or whatever /dev/stdout is gets the
    bytes when the block ends, and stays what it is.

    Raises UserError when the disk is full, the folder missing or read-only; for a folder, a disk (a block device), and
    a pipe from which nobody reads.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f"mode is 'wb' or 'w', not {mode!r}")
    path, replaceable = destination(path)
    if not replaceable:
        content = io.BytesIO()
        yield content if "b" in mode else io.TextIOWrapper(content, "utf-8", write_through=True)
        _write_through(path, content.getbuffer())
        return
    begin = os.fsdecode(os.fsencode(path.name)[:_NAME_BYTES])
    temporary = path.with_name(f".{begin}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        # "x" applies the umask, which tempfile would not: the file must be as readable as any other.
        with open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        # An error about another file comes from the caller's block and is the caller's to explain.
        if isinstance(error, OSError) and str(error.filename) in ("None", str(temporary), str(path.parent)):
            raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def destination(path: Union[str, Path]) -> Tuple[Path, bool]:
    """(where the symbolic links of `path` lead to, whether a rename may replace what is there). Raises UserError."""
    path = named = expand(path)
    try:
        for _ in range(_MOST_LINKS):
            if not path.is_symlink():
                break
            if path.parent.resolve().match("/proc/*/fd"):  # leads to an open file, whatever name that has
                return path, False
            path = path.parent / os.readlink(path)
        kind = path.stat().st_mode
    except FileNotFoundError:  # the folder may be missing too, which is said where the file is opened
        return path, True
    except OSError as error:
        raise UserError(f"cannot write {named}: {error.strerror}") from None
    except ValueError:  # of a NUL in it
        raise UserError(f"cannot write {named}: no file has such a name") from None
    if stat.S_ISBLK(kind):
        raise UserError(f"cannot write {named}: it is a disk; name a file on it")
    if stat.S_ISDIR(kind):  # "/" and "" have no name that one beside it could be made of
        raise UserError(f"cannot write {named}: {os.strerror(errno.EISDIR)}")
    return path, stat.S_ISREG(kind)


def _write_through(path: Path, data: memoryview) -> None:
    """Writes to a device, a pipe or an open file."""
    try:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise UserError(f"nobody reads from the pipe {path}; start what reads from it first") from None
            raise
        with open(handle, "wb", buffering=0) as file:
            os.set_blocking(handle, True)
            while data:
                data = data[file.write(data) :]
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from None


def open_file(path: Union[str, Path]) -> BinaryIO:
    """`path`, open to read bytes. Raises OSError as `open` does, also on pipes and devices, which have no end or make
    one wait for it."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return open(handle, "rb")


def finite_or_none(value: Any) -> Any:
    """`value`, of which JSON is to be written, with None in place of infinity and NaN, for which JSON has no word: the
    loss of a network that diverged is one, and that of its first epochs may be."""
    if isinstance(value, dict):
        return {key: finite_or_none(part) for key, part in value.items()}
    if isinstance(value, list):
        return [finite_or_none(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_text(path: Union[str, Path]) -> str:
    """The UTF-8 text in the file at `path`. Raises OSError as `open_file` does and where it is too long for a text,
    ValueError where it is no UTF-8."""
    with open_file(path) as file:
        data = file.read(_LONGEST_TEXT + 1)
    if len(data) > _LONGEST_TEXT:
        raise OSError(errno.EFBIG, "it is too long for a text", str(path))
    return data.decode("utf-8")


def digest(path: Union[str, Path], algorithm: Algorithm) -> str:
    """Hexadecimal digest of the file at `path`.

    algorithm: a name that hashlib knows; "git-blob", git's object id: sha1 of "blob <size>", NUL, content; or a
    function of the path, for archives of which only the content has a known digest.
    """
    if callable(algorithm):
        return algorithm(Path(path))
    with open_file(path) as file:
        if algorithm == "git-blob":
            state = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)
        else:
            state = hashlib.new(algorithm)
        for piece in iter(lambda: file.read(1 << 20), b""):
            state.update(piece)
    return state.hexdigest()


def sync_folder(folder: Union[str, Path]) -> None:
    """Puts a rename on the disk; without it a power cut may bring the old name back."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that sync by themselves
            raise
    finally:
        os.close(handle)
