"""Blocks: channel permutation, group convolutions, the IGC block and what it is compared with."""
from igc_gluon.nn.basic import CONVOLUTION_INIT, SCORE_INIT, ConvBNReLU, batch_norm, initialize_as_authors
from igc_gluon.nn.baselines import SumFusion
from igc_gluon.nn.igc import SPATIAL_FORMS, GroupConv2D, IGCBlock
from igc_gluon.nn.permutation import ChannelPermutation, inverse_branch_factor, permutation_indices

__all__ = ["CONVOLUTION_INIT", "SCORE_INIT", "SPATIAL_FORMS", "ChannelPermutation", "ConvBNReLU", "GroupConv2D",
           "IGCBlock", "SumFusion", "batch_norm", "initialize_as_authors", "inverse_branch_factor",
           "permutation_indices"]
