"""The usual means of training beside the papers' own: their flags, and what they make of an experiment."""

import argparse
from dataclasses import replace
from typing import Any, Optional, Sequence, Tuple, Union

from igc_gluon.errors import UserError

_DECAYED_NOT = ("_bias", "_beta", "_gamma")
# Of the optimizers whose steps are of the rate's own size; the papers' rate is for the others.
_RATES = {"adam": 1e-3, "adamw": 1e-3, "lamb": 1e-2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags, in groups."""
    rate = parser.add_argument_group("schedule and optimizer beside the papers'")
    rate.add_argument(
        "--lr-mode",
        default="step",
        choices=("step", "cosine", "linear", "poly"),
        help="drops, as the papers have it, or batch by batch to --target-lr, as GluonCV's LRScheduler (default: step)",
    )
    rate.add_argument("--target-lr", type=float, metavar="R", help="at the end of cosine, linear, poly (default: 0)")
    rate.add_argument("--power", type=float, metavar="P", help="of poly (default: 2)")
    rate.add_argument(
        "--optimizer",
        choices=("nesterov", "sgd", "adam", "adamw", "lamb"),
        help="(default: the schedule's; the default --lr of adam and adamw is 0.001, of lamb 0.01, and --momentum is "
        "their beta1)",
    )
    rate.add_argument("--no-wd", action="store_true", help="no weight decay of biases, gamma and beta")
    rate.add_argument(
        "--clip-norm", type=float, metavar="C", help="scale gradients whose norm over all weights is above C down to it"
    )
    rate.add_argument(
        "--accumulate", type=int, default=1, metavar="N", help="update after every N batches, and an epoch's last one"
    )
    rate.add_argument(
        "--ema",
        type=float,
        default=0.0,
        metavar="D",
        help="test and save the weights' average, a * D + w * (1 - D) after each update (0.999 for example)",
    )
    rate.add_argument(
        "--bn-statistics",
        default="auto",
        choices=("auto", "moving", "anew"),
        help="of evaluation: the moving average, or taken anew before it from 100 batches at most; auto: anew where a "
        "run has had too few batches for the average (default: auto)",
    )
    images = parser.add_argument_group("more augmentation and regularization")
    images.add_argument(
        "--augment-strength",
        type=float,
        default=1.0,
        metavar="S",
        help="from 0 to 2: how far images are moved, scaled and recolored, in shares of what is usual (default: 1)",
    )
    images.add_argument("--mixup", type=float, default=0.0, metavar="ALPHA", help="0.2 for example")
    images.add_argument(
        "--cutmix", type=float, default=0.0, metavar="ALPHA", help="1 for example; with --mixup one of both"
    )
    images.add_argument(
        "--random-erasing",
        type=float,
        default=0.0,
        metavar="P",
        help="erase a rectangle of each image with probability P",
    )
    images.add_argument("--dropout", type=float, default=0.0, metavar="P", help="of the features before the scores")
    images.add_argument(
        "--class-weights",
        type=_weights,
        metavar="W,W,...|balanced",
        help="of the classes in the loss; balanced: by how many images each has",
    )
    teacher = parser.add_argument_group("distillation")
    teacher.add_argument(
        "--teacher",
        metavar="NAME|RUN|FILE",
        help="learn from the scores of a network with weights, see igc eval; a FILE.params with --teacher-model",
    )
    teacher.add_argument("--teacher-model", metavar="NAME", help="of a FILE.params")
    teacher.add_argument("--temperature", type=float, metavar="T", help="of both networks' softmax (default: 4)")
    teacher.add_argument(
        "--hard-weight", type=float, metavar="W", help="of the labels' loss; the teacher's has the rest (default: 0.5)"
    )


def check(args: argparse.Namespace) -> None:
    """Raises UserError on numbers that mean nothing."""
    for flag, value, most, including in (
        ("--mixup", args.mixup, 100, True),
        ("--cutmix", args.cutmix, 100, True),
        ("--random-erasing", args.random_erasing, 1, True),
        ("--dropout", args.dropout, 1, False),
        ("--ema", args.ema, 1, False),
        ("--augment-strength", args.augment_strength, 2, True),
        ("--hard-weight", args.hard_weight, 1, True),
    ):
        if value is not None and not (0 <= value < most or (including and value == most)):
            raise UserError(f"{flag} must be from 0 to {'' if including else 'below '}{most}, not {value}")
    for flag, value in (("--clip-norm", args.clip_norm), ("--temperature", args.temperature)):
        if value is not None and not 0 < value < float("inf"):
            raise UserError(f"{flag} must be a positive number, not {value}")
    if args.accumulate < 1:
        raise UserError(f"--accumulate must be at least 1, not {args.accumulate}")
    for flag, value in (
        ("--teacher-model", args.teacher_model),
        ("--temperature", args.temperature),
        ("--hard-weight", args.hard_weight),
    ):
        if value is not None and args.teacher is None:
            raise UserError(f"{flag} is of --teacher; give one, or leave it out")
    if args.benchmark and args.teacher is not None:
        raise UserError("--benchmark 1 times synthetic data, of which a teacher knows nothing; leave --teacher out")


def experiment_with(experiment: Any, args: argparse.Namespace, teacher: Any) -> Any:
    """The `Experiment` with what the flags say beside. teacher: see `open_teacher`."""
    # slow: MXNet
    from igc_gluon.data.mixing import Mixing
    from igc_gluon.engine.schedule import with_mode
    from igc_gluon.engine.teacher import teacher_name

    optimizer = args.optimizer or experiment.optimizer
    lr = experiment.schedule.lr if args.lr is not None else _RATES.get(optimizer, experiment.schedule.lr)
    schedule = with_mode(
        replace(experiment.schedule, lr=lr), args.lr_mode, args.target_lr, args.power, args.lr_steps is not None
    )
    more = {"temperature": 4.0 if args.temperature is None else args.temperature} if teacher is not None else {}
    if teacher is not None:
        more["teacher"] = teacher_name(teacher)
        more["hard_weight"] = 0.5 if args.hard_weight is None else args.hard_weight
    return replace(
        experiment,
        schedule=schedule,
        label_smoothing=args.label_smoothing,
        dtype=args.dtype,
        pretrained=args.start and args.start.digest,
        freeze=args.freeze,
        optimizer=optimizer,
        undecayed=_DECAYED_NOT if args.no_wd else experiment.undecayed,
        clip_norm=args.clip_norm,
        accumulate=args.accumulate,
        ema=args.ema,
        bn_statistics=args.bn_statistics,
        dropout=args.dropout,
        mixing=Mixing(args.mixup, args.cutmix, args.random_erasing),
        class_weights=args.class_weights,
        **more,
    )


def open_teacher(args: argparse.Namespace, data: Any) -> Optional[Any]:
    """The network that --teacher means, for the images of `data`, or None. Raises UserError where there is none."""
    if args.teacher is None:
        return None
    # slow: MXNet
    from igc_gluon.data import DATASETS
    from igc_gluon.engine.saved_networks import open_network
    from igc_gluon.paths import expand

    here = expand(args.teacher)
    known = data.name if data.name in DATASETS and not here.is_dir() else None
    return open_network(args.teacher, args.teacher_model, None if here.is_dir() else data.classes, dataset=known)


def _weights(text: str) -> Union[str, Tuple[float, ...]]:
    if text == "balanced":
        return text
    try:
        numbers: Sequence[float] = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number < float("inf") for number in numbers) or not any(numbers):
        raise argparse.ArgumentTypeError(
            f"wants balanced, or numbers such as 1,2,0.5, one for each class; not {text!r}"
        )
    return tuple(numbers)
