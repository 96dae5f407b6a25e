"""Networks with weights, by name or from a checkpoint: what is evaluated, asked and compiled."""

import logging
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

from mxnet.gluon import HybridBlock

from igc_gluon import params_file
from igc_gluon.data import DATASETS, find_dataset
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine import statistics
from igc_gluon.engine.checkpoint import CheckpointStore, position_of
from igc_gluon.engine.run_folder import dataset_of, load_config
from igc_gluon.errors import UserError, printable
from igc_gluon.model_zoo import Model, find_model, get_model
from igc_gluon.model_zoo.attributes import read_preprocessing, set_attributes, wordnet_numbers
from igc_gluon.model_zoo.authors import set_parameters
from igc_gluon.model_zoo.registry import NO_TEXT, Family
from igc_gluon.nn import INITIAL_VARIANCES
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)

_MOST = 1 << 16  # classes
_NAMED = 5  # runs in a message


def open_network(
    source: Union[str, Path],
    model: Optional[str] = None,
    classes: Optional[int] = None,
    model_options: Optional[Dict[str, Any]] = None,
    dataset: Optional[str] = None,
    ctx: Any = None,
) -> HybridBlock:
    """The network of `source`, with its weights and what it expects as attributes, see `model_zoo.attributes`.

    Raises UserError if nothing is there, or it does not fit the model.

    Parameters
    ----------
    source : str or Path
        The folder of a run (its best checkpoint) or of one checkpoint; a `.params` file, of Gluon or of Module, with
        `model`; or the name of a model with published weights, or with `dataset` one whose weights come with the
        package.
    model, classes, model_options
        What `get_model` builds for a `.params` file; a run knows them.
    dataset : str
        The data set that a `.params` file was trained on, for mean, std and the size of the images; of networks for
        ImageNet the authors' are known without it, and of a checkpoint for Module that this package wrote. Of a name,
        the one that the package's weights were trained on.
    ctx : Context or list of Context, default the CPU
    """
    if not isinstance(source, (str, Path)):
        raise TypeError(f"a network is opened by name or path, not from a {type(source).__name__}")
    path = expand(source)
    if path.is_dir():
        if not (model is None and classes is None and dataset is None) or model_options:
            raise UserError(
                f"{path} is a run, which knows its model and data set; leave out model, classes, options and data set"
            )
        return _open_run(path, ctx)
    if not path.exists():
        if model is not None:
            raise UserError(f"there is no {path}")
        return _open_named(str(source), path, classes, model_options, dataset, ctx)
    if not path.is_file():  # to open a pipe would wait for ever
        raise UserError(f"{path} is neither a folder nor a regular file")
    if path.suffix == ".igc":
        raise UserError(
            f"{path} is compiled, which igc predict and igc_gluon.deploy.load take alone; give the run or "
            "the .params file that it was compiled from"
        )
    if model is None:
        raise UserError(
            f"{path} does not say which network it belongs to; give model, cifar_plain_igc20_l24m2 for example"
        )
    return _open_params(path, find_model(model), classes, model_options, dataset, ctx)


def _open_named(
    name: str,
    path: Path,
    classes: Optional[int],
    model_options: Optional[Dict[str, Any]],
    dataset: Optional[str],
    ctx: Any,
) -> HybridBlock:
    """A model whose weights are published or come with the package; `path` is the file that `name` is not."""
    try:
        find_model(name)
    except UserError as error:
        raise UserError(f"there is no file or folder {path}, nor such a model: {error}") from None
    pretrained = True if dataset is None else find_dataset(dataset).name
    return get_model(name, pretrained=pretrained, classes=classes, ctx=ctx, **(model_options or {}))


def _open_params(
    path: Path,
    model: Model,
    classes: Optional[int],
    model_options: Optional[Dict[str, Any]],
    dataset: Optional[str],
    ctx: Any,
) -> HybridBlock:
    """The `Model` with the weights in a .params file."""
    family, kept = model.family, read_preprocessing(path)
    info = find_dataset(dataset) if dataset else None
    known: Optional[int] = None
    if info:
        known, expected = info.classes, info.preprocessing
    elif kept:
        known, expected = len(kept.class_names or ()), kept
    else:
        expected = _of_family(family)
    number = classes or known or family.classes
    if not info and not kept and family.classes == number == 1000:
        expected = replace(expected, class_names=wordnet_numbers())
    if expected.class_names and len(expected.class_names) != number:
        expected = replace(expected, class_names=None)
    net = model.build(number, **(model_options or {}))
    set_parameters(net, params_file.load(path), path, ctx)
    if info:
        net.dataset = info.name
    return set_attributes(net, model.name, expected)


def _of_family(family: Family) -> Preprocessing:
    return Preprocessing((family.input_size, family.input_size), mean=family.mean, std=family.std)


def _open_run(path: Path, ctx: Any) -> HybridBlock:
    """Of a run's folder, its folder of checkpoints, or that of one checkpoint."""
    run = path.absolute()
    name: Optional[str] = None
    if run.parent.name == "checkpoints":
        run, name = run.parent.parent, run.name
    elif run.name == "checkpoints":
        run = run.parent
    if not (run / "config.json").is_file() or not (run / "checkpoints").is_dir():
        raise UserError(f"{path} is no run: a run has config.json and checkpoints{_runs_below(run)}")
    store = CheckpointStore(run / "checkpoints")
    name = name or store.pointer("best") or store.pointer("last")
    if name is None:
        raise UserError(f"{run} has no checkpoint yet")
    config, expected = read_config(run / "config.json")
    model, info = config["model"], DATASETS.get(config.get("dataset", ""))
    net = find_model(model).build(config["classes"], **(config.get("model_options") or {}))
    arrays, _ = store.load(name)
    set_parameters(net, arrays.get("net.params", {}), run / "checkpoints" / name / "net.params", ctx)
    if _begun_averages(config, name):
        batches = position_of(name)[1]
        statistics.without_initial_values(net, batches, INITIAL_VARIANCES[config.get("initializer", "igcv1")])
        logger.warning(
            "%s is of the first epoch: of the moving averages of batch normalization, %d batches old, the values that "
            "they began with are taken out",
            run / "checkpoints" / name,
            batches,
        )
    net.data_name = dataset_of(config)
    net.dataset = info and info.name  # its images calibrate deploy.compile
    net.test_file = Path(os.path.normpath(run / config["test_file"])) if "test_file" in config else None
    return set_attributes(net, model, expected)


def _begun_averages(config: Dict[str, Any], name: str) -> bool:
    """Whether the checkpoint called `name` has moving averages that began with the run, and that no evaluation has
    taken anew yet."""
    epoch, batch = position_of(name)
    began = not config.get("pretrained") and config.get("load_epoch") is None
    return epoch == 0 and batch > 0 and began and config.get("bn_statistics", "moving") != "moving"


def _runs_below(folder: Path) -> str:
    """What a message says of the runs in `folder`, the seeds of a network for example."""
    runs = sorted(
        str(config.parent.relative_to(folder))
        for pattern in ("*/config.json", "*/*/config.json")
        for config in folder.glob(pattern)
    )
    if not runs:
        return ""
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return printable(f"; {folder.name} holds {', '.join(runs[:_NAMED])}{more}: give one of them")


def complete(config: Dict[str, Any]) -> Dict[str, Any]:
    """The dict of a run's config.json with the options that its network had without a word where an older release,
    which did not say the interpolation either, wrote it: parameters of the same shapes would be taken for today's
    network."""
    options = config.get("model_options") or {}
    small = str(config["model"]).startswith("cifar_igcv3_")
    if "interpolation" in config or not small or not isinstance(options, dict):
        return config
    return {**config, "model_options": {"strides": [64, 160], **options}}


def _find_model(config: Dict[str, Any], path: Path) -> Model:
    """The Model of a run's config.json. Code that the file at `path` names is not run, since it may come from a
    stranger. Raises UserError, which names the file of the user's that has to be imported."""
    model_file = config.get("model_file")
    if model_file is None:
        return find_model(config["model"])
    name, digest = model_file["path"], model_file["sha256"]
    try:
        model = find_model(config["model"])
    except UserError:
        missing = "" if Path(name).is_file() else ", which is no longer there"
        raise UserError(
            f"{path.parent}: {config['model']} is a network of {name}{missing}; give that file: "
            "--import FILE.py, or igc_gluon.model_zoo.import_networks in Python"
        ) from None
    source = model.family.source
    if source is None or source.sha256 != digest:
        logger.warning(
            "%s was trained with %s as it was then (sha256 %s); %s has changed since (%s)",
            path.parent,
            name,
            digest[:12],
            source and source.path,
            source and source.sha256[:12],
        )
    return model


def read_config(path: Path) -> Tuple[Dict[str, Any], Preprocessing]:
    """(the dict in a run's config.json, the Preprocessing in it), with a model and only such numbers as a network may
    have: a run may come from a stranger. Raises UserError."""
    kinds: Dict[str, Any] = {
        "model": str,
        "dataset": str,
        "classes": int,
        "model_options": (dict, type(None)),
        "model_file": dict,
        "test_file": str,
        "initializer": str,
    }
    try:
        config = load_config(path)
        sound = (
            all(isinstance(config[key], kind) for key, kind in kinds.items() if key in config)
            and not re.search(r"\d{5}", config["model"])
            and 0 < config.get("classes", 1) <= _MOST
            and config.get("initializer", "igcv1") in INITIAL_VARIANCES
            and not NO_TEXT & set(config.get("model_options") or {})
            and all(isinstance(config["model_file"][key], str) for key in ("path", "sha256") if "model_file" in config)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged")
    info, family = DATASETS.get(config.get("dataset", "")), _find_model(config, path).family
    number = config.setdefault("classes", (info or family).classes)
    try:
        expected = Preprocessing.from_config(config, info.preprocessing if info else _of_family(family))
    except UserError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    if expected.class_names and len(expected.class_names) != number:
        raise UserError(f"{path} is damaged: it names {len(expected.class_names)} of {number} classes")
    return complete(config), expected
