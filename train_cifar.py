#!/usr/bin/env python
"""Trains a network of the IGC papers on CIFAR-10, CIFAR-100, SVHN or digits.

    python train_cifar.py --network plain_igc --primary-partition 24 --secondary-partition 2

Unset flags take the paper's schedule for the data set (IGCV1, section 5.2).
"""
import sys

from igc_gluon.threads import use_all_cores

use_all_cores()  # before mxnet is imported

from igc_gluon.cli import train  # noqa: E402
from igc_gluon.cli.parser import Parser  # noqa: E402
from igc_gluon.data import DATASETS  # noqa: E402
from igc_gluon.engine.experiment import Experiment  # noqa: E402
from igc_gluon.engine.schedule import schedule_for  # noqa: E402
from igc_gluon.model_zoo import CIFAR_NETWORKS, cifar_model_name  # noqa: E402

PAPER_GPUS = 2  # of CIFAR and SVHN, section 5.2


def parse(argv=None):
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument("--network", default="plain_igc",
                        help=f"{', '.join(CIFAR_NETWORKS)}, or a name that `igc models` lists (default: plain_igc)")
    parser.add_argument("--depth", type=int, default=38, help="(default: 38, as the authors' example)")
    parser.add_argument("--primary-partition", type=int, default=24, metavar="L",
                        help="number of primary partitions (default: 24)")
    parser.add_argument("--secondary-partition", type=int, default=2, metavar="M",
                        help="number of secondary partitions in the first stage (default: 2); the width of plain and "
                             "resnet is L*M")
    parser.add_argument("--dataset", default="cifar10", choices=sorted(DATASETS))
    parser.add_argument("--pad", default="mean", choices=("mean", "zero"),
                        help="before the random crop, pad with the mean colour as the authors' code (default) or with "
                             "zeros as the paper")
    parser.add_argument("--downsample", choices=("paper", "code"),
                        help="resnet_igc's first block of a stage as the paper (default) or the authors' code has it")
    train.add_arguments(parser)
    return parser.parse_args(argv)


def experiment(args, batch_shards):
    model = args.network if args.network.startswith("cifar_") else \
        cifar_model_name(args.network, args.depth, args.primary_partition, args.secondary_partition)
    options = {"downsample": args.downsample} if args.downsample else None
    schedule = schedule_for(args.dataset, args.num_epochs, args.lr, args.lr_factor, args.lr_steps)
    return Experiment(model, args.dataset, schedule, args.batch_size, batch_shards, args.wd, args.momentum, args.pad,
                      options)


def classes(args):
    return DATASETS[args.dataset].classes


if __name__ == "__main__":
    sys.exit(train.main(parse(), experiment, classes, PAPER_GPUS))
