"""A network as a list of operators with fixed sizes: what ONNX and the benchmarks' networks are built from.

`describe` reads it off the graph that MXNet itself traces, so it shares nothing with the lowering of
igc_gluon.deploy, whose results it is used to check. Reading a file of it (`load`) needs NumPy only.
"""

# Imports in functions are slow: MXNet, which not every peer's process needs.
import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import numpy as np

from igc_gluon.channels import branches_of, permutation_indices
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically


class Node(NamedTuple):
    """An operator in inference or training; node i makes value i + 1, value 0 is the batch of images.

    op, its attributes and arrays, float32 (kernel, stride and pad are pairs):
        conv        groups, kernel, stride, pad; weight, bias (perhaps)
        linear      weight, bias (perhaps)
        batch_norm  epsilon, momentum (of the old value, as MXNet has it); gamma, beta, mean, variance
        relu, add, flatten, mean (over the image, which becomes 1x1)
        clip        low, high
        max_pool, mean_pool   kernel, stride, pad (counted in means)
        permute     branches: out[j*b + i] = in[i*(C/b) + j], the channels seen as b branches; or, of another order,
                    index: the channel read by each
        reshape     `shape` is what it makes
        transpose   axes, with the batch as axis 0
        sum         axis
        affine      scale, shift: numbers
    shape: of the result, without the batch.
    """

    op: str
    inputs: Tuple[int, ...]
    shape: Tuple[int, ...]
    attributes: Dict[str, Any] = {}
    arrays: Dict[str, np.ndarray] = {}


_Read = Tuple[str, Dict[str, Any], Tuple[str, ...]]  # op, attributes, names of the arrays


def describe(net: Any, input_shape: Sequence[int]) -> List[Node]:
    """[Node] of an initialized HybridBlock for images of `input_shape`, the last one gives the result.

    Raises UserError on an operator that is not in Node's list, naming it, and where images of that shape do not fit.
    """
    from igc_gluon.graph import Ref  # with MXNet, which the processes of peers need not have
    from igc_gluon.graph.network import read_network

    network = read_network(net, input_shape)
    if not network.shapes:
        raise UserError(f"images of {'x'.join(map(str, input_shape))} do not fit the network")
    nodes: List[Node] = []
    value_of: Dict[Any, int] = {name: 0 for name in network.graph.data}
    for number, entry in network.nodes.items():
        read = tuple(value_of[value] for value in entry.inputs if value in value_of)
        arrays = [network.arrays[value] for value in entry.inputs if value not in value_of]
        if entry.op not in _READERS:
            raise UserError(f"operator {entry.op} ({entry.name}) has no counterpart in other engines")
        if entry.op == "Dropout" or entry.op == "permute" and branches_of(entry.attributes["index"]) == 1:
            value_of[Ref(number)] = read[0]
            continue
        shape = tuple(network.shapes[Ref(number)][1:])
        op, attributes, names = _READERS[entry.op](entry.attributes, arrays)
        if "swap" in attributes:
            axes = list(range(len(shape) + 1))
            a, b = attributes.pop("swap")
            axes[a], axes[b] = axes[b], axes[a]
            attributes["axes"] = tuple(axes)
        nodes.append(Node(op, read, shape, attributes, dict(zip(names, arrays))))
        value_of[Ref(number)] = len(nodes)
    return nodes


def _pair(value: Any) -> Tuple[int, ...]:
    return tuple(int(n) for n in value)


def _conv(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    kernel = _pair(a["kernel"])
    return (
        "conv",
        {
            "groups": a.get("num_group", 1),
            "kernel": kernel,
            "stride": _pair(a.get("stride") or (1, 1)),
            "pad": _pair(a.get("pad") or (0, 0)),
        },
        ("weight", "bias"),
    )


def _batch_norm(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    if a.get("fix_gamma", True):
        arrays[0] = np.ones_like(arrays[0])
    return (
        "batch_norm",
        {"epsilon": a.get("eps", 1e-3), "momentum": a.get("momentum", 0.9)},
        ("gamma", "beta", "mean", "variance"),
    )


def _activation(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    if a.get("act_type", "relu") != "relu":
        raise UserError(f"activation {a['act_type']} has no counterpart in other engines")
    return "relu", {}, ()


def _pooling(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    kind = a.get("pool_type", "max")
    if a.get("global_pool", False) and kind == "avg":
        return "mean", {}, ()
    if (
        kind not in ("max", "avg")
        or a.get("global_pool", False)
        or a.get("pooling_convention", "valid") != "valid"
        or not a.get("count_include_pad", True)
    ):
        raise UserError("only max and mean pooling without windows that stick out have a counterpart in other engines")
    return (
        f"{'mean' if kind == 'avg' else 'max'}_pool",
        {
            "kernel": _pair(a["kernel"]),
            "stride": _pair(a.get("stride") or (1, 1)),
            "pad": _pair(a.get("pad") or (0, 0)),
        },
        (),
    )


def _swap(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    return "transpose", {"swap": (a.get("dim1", 0), a.get("dim2", 0))}, ()


def _sum(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    axis = a["axis"]
    return "sum", {"axis": axis if isinstance(axis, int) else axis[0]}, ()


def _permute(a: Mapping[str, Any], arrays: List[np.ndarray]) -> _Read:
    branches = branches_of(a["index"])
    return "permute", {"branches": branches} if branches else {"index": _pair(a["index"])}, ()


def _plain(op: str) -> Callable[..., _Read]:
    return lambda a, arrays: (op, {}, ())


_READERS: Dict[str, Callable[..., _Read]] = {
    "Convolution": _conv,
    "FullyConnected": lambda a, arrays: ("linear", {}, ("weight", "bias")),
    "BatchNorm": _batch_norm,
    "Activation": _activation,
    "relu": _plain("relu"),
    "clip": lambda a, arrays: ("clip", {"low": float(a["a_min"]), "high": float(a["a_max"])}, ()),
    "elemwise_add": _plain("add"),
    "broadcast_add": _plain("add"),
    "Pooling": _pooling,
    "Reshape": _plain("reshape"),
    "Flatten": _plain("flatten"),
    "SwapAxis": _swap,
    "transpose": lambda a, arrays: ("transpose", {"axes": _pair(a["axes"])}, ()),
    "sum": _sum,
    "_mul_scalar": lambda a, arrays: ("affine", {"scale": float(a["scalar"]), "shift": 0.0}, ()),
    "_plus_scalar": lambda a, arrays: ("affine", {"scale": 1.0, "shift": float(a["scalar"])}, ()),
    "permute": _permute,
    "Dropout": _plain("dropout"),  # left out of the list
}


def order_of(node: Node) -> np.ndarray:
    """The channel read by each output channel of a `permute`."""
    a = node.attributes
    return np.asarray(a["index"]) if "index" in a else permutation_indices(node.shape[0], a["branches"])


def readers(nodes: Sequence[Node]) -> List[int]:
    """How many nodes read each value."""
    counts = [0] * (len(nodes) + 1)
    for node in nodes:
        for value in node.inputs:
            counts[value] += 1
    return counts


def renumbered(nodes: Sequence[Node], kept: Mapping[int, int]) -> List[Node]:
    """`nodes` without those whose value `kept` maps to another: {value: value that its readers read}."""
    number: Dict[int, int] = {0: 0}
    result: List[Node] = []
    for value, node in enumerate(nodes, 1):
        if value in kept:
            number[value] = number[kept[value]]
        else:
            result.append(node._replace(inputs=tuple(number[i] for i in node.inputs)))
            number[value] = len(result)
    return result


def fold_batch_norms(nodes: Sequence[Node]) -> List[Node]:
    """[Node] of the same function in inference: batch normalizations behind a convolution, with permutations between
    them or not, are in its weights and bias. Those of which something else is read too stay."""
    nodes, kept, counts = list(nodes), {}, readers(nodes)
    for value, node in enumerate(nodes, 1):
        if node.op != "batch_norm":
            continue
        gamma, beta, mean, variance = (node.arrays[k].astype(np.float64) for k in ("gamma", "beta", "mean", "variance"))
        scale = gamma / np.sqrt(variance + node.attributes["epsilon"])
        shift = beta - scale * mean
        source = node.inputs[0]
        while source and counts[source] == 1 and nodes[source - 1].op == "permute":
            order = order_of(nodes[source - 1])
            scale[order], shift[order] = scale.copy(), shift.copy()
            source = nodes[source - 1].inputs[0]
        if source and counts[source] == 1 and nodes[source - 1].op in ("conv", "linear"):
            before = nodes[source - 1]
            weight, bias = before.arrays["weight"], before.arrays.get("bias", 0)
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            folded = {"weight": weight.astype(np.float32), "bias": (scale * bias + shift).astype(np.float32)}
            nodes[source - 1] = before._replace(arrays=folded)
            kept[value] = node.inputs[0]
    return renumbered(nodes, kept)


def save(nodes: Sequence[Node], path: Union[str, Path]) -> None:
    """Writes a file that `load` reads."""
    lines = [{"op": n.op, "inputs": n.inputs, "shape": n.shape, "attributes": n.attributes} for n in nodes]
    arrays = {f"{i}.{name}": array for i, node in enumerate(nodes) for name, array in node.arrays.items()}
    with write_atomically(path) as file:
        np.savez(file, nodes=np.frombuffer(json.dumps(lines).encode(), np.uint8), **arrays)


def load(path: Union[str, Path]) -> List[Node]:
    """[Node] of a file that `save` wrote."""
    with np.load(path) as file:
        lines = json.loads(file["nodes"].tobytes())
        arrays: List[Dict[str, np.ndarray]] = [{} for _ in lines]
        for key in file.files:
            number, _, name = key.partition(".")
            if name:
                arrays[int(number)][name] = file[key]
    return [
        Node(line["op"], tuple(line["inputs"]), tuple(line["shape"]), _tuples(line["attributes"]), named)
        for line, named in zip(lines, arrays)
    ]


def _tuples(attributes: Mapping[str, Any]) -> Dict[str, Any]:
    """JSON has lists only."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in attributes.items()}
