"""Learning-rate schedules, one row per data set."""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Callable, Optional, Sequence, Tuple

from igc_gluon.errors import UserError

# The papers drop the rate at these fractions of the epochs: 200, 300, 350 of 400 20, 30, 35 of 40 (IGCV1, 5.2) and
# 100, 150, 175 of 200 (IGCV2, 4.1).
DROP_FRACTIONS = (Fraction(1, 2), Fraction(3, 4), Fraction(7, 8))

MODES = ("step", "cosine", "linear", "poly")
# Of a rate, a decay, a momentum, beside 0: MXNet's operators take no numbers, products of two among them, that float32
# has not, and end the run.
LEAST, MOST = 1e-18, 1e30


@dataclass(frozen=True)
class Schedule:
    """The rate starts at `lr` and is multiplied by `lr_factor` at the beginning of each epoch in `lr_steps` and by
    `lr_decay` at the beginning of every epoch. Over the first `warmup_epochs` it grows batch by batch, linearly.

    Epochs count from 0, so that `lr_steps=(200,)` trains 200 epochs at `lr` before the drop. (The authors' code counts
    updates, 781 an epoch, while its iterator makes 782, so its drops come a fraction of an epoch early.)

    mode: "step", the above, or one of GluonCV's LRScheduler, by which the rate goes batch by batch from `lr`, after the
    warm-up, to `target_lr` at the last batch: "cosine", "linear", or "poly" with the exponent `power`.
    """

    num_epochs: int
    lr: float
    lr_factor: float
    lr_steps: Tuple[int, ...]
    lr_decay: float = 1.0
    warmup_epochs: int = 0
    mode: str = "step"
    target_lr: float = 0.0
    power: float = 2.0

    def lr_at(self, epoch: int, batch: int = 0, batches: int = 1) -> float:
        """The rate of batch `batch` of the epoch's `batches`; without them, of the epoch (its end in the warm-up); 0
        where it is below LEAST."""
        lr = self._exact_lr_at(epoch, batch, batches)
        return lr if lr >= LEAST else 0.0

    def _exact_lr_at(self, epoch: int, batch: int, batches: int) -> float:
        lr = self.lr * self.lr_factor ** sum(step <= epoch for step in self.lr_steps) * self.lr_decay**epoch
        done = epoch + (batch + 1) / batches
        if done < self.warmup_epochs:
            return lr * done / self.warmup_epochs
        if self.mode == "step":
            return lr
        after = (epoch - self.warmup_epochs) * batches + batch  # the warm-up
        count = (self.num_epochs - self.warmup_epochs) * batches
        return _scheduler(self.mode, self.lr, self.target_lr, max(count, 2), self.power)(max(after, 0))


@functools.lru_cache(maxsize=8)
def _scheduler(mode: str, lr: float, target_lr: float, batches: int, power: float) -> Callable[[int], float]:
    # slow: GluonCV, seconds
    from gluoncv.utils import LRScheduler

    return LRScheduler(mode, base_lr=lr, target_lr=target_lr, niters=batches, power=power)


# num_epochs and lr of the papers. Not in the papers are digits, with enough epochs to settle on 1,437 images, and the
# three of 28x28 images, whose 60,000 a CPU goes through 20 times in an hour or so.
PAPER = {
    "cifar10": (400, 0.1),
    "cifar100": (400, 0.1),
    "svhn": (40, 0.1),
    "tiny-imagenet": (200, 0.1),
    "digits": (30, 0.1),
    "fashion-mnist": (20, 0.1),
    "mnist": (20, 0.1),
    "kmnist": (20, 0.1),
}


@dataclass(frozen=True)
class Recipe:
    """How a paper or its authors' code trains on ImageNet: `drops` are epochs, `gpus` what a batch was shared by.
    `undecayed`, `initializer`: see `Experiment`; `augment`: of igc_gluon.data.record_batches."""

    num_epochs: int
    lr: float
    drops: Tuple[int, ...]
    lr_decay: float
    batch_size: int
    gpus: int
    wd: float
    optimizer: str
    undecayed: Tuple[str, ...] = ()
    initializer: str = "igcv1"
    augment: str = "authors"


IMAGENET = {
    # IGCV1, section 5.5; the authors' script goes on to epoch 120 by default, their checkpoints are of epoch 95.
    "igcv1": Recipe(95, 0.1, (30, 60, 90), 1.0, 256, 8, 1e-4, "nesterov"),
    # IGCV2, section 5: 100 epochs, 'then divide it by 1 every 30 epochs' (a misprint for 10), and 20 of retraining,
    # whose rate is not published; here they go on at the last one.
    "igcv2": Recipe(120, 0.045, (30, 60, 90), 1.0, 96, 4, 4e-5, "sgd"),
    # What the authors' code of IGCV3 runs (train_imagenet.py, common/fit.py) on the MXNet of its time, whose Module
    # decays what is called _weight or _gamma. It counts 13,345 updates an epoch, the whole part of 1281167 / 96, so
    # that its drops come up to 0.02 epochs early; here they are at the epoch's beginning. It shuffles images within
    # pieces of 64 MB of the file, which it reads without index; here all of a part are shuffled.
    "igcv3-code": Recipe(480, 0.045, (), 0.98, 96, 4, 4e-5, "sgd", ("_bias", "_beta"), "igcv3", "igcv3"),
}


def schedule_for(
    dataset: str,
    num_epochs: Optional[int] = None,
    lr: Optional[float] = None,
    lr_factor: float = 0.1,
    lr_steps: Optional[Sequence[int]] = None,
    warmup_epochs: int = 0,
) -> Schedule:
    """The paper's schedule for `dataset`, but for what is given; a shorter one drops at the same fractions.

    Raises UserError on numbers that make no schedule.
    """
    return _schedule(*PAPER[dataset], DROP_FRACTIONS, 1.0, num_epochs, lr, lr_factor, lr_steps, warmup_epochs)


def imagenet_schedule(
    recipe: Recipe,
    num_epochs: Optional[int] = None,
    lr: Optional[float] = None,
    lr_factor: float = 0.1,
    lr_steps: Optional[Sequence[int]] = None,
    warmup_epochs: int = 0,
) -> Schedule:
    """The schedule of a `Recipe`, as `schedule_for`; a shorter one decays by as much in all."""
    drops = tuple(Fraction(drop, recipe.num_epochs) for drop in recipe.drops)
    return _schedule(
        recipe.num_epochs, recipe.lr, drops, recipe.lr_decay, num_epochs, lr, lr_factor, lr_steps, warmup_epochs
    )


def with_mode(
    schedule: Schedule, mode: str, target_lr: Optional[float] = None, power: Optional[float] = None, drops: bool = False
) -> Schedule:
    """`schedule` in another mode, without the drops of its rate and its decay by epochs. drops: whether the user has
    asked for some. Raises UserError on what makes no sense together."""
    if mode not in MODES:
        raise UserError(f"--lr-mode must be one of {', '.join(MODES)}, not {mode!r}")
    if power is not None and (mode != "poly" or not 0 < power < float("inf")):
        raise UserError(f"--power is a positive number, for --lr-mode poly; not {power} for {mode}")
    if mode == "step":
        if target_lr is not None:
            raise UserError("--target-lr is for --lr-mode cosine, linear and poly; give one of them, or leave it out")
        return schedule
    if drops:
        raise UserError(f"--lr-steps is for --lr-mode step; {mode} has no drops")
    target_lr = 0.0 if target_lr is None else target_lr
    if not 0 <= target_lr <= schedule.lr:
        raise UserError(f"--target-lr must be from 0 to --lr, {schedule.lr}, not {target_lr}")
    if schedule.warmup_epochs >= schedule.num_epochs:
        raise UserError(
            f"--warmup-epochs {schedule.warmup_epochs} leaves nothing of {schedule.num_epochs} epochs; lower it"
        )
    return Schedule(
        schedule.num_epochs,
        schedule.lr,
        1.0,
        (),
        1.0,
        schedule.warmup_epochs,
        mode,
        target_lr,
        Schedule.power if power is None else power,
    )


def _schedule(
    paper_epochs: int,
    paper_lr: float,
    drops: Sequence[Fraction],
    lr_decay: float,
    num_epochs: Optional[int],
    lr: Optional[float],
    lr_factor: float,
    lr_steps: Optional[Sequence[int]],
    warmup_epochs: int,
) -> Schedule:
    num_epochs = paper_epochs if num_epochs is None else num_epochs
    lr = paper_lr if lr is None else lr
    if num_epochs < 1:
        raise UserError(f"--num-epochs must be at least 1, not {num_epochs}")
    if not LEAST <= lr <= MOST:
        raise UserError(f"--lr must be a number from {LEAST:g} to {MOST:g}, not {lr}")
    if not 0 < lr_factor <= MOST:
        raise UserError(f"--lr-factor must be a positive number, at most {MOST:g}, not {lr_factor}")
    if lr_steps is None:
        lr_steps = tuple(math.ceil(num_epochs * fraction) for fraction in drops)
    if any(step < 0 for step in lr_steps) or list(lr_steps) != sorted(lr_steps):
        raise UserError(f"--lr-steps must be epochs in ascending order, not {','.join(map(str, lr_steps))}")
    drops_made = sum(step < num_epochs for step in lr_steps)
    if lr_factor > 1 and math.log10(lr) + drops_made * math.log10(lr_factor) > math.log10(MOST):
        raise UserError(
            f"--lr {lr} times --lr-factor {lr_factor} at {drops_made} epochs is more than {MOST:g}; lower one of them"
        )
    return Schedule(num_epochs, lr, lr_factor, tuple(lr_steps), lr_decay ** (paper_epochs / num_epochs), warmup_epochs)
