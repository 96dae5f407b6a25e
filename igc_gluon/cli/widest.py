"""`igc widest`: which IGC block is the widest for a budget of parameters (IGCV1, section 3.2 and Table 1)."""

import argparse
import csv
from math import isqrt
from pathlib import Path
from typing import Sequence

from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.paths import expand
from igc_gluon.text_table import table
from igc_gluon.theory import best_blocks, regular_width, widest_of, width_bound
from igc_gluon.theory.igcv1 import Block

# heading, decimals, value of a block
COLUMNS = (
    ("L", 0, lambda block: block.L),
    ("M", 0, lambda block: block.M),
    ("width", 0, lambda block: block.width),
    ("params", 0, lambda block: block.params),
    ("regular", 1, lambda block: block.regular_width),
    ("wider", 2, lambda block: block.width / block.regular_width),
    ("L/(M S)", 2, lambda block: block.balance),
    ("bound", 1, lambda block: block.bound),
)
LEGEND = """\
regular  width of the regular convolution with as many parameters
wider    width / regular
L/(M S)  1 where a block is the widest
bound    the width that eq. 15 allows with as many parameters"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--params", type=int, required=True, metavar="T", help="parameters of one block")
    parser.add_argument(
        "--kernel",
        type=int,
        default=3,
        metavar="K",
        help="side of the kernel of the primary convolution (default 3, so S = 9)",
    )
    parser.add_argument(
        "--near",
        action="store_true",
        help="the blocks nearest to the budget, above it or below, as in the paper's Table 1",
    )
    parser.add_argument("--top", type=int, metavar="N", help="only the N widest blocks")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table, unrounded, to FILE")


def run(args: argparse.Namespace) -> int:
    for flag, value in (("--params", args.params), ("--kernel", args.kernel), ("--top", args.top)):
        if value is not None and value < 1:
            raise UserError(f"{flag} must be at least 1, got {value}")
    T, S = args.params, args.kernel**2
    blocks = best_blocks(T, S, near=args.near)
    if args.top:
        by_width = sorted(blocks, key=lambda block: (-block.width, block.params))
        blocks = sorted(by_width[: args.top], key=lambda block: block.M)
    widest = widest_of(blocks)
    print(
        f"IGC blocks of {'about' if args.near else 'at most'} {T:,} parameters, "
        f"primary kernel {args.kernel}x{args.kernel} (S = {S})"
    )
    print(
        f"regular convolution of this cost: width {_regular(T, S)}\n"
        f"no IGC block of this cost is wider than {width_bound(T, S):.1f} (eq. 15)\n"
    )
    print(_table(blocks, widest))
    print(f"\n{LEGEND}")
    if args.csv:
        _write_csv(args.csv, blocks, widest)
        print(f"\nwritten to {args.csv}")
    return 0


def _regular(T: int, S: int) -> str:
    """The exact width and the whole one that the budget pays for."""
    return f"{regular_width(T, S):.1f}, in whole channels {isqrt(T // S)}"


def _table(blocks: Sequence[Block], widest: Block) -> str:
    rows = [[f"{value(block):,.{decimals}f}" for _, decimals, value in COLUMNS] for block in blocks]
    marks = ["<- widest" if block == widest else "" for block in blocks]
    return table(
        [*(heading for heading, _, _ in COLUMNS), ""], [[*row, mark] for row, mark in zip(rows, marks)], left=0, keys=2
    )


def _write_csv(path: Path, blocks: Sequence[Block], widest: Block) -> None:
    rows = [[heading for heading, _, _ in COLUMNS] + ["widest"]]
    rows += [[value(block) for _, _, value in COLUMNS] + [int(block == widest)] for block in blocks]
    with write_atomically(expand(path), "w") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
