"""Downloads that resume, and are whole or absent.

download(["https://host/data.tar.gz"], "~/.mxnet/data.tar.gz", "sha256", "58a8...")
"""

import contextlib
import logging
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import Iterable, Iterator, Union
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ReadTimeoutError

from igc_gluon.errors import UserError
from igc_gluon.files import Algorithm, destination, digest, sync_folder
from igc_gluon.locks import Lock
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar

logger = logging.getLogger(__name__)

TIMEOUTS = (10, 30)  # seconds: to connect, and of silence on an open connection
TRIES = 3  # rounds over the urls, in a row, that bring no new byte
PATIENCE = 120  # seconds for a piece: a server that sends byte after byte is left, as a silent one is
PAUSE = 1.0  # seconds before the second round; each further pause is one longer
MOST_BYTES = 1 << 31  # of any download; SVHN's largest file has 1.3 GB
PIECE = 1 << 14  # bytes; at most this much is lost when a connection is cut


def download(
    urls: Iterable[str], path: Union[str, Path], algorithm: Algorithm, expected: str, most: int = MOST_BYTES
) -> Path:
    """Brings a file to `path` and returns it as a Path; at once if the file is there with the right digest.

    urls: of the same bytes, tried in turn; mirrors first, since the last is what an error tells to get by hand.
    expected: hexadecimal digest by `algorithm`, see `digest`. most: bytes; a server that sends more is left.
    A bar on stderr shows the progress. A cut connection is taken up where it broke, in this call or a later
    one; what has arrived waits in `<path>.<digest>.part`. Of several processes that ask for the same file,
    one downloads and the others wait for it. The file appears at `path` only after its digest has been
    verified.

    Raises UserError, naming what to fetch by hand and where to put it, when no url delivers the file.
    """
    shown, (path, replaceable) = expand(path), destination(path)
    try:
        if _is_whole(path, algorithm, expected):
            return shown
        if not replaceable or path.is_dir():
            raise UserError(f"cannot write {shown}: it is no file; take it away, or choose another place")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of several processes one downloads, the others wait.
        with Lock(
            path.with_name(f".{path.name}.lock"),
            temporary=True,
            wait=lambda: logger.info("waiting for another process that downloads %s", path),
        ):
            if not _is_whole(path, algorithm, expected):
                # The digest in the name keeps a part of one release from being continued with another.
                part = path.with_name(f"{path.name}.{expected[:8]}.part")
                _fetch(urls, part, path, algorithm, expected, most)
                os.replace(part, path)
                sync_folder(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return shown


def _is_whole(path: Path, algorithm: Algorithm, expected: str) -> bool:
    return path.is_file() and digest(path, algorithm) == expected


class _Cut(Exception):
    """The connection ended before the file did; to be taken up again."""


class _Slow(_Cut):
    """What it sends would never be whole."""


class _TooLong(Exception):
    """A server sends more than the file may have."""


def _fetch(urls: Iterable[str], part: Path, path: Path, algorithm: Algorithm, expected: str, most_bytes: int) -> None:
    """Leaves the verified file at `part`. Raises UserError when every url has failed for good."""
    urls = list(urls)
    by_hand = urls[-1]
    if _is_whole(part, algorithm, expected):  # killed between the last byte and the rename
        return
    most, idle = 0, 0
    while True:
        for url in list(urls):
            try:
                resumed = _receive(url, part, path.name, most_bytes)
            except _TooLong:
                part.unlink(missing_ok=True)
                reason = f"{url} sends more than {most_bytes:,} bytes, which is another file"
                urls.remove(url)
                continue
            except (requests.RequestException, _Cut) as error:
                reason = _in_words(error, url)
                if _is_final(error):
                    urls.remove(url)
                continue
            actual = digest(part, algorithm)
            if actual == expected:
                return
            part.unlink()
            reason = f"{url} has {getattr(algorithm, '__name__', algorithm)} {actual}, expected {expected}"
            if not resumed:  # otherwise the old part may be to blame, not this url
                urls.remove(url)
        arrived = part.stat().st_size if part.exists() else 0
        most, idle = (arrived, 0) if arrived > most else (most, idle + 1)
        if not urls or idle == TRIES:
            damaged = f" ({path} is there, but damaged)" if path.exists() else ""
            raise UserError(
                f"cannot download {path.name}: {reason}{damaged}; get {by_hand} by other means and put it at {path}"
            )
        time.sleep(PAUSE * idle)


def _receive(url: str, part: Path, title: str, most: int) -> bool:
    """Appends to `part` what it lacks. Returns whether there was a part to continue.

    Raises requests.RequestException or _Cut, with all that has arrived in `part`, and _TooLong.
    """
    offset = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed answer could not be continued
    if offset:
        headers["Range"] = f"bytes={offset}-"
    with requests.get(url, stream=True, headers=headers, timeout=TIMEOUTS) as answer:
        if answer.status_code == 416:  # the part is longer than the file, so it is not a part of it
            part.unlink()
            raise _Cut
        if answer.status_code == 206:
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                part.unlink()
                raise _Cut
        elif answer.status_code == 200:
            offset = 0  # this server does not continue files
        else:
            raise requests.HTTPError(response=answer)
        length = answer.headers.get("Content-Length", "")
        total = offset + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        if total is not None and total > most:
            raise _TooLong
        with open(part, "ab" if offset else "wb") as file, progress_bar(
            desc=title, total=total, initial=offset, unit="B", unit_scale=True, unit_divisor=1024
        ) as bar:
            for piece in _pieces(answer):
                if file.tell() + len(piece) > most:  # nobody may fill the disk
                    raise _TooLong
                file.write(piece)
                bar.update(len(piece))
            file.flush()
            os.fsync(file.fileno())
            arrived = file.tell()
    if total is not None and arrived < total:  # requests itself may take a short answer for a whole one
        raise _Cut
    return offset > 0


def _pieces(answer: requests.Response) -> Iterator[bytes]:
    """The content of `answer` in pieces. Raises _Slow where one takes longer than PATIENCE, however much it is
    interrupted."""
    slow = threading.Event()

    def cut() -> None:
        slow.set()
        with contextlib.suppress(OSError, ValueError), socket.socket(fileno=os.dup(answer.raw.fileno())) as connection:
            connection.shutdown(socket.SHUT_RDWR)

    pieces = answer.iter_content(PIECE)
    while True:
        watch = threading.Timer(PATIENCE, cut)
        watch.daemon = True
        watch.start()
        try:
            piece = next(pieces, None)
        except (requests.RequestException, OSError):
            if slow.is_set():
                raise _Slow from None
            raise
        finally:
            watch.cancel()
        if slow.is_set():
            raise _Slow
        if piece is None:
            return
        yield piece


def _is_final(error: Exception) -> bool:
    """Whether asking the same url again is pointless."""
    if isinstance(error, requests.TooManyRedirects):
        return True
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in (408, 429)
    return isinstance(error, ValueError)  # requests' errors about the url itself


def _in_words(error: Exception, url: str) -> str:
    host = urlsplit(url).netloc
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{url} answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"{host} does not answer"
    if error.args and isinstance(error.args[0], ReadTimeoutError):  # as requests passes on a silence within a file
        return f"{host} stops sending within the file"
    if isinstance(error, requests.TooManyRedirects):
        return f"{url} leads round in a circle"
    if isinstance(error, _Slow):
        return f"{host} sends less than {PIECE:,} bytes in {PATIENCE} s"
    if isinstance(error, (_Cut, requests.exceptions.ChunkedEncodingError)):
        return f"the connection to {host} is cut again and again"
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host} has no valid certificate"
    if isinstance(error, requests.ConnectionError):
        return f"no connection to {host}"
    return f"{url}: {error}"
