"""`igc tables`"""

import argparse
import sys
from typing import Any, Dict

from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.errors import printable
from igc_gluon.files import write_atomically
from igc_gluon.paper.published import PAPERS
from igc_gluon.paths import expand
from igc_gluon.text_table import WIDTH, available_width

FORMATS = ("terminal", "csv", "markdown", "json")


def add_paper(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--paper", choices=sorted(PAPERS), help="where a bare number is from (default: igcv1)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        action="append",
        metavar="N",
        help="4 of IGCV1's, or of --paper; or a full name: 'IGCV2 4', 'IGCV2 Figure 2', "
        "'IGCV3 CIFAR'; or 'IGCV2' for a whole document; repeatable (default: all)",
    )
    parser.add_argument("--figure", action="append", dest="table", metavar="N", type="Figure {}".format)
    add_paper(parser)
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--output", metavar="FILE", help="write there (default: standard output)")
    parser.add_argument(
        "--runs",
        default="runs",
        metavar="DIR",
        help="folder of your own runs, the --log-dir of training (default: runs)",
    )
    add_import_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 if a number that should agree does not."""
    # slow: MXNet
    from igc_gluon.paper import compare, formats, imported, published, runs

    tables: Dict[str, Any] = {}
    for wanted in args.table or [args.paper]:
        chosen = published.load_tables() if wanted is None else published.find_tables(wanted, args.paper)
        tables.update((table.id, table) for table in chosen)
    own = runs.Runs(args.runs)
    for folder in own.damaged:
        print(f"left out {printable(folder)}: its config.json or history.jsonl is damaged", file=sys.stderr)
    compared = [compare.compare(table, own) for table in [*tables.values(), *imported.imported_tables(own)]]
    width = WIDTH if args.output else available_width()
    options = {"width": width} if args.format == "terminal" else {}
    text = formats.FORMATS[args.format](compared, **options)
    if args.output:
        with write_atomically(expand(args.output), "w") as file:
            file.write(text)
    else:
        print(text, end="")
    return 1 if formats.counts(compared)[compare.WRONG] else 0
