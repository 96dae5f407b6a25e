"""A comparison as text for a terminal, Markdown, CSV or JSON. Each takes a list of `ComparedTable`."""

import csv
import io
import json
import re
import textwrap
from collections import Counter
from dataclasses import asdict
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from igc_gluon import text_table
from igc_gluon.paper.compare import AGREES, DRAWN, KNOWN, UNKNOWN, VERDICTS, WRONG, ComparedRow, ComparedTable, Result

WIDTH = 100  # of text at most
COMPUTED, YOURS = "computed", "yours (seeds)"
BESIDE = (COMPUTED, YOURS, "")  # headings of columns that belong to the one before
MARKS = {AGREES: "=", KNOWN: "≠", UNKNOWN: "", DRAWN: "", WRONG: "WRONG"}
CSV_COLUMNS = tuple(
    (
        "table row network quantity published computed verdict reason dataset yours_mean yours_std "
        "yours_seeds yours_notes"
    ).split()
)

Column = Tuple[List[str], List[str]]  # lines of its heading, cells


def counts(tables: Sequence[ComparedTable]) -> Dict[str, int]:
    """{verdict: how many numbers have it}, for all verdicts."""
    count_of = Counter(number.verdict for table in tables for number in table.numbers())
    return {verdict: count_of[verdict] for verdict in VERDICTS}


def terminal(tables: Sequence[ComparedTable], width: Optional[int] = None) -> str:
    """`width`: in characters (default: text_table.WIDTH). Wider tables go on below, beside their first columns."""
    width = width or text_table.WIDTH
    parts = []
    for table in tables:
        header, rows, notes, labels = _grid(table)
        parts.append(
            "\n".join(
                [
                    *_wrapped(f"{table.table}: {table.table.title}", width),
                    text_table.table(header, rows, len(header), width, labels, BESIDE),
                    *(line for note in notes for line in _wrapped(note, width, "  ", "      ")),
                ]
            )
        )
    return "\n\n".join(parts + _legend(tables, width)) + "\n"


def _wrapped(text: str, width: int, indent: str = "", further: str = "  ") -> List[str]:
    return textwrap.wrap(
        text,
        min(width, WIDTH),
        initial_indent=indent,
        subsequent_indent=further,
        break_on_hyphens=False,
        break_long_words=False,
    )


def markdown(tables: Sequence[ComparedTable]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(re.sub(r"([|*~])", r"\\\1", cell) for cell in cells) + " |"

    parts = []
    for table in tables:
        header, rows, notes, _ = _grid(table)
        parts.append(
            "\n".join(
                [
                    f"## {table.table}",
                    "",
                    table.table.title,
                    "",
                    line(header),
                    "|---" * len(header) + "|",
                    *map(line, rows),
                ]
            )
        )
        parts += notes
    return "\n\n".join(parts + _legend(tables)) + "\n"


def csv_text(tables: Sequence[ComparedTable]) -> str:
    """A line per printed number or result; nothing is rounded."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        for row in table.rows:
            common = {
                "table": table.table.id,
                "network": row.network or "",
                "reason": row.note,
                "row": "; ".join(f"{key}={value}" for key, value in row.label.items()),
            }
            for number in row.numbers:
                writer.writerow({**common, **asdict(number), "computed": number.computed or ""})
            for result in row.results:
                writer.writerow(
                    {
                        **common,
                        "quantity": table.table.metric,
                        "published": result.published,
                        "dataset": result.dataset,
                        **{f"yours_{key}": value for key, value in _yours(result, table).items()},
                    }
                )
            for quantity, published in row.quoted.items():
                writer.writerow({**common, "quantity": quantity, "published": published})
    return text.getvalue()


def json_text(tables: Sequence[ComparedTable]) -> str:
    document = {
        "verdicts": VERDICTS,
        "counts": counts(tables),
        "tables": [
            {
                "id": table.table.id,
                "title": table.table.title,
                "metric": table.table.metric,
                "rows": [
                    {
                        "label": row.label,
                        "network": row.network,
                        "note": row.note,
                        "numbers": [asdict(number) for number in row.numbers],
                        "results": [
                            {**asdict(result), "yours": _yours(result, table) or None} for result in row.results
                        ],
                        "quoted": row.quoted,
                    }
                    for row in table.rows
                ],
            }
            for table in tables
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


FORMATS = {"terminal": terminal, "csv": csv_text, "markdown": markdown, "json": json_text}


def _yours(result: Result, table: ComparedTable) -> Dict[str, Any]:
    """The user's mean in the table's metric, deviation, number of seeds, notes; empty without runs."""
    if result.yours is None:
        return {}
    mean = result.yours.mean if table.table.metric == "accuracy" else 100 - result.yours.mean
    return {"mean": mean, "std": result.yours.std, "seeds": result.yours.seeds, "notes": "; ".join(result.yours.notes)}


def _grid(table: ComparedTable) -> Tuple[List[str], List[List[str]], List[str], int]:
    """(header, rows of equally many cells, lines of notes, how many columns tell the rows apart)."""
    labels = _keys(row.label for row in table.rows)
    quantities = _keys({number.quantity: 0 for number in row.numbers} for row in table.rows)
    datasets = _keys({result.dataset: 0 for result in row.results} for row in table.rows)
    quoted = _keys(row.quoted for row in table.rows)
    header = [*labels]
    for quantity in quantities:
        drawn = all(
            number.verdict == DRAWN for row in table.rows for number in row.numbers if number.quantity == quantity
        )
        header += ["", quantity, ""] if drawn else [quantity, COMPUTED, ""]
    for dataset in datasets:
        header += [f"{dataset} {table.table.metric}, %", YOURS]
    header += [*quoted, "network", ""]
    notes: Dict[str, int] = {}
    rows = [_cells(table, row, (labels, quantities, datasets, quoted), notes) for row in table.rows]
    # A column that stays empty only widens the table.
    used = [i for i, name in enumerate(header) if any(row[i] for row in rows)]
    return (
        [header[i] for i in used],
        [[row[i] for i in used] for row in rows],
        [f"[{mark}] {note}" for note, mark in notes.items()],
        len(labels),
    )


def _cells(table: ComparedTable, row: ComparedRow, columns: Tuple[List[str], ...], notes: Dict[str, int]) -> List[str]:
    labels, quantities, datasets, quoted = columns
    marks = []

    def mark(note: str) -> None:
        if note:
            marks.append(notes.setdefault(note, len(notes) + 1))

    cells = [str(row.label.get(key, "")) for key in labels]
    numbers = {number.quantity: number for number in row.numbers}
    for quantity in quantities:
        number = numbers.get(quantity)
        if number is None:
            cells += ["", "", ""]
            continue
        if number.computed and "x" in number.published:  # a structure, too wide for a column
            cells += [number.published, "", MARKS[number.verdict]]
            mark(number.reason and f"here {number.computed}; {number.reason}")
        else:
            cells += [number.published, number.computed or "", MARKS[number.verdict]]
            mark(number.reason)
    results = {result.dataset: result for result in row.results}
    for dataset in datasets:
        result = results.get(dataset)
        cells += ["", ""] if result is None else [result.published or "-", _yours_text(result, table)]
        if result is not None and result.yours:
            mark("; ".join(result.yours.notes))
    mark(row.note)
    cells += [row.quoted.get(key, "") for key in quoted]
    return cells + [row.network or "", " ".join(f"[{number}]" for number in dict.fromkeys(marks))]


def _yours_text(result: Result, table: ComparedTable) -> str:
    yours = _yours(result, table)
    if not yours:
        return ""
    spread = "" if yours["std"] is None else f" ± {yours['std']:.2f}"
    return f"{yours['mean']:.2f}{spread} ({yours['seeds']})"


def _keys(dicts: Iterable[Mapping[str, Any]]) -> List[str]:
    return list(dict.fromkeys(key for each in dicts for key in each))


def _legend(tables: Sequence[ComparedTable], width: int = WIDTH) -> List[str]:
    count_of = counts(tables)
    wrong = [
        f"{table.table}, {', '.join(map(str, row.label.values()))}: {number.quantity} is printed "
        f"{number.published}, computed {number.computed}"
        for table in tables
        for row in table.rows
        for number in row.numbers
        if number.verdict == WRONG
    ]
    # One wrong number must not be lost in hundreds of lines.
    summary = (
        f"Of the printed numbers and structures, {count_of[AGREES]} agree (=) to the printed digits ('~', "
        f"about: within a tenth), {count_of[KNOWN]} cannot (≠) and {count_of[UNKNOWN]} have nothing here to be "
        f"computed from, for the reasons in brackets; {count_of[WRONG]} should agree and do not."
    )
    summary = "\n".join(_wrapped(summary, width, further=""))
    return [summary] * any(count_of.values()) + [f"WRONG  {text}" for text in wrong]
