"""The way from the flags of training to a run, and to an exit code."""

import argparse
import logging
import os
import signal
import sys
from dataclasses import replace
from typing import Any, Callable

from igc_gluon.cli.training import means
from igc_gluon.cli.training.flags import check
from igc_gluon.errors import UserError
from igc_gluon.paths import expand
from igc_gluon.start import OneLine, interrupt


def begin_with(args: argparse.Namespace, lr: Callable[[], float]) -> None:
    """Opens the weights of --pretrained as args.start, and gives --network, its options and --lr what follows from them
    where they were not given. lr: the usual learning rate. Raises UserError."""
    # slow: MXNet
    from igc_gluon.cli.network_flags import options
    from igc_gluon.engine.pretrained import ALL, RATE, open_pretrained

    args.start = None
    if not args.pretrained:
        return
    start = args.start = open_pretrained(args.pretrained, args.network, options(args))
    if args.network is None or args.network.lower() == start.model.name:
        args.network = start.model.name
        given = {name for name, _ in args.option}
        args.option = [*args.option, *((k, v) for k, v in start.options.items() if k not in given)]
    if args.lr is None and args.freeze != ALL:  # of a classifier alone nothing can be forgotten
        args.lr = RATE * lr()


def set_missing(args: argparse.Namespace, **values: Any) -> None:
    """Gives the flags of these names, where they were not given, these values."""
    for name, value in values.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def main(  # noqa: C901 (the order of a run, read from top to bottom)
    args: argparse.Namespace,
    experiment_of: Callable[[argparse.Namespace, int], Any],
    input_of: Callable[[argparse.Namespace], Any],
    default_shards: int,
) -> int:
    """Runs what `args` say and returns the exit code.

    experiment_of(args, shards of a batch) -> Experiment; input_of(args) -> an input of `igc_gluon.engine.inputs`.
    """
    signal.signal(signal.SIGINT, interrupt)
    # slow: MXNet
    from igc_gluon.engine import devices as engine_devices
    from igc_gluon.engine import experiment as engine
    from igc_gluon.engine import precision
    from igc_gluon.engine import workers as engine_workers
    from igc_gluon.engine.loop import Stopped
    from igc_gluon.engine.run_log import print_line

    logging.getLogger("igc_gluon").setLevel(logging.INFO)
    handler = logging.StreamHandler()  # the log file has everything; the screen has the bar, and warnings
    handler.setLevel(logging.WARNING)
    handler.setFormatter(OneLine())
    logging.getLogger("igc_gluon").addHandler(handler)
    workers, code = None, 1
    try:
        check(args)
        means.check(args)
        devices = engine_devices.contexts(args.gpus, args.cpus)
        engine_devices.check_kv_store(args.kv_store, devices, args.gc_type)
        precision.check_dtype(args.dtype, devices)
        engine_devices.choose_deterministic_operators(args.deterministic, devices, args.kv_store)
        workers = engine_workers.connect(args.kv_store)
        if workers.rank:  # one speaks for all, errors and warnings apart
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        prefix = args.model_prefix and str(expand(args.model_prefix))
        settings = engine.Settings(
            devices,
            kv_store=args.kv_store,
            workers=workers,
            log_dir=args.log_dir,
            exp_name=args.exp_name,
            resume=args.resume,
            checkpoint_epochs=args.checkpoint_epochs,
            checkpoint_batches=args.checkpoint_batches,
            keep_checkpoints=args.keep_checkpoints,
            disp_batches=args.disp_batches,
            model_prefix=prefix,
            load_epoch=args.load_epoch,
            detect_anomaly=args.detect_anomaly,
            pretrained=args.start,
        )
        shards = args.batch_shards
        if shards is None and args.resume:
            shards = engine.begun_shards(experiment_of(args, default_shards), settings, args.rand_seed)
        if shards is None:
            shards = engine_devices.usual_shards(default_shards, args.batch_size, len(devices) * workers.count)
            if shards < default_shards:
                print_line(
                    f"a batch of {args.batch_size} images is cut into {shards} shard{'s' if shards > 1 else ''}, not "
                    f"the usual {default_shards}, so that BN sees more than {args.batch_size // default_shards} at "
                    "once; --batch-shards says another number"
                )
        experiment = experiment_of(args, engine_devices.shards_for(devices, shards, args.batch_size, workers.count))
        if args.gc_type != "none":
            experiment = replace(experiment, compression=args.gc_threshold)
        data = input_of(args)
        data.set_augment_strength(args.augment_strength)
        settings = replace(settings, teacher=means.open_teacher(args, data))
        experiment = means.experiment_with(experiment, args, settings.teacher)
        if args.benchmark:
            engine.benchmark(experiment, settings, data.classes, data.preprocessing.image_shape)
        else:
            engine.run(experiment, data, settings, range(args.rand_seed, args.rand_seed + args.num_runs))
        code = 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except Stopped as stopped:
        if workers is not None and not workers.rank:
            print(stopped, file=sys.stderr)
        code = 128 + stopped.signal_number
    except KeyboardInterrupt:  # before or after the training loop, where nothing is at stake
        print("stopped", file=sys.stderr)
        code = 130
    finally:
        logging.getLogger("igc_gluon").removeHandler(handler)
        if workers is not None:
            workers.leave(code)
    return code
