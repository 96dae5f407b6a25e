"""Training on the user's photographs, as `igc train photos/` and `igc train FILE.rec` do: what is not said is chosen
by the number of images and their size, see `engine.photo_input`."""

import argparse
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Optional, Tuple

from igc_gluon.cli.training import records, runner
from igc_gluon.data import record_file
from igc_gluon.data.photo_folder import PhotoFolder, list_photographs, records_short_side
from igc_gluon.engine.experiment import Experiment
from igc_gluon.engine.inputs import RecordInput
from igc_gluon.engine.photo_input import Choice, PhotoInput, choose
from igc_gluon.engine.run_log import print_line
from igc_gluon.engine.schedule import IMAGENET
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand


class Training:
    """What the flags `args` and the images at `path`, a folder or a record file, come to together."""

    def __init__(self, args: argparse.Namespace, path: Path) -> None:
        self.path, self.args = path, args
        self.records = _record_files(args, path)
        self.name = records.data_name(args, self.records[0] if self.records else path, self._classes)
        lr = args.lr
        runner.begin_with(args, lambda: self.choice.recipe.lr)
        chosen = self.choice
        recipe = IMAGENET[args.schedule] if args.schedule else chosen.recipe
        self.recipe = replace(recipe, batch_size=args.batch_size or min(recipe.batch_size, self.images))
        self.said = [
            text
            for text, value in (
                (chosen.network, args.network),
                (f"{chosen.side}x{chosen.side} pixels", args.image_shape),
                (f"batches of {self.recipe.batch_size}", args.batch_size),
                (f"{self.recipe.num_epochs} epochs", args.num_epochs),
                (f"rate {args.lr or self.recipe.lr:g}", lr),
            )
            if value is None
        ]
        args.network = args.network or chosen.network
        records.fill_in(args, self.recipe, (chosen.side, chosen.side))

    @cached_property
    def photographs(self) -> PhotoFolder:
        """Where they are no record files."""
        return list_photographs(self.path, self.args.val_share)

    @cached_property
    def images(self) -> int:
        """How many there are to train on."""
        return record_file.structure(self.records[0]).records if self.records else len(self.photographs.train.paths)

    def _classes(self) -> int:
        """How many, before any file is opened that says it better."""
        if self.records:
            return records.number_of_classes(self.args, self.records[0])
        return len(self.photographs.class_names)

    @cached_property
    def choice(self) -> Choice:
        shape = self.args.image_shape
        short_side = records_short_side(self.records[0]) if self.records else self.photographs.short_side()
        side = shape and shape[1]
        if side is None and self.args.start:
            side = min(records.crop_of(self.args.start, short_side)[0], short_side)
        return choose(self.images, short_side, side, self.args.batch_size)

    def experiment(self, args: argparse.Namespace, batch_shards: int) -> Experiment:
        return records.experiment_of(args, batch_shards, self.recipe, self.name)

    def data(self, args: argparse.Namespace) -> RecordInput:
        """Says what was found and chosen, too."""
        expected = records.preprocessing_of(args)
        if self.records:
            train, test = self.records
            content = f"{self.images:,} images to train on in {printable(train)}"
            data = RecordInput(train, test, expected, args.num_classes, args.augment, self.name)
        else:
            for line in self.photographs.remarks:
                print_line(printable(line))
            tested = len(self.photographs.test.paths)
            classes = len(self.photographs.class_names)
            content = f"{self.images:,} photographs of {classes} classes to train on, {tested:,} to test on"
            runs = expand(args.log_dir) / self.name
            data = PhotoInput(self.photographs, runs, expected, args.augment, self.name, print_line)
        chosen = f": {', '.join(self.said)} ({self.choice.why}; flags say otherwise)" if self.said else ""
        print_line(content + chosen)
        return data


def run(args: argparse.Namespace, path: Path) -> int:
    """Trains on the folder or record file at `path` as the flags `args` of `igc train` say, and returns the exit
    code."""
    training = Training(args, path)
    return runner.main(args, training.experiment, training.data, training.recipe.gpus)


def _record_files(args: argparse.Namespace, path: Path) -> Optional[Tuple[Path, Path]]:
    """(train, test) record files, or None where `path` is a folder of photographs."""
    if path.is_file() or args.data_train or (path / "train.rec").is_file():
        if args.val_share is not None:
            raise UserError("--val-share divides a folder of photographs; record files are divided already")
        train = expand(args.data_train) if args.data_train else path if path.is_file() else path / "train.rec"
        test = expand(args.data_val) if args.data_val else train.with_name("val.rec")
        if not test.is_file():
            raise UserError(f"there is no {test} to test on; give --data-val FILE.rec")
        return train, test
    for flag, value in (("--data-val", args.data_val), ("--num-classes", args.num_classes)):
        if value is not None:
            raise UserError(f"{flag} is for record files; the folders of {path} say what there is")
    return None
