"""Operators that become convolutions, and those that fold into one; `lower` has the others."""

from typing import Any, Mapping, Optional, Sequence, Tuple

import numpy as np

from igc_gluon.channels import dense_weight, permutation_indices
from igc_gluon.deploy.layers import Layer, View, permutations
from igc_gluon.errors import UserError
from igc_gluon.native import library

Attributes = Mapping[str, Any]  # of an operator of MXNet's


class Folding:
    """The layers so far, and one method for each kind of operator: (what, attributes, *inputs) -> View.

    `what` names the operator in messages. Inputs are Views, parameters numpy arrays.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self.layers = [Layer(None, tuple(input_shape))]
        # Any number of operators may read the image.
        self.image = self.layers[0].view()._replace(shared=True)

    def add_layer(self, *args: Any, **kwargs: Any) -> View:
        self.layers.append(Layer(*args, **kwargs))
        return self.layers[-1].view()

    def copy(self, view: View) -> View:
        """A layer that multiplies each channel of `view` by 1: where there is no convolution to fold
        something into."""
        layer = view.layer
        # It keeps the layer's own order of channels, so that reshapes that are under way go on.
        made = self.add_layer(
            library.CONV, layer.shape, layer.view(), groups=layer.shape[0], weight=np.ones((layer.shape[0], 1, 1, 1))
        )
        return made._replace(dims=view.dims, index=view.index)

    @staticmethod
    def is_open(view: View, before_sum: bool = True) -> bool:
        """Whether a sum (and, not `before_sum`, an activation after it) can still be added to the layer of
        `view`."""
        layer = view.layer
        return (
            layer.is_convolution
            and not view.shared
            and layer.activation is None
            and not (before_sum and layer.residual is not None)
        )

    def _affine(self, view: View, scale: Any, shift: Any) -> View:
        """`view` * scale + shift, float64 arrays in the order of its channels."""
        if not self.is_open(view):
            view = self.copy(view)
        layer, channels = view.layer, view.layer.shape[0]
        if scale is not None:
            layer.scale = np.ones(channels) if layer.scale is None else layer.scale
            layer.scale[view.index] *= scale
        if layer.bias is None:
            layer.bias = np.zeros(channels)
        layer.bias[view.index] = layer.bias[view.index] * (1 if scale is None else scale) + shift
        return view

    # Convolutions

    def convolution(
        self, what: str, attributes: Attributes, view: View, weight: np.ndarray, bias: Optional[np.ndarray] = None
    ) -> View:
        view = view.image(what)
        kernel = pair(attributes["kernel"])
        stride, pad = pair(attributes.get("stride") or (1, 1)), pair(attributes.get("pad") or (0, 0))
        groups = attributes.get("num_group", 1)
        channels, height, width = view.layer.shape
        if len(kernel) != 2 or attributes.get("layout", "NCHW") not in ("NCHW", "None", None):
            raise UserError(f"{what}: only images in NCHW have native kernels")
        if pair(attributes.get("dilate") or (1, 1)) != (1, 1):
            raise UserError(f"{what}: dilation has no native kernel")
        require_shape(what, weight, (attributes["num_filter"], channels // groups, *kernel))
        extent = window_extent(what, (height, width), kernel, stride, pad)
        if permutations(view.index) is None and (groups == 1 or kernel == (1, 1)):  # the weights take the order
            weight, groups = dense_weight(weight, groups)[:, np.argsort(view.index)], 1
            view = view._replace(index=np.arange(channels))
        if stride[0] != stride[1]:
            made = self._with_columns(what, view, groups, weight, stride, pad, extent)
            return made if bias is None else self._affine(made, None, bias.astype(np.float64))
        primary = self._primary_of(view, groups, weight, stride, pad)
        if primary is not None:
            primary.kind, primary.weight2 = library.BLOCK, weight
            # The block's last permutation is undone here; the graph's own brings it back.
            made = View(primary, view.dims, view.index, False)
        else:
            made = self.add_layer(library.CONV, (len(weight), *extent), view, groups, kernel, stride[0], pad, weight)
        return made if bias is None else self._affine(made, None, bias.astype(np.float64))

    def _primary_of(self, view: View, partitions: int, weight: np.ndarray, stride: Any, pad: Any) -> Optional[Layer]:
        """The layer of `view` if it is the primary group convolution to this secondary one, else None."""
        layer = view.layer
        channels = layer.shape[0]
        fits = (
            layer.kind == library.CONV
            and self.is_open(view)
            and layer.scale is None
            and layer.bias is None
            and layer.groups * partitions == channels
            and len(weight) == channels
            and weight.shape[2:] == (1, 1)
            and stride == (1, 1)
            and pad == (0, 0)
            and (view.index == permutation_indices(channels, layer.groups)).all()
        )
        return layer if fits else None

    def _with_columns(
        self, what: str, view: View, groups: int, weight: np.ndarray, stride: Any, pad: Any, extent: Tuple[int, ...]
    ) -> View:
        """A convolution whose strides differ. k x 1 with stride (s, 1) waits, with its two strides, for 1 x k
        with stride (1, s) and becomes one convolution with it; to_ops refuses what is left waiting."""
        layer = view.layer
        if not isinstance(layer.stride, tuple):
            return self.add_layer(
                library.CONV, (len(weight), *extent), view, groups, weight.shape[2:], stride, pad, weight
            )
        if not (
            self.is_open(view)
            and layer.groups == groups
            and layer.scale is None
            and layer.bias is None
            and layer.kernel[1] == weight.shape[2] == 1
            and layer.pad[1] == pad[0] == 0
            and layer.stride == stride[::-1]
            and stride[0] == 1
        ):
            raise UserError(f"{what}: strides {stride}, which differ, have no native kernel")
        # Both are linear and what is padded stays zero in between.
        rows = layer.weight[..., 0].astype(np.float64).reshape(groups, -1, *layer.weight.shape[1:3])
        columns = weight[:, :, 0].astype(np.float64).reshape(groups, -1, weight.shape[1], weight.shape[3])
        both = np.einsum("gomx,gmiy->goiyx", columns, rows)
        layer.weight = both.reshape(len(weight), *both.shape[2:])
        layer.kernel, layer.stride, layer.pad = layer.weight.shape[2:], stride[1], (layer.pad[0], pad[1])
        layer.shape = (len(weight), *extent)
        return layer.view()

    def fully_connected(
        self, what: str, attributes: Attributes, view: View, weight: np.ndarray, bias: Optional[np.ndarray] = None
    ) -> View:
        channels, height, width = view.layer.shape
        if not attributes.get("flatten", True) and len(view.dims) != 2:
            raise UserError(f"{what}: it is applied to the last axis only, which has no native kernel")
        if view.dims not in ((1, channels * height * width), (1, channels, height, width)):
            raise UserError(f"{what} on a tensor of shape {('N',) + view.dims[1:]} has no native kernel")
        require_shape(what, weight, (attributes["num_hidden"], channels * height * width))
        # Over a whole image it is a convolution as large as the image.
        made = self.add_layer(
            library.CONV,
            (len(weight), 1, 1),
            view,
            kernel=(height, width),
            weight=weight.reshape(len(weight), channels, height, width),
        )
        made = made._replace(dims=(1, len(weight)))
        return made if bias is None else self._affine(made, None, bias.astype(np.float64))

    # What folds into a convolution

    def batch_norm(
        self,
        what: str,
        attributes: Attributes,
        view: View,
        gamma: np.ndarray,
        beta: np.ndarray,
        mean: np.ndarray,
        variance: np.ndarray,
    ) -> View:
        view = view if len(view.dims) == 2 else view.image(what)
        if attributes.get("axis", 1) != 1:
            raise UserError(f"{what}: normalization over axis {attributes['axis']} has no native kernel")
        require_shape(what, mean, (view.layer.shape[0],))
        gamma, beta, mean, variance = (a.astype(np.float64) for a in (gamma, beta, mean, variance))
        with np.errstate(divide="ignore", invalid="ignore"):  # to_ops finds what is not finite
            scale = 1 / np.sqrt(variance + attributes.get("eps", 1e-3))
            if not attributes.get("fix_gamma", True):
                scale *= gamma
            return self._affine(view, scale, beta - mean * scale)

    def multiply_scalar(self, what: str, attributes: Attributes, view: View) -> View:
        view.cells(what)
        return self._affine(view, float(attributes["scalar"]), 0.0)

    def add_scalar(self, what: str, attributes: Attributes, view: View) -> View:
        view.cells(what)
        return self._affine(view, None, float(attributes["scalar"]))

    def activation(self, what: str, attributes: Attributes, view: View) -> View:
        kind = attributes.get("act_type", "relu")
        if kind != "relu":
            raise UserError(f"{what}: {kind} has no native kernel, only relu and a clip to 0..6 have")
        return self._activate(view, "relu")

    def clip(self, what: str, attributes: Attributes, view: View) -> View:
        if (attributes["a_min"], attributes["a_max"]) != (0, 6):
            raise UserError(
                f"{what}: a clip to {attributes['a_min']}..{attributes['a_max']} has no native kernel, only 0..6 has"
            )
        return self._activate(view, "relu6")

    def _activate(self, view: View, kind: str) -> View:
        if not self.is_open(view, before_sum=False):
            view = self.copy(view)
        view.layer.activation = kind
        return view

    def add(self, what: str, attributes: Attributes, a: View, b: View) -> View:
        if a.dims != b.dims or a.layer.shape != b.layer.shape:
            raise UserError(f"{what}: adding tensors of different shapes has no native kernel")
        # The branch that goes deepest ends the sum: the other one, a shortcut, is cheap and can be computed
        # before.
        open_ones = sorted((v for v in (a, b) if self.is_open(v)), key=lambda v: v.layer.depth)
        end = open_ones[-1] if open_ones else self.copy(a)
        other = b if end is a or not open_ones else a
        layer = end.layer
        in_order = np.empty_like(end.index)
        in_order[end.index] = other.index
        layer.residual = View(other.layer, other.layer.view().dims, in_order, True)
        layer.depth = max(layer.depth, other.layer.depth + 1)
        # Nobody has read it yet, so it can move behind what it adds.
        self.layers.remove(layer)
        self.layers.append(layer)
        return end


def pair(value: Any) -> Tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def require_shape(what: str, array: np.ndarray, shape: Sequence[int]) -> None:
    if not isinstance(array, np.ndarray) or array.shape != tuple(shape):
        actual = array.shape if isinstance(array, np.ndarray) else "computed"
        raise UserError(
            f"{what} needs a parameter of shape {tuple(shape)} for images of this size, its own is {actual}"
        )


def window_extent(
    what: str, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> Tuple[int, ...]:
    extent = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, pad))
    if min(extent) < 1:
        raise UserError(f"{what} has a window of {kernel}, larger than its image of {size}; give a larger input_shape")
    return extent
