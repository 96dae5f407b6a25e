"""`igc train`"""

import argparse
import difflib
from typing import Sequence

from igc_gluon.cli.training import flags, means
from igc_gluon.data import DATASETS
from igc_gluon.errors import UserError
from igc_gluon.paths import expand

# Flags of one kind of data alone.
SMALL_IMAGES = ("pad", "downsample", "data_dir")
PHOTOGRAPHS = ("schedule", "data_train", "data_val", "num_classes", "image_shape", "augment", "val_share", "data_name")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATASET|FOLDER|FILE.rec",
        help=f"{', '.join(DATASETS)}; or a folder with a folder of photographs for each class, or with train/ and val/ "
        "that have these; or a record file of training images, with val.rec beside it",
    )
    parser.add_argument(
        "--network",
        help="a name that `igc models` lists, or one of the authors' (plain_igc, resnet_igc, ...) with the three flags "
        "below (default: plain_igc, of depth 38; of photographs by their number)",
    )
    parser.add_argument("--depth", type=int, help="of the authors' names (default: 38)")
    parser.add_argument("--primary-partition", type=int, metavar="L", help="of the authors' names (default: 24)")
    parser.add_argument("--secondary-partition", type=int, metavar="M", help="of the authors' names (default: 2)")
    flags.add_small_image_arguments(parser.add_argument_group("data sets of small images"))
    photographs = parser.add_argument_group("photographs")
    photographs.add_argument(
        "--val-share",
        type=float,
        metavar="S",
        help="share of each class that is held out to test on, where the folder has no val/ (default: 0.2, less of "
        "more than 10,000)",
    )
    flags.add_photograph_arguments(photographs, "3,96,96 or less, by the photographs' number and size")
    flags.add_arguments(parser.add_argument_group("training"), flags.ANY)
    means.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    name = args.data.lower()
    if name in DATASETS:
        _refuse(args, PHOTOGRAPHS, f"is for photographs; {name} is a data set (./{args.data} would be a folder)")
        args.dataset = name
        # slow: MXNet
        from igc_gluon.cli.training import small_images

        return small_images.run(small_images.complete(args))
    path = expand(args.data)
    if not path.exists():
        close = difflib.get_close_matches(name, DATASETS, n=1)
        sets = f"nor such a data set; did you mean {close[0]}?" if close else f"data sets are {', '.join(DATASETS)}"
        raise UserError(f"there is no folder or file {args.data}{', ' if close else '; '}{sets}")
    if path.is_file() and path.suffix != ".rec":
        raise UserError(
            f"{args.data} is a file; igc train takes a folder with a folder of photographs for each class, a FILE.rec, "
            "or the name of a data set"
        )
    _refuse(args, SMALL_IMAGES, f"is for data sets of small images; {args.data} has photographs")
    if args.val_share is not None and not 0 < args.val_share < 1:
        raise UserError(f"--val-share must be between 0 and 1, not {args.val_share}")
    # slow: MXNet
    from igc_gluon.cli.training import photographs

    return photographs.run(args, path)


def _refuse(args: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Raises UserError where one of these flags was given."""
    for name in names:
        if getattr(args, name) is not None:
            raise UserError(f"--{name.replace('_', '-')} {why}; leave it out")
