"""A graph with its segments as native operators, as one CachedOp of MXNet's: what a call runs."""

import json
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np
from mxnet.ndarray import CachedOp

from igc_gluon.graph.segments import Segment
from igc_gluon.graph.tracing import Graph, Node, Value
from igc_gluon.native.library import text
from igc_gluon.native.operators import Inference

OPERATORS = {True: "igc_body_train", False: "igc_body_infer"}


class Program:
    """Called with the arrays of the graph's parameters and with its inputs, both in order, and with the context of all
    of them, it gives the list of its outputs. A list of parameters that it is called with again has not changed.

    segments: of segments.find. training: whether with batch statistics. wanted: of each input whether its gradient
    is. apart: names of variables that get an identity before native operators: MXNet does not tell an operator of this
    kind to add to a gradient; to an identity it does. owner: native.operators.Owner. flags: of MXNet's CachedOp.
    """

    def __init__(
        self,
        graph: Graph,
        segments: Sequence[Segment],
        owner: Any,
        training: bool = False,
        wanted: Sequence[bool] = (),
        apart: Iterable[str] = (),
        flags: Iterable[Tuple[str, Any]] = (),
    ) -> None:
        self.operators = [OPERATORS[training]] * len(segments)
        writer = _Writer(graph, segments, owner, training, wanted, apart)
        symbol = mx.sym.load_json(json.dumps(writer.written()))
        number = {name: i for i, name in enumerate([*graph.parameters, *graph.data, *writer.constants])}
        self._constants = {None: list(writer.constants.values())}  # on each context
        names = symbol.list_inputs()
        self._read = [number[name] for name in names]
        places: Dict[bool, List[int]] = {True: [], False: []}
        for place, name in enumerate(names):
            places[name in graph.data].append(place)
        self._op = CachedOp(symbol, [("data_indices", places[True]), ("param_indices", places[False]), *flags])

    def __call__(self, parameters: List[Any], inputs: Sequence[Any], context: Any) -> List[Any]:
        if context not in self._constants:
            self._constants[context] = [mx.nd.array(array, context, array.dtype) for array in self._constants[None]]
        arrays = [*parameters, *inputs, *self._constants[context]]
        made = self._op(*[arrays[place] for place in self._read])
        return [made] if isinstance(made, mx.nd.NDArray) else made


class AtOnce(Program):
    """A Program of inference that is done when a call returns, in the caller's thread. For a single image of one size,
    with which MXNet's engine is longer busy than with small networks."""

    @classmethod
    def of(
        cls, graph: Graph, segments: Sequence[Segment], owner: Any, shapes: Sequence[Tuple[int, ...]]
    ) -> Optional["AtOnce"]:
        """For inputs of these shapes. None unless all of `graph` is one segment and, perhaps, a fully connected layer
        of its means."""
        if len(segments) != 1 or any(p.branches > 1 or p.index is not None for p in segments[0].parameters):
            return None
        (segment,) = segments
        rest = [node for number, node in enumerate(graph.nodes) if number not in segment.nodes]
        is_dense = (
            [node.op for node in rest] == ["FullyConnected"]
            and rest[0].inputs[0] == segment.end
            and segment.form != "maps"
            and all(value in graph.parameters for value in rest[0].inputs[1:])
        )
        fits = segment.source in graph.data and (is_dense or not rest) and len(graph.outputs) == 1
        return cls(graph, segment, owner, rest[0] if is_dense else None, shapes) if fits else None

    def __init__(
        self, graph: Graph, segment: Segment, owner: Any, classifier: Optional[Node], shapes: Sequence[Tuple[int, ...]]
    ) -> None:
        self.operators, self._parameters = [OPERATORS[False]], [None]  # of no call
        names = [
            *(p.name for p in segment.parameters),
            *segment.running,
            *(classifier.inputs[1:] if classifier else ()),
        ]
        number = {name: i for i, name in enumerate(graph.parameters)}
        self._read, self._source = [number[name] for name in names], graph.data.index(str(segment.source))
        scores = classifier.attributes["num_hidden"] if classifier else 0
        image = shapes[self._source]
        self._shape = (image[0], *((scores,) if classifier else segment.shape))
        self._run = Inference(
            owner.name(segment.end.node),
            text(segment.ops),
            scores,
            classifier is not None and len(classifier.inputs) > 2,
            image,
        )

    def __call__(self, parameters: List[Any], inputs: Sequence[Any], context: Any) -> List[Any]:
        if parameters is not self._parameters:
            self._run.read([parameters[number] for number in self._read])
            self._parameters = parameters
        made = mx.nd.empty(self._shape, ctx=context)
        self._run(inputs[self._source], made)
        return [made]


class _Writer:
    """MXNet's JSON of `graph` with native operators in place of `segments`."""

    def __init__(
        self,
        graph: Graph,
        segments: Sequence[Segment],
        owner: Any,
        training: bool,
        wanted: Sequence[bool],
        apart: Iterable[str],
    ) -> None:
        self._graph, self._owner, self._training = graph, owner, training
        self.constants: Dict[str, np.ndarray] = {}  # {name of a variable: numpy array}
        self._unwanted = {name for name, flag in zip(graph.data, wanted) if not flag}
        readers = graph.readers()
        # Of a value that many read MXNet may also add up gradients in place.
        self._apart: Set[Any] = set(apart) | {value for value, times in readers.items() if times > 1}
        self._entries: List[Dict[str, Any]] = []
        self._places: Dict[Any, Any] = {}  # of each value (entry, output)
        inside = {number for segment in segments for number in segment.nodes}
        ends = {segment.end.node: segment for segment in segments}
        numbers = {node.entry: number for number, node in enumerate(graph.nodes)}
        for place, entry in enumerate(graph.entries):
            number = numbers.get(place)
            if number in ends:
                self._native(ends[number])
            elif number is None:
                self._places[entry["name"]] = self._add(entry)
            elif number not in inside:
                inputs = [[*self._place((number, i)), old[2]] for i, old in enumerate(entry["inputs"])]
                self._kept(number, self._add({**entry, "inputs": inputs}))

    def written(self) -> Dict[str, Any]:
        heads = [[*self._at(value), 0] for value in self._graph.outputs]
        variables = [place for place, entry in enumerate(self._entries) if entry["op"] == "null"]
        return {
            "nodes": self._entries,
            "arg_nodes": variables,
            "heads": heads,
            "attrs": {"mxnet_version": ["int", 10901]},
        }

    def _kept(self, number: int, place: int) -> None:
        self._places[number] = place

    def _place(self, read: Tuple[int, int]) -> List[int]:
        number, i = read
        return self._at(self._graph.nodes[number].inputs[i])

    def _at(self, value: Value) -> List[int]:
        """[entry, output] that holds a value now."""
        if isinstance(value, str):
            return [self._places[value], 0]
        return [self._places[value.node], value.output]

    def _add(self, entry: Dict[str, Any]) -> int:
        self._entries.append(entry)
        return len(self._entries) - 1

    def _operator(self, op: str, inputs: Sequence[List[int]], **attributes: str) -> int:
        return self._add(
            {"op": op, "name": f"igc{len(self._entries)}", "attrs": attributes, "inputs": [[*i, 0] for i in inputs]}
        )

    def _native(self, segment: Segment) -> None:
        inputs = [self._read(segment.source)]
        for name, branches, index in segment.parameters:
            place = self._read(name)
            if index is not None:
                place = self._gathered(place, index)
            if branches > 1:
                cut = self._operator("Reshape", [place], shape=f"(-4, {branches}, -1, -2)")
                place = [self._operator("sum", [[cut, 0]], axis="0"), 0]
            inputs.append(place)
        inputs += [self._at(name) for name in segment.running]
        options = {"data_gradient": str(int(segment.source not in self._unwanted))} if self._training else {}
        made = self._operator(
            OPERATORS[self._training],
            inputs,
            owner=self._owner.name(segment.end.node),
            ops=text(segment.ops),
            **options,
        )
        if segment.form == "means":
            made = self._operator("Reshape", [[made, 0]], shape="(0, 0, 1, 1)")
        if not self._training:
            made = self._operator("BlockGrad", [[made, 0]])  # a CachedOp asks for a gradient; this operator has none
        self._kept(segment.end.node, made)

    def _gathered(self, place: List[int], index: np.ndarray) -> List[int]:
        """The numbers of an array at `index`, flat, 0 at -1."""
        variable = f"igc_index{len(self.constants)}"
        flat = self._operator("Reshape", [place], shape="(-1,)")
        zero = self._operator("_zeros", [], shape="(1,)", dtype="float32")
        padded = self._operator("Concat", [[flat, 0], [zero, 0]], dim="0", num_args="2")
        self.constants[variable] = np.where(index < 0, index.max() + 1, index).astype(np.int32)
        number = self._add({"op": "null", "name": variable, "inputs": []})
        return [self._operator("take", [[padded, 0], [number, 0]], axis="0", mode="clip"), 0]

    def _read(self, value: Value) -> List[int]:
        place = self._at(value)
        if not self._training or value not in self._apart:
            return place
        return [self._operator("_copy", [place]), 0]
