"""The training loop: epochs of batches, evaluation, checkpoints, progress, signals."""

import logging
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from types import FrameType
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional

import numpy as np
from tqdm import tqdm

from igc_gluon.data.batches import BatchSource
from igc_gluon.engine import statistics
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.evaluation import Evaluation, count_correct, evaluate
from igc_gluon.engine.parallel import NETWORK, DataParallel, StepResult
from igc_gluon.engine.progress import Entry, Progress
from igc_gluon.engine.replicas import Arrays
from igc_gluon.engine.run_log import NullRunLog, report_epoch
from igc_gluon.engine.schedule import Schedule
from igc_gluon.engine.versions import versions
from igc_gluon.errors import UserError, printable
from igc_gluon.launch import heartbeat
from igc_gluon.launch.guard import SAME_SECONDS
from igc_gluon.progress_bar import progress_bar

logger = logging.getLogger(__name__)


class NotFinite(UserError):
    """A loss, a gradient or a weight is not a finite number."""


class Stopped(Exception):
    """A signal asked the run to stop; everything is saved in `folder`, if there is one."""

    def __init__(self, signal_number: int, folder: object):
        self.signal_number = signal_number
        saved = (
            f"saved in {printable(folder)}" if folder else "not saved, as workers of dist_async are not at one batch"
        )
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; {saved}; go on with --resume")


class _EvaluationStopped(Exception):
    """A signal has ended this worker's part of an evaluation."""


class StopSignals:
    """Inside the block, SIGINT, SIGTERM and SIGHUP, of a terminal that is closed, only set `number`; a second one,
    later on, ends the process at once. What is ignored, SIGHUP by nohup for example, stays so."""

    def __enter__(self) -> "StopSignals":
        self.number: Optional[int] = None
        self._received_at = 0.0
        self._process, self._before = os.getpid(), {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            self._before = {
                n: signal.signal(n, self._handle)
                for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                if signal.getsignal(n) is not signal.SIG_IGN
            }
        return self

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        now = time.monotonic()
        # A forked worker inherits this handler; the run's end is not its to decide.
        if os.getpid() != self._process or (self.number is not None and now - self._received_at > SAME_SECONDS):
            os._exit(128 + number)
        if self.number is not None:
            return
        self.number, self._received_at = number, now
        tqdm.write("\nstopping after this batch; again to stop at once, without saving", file=sys.stderr)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class LoopOptions:
    """What does not change the result.

    title: of the picture and the bar. checkpoint_epochs: save after every so many epochs. checkpoint_batches: save
    after every so many batches of the run too, or None. disp_batches: log every so many batches. top5: whether top-5
    accuracy is reported too.
    """

    title: str = ""
    checkpoint_epochs: int = 1
    checkpoint_batches: Optional[int] = None
    disp_batches: int = 50
    top5: bool = False


class TrainingLoop:
    """Trains until the schedule's end.

    train, test: batches of this worker; validation: those of images that are held out to choose the best epoch by, or
    None to choose it by the test batches. log: open. config: what checkpoints say they belong to, with the seed.
    after_checkpoint(epochs done): called after each epoch's checkpoint. bn_statistics: see `statistics.due`.
    """

    def __init__(
        self,
        parallel: DataParallel,
        train: BatchSource,
        test: BatchSource,
        *,
        schedule: Schedule,
        log: NullRunLog,
        checkpoints: CheckpointStore,
        config: Dict[str, Any],
        validation: Optional[BatchSource] = None,
        options: LoopOptions = LoopOptions(),
        after_checkpoint: Callable[[int], object] = lambda epoch: None,
        bn_statistics: str = "auto",
    ):
        self.parallel, self.workers = parallel, parallel.workers
        self.train, self.test, self.validation = train, test, validation
        self.schedule, self.log, self.checkpoints, self.config = schedule, log, checkpoints, config
        self.after_checkpoint, self.options, self.bn_statistics = after_checkpoint, options, bn_statistics
        self.progress = Progress()

    def restore(self, arrays: Mapping[str, Arrays], state: Mapping[str, Any]) -> None:
        """Continues from a checkpoint of `CheckpointStore`. Raises UserError if it is of something else."""
        progress = Progress.from_state(
            state, len(self.train), self.schedule.num_epochs, self.config.get("load_epoch") or 0
        )
        self.parallel.load_state_dict(arrays)
        self.progress = progress
        if progress.history:  # the entries of a run are alike, whatever began it
            self.options = replace(self.options, top5="test_top5" in progress.history[0])
        if self.workers.rank:  # worker 0 has the totals of all of them
            self.progress.reset_totals()

    def run(self) -> List[Entry]:
        """Returns the history, an entry per epoch. Raises Stopped after a signal, NotFinite on a broken loss."""
        progress, batches, epochs = self.progress, len(self.train), self.schedule.num_epochs
        self.parallel.begin()
        if progress.epoch and not progress.batch:
            self._after_checkpoint()  # a kill may have come before it
        with StopSignals() as stop, progress_bar(
            total=epochs * batches,
            initial=progress.epoch * batches + progress.batch,
            unit="batch",
            desc=self.options.title,
            disable=self.workers.rank > 0,
        ) as bar:
            while progress.epoch < epochs:
                self._train_epoch(stop, bar)
                self.parallel.end_epoch()
                progress.sum_over(self.workers)
                self._finish_epoch(self._evaluate_network(stop))
        if stop.number is not None:  # it came while the last epoch was being finished
            raise Stopped(stop.number, self.checkpoints.folder / str(self.checkpoints.pointer("last")))
        return progress.history

    def _train_epoch(self, stop: StopSignals, bar: tqdm) -> None:
        progress = self.progress
        interval = _Interval(progress, self.workers.count)
        begin = None
        for data, label in self.train.epoch(progress.epoch, first_batch=progress.batch):
            begin = begin or time.monotonic()  # waiting for data counts, opening the data does not
            lr = self.schedule.lr_at(progress.epoch, progress.batch, len(self.train))
            place = progress.epoch, progress.batch
            last = progress.batch + 1 == len(self.train)
            result = self.parallel.step(data, label, lr, lambda: stop.number, place, last)
            self._check_numbers(result, data, label)
            if label.ndim == 2:  # mixed images count for the class of the greater share
                label = label.argmax(axis=1)
            progress.add_batch(
                result.loss,
                count_correct(result.scores, label),
                count_correct(result.scores, label, 5) if self.options.top5 else 0,
                len(label),
            )
            progress.seconds += time.monotonic() - begin
            self._show(bar)
            if progress.batch % self.options.disp_batches == 0:
                interval.log()
            if result.stop is not None:
                self._stop(result.stop)
            done = progress.epoch * len(self.train) + progress.batch
            if self.options.checkpoint_batches and done % self.options.checkpoint_batches == 0:
                self._save(best=False)
            begin = time.monotonic()
        self._check_last_update()

    def _evaluate_network(self, stop: StopSignals) -> Dict[str, float]:
        """What the history says of the network that the epoch's checkpoint will hold."""
        if statistics.due(self.parallel.net, (self.progress.epoch + 1) * len(self.train), self.bn_statistics):
            self._take_statistics(stop)
        if not self.parallel.average:
            return self._measured(stop)
        trained = self.evaluate(stop, self.test)
        with self.parallel.averaged():
            self._take_statistics(stop)
            measured = self._measured(stop)
            self.parallel.keep_averaged()
        return {**measured, "trained_test_loss": trained.loss, "trained_test_accuracy": trained.accuracy}

    def _take_statistics(self, stop: StopSignals) -> None:
        epoch = self.progress.epoch
        batches = statistics.last_batches(self.train, epoch)
        self.parallel.take_statistics(batches, lambda: stop.number is not None, (epoch, len(self.train)))

    def _measured(self, stop: StopSignals) -> Dict[str, float]:
        test = self.evaluate(stop, self.test)
        measured = {"test_loss": test.loss, "test_accuracy": test.accuracy}
        if self.options.top5:
            measured["test_top5"] = test.top5
        if self.validation:
            validation = self.evaluate(stop, self.validation)
            measured.update(validation_loss=validation.loss, validation_accuracy=validation.accuracy)
        return measured

    def evaluate(self, stop: StopSignals, batches: BatchSource) -> Evaluation:
        """The `Evaluation` of test or validation batches, of all workers' parts together. Raises Stopped on all workers
        after a signal to one, which tells the others when the sums are reduced."""

        def check(_: int) -> None:
            if stop.number is not None:
                raise _EvaluationStopped

        def reduce(sums: np.ndarray) -> np.ndarray:
            *sums, stopping = self.workers.sum(np.append(sums, stop.number or 0)).tolist()
            if stopping:
                if self.workers.rank:  # all have the totals of the epoch, which worker 0 is to save once
                    self.progress.reset_totals()
                self._stop(stop.number or signal.SIGTERM)
            return np.array(sums)

        try:
            return evaluate(self.parallel.predict, batches, check, reduce)
        except _EvaluationStopped:
            reduce(np.zeros(4))
            raise AssertionError("a worker that stops ends all") from None

    def _finish_epoch(self, measured: Dict[str, float]) -> None:
        progress = self.progress
        entry = self._entry(measured)
        best = progress.add_entry(entry)
        report_epoch(entry, best)
        progress.begin_epoch()
        self.log.add_epoch(progress.history)
        last = progress.epoch == self.schedule.num_epochs
        due = last or progress.epoch % self.options.checkpoint_epochs == 0
        # The best weights must be on the disk before the next epoch changes them.
        if best or due:
            self._save(best)
            self.log.draw(progress.history, self.options.title)
        if due:
            self._after_checkpoint()

    def _after_checkpoint(self) -> None:
        with self.parallel.averaged(kept=True) if self.parallel.average else nullcontext():
            self.after_checkpoint(self.progress.epoch)

    def _entry(self, measured: Dict[str, float]) -> Entry:
        """What the history says of the epoch that has just been trained."""
        progress = self.progress
        entry = {
            "epoch": progress.epoch,
            "lr": self.schedule.lr_at(progress.epoch),
            "train_loss": progress.loss / progress.images,
            "train_accuracy": progress.correct / progress.images,
            **{key: measured[key] for key in ("test_loss", "test_accuracy")},
            "seconds": progress.seconds,
            "images_per_second": _rate(progress.images, progress.seconds),
        }
        if self.options.top5:
            entry["train_top5"] = progress.correct_of_five / progress.images
        return {**entry, **measured}

    def _show(self, bar: tqdm) -> None:
        at = self.progress
        bar.set_postfix(
            epoch=f"{at.epoch + 1}/{self.schedule.num_epochs}",
            loss=f"{at.loss / at.images:.3f}",
            acc=f"{100 * at.correct / at.images:.1f}%",
            speed=f"{_rate(self.workers.count * at.images, at.seconds):.0f} img/s",
            refresh=False,
        )
        bar.update()

    def _check_numbers(self, result: StepResult, data: np.ndarray, label: np.ndarray) -> None:
        """Raises NotFinite if the update before this batch, or this batch, has left something not finite."""
        if result.broken:
            self._raise_broken(result.broken)
        if result.anomaly or not np.isfinite(result.loss):
            what = f"the loss is {result.loss}" if not np.isfinite(result.loss) else "the numbers break"
            layer = result.anomaly or self.parallel.first_broken_layer(data, label)
            if self.workers.synchronous:
                self.workers.barrier()  # the first that ends is the end of all, also of one that still looks
            raise NotFinite(
                f"{what} in epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1}: {layer}; "
                f"{self._last_checkpoint()}"
            )

    def _check_last_update(self) -> None:
        broken = self.parallel.finite_check.end()
        if broken:
            self._raise_broken(broken)

    def _raise_broken(self, broken: str) -> NoReturn:
        hint = "" if self.parallel.anomaly_detector else "--resume --detect-anomaly finds where it begins; "
        raise NotFinite(
            f"{broken} after epoch {self.progress.epoch + 1}, batch {self.progress.batch}; "
            f"{hint}{self._last_checkpoint()}"
        )

    def _save(self, best: bool) -> object:
        """To be called by all workers; when it returns, worker 0 has written the checkpoint. Returns its folder."""
        self._check_last_update()
        at = replace(self.progress)
        if at.batch:
            self.parallel.updates.synchronize()
            at.sum_over(self.workers)
        arrays = self.parallel.state_dict(within_epoch=at.batch > 0)
        # MXNet's ReLU turns NaN into 0, so that a network of broken weights may still have a finite loss.
        broken = [name for name, array in arrays[NETWORK].items() if not np.isfinite(array).all()]
        if broken:
            raise NotFinite(
                f"{', '.join(broken[:3])}{' and others' if broken[3:] else ''}: not finite before epoch "
                f"{at.epoch + 1}, batch {at.batch + 1}; {self._last_checkpoint()}"
            )
        state = {"position": asdict(at), "config": self.config, "versions": versions()}
        folder = self.checkpoints.save(at.epoch, at.batch, arrays, state, best)
        heartbeat.progress()
        self.workers.barrier()
        return folder

    def _last_checkpoint(self) -> str:
        last = self.checkpoints.pointer("last")
        return (
            f"the last checkpoint before is kept: {self.checkpoints.folder / last}"
            if last
            else "there is no checkpoint yet"
        ) + "; a lower --lr may help"

    def _stop(self, number: int) -> NoReturn:
        raise Stopped(number, self._save(best=False) if self.workers.synchronous else None)


class _Interval:
    """The batches since the last line of the log."""

    def __init__(self, progress: Progress, workers: int):
        self._progress, self._workers = progress, workers
        self._begin, self._before = time.monotonic(), replace(progress)

    def log(self) -> None:
        at, before = self._progress, self._before
        images = at.images - before.images
        logger.info(
            "Epoch[%d] Batch [%d-%d]\tSpeed: %.2f samples/sec\taccuracy=%f\tcross-entropy=%f",
            at.epoch,
            before.batch,
            at.batch,
            _rate(self._workers * images, time.monotonic() - self._begin),
            (at.correct - before.correct) / images,
            (at.loss - before.loss) / images,
        )
        self._begin, self._before = time.monotonic(), replace(at)


def _rate(images: int, seconds: float) -> float:
    """Images per second; a clock that stands still must not end a run."""
    return images / max(seconds, 1e-9)
