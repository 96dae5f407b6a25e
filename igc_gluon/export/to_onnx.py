"""An ONNX model of a described network, for one batch size; permutations are reshape, transpose, reshape.

made = of_network(net, batch=16)      # with weights; onnx.save(made, "net.onnx")
preprocessing_of(made).prepare(image)  # as the network was trained, see igc_gluon.data.preprocessing
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.export.graph import order_of
from igc_gluon.symbol_file import PREPROCESSING

OPSET, IR_VERSION = 17, 8  # old enough for every engine of the last years


class _Writer:
    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, array):
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, inputs, **attributes):
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def reshape(self, x, shape):
        return self.add("Reshape", [x, self.constant(np.array(shape, np.int64))])

    def numbers(self, *values):
        return [self.constant(np.array(value, np.float32)) for value in values]


def of_network(net, batch=1):
    """An onnx.ModelProto of a network of `model_zoo` that has weights and says what it expects of an image, for batches
    of that size. Raises UserError on an operator that cannot be described."""
    # slow: these import MXNet
    from igc_gluon.export import graph
    from igc_gluon.model_zoo.attributes import preprocessing_attribute

    shape = net.preprocessing.image_shape
    return model(graph.describe(net, shape), shape, batch, preprocessing_attribute(net))


def preprocessing_of(made):
    """The Preprocessing, with the names of the classes, that an onnx.ModelProto says; None where it says none.

    Raises UserError where it is damaged."""
    text = next((entry.value for entry in made.metadata_props if entry.key == PREPROCESSING), None)
    return None if text is None else Preprocessing.from_json(text)


def model(nodes, input_shape, batch, metadata=None):
    """A checked onnx.ModelProto, `images` (batch,) + input_shape -> `scores`, of [graph.Node]. metadata: {key: text}
    for its metadata_props; PREPROCESSING says what the network expects of an image, in JSON."""
    writer, values = _Writer(), ["images"]
    for node in nodes:
        values.append(_WRITERS[node.op](writer, node, batch, *[values[v] for v in node.inputs]))
    inputs = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, *input_shape])
    outputs = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, *nodes[-1].shape])
    writer.nodes[-1].output[0] = "scores"
    graph = helper.make_graph(writer.nodes, "network", [inputs], [outputs], writer.initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    helper.set_model_props(made, metadata or {})
    onnx.checker.check_model(made, full_check=True)
    return made


def _pads(node):
    return list(node.attributes["pad"]) * 2


def _conv(w, node, batch, x):
    a = node.attributes
    return w.add(
        "Conv",
        [x] + [w.constant(array) for array in node.arrays.values()],
        group=a["groups"],
        kernel_shape=a["kernel"],
        strides=a["stride"],
        pads=_pads(node),
    )


def _linear(w, node, batch, x):
    return w.add("Gemm", [x] + [w.constant(array) for array in node.arrays.values()], transB=1)


def _batch_norm(w, node, batch, x):
    arrays = [w.constant(node.arrays[name]) for name in ("gamma", "beta", "mean", "variance")]
    return w.add("BatchNormalization", [x] + arrays, epsilon=node.attributes["epsilon"])


def _pool(op, **options):
    def write(w, node, batch, x):
        return w.add(
            op,
            [x],
            kernel_shape=node.attributes["kernel"],
            strides=node.attributes["stride"],
            pads=_pads(node),
            **options,
        )

    return write


def _permute(w, node, batch, x):
    channels, *image = node.shape
    if "index" in node.attributes:
        return w.add("Gather", [x, w.constant(order_of(node))], axis=1)
    branches = node.attributes["branches"]
    x = w.reshape(x, (batch, branches, channels // branches, *image))
    x = w.add("Transpose", [x], perm=[0, 2, 1, *range(3, len(image) + 3)])
    return w.reshape(x, (batch, channels, *image))


def _clip(w, node, batch, x):
    return w.add("Clip", [x, *w.numbers(node.attributes["low"], node.attributes["high"])])


def _affine(w, node, batch, x):
    scale, shift = w.numbers(node.attributes["scale"], node.attributes["shift"])
    return w.add("Add", [w.add("Mul", [x, scale]), shift])


def _sum(w, node, batch, x):
    return w.add("ReduceSum", [x, w.constant(np.array([node.attributes["axis"]], np.int64))], keepdims=0)


_WRITERS = {
    "conv": _conv,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": lambda w, node, batch, x: w.add("Relu", [x]),
    "clip": _clip,
    "add": lambda w, node, batch, x, y: w.add("Add", [x, y]),
    "max_pool": _pool("MaxPool"),
    "mean_pool": _pool("AveragePool", count_include_pad=1),
    "mean": lambda w, node, batch, x: w.add("GlobalAveragePool", [x]),
    "flatten": lambda w, node, batch, x: w.add("Flatten", [x]),
    "permute": _permute,
    "reshape": lambda w, node, batch, x: w.reshape(x, (batch, *node.shape)),
    "transpose": lambda w, node, batch, x: w.add("Transpose", [x], perm=list(node.attributes["axes"])),
    "sum": _sum,
    "affine": _affine,
}
