"""Training on the data sets of small images: the flags of train_cifar.py, and what `igc train cifar10` runs."""

import argparse
from dataclasses import replace
from typing import Optional, Sequence

from igc_gluon.cli.network_flags import options
from igc_gluon.cli.parser import Parser
from igc_gluon.cli.training import flags, means, runner
from igc_gluon.data import DATASETS
from igc_gluon.engine.experiment import Experiment
from igc_gluon.engine.inputs import ArrayInput
from igc_gluon.engine.run_log import print_line
from igc_gluon.engine.schedule import PAPER, schedule_for
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import CIFAR_NETWORKS, Model, cifar_model, find_model
from igc_gluon.model_zoo.imports import import_all

DESCRIPTION = (
    "Trains a network of the IGC papers on CIFAR, SVHN, Tiny ImageNet, digits, Fashion-MNIST, MNIST or KMNIST."
)
DEFAULT_NUMBERS = (38, 24, 2)  # depth, L and M of the authors' example
PAPER_GPUS = 2  # of CIFAR and SVHN, section 5.2


def parse(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = Parser(description=DESCRIPTION)
    parser.add_argument(
        "--network",
        help=f"{', '.join(CIFAR_NETWORKS)}, or a cifar_... name as `igc models` lists them, or one of "
        "--import (default: plain_igc)",
    )
    parser.add_argument("--depth", type=int, help="(default: 38, as the authors' example)")
    parser.add_argument("--primary-partition", type=int, metavar="L", help="number of primary partitions (default: 24)")
    parser.add_argument(
        "--secondary-partition",
        type=int,
        metavar="M",
        help="number of secondary partitions in the first stage (default: 2); the width of plain and resnet is L*M",
    )
    parser.add_argument("--dataset", default="cifar10", choices=sorted(DATASETS))
    flags.add_small_image_arguments(parser)
    flags.add_arguments(parser, flags.SMALL_IMAGES)
    means.add_arguments(parser)
    args = parser.parse_args(argv)
    import_all(args.imports)
    return complete(args)


def complete(args: argparse.Namespace) -> argparse.Namespace:
    """Gives the flags that have no default of their own that of these data sets, and returns them."""
    runner.begin_with(args, lambda: PAPER[args.dataset][1])
    runner.set_missing(args, network="plain_igc", cpus=1, batch_size=64, wd=1e-4)
    return args


def model_of(args: argparse.Namespace) -> Model:
    """The Model that the flags describe, in full or by number."""
    numbers = (args.depth, args.primary_partition, args.secondary_partition)
    network = args.network.lower()
    if network in CIFAR_NETWORKS:
        return cifar_model(
            network, *(default if number is None else number for number, default in zip(numbers, DEFAULT_NUMBERS))
        )
    model = find_model(network)
    if model.family.input_size > DATASETS[args.dataset].size:
        raise UserError(
            f"{model} takes images of {model.family.input_size}x{model.family.input_size} pixels, "
            f"{args.dataset} has {DATASETS[args.dataset].size}x{DATASETS[args.dataset].size}; train_imagenet.py "
            "trains it"
        )
    if any(number is not None for number in numbers):
        raise UserError(
            f"{network} says its depth and partitions; leave --depth, --primary-partition and --secondary-partition out"
        )
    return model


def experiment(args: argparse.Namespace, batch_shards: int) -> Experiment:
    model = model_of(args)
    info = DATASETS[args.dataset]
    if args.pad and not info.pads:
        raise UserError(f"--pad says how to pad before a random crop, but {info.name} is not padded; leave it out")
    chosen = {**({"downsample": args.downsample} if args.downsample else {}), **options(args)}
    strides = info.size // model.family.input_size
    if strides > 1:  # 64x64 images come to networks for 32x32 ones (IGCV2, section 4.1)
        chosen.setdefault("stem_strides", strides)
    schedule = schedule_for(args.dataset, args.num_epochs, args.lr, args.lr_factor, args.lr_steps, args.warmup_epochs)
    return Experiment(
        model, args.dataset, schedule, args.batch_size, batch_shards, args.wd, args.momentum, chosen or None
    )


def data(args: argparse.Namespace) -> ArrayInput:
    start, here = args.start, replace(DATASETS[args.dataset].preprocessing, class_names=None)
    if start and start.preprocessing and replace(start.preprocessing, class_names=None) != here:
        print_line(
            f"the weights of {start.source} expect other images ({start.preprocessing}); here they are as always on "
            f"{args.dataset} ({here})"
        )
    return ArrayInput(args.dataset, args.pad or "mean", args.data_dir)


def run(args: argparse.Namespace) -> int:
    """Trains as the flags `args` of `parse` say, and returns the exit code."""
    return runner.main(args, experiment, data, PAPER_GPUS)
