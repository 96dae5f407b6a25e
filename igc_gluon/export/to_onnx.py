"""An ONNX model of a network, with a free batch size; permutations are reshape, transpose, reshape.

made = of_network(net)                 # with weights; onnx.save(made, "net.onnx")
preprocessing_of(made).prepare(image)  # as the network was trained, see igc_gluon.data.preprocessing
"""

import json
from dataclasses import replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import igc_gluon
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.export.graph import Node, order_of
from igc_gluon.symbol_file import PREPROCESSING

OPSET, IR_VERSION = 17, 8  # old enough for every engine of the last years
PIXELS = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}  # what a model may take with normalization inside


class _Writer:
    def __init__(self) -> None:
        self.nodes: List[Any] = []
        self.initializers: List[Any] = []

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """To `shape` of one image: 0 leaves the batch as it is."""
        return self.add("Reshape", [x, self.constant(np.array([0, *shape], np.int64))])

    def numbers(self, *values: float) -> List[str]:
        return [self.constant(np.array(value, np.float32)) for value in values]


def of_network(net: Any, batch: Optional[int] = None, pixels: Optional[str] = None, softmax: bool = False) -> Any:
    """An onnx.ModelProto of a network of `model_zoo` that has weights and says what it expects of an image.

    Its metadata say `model`, `classes` (the name of each score as a list in JSON, where they are known) and, under
    PREPROCESSING, what it expects of an image. Raises UserError on an operator that cannot be described, on a size of
    image that does not fit, and where it is not known how to normalize.

    Parameters
    ----------
    batch : int
        The number of images of every call; None: any.
    pixels : str, "uint8" or "float32"
        The model takes pixels 0..255 of that type and normalizes them itself. None: it takes normalized images.
    softmax : bool
        It gives probabilities, not scores.
    """
    # slow: these import MXNet
    from igc_gluon.export import graph
    from igc_gluon.model_zoo.attributes import check_normalized, preprocessing_attribute

    expected: Preprocessing = net.preprocessing
    normalization = None
    metadata = {"model": net.model, **preprocessing_attribute(net)}
    if pixels is not None:
        check_normalized(net)
        normalization = Normalization(pixels, expected.mean, expected.std)
        channels = expected.image_shape[0]
        outside = replace(Preprocessing.from_json(metadata[PREPROCESSING]), mean=(0,) * channels, std=(1,) * channels)
        metadata[PREPROCESSING] = outside.to_json()
    if expected.class_names:
        metadata["classes"] = json.dumps(list(expected.class_names), ensure_ascii=False)
    shape = expected.image_shape
    return model(graph.fold_batch_norms(graph.describe(net, shape)), shape, batch, metadata, normalization, softmax)


def preprocessing_of(made: Any) -> Optional[Preprocessing]:
    """The Preprocessing, with the names of the classes, that an onnx.ModelProto says; None where it says none. Of a
    model that normalizes, mean is 0 and std 1: what it takes are pixels.

    Raises UserError where it is damaged."""
    text = next((entry.value for entry in made.metadata_props if entry.key == PREPROCESSING), None)
    return None if text is None else Preprocessing.from_json(text)


class Normalization:
    """(pixel - mean) / std of pixels of a type of PIXELS, in the order of operations of `data.normalization`."""

    def __init__(self, pixels: str, mean: Any, std: Any) -> None:
        self.kind = PIXELS[pixels]
        mean, std = (np.asarray(values, np.float64)[:, None, None] for values in (mean, std))
        self.scale, self.shift = (1 / std).astype(np.float32), (-mean / std).astype(np.float32)

    def write(self, w: _Writer, x: str) -> str:
        if self.kind != TensorProto.FLOAT:
            x = w.add("Cast", [x], to=TensorProto.FLOAT)
        return w.add("Add", [w.add("Mul", [x, w.constant(self.scale)]), w.constant(self.shift)])


def model(
    nodes: Sequence[Node],
    input_shape: Sequence[int],
    batch: Optional[int] = None,
    metadata: Optional[Mapping[str, str]] = None,
    normalization: Optional[Normalization] = None,
    softmax: bool = False,
) -> Any:
    """A checked onnx.ModelProto, `images` (batch,) + input_shape -> `scores`, or `probabilities`, of [graph.Node].
    metadata: {key: text} for its metadata_props; PREPROCESSING says what the network expects of an image, in JSON.
    Raises UserError on what has no free batch size, and on a softmax of what are no scores."""
    writer, kind = _Writer(), TensorProto.FLOAT if normalization is None else normalization.kind
    values = ["images" if normalization is None else normalization.write(writer, "images")]
    for node in nodes:
        values.append(_WRITERS[node.op](writer, node, *[values[v] for v in node.inputs]))
    shape, name = nodes[-1].shape, "scores"
    if softmax:
        if len(shape) != 1:
            raise UserError(f"a softmax goes behind scores; this network gives {'x'.join(map(str, shape))}")
        writer.add("Softmax", [values[-1]], axis=1)
        name = "probabilities"
    images = "batch" if batch is None else batch
    inputs = helper.make_tensor_value_info("images", kind, [images, *input_shape])
    outputs = helper.make_tensor_value_info(name, TensorProto.FLOAT, [images, *shape])
    writer.nodes[-1].output[0] = name
    graph = helper.make_graph(writer.nodes, "network", [inputs], [outputs], writer.initializers)
    made = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="igc-gluon",
        producer_version=igc_gluon.__version__,
    )
    helper.set_model_props(made, dict(metadata or {}))
    onnx.checker.check_model(made, full_check=True)
    return made


def _pads(node: Node) -> List[int]:
    return list(node.attributes["pad"]) * 2


def _conv(w: _Writer, node: Node, x: str) -> str:
    a = node.attributes
    return w.add(
        "Conv",
        [x] + [w.constant(array) for array in node.arrays.values()],
        group=a["groups"],
        kernel_shape=a["kernel"],
        strides=a["stride"],
        pads=_pads(node),
    )


def _linear(w: _Writer, node: Node, x: str) -> str:
    return w.add("Gemm", [x] + [w.constant(array) for array in node.arrays.values()], transB=1)


def _batch_norm(w: _Writer, node: Node, x: str) -> str:
    arrays = [w.constant(node.arrays[name]) for name in ("gamma", "beta", "mean", "variance")]
    return w.add("BatchNormalization", [x] + arrays, epsilon=node.attributes["epsilon"])


def _pool(op: str, **options: Any) -> Callable[..., str]:
    def write(w: _Writer, node: Node, x: str) -> str:
        return w.add(
            op,
            [x],
            kernel_shape=node.attributes["kernel"],
            strides=node.attributes["stride"],
            pads=_pads(node),
            **options,
        )

    return write


def _permute(w: _Writer, node: Node, x: str) -> str:
    channels, *image = node.shape
    if "index" in node.attributes:
        return w.add("Gather", [x, w.constant(order_of(node))], axis=1)
    branches = node.attributes["branches"]
    x = w.reshape(x, (branches, channels // branches, *image))
    x = w.add("Transpose", [x], perm=[0, 2, 1, *range(3, len(image) + 3)])
    return w.reshape(x, (channels, *image))


def _clip(w: _Writer, node: Node, x: str) -> str:
    return w.add("Clip", [x, *w.numbers(node.attributes["low"], node.attributes["high"])])


def _affine(w: _Writer, node: Node, x: str) -> str:
    scale, shift = w.numbers(node.attributes["scale"], node.attributes["shift"])
    return w.add("Add", [w.add("Mul", [x, scale]), shift])


def _transpose(w: _Writer, node: Node, x: str) -> str:
    axes = list(node.attributes["axes"])
    if axes[0] != 0:
        raise UserError("a transposition that moves the images of a batch has no ONNX with a free batch size")
    return w.add("Transpose", [x], perm=axes)


def _sum(w: _Writer, node: Node, x: str) -> str:
    return w.add("ReduceSum", [x, w.constant(np.array([node.attributes["axis"]], np.int64))], keepdims=0)


_WRITERS: Dict[str, Callable[..., str]] = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": lambda w, node, x: w.add("Relu", [x]),
    "clip": _clip,
    "add": lambda w, node, x, y: w.add("Add", [x, y]),
    "max_pool": _pool("MaxPool"),
    "mean_pool": _pool("AveragePool", count_include_pad=1),
    "mean": lambda w, node, x: w.add("GlobalAveragePool", [x]),
    "flatten": lambda w, node, x: w.add("Flatten", [x]),
    "permute": _permute,
    "reshape": lambda w, node, x: w.reshape(x, node.shape),
    "transpose": _transpose,
    "sum": _sum,
    "affine": _affine,
}
