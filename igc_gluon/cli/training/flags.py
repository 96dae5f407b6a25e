"""The flags of training: those of every kind of data, and those of one kind alone."""

import argparse
from typing import Mapping, Tuple

from igc_gluon.cli.network_flags import add_import_argument, add_option_argument
from igc_gluon.data import record_batches
from igc_gluon.engine.schedule import IMAGENET, LEAST, MOST
from igc_gluon.errors import UserError


def flag_int_list(text: str) -> Tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants epochs such as 200,300,350; not {text!r}") from None


def flag_image_shape(text: str) -> Tuple[int, int, int]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2] or shape[1] < 8:
        raise argparse.ArgumentTypeError(f"wants 3,H,W with H = W, such as 3,224,224; not {text!r}")
    return (shape[0], shape[1], shape[2])


# What --help says of the defaults that are not alike for all kinds of data. The flags have none themselves: the module
# of each kind fills them in.
SMALL_IMAGES = {
    "data_dir": "downloaded to ~/.mxnet/datasets",
    "gpus": "the CPU",
    "cpus": "1",
    "batch_size": "64",
    "batch_shards": "2, the paper's 2 GPUs, or fewer of 16 images each",
    "num_epochs": "the paper's",
    "lr": "the paper's",
    "lr_steps": "1/2, 3/4 and 7/8 of the epochs",
    "wd": "1e-4",
}
RECORDS = {
    "data_dir": "~/.mxnet/datasets/imagenet",
    "gpus": "those of the schedule, 0,...,7 or 0,...,3",
    "cpus": "GPUs",
    "batch_size": "the schedule's",
    "batch_shards": "as many as the schedule has GPUs, or fewer of 16 images each",
    "num_epochs": "the paper's",
    "lr": "the paper's",
    "lr_steps": "the schedule's",
    "wd": "the schedule's; igcv3-code decays weights and gammas alone",
}
ANY = {  # igc train
    **SMALL_IMAGES,
    "batch_size": "64; of photographs by their number",
    "batch_shards": "one for each 32 images, or as the papers have it",
    "num_epochs": "the paper's; of photographs by their number",
    "lr": "the paper's; of photographs by their number",
}


def add_arguments(parser: argparse._ActionsContainer, defaults: Mapping[str, str]) -> None:
    """Those of every kind of data, as the authors' scripts and MXNet's examples have them. defaults: one of the dicts
    above."""
    add_option_argument(parser)
    add_import_argument(parser)
    parser.add_argument("--data-dir", help=f"folder of the data set's files (default: {defaults['data_dir']})")
    parser.add_argument("--gpus", help=f"GPUs to train on, e.g. 0,1 (default: {defaults['gpus']})")
    parser.add_argument(
        "--cpus",
        type=int,
        metavar="N",
        help=f"without --gpus: treat the CPU as N devices (default: {defaults['cpus']})",
    )
    parser.add_argument(
        "--kv-store",
        default="device",
        help="device, local or nccl; under `igc launch` dist_sync, dist_device_sync or dist_async; "
        "under horovodrun horovod (default: device)",
    )
    parser.add_argument(
        "--gc-type",
        default="none",
        metavar="TYPE",
        help="2bit: gradients go between the devices in 2 bits; only with --kv-store device and "
        "several of them (default: none)",
    )
    parser.add_argument("--gc-threshold", type=float, default=0.5, help="of 2bit (default: 0.5)")
    parser.add_argument(
        "--batch-size", type=int, help=f"over all devices and workers (default: {defaults['batch_size']})"
    )
    parser.add_argument(
        "--batch-shards",
        type=int,
        metavar="S",
        help="BN normalizes each of S shards of a batch by itself, on any number of devices (default: "
        f"{defaults['batch_shards']})",
    )
    parser.add_argument(
        "--num-epochs", type=int, help=f"fewer scale the drops of the rate (default: {defaults['num_epochs']})"
    )
    parser.add_argument("--lr", type=float, help=f"the learning rate (default: {defaults['lr']})")
    parser.add_argument("--lr-factor", type=float, default=0.1, help="the rate's factor at a drop (default: 0.1)")
    parser.add_argument(
        "--lr-steps",
        type=flag_int_list,
        metavar="E,E,...",
        help=f"epochs of the drops (default: {defaults['lr_steps']})",
    )
    parser.add_argument("--wd", type=float, help=f"weight decay of every parameter (default: {defaults['wd']})")
    parser.add_argument("--momentum", type=float, default=0.9, help="(default: 0.9)")
    parser.add_argument(
        "--warmup-epochs",
        type=int,
        default=0,
        metavar="N",
        help="the rate grows to its value over N epochs (default: 0)",
    )
    parser.add_argument(
        "--label-smoothing",
        type=float,
        default=0.0,
        metavar="S",
        help="share of the target given to all classes (default: 0)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float16", "bfloat16"),
        help="float16 on GPUs, bfloat16 on CPUs that have it (default: float32)",
    )
    parser.add_argument(
        "--pretrained",
        metavar="NAME|RUN|FILE",
        help="begin with these weights: of a network with published weights (igc models --pretrained), of a run, of a "
        ".params file with --network; the scores begin anew where the classes are others, and the default --lr is a "
        "tenth",
    )
    parser.add_argument(
        "--freeze",
        nargs="?",
        const="all",
        metavar="STAGE",
        help="train the classifier alone, or with a name (g2, g2_b1: as its parameters' names begin) what comes after "
        "that stage",
    )
    parser.add_argument("--rand-seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--num-runs",
        type=int,
        default=1,
        metavar="N",
        help="run with N successive seeds; gives mean and standard deviation",
    )
    parser.add_argument("--log-dir", default="runs", help="(default: runs)")
    parser.add_argument("--exp-name", help="goes into the run's folder, to keep experiments apart")
    parser.add_argument(
        "--checkpoint-epochs", type=int, default=1, metavar="N", help="save every N epochs (default: 1)"
    )
    parser.add_argument("--checkpoint-batches", type=int, metavar="N", help="save every N batches too")
    parser.add_argument(
        "--keep-checkpoints",
        type=int,
        default=2,
        metavar="K",
        help="keep the newest K checkpoints, and the best (default: 2)",
    )
    parser.add_argument("--disp-batches", type=int, default=50, metavar="N", help="log every N batches (default: 50)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in this command's folder; starts it if there is none"
    )
    parser.add_argument(
        "--model-prefix",
        metavar="PREFIX",
        help="also write PREFIX-symbol.json and PREFIX-0010.params for MXNet's Module",
    )
    parser.add_argument(
        "--load-epoch", type=int, metavar="N", help="begin at epoch N with the weights of PREFIX-000N.params"
    )
    parser.add_argument(
        "--detect-anomaly",
        action="store_true",
        help="train layer by layer with MXNet's operators, slowly, and name the first layer that makes "
        "something not finite",
    )
    parser.add_argument(
        "--deterministic",
        type=int,
        choices=(0, 1),
        help="1: the same bits run after run on the same number of threads, which on GPUs costs speed "
        "(default: 1 on the CPU, where it costs nothing, and 0 on GPUs)",
    )
    parser.add_argument(
        "--benchmark", type=int, default=0, choices=(0, 1), help="1: time training steps on synthetic data instead"
    )


def add_small_image_arguments(parser: argparse._ActionsContainer) -> None:
    """Those of data sets of small images alone."""
    parser.add_argument(
        "--pad",
        choices=("mean", "zero"),
        help="before the random crop, pad with the mean color as the authors' code (default) or with "
        "zeros as the paper; not for svhn and tiny-imagenet, which are not padded",
    )
    parser.add_argument(
        "--downsample",
        choices=("paper", "code"),
        help="resnet_igc's first block of a stage as the paper (default) or the authors' code has it",
    )


def add_photograph_arguments(parser: argparse._ActionsContainer, image_shape: str = "3,224,224") -> None:
    """Those of photographs, in record files or a folder. image_shape: what --help calls its default."""
    parser.add_argument(
        "--schedule",
        choices=sorted(IMAGENET),
        help="epochs, rate, batch, weight decay and optimizer of the papers, or all that the authors' "
        "code of IGCV3 runs (default: igcv2 for igcv2_... and igcv3_..., else igcv1)",
    )
    parser.add_argument("--data-train", metavar="FILE.rec", help="(default: train.rec in --data-dir)")
    parser.add_argument("--data-val", metavar="FILE.rec", help="(default: val.rec in --data-dir)")
    parser.add_argument(
        "--data-name",
        metavar="NAME",
        help="what the runs' folder and tables call the images (default: the folder's, imagenet with 1000 classes)",
    )
    parser.add_argument("--num-classes", type=int, help="(default: the lines of classes.txt beside val.rec, or 1000)")
    parser.add_argument(
        "--image-shape", type=flag_image_shape, metavar="3,H,W", help=f"of the crop (default: {image_shape})"
    )
    parser.add_argument(
        "--augment",
        choices=record_batches.AUGMENTS,
        help="as the authors' code, as their code of IGCV3, as the ResNet paper, or the center crop "
        "alone (default: igcv3 with igcv3-code, else authors)",
    )


def check(args: argparse.Namespace) -> None:
    """Raises UserError on numbers that make no run."""
    for flag, value, least in (
        ("--batch-size", args.batch_size, 1),
        ("--num-runs", args.num_runs, 1),
        ("--checkpoint-epochs", args.checkpoint_epochs, 1),
        ("--checkpoint-batches", args.checkpoint_batches, 1),
        ("--keep-checkpoints", args.keep_checkpoints, 1),
        ("--disp-batches", args.disp_batches, 1),
        ("--rand-seed", args.rand_seed, 0),
        ("--warmup-epochs", args.warmup_epochs, 0),
    ):
        if value is not None and value < least:
            raise UserError(f"{flag} must be at least {least}, not {value}")
    for flag, number, lowest, below in (
        ("--wd", args.wd, 0, MOST),
        ("--gc-threshold", args.gc_threshold, LEAST, MOST),
        ("--momentum", args.momentum, 0, 1),
    ):
        if not lowest <= number < below or 0 < number < LEAST:
            zero = "0 or " if lowest == 0 else ""
            raise UserError(f"{flag} must be {zero}from {LEAST:g} to below {below:g}, not {number}")
    if args.exp_name and ("/" in args.exp_name or len(args.exp_name.splitlines()) != 1):
        raise UserError(f"--exp-name is part of a folder's name, without /; not {args.exp_name!r}")
    if not 0 <= args.label_smoothing < 1:
        raise UserError(f"--label-smoothing must be from 0 to below 1, not {args.label_smoothing}")
    if args.pretrained and args.load_epoch is not None:
        raise UserError("--pretrained and --load-epoch are both where to begin; give one of them")
    if args.load_epoch is not None and args.load_epoch < 0:
        raise UserError(f"--load-epoch must be at least 0, not {args.load_epoch}")
