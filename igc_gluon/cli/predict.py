"""`igc predict NETWORK PHOTO ...`: photographs, folders and lists of them, to text, CSV or JSON lines"""

import argparse
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterator, List, Sequence, TextIO, Tuple, Union

import numpy as np
from tqdm import tqdm

from igc_gluon import deploy  # nothing on this way imports MXNet, which takes seconds and need not be installed
from igc_gluon.cli.network_flags import SOURCE, add_normalization_arguments, add_params_arguments, open_classifier
from igc_gluon.cli.predictions import Likeliest, Result, Text, writers
from igc_gluon.data.photos import list_photos, read_photo
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.deploy.runtime import softmax
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar
from igc_gluon.threads import cores

LONGEST_LIST = 64 << 20  # characters of a list of names; /dev/zero has no end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", help=f"{SOURCE}; or an .igc file")
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="image files, and folders of them; @FILE reads such names "
        "from a file, a line each, - from standard input. The "
        "shorter side is resized, the middle cropped and a "
        "border put around as the network expects",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="print so many classes (default: 5)")
    parser.add_argument(
        "--csv", metavar="FILE", help="write a table there, a row for each image; - for standard output"
    )
    parser.add_argument(
        "--jsonl", metavar="FILE", help="write a line of JSON for each image there; - for standard output"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="images at once (default: 16)")
    add_params_arguments(parser)
    add_normalization_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.top < 1:
        raise UserError(f"--top must be at least 1, not {args.top}")
    if args.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {args.batch_size}")
    paths = list_photos(_named(args.photos))
    scores, expected = _open(args)
    failed = 0
    with writers(args.csv, args.jsonl, args.top) as outputs:
        quiet = bool(outputs) and len(paths) > 1
        with progress_bar(total=len(paths), unit=" images", leave=False, disable=not quiet) as bar:
            for path, result in _results(scores, expected, paths, args):
                bar.update()
                if isinstance(result, UserError):
                    line = str(result) if printable(path) in str(result) else f"{printable(path)}: {result}"
                    tqdm.write(f"error: {line}", file=sys.stderr)
                    failed += 1
                for output in outputs or [Text()]:
                    output.write(path, result)
    return 2 if failed else 0


def _named(arguments: Sequence[str]) -> List[str]:
    """The names that the arguments mean, in their order."""
    names = []
    for argument in arguments:
        try:
            if argument == "-":
                names += _lines(sys.stdin, argument)
            elif argument.startswith("@"):
                names += _listed(argument)
            else:
                names.append(argument)
        except OSError as error:
            raise UserError(f"cannot read {argument}: {error.strerror}") from None
    return [name.rstrip("\r") for name in names if name.strip()]


def _listed(argument: str) -> List[str]:
    """Of a pipe too, `@<(find ...)` of a shell for example, but not of one into which nobody writes: it would be waited
    for without end."""
    handle = os.open(expand(argument[1:]), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    is_pipe = stat.S_ISFIFO(os.fstat(handle).st_mode)
    if is_pipe:
        os.set_blocking(handle, True)
    with open(handle, encoding="utf-8", errors="surrogateescape") as file:
        names = _lines(file, argument)
    if is_pipe and names == [""]:
        raise UserError(f"nobody writes into the pipe {argument[1:]}; start what writes first")
    return names


def _lines(file: TextIO, argument: str) -> List[str]:
    text = file.read(LONGEST_LIST + 1)
    if len(text) > LONGEST_LIST:
        raise UserError(f"{argument} is longer than {LONGEST_LIST:,} characters, which is no list of names")
    return text.split("\n")


def _results(
    scores: Callable[[np.ndarray], np.ndarray],
    expected: Preprocessing,
    paths: Sequence[Union[str, Path]],
    args: argparse.Namespace,
) -> Iterator[Tuple[Union[str, Path], Result]]:
    """(path, [(probability, class, its name)] or a UserError) of every path, in their order."""

    def pixels(path: Union[str, Path]) -> Union[np.ndarray, UserError]:
        try:
            return expected.pixels(read_photo(path))
        except UserError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(paths), args.batch_size):
            chosen = paths[first : first + args.batch_size]
            images = list(pool.map(pixels, chosen))
            good = [image for image in images if not isinstance(image, UserError)]
            rows = iter(scores(expected.normalize(np.stack(good))) if good else ())
            for path, image in zip(chosen, images):
                yield path, image if isinstance(image, UserError) else _likeliest(next(rows), expected, args)


def _likeliest(scores: np.ndarray, expected: Preprocessing, args: argparse.Namespace) -> Likeliest:
    probabilities = softmax(scores, args.network)
    names = expected.class_names
    return [
        (float(probabilities[number]), int(number), names[number] if names else None)
        for number in probabilities.argsort()[::-1][: args.top]
    ]


def _open(args: argparse.Namespace) -> Tuple[Callable[[np.ndarray], np.ndarray], Preprocessing]:
    """(function from float32 (n, 3, H, W) to scores (n, classes), what it expects, a Preprocessing)."""
    if not args.network.endswith(".igc"):
        # slow: MXNet
        import mxnet as mx

        net = open_classifier(args)
        return lambda image: net(mx.nd.array(image)).asnumpy(), net.preprocessing

    if args.mean or args.std or args.model or args.option or args.classes is not None or args.dataset:
        raise UserError(f"{args.network} is compiled, with all it needs; leave out the flags that describe a network")
    net = deploy.load(args.network)
    if net.input_shape[0] != 3 or len(net.output_shape) != 1:
        raise UserError(f"{args.network} is no classifier of photographs: {net.input_shape} -> {net.output_shape}")
    if net.preprocessing.mean is None:
        raise UserError(
            f"{args.network} was compiled without the mean and std that its images are normalized with; "
            "compile it again with --mean and --std"
        )
    return net, net.preprocessing
