"""`compile`: from a Gluon network or a checkpoint to a `Compiled` one."""
import logging
import threading

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, SymbolBlock

from igc_gluon import native
from igc_gluon.deploy import calibration as calibrating
from igc_gluon.deploy import file
from igc_gluon.deploy.graph import DATA, trace
from igc_gluon.deploy.lower import lower
from igc_gluon.deploy.runtime import Compiled
from igc_gluon.engine.networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.expects import image_shape

logger = logging.getLogger(__name__)


def compile(network, input_shape=None, threads=0, model=None, classes=None, name=None, class_names=None,
            mean=None, std=None, calibration=None, **model_options):
    """Compiles a network for inference on the CPU.

    Parameters
    ----------
    network : HybridBlock, str or Path
        A network with parameters; the folder of a run of train_cifar.py (its best checkpoint) or of one
        checkpoint; or a `.params` file, of Gluon or of Module, with `model`.
    input_shape : (channels, height, width), default the model's natural size, (3, 32, 32) for a HybridBlock without
        weights of its own, see `igc_gluon.model_zoo.expects`
    threads : int
        Of every call; 0: OpenMP's maximum. Can be given to a call, too.
    model, classes, **model_options
        What `get_model` builds for a `.params` file; a run knows them.
    name, class_names, mean, std
        Go into the `.igc` file: a title, a name for each score, and what images are normalised with, for each
        channel and of pixels 0..255. A run and published weights know their own.
    calibration : array, str, Path or True
        Runs layers on 8-bit integers where that is faster (on processors with AVX-512 and VNNI; elsewhere, and
        all other layers, in float32). A few hundred images, from which the ranges of all tensors are found:
        float32 (N,) + input_shape as the network takes them, or uint8 (N, height, width, channels), which mean
        and std normalise; the name of a data set, some of whose training images are taken (downloaded
        if need be); a `.npy` file with such an array; True: the data set of a run.

    The parameters are copied: later training does not change the result. Without the native library (see
    `igc_gluon.native.why_not`) the result runs on MXNet's operators, and a line in the log says so.

    Raises UserError (a ValueError) on an operator without native kernel, naming it, on parameters that are
    missing or not finite, and where sizes do not fit; TypeError if `network` is something else.
    """
    if isinstance(network, HybridBlock):
        if model is not None or classes is not None or model_options:
            raise UserError("model, classes and options of a model go with a .params file only")
        net, facts = network, {"name": network.name, "input_shape": (3, 32, 32)}
    else:
        net = open_network(network, model, classes, model_options)
    if hasattr(net, "model"):  # of a network that was opened with its weights
        facts = {"name": net.model, "input_shape": image_shape(net), "mean": net.mean, "std": net.std,
                 "class_names": net.classes or ()}
    given = {"name": name, "input_shape": input_shape, "mean": mean, "std": std, "class_names": class_names}
    facts.update({key: value for key, value in given.items() if value is not None})
    shape = _check_shape(facts.pop("input_shape"))
    class_names = tuple(facts.pop("class_names", ()))
    ops, output_shape = lower(trace(net, shape), shape)
    if class_names and output_shape != (len(class_names),):
        raise UserError(f"there are {len(class_names)} names of classes for a result of {output_shape}")
    reason = native.why_not()
    ranges = ()
    if calibration is not None and reason is None:
        images = calibrating.images_of(calibration, shape, getattr(net, "dataset", None), facts.get("mean"),
                                       facts.get("std"))
        ranges = calibrating.ranges(ops, shape, images)
    data = file.dumps(ops, shape, len(output_shape) == 1, class_names=class_names, ranges=ranges, **facts)
    if reason is None:
        return Compiled(data, threads)
    logger.warning("%s runs on MXNet's operators, not compiled: %s", facts["name"], reason)
    return Compiled(data, threads, StockModel(net, shape, output_shape, class_names, **facts))


def _check_shape(shape):
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

    def __init__(self, net, shape, output_shape, class_names, name, mean=None, std=None):
        self.name, self.shape, self.output_shape = name, shape, output_shape
        self.class_names, self.multiply_adds, self.int8_layers = class_names or None, None, 0
        self.mean = tuple(np.broadcast_to(0.0 if mean is None else mean, shape[0]).tolist())
        self.std = tuple(np.broadcast_to(1.0 if std is None else std, shape[0]).tolist())
        data = mx.sym.var(DATA)
        self._block = SymbolBlock(net(data), data)
        values = {key: parameter.data(parameter.list_ctx()[0])
                  for key, parameter in net.collect_params().items()}
        for key, parameter in self._block.collect_params().items():
            parameter.shape = values[key].shape
            parameter.initialize(ctx=mx.cpu(), init=mx.init.Zero())
            parameter.set_data(values[key])
        self._block.hybridize(static_alloc=True)
        self._lock = threading.Lock()

    def run(self, x, threads):
        """`threads` has no effect: MXNet's number of threads is set before it is imported."""
        if not len(x):
            return np.empty((0,) + self.output_shape, np.float32)
        with self._lock, mx.autograd.pause():
            return self._block(mx.nd.array(x, ctx=mx.cpu())).asnumpy()

    def normalise(self, images):
        mean, std = (np.asarray(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        return (images.transpose(0, 3, 1, 2) - mean) / std
