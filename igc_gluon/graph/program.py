"""A graph with its segments as native operators, as one CachedOp of MXNet's: what a call runs."""
import json

import mxnet as mx
from mxnet.ndarray import CachedOp

OPERATORS = {True: "igc_body_train", False: "igc_body_infer"}


class Program:
    """`names` are those of the arrays that it is called with, in order; it gives the list of the graph's outputs.

    segments: of segments.find. training: whether with batch statistics. wanted: of each input whether its gradient
    is. apart: names of variables that get an identity before native operators: MXNet does not tell an operator of this
    kind to add to a gradient; to an identity it does. owner: native.operators.Owner. flags: of MXNet's CachedOp.
    """

    def __init__(self, graph, segments, owner, training=False, wanted=(), apart=(), flags=()):
        self.operators = [OPERATORS[training]] * len(segments)
        symbol = mx.sym.load_json(json.dumps(_Writer(graph, segments, owner, training, wanted, apart).written()))
        self.names = symbol.list_inputs()
        places = {True: [], False: []}
        for place, name in enumerate(self.names):
            places[name in graph.data].append(place)
        self._op = CachedOp(symbol, [("data_indices", places[True]), ("param_indices", places[False]), *flags])

    def __call__(self, arrays):
        made = self._op(*arrays)
        return [made] if isinstance(made, mx.nd.NDArray) else made


class _Writer:
    """MXNet's JSON of `graph` with native operators in place of `segments`."""

    def __init__(self, graph, segments, owner, training, wanted, apart):
        self._graph, self._owner, self._training = graph, owner, training
        self._unwanted = {name for name, flag in zip(graph.data, wanted) if not flag}
        readers = graph.readers()
        # Of a value that many read MXNet may also add up gradients in place.
        self._apart = set(apart) | {value for value, times in readers.items() if times > 1}
        self._entries, self._places = [], {}  # of each value (entry, output)
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

    def written(self):
        heads = [[*self._at(value), 0] for value in self._graph.outputs]
        variables = [place for place, entry in enumerate(self._entries) if entry["op"] == "null"]
        return {"nodes": self._entries, "arg_nodes": variables, "heads": heads,
                "attrs": {"mxnet_version": ["int", 10901]}}

    def _kept(self, number, place):
        self._places[number] = place

    def _place(self, read):
        number, i = read
        return self._at(self._graph.nodes[number].inputs[i])

    def _at(self, value):
        """[entry, output] that holds a value now."""
        if isinstance(value, str):
            return [self._places[value], 0]
        return [self._places[value.node], value.output]

    def _add(self, entry):
        self._entries.append(entry)
        return len(self._entries) - 1

    def _operator(self, op, inputs, **attributes):
        return self._add({"op": op, "name": f"igc{len(self._entries)}", "attrs": attributes,
                          "inputs": [[*i, 0] for i in inputs]})

    def _native(self, segment):
        inputs = [self._read(segment.source)]
        for name, branches in segment.parameters:
            place = self._read(name)
            if branches > 1:
                cut = self._operator("Reshape", [place], shape=f"(-4, {branches}, -1, -2)")
                place = [self._operator("sum", [[cut, 0]], axis="0"), 0]
            inputs.append(place)
        inputs += [self._at(name) for name in segment.running]
        options = {"data_gradient": str(int(segment.source not in self._unwanted))} if self._training else {}
        made = self._operator(OPERATORS[self._training], inputs, maps=str(int(segment.form == "maps")),
                              owner=self._owner.name(segment.end.node),
                              layers=";".join(",".join(map(repr, layer.numbers())) for layer in segment.layers), **options)
        if segment.form == "means":
            made = self._operator("Reshape", [[made, 0]], shape="(0, 0, 1, 1)")
        if not self._training:
            made = self._operator("BlockGrad", [[made, 0]])  # a CachedOp asks for a gradient; this operator has none
        self._kept(segment.end.node, made)

    def _read(self, value):
        place = self._at(value)
        if not self._training or value not in self._apart:
            return place
        return [self._operator("_copy", [place]), 0]
