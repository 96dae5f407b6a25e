"""Printed beside computed, and beside the user's own runs."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from igc_gluon.paper import differences
from igc_gluon.paper.published import Row, Table
from igc_gluon.paper.recipes import RECIPES, Recipe, by_name
from igc_gluon.paper.runs import Summary

AGREES, KNOWN, UNKNOWN, DRAWN, WRONG = "=", "known", "none", "drawn", "WRONG"
VERDICTS = {
    AGREES: "agrees with what is printed, to the printed digits ('~', about: within 10 %)",
    KNOWN: "cannot agree, for the reason given",
    UNKNOWN: "nothing to compute it from, for the reason given",
    DRAWN: "computed; a figure draws it and prints no value",
    WRONG: "should agree and does not",
}
ABOUT = 0.1  # the papers' '~' spans as much
UNITS = {"": 1, "M": 1e6, "10^7": 1e7, "10^8": 1e8, "10^9": 1e9}


@dataclass(frozen=True)
class Number:
    """A printed number or structure (empty if only drawn) beside the computed one, a text with two digits more."""

    quantity: str
    published: str
    computed: Optional[str]
    verdict: str
    reason: str = ""


@dataclass(frozen=True)
class Result:
    """A printed accuracy or error (mean and deviation, empty if it is only drawn) on `dataset`, and the user's runs."""

    dataset: str
    published: str
    yours: Optional[Summary] = None


@dataclass(frozen=True)
class ComparedRow:
    label: dict
    network: Optional[str]  # None: another paper's
    note: str  # why there is nothing to compute
    numbers: List[Number] = field(default_factory=list)
    results: List[Result] = field(default_factory=list)
    quoted: dict = field(default_factory=dict)


@dataclass(frozen=True)
class ComparedTable:
    table: Table
    rows: List[ComparedRow]

    def numbers(self) -> List[Number]:
        return [number for row in self.rows for number in row.numbers]


def compare(table: Table, runs: Any = None, dataset: Optional[str] = None) -> ComparedTable:
    """`ComparedTable` of a published.Table.

    `runs` (igc_gluon.paper.runs.Runs) fills in the user's own results: those on the data set of the column, or on
    `dataset` in its place.
    """
    rows = []
    for row in table.rows:
        recipe = recipe_of(table, row)
        name = recipe.network.name if recipe else None
        missing = differences.missing_reason(table, row) if recipe is None else ""
        values: Dict[str, Any] = {}
        if row.numbers and recipe and not missing:
            for network, measure in recipe.sources:
                values.update(measure(network))
        numbers = [
            _number(table, row, quantity, published, values, missing) for quantity, published in row.numbers.items()
        ]
        results = [
            Result(
                on, " ± ".join(printed), runs.summary(name, on, dataset, list(row.results)) if runs and name else None
            )
            for on, printed in row.results.items()
        ]
        rows.append(ComparedRow(row.label, name, missing, numbers, results, row.quoted))
    return ComparedTable(table, rows)


def recipe_of(table: Table, row: Row) -> Optional[Recipe]:
    return RECIPES.get(table.id, by_name)(row)


def _number(table: Table, row: Row, quantity: str, published: str, values: Mapping[str, Any], missing: str) -> Number:
    if missing:
        return Number(quantity, published, None, UNKNOWN, missing)
    what, _, unit = quantity.partition(", ")
    value = values[what]
    if not published:
        return Number(quantity, "", f"{value:.3g}" if isinstance(value, float) else str(value), DRAWN)
    if isinstance(value, str):
        computed, agrees = value, value == published
    else:
        computed, agrees = _compare(value / UNITS[unit], published)
    if agrees:
        return Number(quantity, published, computed, AGREES)
    reason = differences.reason_for(table, row, quantity)
    return Number(quantity, published, computed, KNOWN if reason else WRONG, reason or "")


def _compare(value: float, published: str) -> Tuple[str, bool]:
    """(value as text, whether it is what is printed)."""
    if published.startswith("~"):
        about = float(published[1:])
        return f"{value:.0f}" if about < 1e5 else f"{value:.3g}", abs(value - about) <= ABOUT * about
    decimals = len(published.partition(".")[2])
    shown = 0 if isinstance(value, int) or value == int(value) and not decimals else decimals + 2
    return f"{value:.{shown}f}", f"{value:.{decimals}f}" == published
