"""From MXNet's operators to native ones: batch normalizations fold into convolutions, sums and activations
become the end of a convolution, reshapes and transpositions an order of channels, and a group convolution, a
permutation and a 1x1 group convolution that belong together an IGC block.

An operator is a row of OPERATORS; what is not there raises UserError with its name.
"""

from typing import Any, List, Sequence, Tuple

import numpy as np

from igc_gluon.deploy.fold import Attributes, Folding, pair, window_extent
from igc_gluon.deploy.layers import View, permutations, to_ops
from igc_gluon.errors import UserError
from igc_gluon.graph.permutations import PERMUTE
from igc_gluon.graph.tracing import Ref
from igc_gluon.native import library
from igc_gluon.native.library import Op


def lower(network: Any, input_shape: Sequence[int]) -> Tuple[List[Op], Tuple[int, ...]]:
    """([library.Op], output shape) of a graph.network.Network for images of `input_shape`.

    The output shape, of one image, is (scores,) or (channels, height, width). Raises UserError.
    """
    lowering = Lowering(input_shape)
    views = {name: lowering.image for name in network.graph.data}
    for number, node in network.nodes.items():
        if node.op not in OPERATORS:
            raise UserError(f"operator {node.op} ({node.name}) has no native kernel")
        inputs = [views[value] if value in views else network.arrays[value] for value in node.inputs]
        what = f"operator {node.op} ({node.name})"
        if [isinstance(i, View) for i in inputs[:2]] != ([True, node.op in SUMS] if inputs[1:] else [True]):
            raise UserError(f"{what} on computed parameters or on parameters alone has no native kernel")
        lower_one: Any = OPERATORS[node.op]
        view = lower_one(lowering, what, node.attributes, *inputs)
        views[Ref(number)] = view._replace(shared=view.shared or network.readers[Ref(number)] > 1)
    if not network.nodes:
        raise UserError("the network has no operators")
    result = views[network.graph.outputs[0]]
    if len(result.dims) != 2:
        result.image("a result")
    if result.layer.kind is None:
        result = lowering.copy(result)
    return to_ops(lowering.layers, result), result.dims[1:]


class Lowering(Folding):
    """Folding, and what pools or only changes the order of channels."""

    def pooling(self, what: str, attributes: Attributes, view: View) -> View:
        view = view.image(what)
        channels, height, width = view.layer.shape
        kind = attributes.get("pool_type", "max")
        if kind not in ("max", "avg") or attributes.get("layout", "NCHW") not in ("NCHW", "None", None):
            raise UserError(f"{what}: {kind} pooling has no native kernel")
        if attributes.get("global_pool", False):
            kernel, stride, pad = (height, width), (1, 1), (0, 0)
        else:
            kernel = pair(attributes["kernel"])
            stride, pad = pair(attributes.get("stride") or (1, 1)), pair(attributes.get("pad") or (0, 0))
            if attributes.get("pooling_convention", "valid") != "valid" and any(
                (n + 2 * p - k) % s for n, k, s, p in zip((height, width), kernel, stride, pad)
            ):
                raise UserError(f"{what}: windows that stick out (pooling_convention 'full') have no native kernel")
        if stride[0] != stride[1]:
            raise UserError(f"{what}: strides {stride}, which differ, have no native kernel")
        shape = (channels, *window_extent(what, (height, width), kernel, stride, pad))
        options = {"kernel": kernel, "stride": stride[0], "pad": pad}
        source = view.layer.view()
        if kind == "max":
            made = self.add_layer(library.MAX_POOL, shape, source, **options)
        elif kernel == (height, width) and pad == (0, 0):
            made = self.add_layer(library.MEAN_POOL, shape, source)
        elif pad != (0, 0) and not attributes.get("count_include_pad", True):
            raise UserError(f"{what}: averages that leave out the padding have no native kernel")
        else:
            weight = np.full((channels, 1, *kernel), 1 / (kernel[0] * kernel[1]))
            made = self.add_layer(library.CONV, shape, source, channels, weight=weight, **options)
        return made._replace(index=view.index)

    # What only changes the order of channels, and the sum over branches

    def permute(self, what: str, attributes: Attributes, view: View) -> View:
        view = view.image(what)
        view, layer = view._replace(index=view.index[attributes["index"]]), view.layer
        if (
            layer.kind == library.CONV
            and layer.groups == 1
            and layer.residual is None
            and not view.shared
            and permutations(view.index) is None
        ):  # the weights take the order
            assert layer.weight is not None
            layer.weight = layer.weight[view.index]
            layer.scale, layer.bias = (None if a is None else a[view.index] for a in (layer.scale, layer.bias))
            return view._replace(index=np.arange(len(view.index)))
        return view

    def reshape(self, what: str, attributes: Attributes, view: View) -> View:
        if attributes.get("reverse", False):
            raise UserError(f"{what}: reverse has no native kernel")
        view = view._replace(dims=_reshaped(what, view.dims, attributes["shape"]))
        if view.dims != (1, int(np.prod(view.dims))):  # flattened, it may go to a fully connected layer
            view.cells(what)
        return view

    def flatten(self, what: str, attributes: Attributes, view: View) -> View:
        return view._replace(dims=(1, int(np.prod(view.dims))))

    def swap_axes(self, what: str, attributes: Attributes, view: View) -> View:
        axes = list(range(len(view.dims)))
        a, b = attributes.get("dim1", 0), attributes.get("dim2", 0)
        axes[a], axes[b] = axes[b], axes[a]
        return self.transpose(what, {"axes": axes}, view)

    def transpose(self, what: str, attributes: Attributes, view: View) -> View:
        axes, cells = list(attributes["axes"]), view.cells(what)
        rest = list(range(1 + cells.ndim, len(view.dims)))
        if axes[0] != 0 or len(axes) != len(view.dims) or axes[1 + cells.ndim :] != rest:
            raise UserError(f"{what}: a transposition of the image itself has no native kernel")
        moved = cells.transpose([axis - 1 for axis in axes[1 : 1 + cells.ndim]])
        return view._replace(dims=tuple(view.dims[axis] for axis in axes), index=moved.ravel())

    def sum(self, what: str, attributes: Attributes, view: View) -> View:
        axis, cells = attributes.get("axis"), view.cells(what)
        axis = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
        if (
            not isinstance(axis, int)
            or not 1 <= axis <= cells.ndim
            or attributes.get("exclude")
            or attributes.get("keepdims")
        ):
            raise UserError(f"{what}: only a sum over branches of channels has a native kernel")
        branches = np.moveaxis(cells, axis - 1, 0).reshape(cells.shape[axis - 1], -1)
        dims = view.dims[:axis] + view.dims[axis + 1 :]
        layer, channels = view.layer, branches.shape[1]
        if layer.kind == library.CONV and layer.groups == 1 and self.is_open(view):
            assert layer.weight is not None
            scaled = layer.weight if layer.scale is None else layer.weight * layer.scale[:, None, None, None]
            layer.weight, layer.scale = scaled.astype(np.float64)[branches].sum(axis=0), None
            layer.bias = None if layer.bias is None else layer.bias[branches].sum(axis=0)
            layer.shape = (channels, *layer.shape[1:])
            made = layer.view()
        else:
            weight = np.zeros((channels, layer.shape[0], 1, 1))
            for branch in branches:
                weight[np.arange(channels), branch] += 1
            made = self.add_layer(library.CONV, (channels, *layer.shape[1:]), layer.view(), weight=weight)
        return made._replace(dims=dims)

    def identity(self, what: str, attributes: Attributes, view: View, *_: Any) -> View:
        return view


OPERATORS = {
    PERMUTE: Lowering.permute,
    "Convolution": Lowering.convolution,
    "FullyConnected": Lowering.fully_connected,
    "BatchNorm": Lowering.batch_norm,
    "_mul_scalar": Lowering.multiply_scalar,
    "_plus_scalar": Lowering.add_scalar,
    "Activation": Lowering.activation,
    "relu": Lowering.activation,
    "clip": Lowering.clip,
    "elemwise_add": Lowering.add,
    "broadcast_add": Lowering.add,
    "Pooling": Lowering.pooling,
    "Reshape": Lowering.reshape,
    "Flatten": Lowering.flatten,
    "SwapAxis": Lowering.swap_axes,
    "transpose": Lowering.transpose,
    "sum": Lowering.sum,
    "Dropout": Lowering.identity,  # in inference
    "_copy": Lowering.identity,
}

SUMS = ("elemwise_add", "broadcast_add")  # read two Views, all others one


def _reshaped(what: str, dims: Sequence[int], target: Sequence[int]) -> Tuple[int, ...]:  # noqa: C901 (a case for each special number)
    """MXNet's rules for the special numbers 0, -1, -2, -3 and -4 in a target shape."""
    target, result, at, unknown = list(target), [], 0, None
    try:
        while target:
            code = target.pop(0)
            if code == 0:
                result.append(dims[at])
            elif code == -2:
                result += dims[at:]
                at = len(dims) - 1
            elif code == -3:
                result.append(dims[at] * dims[at + 1])
                at += 1
            elif code == -4:
                parts = [target.pop(0), target.pop(0)]
                if -1 in parts:
                    parts[parts.index(-1)] = dims[at] // abs(parts[0] * parts[1])
                result += parts
            elif code == -1:
                unknown = len(result)
                result.append(1)
            else:
                result.append(code)
            at += 1
    except (IndexError, ZeroDivisionError):
        result = []
    total = int(np.prod(dims))
    if unknown is not None and result and total % int(np.prod(result)) == 0:
        result[unknown] = total // int(np.prod(result))
    if not result or min(result) < 1 or int(np.prod(result)) != total:
        raise UserError(f"{what}: a tensor of shape {('N',) + tuple(dims[1:])} cannot be reshaped natively like this")
    return tuple(result)
