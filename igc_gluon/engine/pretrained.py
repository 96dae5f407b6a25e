"""Training that begins with weights that are there: of a run, a file or a published network; and layers that stay."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import mxnet as mx
import numpy as np

from igc_gluon import params_file
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.saved_networks import open_network, read_config
from igc_gluon.errors import UserError, printable
from igc_gluon.model_zoo import Model, find_model
from igc_gluon.model_zoo.attributes import class_names, read_preprocessing
from igc_gluon.model_zoo.authors import arrays_of, authors_name, by_authors_names, digest_of
from igc_gluon.model_zoo.image_network import layers_until, score_layer
from igc_gluon.model_zoo.published import PUBLISHED
from igc_gluon.model_zoo.shipped import shipped
from igc_gluon.paths import expand

ALL = "all"  # of --freeze: all but the classifier
RATE = 0.1  # of the usual learning rate: what is learned is not to be forgotten
_NAMED = 8  # layers in a line
_LAYER = re.compile(r"_(weight|bias|gamma|beta|moving_mean|moving_var)$")


@dataclass(frozen=True)
class Pretrained:
    """Weights to begin with. source: as the user gave it. model, options: the network that they are of. preprocessing:
    what they expect of images, where it is known. arrays: by the authors' names."""

    source: str
    model: Model
    options: Mapping[str, Any]
    preprocessing: Optional[Preprocessing]
    class_names: Optional[Tuple[str, ...]]
    arrays: Mapping[str, np.ndarray]

    @cached_property
    def digest(self) -> str:
        """Of the arrays, wherever they come from."""
        return digest_of(self.arrays)

    def give_to(self, net: mx.gluon.HybridBlock) -> List[str]:
        """Sets all parameters of `net`, which has values, that are called as these and have their shapes; those of the
        last layer only where the classes are the same. Returns lines on what was done.

        Raises UserError where none fits.
        """
        wanted = {authors_name(p.name[len(net.prefix) :]): p for p in net.collect_params().values()}
        scores = {authors_name(p.name[len(net.prefix) :]) for p in score_layer(net).collect_params().values()}
        fits = {
            name
            for name, p in wanted.items()
            if name in self.arrays and tuple(self.arrays[name].shape) == tuple(p.shape)
        }
        same = class_names(net) is not None and list(class_names(net) or ()) == list(self.class_names or ())
        taken = fits if same else fits - scores
        left = [name for name in wanted if name not in fits | scores]
        if not fits - scores:
            raise UserError(
                f"--pretrained: none of the layers of {self.source} ({self.model}) fits {net.model}; leave --network "
                "out, or give weights of its family"
            )
        for name in taken:
            array = self.arrays[name]
            wanted[name].set_data(mx.nd.array(array, dtype=wanted[name].dtype))
        begin = "of the same classes" if same and scores <= fits else "the scores, of other classes, begin anew"
        lines = [f"{net.model} begins with the weights of {printable(self.source)}; {begin}"]
        if left:
            layers = list(dict.fromkeys(_LAYER.sub("", name) for name in left))
            more = f" and {len(layers) - _NAMED} more" if len(layers) > _NAMED else ""
            lines.append(
                f"{len(layers)} layers do not fit and are initialized anew: {', '.join(layers[:_NAMED])}{more}"
            )
        return lines


def open_pretrained(
    source: str, network: Optional[str] = None, model_options: Optional[Mapping[str, Any]] = None
) -> Pretrained:
    """The `Pretrained` of `source`: the folder of a run, a .params file of `network` with its options, or the name of a
    network with published weights or weights that come with the package. Raises UserError."""
    path = expand(source)
    if path.is_file():
        return _of_file(source, path, network, dict(model_options or {}))
    if path.is_dir():
        net = open_network(path)
        run = next(folder for folder in (path.absolute(), *path.absolute().parents) if _has_config(folder))
        config, _ = read_config(run / "config.json")
        options = dict(config.get("model_options") or {})
    else:
        net, options = _named(source), {}
    names = class_names(net)
    return Pretrained(
        source, find_model(net.model), options, net.preprocessing, tuple(names) if names else None, arrays_of(net)
    )


def _has_config(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _named(name: str) -> mx.gluon.HybridBlock:
    try:
        find_model(name)
    except UserError as error:
        raise UserError(f"--pretrained: there is no run or file {name}, nor such a network: {error}") from None
    lowered = name.lower()
    datasets = [dataset for model, dataset in shipped() if model == lowered]
    if lowered in PUBLISHED or not datasets:
        return open_network(lowered)  # which says what is published
    return open_network(lowered, dataset=datasets[0])


def _of_file(source: str, path: Path, network: Optional[str], options: Dict[str, Any]) -> Pretrained:
    if path.suffix == ".igc":
        raise UserError(f"--pretrained: {path} is compiled; give the run or the .params file that it was compiled from")
    if network is None:
        raise UserError(f"--pretrained: {path} does not say which network it is of; give --network")
    model = find_model(network)
    net = model.build(**options)
    arrays = by_authors_names(net, params_file.load(path))
    kept = read_preprocessing(path)
    if kept is None and model.family.mean is not None:
        size = model.family.input_size
        kept = Preprocessing((size, size), mean=model.family.mean, std=model.family.std)
    return Pretrained(source, model, options, kept, kept.class_names if kept else None, arrays)


def frozen_layers(net: mx.gluon.HybridBlock, freeze: Optional[str]) -> int:
    """How many layers of `net.features` stay as they are with --freeze `freeze`: None, "all" or the name of the last
    stage. Raises UserError where no stage is called so."""
    if freeze is None:
        return 0
    score_layer(net)
    if freeze != ALL:
        return layers_until(net, freeze)
    return len([layer for layer in net.features if not isinstance(layer, mx.gluon.nn.Dropout)])


def freeze_layers(net: mx.gluon.HybridBlock, freeze: Optional[str]) -> None:
    """Has the parameters of these layers, moving statistics too, stay as they are: no gradient is computed for them,
    and no optimizer knows them."""
    for layer in list(net.features)[: frozen_layers(net, freeze)] if freeze else ():
        for parameter in layer.collect_params().values():
            parameter.grad_req = "null"
