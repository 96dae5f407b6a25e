"""From blocks to `igc_gluon.theory`: the stack of group convolutions and permutations that a block consists of."""
from typing import Dict, List, Set, Union

from mxnet.gluon import HybridBlock

from igc_gluon import theory
from igc_gluon.errors import UserError
from igc_gluon.graph import Ref, trace
from igc_gluon.nn.basic import InterleavedBlock
from igc_gluon.nn.permutation import permutation_indices


def block_stack(block: HybridBlock) -> List[Union[theory.GroupConv, theory.Permutation]]:
    """[GroupConv, Permutation, ...] of `igc_gluon.theory`, in order of execution, as `block` computes them.

    Convolutions are given as shapes, which stand for weights of 1. Normalizations, activations, shortcuts and strides,
    none of which changes what channels are connected, are left out. Raises UserError where convolutions do not follow
    each other.
    """
    graph = trace(block)
    permutations = graph.permutations()
    stack: List[Union[theory.GroupConv, theory.Permutation]] = []
    behind: Set[int] = set()  # nodes that the last of the stack comes before
    for number, node in enumerate(graph.nodes):
        follows = not stack or any(isinstance(value, Ref) and value.node in behind for value in node.inputs)
        if node.op == "Convolution":
            if not follows:
                raise UserError(f"the convolutions of {block.name} do not follow each other")
            stack.append(theory.GroupConv(tuple(graph.parameters[node.inputs[1]].shape),
                                          node.attributes.get("num_group", 1)))
            behind = {number}
        elif number in permutations:
            channels = stack[-1].out_channels
            stack.append(theory.Permutation(permutation_indices(channels, permutations[number])))
            behind = {number}
        elif follows:
            behind.add(number)
    return stack


def interleaved_blocks(net: HybridBlock) -> Dict[str, InterleavedBlock]:
    """{prefix of its parameters: block} for every block of `net` that interleaves group convolutions, in order."""
    blocks = {}

    def visit(block):
        if isinstance(block, InterleavedBlock):
            blocks[block.prefix] = block
        else:
            for child in block._children.values():
                visit(child)
    visit(net)
    return blocks


def block_stacks(net: HybridBlock) -> Dict[str, List[Union[theory.GroupConv, theory.Permutation]]]:
    """{prefix of the block's parameters: its stack} for every block of `net` that interleaves group convolutions."""
    return {prefix: block_stack(block) for prefix, block in interleaved_blocks(net).items()}
