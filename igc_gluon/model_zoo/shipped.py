"""Weights that come with the package: networks of all sizes that were trained by it on data that anyone can have.

    get_model("cifar_plain_igc8_l24m2", pretrained="fashion-mnist")

Each is the last checkpoint of seed 0, not the best one, which would have been chosen by the test images. weights/ holds
the files, which are MXNet's `.params`, and weights.json a row for each; `docs/pack_weights.py` makes both from runs.
"""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Collection, Dict, Mapping, Tuple

from mxnet.gluon import HybridBlock

from igc_gluon import files, params_file
from igc_gluon.data import find_dataset
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.attributes import set_attributes
from igc_gluon.model_zoo.authors import set_parameters

FOLDER = Path(__file__).parent / "weights"
TABLE = FOLDER / "weights.json"
# Only these leave the network what the weights were trained for.
OPTIONS = {"norm_layer", "norm_kwargs", "prefix", "params"}


@dataclass(frozen=True)
class Weights:
    """accuracy: of this file, in %, over the test images of `dataset`, of whose first 1,000 `correct_of_1000` are
    right; seeds: accuracies of all seeds that were trained, this one the first. commit: of the package that trained
    it."""

    model: str
    dataset: str
    sha256: str
    accuracy: float
    correct_of_1000: int
    seeds: Tuple[float, ...]
    epochs: int
    command: str
    commit: str
    data_license: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.model}-{self.dataset}.params"


@functools.lru_cache(maxsize=None)
def shipped() -> Dict[Tuple[str, str], Weights]:
    """{(model, data set): Weights}, in the order of the file."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {(row["model"], row["dataset"]): Weights(**{**row, "seeds": tuple(row["seeds"])}) for row in rows}


def find_shipped(name: str, dataset: str, classes: int, options: Mapping[str, Any]) -> Weights:
    """The `Weights` of the network `name` on `dataset`. Raises UserError where there are none that fit so many classes
    and these options."""
    dataset = find_dataset(dataset).name
    row = shipped().get((name, dataset))
    if row is None:
        known = ", ".join(model for model, on in shipped() if on == dataset)
        raise UserError(
            f"no weights of {name} trained on {dataset} come with this package"
            + (f", but those of {known}" if known else "; igc models --pretrained lists all")
        )
    check_fit(f"the weights of {name} from {dataset}", find_dataset(dataset).classes, classes, options)
    return row


def check_fit(
    weights: str, of_weights: int, classes: int, options: Mapping[str, Any], allowed: Collection[str] = ()
) -> None:
    """Raises UserError unless weights for `of_weights` classes fit a network of so many and with these options.
    weights: what a message calls them; allowed: options that they may have beside those that change no parameter."""
    if classes != of_weights:
        raise UserError(
            f"{weights} are for {of_weights} classes, not {classes}; load those and put a new layer in place of "
            "net.output"
        )
    other = sorted(set(options) - OPTIONS - set(allowed))
    if other:
        raise UserError(f"{weights} are those of the network without {', '.join(other)}")


def load_shipped(net: HybridBlock, row: Weights, ctx: Any = None) -> HybridBlock:
    """Gives `net` the weights of `row` and what it expects as attributes (see `attributes`), and returns it.

    Raises UserError where the file is missing or damaged.
    """
    info = find_dataset(row.dataset)
    try:
        whole = files.digest(row.path, "sha256") == row.sha256
    except OSError:
        whole = False
    if not whole:
        raise UserError(f"{row.path} is missing or damaged; install the package again")
    set_parameters(net, params_file.load(row.path), row.path, ctx)
    net.dataset = info.name  # its images calibrate deploy.compile
    return set_attributes(net, row.model, info.preprocessing)
