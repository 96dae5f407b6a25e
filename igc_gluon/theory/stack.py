"""Stacks of group convolutions and permutations, and the dense kernel that they compose.

A stack is a list of GroupConv and Permutation in the order in which data passes them. IGCV1's block is
x' = P W^s P^T W^p x (eq. 5), IGCV2's y = P_L W_L ... P_1 W_1 x (eq. 4). Nothing nonlinear stands between the
convolutions, so a stack is one regular convolution, with the kernel W = P W^s P^T W^p (eq. 6).

Kernels are arrays (output channels, input channels, taps down, taps across), and are slid, not flipped, as
MXNet does. `W.reshape(len(W), -1)` is the matrix of the papers, whose column c S + s is tap s of channel c.
"""

from dataclasses import dataclass
from typing import Any, List, Sequence, Union

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.theory._checks import whole
from igc_gluon.theory.igcv2 import check_branches


@dataclass(frozen=True, eq=False)
class GroupConv:
    """A convolution without bias whose channels are split into `groups` equal branches.

    weight: array (C_out, C_in / groups, taps down, taps across) as MXNet stores it, or such a shape alone,
    which stands for weights of 1, where the values do not matter.
    stride: steps down and across.
    """

    weight: Any  # an array, whatever it was given as
    groups: int = 1
    stride: int = 1

    def __post_init__(self) -> None:
        whole(groups=self.groups, stride=self.stride)
        weight = self.weight
        if isinstance(weight, tuple):
            whole(**{f"size {axis} of the weight": size for axis, size in enumerate(weight)})
            weight = np.broadcast_to(np.float64(1), weight)  # takes no memory
            object.__setattr__(self, "weight", weight)
        if not isinstance(weight, np.ndarray) or weight.ndim != 4 or not weight.size:
            raise UserError(
                "the weight of a group convolution must be a numpy array or a shape "
                "(C_out, C_in / groups, taps down, taps across), got "
                f"{getattr(weight, 'shape', type(weight).__name__)}"
            )
        if len(weight) % self.groups:
            raise UserError(f"{self.groups} groups do not divide {len(weight)} output channels")

    @property
    def in_channels(self) -> int:
        return self.weight.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, eq=False)
class Permutation:
    """Channels in another order: out[i] = in[indices[i]]."""

    indices: np.ndarray

    def __post_init__(self) -> None:
        indices = np.asarray(self.indices)
        numbers = np.arange(indices.size)
        if indices.ndim != 1 or not indices.size or not np.array_equal(np.sort(indices), numbers):
            raise UserError("the indices of a permutation must be the numbers 0 to C - 1, each once")
        object.__setattr__(self, "indices", indices.astype(np.intp))

    @property
    def in_channels(self) -> int:
        return len(self.indices)

    out_channels = in_channels


Layer = Union[GroupConv, Permutation]
Stack = Sequence[Layer]


def reorder(C: int, b: int) -> np.ndarray:
    """Indices of the authors' Reorder(branch_factor=b): out[j b + i] = in[i C/b + j].

    b = L gives P^T of eq. 2: secondary partition m takes channel m of every primary partition. b = M gives P.
    """
    C, b = whole(C=C, b=b)
    if C % b:
        raise UserError(f"branch factor {b} does not divide {C} channels")
    return np.arange(C).reshape(b, C // b).T.ravel()


def inverse(indices: np.ndarray) -> np.ndarray:
    """The indices that undo a permutation. inverse(reorder(C, b)) is reorder(C, C / b)."""
    return np.argsort(Permutation(indices).indices)


def permutation_matrix(indices: np.ndarray) -> np.ndarray:
    """The matrix P of 0 and 1 with (P x)[i] = x[indices[i]]."""
    indices = Permutation(indices).indices
    return np.eye(len(indices), dtype=int)[indices]


def group_to_dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """The block-diagonal kernel (C_out, C_in, ...) of a group convolution, eq. 1."""
    conv = GroupConv(weight, groups)
    C_out, K, *taps = conv.weight.shape
    dense = np.zeros((groups, C_out // groups, groups, K, *taps), conv.weight.dtype)
    branch = np.arange(groups)
    dense[branch, :, branch] = conv.weight.reshape(groups, C_out // groups, K, *taps)
    return dense.reshape(C_out, conv.in_channels, *taps)


def dense_to_group(dense: np.ndarray, groups: int) -> np.ndarray:
    """The weight (C_out, C_in / groups, ...) of a block-diagonal kernel (C_out, C_in, ...).

    Raises UserError where the kernel connects channels of different branches.
    """
    whole(groups=groups)
    dense = GroupConv(dense).weight
    C_out, C_in, *taps = dense.shape
    if C_out % groups or C_in % groups:
        raise UserError(f"{groups} groups do not divide {C_out} output and {C_in} input channels")
    branch = np.arange(groups)
    blocks = dense.reshape(groups, C_out // groups, groups, C_in // groups, *taps)
    weight = blocks[branch, :, branch].reshape(C_out, C_in // groups, *taps)
    if np.count_nonzero(weight) != np.count_nonzero(dense):
        raise UserError(f"the kernel is not block-diagonal with {groups} groups: it connects different branches")
    return weight


def igc_stack(primary: Any, secondary: Any, L: int) -> List[Layer]:
    """The IGCV1 block of eq. 5 with its L primary partitions, M = C / L of the primary's C outputs.

    primary and secondary are weights or shapes, usually (L M, M, 3, 3) and (L M, L, 1, 1).
    """
    first = GroupConv(primary, L)
    C = first.out_channels
    second = GroupConv(secondary, C // L)
    return check_stack([first, Permutation(reorder(C, L)), second, Permutation(reorder(second.out_channels, C // L))])


def igcv2_stack(C: int, Ks: Sequence[int], kernel: int = 3) -> List[Layer]:
    """The IGCV2 block of eq. 4, as shapes: kernel x kernel with K_1 channels a branch, then 1x1s with K_2 ...

    Every convolution is followed by Reorder(C / K_l), which deals the K_l channels of each branch out to K_l
    places far apart. The stack meets the complementary condition when the K_l multiply up to C.
    """
    C, kernel = whole(C=C, kernel=kernel)
    stack: List[Layer] = []
    for K in check_branches(C, Ks):
        taps = 1 if stack else kernel
        stack += [GroupConv((C, K, taps, taps), C // K), Permutation(reorder(C, C // K))]
    return stack


def check_stack(stack: Stack) -> List[Layer]:
    """The stack as a list; UserError if it is empty or a layer's width is not that of the layer before."""
    layers = list(stack)
    if not any(isinstance(layer, GroupConv) for layer in layers):
        raise UserError("a stack needs at least one group convolution")
    for number, (below, layer) in enumerate(zip(layers, layers[1:]), 2):
        if layer.in_channels != below.out_channels:
            raise UserError(
                f"layer {number} of the stack takes {layer.in_channels} channels, "
                f"but layer {number - 1} gives {below.out_channels}"
            )
    return layers


def _convolutions(stack: Stack) -> List[GroupConv]:
    return [layer for layer in check_stack(stack) if isinstance(layer, GroupConv)]


def stack_params(stack: Stack) -> int:
    """Number of weights, ||W^p||_0 + ||W^s||_0 of eq. 16."""
    return sum(layer.weight.size for layer in _convolutions(stack))


def fan_ins(stack: Stack) -> List[int]:
    """Inputs of one output channel in every convolution: S K_1, K_2, ..., K_L, the terms of `imbalance`."""
    return [layer.weight[0].size for layer in _convolutions(stack)]


def balance_terms(stack: Stack) -> List[float]:
    """The terms of `imbalance`: weights of every convolution over the stack's output channels.

    At a constant width they are S K_1, K_2, ..., K_L (eq. 11), for IGCV1's block M S and L. Where the width
    changes inside the stack, as in IGCV3's, the number of weights at a given product of the K_l is still the
    smallest when all convolutions have equally many. A channel-wise convolution beside two or more others is
    left out: the paper balances the 1x1 convolutions alone (IGCV2, section 3.2, Examples).
    """
    convolutions = _convolutions(stack)
    mixing = [layer for layer in convolutions if layer.weight.shape[1] > 1]
    return [
        layer.weight.size / convolutions[-1].out_channels for layer in (mixing if len(mixing) >= 2 else convolutions)
    ]


def composed_kernel(stack: Stack) -> np.ndarray:
    """The dense kernel W (C_out, C_in, taps down, taps across) of the stack, eq. 6.

    Spatial kernels compose to a larger one: 3x3 and 3x3 to 5x5, after a stride of 2 to 7x7. W is to be slid
    with the stride of the whole stack. Near the border it differs from a stack of several padded spatial
    convolutions, which pads between them too.
    """
    stack = check_stack(stack)
    dtype = np.result_type(*(layer.weight.dtype for layer in _convolutions(stack)))
    # Taps come first here, so that every product is one of contiguous matrices.
    W = np.eye(stack[0].in_channels, dtype=dtype)[None, None]
    step = 1  # pixels of the input between neighbors of the layer's input
    for layer in stack:
        if isinstance(layer, Permutation):
            W = W[:, :, layer.indices]
            continue
        C_out, K, down, across = layer.weight.shape
        height, width, _, C_in = W.shape
        branches = W.reshape(height, width, layer.groups, K, C_in)
        W = np.zeros((height + step * (down - 1), width + step * (across - 1), C_out, C_in), dtype)
        for row, column in np.ndindex(down, across):
            # Weights of 1 have strides of 0, for which numpy multiplies without BLAS, hence the copy.
            tap = layer.weight[:, :, row, column].copy().reshape(layer.groups, -1, K)
            W[step * row : step * row + height, step * column : step * column + width] += (tap @ branches).reshape(
                height, width, C_out, C_in
            )
        step *= layer.stride
    return W.transpose(2, 3, 0, 1)


def non_sparsity(stack: Stack) -> float:
    """Parameters of the stack over the size of its composed kernel (IGCV2, section 4.2 and Fig. 3)."""
    convolutions = _convolutions(stack)
    step, taps = 1, np.array([1, 1])
    for layer in convolutions:
        taps += step * (np.array(layer.weight.shape[2:]) - 1)
        step *= layer.stride
    return stack_params(stack) / (convolutions[-1].out_channels * convolutions[0].in_channels * taps.prod())
