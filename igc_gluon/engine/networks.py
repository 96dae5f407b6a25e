"""Networks with weights, by name or from a checkpoint: what is evaluated, asked and compiled."""
import json
import re
from pathlib import Path

from igc_gluon import params_file
from igc_gluon.data import DATASETS, find_dataset
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import find_family, get_model
from igc_gluon.model_zoo.authors import set_parameters
from igc_gluon.model_zoo.expects import expect
from igc_gluon.model_zoo.registry import NO_TEXT
from igc_gluon.paths import expand

_MOST = 1 << 16  # classes, pixels


def open_network(source, model=None, classes=None, model_options=None, dataset=None, ctx=None):
    """The network of `source`, with its weights and what it expects as attributes, see `model_zoo.expects`.

    Parameters
    ----------
    source : str or Path
        The folder of a run (its best checkpoint) or of one checkpoint; a `.params` file, of Gluon or of Module, with
        `model`; or the name of a model with published weights, or with `dataset` one whose weights come with the package.
    model, classes, model_options
        What `get_model` builds for a `.params` file; a run knows them.
    dataset : str
        The data set that a `.params` file was trained on, for mean, std and the size of the images; of networks for
        ImageNet the authors' are known without it. Of a name, the one that the package's weights were trained on.
    ctx : Context or list of Context, default the CPU

    Raises UserError if nothing is there, or it does not fit the model.
    """
    if not isinstance(source, (str, Path)):
        raise TypeError(f"a network is opened by name or path, not from a {type(source).__name__}")
    path = expand(source)
    if path.is_dir():
        if not (model is None and classes is None and dataset is None) or model_options:
            raise UserError(f"{path} is a run, which knows its model and data set; leave out model, classes, options "
                            "and data set")
        return _open_run(path, ctx)
    if not path.exists():
        if model is not None:
            raise UserError(f"there is no {path}")
        try:
            find_family(source)
        except UserError as error:
            raise UserError(f"there is no file or folder {path}, nor such a model: {error}") from None
        pretrained = True if dataset is None else find_dataset(dataset).name
        return get_model(source, pretrained=pretrained, classes=classes, ctx=ctx, **(model_options or {}))
    if model is None:
        raise UserError(f"{path} does not say which network it belongs to; give model, "
                        "cifar_plain_igc20_l24m2 for example")
    family, _ = find_family(model)
    info = dataset and find_dataset(dataset)
    number = classes or (info or family).classes
    net = get_model(model, classes=number, **(model_options or {}))
    set_parameters(net, params_file.load(path), path, ctx)
    if info:
        names = info.class_names if info.classes == number else None
        net.dataset = info.name
        return expect(net, model.lower(), info.size, mean=info.mean, std=info.std, classes=names)
    names = "imagenet" if family.classes == number == 1000 else None
    return expect(net, model.lower(), family.input_size, mean=family.mean, std=family.std, classes=names)


def _open_run(path, ctx):
    """Of a run's folder, its folder of checkpoints, or that of one checkpoint."""
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
    config = read_config(run / "config.json")
    model, info = config.get("model"), DATASETS.get(config.get("dataset"))
    family, _ = find_family(model)
    number = config.get("classes", (info or family).classes)
    net = get_model(model, classes=number, **(config.get("model_options") or {}))
    arrays, _ = store.load(name)
    set_parameters(net, arrays.get("net.params", {}), run / "checkpoints" / name / "net.params", ctx)
    size = (info.size if info else family.input_size)
    net.dataset = info and info.name  # its images calibrate deploy.compile
    return expect(net, model, config.get("image_shape", (3, size, size))[-1], config.get("short_side"),
                  config.get("mean", info and info.mean), config.get("std", info and info.std),
                  config.get("class_names", info and info.class_names))


def read_config(path):
    """The dict in a run's config.json, with a model and only such numbers as a network may have: a run may come from a
    stranger. Raises UserError."""
    kinds = {"model": str, "dataset": str, "classes": int, "model_options": (dict, type(None)), "image_shape": list,
             "mean": list, "std": list, "class_names": (list, type(None)), "short_side": int}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        shape, mean, std = (config.get(key, [1, 1, 1]) for key in ("image_shape", "mean", "std"))
        names = config.get("class_names") or []
        sound = (all(isinstance(config[key], kind) for key, kind in kinds.items() if key in config) and
                 not re.search(r"\d{5}", config["model"]) and 0 < config.get("classes", 1) <= _MOST and
                 len(shape) == len(mean) == len(std) == 3 and all(type(n) is int and 0 < n <= _MOST for n in shape) and
                 shape[-1] <= config.get("short_side", shape[-1]) <= _MOST and
                 len(names) in (0, config.get("classes")) and all(isinstance(name, str) for name in names) and
                 all(abs(float(m)) < float("inf") for m in mean) and all(0 < float(d) < float("inf") for d in std) and
                 not NO_TEXT & set(config.get("model_options") or {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged")
    return config
