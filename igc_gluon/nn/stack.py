"""From blocks to `igc_gluon.theory`: the stack of group convolutions and permutations that a block consists of."""

from typing import Dict, Iterator, List, Set, Union

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon import theory
from igc_gluon.errors import UserError
from igc_gluon.graph import Ref, trace
from igc_gluon.graph.permutations import PERMUTE, contracted
from igc_gluon.nn.basic import InterleavedBlock

_IMAGE = (8, 8)  # of any size


def block_stack(block: HybridBlock) -> List[Union[theory.GroupConv, theory.Permutation]]:
    """[GroupConv, Permutation, ...] of `igc_gluon.theory`, in order of execution, as `block` computes them.

    Convolutions are given as shapes, which stand for weights of 1. Normalizations, activations, shortcuts and strides,
    none of which changes what channels are connected, are left out. Raises UserError where convolutions do not follow
    each other.
    """
    graph = trace(block)
    first = next((node for node in graph.nodes if node.op == "Convolution"), None)
    if first is None:
        return []
    channels = graph.parameters[first.inputs[1]].shape[1] * first.attributes.get("num_group", 1)
    nodes = contracted(graph, graph.shapes([(1, channels, *_IMAGE)])).nodes
    stack: List[Union[theory.GroupConv, theory.Permutation]] = []
    behind: Set[int] = set()  # nodes that the last of the stack comes before
    for number, node in nodes.items():
        follows = not stack or any(isinstance(value, Ref) and value.node in behind for value in node.inputs)
        if node.op == "Convolution":
            if not follows:
                raise UserError(f"the convolutions of {block.name} do not follow each other")
            stack.append(
                theory.GroupConv(
                    tuple(graph.parameters[node.inputs[1]].shape), int(str(node.attributes.get("num_group", 1)))
                )
            )
            behind = {number}
        elif node.op == PERMUTE:
            stack.append(theory.Permutation(np.asarray(node.attributes["index"])))
            behind = {number}
        elif follows:
            behind.add(number)
    return stack


def interleaved_blocks(net: HybridBlock) -> Dict[str, HybridBlock]:
    """{prefix of its parameters: block} for every block of `net` that interleaves group convolutions, in order.

    Where none is an `InterleavedBlock`, every innermost block that computes such a stack is taken: two convolutions or
    more, one of them in groups, with a permutation of channels.
    """
    blocks = {block.prefix: block for block in _outermost(net)}
    return blocks or {block.prefix: block for block in _innermost(net)}


def _outermost(block: HybridBlock) -> Iterator[HybridBlock]:
    if isinstance(block, InterleavedBlock):
        yield block
    else:
        for child in block._children.values():
            yield from _outermost(child)


def _innermost(block: HybridBlock) -> Iterator[HybridBlock]:
    inside = [block_inside for child in block._children.values() for block_inside in _innermost(child)]
    yield from inside or ([block] if block._children and _is_interleaved(block) else [])


def _is_interleaved(block: HybridBlock) -> bool:
    try:
        stack = block_stack(block)
    except (UserError, mx.MXNetError, TypeError):  # no stack; a block of several inputs; one that wants another size
        return False
    convolutions = [layer for layer in stack if isinstance(layer, theory.GroupConv)]
    grouped = any(convolution.groups > 1 for convolution in convolutions)
    return len(convolutions) > 1 and grouped and len(convolutions) < len(stack)


def block_stacks(net: HybridBlock) -> Dict[str, List[Union[theory.GroupConv, theory.Permutation]]]:
    """{prefix of the block's parameters: its stack} for every block of `net` that interleaves group convolutions."""
    return {prefix: block_stack(block) for prefix, block in interleaved_blocks(net).items()}
