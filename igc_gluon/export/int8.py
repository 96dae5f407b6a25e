"""An ONNX model with 8-bit integers, as QuantizeLinear and DequantizeLinear around its operators (QDQ), which ONNX
Runtime, OpenVINO and TensorRT turn into their own kernels. ONNX Runtime's quantizer does it."""

import contextlib
import itertools
import logging
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from igc_gluon.errors import UserError
from igc_gluon.export.check import largest_difference, line_of, open_session

# What computes, and what lies between: a tensor stays in 8 bits from one convolution to the next.
OPERATORS = ["Conv", "Gemm", "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Reshape"]
OPERATORS += ["Transpose", "Gather", "Flatten"]
_AT_ONCE = 16  # images


def _batches(images: np.ndarray) -> List[np.ndarray]:
    return np.array_split(images, -(-len(images) // _AT_ONCE))


class _Images(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[np.ndarray] = iter(_batches(images))

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def quantized(made: Any, images: np.ndarray) -> Any:
    """The onnx.ModelProto `made`, of any batch size, with 8-bit weights, in a scale for each output channel, and 8-bit
    tensors, whose ranges are those that `images` (N, C, H, W), as the model takes them, lead to. The normalization of
    pixels and a softmax stay in float32.

    Raises UserError where ONNX Runtime's quantizer refuses the model.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        before, folded, after = (str(Path(folder, f"{name}.onnx")) for name in ("before", "folded", "after"))
        onnx.save(made, before)
        try:
            quant_pre_process(before, folded, skip_symbolic_shape=True)
            quantize_static(
                folded,
                after,
                _Images(images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=OPERATORS,
                nodes_to_exclude=_before_convolutions(made),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            result = onnx.load(after)
        except Exception as error:  # ONNX Runtime's have no class in common
            raise UserError(f"ONNX Runtime does not quantize the model: {line_of(error)}") from None
    del result.metadata_props[:]
    result.metadata_props.extend(made.metadata_props)
    onnx.checker.check_model(result, full_check=True)
    return result


def _before_convolutions(made: Any) -> List[str]:
    """Names of the nodes that normalize pixels."""
    return [
        node.name for node in itertools.takewhile(lambda node: node.op_type in ("Cast", "Mul", "Add"), made.graph.node)
    ]


def compared(exact: Any, made: Any, images: np.ndarray) -> Tuple[float, float]:
    """(share of `images` of which both models name the same class first, largest difference as a share of the largest
    score), by ONNX Runtime. Raises UserError where a score is not finite."""
    before, after = (_scores(model, images) for model in (exact, made))
    if not np.isfinite(after).all():
        raise UserError("the model with 8-bit integers gives scores that are not finite")
    same = np.mean(before.reshape(len(images), -1).argmax(1) == after.reshape(len(images), -1).argmax(1))
    return float(same), largest_difference(after, before)


def _scores(made: Any, images: np.ndarray) -> np.ndarray:
    session = open_session(made)
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in _batches(images)])


def with_batch(made: Any, batch: int) -> Any:
    """`made` for `batch` images of every call."""
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.checker.check_model(made, full_check=True)
    return made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer's advice on its own steps, which are taken here, goes to the root logger."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        yield
    finally:
        logging.disable(before)
