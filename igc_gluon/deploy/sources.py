"""What can be compiled besides a network at hand: runs, checkpoints and `.params` files."""
import json
from pathlib import Path

import mxnet as mx

from igc_gluon import params_file
from igc_gluon.data import DATASETS
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_family, get_model
from igc_gluon.model_zoo.authors import authors_name, from_module_params


def open_source(source, model=None, classes=None, model_options=None):
    """(network, facts) of a path, see `compiler.compile`; facts: name, input_shape and, of a run, mean and
    std.

    Raises UserError if nothing is there, or it does not fit the model.
    """
    if not isinstance(source, (str, Path)):
        raise TypeError(f"only a HybridBlock or a path can be compiled, not a {type(source).__name__}")
    path = Path(source).expanduser()
    if path.is_dir():
        if model is not None or classes is not None or model_options:
            raise UserError(f"{path} is a run, which knows its model; leave out model, classes and options")
        return _open_run(path)
    if not path.exists():
        if model is None:
            try:
                family, _ = find_family(source)
            except UserError as error:
                raise UserError(f"there is no file or folder {path}, nor such a model: {error}") from None
            net = get_model(source, pretrained=True, classes=classes, **(model_options or {}))
            return net, {"name": str(source).lower(), "input_shape": (3,) + (family.input_size,) * 2}
        raise UserError(f"there is no {path}")
    if model is None:
        raise UserError(f"{path} does not say which network it belongs to; give model, "
                        "cifar_plain_igc20_l24m2 for example")
    family, _ = find_family(model)
    net = get_model(model, classes=classes, **(model_options or {}))
    set_parameters(net, params_file.load(path), path)
    return net, {"name": model.lower(), "input_shape": (3, family.input_size, family.input_size)}


def _open_run(path):
    """A run's folder, its folder of checkpoints, or that of one checkpoint."""
    run, name = path.absolute(), None
    if run.parent.name == "checkpoints":
        run, name = run.parent.parent, run.name
    elif run.name == "checkpoints":
        run = run.parent
    if not (run / "config.json").is_file() or not (run / "checkpoints").is_dir():
        raise UserError(f"{path} is no run: a run has config.json and checkpoints")
    store = CheckpointStore(run / "checkpoints")
    name = name or store.pointer("best") or store.pointer("last")
    if name is None:
        raise UserError(f"{run} has no checkpoint yet")
    try:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        model, dataset = config["model"], DATASETS.get(config["dataset"])
        options = config.get("model_options") or {}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{run / 'config.json'} is damaged") from None
    family, _ = find_family(model)
    net = get_model(model, classes=config.get("classes", dataset and dataset.classes), **options)
    arrays, _ = store.load(name)
    set_parameters(net, arrays.get("net.params", {}), run / "checkpoints" / name / "net.params")
    size = dataset.size if dataset else family.input_size
    facts = {"name": model, "input_shape": tuple(config.get("image_shape", (3, size, size)))}
    if "mean" in config:
        facts.update(mean=tuple(config["mean"]), std=tuple(config["std"]))
    elif dataset:
        facts.update(mean=dataset.mean, std=dataset.std)
    return net, facts


def set_parameters(net, arrays, path):
    """Gives `net` the arrays of a `.params` file under any of three kinds of names: Gluon's save_parameters
    (`features.0.weight`), its parameters' own (`g0_conv_weight`), Module's (`arg:g0_conv_weight`)."""
    own_names = {name: authors_name(parameter.name[len(net.prefix):])
                 for name, parameter in net._collect_params_with_prefix().items()}
    renamed = {own_names.get(name) or authors_name(name.split(":", 1)[-1]):
               mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}
    try:
        from_module_params(net, renamed, {})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
