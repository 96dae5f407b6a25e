"""`igc models`"""

import argparse
import itertools
import json
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

import numpy as np

import igc_gluon
from igc_gluon.cli.network_flags import add_import_argument
from igc_gluon.errors import UserError
from igc_gluon.text_table import table

# Of every network that a table of the papers names, written by tests/model_zoo/test_all_models.py, which checks it:
# counting takes MXNet and half a minute.
STORED = Path(igc_gluon.__file__).parent / "model_zoo" / "models.json"
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "svhn": "SVHN",
    "tiny-imagenet": "Tiny ImageNet",
    "imagenet": "ImageNet",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("filter", nargs="?", default="", help="only names that contain this")
    parser.add_argument("--pretrained", action="store_true", help="those with weights, and what they reach")
    add_import_argument(parser)


def run(args: argparse.Namespace) -> None:
    wanted = args.filter.lower()
    print(_pretrained(wanted) if args.pretrained else _all(wanted, args.imports))


def _pretrained(wanted: str) -> str:
    # slow: MXNet
    from igc_gluon.model_zoo.gluoncv2 import RELEASES
    from igc_gluon.model_zoo.published import PUBLISHED
    from igc_gluon.model_zoo.shipped import shipped

    rows = [
        (row.model, row.dataset, f"{row.accuracy:.2f}", _spread(row.seeds), f"package ({row.epochs})")
        for row in shipped().values()
    ]
    rows += [(name, "imagenet", "-", "-", "authors") for name in PUBLISHED]
    rows += [(name, "imagenet", f"{100 - row.top1:.2f}", "-", "gluoncv2") for name, row in RELEASES.items()]
    rows = [row for row in rows if wanted in row[0]]
    if not rows:
        raise UserError(f"no model with weights has {wanted!r} in its name; `igc models --pretrained` lists them all")
    return f"""{table(("model", "trained on", "accuracy, %", "of seeds", "from"), rows, left=2)}

accuracy: of these weights, over the test images; of seeds: mean, standard
deviation and number of all that were trained. From: the package (epochs that
they were trained for); weights of the authors and of gluoncv2, whose accuracies
are those that it publishes, are downloaded.
get_model(NAME, pretrained="fashion-mnist"), pretrained=True for the authors',
pretrained="gluoncv2"; igc eval NAME --dataset fashion-mnist"""


def _spread(accuracies: Sequence[float]) -> str:
    if len(accuracies) == 1:
        return "(1)"
    return f"{np.mean(accuracies):.2f} ± {np.std(accuracies, ddof=1):.2f} ({len(accuracies)})"


def _all(wanted: str, imports: Sequence[str]) -> str:
    models = json.loads(STORED.read_text(encoding="utf-8"))
    if imports:
        # slow: MXNet
        from igc_gluon.model_zoo.registry import families

        models.update(
            (name, facts(name)) for family in families() if family.source is not None for name in family.names()
        )
    models = {name: model for name, model in models.items() if wanted in name}
    if not models:
        raise UserError(f"no model's name contains {wanted!r}; `igc models` lists them all")
    groups = itertools.groupby(models, key=lambda name: models[name]["family"])
    parts = [_group(family, {name: models[name] for name in names}) for family, names in groups]
    return "\n\n".join(
        [
            *parts,
            f"""{len(models)} models; weights of convolutions and of the fully connected layer; MACs:
multiply-adds of an image; then test accuracies that the papers print, in %
(none of them was reproduced here). Any valid depth and partition makes a name:
see `igc info`.""",
        ]
    )


def facts(name: str) -> Dict[str, Any]:
    """What STORED holds of the network called `name` but for accuracies, counted."""
    # slow: MXNet
    from igc_gluon import complexity
    from igc_gluon.model_zoo import find_family, get_model

    family, _ = find_family(name)
    totals = complexity.totals(get_model(name), (3, family.input_size, family.input_size))
    return {"family": family.template, "size": family.input_size, "classes": family.classes, **totals._asdict()}


def _group(family: str, models: Mapping[str, Mapping[str, Any]]) -> str:
    """The part of one family: its template, then a line for each network."""
    data = [key for key in DATASETS if any(key in model.get("accuracy", {}) for model in models.values())]
    rows = [
        (
            name,
            f"{model['weights'] / 1e6:.3f}",
            f"{model['multiply_adds'] / 1e6:.1f}",
            *(model.get("accuracy", {}).get(key, "") for key in data),
        )
        for name, model in models.items()
    ]
    first = next(iter(models.values()))
    return (
        f"{family}: images of {first['size']}x{first['size']}, {first['classes']} classes\n"
        f"{table(('', 'weights, M', 'MACs, M', *(DATASETS[key] for key in data)), rows)}"
    )
