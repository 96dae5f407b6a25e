"""Folders of photographs, one for each class -> FILE.rec, FILE.idx, FILE.lst and classes.txt.

A split is packed in an order that its seed shuffles, into `.FILE.rec.part`, which gets its name when it is whole. A
packing that was cut off goes on after the last whole record there. The same folder, seed, short side and quality give
the same bytes, with the same release of OpenCV.
"""

import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from igc_gluon.data import photos, record_file, recordio
from igc_gluon.data.classes import CLASS_FILE, as_written, write_classes  # noqa: F401 (for those who pack)
from igc_gluon.data.photos import ENDINGS, HIDDEN
from igc_gluon.data.recordio import HEADER
from igc_gluon.errors import UserError, printable
from igc_gluon.files import read_text, sync_folder, write_atomically
from igc_gluon.locks import Held, Lock
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar
from igc_gluon.threads import cores

_LONGEST = 65500  # pixels of a side of a JPEG that OpenCV writes
_PORTION = 16  # images that a process gets at once
_NAMED = 10  # classes in a remark


@dataclass(frozen=True)
class Listing:
    """The images of a split: `paths` relative to `folder`, `labels` (numbers into `classes`), in packing order.

    passed_over: what lies in `folder` and is none of them, by the reason."""

    folder: Path
    classes: List[str]
    paths: List[str]
    labels: List[int]
    passed_over: Dict[str, int] = field(default_factory=dict)

    def remarks(self) -> List[str]:
        """Lines on what is not packed, and on classes that nothing is packed of."""
        lines = []
        if self.passed_over:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.passed_over.items()))
            lines.append(f"{self.folder}: passed over {sum(self.passed_over.values()):,} files and folders: {reasons}")
        present = set(self.labels)
        empty = [name for label, name in enumerate(self.classes) if label not in present]
        if empty:
            named = ", ".join(map(as_written, empty[:_NAMED])) + (", ..." if len(empty) > _NAMED else "")
            lines.append(
                f"{self.folder}: no images of {len(empty):,} of the {len(self.classes):,} classes: {named}; "
                "if these are none, remove their folders and pack again"
            )
        return lines


@dataclass(frozen=True)
class Encoding:
    """What an image becomes: its short side in pixels (0: as it is), the JPEG quality, whether a smaller image is
    enlarged."""

    short_side: int = 480  # as the authors'
    quality: int = 95
    enlarge: bool = True


def class_folders(folder: Union[str, Path]) -> List[str]:
    """Names of the folders in `folder`, sorted: the classes. Raises UserError if there are none, or one that
    is no line of text."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None
    if not names:
        raise UserError(f"{folder} has no folders; it needs one for each class, with the images of the class in it")
    odd = next((name for name in names if not name.strip() or len(name.splitlines()) > 1), None)
    if odd is not None:
        raise UserError(f"{folder} has a folder {odd!r}: rename it, a class needs a name that is one line of text")
    return names


def list_images(
    folder: Union[str, Path], classes: Optional[Sequence[str]] = None, shuffle_seed: Optional[int] = None
) -> Listing:
    """The `Listing` of all images below the class folders of `folder`, sorted, or shuffled by `shuffle_seed`.

    classes: those of the training images, where `folder` holds others. Raises UserError on a class that is not one of
    them, and where there is no image.
    """
    root = Path(folder)
    images: List[Tuple[str, int]] = []
    passed_over: Counter = Counter()
    names = class_folders(root)
    classes = names if classes is None else list(classes)
    # A checkpoint and classes.txt have names as text, which the bytes of a folder's name need not be.
    called = {name: name if name in classes else as_written(name) for name in names}
    unknown = [name for name in names if called[name] not in classes]
    if unknown:
        raise UserError(f"{root} has a class {unknown[0]} that the training images have not")
    twice = [text for text, count in Counter(called.values()).items() if count > 1]
    if twice:  # which of them is the class of that name?
        raise UserError(f"{root} has several folders whose names as text are {twice[0]}; rename all but one")
    with os.scandir(root) as entries:
        passed_over.update(
            HIDDEN if entry.name.startswith(".") else "beside the class folders"
            for entry in entries
            if entry.name not in names
        )
    for name in names:
        label, paths = classes.index(called[name]), photos.photos_below(root / name, passed_over)
        images += [(os.path.relpath(path, root), label) for path in paths]
    if not images:
        raise UserError(f"there are no images in the folders of {root}; their names should end in {', '.join(ENDINGS)}")
    bad = next((path for path, _ in images if "\n" in path or "\t" in path), None)
    if bad:
        raise UserError(f"{str(root / bad)!r}: rename it, a list of files cannot hold a tabulator or a new line")
    if shuffle_seed is not None:
        images = [images[i] for i in np.random.Generator(np.random.PCG64(shuffle_seed)).permutation(len(images))]
    return Listing(root, classes, [path for path, _ in images], [label for _, label in images], dict(passed_over))


def divide(listing: Listing, share: float) -> Tuple[Listing, ...]:
    """(the rest, `share` of the images of each class, at least one), both in the order of `listing`."""
    labels = np.array(listing.labels)
    second = np.zeros(len(labels), bool)
    for label in sorted(set(listing.labels)):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(f"class {listing.classes[label]} has too few images to divide: {len(members)}")
        second[members[: min(len(members) - 1, max(1, round(share * len(members))))]] = True
    return tuple(
        Listing(
            listing.folder,
            listing.classes,
            [p for p, chosen in zip(listing.paths, mask) if chosen],
            labels[mask].tolist(),
        )
        for mask in (~second, second)
    )


def pack(
    listing: Listing,
    path: Union[str, Path],
    encoding: Encoding = Encoding(),
    workers: int = 1,
    report: Callable[[str], object] = print,
    wait: Optional[Callable[[], object]] = None,
    origin: Optional[str] = None,
) -> Tuple[int, list]:
    """Packs `listing` into the file at `path`, unless that is done, and returns (records, left out: what and why).

    workers: processes; 0: threads of this one, which begin sooner. wait: called before waiting for another process that
    packs it; None: that is an error. origin: a text that all of the file follows from (default: of the listing, its
    folder and the encoding). Raises UserError if another file is at `path`, if nothing can be packed, on a full disk.
    """
    place = expand(path)
    part, state = place.with_name(f".{place.name}.part"), place.with_name(f".{place.name}.part.json")
    origin = origin or _origin(listing, encoding)
    if place.exists():
        return _packed_before(place, origin, state)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with Lock(place.with_name(f".{place.name}.lock"), wait=wait, temporary=True):
            if place.exists():  # the process that was waited for has made it
                return _packed_before(place, origin, state)
            positions, numbers = _begin(part, state, origin, report)
            left_out = _fill(part, listing, encoding, workers, positions, numbers)
            if not positions:
                raise UserError(f"none of the images of {listing.folder} can be read: {'; '.join(left_out[0])}")
            _finish(part, place, listing, positions, numbers)
            labels = [listing.labels[number] for number in numbers]
            record_file.write_facts(
                place,
                record_file.Structure(len(labels), float(min(labels)), float(max(labels))),
                {
                    "origin": origin,
                    "left_out": left_out,
                    "short_side": encoding.short_side,
                    "quality": encoding.quality,
                    "classes": len(listing.classes),
                },
            )
            state.unlink()
    except Held as held:
        raise UserError(f"another process is packing {place} ({held}); wait for it") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; free the disk, the same command goes on from here" if full else ""
        raise UserError(f"cannot write {place}: {error.strerror or error}{advice}") from None
    return len(positions), left_out


def _packed_before(path: Path, origin: str, state: Path) -> Tuple[int, list]:
    before = record_file.packing(path) or {}
    if origin not in (before.get("origin"), _read_state(state)):  # the second after a kill right at the end
        raise UserError(
            f"{path} exists and was not made from the same images with the same flags; delete it, or "
            "choose another --out"
        )
    return record_file.structure(path).records, before.get("left_out", [])


@contextlib.contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP end packing as Ctrl-C does: workers are ended by what ends this process."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: signal.signal(number, signal.default_int_handler)
            for number in (signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _origin(listing: Listing, encoding: Encoding) -> str:
    """A digest of all that the file's content follows from."""
    state = hashlib.sha256(
        f"Form(short_side={encoding.short_side}, quality={encoding.quality})\n{listing.folder.resolve()}\n".encode()
    )  # as it is in the files of all releases
    if not encoding.enlarge:
        state.update(b"not enlarged\n")
    for path, label in zip(listing.paths, listing.labels):
        state.update(f"{path}\t{label}\n".encode("utf-8", "surrogateescape"))
    return state.hexdigest()


def _read_state(state: Path) -> Any:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(read_text(state))
    return None


def _begin(part: Path, state: Path, origin: str, report: Callable[[str], object]) -> Tuple[List[int], List[int]]:
    """(positions, numbers) of the whole records in `part`, which ends after them; none if it is of another origin."""
    positions: List[int] = []
    numbers: List[int] = []
    if _read_state(state) != origin:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        with write_atomically(state, "w") as file:
            json.dump(origin, file)
    if part.exists():
        end = 0
        for position, payload in recordio.scan(part):
            if payload is None or recordio.problem_and_label(payload, look=False)[0]:
                break
            positions.append(position)
            numbers.append(HEADER.unpack_from(payload)[2])
            end = position + len(recordio.frame(payload))
        with open(part, "r+b") as file:
            file.truncate(end)
        if positions:
            report(f"going on after {len(positions):,} records of {part}")
    return positions, numbers


def _fill(
    part: Path, listing: Listing, encoding: Encoding, workers: int, positions: List[int], numbers: List[int]
) -> List[Tuple[str, str]]:
    """Appends the records that `part` lacks, noting them in `positions` and `numbers`. Returns those left out."""
    first = numbers[-1] + 1 if numbers else 0
    total = len(listing.paths)
    left_out = [
        (listing.paths[number], "could not be read before") for number in sorted(set(range(first)) - set(numbers))
    ]
    with open(part, "ab") as file, progress_bar(
        total=total, initial=first, unit=" images", desc=f"packing {printable(listing.folder.name)}", mininterval=0.5
    ) as bar:
        end = file.tell()
        for number, image, problem in _encoded(listing, encoding, workers, first):
            if problem:
                left_out.append((listing.paths[number], problem))
                bar.write(printable(f"left out: {listing.folder / listing.paths[number]}: {problem}"))
            else:
                framed = recordio.frame(recordio.encode(listing.labels[number], number, image))
                file.write(framed)
                positions.append(end)
                numbers.append(number)
                end += len(framed)
            bar.update()
        file.flush()
        os.fsync(file.fileno())
    return left_out


def _encoded(
    listing: Listing, encoding: Encoding, workers: int, first: int
) -> Iterator[Tuple[int, bytes, Optional[str]]]:
    """Yields (number, JPEG bytes, problem or None) for the images from `first` on, in order."""
    jobs = (
        [
            (number, str(listing.folder / listing.paths[number]))
            for number in range(start, min(start + _PORTION, len(listing.paths)))
        ]
        for start in range(first, len(listing.paths), _PORTION)
    )
    pool: Executor = ThreadPoolExecutor(cores())
    if workers:  # not forked: this process may have threads, of MXNet for example
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker, (os.getpid(),))
    waiting: Deque[Any] = deque()
    try:
        for job in jobs:
            waiting.append(pool.submit(_encode_portion, job, encoding))
            if len(waiting) > 4 * (workers or cores()):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a process that encodes images was killed, perhaps for want of memory; the same command goes "
            "on from here, with fewer --workers perhaps"
        ) from None
    finally:
        for job in waiting:
            job.cancel()
        pool.shutdown()


def _prepare_worker(parent: int) -> None:
    """Leaves Ctrl-C to the parent, and ends with it even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _encode_portion(job: List[Tuple[int, str]], encoding: Encoding) -> List[Tuple[int, bytes, Optional[str]]]:
    return [(number, *_encode(path, encoding)) for number, path in job]


def _encode(path: str, encoding: Encoding) -> Tuple[bytes, Optional[str]]:
    try:
        image = photos.decode(np.frombuffer(photos.read_image_file(path), np.uint8))
        if image is None:
            return b"", "it is no image that OpenCV reads"
        side = min(image.shape[:2])
        if encoding.short_side and (side > encoding.short_side or (encoding.enlarge and side < encoding.short_side)):
            image = photos.resize(image, encoding.short_side)
        if max(image.shape[:2]) > _LONGEST:
            return b"", "it is too long for a JPEG"
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, encoding.quality))[1].tobytes(), None
    except UserError as error:
        return b"", str(error)
    except (OSError, cv2.error) as error:
        return b"", getattr(error, "strerror", None) or "OpenCV cannot read it"


def _finish(part: Path, path: Path, listing: Listing, positions: List[int], numbers: List[int]) -> None:
    """The index, the list in MXNet's format, and only then the file under its name."""
    with write_atomically(record_file.index_path(path), "w") as file:
        file.writelines(f"{number}\t{position}\n" for number, position in zip(numbers, positions))
    with write_atomically(path.with_suffix(".lst"), "w") as file:
        file.writelines(
            f"{number}\t{listing.labels[number]:.6f}\t{as_written(listing.paths[number])}\n" for number in numbers
        )
    os.rename(part, path)
    sync_folder(path.parent)
