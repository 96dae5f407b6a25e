"""Finds the parts of a graph that the training kernels compute: each is a list of ops (native.library.Op).

A segment reads one value and makes one; what lies in it is read nowhere else. What has no kernel stays between
segments.
"""

from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

import numpy as np

from igc_gluon.channels import branches_of, dense_weight, permutation_indices
from igc_gluon.errors import UserError
from igc_gluon.graph.permutations import PERMUTE, Contracted, contracted
from igc_gluon.graph.tracing import Graph, Node, Ref, Value
from igc_gluon.native import training
from igc_gluon.native.library import CONV, MAX_POOL, MEAN_POOL, Op


class Parameter(NamedTuple):
    """A variable that layers read. branches above 1: that many equal parts of it are added up. index: of the shape of
    the array that the layer gets, for each number where in the variable, flat, it is; -1: it is 0."""

    name: str
    branches: int = 1
    index: Optional[np.ndarray] = None  # type: ignore[assignment]  # hides tuple.index


class Segment(NamedTuple):
    """Nodes that become one native operator.

    source: the value read. end: the one made. parameters: of the ops, in the order of igc_train.h. running: names
    of moving means and variances. form: "maps", "flat" ((batch, channels), of means) or "means" (with two axes of 1).
    shape: of the value made, without the batch.
    """

    nodes: Set[int]
    source: Value
    end: Ref
    ops: List[Op]
    parameters: List[Parameter]
    running: List[str]
    form: str
    shape: tuple


class NotNative(Exception):
    """One line why an operator, a network or a call is left to MXNet's operators."""


def require(condition: object, reason: str) -> None:
    if not condition:
        raise NotNative(reason)


def find(
    graph: Graph, shapes: Dict[Value, tuple], short: Optional[Contracted] = None
) -> Tuple[List[Segment], Dict[int, str]]:
    """([Segment], {number of a node outside them: one line why}) for values of these shapes (Graph.shapes). short:
    contracted(graph, shapes), if it is known."""
    short = contracted(graph, shapes) if short is None else short
    facts = _Facts(graph, shapes, short)
    segments: List[Segment] = []
    reasons: Dict[int, str] = {}
    taken: Set[int] = set()
    for number, node in short.nodes.items():
        if number in taken:
            continue
        try:
            require(node.op == "Convolution", f"operator {node.op} has no native kernel here")
            segment = _segment(facts, number, taken)
        except NotNative as error:
            reasons[number] = str(error)
        else:
            segments.append(segment)
            taken |= segment.nodes
    others: Set[int] = set().union(*(inner for number, inner in short.inner.items() if number not in taken))
    return [
        segment._replace(nodes=set().union(segment.nodes, *(short.inner.get(n, ()) for n in segment.nodes)) - others)
        for segment in segments
    ], reasons


def _segment(facts: "_Facts", first: int, taken: Set[int]) -> Segment:
    """The longest Segment that begins with the convolution `first` and has no nodes of `taken`. Raises NotNative."""
    reader = _SegmentBuilder(facts, facts.nodes[first].inputs[0])
    reason, ends = "a convolution without a normalization behind it has no native kernel", []
    for number in facts.nodes:
        if number < first or number in taken or not (number == first or reader.reads(number)):
            continue
        if number != first and reader.ends():
            ends.append(reader.segment())
        try:
            reader.add(number)
        except NotNative as error:
            reason = str(error)
            break
    else:
        if reader.ends():
            ends.append(reader.segment())
    for segment in reversed(ends):
        try:
            training.check(segment.ops, facts.shapes[segment.source][1:])
            return segment
        except UserError as error:
            reason = str(error)
    raise NotNative(reason)


class _Facts:
    def __init__(self, graph: Graph, shapes: Dict[Value, tuple], short: Contracted) -> None:
        self.nodes, self.shapes = short.nodes, shapes
        self.data = graph.data
        self.readers = Counter([value for node in short.nodes.values() for value in node.inputs] + graph.outputs)
        running = Counter(name for node in short.nodes.values() if node.op == "BatchNorm" for name in node.inputs[3:])
        self.running = {name for name, times in running.items() if times == self.readers[name] == 1}


class _SegmentBuilder:
    """Adds nodes to a segment one after the other, in an order of execution."""

    def __init__(self, facts: _Facts, source: Value) -> None:
        shape = facts.shapes.get(source)
        require(shape is not None and len(shape) == 4 and 0 not in shape, "the data is not a batch of images")
        self._facts, self._source = facts, source
        self._ops: List[Op] = []
        self._parameters: List[Parameter] = []
        self._running: List[str] = []
        self._open: Any = None  # an Op that may still get something behind it
        self._values = {source: 0}  # values of the graph that layers have made, by their number
        self._nodes: Set[int] = set()
        self._left: Counter = Counter()  # how many reads of each value inside are still to come
        self.last: Any = None  # a Ref, what the open or last layer makes
        self._cut: Any = None  # within a sum of branches: how many
        # Of the last value, and of earlier ones, in which order it has the channels that layers make, if in another.
        self._order: Any = None
        self._orders: Dict[Any, Any] = {}
        self.form = "maps"

    def reads(self, number: int) -> bool:
        """Whether a node belongs to the values of this segment: it reads one, or it convolves the source."""
        node = self._facts.nodes[number]
        inside = any(value in self._left for value in node.inputs)
        return inside or (node.op == "Convolution" and node.inputs[0] == self._source and self._can_close())

    def ends(self) -> bool:
        """Whether the last value is all that anyone outside reads."""
        return self._can_close() and all(value == self.last or not left for value, left in self._left.items())

    def segment(self) -> Segment:
        ops = self._ops + ([self._open] if self._open is not None else [])
        return Segment(
            set(self._nodes),
            self._source,
            self.last,
            ops,
            list(self._parameters),
            list(self._running),
            self.form,
            self._facts.shapes[self.last][1:],
        )

    def add(self, number: int) -> None:
        node = self._facts.nodes[number]
        method: Any = _METHODS.get(node.op) if self.form == "maps" else None
        if self.form == "means" and node.op == "Flatten" and self._alone(node.inputs[0]):
            method = _SegmentBuilder._flatten
        require(method is not None, f"operator {node.op} has no native kernel here")
        method(self, node, *node.inputs)
        self._nodes.add(number)
        for value in node.inputs:
            if value in self._left:
                self._left[value] -= 1
        self.last = Ref(number)
        self._left[self.last] = self._facts.readers[self.last]
        if self._open is None and self._ops:
            self._made()

    # One method for each operator: (node, *what it reads)

    def _convolution(self, node: Node, value: Value, weight: str, bias: Optional[str] = None) -> None:
        a = node.attributes
        kernel, stride = a["kernel"], a.get("stride") or (1, 1)
        require(
            bias is None
            and a.get("layout", "NCHW") in ("NCHW", "None", None)
            and len(kernel) == 2
            and len(set(kernel)) == 1
            and kernel[0] % 2 == 1
            and (a.get("pad") or (0, 0)) == (kernel[0] // 2,) * 2
            and (a.get("dilate") or (1, 1)) == (1, 1)
            and tuple(stride) in ((1, 1), (2, 2)),
            "a convolution of this form has no native kernel",
        )
        require(self._cut is None, "a convolution here has no native kernel")
        if self._open is not None and not self._open.normalized:
            require(
                value == self.last and self._alone(value) and kernel[0] == stride[0] == 1,
                "a spatial convolution behind another one without a normalization between them has no native kernel",
            )
            self._ops.append(self._open)
            read, order = len(self._ops), self._order
        else:
            self._close()
            require(value in self._values, "a convolution of this value has no native kernel")
            read, order = self._values[value], self._orders.get(value)
        self._open = Op(CONV, read, a["num_filter"], a.get("num_group", 1), kernel, stride[0], a.get("pad") or (0, 0))
        self._parameter(weight)
        self._order = None
        if order is not None:  # the weights of channel i of the value are those of channel order[i] of the layer
            index = self._dense()
            self._weight(np.take(index, np.argsort(order), axis=1))

    def _normalization(self, node: Node, value: Value, gamma: str, beta: str, mean: str, variance: str) -> None:
        a = node.attributes
        require(
            a.get("axis", 1) == 1
            and not a.get("fix_gamma", True)
            and not a.get("use_global_stats", False)
            and not a.get("output_mean_var", False),
            "BatchNorm with other options than epsilon and momentum has no native kernel",
        )
        require(
            self._is_open(value) and not self._open.normalized,
            "a normalization that does not follow a convolution has no native kernel",
        )
        require({mean, variance} <= self._facts.running, "a normalization that is used twice has no native kernel")
        if self._order is not None:
            self._weight(self._dense()[self._order])
            self._order = None
        self._open = self._open._replace(normalized=True, epsilon=a.get("eps", 1e-3), momentum=a.get("momentum", 0.9))
        for name in (gamma, beta):
            self._parameter(name)
        self._running += [mean, variance]

    def _activation(self, node: Node, value: Value) -> None:
        kind = "relu6" if node.op == "clip" else node.attributes.get("act_type", "relu")
        require(
            kind == "relu" or (node.op == "clip" and (node.attributes["a_min"], node.attributes["a_max"]) == (0, 6)),
            "another activation than ReLU has no native kernel",
        )
        require(
            self._is_open(value)
            and self._open.normalized
            and self._open.activation is None
            and (self._open.residual < 0 or kind == "relu"),
            "an activation that does not follow a normalization has no native kernel",
        )
        self._open = self._open._replace(activation=kind)

    def _sum(self, node: Node, a: Value, b: Value) -> None:
        other = b if self._is_open(a) else a
        require(
            self._is_open(a) != self._is_open(b)
            and self._open.normalized
            and self._open.activation is None
            and self._open.residual < 0,
            "a sum that does not follow a normalization has no native kernel",
        )
        require(self._values.get(other, 0) > 0, "a sum with this value has no native kernel")
        require(
            self._order is None and self._orders.get(other) is None,
            "a sum of channels in an order that is no interleaving has no native kernel",
        )
        require(self._facts.shapes[a] == self._facts.shapes[b], "a sum of different shapes has no native kernel")
        self._open = self._open._replace(residual=self._values[other])

    def _pooling(self, node: Node, value: Value) -> None:
        a = node.attributes
        kind = a.get("pool_type", "max")
        require(
            a.get("layout", "NCHW") in ("NCHW", "None", None) and self._cut is None,
            "pooling of this form has no native kernel",
        )
        self._close()
        if kind == "avg" and a.get("global_pool", False):
            require(value == self.last and self._orders.get(value) is None, "a mean of this value has no native kernel")
            self.form = "means"
            self._ops.append(Op(MEAN_POOL, len(self._ops), self._ops[-1].channels))
            return
        kernel, stride = a["kernel"], a.get("stride") or (1, 1)
        require(
            kind == "max"
            and not a.get("global_pool", False)
            and self._values.get(value, 0) > 0
            and len(set(kernel)) == 1
            and kernel[0] % 2 == 1
            and (a.get("pad") or (0, 0)) == (kernel[0] // 2,) * 2
            and tuple(stride) in ((1, 1), (2, 2))
            and a.get("pooling_convention", "valid") == "valid",
            "pooling of this form has no native kernel",
        )
        self._order = self._orders.get(value)
        read = self._values[value]
        self._ops.append(Op(MAX_POOL, read, self._ops[read - 1].channels, 1, kernel, stride[0], a["pad"]))

    def _permutation(self, node: Node, value: Value) -> None:
        require(self._is_open(value) and self._open.residual < 0, "a permutation here has no native kernel")
        index = node.attributes["index"]
        branches = branches_of(index) if self._order is None else None
        field = "reorder" if self._open.normalized else "permute"
        if branches in (1, self._open.channels):
            return
        if branches is not None and getattr(self._open, field) == 1:
            self._open = self._open._replace(**{field: branches})
        else:  # the weights of the next convolution, or of this one, are put into that order
            before = (
                permutation_indices(self._open.channels, getattr(self._open, field))
                if self._order is None
                else self._order
            )
            self._open = self._open if self._order is not None else self._open._replace(**{field: 1})
            self._order = before[index]

    def _dense(self) -> np.ndarray:
        """The index of the open convolution's weights, which becomes one over all channels."""
        layer, (name, branches, index) = self._open, self._parameters[-1]
        require(
            branches == 1 and layer.permute == 1 and (layer.groups == 1 or layer.kernel == (1, 1)),
            "channels in an order that is no interleaving, before a spatial group convolution, have no native kernel",
        )
        if index is None:
            shape = self._facts.shapes[name]
            index = np.arange(int(np.prod(shape))).reshape(shape)
        self._open = layer._replace(groups=1)
        return dense_weight(index, layer.groups, -1)

    def _weight(self, index: Optional[np.ndarray]) -> None:
        self._parameters[-1] = self._parameters[-1]._replace(index=index)

    # The sum over branches, Reshape (0, -4, branches, -1, -2) and sum.

    def _reshape(self, node: Node, value: Value) -> None:
        shape = node.attributes["shape"]
        require(
            self._is_open(value)
            and self._order is None
            and self._open.residual < 0
            and len(shape) == 5
            and not node.attributes.get("reverse", False)
            and shape[:2] == (0, -4)
            and shape[3:] == (-1, -2)
            and shape[2] > 0
            and len(self._facts.shapes[value]) == 4,
            "a reshape here has no native kernel",
        )
        self._cut = shape[2]

    def _sum_of_branches(self, node: Node, value: Value) -> None:
        a = node.attributes
        axis = a.get("axis")
        axis = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
        require(
            self._cut is not None
            and self._alone(value)
            and axis == 1
            and not a.get("keepdims", False)
            and not a.get("exclude", False)
            and not self._open.normalized
            and self._open.permute == self._open.groups == self._parameters[-1].branches == 1
            and self._parameters[-1].index is None,
            "a sum over axes has no native kernel here",
        )
        branches, self._cut = self._cut, None
        self._open = self._open._replace(channels=self._open.channels // branches)
        self._parameters[-1] = self._parameters[-1]._replace(branches=branches)

    def _flatten(self, node: Node, value: Value) -> None:
        self.form = "flat"

    def _parameter(self, name: str) -> None:
        require(isinstance(name, str) and name not in self._facts.data, "computed parameters have no native kernel")
        self._parameters.append(Parameter(name))

    def _alone(self, value: Value) -> bool:
        """Whether `value` is the last one and has one reader, so that it need not exist."""
        return value == self.last and self._facts.readers[value] == 1

    def _is_open(self, value: Value) -> bool:
        return self._open is not None and self._cut is None and self._alone(value)

    def _can_close(self) -> bool:
        return (
            self._cut is None
            and self._order is None
            and self._orders.get(self.last) is None
            and (self._open.normalized if self._open is not None else bool(self._ops))
        )

    def _close(self) -> None:
        if self._open is not None:
            require(self._open.normalized, "a convolution without a normalization behind it has no native kernel")
            self._ops.append(self._open)
            self._open = None
            self._made()

    def _made(self) -> Any:
        self._values[self.last], self._orders[self.last], self._order = len(self._ops), self._order, None


_METHODS = {
    "Convolution": _SegmentBuilder._convolution,
    "BatchNorm": _SegmentBuilder._normalization,
    "Activation": _SegmentBuilder._activation,
    "relu": _SegmentBuilder._activation,
    "clip": _SegmentBuilder._activation,
    "elemwise_add": _SegmentBuilder._sum,
    "broadcast_add": _SegmentBuilder._sum,
    "Pooling": _SegmentBuilder._pooling,
    "Reshape": _SegmentBuilder._reshape,
    PERMUTE: _SegmentBuilder._permutation,
    "sum": _SegmentBuilder._sum_of_branches,
}
