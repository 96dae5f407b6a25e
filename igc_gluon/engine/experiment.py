"""An experiment: a network, a schedule and seeds, run once or several times on an input (`igc_gluon.engine.inputs`)."""

import hashlib
import json
import logging
import os
import time
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from igc_gluon import complexity, params_file
from igc_gluon.data.classes import check_same_classes
from igc_gluon.data.mixing import MixedBatches, Mixing
from igc_gluon.data.sharding import shard
from igc_gluon.engine import statistics
from igc_gluon.engine.checkpoint import KEPT, CheckpointStore, ReadOnlyStore
from igc_gluon.engine.dropout import add_dropout
from igc_gluon.engine.inputs import Input
from igc_gluon.engine.loop import LoopOptions, TrainingLoop
from igc_gluon.engine.loss import Objective, class_weights
from igc_gluon.engine.optimizer import OPTIMIZERS
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.engine.precision import use_dtype
from igc_gluon.engine.pretrained import Pretrained, freeze_layers, frozen_layers
from igc_gluon.engine.progress import Entry, best_entry
from igc_gluon.engine.run_folder import path_of_run
from igc_gluon.engine.run_log import NullRunLog, RunLog, print_line, read_config
from igc_gluon.engine.saved_networks import complete
from igc_gluon.engine.schedule import Schedule
from igc_gluon.engine.teacher import prepare_teacher
from igc_gluon.engine.workers import DistributedWorkers, SingleWorker, Workers
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.launch import heartbeat
from igc_gluon.model_zoo import Model
from igc_gluon.model_zoo.attributes import class_names, read_preprocessing, set_attributes
from igc_gluon.model_zoo.authors import from_module_params, save_module_checkpoint
from igc_gluon.nn import INITIALIZERS
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)

MAX_SEED = 2**32  # NumPy takes no larger one
Report = Callable[[str], object]  # takes lines for people


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
    bn_statistics: str = "auto"  # see igc_gluon.engine.statistics.due
    accumulate: int = 1  # batches to an update
    clip_norm: Optional[float] = None  # most of the gradient's norm
    ema: float = 0.0  # decay of the weights' average, 0: none
    dropout: float = 0.0  # before the scores
    mixing: Mixing = Mixing()
    class_weights: Union[str, Tuple[float, ...], None] = None  # or "balanced"
    teacher: Optional[str] = None  # what `Settings.teacher` is, see `teacher_name`
    temperature: float = 1.0
    hard_weight: float = 0.5
    pretrained: Optional[str] = None  # the digest of the weights that it begins with
    freeze: Optional[str] = None  # the last stage that stays as it is, or "all" but the classifier

    def as_config(self) -> Dict[str, Any]:
        """The dict that config.json holds: the model by its name, and the file of the user's that registered it."""
        source = self.model.family.source
        numbers = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "model"}
        return {
            "model": self.model.name,
            **numbers,
            "schedule": asdict(self.schedule),
            "mixing": asdict(self.mixing),
            **({"model_file": source.as_config()} if source else {}),
        }

    def build(self, classes: int) -> mx.gluon.HybridBlock:
        """The network without values. Raises UserError where there is none of these numbers and options."""
        net = self.model.build(classes, **(self.model_options or {}))
        if self.dropout:
            add_dropout(net, self.dropout)
        return net


@dataclass(frozen=True)
class Settings:
    """What a run may change without another result (to float accuracy: the devices). teacher: a network with weights,
    which the experiment names."""

    devices: List[mx.Context]
    kv_store: str = "device"
    workers: Workers = field(default_factory=SingleWorker)
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
    teacher: Optional[mx.gluon.HybridBlock] = None
    pretrained: Optional[Pretrained] = field(default=None, repr=False)  # the weights of the experiment's `pretrained`


def build_network(experiment: Experiment, devices: List[mx.Context], classes: int, seed: int) -> mx.gluon.HybridBlock:
    """The network of `experiment`, initialized with `seed` on `devices`, hybridized."""
    return initialize(experiment.build(classes), experiment, devices, seed)


def initialize(
    net: mx.gluon.HybridBlock, experiment: Experiment, devices: List[mx.Context], seed: int
) -> mx.gluon.HybridBlock:
    """Gives `net`, of `experiment`, values by `seed` on `devices`, hybridizes and returns it."""
    use_dtype(experiment.dtype)
    mx.random.seed(seed)
    np.random.seed(seed)  # some of MXNet's initializers draw from NumPy
    INITIALIZERS[experiment.initializer](net, ctx=devices)
    if experiment.dtype == "float16":
        net.cast("float16")  # but for BN
    net.hybridize(static_alloc=True)
    return net


def build_parallel(
    experiment: Experiment,
    settings: Settings,
    net: mx.gluon.HybridBlock,
    seed: int = 0,
    class_weights: Optional[Tuple[float, ...]] = None,
) -> DataParallel:
    """`net` on the devices, with the experiment's optimizer. class_weights: one for each class."""
    freeze_layers(net, experiment.freeze)
    for name, parameter in net.collect_params().items():
        if name.endswith(experiment.undecayed):
            parameter.wd_mult = 0.0
    optimizer = OPTIMIZERS[experiment.optimizer](
        momentum=experiment.momentum,
        wd=experiment.wd,
        learning_rate=experiment.schedule.lr,
        multi_precision=experiment.dtype == "float16",
    )
    return DataParallel(
        net,
        settings.devices,
        experiment.batch_shards,
        optimizer,
        kv_store=settings.kv_store,
        objective=Objective(
            experiment.label_smoothing, class_weights, settings.teacher, experiment.temperature, experiment.hard_weight
        ),
        workers=settings.workers,
        batch_size=experiment.batch_size,
        compression=experiment.compression,
        accumulate=experiment.accumulate,
        clip_norm=experiment.clip_norm,
        ema=experiment.ema,
        seed=seed,
        frozen=frozen_layers(net, experiment.freeze),
    )


def run(
    experiment: Experiment, data: Input, settings: Settings, seeds: Sequence[int], report: Report = print_line
) -> List[Dict[str, Any]]:
    """Runs `experiment` on the input `data` once for every seed and returns a summary per run, see `_summary`.

    Raises UserError, Stopped, NotFinite.
    """
    _check_settings(experiment, settings, seeds)
    # Folders first: what cannot be run should say so before a data set is read or downloaded.
    folders = [run_folder(experiment, settings, seed) for seed in seeds]
    networks = [experiment.build(data.classes) for _ in seeds]
    frozen_layers(networks[0], experiment.freeze)
    with heartbeat.patiently():  # others may download or pack what this worker waits for
        data.prepare()
    summaries = [
        _run_once(experiment, networks.pop(), data, settings, seed, folder, report)
        for seed, folder in zip(seeds, folders)
    ]
    if len(seeds) > 1 and settings.workers.rank == 0:
        _write_mean(summaries, folders[0].parent, report)
    return summaries


def _check_settings(experiment: Experiment, settings: Settings, seeds: Sequence[int]) -> None:
    """Raises UserError on what would otherwise show only after the first epoch or the first run."""
    if len(seeds) > 1 and settings.model_prefix:
        raise UserError("--model-prefix names the files of one run; leave it out with --num-runs")
    if not settings.workers.synchronous:
        if len(seeds) > 1:
            raise UserError("the servers of dist_async hold one run; leave --num-runs out")
        if (
            (experiment.optimizer, experiment.undecayed) != ("nesterov", ())
            or experiment.dtype == "float16"
            or (experiment.accumulate, experiment.clip_norm, experiment.ema) != (1, None, 0)
        ):
            raise UserError(
                "the servers of dist_async know the optimizer nesterov in float32, with weight decay of every "
                "parameter, without --accumulate, --clip-norm and --ema; use --kv-store dist_sync"
            )
    if experiment.ema and experiment.dtype == "float16":
        raise UserError("--ema averages float32 weights; leave out --dtype float16, or --ema")
    if seeds[-1] >= MAX_SEED:
        raise UserError(f"seeds must be below {MAX_SEED}, not {seeds[-1]}; lower --rand-seed")
    _check_module_files(experiment, settings)


def _check_module_files(experiment: Experiment, settings: Settings) -> None:
    """The flags on MXNet's Module: --model-prefix and --load-epoch."""
    if settings.model_prefix:
        folder = expand(settings.model_prefix).parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"--model-prefix: cannot write to the folder {folder}; make it first")
    if settings.load_epoch is not None:
        if not settings.model_prefix:
            raise UserError("--load-epoch needs --model-prefix, the path of PREFIX-0010.params without '-0010.params'")
        if settings.load_epoch >= experiment.schedule.num_epochs:
            raise UserError(
                f"--load-epoch {settings.load_epoch} leaves nothing of {experiment.schedule.num_epochs} "
                "epochs to train; raise --num-epochs"
            )


def run_folder(experiment: Experiment, settings: Settings, seed: int) -> Path:
    """Where the run goes, see `path_of_run`."""
    return path_of_run(settings.log_dir, experiment.dataset, experiment.model.name, settings.exp_name, seed)


def begun_shards(experiment: Experiment, settings: Settings, seed: int) -> Optional[int]:
    """The number of shards that the run of `seed` was begun with, by whatever rule; None where it has not begun."""
    config = read_config(run_folder(experiment, settings, seed))
    shards = config and config.get("batch_shards", Experiment.batch_shards)
    return shards if isinstance(shards, int) and shards > 0 else None


def _run_once(
    experiment: Experiment,
    net: mx.gluon.HybridBlock,
    data: Input,
    settings: Settings,
    seed: int,
    folder: Path,
    report: Report,
) -> Dict[str, Any]:
    workers = settings.workers
    log = NullRunLog(folder) if workers.rank else RunLog(folder)
    try:
        train, test = data.batches(experiment.batch_size, seed, workers.rank, workers.count)
        if experiment.mixing:
            train = MixedBatches(
                train,
                experiment.mixing,
                batch_size=experiment.batch_size,
                shards=experiment.batch_shards,
                classes=data.classes,
                seed=seed,
                part_index=workers.rank,
                num_parts=workers.count,
            )
        store = ReadOnlyStore if workers.rank else CheckpointStore
        checkpoints = store(folder / "checkpoints", settings.keep_checkpoints)
        config = {
            **experiment.as_config(),
            "classes": data.classes,
            **data.preprocessing.as_config(),
            **data.config(),
            "seed": seed,
            "load_epoch": settings.load_epoch,
            "train_batches": len(train),
            **_test_file(data, folder),
            **({"pretrained_from": settings.pretrained.source} if settings.pretrained else {}),
        }
        if isinstance(log, RunLog):
            _check_folder(log, checkpoints, config, settings.resume)
        workers.barrier()
        set_attributes(initialize(net, experiment, settings.devices, seed), experiment.model.name, data.preprocessing)
        if settings.pretrained:
            for remark in settings.pretrained.give_to(net):
                report(remark)
        if settings.teacher is not None:
            prepare_teacher(settings.teacher, data, settings.devices)
        weights = class_weights(experiment.class_weights, data)
        parallel = build_parallel(experiment, settings, net, seed, weights)
        if settings.detect_anomaly:
            parallel.detect_anomaly()
        loop = TrainingLoop(
            parallel,
            train,
            test,
            validation=data.validation(workers.rank, workers.count),
            schedule=experiment.schedule,
            log=log,
            checkpoints=checkpoints,
            config=config,
            after_checkpoint=_module_checkpoints(net, None if workers.rank else settings.model_prefix),
            bn_statistics=experiment.bn_statistics,
            options=LoopOptions(
                f"{experiment.model} on {experiment.dataset}",
                settings.checkpoint_epochs,
                settings.checkpoint_batches,
                settings.disp_batches,
                data.top5,
            ),
        )
        _load_weights(loop, net, settings, report)
        if isinstance(workers, DistributedWorkers):
            begun = json.dumps([config, loop.progress.epoch, loop.progress.batch], sort_keys=True)
            workers.check_same(hashlib.sha256(begun.encode()).digest(), "flags or a last checkpoint")
        report(
            f"{experiment.model} on {experiment.dataset}, seed {seed}: {experiment.schedule.num_epochs} epochs of "
            f"{len(train)} batches of {experiment.batch_size} images on {', '.join(map(str, settings.devices))}"
            f"{f' of each of {workers.count} workers' if workers.count > 1 else ''}; all of it goes to {folder}"
        )
        line = statistics.remark(net, len(train), experiment.schedule.num_epochs, experiment.bn_statistics)
        if line:
            report(line)
        log.open(loop.progress.history)
        log.write_config(
            config,
            {
                "devices": f"{len(settings.devices)} x {settings.devices[0].device_type}",
                "kv_store": settings.kv_store,
                "workers": workers.count,
            },
        )
        logger.info("start with arguments %s, %s", experiment, settings)
        history = loop.run()
        return _summary(experiment, net, data.preprocessing.image_shape, history, folder, report)
    finally:
        log.close()


def _test_file(data: Input, folder: Path) -> Dict[str, str]:
    """The entry of config.json on where the test images are: from the run's `folder`, where they lie beside the runs,
    which somebody may move."""
    path = data.test_file()
    if path is None:
        return {}
    beside = folder.parent.parent.resolve()
    resolved = path.resolve()
    inside = beside in resolved.parents
    return {"test_file": os.path.relpath(resolved, folder.resolve()) if inside else str(resolved)}


def _load_weights(loop: TrainingLoop, net: mx.gluon.HybridBlock, settings: Settings, report: Report) -> None:
    """What the run goes on from: its last checkpoint, or one of MXNet's Module, or nothing."""
    checkpoints = loop.checkpoints
    saved = checkpoints.load_last(report) if settings.resume else None
    if saved:
        folder = checkpoints.folder.parent
        check_same(saved[1].get("config") or {}, loop.config, folder)
        try:
            loop.restore(*saved)
        except UserError as error:
            raise UserError(f"{checkpoints.folder}: {error}") from None
        report(f"going on after epoch {loop.progress.epoch}, batch {loop.progress.batch}, of {folder}")
    elif settings.load_epoch is not None:
        _load_module_checkpoint(loop.parallel, net, str(settings.model_prefix), settings.load_epoch)
        loop.progress.epoch = settings.load_epoch


def _check_folder(log: RunLog, checkpoints: CheckpointStore, config: Mapping[str, Any], resume: bool) -> None:
    """Raises UserError where starting would mix two runs in one folder."""
    if not resume and checkpoints.names():
        raise UserError(
            f"{log.folder} holds a run already; add --resume to go on with it, or choose another "
            "--exp-name or --rand-seed"
        )
    if resume:
        check_same(log.read_config() or {}, config, log.folder)
    else:
        (log.folder / "config.json").unlink(missing_ok=True)  # of a run that came to nothing


def check_same(before: Any, config: Mapping[str, Any], folder: object) -> None:
    """Raises UserError unless what a run was begun with, as far as it says, is `config`.

    What an older release did not write into its config.json was as the defaults are."""
    if not isinstance(before, dict):
        raise UserError(f"{folder} does not say what it was begun with; choose another --exp-name")
    if "model" in before:
        before = {**_defaults(Experiment), "validation_images": 0, "augment_strength": 1.0, **complete(before)}
    now = json.loads(json.dumps(config))  # tuples become lists, as in the file
    for key, value in now.items():
        if key in ("test_file", "pretrained_from"):  # their places, not what they hold
            continue
        old = before.get(key)
        if key == "schedule" and isinstance(old, dict):
            old = {**_defaults(Schedule), **old}
        if key == "model_file":
            check_model_file(old, value, folder)
            continue
        if key == "class_names" and old and value:
            check_same_classes(old, value, folder, "the data")
        if key == "photographs" and key in before and old != value:
            raise UserError(
                f"{folder} was begun with other photographs, or another part of them to test on; bring them back, or "
                "choose another --exp-name"
            )
        if key in before and old != value:
            raise UserError(
                f"{folder} was begun with {key} {before[key]}, not {value}; resume with the same "
                "flags, or choose another --exp-name"
            )


def check_model_file(before: Any, now: Mapping[str, str], folder: object) -> None:
    """Raises UserError where the file that registered the network has changed since the run was begun; it may have been
    moved."""
    if isinstance(before, dict) and before.get("sha256") != now["sha256"]:
        raise UserError(
            f"{folder} was begun with {before.get('path')} as it was then (sha256 "
            f"{str(before.get('sha256'))[:12]}); {now['path']} is another ({now['sha256'][:12]}): bring the "
            "old one back, or choose another --exp-name"
        )


def _defaults(dataclass: type) -> Dict[str, Any]:
    """{name: default} of its fields that have one, as JSON holds it."""
    return json.loads(
        json.dumps(
            {
                field.name: asdict(field.default) if isinstance(field.default, Mixing) else field.default
                for field in fields(dataclass)
                if field.default is not MISSING
            }
        )
    )


def _module_checkpoints(net: mx.gluon.HybridBlock, prefix: Optional[str]) -> Callable[[int], None]:
    """Writes `prefix-symbol.json` and `prefix-0010.params` as MXNet's Module does, under the authors' names."""

    def write(epoch: int) -> None:
        if prefix:
            save_module_checkpoint(net, prefix, epoch)

    return write


def _load_module_checkpoint(parallel: DataParallel, net: mx.gluon.HybridBlock, prefix: str, epoch: int) -> None:
    path = expand(f"{prefix}-{epoch:04d}.params")
    trained = read_preprocessing(path)
    names, own = trained and trained.class_names or (), class_names(net) or ()
    if sorted(names) == sorted(own):
        check_same_classes(names, own, path, "the data")
    elif names and own:
        logger.warning(
            "%s was trained on other classes than the data has: %s and so on, not %s; the scores begin with theirs",
            path,
            names[0],
            own[0],
        )
    arrays = {
        name.split(":", 1)[-1]: mx.nd.array(array, dtype=array.dtype) for name, array in params_file.load(path).items()
    }
    try:
        from_module_params(net, arrays, {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    parallel.replicas.set_parameters(parallel.parameters())


def _summary(
    experiment: Experiment,
    net: mx.gluon.HybridBlock,
    image_shape: Tuple[int, int, int],
    history: List[Entry],
    folder: Path,
    report: Report,
) -> Dict[str, Any]:
    last, best = history[-1], best_entry(history)
    which = "in the epoch that is best on the validation images" if "validation_accuracy" in last else "at best"
    totals = complexity.totals(net, image_shape)
    top5 = f"\n  top-5           {100 * last['test_top5']:.2f} % at the end" if "test_top5" in last else ""
    summary = {
        "folder": str(folder),
        "epochs": len(history),
        "seconds": sum(e["seconds"] for e in history),
        "last_test_accuracy": last["test_accuracy"],
        "best_test_accuracy": best["test_accuracy"],
        "best_epoch": best["epoch"],
    }
    report(f"""
{experiment.model} on {experiment.dataset}: {summary["epochs"]} epochs in {summary["seconds"]:.0f} s of training
  test accuracy   {100 * last["test_accuracy"]:.2f} % at the end, {100 * best["test_accuracy"]:.2f} % {which} \
(epoch {best["epoch"] + 1}){top5}
  weights         {totals.weights / 1e6:.3f} M in convolutions and FC, {totals.multiply_adds / 1e8:.3f} x 10^8 \
multiply-adds
  look at         {folder / "curves.png"}, log.txt beside it; the weights are in checkpoints/""")
    return summary


def _write_mean(summaries: List[Dict[str, Any]], folder: Path, report: Report) -> None:
    """Mean and sample standard deviation over the seeds, as the papers' tables give them."""
    result: Dict[str, Any] = {"runs": summaries}
    report(f"\n{len(summaries)} runs: mean and standard deviation of the test accuracy, %")
    for key in ("last_test_accuracy", "best_test_accuracy"):
        values = 100 * np.array([summary[key] for summary in summaries])
        result[key] = {"mean": values.mean(), "std": values.std(ddof=1)}
        report(
            f"  {key.split('_')[0]:5s} {values.mean():.2f} +- {values.std(ddof=1):.2f}   "
            f"({', '.join(f'{v:.2f}' for v in values)})"
        )
    with write_atomically(folder / "summary.json", "w") as file:
        json.dump(result, file, indent=1)


def benchmark(
    experiment: Experiment,
    settings: Settings,
    classes: int,
    image_shape: Tuple[int, int, int],
    steps: int = 20,
    warm_up: int = 3,
    report: Report = print_line,
) -> float:
    """Times training steps on one synthetic batch of images (channels, height, width): nothing is read or written.

    Returns images per second, from the median step of `steps` after `warm_up`.
    """
    net = build_network(experiment, settings.devices, classes, seed=0)
    parallel = build_parallel(experiment, settings, net)
    workers = settings.workers
    rng = np.random.default_rng(0)
    share = shard(experiment.batch_size, workers.rank, workers.count)
    mine = slice(share.start, share.stop)
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
    report(
        f"{experiment.model}, batch {experiment.batch_size}, {workers.count * len(settings.devices)} x "
        f"{settings.devices[0].device_type}: {experiment.batch_size / median:.1f} images/s in training "
        f"(median of {steps} steps, {1000 * median:.1f} ms; synthetic data)"
    )
    return experiment.batch_size / median
