"""ONNX Runtime beside the network that a model was made of."""

import math
from typing import Any, Optional

import mxnet as mx
import numpy as np

from igc_gluon.errors import UserError

MOST = 1e-3  # of the largest score: other orders of summation differ by less, another network by more


def check(made: Any, net: Any, pixels: Optional[str] = None) -> str:
    """Runs an onnx.ModelProto on random images, in a batch of one and one of three where its size is free, and returns
    a line on the largest difference from the scores (or probabilities) of `net`; or on why it was not run.

    pixels: as `to_onnx.of_network` was given it. Raises UserError where ONNX Runtime refuses the model, or its results
    are others."""
    try:
        import onnxruntime  # optional: ONNX Runtime
    except ImportError as error:
        return f"not run by ONNX Runtime: {line_of(error)} (pip install 'igc-gluon[onnx]')"
    title = f"ONNX Runtime {onnxruntime.__version__}"
    try:
        session = open_session(made)
        size = session.get_inputs()[0].shape[0]
        differences = [_difference(session, net, n, pixels) for n in ([size] if isinstance(size, int) else [1, 3])]
    except UserError:
        raise
    except Exception as error:  # ONNX Runtime's have no class in common
        raise UserError(f"{title} does not run the model: {line_of(error)}") from None
    worst = max(differences, key=lambda value: math.inf if math.isnan(value) else value)
    if not worst <= MOST:
        raise UserError(f"{title} computes something else: it differs by {worst:.2g} of the largest number")
    return f"{title} computes the same, to {worst:.1e} of the largest number"


def _difference(session: Any, net: Any, batch: int, pixels: Optional[str]) -> float:
    """Between the results for `batch` images, as a share of the largest."""
    random, expected = np.random.default_rng(batch), net.preprocessing
    if pixels is None:
        fed = normalized = random.standard_normal((batch, *expected.image_shape)).astype(np.float32)
    else:
        photos = random.integers(0, 256, (batch, *expected.crop, len(expected.mean)), np.uint8)
        normalized, fed = expected.normalize(photos), photos.transpose(0, 3, 1, 2).astype(pixels)
    with mx.autograd.pause():
        scores = net(mx.nd.array(normalized))
    result = session.get_outputs()[0].name
    ours = (scores.softmax(axis=1) if result == "probabilities" else scores).asnumpy()
    theirs = session.run(None, {"images": np.ascontiguousarray(fed)})[0]
    if theirs.shape != ours.shape:
        raise UserError(f"ONNX Runtime gives {theirs.shape} for {ours.shape}")
    return largest_difference(theirs, ours)


def open_session(made: Any) -> Any:
    """ONNX Runtime's session of an onnx.ModelProto."""
    import onnxruntime  # optional: ONNX Runtime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # its warnings are about its own rewriting
    return onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])


def largest_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """As a share of the largest number of `expected`."""
    return float(np.abs(actual - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def line_of(error: BaseException) -> str:
    """The first line of what it says, or what it is called."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
