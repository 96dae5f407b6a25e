"""A graph with its segments as native operators, as one CachedOp of MXNet's: what a call runs."""
import json

import mxnet as mx
from mxnet.ndarray import CachedOp

from igc_gluon.native.operators import Inference

OPERATORS = {True: "igc_body_train", False: "igc_body_infer"}


_MADE = "igc_body"  # a variable's name


class Program:
    """Called with the arrays of the graph's parameters and with its inputs, both in order, it gives the list of its
    outputs. A list of parameters that it is called with again has not changed.

    segments: of segments.find. training: whether with batch statistics. wanted: of each input whether its gradient
    is. apart: names of variables that get an identity before native operators: MXNet does not tell an operator of this
    kind to add to a gradient; to an identity it does. owner: native.operators.Owner. flags: of MXNet's CachedOp.
    at_once: the only segment, which reads an input, is computed before a call returns, in the caller's thread; what is
    behind it remains MXNet's. For a single image, with which MXNet's engine is longer busy than with small networks.
    """

    def __init__(self, graph, segments, owner, training=False, wanted=(), apart=(), flags=(), at_once=False):
        self.operators = [OPERATORS[training]] * len(segments)
        number = {name: i for i, name in enumerate([*graph.parameters, *graph.data, _MADE])}
        self._at_once = _AtOnce(segments[0], owner, number, len(graph.parameters)) if at_once else None
        symbol = mx.sym.load_json(json.dumps(_Writer(graph, segments, owner, training, wanted, apart, at_once).written()))
        names = symbol.list_inputs()
        self._read = [number[name] for name in names]
        places = {True: [], False: []}
        for place, name in enumerate(names):
            places[name in graph.parameters].append(place)
        self._op = CachedOp(symbol, [("data_indices", places[False]), ("param_indices", places[True]), *flags])

    def __call__(self, parameters, inputs):
        arrays = [*parameters, *inputs]
        if self._at_once is not None:
            arrays.append(self._at_once(parameters, inputs))
        made = self._op(*[arrays[place] for place in self._read])
        return [made] if isinstance(made, mx.nd.NDArray) else made


class _AtOnce:
    """A segment of inference; called like a Program it gives the segment's value."""

    def __init__(self, segment, owner, number, parameters):
        self._source = number[segment.source] - parameters
        self._numbers = [number[name] for name in (*(p.name for p in segment.parameters), *segment.running)]
        self._shape, self._parameters = segment.shape, None
        self._run = Inference(owner.name(segment.end.node), _text(segment.layers), segment.form == "maps")

    def __call__(self, parameters, inputs):
        if parameters is not self._parameters:
            self._run.read([parameters[number] for number in self._numbers])
            self._parameters = parameters
        image = inputs[self._source]
        made = mx.nd.empty((len(image), *self._shape), ctx=image.context)
        self._run(image, made)
        return made


def _text(layers):
    """The attribute `layers` of the operators (src/mxnet/body_op.cpp)."""
    return ";".join(",".join(map(repr, layer.numbers())) for layer in layers)


class _Writer:
    """MXNet's JSON of `graph` with native operators in place of `segments`."""

    def __init__(self, graph, segments, owner, training, wanted, apart, at_once):
        self._graph, self._owner, self._training, self._at_once = graph, owner, training, at_once
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
        if self._at_once:
            self._kept(segment.end.node, self._add({"op": "null", "name": _MADE, "inputs": []}))
            return
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
                              layers=_text(segment.layers), **options)
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
