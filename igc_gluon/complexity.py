"""Parameters and multiply-adds of any Gluon network, counted on its traced graph.

The papers count the weights of convolutions and of the fully connected layer, and call one multiply-add one FLOP.
"""

from typing import Any, List, Mapping, NamedTuple, Sequence, Set, Tuple

import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon.graph import Ref, trace
from igc_gluon.graph.tracing import Graph


class Layer(NamedTuple):
    """One operator of a network on one image: output shape without the batch axis, learned parameters (running
    statistics not counted), multiply-adds (of convolutions and fully connected layers; 0 elsewhere)."""

    name: str
    operator: str
    output_shape: Tuple[int, ...]
    params: int
    multiply_adds: int


class Totals(NamedTuple):
    """weights: of convolutions and fully connected layers, without biases, as the papers count; multiply_adds: of the
    same, for one image; params: all learned parameters; aux: running statistics of BN."""

    weights: int
    multiply_adds: int
    params: int
    aux: int


_WEIGHTED = ("Convolution", "FullyConnected")


def layers(net: HybridBlock, input_shape: Tuple[int, int, int] = (3, 32, 32)) -> List[Layer]:
    """One `Layer` for every operator of `net` (a HybridBlock), in order of execution, for one image.

    `input_shape` is (channels, height, width) of the image.
    """
    graph = trace(net)
    return _layers(graph, graph.shapes([(1, *input_shape)]))


def _layers(graph: Graph, shapes: Mapping[Any, Tuple[int, ...]]) -> List[Layer]:
    learned, rows = _learned(graph), []
    for number, node in enumerate(graph.nodes):
        params = sum(_size(shapes[name]) for name in node.inputs if name in learned)
        output = shapes[Ref(number)]
        multiply_adds = 0
        if node.op in _WEIGHTED:
            # every weight is used once per output position
            multiply_adds = _size(shapes[node.inputs[1]]) * _size(output[2:])
        rows.append(Layer(node.name, node.op, tuple(output[1:]), params, multiply_adds))
    return rows


def totals(net: HybridBlock, input_shape: Tuple[int, int, int] = (3, 32, 32)) -> Totals:
    """The `Totals` of `net` on an image of `input_shape` (channels, height, width)."""
    graph = trace(net)
    shapes, learned = graph.shapes([(1, *input_shape)]), _learned(graph)
    weights = {node.inputs[1] for node in graph.nodes if node.op in _WEIGHTED}
    return Totals(
        weights=sum(_size(shapes[name]) for name in weights),
        multiply_adds=sum(row.multiply_adds for row in _layers(graph, shapes)),
        params=sum(_size(shapes[name]) for name in learned),
        aux=sum(_size(shapes[name]) for name in graph.parameters.keys() - learned),
    )


def _learned(graph: Graph) -> Set[str]:
    return graph.parameters.keys() - set(graph.symbol.list_auxiliary_states())


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape))
