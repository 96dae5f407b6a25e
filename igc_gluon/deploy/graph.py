"""The stock graph of a Gluon network: MXNet's operators in order, parameters as numpy arrays."""
from typing import Dict, List, NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon.errors import UserError
from igc_gluon.graph import tracing

DATA = "data"


class Node(NamedTuple):
    """An operator: MXNet's name of it, its own name, attributes, the values it reads. `readers`: how many
    read its result."""
    op: str
    name: str
    attributes: Dict[str, object]
    inputs: List[object]  # of each input the number of a node, DATA, or a parameter as numpy array
    readers: int


def trace(net, input_shape):
    """[Node] of the HybridBlock `net`, each after those it reads; the last one gives the result.

    Only operators that run in inference, in MXNet's stock formulation whatever `net` runs itself. Raises
    TypeError if `net` is no HybridBlock, UserError if it has no values yet, or not one input and one output.
    """
    if not isinstance(net, HybridBlock):
        raise TypeError(f"only a HybridBlock can be compiled, not a {type(net).__name__}")
    _initialize_deferred(net, input_shape)
    try:
        graph = tracing.trace(net)
    except Exception as error:  # of the network's code
        raise UserError(f"{_title(net)} cannot be traced with one input: {tracing.first_line(error)}") from None
    if not isinstance(graph.format, int) or len(graph.outputs) != 1:
        raise UserError(f"{_title(net)} has more than one output; compile a block with one")
    return list(_nodes(graph, {name: _array(parameter) for name, parameter in graph.parameters.items()}))


def _nodes(graph, arrays):
    readers = graph.readers()
    for node in graph.nodes:
        for value in node.inputs + tuple(graph.outputs):
            if not isinstance(value, str) and value.output != 0:
                other = graph.nodes[value.node]
                raise UserError(f"operator {other.op} ({other.name}) has more than one result, which native inference "
                                "does not know")
    for number, node in enumerate(graph.nodes):
        inputs = [value.node if not isinstance(value, str) else DATA if value in graph.data else arrays[value]
                  for value in node.inputs]
        yield Node(node.op, node.name, node.attributes, inputs, readers[tracing.Ref(number)])


def _initialize_deferred(net, input_shape):
    """Parameters whose shape the first image decides get it here."""
    if not any(parameter._deferred_init for parameter in net.collect_params().values()):
        return
    try:
        with mx.autograd.pause():
            net(mx.nd.zeros((1, *input_shape))).wait_to_read()
    except (ValueError, mx.MXNetError) as error:
        raise UserError(f"{_title(net)} does not take images of {input_shape}: {tracing.first_line(error)}") \
            from None


def _array(parameter):
    try:
        array = parameter.data(parameter.list_ctx()[0]).asnumpy().astype(np.float32)
    except RuntimeError:
        raise UserError(f"parameter {parameter.name} has no value; call initialize() or load_parameters() "
                        "first") from None
    if not np.isfinite(array).all():
        raise UserError(f"parameter {parameter.name} is not finite everywhere; the network has diverged")
    return array


def _title(net):
    return net.name or type(net).__name__
