"""Whether two symbols compute the same, and which array of the one is which of the other.

Symbols of one network differ in names, in the order of nodes, in how a permutation or a global pooling is written, and
in what does nothing in inference. `layers_of` takes that away; `match` compares what is left.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from igc_gluon.errors import UserError
from igc_gluon.symbol_file import Node

DATA = -1
_PERMUTATION = (0, -3, -2)


class Layer(NamedTuple):
    """facts: operator and attributes, as far as they tell in inference; inputs: positions of layers, or DATA; arrays:
    names of its parameters; name: of the node."""

    facts: tuple
    inputs: Tuple[int, ...]
    arrays: Tuple[str, ...]
    name: str

    @property
    def op(self) -> str:
        return self.facts[0]

    def __str__(self) -> str:
        return " ".join(str(fact) for fact in self.facts)


def layers_of(graph: Any) -> List[Layer]:
    """[Layer] of a symbol_file.Graph up to its result, the last one. Raises UserError if it reads two images."""
    layers: List[Layer] = []
    place: Dict[int, int] = {}
    images: Set[str] = set()
    for number, node in enumerate(graph.nodes[: graph.head + 1]):
        if node.op == "null":
            continue
        count = 2 if node.op == "add" else 1
        sources = []
        for i in node.inputs[:count]:
            if graph.nodes[i].op == "null":
                images.add(graph.nodes[i].name)
            sources.append(place.get(i, DATA))
        arrays = [graph.nodes[i].name for i in node.inputs[count:]]
        if node.op == "BatchNorm" and len(arrays) == 2:
            arrays += [f"{node.name}_moving_mean", f"{node.name}_moving_var"]
        source = sources[0]
        if node.op in ("SoftmaxOutput", "identity", "Dropout", "Flatten"):
            if node.op == "Flatten" and source != DATA and layers[source].facts[:2] == ("Pooling", "avg"):
                # The authors' last pooling has the kernel of the map that it gets in training.
                layers.append(layers[source]._replace(facts=("Pooling", "avg", "global")))
                source = len(layers) - 1
            place[number] = source
            continue
        layers.append(Layer(_facts(node), tuple(sources), tuple(arrays), node.name))
        branches = _branches(layers)
        if branches:
            start = layers[layers[source].inputs[0]]
            layers[-1] = Layer(("Reorder", branches), start.inputs, (), node.name)
        place[number] = len(layers) - 1
    if len(images) != 1:
        raise UserError(f"the graph takes {len(images)} inputs ({', '.join(sorted(images))}); one image is wanted")
    head = place.get(graph.head, DATA)
    return layers[: head + 1]


def _facts(node: Node) -> Tuple[Any, ...]:
    a = node.attributes
    if node.op == "Convolution":
        return (
            node.op,
            f"{a['num_filter']} channels",
            f"kernel {a['kernel']}",
            f"stride {a['stride']}",
            f"pad {a['pad']}",
            f"dilate {a['dilate']}",
            f"{a['num_group']} groups",
            "no bias" if a["no_bias"] else "bias",
        )
    if node.op == "BatchNorm":  # the momentum is of training only
        return node.op, f"eps {a['eps']:.4g}", "fixed gamma" if a["fix_gamma"] else "gamma"
    if node.op == "Pooling":
        if a["global_pool"]:
            return node.op, a["pool_type"], "global"
        included = a["pool_type"] == "avg" and any(a["pad"]) and a["count_include_pad"]
        return (
            node.op,
            a["pool_type"],
            f"kernel {a['kernel']}",
            f"stride {a['stride']}",
            f"pad {a['pad']}",
            a["pooling_convention"],
            f"count_include_pad {included}",
        )
    if node.op == "FullyConnected":
        return node.op, f"{a['num_hidden']} outputs", "no bias" if a["no_bias"] else "bias"
    return (node.op, *(a[key] for key in sorted(a)))


def _branches(layers: Any) -> Optional[int]:
    """The branch factor if the last layer ends a permutation written as reshape, swapaxes, reshape, else None."""
    *before, last = layers
    if last.op != "Reshape" or last.facts[-1] != _PERMUTATION or last.inputs[0] == DATA:
        return None
    swap = before[last.inputs[0]]
    if swap.facts != ("SwapAxis", 1, 2) or swap.inputs[0] == DATA:
        return None
    shape: tuple = before[swap.inputs[0]].facts[-1] if before[swap.inputs[0]].op == "Reshape" else ()
    fits = len(shape) == 5 and shape[:2] + shape[3:] == (0, -4, -1, -2) and shape[2] > 0
    return shape[2] if fits else None


class Difference(Exception):
    """Two graphs are not the same; the text says where."""


def match(theirs: List[Layer], ours: List[Layer]) -> Dict[str, str]:
    """{name of an array of `theirs`: name of the same array of `ours`}, both lists of Layer. Raises Difference."""
    keys: Dict[int, List[int]] = {}
    known: Dict[tuple, int] = {}
    for layers in (theirs, ours):
        own_keys: List[int] = []
        keys[id(layers)] = own_keys
        for layer in layers:
            read = [own_keys[i] if i != DATA else DATA for i in layer.inputs]
            what = (layer.facts, tuple(sorted(read) if layer.op == "add" else read))
            own_keys.append(known.setdefault(what, len(known)))
    key_a, key_b = keys[id(theirs)], keys[id(ours)]
    pairs = [(len(theirs) - 1, len(ours) - 1)]
    names: Dict[str, str] = {}
    partner: Dict[int, int] = {}
    while pairs:
        a, b = pairs.pop()
        if DATA in (a, b):
            if a != b:
                raise Difference("one of them takes the image where the other has a layer")
            continue
        their_layer, our_layer = theirs[a], ours[b]
        if partner.get(a, b) != b or their_layer.facts != our_layer.facts:
            raise Difference(f"{their_layer.name} is {their_layer}, the model's {our_layer.name} is {our_layer}")
        if a in partner:
            continue
        partner[a] = b
        names.update(zip(their_layer.arrays, our_layer.arrays))
        inputs = our_layer.inputs
        if their_layer.op == "add" and _key(key_a, their_layer.inputs[0]) != _key(key_b, inputs[0]):
            inputs = inputs[::-1] if _key(key_a, their_layer.inputs[0]) == _key(key_b, inputs[1]) else inputs
        pairs += zip(their_layer.inputs, inputs)
    if len(set(names.values())) != len(names):
        raise Difference("one of them uses an array twice")
    return names


def _key(keys: Any, layer: Any) -> Any:
    return layer if layer == DATA else keys[layer]
