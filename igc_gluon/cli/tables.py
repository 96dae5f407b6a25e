"""`igc tables`"""
HELP = "the papers' tables beside what this package's networks have, and beside your own runs"
FORMATS = ("terminal", "csv", "markdown", "json")


def add_arguments(parser):
    parser.add_argument("--table", action="append", metavar="ID",
                        help="'IGCV1 3', 'IGCV2 Figure 2', or 'IGCV2' for a whole document; repeatable (default: all)")
    parser.add_argument("--format", choices=FORMATS, default="terminal")
    parser.add_argument("--output", metavar="FILE", help="write there (default: standard output)")
    parser.add_argument("--runs", default="runs", metavar="DIR",
                        help="folder of your own runs, the --log-dir of training (default: runs)")


def run(args):
    """Exit code 1 if a number that should agree does not."""
    import sys

    from igc_gluon.errors import printable
    from igc_gluon.files import write_atomically
    from igc_gluon.paper import compare, formats, published, runs
    from igc_gluon.paths import expand

    tables = {}
    for wanted in args.table or [None]:
        found = published.load_tables() if wanted is None else published.find_tables(wanted)
        tables.update((table.id, table) for table in found)
    own = runs.Runs(args.runs)
    for folder in own.damaged:
        print(f"left out {printable(folder)}: its config.json or history.jsonl is damaged", file=sys.stderr)
    compared = [compare.compare(table, own) for table in tables.values()]
    text = formats.FORMATS[args.format](compared)
    if args.output:
        with write_atomically(expand(args.output), "w") as file:
            file.write(text)
    else:
        print(text, end="")
    return 1 if formats.counts(compared)[compare.WRONG] else 0
