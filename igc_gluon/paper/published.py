"""Reads published.json: the tables and figures of the documents, as printed, and a comparison that the text of one
speaks of without numbers.

    {"id": "IGCV1 3", "title": ..., "metric": "accuracy", "runs": 5, "rows": [
      {"label": {"model": "IGC-L4M8", "depth": 8},           what tells the rows apart
       "numbers": {"params, M": "0.078"},                    quantity, unit -> as printed, "" if drawn; '~' is 'about'
       "results": {"cifar10": ["89.89", "0.24"]},            data set -> mean and deviation in %, [] if only drawn
       "quoted": {"test top-5 error": "8.92"}}]}             other results
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from igc_gluon.errors import UserError

# By what the command line calls them.
PAPERS = {"igcv1": "IGCV1", "supplementary": "Supplementary", "igcv2": "IGCV2", "igcv3": "IGCV3", "readme": "README"}


@dataclass(frozen=True)
class Row:
    label: Dict[str, Any]
    numbers: Dict[str, str] = field(default_factory=dict)
    results: Dict[str, List[str]] = field(default_factory=dict)
    quoted: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """`metric` says what the results are: 'accuracy' or 'error', None in a table without any; `runs` over how
    many they are a mean: 5 ('over five runs', IGCV1's Figure 3), or 1 where no deviation is printed."""

    id: str
    title: str
    rows: Tuple[Row, ...]
    metric: Optional[str] = None
    runs: int = 5

    def __str__(self) -> str:
        """`IGCV1, Table 3`."""
        paper, rest = self.id.split(maxsplit=1)
        return f"{paper}, {'Table ' + rest if rest[0].isdigit() else rest}"


def load_tables() -> List[Table]:
    """Every table, in the order of the documents."""
    tables = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    return [Table(**{**table, "rows": tuple(Row(**row) for row in table["rows"])}) for table in tables]


def find_tables(wanted: str, paper: Optional[str] = None) -> List[Table]:
    """The tables called `wanted`: '3', 'Figure 2' or 'CIFAR' of `paper` (a key of PAPERS, default 'igcv1'); or an
    id such as 'IGCV1 3' or 'IGCV2 Figure 2', or a document such as 'IGCV1', of `paper` if that is given.

    Case does not matter. Raises UserError with the ids that exist.
    """
    tables = load_tables()
    words = wanted.lower().replace(",", " ").replace("table", " ").split()
    if words and words[0] not in PAPERS:
        words.insert(0, paper or "igcv1")
        wanted = f"{PAPERS[words[0]]} {wanted}"
    matching = [table for table in tables if table.id.lower().split()[: len(words)] == words]
    if not words or not matching or paper not in (None, words[0]):
        where = f" in {PAPERS[paper]}" if paper and paper not in words[:1] else ""
        known = ", ".join(table.id for table in tables)
        raise UserError(f"there is no table {wanted!r}{where}; there are {known}")
    return matching
