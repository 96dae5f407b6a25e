"""The graph of MXNet's operators that a block's `hybrid_forward` makes, with parameters by name.

Everything that is made of a network starts here: the native parts of training and inference (segments.py), compiled
networks (igc_gluon.deploy), multiply-adds (igc_gluon.complexity), what peers are given (igc_gluon.bench).
"""

import ast
import json
import re
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import HybridBlock, Parameter
from mxnet.gluon.block import _flatten


class Ref(NamedTuple):
    """Output `output` of node number `node`."""

    node: int
    output: int = 0


Value = Union[Ref, str]  # what an operator made, or a variable's name


class Node(NamedTuple):
    """An operator: MXNet's name of it, its own name, attributes, the values it reads, its place among
    `Graph.entries`."""

    op: str
    name: str
    attributes: Dict[str, Any]
    inputs: Tuple[Any, ...]  # of Value
    entry: int


class Graph(NamedTuple):
    """`nodes` are in an order of execution.

    data: names of the inputs. outputs: the values that the block gives, flat, and `format` how they are nested (of
    MXNet's `_flatten`). parameters: those that are read, by name. entries: the nodes of MXNet's JSON, variables
    included, whose numbers are `Node.entry`; symbol: the same as MXNet holds it.
    """

    nodes: List[Node]
    data: Tuple[str, ...]
    outputs: List[Value]
    format: object
    parameters: Dict[str, Parameter]
    entries: List[dict]
    symbol: mx.sym.Symbol

    def readers(self) -> "Counter[Value]":
        """How often each value is read, as an output too."""
        return Counter([value for node in self.nodes for value in node.inputs] + self.outputs)

    def shapes(self, data: Sequence[Sequence[int]]) -> Dict[Value, tuple]:
        """{value: its shape} of all that can be known. data: the shape of each input, with the batch.

        Raises MXNetError where they do not fit, ValueError where some cannot be known.
        """
        internals = self.symbol.get_internals()
        names = internals.list_outputs()
        _, inferred, _ = internals.infer_shape(**dict(zip(self.data, data)))
        if inferred is None:
            raise ValueError("the sizes of some values cannot be known")
        shapes, at, numbers = {}, 0, {node.entry: number for number, node in enumerate(self.nodes)}
        for number, entry in enumerate(self.entries):
            if entry["op"] == "null":
                shapes[entry["name"]] = inferred[at]
                at += 1
                continue
            output = 0
            while output == 0 or (
                at < len(names)
                and names[at].startswith(entry["name"])
                and _FURTHER_OUTPUT.fullmatch(names[at][len(entry["name"]) :])
            ):
                shapes[Ref(numbers[number], output)] = inferred[at]
                output, at = output + 1, at + 1
        if at != len(names):
            raise ValueError("an operator has outputs of other names than MXNet usually gives")
        return shapes


_FURTHER_OUTPUT = re.compile("_output[1-9][0-9]*|_mean|_var")


def trace(block: HybridBlock, count: int = 1, call: Optional[Callable[..., Any]] = None) -> Graph:
    """The Graph of the HybridBlock `block` called with `count` arrays. call: what is called in place of `block`.

    What it has been hybridized to before is not asked. Raises whatever its code raises on Symbols, ValueError where two
    variables have one name or one is neither an input nor a parameter of `block`.
    """
    names = ("data",) if count == 1 else tuple(f"data{i}" for i in range(count))
    outputs, form = _flatten((call or block)(*map(mx.sym.var, names)), "output")
    return read(mx.sym.Group(outputs), names, form, parameters_of(block))


def read(symbol: Any, data: Sequence[str], form: Any, parameters: Dict[str, Any]) -> Graph:
    """The Graph of a Symbol with inputs of these names. parameters: {name: Parameter}, more than are read perhaps."""
    text, had_casts = _without_casts(symbol)
    if had_casts:
        symbol = mx.sym.load_json(text)  # whose values are those of the nodes
    graph = json.loads(text)
    nodes: List[Node] = []
    values: List[Any] = []  # of each entry the node's number, or the variable's name
    variables = Counter(entry["name"] for entry in graph["nodes"] if entry["op"] == "null")
    for name, times in variables.items():
        if times > 1:
            raise ValueError(f"two variables have the name {name}")
        if name not in data and name not in parameters:
            raise ValueError(f"{name} is neither an input nor a parameter")
    for number, entry in enumerate(graph["nodes"]):
        if entry["op"] == "null":
            values.append(entry["name"])
            continue
        values.append(len(nodes))
        attributes = {key: _literal(text) for key, text in entry.get("attrs", {}).items()}
        inputs = tuple(_value(values, i) for i in entry["inputs"])
        nodes.append(Node(entry["op"], entry["name"], attributes, inputs, number))
    return Graph(
        nodes,
        tuple(data),
        [_value(values, head) for head in graph["heads"]],
        form,
        {name: parameters[name] for name in variables if name not in data},
        graph["nodes"],
        symbol,
    )


def json_of(symbol: Any) -> str:
    """MXNet's JSON of a Symbol, without the casts of automatic mixed precision."""
    return _without_casts(symbol)[0]


def _without_casts(symbol: Any) -> Tuple[str, bool]:
    """(`json_of` the Symbol, whether it had casts)

    By default MXNet's tojson() takes these out of a copy that it never frees, 2 KB for each operator: where there are
    none it is not asked to.
    """
    text = symbol.tojson(remove_amp_cast=False)
    had_casts = '"op": "amp_' in text
    return symbol.tojson() if had_casts else text, had_casts


def _value(values: Sequence[Any], reference: Sequence[int]) -> Value:
    value = values[reference[0]]
    return value if isinstance(value, str) else Ref(value, reference[1])


def parameters_of(block: HybridBlock) -> Dict[str, Any]:
    """{name: Parameter} of a block. Raises ValueError where two have one name."""
    try:
        return dict(block.collect_params().items())
    except AssertionError:  # of ParameterDict.update
        raise ValueError("two parameters have the same name") from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word, relu for example
        return text


def first_line(error: BaseException) -> str:
    """What MXNet, or a user's code, says in an error, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # MXNet's first line may be only where in its sources the error came from.
    return next((line for line in lines if not line.startswith(("Traceback", "["))), type(error).__name__)
