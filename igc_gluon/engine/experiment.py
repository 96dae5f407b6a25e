"""An experiment: a network, a schedule and seeds, run once or several times on an input (`igc_gluon.engine.inputs`)."""
import hashlib
import json
import logging
import os
import time
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import List, Optional, Tuple

import mxnet as mx
import numpy as np

from igc_gluon import complexity, params_file
from igc_gluon.data.classes import check_same_classes
from igc_gluon.engine.checkpoint import KEPT, CheckpointStore, ReadOnlyStore
from igc_gluon.engine.devices import DataParallel
from igc_gluon.engine.loop import TrainingLoop
from igc_gluon.engine.saved_networks import complete
from igc_gluon.engine.optimizer import OPTIMIZERS
from igc_gluon.engine.position import best_entry
from igc_gluon.engine.precision import use_dtype
from igc_gluon.engine.record import NoRecord, RunRecord, say
from igc_gluon.engine.schedule import Schedule
from igc_gluon.engine.workers import Alone, share
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.launch import heartbeat
from igc_gluon.model_zoo import Model
from igc_gluon.model_zoo.attributes import class_names, read_preprocessing, set_attributes
from igc_gluon.model_zoo.authors import from_module_params, save_module_checkpoint
from igc_gluon.nn import INITIALIZERS
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)

MAX_SEED = 2 ** 32  # NumPy takes no larger one


@dataclass(frozen=True)
class Experiment:
    """What the result of a run depends on, beside the input and the seed; config.json holds all of it."""
    model: Model
    dataset: str
    schedule: Schedule
    batch_size: int = 64
    batch_shards: int = 2
    wd: float = 1e-4
    momentum: float = 0.9
    model_options: Optional[dict] = None
    optimizer: str = "nesterov"  # or "sgd", see igc_gluon.engine.optimizer
    undecayed: Tuple[str, ...] = ()  # ends of the names of parameters without weight decay
    initializer: str = "igcv1"  # of igc_gluon.nn.INITIALIZERS
    label_smoothing: float = 0.0
    compression: Optional[float] = None  # the threshold of 2-bit gradients
    dtype: str = "float32"  # or "float16" on GPUs, or "bfloat16" in convolutions and FC alone on CPUs

    def as_config(self):
        """The dict that config.json holds: the model by its name, and the file of the user's that registered it."""
        source = self.model.family.source
        return {**asdict(replace(self, model=None)), "model": self.model.name,
                **({"model_file": source.as_config()} if source else {})}

    def build(self, classes):
        """The network without values. Raises UserError where there is none of these numbers and options."""
        return self.model.build(classes, **(self.model_options or {}))


@dataclass(frozen=True)
class Settings:
    """What a run may change without another result (to float accuracy: the devices)."""
    devices: List[mx.Context]
    kv_store: str = "device"
    workers: object = field(default_factory=Alone)
    log_dir: str = "runs"
    exp_name: Optional[str] = None
    resume: bool = False
    checkpoint_epochs: int = 1
    disp_batches: int = 50
    model_prefix: Optional[str] = None
    load_epoch: Optional[int] = None
    checkpoint_batches: Optional[int] = None
    keep_checkpoints: int = KEPT
    detect_anomaly: bool = False


def build_network(experiment, devices, classes, seed):
    """The network of `experiment`, initialised with `seed` on `devices`, hybridized."""
    return initialize(experiment.build(classes), experiment, devices, seed)


def initialize(net, experiment, devices, seed):
    """Gives `net`, of `experiment`, values by `seed` on `devices`, hybridizes and returns it."""
    use_dtype(experiment.dtype)
    mx.random.seed(seed)
    np.random.seed(seed)  # some of MXNet's initializers draw from NumPy
    INITIALIZERS[experiment.initializer](net, ctx=devices)
    if experiment.dtype == "float16":
        net.cast("float16")  # but for BN
    net.hybridize(static_alloc=True)
    return net


def build_parallel(experiment, settings, net):
    """`net` on the devices, with the experiment's optimizer."""
    for name, parameter in net.collect_params().items():
        if name.endswith(experiment.undecayed):
            parameter.wd_mult = 0.0
    optimizer = OPTIMIZERS[experiment.optimizer](
        momentum=experiment.momentum, wd=experiment.wd, learning_rate=experiment.schedule.lr,
        multi_precision=experiment.dtype == "float16")
    return DataParallel(net, settings.devices, experiment.batch_shards, optimizer, settings.kv_store,
                        experiment.label_smoothing, settings.workers, experiment.batch_size, experiment.compression)


def run(experiment, data, settings, seeds, report=say):
    """Runs `experiment` on the input `data` once for every seed and returns a summary per run, see `_summary`.

    `report` takes lines for people. Raises UserError, Stopped, NotFinite.
    """
    _check_settings(experiment, settings, seeds)
    # Folders first: what cannot be run should say so before a data set is read or downloaded.
    folders = [run_folder(experiment, settings, seed) for seed in seeds]
    networks = [experiment.build(data.classes) for _ in seeds]
    with heartbeat.patiently():  # others may download or pack what this worker waits for
        data.prepare()
    summaries = [_run_once(experiment, networks.pop(), data, settings, seed, folder, report)
                 for seed, folder in zip(seeds, folders)]
    if len(seeds) > 1 and settings.workers.rank == 0:
        _write_mean(summaries, folders[0].parent, report)
    return summaries


def _check_settings(experiment, settings, seeds):
    """Raises UserError on what would otherwise show only after the first epoch or the first run."""
    if len(seeds) > 1 and settings.model_prefix:
        raise UserError("--model-prefix names the files of one run; leave it out with --num-runs")
    if not settings.workers.synchronous:
        if len(seeds) > 1:
            raise UserError("the servers of dist_async hold one run; leave --num-runs out")
        if experiment.optimizer != "nesterov" or experiment.undecayed or experiment.dtype == "float16":
            raise UserError("the servers of dist_async know the optimizer nesterov in float32, with weight decay of "
                            "every parameter; use --kv-store dist_sync")
    if seeds[-1] >= MAX_SEED:
        raise UserError(f"seeds must be below {MAX_SEED}, not {seeds[-1]}; lower --rand-seed")
    if settings.model_prefix:
        folder = expand(settings.model_prefix).parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"--model-prefix: cannot write to the folder {folder}; make it first")
    if settings.load_epoch is not None:
        if not settings.model_prefix:
            raise UserError("--load-epoch needs --model-prefix, the path of PREFIX-0010.params without '-0010.params'")
        if settings.load_epoch >= experiment.schedule.num_epochs:
            raise UserError(f"--load-epoch {settings.load_epoch} leaves nothing of {experiment.schedule.num_epochs} "
                            "epochs to train; raise --num-epochs")


def run_folder(experiment, settings, seed):
    """`<log-dir>/<data set>/<model>[_<exp-name>]/seed<seed>`."""
    name = experiment.model.name + (f"_{settings.exp_name}" if settings.exp_name else "")
    return expand(settings.log_dir) / experiment.dataset / name / f"seed{seed}"


def _run_once(experiment, net, data, settings, seed, folder, report):
    workers = settings.workers
    record = NoRecord(folder) if workers.rank else RunRecord(folder)
    try:
        batches = data.batches(experiment.batch_size, seed, workers.rank, workers.count)
        store = ReadOnlyStore if workers.rank else CheckpointStore
        checkpoints = store(folder / "checkpoints", settings.keep_checkpoints)
        config = {**experiment.as_config(), "classes": data.classes, **data.preprocessing.as_config(), **data.config(),
                  "seed": seed, "load_epoch": settings.load_epoch,
                  "train_batches": len(batches[0])}
        if workers.rank == 0:
            _check_folder(record, checkpoints, config, settings.resume)
        workers.barrier()
        set_attributes(initialize(net, experiment, settings.devices, seed), experiment.model.name, data.preprocessing)
        parallel = build_parallel(experiment, settings, net)
        if settings.detect_anomaly:
            parallel.detect_anomaly()
        loop = TrainingLoop(parallel, *batches, experiment.schedule, record, checkpoints, config,
                            f"{experiment.model} on {experiment.dataset}", settings.checkpoint_epochs,
                            settings.disp_batches,
                            _module_checkpoints(net, None if workers.rank else settings.model_prefix), data.top5,
                            settings.checkpoint_batches, data.validation(workers.rank, workers.count))
        saved = checkpoints.load_last(report) if settings.resume else None
        if saved:
            check_same(saved[1].get("config") or {}, config, folder)
            try:
                loop.restore(*saved)
            except UserError as error:
                raise UserError(f"{checkpoints.folder}: {error}") from None
            report(f"going on after epoch {loop.position.epoch}, batch {loop.position.batch}, of {folder}")
        elif settings.load_epoch is not None:
            _load_module_checkpoint(parallel, net, settings.model_prefix, settings.load_epoch)
            loop.position.epoch = settings.load_epoch
        if workers.count > 1:
            begun = json.dumps([config, loop.position.epoch, loop.position.batch], sort_keys=True)
            workers.check_same(hashlib.sha256(begun.encode()).digest(), "flags or a last checkpoint")
        report(f"{experiment.model} on {experiment.dataset}, seed {seed}: {experiment.schedule.num_epochs} epochs of "
               f"{len(batches[0])} batches of {experiment.batch_size} images on "
               f"{', '.join(map(str, settings.devices))}"
               f"{f' of each of {workers.count} workers' if workers.count > 1 else ''}; all of it goes to {folder}")
        record.open(loop.position.history)
        record.write_config(config, {
            "devices": f"{len(settings.devices)} x {settings.devices[0].device_type}", "kv_store": settings.kv_store,
            "workers": workers.count})
        logger.info("start with arguments %s, %s", experiment, settings)
        history = loop.run()
        return _summary(experiment, net, data.preprocessing.image_shape, history, folder, report)
    finally:
        record.close()


def _check_folder(record, checkpoints, config, resume):
    """Raises UserError where starting would mix two runs in one folder."""
    if not resume and checkpoints.names():
        raise UserError(f"{record.folder} holds a run already; add --resume to go on with it, or choose another "
                        "--exp-name or --rand-seed")
    if resume:
        check_same(record.read_config() or {}, config, record.folder)
    else:
        (record.folder / "config.json").unlink(missing_ok=True)  # of a run that came to nothing


def check_same(before, config, folder):
    """Raises UserError unless what a run was begun with, as far as it says, is `config`.

    What an older release did not write into its config.json was as the defaults are."""
    if not isinstance(before, dict):
        raise UserError(f"{folder} does not say what it was begun with; choose another --exp-name")
    if "model" in before:
        before = {**_defaults(Experiment), "validation_images": 0, **complete(before)}
    now = json.loads(json.dumps(config))  # tuples become lists, as in the file
    for key, value in now.items():
        old = before.get(key)
        if key == "schedule" and isinstance(old, dict):
            old = {**_defaults(Schedule), **old}
        if key == "model_file":
            check_model_file(old, value, folder)
            continue
        if key == "class_names" and old and value:
            check_same_classes(old, value, folder, "the data")
        if key in before and old != value:
            raise UserError(f"{folder} was begun with {key} {before[key]}, not {value}; resume with the same "
                            "flags, or choose another --exp-name")


def check_model_file(before, now, folder):
    """Raises UserError where the file that registered the network has changed since the run was begun; it may have been
    moved."""
    if isinstance(before, dict) and before.get("sha256") != now["sha256"]:
        raise UserError(f"{folder} was begun with {before.get('path')} as it was then (sha256 "
                        f"{str(before.get('sha256'))[:12]}); {now['path']} is another ({now['sha256'][:12]}): bring the "
                        "old one back, or choose another --exp-name")


def _defaults(dataclass):
    """{name: default} of its fields that have one, as JSON holds it."""
    return json.loads(json.dumps({field.name: field.default for field in fields(dataclass)
                                  if field.default is not MISSING}))


def _module_checkpoints(net, prefix):
    """Writes `prefix-symbol.json` and `prefix-0010.params` as MXNet's Module does, under the authors' names."""
    def write(epoch):
        if prefix:
            save_module_checkpoint(net, prefix, epoch)
    return write


def _load_module_checkpoint(parallel, net, prefix, epoch):
    path = expand(f"{prefix}-{epoch:04d}.params")
    trained = read_preprocessing(path)
    names, own = (found or () for found in (trained and trained.class_names, class_names(net)))
    if sorted(names) == sorted(own):
        check_same_classes(names, own, path, "the data")
    elif names and own:
        logger.warning("%s was trained on other classes than the data has: %s and so on, not %s; the scores begin with "
                       "theirs", path, names[0], own[0])
    arrays = {name.split(":", 1)[-1]: mx.nd.array(array, dtype=array.dtype)
              for name, array in params_file.load(path).items()}
    try:
        from_module_params(net, arrays, {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    parallel.set_parameters(parallel.parameters())


def _summary(experiment, net, image_shape, history, folder, report):
    last, best = history[-1], best_entry(history)
    which = "in the epoch that is best on the validation images" if "validation_accuracy" in last else "at best"
    totals = complexity.totals(net, image_shape)
    top5 = f"\n  top-5           {100 * last['test_top5']:.2f} % at the end" if "test_top5" in last else ""
    summary = {"folder": str(folder), "epochs": len(history), "seconds": sum(e["seconds"] for e in history),
               "last_test_accuracy": last["test_accuracy"], "best_test_accuracy": best["test_accuracy"],
               "best_epoch": best["epoch"]}
    report(f"""
{experiment.model} on {experiment.dataset}: {summary['epochs']} epochs in {summary['seconds']:.0f} s of training
  test accuracy   {100 * last['test_accuracy']:.2f} % at the end, {100 * best['test_accuracy']:.2f} % {which} \
(epoch {best['epoch'] + 1}){top5}
  weights         {totals.weights / 1e6:.3f} M in convolutions and FC, {totals.multiply_adds / 1e8:.3f} x 10^8 multiply-adds
  look at         {folder / 'curves.png'}, log.txt beside it; the weights are in checkpoints/""")
    return summary


def _write_mean(summaries, folder, report):
    """Mean and sample standard deviation over the seeds, as the papers' tables give them."""
    result = {"runs": summaries}
    report(f"\n{len(summaries)} runs: mean and standard deviation of the test accuracy, %")
    for key in ("last_test_accuracy", "best_test_accuracy"):
        values = 100 * np.array([summary[key] for summary in summaries])
        result[key] = {"mean": values.mean(), "std": values.std(ddof=1)}
        report(f"  {key.split('_')[0]:5s} {values.mean():.2f} +- {values.std(ddof=1):.2f}   "
               f"({', '.join(f'{v:.2f}' for v in values)})")
    with write_atomically(folder / "summary.json", "w") as file:
        json.dump(result, file, indent=1)


def benchmark(experiment, settings, classes, image_shape, steps=20, warm_up=3, report=say):
    """Times training steps on one synthetic batch of images (channels, height, width): nothing is read or written.

    Returns images per second, from the median step of `steps` after `warm_up`.
    """
    net = build_network(experiment, settings.devices, classes, seed=0)
    parallel = build_parallel(experiment, settings, net)
    workers = settings.workers
    rng = np.random.default_rng(0)
    mine = slice(*share(experiment.batch_size, workers.rank, workers.count))
    data = rng.standard_normal((experiment.batch_size, *image_shape), dtype=np.float32)[mine]
    label = rng.integers(0, classes, experiment.batch_size).astype(np.float32)[mine]
    parallel.begin()
    seconds = []
    for _ in range(warm_up + steps):
        begin = time.monotonic()
        parallel.step(data, label, lr=1e-3)
        mx.nd.waitall()
        seconds.append(time.monotonic() - begin)
    median = float(np.median(seconds[warm_up:]))
    report(f"{experiment.model}, batch {experiment.batch_size}, {workers.count * len(settings.devices)} x "
           f"{settings.devices[0].device_type}: {experiment.batch_size / median:.1f} images/s in training "
           f"(median of {steps} steps, {1000 * median:.1f} ms; synthetic data)")
    return experiment.batch_size / median
