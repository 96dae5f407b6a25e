"""Training on record files: the flags of train_imagenet.py, and what the papers ran on ImageNet."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

from igc_gluon.cli.network_flags import options
from igc_gluon.cli.parser import Parser
from igc_gluon.cli.training import flags, means, runner
from igc_gluon.data import DATASETS, default_folder
from igc_gluon.data.classes import classes_beside
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.registry import IMAGENET_MEAN, IMAGENET_STD
from igc_gluon.engine import run_folder
from igc_gluon.engine.experiment import Experiment
from igc_gluon.engine.inputs import RecordInput, record_preprocessing
from igc_gluon.engine.pretrained import Pretrained
from igc_gluon.engine.run_log import print_line
from igc_gluon.engine.schedule import IMAGENET, Recipe, imagenet_schedule
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import Model, find_model, imagenet_model
from igc_gluon.model_zoo.imports import import_all
from igc_gluon.paths import expand

DESCRIPTION = (
    "Trains a network of the IGC papers on ImageNet, or on any folders of images packed by `igc data imagenet`."
)
DEFAULT_NETWORK = "resnet18_igc_l100m2"


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(description=DESCRIPTION)
    parser.add_argument(
        "--network",
        help="a name that `igc models` lists, or the authors' resnet_igc_imgnet_d18 with both "
        f"partitions, resnet_imgnet_d18 (default: {DEFAULT_NETWORK})",
    )
    parser.add_argument("--depth", type=int, help="of the authors' names: 18")
    parser.add_argument(
        "--primary-partition",
        type=int,
        metavar="L",
        help="of resnet_igc_imgnet_d18, in the stem; the width of resnet_imgnet_d18, there 64 by default",
    )
    parser.add_argument(
        "--secondary-partition",
        type=int,
        metavar="M",
        help="of resnet_igc_imgnet_d18, in the stem, which is L*M wide; from the first stage on it is 2M",
    )
    flags.add_photograph_arguments(parser)
    flags.add_arguments(parser, flags.RECORDS)
    means.add_arguments(parser)
    args = parser.parse_args(argv)
    import_all(args.imports)
    return complete(args)


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Gives the flags that have no default of their own that of the schedule, and returns them."""
    runner.begin_with(args, lambda: IMAGENET[schedule_name(args)].lr)
    args.network = args.network or DEFAULT_NETWORK
    recipe = IMAGENET[schedule_name(args)]
    if args.gpus is None and args.cpus is None:
        args.gpus = ",".join(map(str, range(recipe.gpus)))
    return fill_in(args, recipe, crop_of(args.start, 224))


def fill_in(args: argparse.Namespace, recipe: Recipe, crop: Tuple[int, int]) -> argparse.Namespace:
    """Gives the flags that were not given what a `Recipe` says, for crops of (height, width) `crop`; returns them."""
    runner.set_missing(
        args, batch_size=recipe.batch_size, wd=recipe.wd, augment=recipe.augment, cpus=1, image_shape=(3, *crop)
    )
    return args


def schedule_name(args: argparse.Namespace) -> str:
    return args.schedule or model_of(args)[0].family.schedule


def model_of(args: argparse.Namespace) -> Tuple[Model, Dict[str, Any]]:
    """(Model, its options) of the network that the flags describe."""
    network, l, m = args.network.lower(), args.primary_partition, args.secondary_partition  # noqa: E741
    if network not in ("resnet_imgnet_d18", "resnet_igc_imgnet_d18"):
        if (args.depth, l, m) != (None, None, None):
            raise UserError(
                f"{network} says its depth and partitions; leave --depth, --primary-partition and "
                "--secondary-partition out"
            )
        return find_model(network), options(args)
    if args.depth not in (None, 18):
        raise UserError(f"{network} has depth 18, not {args.depth}")
    if network == "resnet_imgnet_d18":
        if m is not None:
            raise UserError(
                f"{network} is as wide as --primary-partition says, whatever --secondary-partition; leave that out"
            )
        l = 64 if l is None else l  # noqa: E741
    elif l is None or m is None:
        raise UserError(
            f"{network} needs --primary-partition and --secondary-partition, L and M of its stem: 100 and 1 "
            "are the published IGC-L100M2. (The authors' script takes 4 for an M that is left out, which "
            "makes another network: with L = 100 one of 36.9 M parameters.)"
        )
    model, doubled = imagenet_model(network, l, m)
    return model, {**doubled, **options(args)}


def record_files(args: argparse.Namespace) -> Tuple[Path, Path]:
    """(train, test) of the flags of train_imagenet.py."""
    folder = expand(args.data_dir) if args.data_dir else default_folder(run_folder.IMAGENET)
    return expand(args.data_train or folder / "train.rec"), expand(args.data_val or folder / "val.rec")


def number_of_classes(args: argparse.Namespace, train: Path) -> int:
    """Of the record file `train`: what --num-classes or classes.txt says, without both ImageNet's."""
    return args.num_classes or len(classes_beside(train) or ()) or run_folder.IMAGENET_CLASSES


def data_name(args: argparse.Namespace, path: Path, classes: Callable[[], int]) -> str:
    """What the images at `path`, a record file or a folder of photographs, are called in the runs' folder and in
    tables: as --data-name says, else as the file, or the folder that it lies in, but never as a data set that tables
    know and that it is not. classes: returns how many they have."""
    name = args.data_name
    if name is None:
        record = path.suffix == ".rec"
        name = path.stem if record and path.stem != "train" else ""
        name = name or (path.parent if record else path).resolve().name or "photographs"
        if name in DATASETS or (name == run_folder.IMAGENET and classes() != run_folder.IMAGENET_CLASSES):
            name += "_photographs"
    if not name or name in (".", "..") or "/" in name or len(name.splitlines()) != 1:
        raise UserError(f"--data-name is the name of a folder, without /; not {name!r}")
    if args.data_name in DATASETS or args.data_name == run_folder.IMAGENET:
        raise UserError(f"--data-name {name} is a data set that tables know; choose another")
    return name


def dataset_name(args: argparse.Namespace) -> str:
    """What train_imagenet.py trains on is called: imagenet where it has 1000 classes, else see `data_name`. A run that
    was begun as imagenet, as all were once, is resumed as that, unless --data-name says otherwise or there is one of
    today's name."""
    train, _ = record_files(args)
    classes = number_of_classes(args, train)
    if args.data_name is None and classes == run_folder.IMAGENET_CLASSES:
        return run_folder.IMAGENET
    name = data_name(args, train, lambda: classes)
    if args.data_name is not None or not args.resume or _config_of(args, name).is_file():
        return name
    begun = _config_of(args, run_folder.IMAGENET)
    # Of so many classes: it may be one on ImageNet itself.
    is_begun = begun.is_file() and run_folder.load_config(begun).get("classes", classes) == classes
    return run_folder.IMAGENET if is_begun else name


def _config_of(args: argparse.Namespace, dataset: str) -> Path:
    """The config.json of the run on data that is called so."""
    folder = run_folder.path_of_run(args.log_dir, dataset, model_of(args)[0].name, args.exp_name, args.rand_seed)
    return folder / "config.json"


def experiment(args: argparse.Namespace, batch_shards: int) -> Experiment:
    return experiment_of(args, batch_shards, IMAGENET[schedule_name(args)], dataset_name(args))


def experiment_of(args: argparse.Namespace, batch_shards: int, recipe: Recipe, dataset: str) -> Experiment:
    """The Experiment of the flags `args` with a `Recipe`, on data that is called `dataset`."""
    schedule = imagenet_schedule(recipe, args.num_epochs, args.lr, args.lr_factor, args.lr_steps, args.warmup_epochs)
    model, chosen = model_of(args)
    return Experiment(
        model,
        dataset,
        schedule,
        args.batch_size,
        batch_shards,
        args.wd,
        args.momentum,
        chosen or None,
        optimizer=recipe.optimizer,
        undecayed=recipe.undecayed,
        initializer=recipe.initializer,
    )


def data(args: argparse.Namespace) -> RecordInput:
    if args.num_classes is not None and args.num_classes < 1:
        raise UserError(f"--num-classes must be at least 1, not {args.num_classes}")
    return RecordInput(*record_files(args), preprocessing_of(args), args.num_classes, args.augment, dataset_name(args))


def crop_of(start: Optional[Pretrained], side: int) -> Tuple[int, int]:
    """(height, width) of the crops that the weights `start` expect, or, where there are none, of `side` pixels."""
    known = start and start.preprocessing
    return known.crop if known and known.crop[0] == known.crop[1] else (side, side)


def preprocessing_of(args: argparse.Namespace) -> Preprocessing:
    """The Preprocessing of photographs at --image-shape: that of the weights of --pretrained, or the network's. Says
    what of it is not taken over."""
    family, known = model_of(args)[0].family, args.start and args.start.preprocessing
    mean, std = family.mean or IMAGENET_MEAN, family.std or IMAGENET_STD
    if not known or known.mean is None:
        return record_preprocessing(args.image_shape, mean, std)
    crop, changes = args.image_shape[1:], []
    if tuple(crop) != known.crop:
        changes.append(f"{crop[1]}x{crop[0]} pixels, not {known.crop[1]}x{known.crop[0]}")
    if known.border:
        changes.append(f"no border of {known.border} pixels")
    if changes:
        print_line(f"the weights of {args.start.source} were trained on other images; here: {', '.join(changes)}")
    usual = record_preprocessing(args.image_shape, known.mean, known.std)
    return replace(usual, interpolation=known.interpolation, color_order=known.color_order)


def paper_gpus(args: argparse.Namespace) -> int:
    return IMAGENET[schedule_name(args)].gpus


def run(args: argparse.Namespace) -> int:
    """Trains as the flags `args` of `parse` say, and returns the exit code."""
    return runner.main(args, experiment, data, paper_gpus(args))
