"""Which operators of a graph do nothing but put channels into another fixed order, however that is written.

A permutation may be a reshape, a swap of axes and a reshape back, `take` with constant indices, parts that are put
together again. It is found by trying: the operators move an array that holds the number of each of its values.
"""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Set

import mxnet as mx
import numpy as np
from mxnet import autograd

from igc_gluon.graph.tracing import Graph, Node, Ref, Value

PERMUTE = "permute"  # as an operator's name; attributes: {"index": channel read by each output channel}
_MOVES = set(
    "Reshape SwapAxis transpose take SliceChannel slice_axis slice Concat reverse stack expand_dims squeeze "
    "_copy".split()
)
_IS_COUNTED = ("num_args",)  # attributes that MXNet sets by itself


class Contracted(NamedTuple):
    """The nodes of a graph by number, of a permutation only its last, as PERMUTE of what the first one reads.

    inner: {number of a permutation: numbers of the nodes before it that it stands for}. constants: {name of a
    parameter: the values by which permutations are known}.
    """

    nodes: Dict[int, Node]
    inner: Dict[int, Set[int]]
    constants: Dict[str, np.ndarray]


class _Moved(NamedTuple):
    """A value that is only another value's numbers, moved. numbers: where in it they were, in an image by itself; None
    when nothing will read them any more."""

    source: Value
    numbers: Any  # NDArray
    nodes: Set[int]
    constants: Set[str]


def contracted(graph: Graph, shapes: Dict[Value, tuple]) -> Contracted:
    """shapes: of the values (Graph.shapes)."""
    moved: Dict[Value, _Moved] = {}
    orders: Dict[int, Optional[np.ndarray]] = {}
    values: Dict[str, np.ndarray] = {}
    last_reader = {value: n for n, node in enumerate(graph.nodes) if node.op in _MOVES for value in node.inputs}
    for number, node in enumerate(graph.nodes):
        if node.op not in _MOVES:
            continue
        made = _moves(graph, shapes, moved, values, number, node)
        if len(made) == 1:
            orders[number] = _order(made[0].numbers.asnumpy(), shapes[made[0].source][1:])
        moved.update((Ref(number, output), one) for output, one in enumerate(made))
        # Each is as large as the map: those of a whole network at once would be many times what it takes itself.
        for value in (*node.inputs, *(Ref(number, output) for output in range(len(made)))):
            if value in moved and last_reader.get(value, -1) <= number:
                moved[value] = moved[value]._replace(numbers=None)
    nodes, inner, constants = {}, {}, {}
    waiting: List[Value] = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) or value.node in nodes:
            continue
        number, node = value.node, graph.nodes[value.node]
        if orders.get(number) is not None:
            one = moved[value]
            node = node._replace(op=PERMUTE, attributes={"index": orders[number]}, inputs=(one.source,))
            inner[number] = one.nodes - {number}
            constants.update({name: values[name] for name in one.constants})
        nodes[number] = node
        waiting += node.inputs
    return Contracted(dict(sorted(nodes.items())), inner, constants)


def _moves(
    graph: Graph,
    shapes: Mapping[Value, tuple],
    moved: Mapping[Value, _Moved],
    values: Dict[str, np.ndarray],
    number: int,
    node: Node,
) -> Sequence[_Moved]:
    """[_Moved] of the outputs of a node, or () if it does something else."""
    inputs = node.inputs
    read: List[Any] = list(inputs)
    constants: List[str] = []
    if node.op == "take":
        constant = inputs[1] if isinstance(inputs[1], str) else ""
        parameter = graph.parameters.get(constant)
        if parameter is None or parameter.grad_req != "null" or parameter._data is None:
            return ()
        values.setdefault(constant, parameter.data(parameter.list_ctx()[0]).asnumpy())
        read, constants = [inputs[0]], [constant]
    source = moved[read[0]].source if read[0] in moved else read[0]
    shape = shapes.get(source, ())
    if len(shape) != 4 or 0 in shape or any((moved[v].source if v in moved else v) != source for v in read):
        return ()
    before = [moved[v] for v in read if v in moved]
    arrays = [moved[v].numbers if v in moved else _numbers(shape[1:]) for v in read]
    options = {key: value for key, value in node.attributes.items() if key not in _IS_COUNTED}
    operator = getattr(mx.nd._internal if node.op.startswith("_") else mx.nd, node.op)
    try:
        with autograd.pause():
            made = operator(*arrays, *(mx.nd.array(values[name]) for name in constants), **options)
            made = list(made) if isinstance(made, (list, tuple)) else [made]
            for one in made:
                one.wait_to_read()
    except (mx.MXNetError, TypeError, ValueError):
        return ()
    if any(one.shape[1:] != shapes.get(Ref(number, output), ())[1:] for output, one in enumerate(made)):
        return ()  # it depends on the batch
    nodes: Set[int] = set().union({number}, *(one.nodes for one in before))
    names: Set[str] = set().union(constants, *(one.constants for one in before))
    return [_Moved(source, one, nodes, names) for one in made]


def _numbers(shape: Sequence[int]) -> Any:
    count = int(np.prod(shape))
    return mx.nd.arange(count, dtype=np.float32 if count <= 1 << 24 else np.float64).reshape((1, *shape))


def _order(numbers: np.ndarray, shape: Sequence[int]) -> Optional[np.ndarray]:
    """The index of a permutation of whole channels, or None. shape: of the image that the numbers are of."""
    if numbers.shape != (1, *shape):
        return None
    pixels = np.arange(shape[1] * shape[2]).reshape(shape[1:])
    index = numbers[0, :, 0, 0].astype(np.int64) // pixels.size
    if sorted(index) != list(range(shape[0])):
        return None
    moved = all((image == read * pixels.size + pixels).all() for image, read in zip(numbers[0], index))
    return index if moved else None
