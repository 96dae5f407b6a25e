"""The flags that both training scripts share, and the way from flags to a run."""

import argparse
import logging
import os
import signal
import sys
from dataclasses import replace
from typing import Any, Callable, Mapping, Tuple

from igc_gluon.cli.network_flags import add_import_argument, add_option_argument
from igc_gluon.errors import UserError
from igc_gluon.paths import expand
from igc_gluon.start import OneLine, interrupt


def flag_int_list(text: str) -> Tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"wants epochs such as 200,300,350; not {text!r}") from None


# What --help says of defaults that are not alike in both scripts; these are train_cifar.py's.
DEFAULTS = {
    "data_dir": "downloaded to ~/.mxnet/datasets",
    "gpus": "the CPU",
    "cpus": "1",
    "batch_size": "64",
    "batch_shards": "2, the paper's 2 GPUs, or fewer of 16 images each",
    "lr_steps": "1/2, 3/4 and 7/8 of the epochs",
    "wd": "1e-4",
}


def add_arguments(parser: argparse.ArgumentParser, defaults: Mapping[str, str] = DEFAULTS) -> None:
    """Flags as the authors' scripts and MXNet's examples have them. defaults: see DEFAULTS."""
    add_option_argument(parser)
    add_import_argument(parser)
    parser.add_argument("--data-dir", help=f"folder of the data set's files (default: {defaults['data_dir']})")
    parser.add_argument("--gpus", help=f"GPUs to train on, e.g. 0,1 (default: {defaults['gpus']})")
    parser.add_argument(
        "--cpus",
        type=int,
        default=1,
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
        "--batch-size", type=int, default=64, help=f"over all devices and workers (default: {defaults['batch_size']})"
    )
    parser.add_argument(
        "--batch-shards",
        type=int,
        metavar="S",
        help="BN normalizes each of S shards of a batch by itself, on any number of devices (default: "
        f"{defaults['batch_shards']})",
    )
    parser.add_argument("--num-epochs", type=int, help="default: the paper's; fewer scale its drops of the rate")
    parser.add_argument("--lr", type=float, help="default: the paper's")
    parser.add_argument("--lr-factor", type=float, default=0.1, help="the rate's factor at a drop (default: 0.1)")
    parser.add_argument(
        "--lr-steps",
        type=flag_int_list,
        metavar="E,E,...",
        help=f"epochs of the drops (default: {defaults['lr_steps']})",
    )
    parser.add_argument(
        "--wd", type=float, default=1e-4, help=f"weight decay of every parameter (default: {defaults['wd']})"
    )
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
    if not 0 <= args.wd < float("inf"):
        raise UserError(f"--wd must be a number from 0 on, not {args.wd}")
    if not 0 < args.gc_threshold < float("inf"):
        raise UserError(f"--gc-threshold must be above 0, not {args.gc_threshold}")
    if not 0 <= args.momentum < 1:
        raise UserError(f"--momentum must be from 0 to below 1, not {args.momentum}")
    if not 0 <= args.label_smoothing < 1:
        raise UserError(f"--label-smoothing must be from 0 to below 1, not {args.label_smoothing}")
    if args.load_epoch is not None and args.load_epoch < 0:
        raise UserError(f"--load-epoch must be at least 0, not {args.load_epoch}")


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
        if args.benchmark:
            engine.benchmark(experiment, settings, data.classes, data.preprocessing.image_shape)
        else:
            engine.run(experiment, data, settings, range(args.rand_seed, args.rand_seed + args.num_runs))
        code = 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except Stopped as stopped:
        if not workers.rank:
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
