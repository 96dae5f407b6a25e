"""A table of the networks that files of the user's have registered, beside those of the papers."""

from typing import List

from igc_gluon.model_zoo.registry import families
from igc_gluon.paper.published import Row, Table
from igc_gluon.paper.runs import Runs

TABLE = "Imported networks"
NUMBERS = {"params, M": "", "multiply-adds, 10^8": ""}  # computed; nobody has printed them


def imported_tables(runs: Runs) -> List[Table]:
    """The table of every imported family's published members, and of further ones that the user has trained, with the
    results on the data sets that `runs` has; none where nothing is imported."""
    imported = [family for family in families() if family.source]
    names = dict.fromkeys(name for family in imported for name in family.names())
    trained = {
        model: datasets
        for model, datasets in runs.datasets().items()
        if any(family.parse(model) for family in imported)
    }
    rows = tuple(
        Row({"model": name}, dict(NUMBERS), {dataset: [] for dataset in trained.get(name, ())})
        for name in [*names, *(name for name in trained if name not in names)]
    )
    files = ", ".join(dict.fromkeys(family.source.path.name for family in imported if family.source))
    return [Table(TABLE, f"networks of {files}", rows, "accuracy")] if rows else []
