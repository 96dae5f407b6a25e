"""From blocks to `igc_gluon.theory`: the stack of group convolutions and permutations that a block consists of."""
from mxnet.gluon import nn

from igc_gluon import theory
from igc_gluon.nn.baselines import GPCBlock
from igc_gluon.nn.igc import IGCBlock
from igc_gluon.nn.lowrank import IGCV3Block
from igc_gluon.nn.permutation import ChannelPermutation, permutation_indices
from igc_gluon.nn.sparse import IGCV2Block, NonlinearIGCV2Block

_BLOCKS = (IGCBlock, GPCBlock, IGCV2Block, NonlinearIGCV2Block, IGCV3Block)


def block_stack(block):
    """[GroupConv, Permutation, ...] of `igc_gluon.theory`, in order of execution, read off the layers of `block`.

    Convolutions are given as shapes, which stand for weights of 1. Normalizations, activations, shortcuts and strides,
    none of which changes what channels are connected, are left out.
    """
    stack = []
    for layer in _leaves(block):
        if isinstance(layer, nn.Conv2D):
            stack.append(theory.GroupConv(tuple(layer.weight.shape), layer._kwargs["num_group"]))
        elif isinstance(layer, ChannelPermutation):
            channels = stack[-1].out_channels
            stack.append(theory.Permutation(permutation_indices(channels, layer._branch_factor)))
    return stack


def interleaved_blocks(net):
    """{prefix of its parameters: block} for every block of `net` that interleaves group convolutions, in order."""
    blocks = {}

    def visit(block):
        if isinstance(block, _BLOCKS):
            blocks[block.prefix] = block
        else:
            for child in block._children.values():
                visit(child)
    visit(net)
    return blocks


def block_stacks(net):
    """{prefix of the block's parameters: its stack} for every block of `net` that interleaves group convolutions."""
    return {prefix: block_stack(block) for prefix, block in interleaved_blocks(net).items()}


def _leaves(block):
    if not block._children:
        yield block
    for child in block._children.values():
        yield from _leaves(child)
