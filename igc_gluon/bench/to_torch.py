"""A PyTorch module of a described network: plain layers in a traced graph, as anyone would write them."""

from typing import Any, Callable, Dict, Optional, Sequence

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from igc_gluon.export.graph import Node, order_of, readers


def module(nodes: Sequence[Node]) -> fx.GraphModule:
    """An fx.GraphModule, (N, ...) -> (N, ...), in training mode, of [graph.Node]."""
    root, traced, counts = nn.Module(), fx.Graph(), readers(nodes)
    values = [traced.placeholder("x")]
    for i, node in enumerate(nodes):
        inputs = [values[v] for v in node.inputs]
        if node.op in _LAYERS:
            name = f"{node.op}{i}"
            layer: Any = _LAYERS[node.op](node)
            if hasattr(layer, "inplace"):
                layer.inplace = counts[node.inputs[0]] == 1
            root.add_module(name, layer)
            values.append(traced.call_module(name, tuple(inputs)))
        else:
            values.append(_FUNCTIONS[node.op](traced, node, *inputs))
    traced.output(values[-1])
    traced.lint()
    return fx.GraphModule(root, traced)


def _set(layer: nn.Module, **arrays: Optional[np.ndarray]) -> nn.Module:
    with torch.no_grad():
        for name, array in arrays.items():
            if array is not None:
                getattr(layer, name).copy_(torch.from_numpy(np.array(array)))
    return layer


def _conv(node: Node) -> nn.Module:
    weight, a = node.arrays["weight"], node.attributes
    layer = nn.Conv2d(
        weight.shape[1] * a["groups"],
        weight.shape[0],
        a["kernel"],
        a["stride"],
        a["pad"],
        groups=a["groups"],
        bias="bias" in node.arrays,
    )
    return _set(layer, **node.arrays)


def _linear(node: Node) -> nn.Module:
    weight = node.arrays["weight"]
    return _set(nn.Linear(weight.shape[1], weight.shape[0], "bias" in node.arrays), **node.arrays)


def _batch_norm(node: Node) -> nn.Module:
    a = node.arrays
    layer = nn.BatchNorm2d(len(a["gamma"]), node.attributes["epsilon"], 1 - node.attributes["momentum"])
    return _set(layer, weight=a["gamma"], bias=a["beta"], running_mean=a["mean"], running_var=a["variance"])


_LAYERS: Dict[str, Callable[[Node], nn.Module]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": lambda node: nn.ReLU(),
    "clip": lambda node: nn.Hardtanh(node.attributes["low"], node.attributes["high"]),
    "max_pool": lambda node: nn.MaxPool2d(*(node.attributes[key] for key in ("kernel", "stride", "pad"))),
    "mean_pool": lambda node: nn.AvgPool2d(*(node.attributes[key] for key in ("kernel", "stride", "pad"))),
    "mean": lambda node: nn.AdaptiveAvgPool2d(1),
    "flatten": lambda node: nn.Flatten(),
}


def _permute(traced: fx.Graph, node: Node, x: fx.Node) -> fx.Node:
    channels, *image = node.shape
    if "index" in node.attributes:
        return traced.call_function(torch.index_select, (x, 1, torch.from_numpy(order_of(node))))
    branches = node.attributes["branches"]
    x = traced.call_method("reshape", (x, -1, branches, channels // branches, *image))
    x = traced.call_method("transpose", (x, 1, 2))
    return traced.call_method("reshape", (x, -1, channels, *image))


_FUNCTIONS: Dict[str, Callable[..., fx.Node]] = {
    "add": lambda traced, node, x, y: traced.call_function(torch.add, (x, y)),
    "permute": _permute,
    "reshape": lambda traced, node, x: traced.call_method("reshape", (x, -1, *node.shape)),
    "transpose": lambda traced, node, x: traced.call_method("permute", (x, *node.attributes["axes"])),
    "sum": lambda traced, node, x: traced.call_method("sum", (x, node.attributes["axis"])),
    "affine": lambda traced, node, x: traced.call_function(
        torch.add, (traced.call_function(torch.mul, (x, node.attributes["scale"])), node.attributes["shift"])
    ),
}


def training_step(
    net: nn.Module, images: torch.Tensor, labels: torch.Tensor, optimizer: torch.optim.Optimizer
) -> torch.Tensor:
    """Forward, backward, update. Returns the scores before the update; the loss is waited for."""
    optimizer.zero_grad(set_to_none=True)
    scores = net(images)
    loss = F.cross_entropy(scores, labels)
    loss.backward()
    optimizer.step()
    loss.item()
    return scores
