"""`igc data imagenet`, `igc data verify`"""

import argparse
import shlex
from pathlib import Path
from typing import Dict

from igc_gluon.data import pack, record_file, repair
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand
from igc_gluon.threads import cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    packing = commands.add_parser(
        "imagenet", help="pack ImageNet, or any folder of one folder per class, into .rec files"
    )
    packing.add_argument(
        "--root",
        required=True,
        metavar="FOLDER",
        help="has train/ and val/ with a folder for each class, or such folders itself",
    )
    packing.add_argument(
        "--out", metavar="FOLDER", help="where train.rec, val.rec and classes.txt go (default: --root)"
    )
    packing.add_argument(
        "--val-share",
        type=float,
        metavar="S",
        help="where there is no val/: this share of each class goes to val.rec, 0.1 for example",
    )
    packing.add_argument(
        "--short-side",
        type=int,
        default=480,
        metavar="N",
        help="of the images in the file, 0 to leave sizes as they are (default: 480, as the authors')",
    )
    packing.add_argument("--quality", type=int, default=95, metavar="Q", help="of the JPEGs, 1 to 100 (default: 95)")
    packing.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    packing.add_argument("--seed", type=int, default=0, help="of the order of the training images (default: 0)")
    verify = commands.add_parser("verify", help="decode every record of a file and list the broken ones")
    verify.add_argument("file", metavar="FILE.rec")
    verify.add_argument("--repair", metavar="OUT.rec", help="write the whole records to this file, with an index")
    verify.add_argument("--index", action="store_true", help="only write a new index, FILE.idx")


def run(args: argparse.Namespace) -> int:
    return _verify(args) if args.what == "verify" else _pack(args)


def _pack(args: argparse.Namespace) -> int:
    root = expand(args.root)
    out = expand(args.out) if args.out else root
    if not root.is_dir():
        raise UserError(f"there is no folder {root}")
    _check_numbers(args)
    splits = _splits(root, args)
    for listing in splits.values():
        for line in listing.remarks():
            print(printable(line))
    with pack.ended_as_by_ctrl_c():
        encoding = pack.Encoding(args.short_side, args.quality)
        for name, listing in splits.items():
            path = out / f"{name}.rec"
            count, left_out = pack.pack(listing, path, encoding, args.workers or cores())
            print(
                f"{path}: {count:,} images of {len(set(listing.labels)):,} classes, "
                f"{path.stat().st_size / 1e6:,.1f} MB"
                + (f"; {len(left_out)} could not be read and were left out" if left_out else "")
            )
    classes = splits["train"].classes
    pack.write_classes(out / pack.CLASS_FILE, classes)
    print(f"{out / pack.CLASS_FILE}: {len(classes):,} classes")
    if "val" not in splits:
        print("there is no val.rec, which training needs; give --val-share 0.1, or make a folder val/")
    return 0


def _check_numbers(args: argparse.Namespace) -> None:
    for flag, fits, range_ in (
        ("short_side", args.short_side == 0 or 32 <= args.short_side <= 4096, "from 32 to 4096, or 0"),
        ("quality", 1 <= args.quality <= 100, "from 1 to 100"),
        ("workers", args.workers is None or args.workers >= 1, "at least 1"),
        ("seed", args.seed >= 0, "at least 0"),
        ("val_share", args.val_share is None or 0 < args.val_share < 1, "between 0 and 1"),
    ):
        if not fits:
            raise UserError(f"--{flag.replace('_', '-')} must be {range_}, not {getattr(args, flag)}")


def _splits(root: Path, args: argparse.Namespace) -> Dict[str, pack.Listing]:
    """{name of the file: Listing}"""
    if (root / "val").is_dir() and not (root / "train").is_dir():
        raise UserError(
            f"{root} has a folder val/ but no train/; name the latter so, or give --root "
            f"{shlex.quote(str(root / 'val'))}"
        )
    train = pack.list_images(root / "train" if (root / "train").is_dir() else root, shuffle_seed=args.seed)
    if (root / "train").is_dir() and (root / "val").is_dir():
        if args.val_share is not None:
            raise UserError(f"{root} has a folder val/; leave --val-share out")
        return {"train": train, "val": pack.list_images(root / "val", train.classes)}
    if args.val_share is None:
        return {"train": train}
    return dict(zip(("train", "val"), pack.divide(train, args.val_share)))


def _verify(args: argparse.Namespace) -> int:
    if args.index:
        if args.repair:
            raise UserError("--index is for a file that is whole, --repair writes an index itself; give one of them")
        print(f"{record_file.index_path(args.file)}: {repair.write_index(args.file):,} records")
        return 0
    report = repair.verify(args.file, args.repair, cores())
    for number, position, problem in report.broken[:1000]:
        print(f"{args.file}: record {number}, at byte {position}: {problem}")
    if len(report.broken) > 1000:
        print(f"... and {len(report.broken) - 1000:,} more")
    labels = f", labels {report.smallest_label:g} to {report.largest_label:g}" if report.whole else ""
    print(f"{args.file}: {report.whole:,} whole records{labels}, {len(report.broken):,} broken")
    if args.repair:
        print(f"{args.repair}: {report.whole:,} records")
        return 0
    if not report.broken and not report.whole:
        raise UserError(f"{args.file} is empty")
    if not report.broken:
        record_file.structure(args.file)  # the index
    return 1 if report.broken else 0
