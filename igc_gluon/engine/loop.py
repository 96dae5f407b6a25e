"""The training loop: epochs of batches, evaluation, checkpoints, progress, signals."""
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, replace

import numpy as np
from tqdm import tqdm

from igc_gluon.engine.evaluation import count_correct, evaluate
from igc_gluon.engine.progress import Progress, choosing_accuracy
from igc_gluon.engine.run_log import say
from igc_gluon.engine.versions import versions
from igc_gluon.errors import UserError
from igc_gluon.launch import heartbeat
from igc_gluon.launch.guard import SAME_SECONDS

logger = logging.getLogger(__name__)


class NotFinite(UserError):
    """A loss, a gradient or a weight is not a finite number."""


class Stopped(Exception):
    """A signal asked the run to stop; everything is saved in `folder`, if there is one."""

    def __init__(self, signal_number, folder):
        self.signal_number = signal_number
        saved = f"saved in {folder}" if folder else "not saved, as workers of dist_async are not at one batch"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}; {saved}; go on with --resume")


class _Left(Exception):
    """A signal has ended this worker's part of a validation."""


class StopSignals:
    """Inside the block, SIGINT, SIGTERM and SIGHUP, of a terminal that is closed, only set `number`; a second one, later
    on, ends the process at once. What is ignored, SIGHUP by nohup for example, stays so."""

    def __enter__(self):
        self.number, self._process, self._before = None, os.getpid(), {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            self._before = {n: signal.signal(n, self._note) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                            if signal.getsignal(n) is not signal.SIG_IGN}
        return self

    def _note(self, number, frame):
        now = time.monotonic()
        # A forked worker inherits this handler; the run's end is not its to decide.
        if os.getpid() != self._process or (self.number is not None and now - self._noted_at > SAME_SECONDS):
            os._exit(128 + number)
        if self.number is not None:
            return
        self.number, self._noted_at = number, now
        tqdm.write("\nstopping after this batch; again to stop at once, without saving", file=sys.stderr)

    def __exit__(self, *exception):
        for number, handler in self._before.items():
            signal.signal(number, handler)


class TrainingLoop:
    """Trains until the schedule's end.

    parallel: DataParallel; train, test: batches as `igc_gluon.data.Batches` makes them; validation: those of images that
    are held out to choose the best epoch by, or None to choose it by the test batches; schedule: Schedule;
    record: RunLog, open; checkpoints: CheckpointStore; config: what checkpoints say they belong to, with the seed;
    title: of the picture and the bar;
    after_checkpoint(epochs done): called after each epoch's checkpoint; top5: whether top-5 accuracy is reported too.
    checkpoint_batches: save after every so many batches of the run too, or None.
    """

    def __init__(self, parallel, train, test, schedule, record, checkpoints, config, title, checkpoint_epochs=1,
                 disp_batches=50, after_checkpoint=lambda epoch: None, top5=False, checkpoint_batches=None, validation=None):
        self.validation = validation
        self.parallel, self.train, self.test, self.schedule = parallel, train, test, schedule
        self.workers = parallel.workers
        self.record, self.checkpoints, self.config, self.title = record, checkpoints, config, title
        self.checkpoint_epochs, self.disp_batches = checkpoint_epochs, disp_batches
        self.checkpoint_batches = checkpoint_batches
        self.after_checkpoint, self.top5 = after_checkpoint, top5
        self.position = Progress()

    def restore(self, arrays, state):
        """Continues from a checkpoint of `CheckpointStore`. Raises UserError if it is of something else."""
        position = Progress.of(state, len(self.train), self.schedule.num_epochs, self.config.get("load_epoch") or 0)
        self.parallel.set_parameters(arrays["net.params"])
        self.parallel.set_optimizer_states(_with_prefix(arrays["training.params"], "momentum:"), arrays["net.params"])
        self.parallel.set_shard_statistics(_with_prefix(arrays["training.params"], "shard:"))
        self.position = position
        if self.workers.rank:  # worker 0 has what all of them had added up
            self.position.forget()

    def run(self):
        """Returns the history, an entry per epoch. Raises Stopped after a signal, NotFinite on a broken loss."""
        self.parallel.begin()
        if self.position.epoch and not self.position.batch:
            self.after_checkpoint(self.position.epoch)  # a kill may have come before it
        batches = len(self.train)
        done = self.position.epoch * batches + self.position.batch
        with StopSignals() as stop, tqdm(total=self.schedule.num_epochs * batches, initial=done, unit="batch",
                                         desc=self.title, dynamic_ncols=True, file=sys.stderr,
                                         disable=self.workers.rank > 0,
                                         mininterval=0.1 if sys.stderr.isatty() else 30) as bar:
            while self.position.epoch < self.schedule.num_epochs:
                self._train_epoch(stop, bar)
                self.parallel.settle()
                self.parallel.average_statistics()
                self.position.add_up(self.workers)
                test = self.evaluate(stop, self.test)
                self._finish_epoch(test, self.validation and self.evaluate(stop, self.validation), bar)
        if stop.number is not None:  # it came while the last epoch was being finished
            raise Stopped(stop.number, self.checkpoints.folder / self.checkpoints.pointer("last"))
        return self.position.history

    def _train_epoch(self, stop, bar):
        at = self.position
        shown_at, shown = time.monotonic(), replace(at)
        begin = None
        for data, label in self.train.epoch(at.epoch, first_batch=at.batch):
            begin = begin or time.monotonic()  # waiting for data counts, opening the data does not
            lr = self.schedule.lr_at(at.epoch, at.batch, len(self.train))
            loss, scores = self.parallel.step(data, label, lr, stop.number)
            self._check_numbers(loss, data, label)
            at.batch += 1
            at.loss += loss
            at.correct += count_correct(scores, label)
            at.correct_of_five += count_correct(scores, label, 5) if self.top5 else 0
            at.images += len(label)
            at.seconds += time.monotonic() - begin
            bar.set_postfix(epoch=f"{at.epoch + 1}/{self.schedule.num_epochs}", loss=f"{at.loss / at.images:.3f}",
                            acc=f"{100 * at.correct / at.images:.1f}%",
                            speed=f"{_rate(self.workers.count * at.images, at.seconds):.0f} img/s", refresh=False)
            bar.update()
            if at.batch % self.disp_batches == 0:
                elapsed = time.monotonic() - shown_at
                images, correct = at.images - shown.images, at.correct - shown.correct
                logger.info("Epoch[%d] Batch [%d-%d]\tSpeed: %.2f samples/sec\taccuracy=%f\tcross-entropy=%f",
                            at.epoch, shown.batch, at.batch, _rate(self.workers.count * images, elapsed),
                            correct / images, (at.loss - shown.loss) / images)
                shown_at, shown = time.monotonic(), replace(at)
            number = self.parallel.agreed_stop(stop.number)
            if number is not None:
                self._stop(number)
            done = at.epoch * len(self.train) + at.batch
            if self.checkpoint_batches and done % self.checkpoint_batches == 0:
                self._save(best=False)
            begin = time.monotonic()

        self._check_update()

    def _check_numbers(self, loss, data, label):
        """Raises NotFinite if the update before this batch, or this batch, has left something not finite."""
        at, parallel = self.position, self.parallel
        if parallel.broken:
            self._raise_broken()
        if parallel.anomaly or not np.isfinite(loss):
            what = f"the loss is {loss}" if not np.isfinite(loss) else "the numbers break"
            layer = parallel.anomaly or parallel.first_broken_layer(data, label)
            if self.workers.synchronous:
                self.workers.barrier()  # the first that ends is the end of all, also of one that still looks
            raise NotFinite(f"{what} in epoch {at.epoch + 1}, batch {at.batch + 1}: {layer}; {self._kept()}")

    def _check_update(self):
        if self.parallel.check_update():
            self._raise_broken()

    def _raise_broken(self):
        hint = "" if self.parallel.probes else "--resume --detect-anomaly finds where it begins; "
        raise NotFinite(f"{self.parallel.broken} after epoch {self.position.epoch + 1}, batch {self.position.batch}; "
                        f"{hint}{self._kept()}")

    def evaluate(self, stop, batches):
        """The `Evaluation` of test or validation batches, of all workers' parts together. Raises Stopped on all workers after a
        signal to one, which tells the others when they add up."""
        def check(_):
            if stop.number is not None:
                raise _Left

        def add_up(sums):
            *sums, stopping = self.workers.sum(np.append(sums, stop.number or 0)).tolist()
            if stopping:
                if self.workers.rank:  # all have added up the epoch, which worker 0 is to save once
                    self.position.forget()
                self._stop(stop.number or signal.SIGTERM)
            return np.array(sums)

        try:
            return evaluate(self.parallel.predict, batches, check, add_up)
        except _Left:
            return add_up(np.zeros(4))

    def _finish_epoch(self, test, validation, bar):
        at = self.position
        test_loss, test_accuracy = test.loss, test.accuracy
        entry = {"epoch": at.epoch, "lr": self.schedule.lr_at(at.epoch), "train_loss": at.loss / at.images,
                 "train_accuracy": at.correct / at.images, "test_loss": test_loss, "test_accuracy": test_accuracy,
                 "seconds": at.seconds, "images_per_second": _rate(at.images, at.seconds)}
        if self.top5:
            entry.update(train_top5=at.correct_of_five / at.images, test_top5=test.top5)
        if validation:
            entry.update(validation_loss=validation.loss, validation_accuracy=validation.accuracy)
        at.history.append(entry)
        best = choosing_accuracy(entry) > at.best_accuracy
        at.best_accuracy = max(at.best_accuracy, choosing_accuracy(entry))
        logger.info("Epoch[%d] Train-accuracy=%f", at.epoch, entry["train_accuracy"])
        logger.info("Epoch[%d] Train-cross-entropy=%f", at.epoch, entry["train_loss"])
        logger.info("Epoch[%d] Time cost=%.3f", at.epoch, at.seconds)
        logger.info("Epoch[%d] Validation-accuracy=%f", at.epoch, test_accuracy)
        logger.info("Epoch[%d] Validation-cross-entropy=%f", at.epoch, test_loss)
        if validation:  # MXNet calls the test images so
            logger.info("Epoch[%d] Held-out-accuracy=%f", at.epoch, validation.accuracy)
        if self.top5:
            logger.info("Epoch[%d] Train-top_k_accuracy_5=%f", at.epoch, entry["train_top5"])
            logger.info("Epoch[%d] Validation-top_k_accuracy_5=%f", at.epoch, test.top5)
        more = f", top-5 {100 * test.top5:6.2f} %" if self.top5 else ""
        more += f", validation {100 * validation.accuracy:6.2f} %" if validation else ""
        say(f"epoch {at.epoch + 1:3d}  lr {entry['lr']:<7.4g} train: loss {entry['train_loss']:.4f}, accuracy "
            f"{100 * entry['train_accuracy']:6.2f} %  test: loss {test_loss:.4f}, accuracy "
            f"{100 * test_accuracy:6.2f} %{more}{' (best)' if best else '       '}  {at.seconds:.1f} s")
        at.begin_epoch()
        self.record.add_epoch(at.history)
        last = at.epoch == self.schedule.num_epochs
        # The best weights must be on the disk before the next epoch changes them.
        if best or last or at.epoch % self.checkpoint_epochs == 0:
            self._save(best)
            self.record.draw(at.history, self.title)
        if last or at.epoch % self.checkpoint_epochs == 0:
            self.after_checkpoint(at.epoch)

    def _save(self, best):
        """To be called by all workers; when it returns, worker 0 has written the checkpoint."""
        self._check_update()
        at = replace(self.position)
        if at.batch:
            self.parallel.settle()
            at.add_up(self.workers)
        parameters = self.parallel.parameters()
        # MXNet's ReLU turns NaN into 0, so that a network of broken weights may still have a finite loss.
        broken = [name for name, array in parameters.items() if not np.isfinite(array).all()]
        if broken:
            raise NotFinite(f"{', '.join(broken[:3])}{' and others' if broken[3:] else ''}: not finite before epoch "
                            f"{at.epoch + 1}, batch {at.batch + 1}; {self._kept()}")
        training = {f"momentum:{name}": array for name, array in self.parallel.optimizer_states().items()}
        if at.batch:  # at an epoch's end the shards agree, and the network holds what they agree on
            training.update({f"shard:{name}": array for name, array in self.parallel.shard_statistics().items()})
        folder = self.checkpoints.save(at.epoch, at.batch, {"net.params": parameters,
                                                            "training.params": training},
                                       {"position": asdict(at), "config": self.config, "versions": versions()}, best)
        heartbeat.progress()
        self.workers.barrier()
        return folder

    def _kept(self):
        last = self.checkpoints.pointer("last")
        return (f"the last checkpoint before is kept: {self.checkpoints.folder / last}" if last else
                "there is no checkpoint yet") + "; a lower --lr may help"

    def _stop(self, number):
        raise Stopped(number, self._save(best=False) if self.workers.synchronous else None)


def _rate(images, seconds):
    """Images per second; a clock that stands still must not end a run."""
    return images / max(seconds, 1e-9)


def _with_prefix(arrays, prefix):
    return {name[len(prefix):]: array for name, array in arrays.items() if name.startswith(prefix)}
