"""Blocks: channel permutation, group convolutions, the blocks of IGCV1, 2 and 3 and what they are compared with."""

from igc_gluon.nn.baselines import GPCBlock, SumFusion, XceptionBlock
from igc_gluon.nn.basic import (
    CONVOLUTION_INIT,
    INITIAL_VARIANCES,
    INITIALIZERS,
    SCORE_INIT,
    ConvBNReLU,
    InterleavedBlock,
    batch_norm,
    initialize_as_authors,
    initialize_as_igcv3,
)
from igc_gluon.nn.igcv1 import SPATIAL_FORMS, GroupConv2D, IGCBlock
from igc_gluon.nn.igcv2 import IGCV2Block, NonlinearIGCV2Block
from igc_gluon.nn.igcv3 import IGCV3_FORMS, IGCV3Block, ReLU6
from igc_gluon.nn.permutation import ChannelPermutation, inverse_branch_factor, permutation_indices
from igc_gluon.nn.stack import block_stack, block_stacks, interleaved_blocks

__all__ = [
    "CONVOLUTION_INIT",
    "IGCV3_FORMS",
    "INITIAL_VARIANCES",
    "INITIALIZERS",
    "SCORE_INIT",
    "SPATIAL_FORMS",
    "ChannelPermutation",
    "ConvBNReLU",
    "GPCBlock",
    "GroupConv2D",
    "IGCBlock",
    "IGCV2Block",
    "IGCV3Block",
    "InterleavedBlock",
    "NonlinearIGCV2Block",
    "ReLU6",
    "SumFusion",
    "XceptionBlock",
    "batch_norm",
    "block_stack",
    "block_stacks",
    "initialize_as_authors",
    "initialize_as_igcv3",
    "interleaved_blocks",
    "inverse_branch_factor",
    "permutation_indices",
]
