"""Parameters and multiply-adds of any Gluon network, counted on its traced graph.

The papers count the weights of convolutions and of the fully connected layer, and call one multiply-add one FLOP.
"""
import json
from collections import namedtuple

import mxnet as mx
import numpy as np

Layer = namedtuple("Layer", "name operator output_shape params multiply_adds")
Layer.__doc__ = """One operator of a network on one image: output shape without the batch axis, learned parameters (running
statistics not counted), multiply-adds (of convolutions and fully connected layers; 0 elsewhere)."""

Totals = namedtuple("Totals", "weights multiply_adds params aux")
Totals.__doc__ = """weights: of convolutions and fully connected layers, without biases, as the papers count; multiply_adds: of
the same, for one image; params: all learned parameters; aux: running statistics of BN."""

_WEIGHTED = ("Convolution", "FullyConnected")


def layers(net, input_shape=(3, 32, 32)):
    """One `Layer` for every operator of `net` (a HybridBlock), in order of execution, for one image.

    `input_shape` is (channels, height, width) of the image.
    """
    return _layers(*_trace(net, input_shape))


def _layers(symbol, shapes, kinds):
    rows = []
    for node, inputs in _operators(symbol):
        learned = [i for i in inputs if kinds.get(i) == "arg"]
        params = sum(int(np.prod(shapes[i])) for i in learned)
        output = shapes[node["name"] + ("_output" if node["name"] + "_output" in shapes else "_output0")]
        multiply_adds = 0
        if node["op"] in _WEIGHTED:
            # every weight is used once per output position
            multiply_adds = int(np.prod(shapes[inputs[1]])) * int(np.prod(output[2:]))
        rows.append(Layer(node["name"], node["op"], tuple(output[1:]), params, multiply_adds))
    return rows


def totals(net, input_shape=(3, 32, 32)):
    """The `Totals` of `net` on an image of `input_shape` (channels, height, width)."""
    symbol, shapes, kinds = _trace(net, input_shape)
    size = {name: int(np.prod(shapes[name])) for name in kinds}
    weights = {inputs[1] for node, inputs in _operators(symbol) if node["op"] in _WEIGHTED}
    return Totals(weights=sum(size[name] for name in weights),
                  multiply_adds=sum(row.multiply_adds for row in _layers(symbol, shapes, kinds)),
                  params=sum(size[name] for name, kind in kinds.items() if kind == "arg"),
                  aux=sum(size[name] for name, kind in kinds.items() if kind == "aux"))


def _trace(net, input_shape):
    """Symbol of `net`, {array name: shape}, {parameter name: 'arg' or 'aux'}."""
    symbol = net(mx.sym.var("data"))
    if isinstance(symbol, (list, tuple)):
        symbol = symbol[0]
    shapes, kinds = {}, {}
    internals = symbol.get_internals()
    argument_shapes, output_shapes, aux_shapes = internals.infer_shape(data=(1, *input_shape))
    for name, shape in zip(internals.list_outputs(), output_shapes):
        shapes[name] = shape
    for kind, names, found in (("arg", symbol.list_arguments(), argument_shapes),
                               ("aux", symbol.list_auxiliary_states(), aux_shapes)):
        for name, shape in zip(names, found):
            shapes[name] = shape
            if name != "data":
                kinds[name] = kind
    return symbol, shapes, kinds


def _operators(symbol):
    """(node, names of its inputs) for every operator of the graph."""
    nodes = json.loads(symbol.tojson())["nodes"]
    for node in nodes:
        if node["op"] != "null":
            yield node, [nodes[i[0]]["name"] for i in node["inputs"]]
