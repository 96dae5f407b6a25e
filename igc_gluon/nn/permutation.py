"""The channel permutation between the two group convolutions of an IGC block (IGCV1, eq. 2 and 4)."""

from typing import Any

from mxnet.gluon import HybridBlock

from igc_gluon.channels import permutation_indices  # noqa: F401 (of this module too)
from igc_gluon.errors import UserError


def inverse_branch_factor(channels: int, branch_factor: int) -> int:
    """The branch factor of the inverse permutation, C/b. Raises UserError if b does not divide C."""
    if branch_factor < 1 or channels % branch_factor:
        raise UserError(f"the permutation's branch factor {branch_factor} does not divide {channels} channels")
    return channels // branch_factor


class ChannelPermutation(HybridBlock):
    """The authors' `Reorder(branch_factor)`: (N, C, H, W) -> (N, C, H, W), see `permutation_indices`.

    `branch_factor` is the number of branches that the input channels come in: L after the primary group
    convolution, M after the secondary one. The inverse of `ChannelPermutation(b)` on C channels is
    `ChannelPermutation(C // b)`. Made of reshapes and one transposition, so it works on any device and data type,
    hybridized or not, and MXNet raises its own error where b does not divide C.
    """

    def __init__(self, branch_factor: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if branch_factor < 1:
            raise UserError(f"the permutation's branch factor must be at least 1, not {branch_factor}")
        self._branch_factor = branch_factor

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        branches = F.reshape(x, shape=(0, -4, self._branch_factor, -1, -2))
        return F.reshape(F.swapaxes(branches, dim1=1, dim2=2), shape=(0, -3, -2))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(branch_factor={self._branch_factor})"
