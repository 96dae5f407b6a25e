"""`compile`: from a Gluon network or a checkpoint to a `Compiled` one."""

import logging
import threading
from dataclasses import replace
from typing import Any, Dict, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from igc_gluon import native
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.deploy import calibration as calibrating
from igc_gluon.deploy import file
from igc_gluon.deploy.lower import lower
from igc_gluon.deploy.runtime import Compiled
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.graph import json_of
from igc_gluon.graph.network import read_network
from igc_gluon.native import library

logger = logging.getLogger(__name__)


def compile(
    network: Any,
    input_shape: Optional[Sequence[int]] = None,
    threads: int = 0,
    model: Optional[str] = None,
    classes: Optional[int] = None,
    name: Optional[str] = None,
    class_names: Optional[Sequence[str]] = None,
    mean: Any = None,
    std: Any = None,
    calibration: Any = None,
    preprocessing: Optional[Preprocessing] = None,
    precision: Optional[str] = None,
    **model_options: Any,
) -> Compiled:
    """Compiles a network for inference on the CPU.

    The parameters are copied: later training does not change the result. Without the native library (see
    `igc_gluon.native.unavailable_reason`) the result runs on MXNet's operators, and a line in the log says so.

    Raises UserError (a ValueError) on an operator without native kernel, naming it, on parameters that are
    missing or not finite, and where sizes do not fit; TypeError if `network` is something else.

    Parameters
    ----------
    network : HybridBlock, str or Path
        A network with parameters; the folder of a run of train_cifar.py (its best checkpoint) or of one
        checkpoint; or a `.params` file, of Gluon or of Module, with `model`.
    input_shape : (channels, height, width), default the model's natural size, (3, 32, 32) for a HybridBlock without
        weights of its own, see `igc_gluon.model_zoo.attributes`
    threads : int
        Of every call; 0: OpenMP's maximum. Can be given to a call, too.
    model, classes, **model_options
        What `get_model` builds for a `.params` file; a run knows them.
    name
        Goes into the `.igc` file, a title.
    class_names, mean, std, preprocessing
        Go into the `.igc` file too: a name for each score, what images are normalized with, for each channel or for
        all and of pixels 0..255; or all that the network expects, a `Preprocessing` (see
        `igc_gluon.data.preprocessing`). A run and published weights know their own.
    precision : "float32", "half" or "int8"
        What layers run in that gain by it; others, and all of them where the processor has no kernels for it, run in
        float32. half: activations and weights are rounded to bfloat16, which has float32's range, sums are of float32;
        on processors with AVX512-BF16 where that is faster. int8: 8-bit integers, on processors with VNNI. Default:
        float32, or int8 with a calibration.
    calibration : array, str, Path or True
        For int8: a few hundred images, from which the ranges of all tensors are found: float32 (N,) + input_shape as
        the network takes them, or uint8 (N, height, width, channels), which mean and std normalize; the name of a data
        set, some of whose training images are taken (downloaded if need be); a `.npy` file with such an array; True,
        the default for int8: the data set of a run.
    """
    precision, calibration = _check_precision(precision, calibration)
    if isinstance(network, HybridBlock):
        if model is not None or classes is not None or model_options:
            raise UserError("model, classes and options of a model go with a .params file only")
        net = network
    else:
        net = open_network(network, model, classes, model_options)
    own = getattr(net, "preprocessing", None)  # of a network that was opened with its weights
    own = own if isinstance(own, Preprocessing) else None
    expected = preprocessing or own
    natural = expected.image_shape if expected else (3, 32, 32)
    shape = _check_shape(natural if input_shape is None else input_shape)
    expected = (expected or Preprocessing(shape[1:])).with_crop(shape[1:])
    overrides = {"mean": _per_channel(mean, shape), "std": _per_channel(std, shape), "class_names": class_names}
    expected = replace(expected, **{key: value for key, value in overrides.items() if value is not None})
    name = name if name is not None else net.model if own else net.name
    ops, output_shape = lower(read_network(net, shape), shape)
    if expected.class_names and output_shape != (len(expected.class_names),):
        raise UserError(f"there are {len(expected.class_names)} names of classes for a result of {output_shape}")
    reason = native.unavailable_reason()
    ranges: Sequence[Any] = ()
    if precision == "int8" and reason is None:
        images = calibrating.images_of(calibration, expected, shape, getattr(net, "dataset", None) if own else None)
        ranges = calibrating.ranges(ops, shape, images)
    precision = precision if reason is None else "float32"
    data = file.dumps(ops, shape, len(output_shape) == 1, name, expected, ranges, precision)
    if reason is None:
        return Compiled(data, threads)
    logger.warning("%s runs on MXNet's operators, not compiled: %s", name, reason)
    return Compiled(data, threads, StockModel.of(net, shape, output_shape, name, expected))


def _check_precision(precision: Optional[str], calibration: Any) -> Tuple[str, Any]:
    """Both, where one may say the other."""
    if precision is None:
        precision = "float32" if calibration is None else "int8"
    if precision not in library.PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(library.PRECISIONS)}, not {precision!r}")
    if calibration is not None and precision != "int8":
        raise UserError(f"calibration goes with int8, not with {precision}")
    return precision, True if precision == "int8" and calibration is None else calibration


def _per_channel(values: Any, shape: Sequence[int]) -> Any:
    """`values` for each channel, where one is given for all."""
    return values if values is None or np.ndim(values) else (values,) * shape[0]


def _check_shape(shape: Sequence[int]) -> Tuple[int, int, int]:
    try:
        shape = tuple(int(n) for n in shape)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) != 3 or min(shape) < 1:
        raise UserError("input_shape must be (channels, height, width), three numbers from 1 on")
    return shape


class StockModel:
    """What NativeModel is, on MXNet's operators: with a copy of the network's parameters, one call at a
    time."""

    multiply_adds, precision, layers = None, "float32", ()

    def __init__(
        self,
        graph: str,
        values: Dict[str, np.ndarray],
        shape: Tuple[int, ...],
        output_shape: Tuple[int, ...],
        name: str,
        preprocessing: Preprocessing,
    ) -> None:
        """graph: the network's symbol in JSON. values: {name: numpy array} of its parameters."""
        self.name, self.shape, self.output_shape, self.preprocessing = name, shape, output_shape, preprocessing
        self._graph = graph
        self._block = SymbolBlock(mx.sym.load_json(graph), mx.sym.var("data"))
        for key, parameter in self._block.collect_params().items():
            parameter.shape = values[key].shape
            parameter.initialize(ctx=mx.cpu(), init=mx.init.Zero())
            parameter.set_data(mx.nd.array(values[key], dtype=values[key].dtype))
        self._block.hybridize(static_alloc=True)
        self._lock = threading.Lock()

    @classmethod
    def of(cls, net: Any, *facts: Any) -> "StockModel":
        values = {
            key: parameter.data(parameter.list_ctx()[0]).asnumpy() for key, parameter in net.collect_params().items()
        }
        return cls(json_of(net(mx.sym.var("data"))), values, *facts)

    def __reduce__(self) -> Tuple[Any, ...]:
        values = {key: parameter.data().asnumpy() for key, parameter in self._block.collect_params().items()}
        return StockModel, (self._graph, values, self.shape, self.output_shape, self.name, self.preprocessing)

    def run(self, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        """`threads` has no effect: MXNet's number of threads is set before it is imported."""
        if len(x):
            with self._lock, mx.autograd.pause():
                y[:] = self._block(mx.nd.array(x, ctx=mx.cpu())).asnumpy()
