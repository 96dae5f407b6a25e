"""The stock graph of a Gluon network: MXNet's operators in order, parameters as numpy arrays."""
import ast
import json
from typing import Dict, List, NamedTuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon.errors import UserError

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
        symbol = net(mx.sym.var(DATA))
    except (TypeError, ValueError, AttributeError, mx.MXNetError) as error:
        raise UserError(f"{_title(net)} cannot be traced with one input: {_first_line(error)}") from None
    if not isinstance(symbol, mx.sym.Symbol) or len(symbol.list_outputs()) != 1:
        raise UserError(f"{_title(net)} has more than one output; compile a block with one")
    graph = json.loads(symbol.tojson())
    arrays = {name: _array(parameter) for name, parameter in net.collect_params().items()}
    return list(_nodes(graph["nodes"], graph["heads"], arrays))


def _nodes(entries, heads, arrays):
    readers = [0] * len(entries)
    for source, output, *_ in [i for entry in entries for i in entry["inputs"]] + heads:
        readers[source] += 1
        if output != 0:
            raise UserError(f"operator {entries[source]['op']} ({entries[source]['name']}) has more than one "
                            "result, which native inference does not know")
    number, values = 0, []  # of each entry what its readers see
    for entry, count in zip(entries, readers):
        if entry["op"] == "null":
            if entry["name"] != DATA and entry["name"] not in arrays:
                raise UserError(f"the network has a second input, {entry['name']}; compile a block with one")
            values.append(DATA if entry["name"] == DATA else arrays[entry["name"]])
            continue
        attributes = {key: _literal(text) for key, text in entry.get("attrs", {}).items()}
        yield Node(entry["op"], entry["name"], attributes, [values[i[0]] for i in entry["inputs"]], count)
        values.append(number)
        number += 1


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word, relu for example
        return text


def _initialize_deferred(net, input_shape):
    """Parameters whose shape the first image decides get it here."""
    if not any(parameter._deferred_init for parameter in net.collect_params().values()):
        return
    try:
        with mx.autograd.pause():
            net(mx.nd.zeros((1, *input_shape))).wait_to_read()
    except (ValueError, mx.MXNetError) as error:
        raise UserError(f"{_title(net)} does not take images of {input_shape}: {_first_line(error)}") \
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


def _first_line(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # MXNet's first line may be only where in its sources the error came from.
    return next((line for line in lines if not line.startswith(("Traceback", "["))), type(error).__name__)
