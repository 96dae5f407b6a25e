"""`igc bench NAME`"""

import argparse
import textwrap
from typing import Optional

from igc_gluon.bench import machine, markdown, networks
from igc_gluon.bench.cases import Bench, peer_keys
from igc_gluon.bench.measure import Result
from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.errors import UserError
from igc_gluon.text_table import available_width, table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a model's name, cifar_plain_igc20_l24m2 for example; see `igc models`")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--inference", action="store_true", help="only inference (default: training steps too)")
    kind.add_argument("--training", action="store_true", help="only training steps")
    parser.add_argument("--batch", type=int, help="(default: 64, or 16 of images above 64x64)")
    parser.add_argument("--size", type=int, help="height and width of the image (default: 32, or 224 for ImageNet)")
    parser.add_argument("--classes", type=int, help="(default: 10, or 1000 for ImageNet)")
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    parser.add_argument("--repeats", type=int, default=7, help="turns of each, of which the median counts (default: 7)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of a turn, about (default: 0.3)")
    parser.add_argument(
        "--peers",
        metavar="A,B",
        help="only these beside igc_gluon: mxnet, mxnet-onednn, torch, torch-channels-last, "
        "torch-compile, onnxruntime, openvino, openvino-rewrite (default: all that are installed)",
    )
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    for flag in ("batch", "threads", "repeats", "size", "classes"):
        number = getattr(args, flag)
        if number is not None and number < 1:
            raise UserError(f"--{flag} must be at least 1, not {number}")
    if not 0 < args.seconds <= 60:
        raise UserError(f"--seconds must be above 0 and at most 60, not {args.seconds}")
    keys = peer_keys(args.peers)
    network = networks.zoo(args.name, args.classes, args.size)
    batch = args.batch or (64 if network.shape[1] <= 64 else 16)
    kinds = [training for training in (False, True) if not (args.inference if training else args.training)]
    bench = Bench(args.threads or machine.cores(), keys, args.repeats, args.seconds, steps=len(kinds))
    print(machine.describe())
    results = []
    for training in kinds:
        result, single = bench.case(network, batch, training)
        results.append(result)
        print("\n" + text_of(result, single))
    print("\n" + _wrapped(markdown.limits(results)))
    print(_wrapped(bench.versions(results)))


def text_of(result: Result, single: Optional[Result] = None) -> str:
    """For the terminal; see `markdown.table`."""
    header, rows = markdown.cells(result, single)
    return "\n\n".join([markdown.title(result), table(header, rows), *map(_wrapped, markdown.remarks(result))])


def _wrapped(text: str) -> str:
    return textwrap.fill(text, available_width(), break_long_words=False, break_on_hyphens=False)
