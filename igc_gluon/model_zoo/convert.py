"""Checkpoints of the authors' code (`prefix-symbol.json`, `prefix-0095.params`) <-> networks of this package.

Which network a checkpoint belongs to is read off its graph: the numbers in it make a name or a few, and the network
that computes the same gets the arrays, whatever they are called. MXNet never sees the file.
"""
from typing import Any, Dict, List, Optional, Tuple

import mxnet as mx
from mxnet.gluon import HybridBlock

from igc_gluon import params_file, symbol_file
from igc_gluon.errors import UserError
from igc_gluon.graph import json_of
from igc_gluon.model_zoo.authors import check_parameters
from igc_gluon.model_zoo.graphs import Difference, Layer, layers_of, match
from igc_gluon.model_zoo.registry import get_model


def read_checkpoint(prefix: str, epoch: int, model: Optional[str] = None, model_options: Optional[Dict[str, Any]] = None) -> Tuple[HybridBlock, str, Dict[str, Any]]:
    """(network with its weights, name of the model, options of the model) of PREFIX-symbol.json and PREFIX-0095.params.

    `model` and `model_options` say which network of this package it is where that cannot be found out: it can of all
    networks that the authors' code builds for IGCV1 and of the published IGCV3.

    Raises UserError on files that are not whole, on a graph that is no network of this package, and where parameters
    are missing, left over or of another shape, naming all of them.
    """
    graph = symbol_file.load(f"{prefix}-symbol.json")
    arrays = {name.split(":", 1)[-1]: array
              for name, array in params_file.load(f"{prefix}-{epoch:04d}.params").items()}
    try:
        net, model, options, names = find_network(layers_of(graph), model, model_options)
        wanted = {theirs: net.collect_params()[ours] for theirs, ours in names.items()}
        check_parameters(arrays, wanted)
    except UserError as error:
        raise UserError(f"{prefix}, epoch {epoch}: {error}") from None
    for theirs, parameter in wanted.items():
        parameter.initialize(init=mx.init.Zero(), ctx=mx.cpu())
        parameter.set_data(mx.nd.array(arrays[theirs], dtype=arrays[theirs].dtype))
    return net, model, options


def find_network(layers: List[Layer], model: Optional[str] = None, model_options: Optional[Dict[str, Any]] = None) -> Tuple[HybridBlock, str, Dict[str, Any], Dict[str, str]]:
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


def guesses(layers: List[Layer]) -> List[Tuple[str, Dict[str, Any]]]:
    """[(name, options)] of what `layers` may be, the likeliest first."""
    convolutions = [layer for layer in layers if layer.op == "Convolution"]
    branches = [layer.facts[1] for layer in layers if layer.op == "Reorder"]
    sums = sum(layer.op == "add" for layer in layers)
    if max(len(branches), 2 * sums) >= len(convolutions):  # also where there is none; and no guess is far too deep
        return []
    channels, kernel, strides = convolutions[0].facts[1:4]
    width = int(channels.split()[0])
    found: List[Tuple[str, Dict[str, Any]]]
    if any(layer.op == "clip" for layer in layers):
        found = [(f"igcv3_{m}", {}) for m in sorted({round(width / 32, digits) for digits in (1, 2, 3)})]
        found += [(f"igcv3_d{d}", {}) for d in (0.7, 0.5)] + [(f"cifar_igcv3_d{d}", options) for d in (1.0, 0.7, 0.5)
                                                                     for options in ({}, {"strides": (64, 160)})]
    elif kernel == "kernel (7, 7)":
        found = [(f"resnet18_w{width}", {})]
        if len(branches) > 1:
            name = "resnet18_igc_l{}m{}".format(*branches)
            found = [(name, {}), (name, {"doubled": "primary"}), (name, {"doubled": "secondary"})]
    elif len(branches) > 1:
        L, M = branches[:2]
        plain, residual = 2 + len(branches) // 2, 2 + 2 * sums
        found = [(f"cifar_plain_igc{plain}_l{L}m{M}", {}), (f"cifar_flat_igc{plain}_l{L}m{M}", {})]
        if sums:
            found = [(f"cifar_resnet_igc{residual}_l{L}m{M}", options) for options in ({}, {"downsample": "code"})]
            found += [(f"cifar_igcv1_{residual}_c{width}", {})]
    else:
        found = [(f"cifar_resnet{2 + 2 * sums}_w{width}" if sums else f"cifar_plain{len(convolutions) + 1}_w{width}",
                  {})]
    if strides == "stride (2, 2)" and found[0][0].startswith("cifar_"):
        found = [(name, {**options, "stem_strides": 2}) for name, options in found]
    return found


def _classes(layers):
    """The number of scores: outputs of the fully connected layer, or of the last convolution."""
    for layer in reversed(layers):
        if layer.op in ("FullyConnected", "Convolution"):
            return int(layer.facts[1].split()[0])
    return None
