"""What the papers say about interleaved group convolutions, as pure functions on numbers and numpy arrays.

    igcv1          parameters, width bound and widest block for a budget      IGCV1 eqs. 7-15
    igcv2          parameters, their minimum over L and K, balance condition  IGCV2 eqs. 6-14
    stack          group convolutions, permutations, composed kernel W        IGCV1 eqs. 1-6, IGCV2 eqs. 2-5
    complementary  paths, complementary condition, strict and loose           IGCV2 section 3.2
    special_cases  other layers written as IGC blocks                         IGCV1 eqs. 17-22, supplementary

The symbols are the papers': L primary partitions, M secondary partitions, S taps of the spatial kernel
(9 for 3x3), G = L M or C channels, K channels per branch; where K is, L is the number of group convolutions
in an IGCV2 block. Nothing here needs MXNet. A value that cannot be is a UserError.
"""

from igc_gluon.theory.complementary import has_one_path, is_complementary, is_loosely_complementary, paths
from igc_gluon.theory.igcv1 import (
    Block,
    best_blocks,
    gpc_params,
    igc_params,
    is_wider_than_regular,
    regular_params,
    regular_width,
    widest_block,
    widest_of,
    width_bound,
)
from igc_gluon.theory.igcv2 import (
    balanced_branches,
    best_depth,
    fewest_params,
    igcv2_params,
    imbalance,
    params_lower_bound,
)
from igc_gluon.theory.special_cases import (
    SpecialCase,
    extreme_case_as_igc,
    regular_as_igc,
    summation_fusion_as_igc,
    xception_as_igc,
)
from igc_gluon.theory.stack import (
    GroupConv,
    Permutation,
    balance_terms,
    composed_kernel,
    dense_to_group,
    fan_ins,
    group_to_dense,
    igc_stack,
    igcv2_stack,
    inverse,
    non_sparsity,
    permutation_matrix,
    reorder,
    stack_params,
)

__all__ = [
    "Block",
    "best_blocks",
    "gpc_params",
    "igc_params",
    "is_wider_than_regular",
    "regular_params",
    "regular_width",
    "widest_block",
    "widest_of",
    "width_bound",
    "balanced_branches",
    "best_depth",
    "fewest_params",
    "igcv2_params",
    "imbalance",
    "params_lower_bound",
    "GroupConv",
    "Permutation",
    "balance_terms",
    "composed_kernel",
    "dense_to_group",
    "fan_ins",
    "group_to_dense",
    "igc_stack",
    "igcv2_stack",
    "inverse",
    "non_sparsity",
    "permutation_matrix",
    "reorder",
    "stack_params",
    "has_one_path",
    "is_complementary",
    "is_loosely_complementary",
    "paths",
    "SpecialCase",
    "extreme_case_as_igc",
    "regular_as_igc",
    "summation_fusion_as_igc",
    "xception_as_igc",
]
