"""`igc check NAME`: what the papers ask of a block, checked on every block of a network."""

import argparse
import difflib
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from igc_gluon import theory
from igc_gluon.cli.network_flags import add_import_argument, add_option_argument, options
from igc_gluon.errors import UserError
from igc_gluon.paths import expand
from igc_gluon.report import pattern_picture
from igc_gluon.text_table import table
from igc_gluon.theory.stack import Stack

LEGEND = """\
branches  of each convolution: number x input channels of one (-> output
          channels where they differ), kernel
dense     whether every input reaches every output channel, else the share of
          the pairs that are connected
paths     from an input to an output channel, fewest..most
compl.    the complementary condition: strict (to the letter), one path (not to
          the letter, but what it is for), loose (dense, but with more paths)
          or no
terms     of the balance condition: weights of each convolution per output
          channel of the block, M S and L in IGCV1, K_2 ... K_L in IGCV2
balance   1 where all terms are equal, else so many times the weights that equal
          terms with the same product would need
regular   width of the regular convolution with as many weights
wider     width / regular
Normalizations, activations and shortcuts are left out: they connect no other
channels."""


class Check(NamedTuple):
    """What `check_stack` finds on one block. paths: (fewest, most); connected: share of pairs of channels."""

    paths: tuple
    connected: float
    condition: str
    terms: list
    imbalance: float
    width: int
    regular_width: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a model's name, cifar_plain_igc20_l24m2 for example")
    parser.add_argument(
        "--block", metavar="BLOCK", help="the block to draw, named as in the table (default: the first)"
    )
    add_option_argument(parser)
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="where the picture goes (default: NAME.png in this folder)"
    )
    picture.add_argument("--no-picture", action="store_true", help="draw nothing")
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    # slow: MXNet
    import mxnet as mx

    from igc_gluon.model_zoo import find_family, get_model
    from igc_gluon.nn import block_stack, interleaved_blocks

    name = args.name.lower()
    family, _ = find_family(name)
    picture = expand(args.picture or f"{name}.png")
    if picture.suffix.lower() != ".png":
        raise UserError(f"--picture {picture}: the picture is a PNG; give a file that ends in .png")
    net, size = get_model(name, **options(args)), family.input_size
    net.infer_shape(mx.nd.zeros((1, 3, size, size)))  # of layers that were not told their input channels
    blocks = {prefix.rstrip("_-"): block for prefix, block in interleaved_blocks(net).items()}
    if not blocks:
        print(f"{name} has no blocks that interleave group convolutions: nothing to check, nothing to draw")
        return
    chosen = _find(blocks, args.block)
    stacks = {title: block_stack(block) for title, block in blocks.items()}
    checks = _check_all(stacks)
    print(f"{name}: {len(blocks)} blocks that interleave group convolutions\n")
    print(_table(stacks, checks))
    dense, single = (
        sum(check.paths[0] >= 1 and check.paths[1] <= most for check in checks.values()) for most in (float("inf"), 1)
    )
    print(
        f"\n{dense} of {len(blocks)} blocks are dense, {single} of them with one path between any two "
        f"channels\n\n{LEGEND}"
    )
    if not args.no_picture:
        pattern_picture.draw(
            picture, f"{name}, block {chosen}: {describe(checks[chosen])}", pattern_picture.factors(blocks[chosen])
        )
        print(f"\nthe picture of block {chosen} is in {picture}")


def check_stack(stack: Stack) -> Check:
    """The `Check` of one block's stack."""
    counts = theory.paths(stack)
    fewest, most = int(counts.min()), int(counts.max())
    if not fewest:
        condition = "no"
    elif most > 1:
        condition = "loose"
    else:
        condition = "strict" if theory.is_complementary(stack) else "one path"
    terms = theory.balance_terms(stack)
    width = stack[-1].out_channels
    # The width at which a regular convolution, whose input narrows with it, has as many weights.
    regular = width * theory.non_sparsity(stack) ** 0.5
    return Check(
        (fewest, most),
        np.count_nonzero(counts) / counts.size,
        condition,
        terms,
        theory.imbalance(terms),
        width,
        regular,
    )


def describe(check: Check) -> str:
    """One line on paths and the complementary condition."""
    if check.condition == "no":
        return f"not dense, {_percent(check.connected)} of the pairs of channels are connected"
    if check.condition == "loose":
        paths = _range(check.paths, " to ")
        return f"dense, {paths} paths between two channels (loose complementary condition)"
    return "dense, one path between any two channels" + (
        " (complementary condition)" if check.condition == "strict" else ""
    )


def _check_all(stacks: Mapping[str, Stack]) -> Dict[str, Check]:
    """{block: its Check}; equal stacks, of which networks have many, are checked once."""
    check_of, checks = {}, {}
    for title, stack in stacks.items():
        key = tuple(
            (layer.weight.shape, layer.groups) if isinstance(layer, theory.GroupConv) else layer.indices.tobytes()
            for layer in stack
        )
        if key not in check_of:
            check_of[key] = check_stack(stack)
        checks[title] = check_of[key]
    return checks


def _find(blocks: Mapping[str, Any], wanted: Optional[str]) -> str:
    """The name of the block that the user means."""
    if wanted is None:
        return next(iter(blocks))
    wanted = wanted.rstrip("_-")
    if wanted not in blocks:
        close = difflib.get_close_matches(wanted, blocks, n=3, cutoff=0.5) or list(blocks)[:3]
        raise UserError(f"there is no block {wanted!r} to draw; did you mean {', '.join(close)}?")
    return wanted


def _table(stacks: Mapping[str, Stack], checks: Mapping[str, Check]) -> str:
    header = ("block", "branches", "dense", "paths", "compl.", "terms", "balance", "width", "regular", "wider")
    rows = [
        (
            title,
            branches(stacks[title]),
            "yes" if check.paths[0] else f"no, {_percent(check.connected)}",
            _range(check.paths),
            check.condition,
            " ".join(f"{term:.4g}" for term in check.terms),
            f"{check.imbalance:.2f}",
            check.width,
            f"{check.regular_width:.1f}",
            f"{check.width / check.regular_width:.2f}",
        )
        for title, check in checks.items()
    ]
    return table(header, rows, left=6, beside=header[6:])


def branches(stack: Stack) -> str:
    """'24x2 3x3, 2x24': number and channels of the branches of every convolution, and spatial kernels."""
    texts = []
    for layer in stack:
        if isinstance(layer, theory.Permutation):
            continue
        outputs, inputs = layer.out_channels // layer.groups, layer.in_channels // layer.groups
        taps = layer.weight.shape[2:]
        texts.append(
            f"{layer.groups}x{inputs}"
            + (f"->{outputs}" if outputs != inputs else "")
            + (f" {taps[0]}x{taps[1]}" if taps != (1, 1) else "")
        )
    return ", ".join(texts)


def _range(paths: Tuple[int, int], to: str = "..") -> str:
    return str(paths[0]) if paths[0] == paths[1] else f"{paths[0]}{to}{paths[1]}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
