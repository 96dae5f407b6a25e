"""The strongest rewrite of these networks for an engine without IGC kernels: permutations are absorbed.

A 1x1 group convolution beside a permutation becomes a dense 1x1 convolution that does both: of an IGC block
remain the primary group convolution and one dense product. That is more multiply-adds (M times the secondary
convolution's) and still faster in a stock engine than moving channels about.
"""

from typing import List, Sequence

import numpy as np

from igc_gluon.channels import dense_weight
from igc_gluon.export.graph import Node, order_of, readers, renumbered

_CHANNELWISE = ("batch_norm", "relu", "clip")  # a permutation after them may as well come before them


def absorb_permutations(nodes: Sequence[Node]) -> List[Node]:
    """[graph.Node] of the same function, with fewer permutations; those that no 1x1 convolution is beside stay."""
    nodes, kept, counts = list(nodes), {}, readers(nodes)
    for value, node in enumerate(nodes, 1):
        if node.op != "permute":
            continue
        order = order_of(node)
        readers_of_it = [i for i, other in enumerate(nodes) if value in other.inputs]
        if readers_of_it and all(_pointwise(nodes[i]) for i in readers_of_it):
            for i in readers_of_it:
                weight = dense(nodes[i])
                absorbed = np.empty_like(weight)
                absorbed[:, order] = weight
                nodes[i] = _with_weight(nodes[i], absorbed)
            kept[value] = node.inputs[0]
            continue
        chain = [node.inputs[0]]
        while chain[-1] and counts[chain[-1]] == 1 and nodes[chain[-1] - 1].op in _CHANNELWISE:
            chain.append(nodes[chain[-1] - 1].inputs[0])
        if chain[-1] and counts[chain[-1]] == 1 and _pointwise(nodes[chain[-1] - 1]):
            for i in (v - 1 for v in chain):
                arrays = {key: array[order] for key, array in nodes[i].arrays.items() if key != "weight"}
                nodes[i] = nodes[i]._replace(arrays={**nodes[i].arrays, **arrays})
            i = chain[-1] - 1
            nodes[i] = _with_weight(nodes[i], dense(nodes[i])[order])
            kept[value] = node.inputs[0]
    return renumbered(nodes, kept)


def _pointwise(node: Node) -> bool:
    return node.op == "conv" and node.attributes["kernel"] == (1, 1)


def dense(node: Node) -> np.ndarray:
    """The weight of a convolution over all input channels."""
    return dense_weight(node.arrays["weight"], node.attributes["groups"])


def _with_weight(node: Node, weight: np.ndarray) -> Node:
    return node._replace(attributes={**node.attributes, "groups": 1}, arrays={**node.arrays, "weight": weight})
