"""A folder of photographs as training takes it: photos/CLASS/*.jpg, or photos/train/CLASS and photos/val/CLASS.

Without a folder of test photographs a share of each class is held out. Which ones follows from their names alone, so
that the same photographs are the test on every machine, and most of them still are when others are added. They are
packed once, into <runs>/<name>/packed/<digest>/, and never enlarged there.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from igc_gluon.data import bounds, pack
from igc_gluon.data.classes import CLASS_FILE, as_written, write_classes
from igc_gluon.data.pack import Encoding, Listing
from igc_gluon.data.record_batches import short_sides
from igc_gluon.errors import UserError
from igc_gluon.files import open_file, read_text, write_atomically
from igc_gluon.paths import expand
from igc_gluon.threads import cores

TEST_FOLDERS = ("val", "valid", "validation", "test")  # the first that is there
PACKED = "packed"  # the folder, beside those of the runs
_NOTE = "photographs.json"
_PACKED_FILES = ("train.rec", "val.rec", CLASS_FILE)
_LOOKED_AT = 64  # photographs whose sizes are looked at
_HEADER = 1 << 16  # bytes, which mostly say the size
_FEW = 1000  # photographs: every one is looked at, and to start processes would take longer than to pack them
_FEWEST_TESTED, _SHARES = 2000, (0.05, 0.2)


@dataclass(frozen=True)
class PhotoFolder:
    """The photographs of a folder, listed: those to train on and to test on, in different orders.

    remarks: lines on what is left out. digest: of their names and sizes in bytes, wherever the folder lies.
    """

    folder: Path
    train: Listing
    test: Listing
    remarks: Tuple[str, ...]
    digest: str

    @property
    def class_names(self) -> Tuple[str, ...]:
        """As `classes.txt` holds them."""
        return tuple(map(as_written, self.train.classes))

    def short_side(self, smaller: float = 0.25) -> int:
        """Pixels of the short side that all but the share `smaller` of the photographs have; of a sample of them."""
        chosen = np.unique(np.linspace(0, len(self.train.paths) - 1, _LOOKED_AT).astype(int))
        sizes = [_size(self.train.folder / self.train.paths[number]) for number in chosen]
        return _exceeded(smaller, [min(size) for size in sizes if size], f"photographs of {self.folder}")


def _size(path: Union[str, Path]) -> Optional[Tuple[int, int]]:
    """(height, width) that the image file says, or None where it is no image."""
    try:
        with open_file(path) as file:
            size = bounds.image_size(file.read(_HEADER))
            if size is None:
                file.seek(0)
                size = bounds.image_size(file.read())
    except OSError:
        return None
    return size and size[:2]


def list_photographs(folder: Union[str, Path], test_share: Optional[float] = None) -> PhotoFolder:
    """The `PhotoFolder` at `folder`. test_share: of each class, held out where there is no folder of test photographs
    (default: a fifth, of more than 10,000 photographs 2,000, at least a twentieth).

    Raises UserError where there is nothing to learn: fewer than two classes, or a class with too few photographs.
    """
    root = expand(folder)
    train, test, remarks = _listings(root, test_share)
    remarks += [line for listing in (train, test) for line in _remarks(listing)]
    state = hashlib.sha256()
    for path, label in sorted({*_named(train, root), *_named(test, root)}):
        state.update(f"{path}\t{label}\t{_bytes(root / path)}\n".encode("utf-8", "surrogateescape"))
    return PhotoFolder(root, train, test, tuple(dict.fromkeys(remarks)), state.hexdigest())


def _listings(root: Path, test_share: Optional[float]) -> Tuple[Listing, Listing, List[str]]:
    """(training, test) photographs and remarks on their folders."""
    if not root.is_dir():
        raise UserError(f"{root} is a file, no folder" if root.exists() else f"there is no folder {root}")
    names = pack.class_folders(root)
    tests = [name for name in TEST_FOLDERS if name in names]
    if "train" not in names:
        if tests and len(names) == 1:
            raise UserError(
                f"{root} has a folder {tests[0]}/ but no train/; give {root / tests[0]} if that has all photographs"
            )
        return (*_divided(_learnable(pack.list_images(root), root), test_share), [])
    if not tests and len(names) > 1:  # a class that is called so
        return (*_divided(_learnable(pack.list_images(root), root), test_share), [])
    train = _learnable(pack.list_images(root / "train"), root / "train")
    if not tests:
        return (*_divided(train, test_share), [])
    if test_share is not None:
        raise UserError(f"{root} has a folder {tests[0]}/ to test on; leave --val-share out")
    beside = [name for name in names if name not in ("train", tests[0])]
    remark = f"{root}: train/ is trained on, {tests[0]}/ is tested on; {', '.join(beside)} left out"
    test = pack.list_images(root / tests[0], train.classes)
    return _shuffled(train), test, [remark] if beside else []


def _remarks(listing: Listing) -> List[str]:
    return listing.remarks()[:1] if listing.passed_over else []


def _learnable(listing: Listing, root: Path) -> Listing:
    """Without the classes that have no photograph. Raises UserError where fewer than two are left."""
    listing = _images(listing)
    present = sorted(set(listing.labels))
    if len(present) < 2:
        only = listing.classes[present[0]]
        inner = [path.name for path in sorted((root / only).iterdir()) if path.is_dir()]
        hint = f"; if the classes are {', '.join(inner[:3])}, give {root / only}" if len(inner) > 1 else ""
        raise UserError(
            f"{root} has photographs of one class, {only}; at least two are needed, a folder for each{hint}"
        )
    if len(present) == len(listing.classes):
        return listing
    empty = [name for number, name in enumerate(listing.classes) if number not in present]
    passed_over = {**listing.passed_over, f"without photographs ({', '.join(empty[:10])})": len(empty)}
    return Listing(
        listing.folder,
        [listing.classes[number] for number in present],
        listing.paths,
        [present.index(label) for label in listing.labels],
        passed_over,
    )


def _images(listing: Listing) -> Listing:
    """Of few files without those that are no images, so that the batch fits those that are."""
    if len(listing.paths) > _FEW:
        return listing
    whole = [_size(listing.folder / path) is not None for path in listing.paths]
    broken = [path for path, fine in zip(listing.paths, whole) if not fine]
    if not any(whole):
        raise UserError(f"none of the {len(broken)} files of {listing.folder} is an image, {broken[0]} for example")
    if not broken:
        return listing
    named = ", ".join(broken[:10]) + (", ..." if len(broken) > 10 else "")
    return replace(
        listing,
        paths=[path for path, fine in zip(listing.paths, whole) if fine],
        labels=[label for label, fine in zip(listing.labels, whole) if fine],
        passed_over={**listing.passed_over, f"that are no images ({named})": len(broken)},
    )


def _divided(listing: Listing, share: Optional[float]) -> Tuple[Listing, Listing]:
    if share is None:
        share = max(_SHARES[0], min(_SHARES[1], _FEWEST_TESTED / len(listing.paths)))
    counts = np.bincount(listing.labels, minlength=len(listing.classes))
    few = [name for count, name in zip(counts, listing.classes) if count < 2]
    if few:
        raise UserError(
            f"class {few[0]} of {listing.folder} has one photograph; a class needs two, to train on and to test on: "
            "add some, or remove its folder"
        )
    train, test = pack.divide(_shuffled(listing), share)
    return replace(train, passed_over=listing.passed_over), test


def _shuffled(listing: Listing) -> Listing:
    """In the order of digests of the names: as good as random, and the same where others are added."""

    digests = [hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest() for path in listing.paths]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return replace(listing, paths=[listing.paths[n] for n in order], labels=[listing.labels[n] for n in order])


def _named(listing: Listing, root: Path) -> List[Tuple[str, int]]:
    """[(path relative to root, label)]"""
    below = listing.folder.relative_to(root)
    return [(str(below / path), label) for path, label in zip(listing.paths, listing.labels)]


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def place(photographs: PhotoFolder, runs: Path, encoding: Encoding) -> Path:
    """The folder, below that of the runs on this data, in which it is or will be packed so.

    Raises UserError where these runs are on other photographs, from another folder of the same name.
    """
    for note in sorted((runs / PACKED).glob(f"*/{_NOTE}")):
        known = _read(note)
        if known and photographs.digest != known["digest"] and str(photographs.folder.resolve()) != known["folder"]:
            raise UserError(
                f"{runs} has runs on other photographs, of {known['folder']}; give these another name: --data-name NAME"
            )
    state = hashlib.sha256(f"{photographs.digest}\n{encoding}\n".encode())
    for listing in (photographs.train, photographs.test):
        for path, label in _named(listing, photographs.folder):
            state.update(f"{path}\t{label}\n".encode("utf-8", "surrogateescape"))
        state.update(b"\n")
    return runs / PACKED / state.hexdigest()[:12]


def pack_photographs(
    photographs: PhotoFolder, folder: Path, encoding: Encoding, report: Callable[[str], object] = print
) -> None:
    """Packs them into train.rec, val.rec and classes.txt in `folder`, see `place`, unless that is done.

    Raises UserError where of a class nothing is left that can be read, or nothing can be written.
    """
    known = _read(folder / _NOTE)
    if known and all((folder / name).is_file() for name in _PACKED_FILES):
        if known["folder"] != str(photographs.folder.resolve()):  # moved, or copied
            _write_note(folder, photographs)
        return
    left_out: List[str] = []
    with pack.ended_as_by_ctrl_c():
        for name, listing in (("train", photographs.train), ("val", photographs.test)):
            _, broken = pack.pack(
                listing,
                folder / f"{name}.rec",
                encoding,
                cores() if len(listing.paths) > _FEW else 0,
                report,
                wait=lambda: report(f"waiting for another process that packs {folder}"),
                origin=f"{folder.name} {name}",
            )
            _check_left(listing, [path for path, _ in broken], name)
            left_out += [f"{path}: {problem}" for path, problem in broken]
    write_classes(folder / CLASS_FILE, photographs.train.classes)
    _write_note(folder, photographs)
    megabytes = sum((folder / f"{name}.rec").stat().st_size for name in ("train", "val")) / 1e6
    unread = f"; {len(left_out)} could not be read and are left out" if left_out else ""
    report(f"packed once, {megabytes:,.1f} MB in {folder}{unread}")


def _check_left(listing: Listing, broken: Sequence[str], name: str) -> None:
    """Raises UserError where no photograph of a class can be read, so that it cannot be learned or tested."""
    unread = set(broken)
    left = {label for path, label in zip(listing.paths, listing.labels) if path not in unread}
    missing = [listing.classes[label] for label in sorted(set(listing.labels) - left)]
    if missing and name == "train":
        raise UserError(
            f"no photograph of class {missing[0]} to train on can be read; replace them, or remove the class"
        )


def _write_note(folder: Path, photographs: PhotoFolder) -> None:
    with write_atomically(folder / _NOTE, "w") as file:
        json.dump({"folder": str(photographs.folder.resolve()), "digest": photographs.digest}, file, indent=1)


def _read(note: Path) -> Optional[Dict[str, Any]]:
    try:
        known = json.loads(read_text(note))
        return known if all(isinstance(known[key], str) for key in ("folder", "digest")) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def records_short_side(path: Path) -> int:
    """As `PhotoFolder.short_side`, of the images in the record file at `path`."""
    return _exceeded(0.25, short_sides(path, _LOOKED_AT), f"images of {path}")


def _exceeded(smaller: float, sides: Sequence[int], images: str) -> int:
    """The side that all but the share `smaller` of `sides` have. images: what a message calls them."""
    if not sides:
        raise UserError(f"none of the {images} that were looked at can be read")
    return sorted(sides)[int(len(sides) * smaller)]
