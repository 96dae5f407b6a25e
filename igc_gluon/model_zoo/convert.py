"""Checkpoints of the authors' code (`prefix-symbol.json`, `prefix-0095.params`) <-> networks of this package.

Which network a checkpoint belongs to is read off its graph: the numbers in it make a name or a few, and the network
that computes the same gets the arrays, whatever they are called. MXNet never sees the file.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from igc_gluon import params_file, symbol_file
from igc_gluon.errors import UserError
from igc_gluon.graph import json_of
from igc_gluon.model_zoo.authors import check_parameters
from igc_gluon.model_zoo.graphs import Difference, Layer, layers_of, match
from igc_gluon.model_zoo.guesses import guesses
from igc_gluon.model_zoo.registry import get_model


def read_checkpoint(
    prefix: str, epoch: int, model: Optional[str] = None, model_options: Optional[Dict[str, Any]] = None
) -> Tuple[HybridBlock, str, Dict[str, Any]]:
    """(network with its weights, name of the model, options of the model) of PREFIX-symbol.json and PREFIX-0095.params.

    `model` and `model_options` say which network of this package it is where `guesses` does not find out: it does of
    all families and their options.

    Raises UserError on files that are not whole, on a graph that is no network of this package, and where parameters
    are missing, left over or of another shape, naming all of them.
    """
    graph = symbol_file.load(f"{prefix}-symbol.json")
    arrays = {name.split(":", 1)[-1]: array for name, array in params_file.load(f"{prefix}-{epoch:04d}.params").items()}
    try:
        net, model, options, names = find_network(layers_of(graph), model, model_options)
        parameters = {theirs: net.collect_params()[ours] for theirs, ours in names.items()}
        check_parameters(arrays, parameters)
    except UserError as error:
        raise UserError(f"{prefix}, epoch {epoch}: {error}") from None
    for theirs, parameter in parameters.items():
        parameter.initialize(init=mx.init.Zero(), ctx=mx.cpu())
        parameter.set_data(mx.nd.array(arrays[theirs], dtype=arrays[theirs].dtype))
    return net, model, options


def find_network(
    layers: List[Layer], model: Optional[str] = None, model_options: Optional[Dict[str, Any]] = None
) -> Tuple[HybridBlock, str, Dict[str, Any], Dict[str, str]]:
    """(network without weights, name, options, {array of `layers`: parameter}) of what computes the same as `layers`,
    a list of `graphs.Layer`. Raises UserError."""
    difference = None
    for name, options in [(model, model_options or {})] if model else guesses(layers):
        try:
            net = get_model(name, classes=_classes(layers), **options)
        except UserError as error:  # a guess need not be a network
            if model:
                raise
            difference = difference or f"{name} is none: {error}"
            continue
        ours = layers_of(symbol_file.loads(json_of(net(mx.sym.var("data"))).encode()))
        try:
            return net, name, options, match(layers, ours)
        except Difference as error:
            difference = difference or f"{name} differs: {error}"
    hint = "" if model else "; if it is one, name it: --model"
    raise UserError(f"the graph is not that of a known network ({difference or 'it has too few convolutions'}){hint}")


def _classes(layers: Sequence[Layer]) -> Optional[int]:
    """The number of scores: outputs of the fully connected layer, or of the last convolution."""
    for layer in reversed(layers):
        if layer.op in ("FullyConnected", "Convolution"):
            return int(layer.facts[1].split()[0])
    return None
