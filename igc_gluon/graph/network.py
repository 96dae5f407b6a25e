"""A Gluon network in inference: its graph with permutations as one node each, sizes of all values, parameters as numpy
arrays. Compiled networks (igc_gluon.deploy) and what ONNX and peers are given (igc_gluon.export) are made of it."""

from collections import Counter
from typing import Any, Dict, NamedTuple, Sequence

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon.errors import UserError
from igc_gluon.graph.permutations import contracted
from igc_gluon.graph.tracing import Graph, Node, Value, first_line, trace


class Network(NamedTuple):
    """nodes: by number, in an order of execution, the last of which gives the result. shapes: of values, for one image;
    empty where they do not fit the image. readers: how many read each value. arrays: of parameters, float32."""

    graph: Graph
    nodes: Dict[int, Node]
    shapes: Dict[Value, tuple]
    readers: Counter
    arrays: Dict[str, np.ndarray]


def read_network(net: Any, input_shape: Sequence[int]) -> Network:
    """The Network of the HybridBlock `net` for an image of `input_shape`.

    Only operators that run in inference, in MXNet's stock formulation whatever `net` runs itself. Raises
    TypeError if `net` is no HybridBlock, UserError if it has no values yet, or not one input and one output.
    """
    if not isinstance(net, HybridBlock):
        raise TypeError(f"only a HybridBlock can be compiled, not a {type(net).__name__}")
    _initialize_deferred(net, input_shape)
    try:
        graph = trace(net)
    except Exception as error:  # of the network's code
        raise UserError(f"{_title(net)} cannot be traced with one input: {first_line(error)}") from None
    if not isinstance(graph.format, int) or len(graph.outputs) != 1:
        raise UserError(f"{_title(net)} has more than one output; compile a block with one")
    arrays = {name: _array(parameter) for name, parameter in graph.parameters.items()}
    try:
        shapes = graph.shapes([(1, *input_shape)])
    except (ValueError, mx.MXNetError):  # who reads on finds where
        shapes = {}
    nodes = contracted(graph, shapes).nodes
    readers = Counter([value for node in nodes.values() for value in node.inputs] + graph.outputs)
    for value in readers:
        if not isinstance(value, str) and value.output != 0:
            other = graph.nodes[value.node]
            raise UserError(
                f"operator {other.op} ({other.name}) has more than one result, which native inference does not know"
            )
    return Network(graph, nodes, shapes, readers, arrays)


def _initialize_deferred(net: Any, input_shape: Sequence[int]) -> None:
    """Parameters whose shape the first image decides get it here."""
    if not any(parameter._deferred_init for parameter in net.collect_params().values()):
        return
    try:
        with mx.autograd.pause():
            net(mx.nd.zeros((1, *input_shape))).wait_to_read()
    except (ValueError, mx.MXNetError) as error:
        raise UserError(f"{_title(net)} does not take images of {input_shape}: {first_line(error)}") from None


def _array(parameter: Any) -> np.ndarray:
    try:
        array = parameter.data(parameter.list_ctx()[0]).asnumpy().astype(np.float32)
    except RuntimeError:
        raise UserError(
            f"parameter {parameter.name} has no value; call initialize() or load_parameters() first"
        ) from None
    if not np.isfinite(array).all():
        raise UserError(f"parameter {parameter.name} is not finite everywhere; the network has diverged")
    return array


def _title(net: Any) -> str:
    return net.name or type(net).__name__
