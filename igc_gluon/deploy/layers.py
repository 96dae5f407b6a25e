"""What a network consists of while it is lowered: layers, each of which will be one native operation, and
views of their results, in which reshapes and transpositions have only changed the order of channels."""

from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from igc_gluon.channels import branches_of, permutation_indices
from igc_gluon.errors import UserError
from igc_gluon.native import library
from igc_gluon.native.library import Op


@dataclass(eq=False)
class Layer:
    """A library.Op in the making. `shape` is (channels, height, width) of the result; `source` and `residual`
    are Views. scale and bias are float64, rounded once at the end. `depth`: layers on the longest way from
    the image."""

    kind: Optional[int]  # None: the image
    shape: tuple
    source: Optional["View"] = None
    groups: int = 1
    kernel: tuple = (1, 1)
    stride: int = 1
    pad: tuple = (0, 0)
    weight: Optional[np.ndarray] = None
    weight2: Optional[np.ndarray] = None
    scale: Optional[np.ndarray] = None
    bias: Optional[np.ndarray] = None
    activation: Optional[str] = None
    residual: Optional["View"] = None
    depth: int = 0

    def __post_init__(self) -> None:
        if self.source is not None:
            self.depth = self.source.layer.depth + 1

    @property
    def is_convolution(self) -> bool:
        return self.kind in (library.CONV, library.BLOCK)

    def view(self) -> "View":
        return View(self, (1, *self.shape), np.arange(self.shape[0]), False)


class View(NamedTuple):
    """The result of `layer` as MXNet sees it.

    dims: MXNet's shape, batch 1. index: channel of the layer at each place of the axes that channels are
    spread over, flat. shared: whether several operators read the result, so that no one may change the layer.
    """

    layer: Layer
    dims: tuple
    index: np.ndarray  # type: ignore[assignment]  # hides tuple.index
    shared: bool

    def cells(self, what: str) -> np.ndarray:
        """`index` with the axes that it is spread over. Raises UserError naming `what` if the image is cut
        up."""
        channels, height, width = self.layer.shape
        axes = self.dims[1:] if height == width == 1 else self.dims[1:-2]
        rest = self.dims[1 + len(axes) :]
        if self.dims[0] == 1 and int(np.prod(axes)) == channels and rest in ((), (height, width)):
            return self.index.reshape(axes)
        raise UserError(f"{what} on a tensor of shape {('N',) + self.dims[1:]} has no native kernel")

    def image(self, what: str) -> "View":
        """Itself, if it is (N, channels, height, width). Raises UserError otherwise."""
        if self.dims == (1, *self.layer.shape):
            return self
        raise UserError(f"{what} on a tensor of shape {('N',) + self.dims[1:]} has no native kernel")


def permutations(index: np.ndarray) -> Optional[List[int]]:
    """Numbers of groups of the IGC_PERMUTEs, in order, that put channels into the order `index`; None if more
    than two would be needed."""
    channels, branches = len(index), branches_of(index)
    if branches is not None:
        return [branches] if branches > 1 else []
    candidates = {b: permutation_indices(channels, b) for b in range(2, channels) if channels % b == 0}
    for b, first in candidates.items():
        for c, second in candidates.items():
            if (first[second] == index).all():
                return [b, c]
    return None


def to_ops(layers: Sequence[Layer], result: View) -> List[Op]:
    """[library.Op] of `layers`, the last of which `result` is a View of. Raises UserError on numbers that float32
    cannot hold."""
    tensors: Dict[Any, int] = {}
    ops: List[Op] = []

    def tensor(view: View) -> int:
        """Number of the tensor that holds `view`, its channels in order."""
        number, index = tensors[id(view.layer)], view.index
        factors = permutations(index)
        if factors is None:  # a convolution with one 1 for each channel
            key: Tuple[int, Any] = (number, tuple(index))
            factors = []
            if key not in tensors:
                ops.append(
                    library.Op(
                        library.CONV,
                        number,
                        len(index),
                        weight=np.eye(len(index), dtype=np.float32)[index, :, None, None],
                    )
                )
                tensors[key] = len(ops)
            number = tensors[key]
        for branches in factors:
            key = number, branches
            if key not in tensors:
                ops.append(library.Op(library.PERMUTE, number, groups=branches))
                tensors[key] = len(ops)
            number = tensors[key]
        return number

    for layer in layers:
        if isinstance(layer.stride, tuple):
            raise UserError(f"a convolution with strides {layer.stride}, which differ, has no native kernel")
        if layer.kind is not None:
            assert layer.source is not None
            source = tensor(layer.source)
            residual = -1 if layer.residual is None else tensor(layer.residual)
            convolution = layer.is_convolution
            ops.append(
                library.Op(
                    layer.kind,
                    source,
                    layer.shape[0] if convolution else 0,
                    layer.groups,
                    layer.kernel,
                    layer.stride,
                    layer.pad,
                    layer.activation,
                    residual,
                    _float32(layer.weight),
                    _float32(layer.weight2),
                    _float32(layer.scale),
                    _float32(layer.bias),
                )
            )
        tensors[id(layer)] = len(ops)
    tensor(result)
    return ops


def _float32(array: Optional[np.ndarray]) -> Optional[np.ndarray]:
    if array is None:
        return None
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise UserError(
            "a folded batch normalization is beyond float32: a moving variance is negative, or "
            "so small that it needs a larger epsilon"
        )
    return array
