#!/usr/bin/env python
"""Trains a network of the IGC papers on ImageNet, or on any folders of images packed by `igc data imagenet`.

    python train_imagenet.py
    python train_imagenet.py --network=resnet_igc_imgnet_d18 --primary-partition=100 --secondary-partition=1
    python train_imagenet.py --network igcv3_1.0 --schedule igcv3-code --cpus 1

Without flags it is the paper's experiment with IGC-L100M2 on 8 GPUs (IGCV1, section 5.5).
"""

import sys

try:
    from igc_gluon.start import exit_code, prepare
except ImportError as error:  # igc_gluon is not installed, or NumPy is one that MXNet cannot run on
    sys.exit(print(f"error: {error}", file=sys.stderr) or 2)

prepare()

import argparse  # noqa: E402

from igc_gluon.cli import train  # noqa: E402
from igc_gluon.cli.network_flags import options  # noqa: E402
from igc_gluon.cli.parser import Parser  # noqa: E402
from igc_gluon.data import default_folder, record_batches  # noqa: E402
from igc_gluon.data.registry import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from igc_gluon.engine.experiment import Experiment  # noqa: E402
from igc_gluon.engine.inputs import RecordInput, record_preprocessing  # noqa: E402
from igc_gluon.engine.schedule import IMAGENET, imagenet_schedule  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.model_zoo import find_model, imagenet_model  # noqa: E402
from igc_gluon.model_zoo.imports import import_all  # noqa: E402
from igc_gluon.paths import expand  # noqa: E402

DEFAULT_NETWORK = "resnet18_igc_l100m2"
# What --help says of them, see igc_gluon.cli.train.
DEFAULTS = {
    "data_dir": "~/.mxnet/datasets/imagenet",
    "gpus": "those of the schedule, 0,...,7 or 0,...,3",
    "cpus": "GPUs",
    "batch_size": "the schedule's",
    "batch_shards": "as many as the schedule has GPUs, or fewer of 16 images each",
    "lr_steps": "the schedule's",
    "wd": "the schedule's; igcv3-code decays weights and gammas alone",
}


def parse(argv=None):
    parser = Parser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--network",
        default=DEFAULT_NETWORK,
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
    parser.add_argument(
        "--schedule",
        choices=sorted(IMAGENET),
        help="epochs, rate, batch, weight decay and optimizer of the papers, or all that the authors' "
        "code of IGCV3 runs (default: igcv2 for igcv2_... and igcv3_..., else igcv1)",
    )
    parser.add_argument("--data-train", metavar="FILE.rec", help="(default: train.rec in --data-dir)")
    parser.add_argument("--data-val", metavar="FILE.rec", help="(default: val.rec in --data-dir)")
    parser.add_argument("--num-classes", type=int, help="(default: the lines of classes.txt beside val.rec, or 1000)")
    parser.add_argument(
        "--image-shape",
        type=_image_shape,
        default=(3, 224, 224),
        metavar="3,H,W",
        help="of the crop (default: 3,224,224)",
    )
    parser.add_argument(
        "--augment",
        choices=record_batches.AUGMENTS,
        help="as the authors' code, as their code of IGCV3, as the ResNet paper, or the center crop "
        "alone (default: igcv3 with igcv3-code, else authors)",
    )
    train.add_arguments(parser, DEFAULTS)
    parser.set_defaults(cpus=None, batch_size=None, wd=None)
    args = parser.parse_args(argv)
    import_all(args.imports)
    recipe = IMAGENET[schedule_name(args)]
    args.batch_size = recipe.batch_size if args.batch_size is None else args.batch_size
    args.wd = recipe.wd if args.wd is None else args.wd
    args.augment = args.augment or recipe.augment
    if args.gpus is None and args.cpus is None:
        args.gpus = ",".join(map(str, range(recipe.gpus)))
    args.cpus = 1 if args.cpus is None else args.cpus
    return args


def _image_shape(text):
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2] or shape[1] < 8:
        raise argparse.ArgumentTypeError(f"wants 3,H,W with H = W, such as 3,224,224; not {text!r}")
    return shape


def schedule_name(args):
    return args.schedule or model_of(args)[0].family.schedule


def model_of(args):
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


def experiment(args, batch_shards):
    recipe = IMAGENET[schedule_name(args)]
    schedule = imagenet_schedule(recipe, args.num_epochs, args.lr, args.lr_factor, args.lr_steps, args.warmup_epochs)
    model, chosen = model_of(args)
    return Experiment(
        model,
        RecordInput.name,
        schedule,
        args.batch_size,
        batch_shards,
        args.wd,
        args.momentum,
        chosen or None,
        optimizer=recipe.optimizer,
        undecayed=recipe.undecayed,
        initializer=recipe.initializer,
        label_smoothing=args.label_smoothing,
        dtype=args.dtype,
    )


def data(args):
    if args.num_classes is not None and args.num_classes < 1:
        raise UserError(f"--num-classes must be at least 1, not {args.num_classes}")
    family = model_of(args)[0].family
    folder = expand(args.data_dir) if args.data_dir else default_folder(RecordInput.name)
    expected = record_preprocessing(args.image_shape, family.mean or IMAGENET_MEAN, family.std or IMAGENET_STD)
    return RecordInput(
        args.data_train or folder / "train.rec",
        args.data_val or folder / "val.rec",
        expected,
        args.num_classes,
        args.augment,
    )


def paper_gpus(args):
    return IMAGENET[schedule_name(args)].gpus


def main():
    arguments = parse()
    return train.main(arguments, experiment, data, paper_gpus(arguments))


if __name__ == "__main__":
    sys.exit(exit_code(main))
