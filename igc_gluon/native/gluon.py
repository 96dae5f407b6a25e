"""Runs the body of a Gluon network, or a block, as one native operator: the one place that decides whether it can.

`NativeBody` reads the layers (blocks.py) once, and then computes everything from the image to the pooled features, of
a block from maps to maps, in training and inference. The parameters stay where they are; gradients and moving
statistics arrive in them as ever, the statistics with the forward pass (MXNet's own BN writes them in
backward). Where anything is out of the ordinary the caller goes on with MXNet's own operators.
"""
import ctypes
import functools
import itertools
import logging
import weakref

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock
from mxnet.gluon.parameter import DeferredInitializationError

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library, training
from igc_gluon.native.blocks import NotNative, Reader, require

logger = logging.getLogger(__name__)


class NativeNetwork(HybridBlock):
    """A network that runs natively where it can. To be derived from, in place of HybridBlock.

    Its children are `features` (blocks, global average pooling, flattening) and `output`.

    Traced with a Symbol (export, complexity) it is always made of MXNet's operators.
    """

    def forward(self, x, *args):
        features = None if args else compute(self, self.features, x)
        return super().forward(x, *args) if features is None else self.output(features)


def compute(block, below, x, maps=False):
    """What the native operator makes of `x` in place of `block`, or None where it does not: MXNet's own operators are
    to go on. below: its features, which end in pooling; with `maps` the block itself, from maps to maps."""
    if type(x) is not mx.nd.NDArray or x.context.device_type != "cpu":
        return None
    reason = why_not()
    if reason is None:
        try:
            result = _body(block, below, maps)(x)
        except NotNative as error:
            reason = str(error)
        except DeferredInitializationError:  # MXNet's operators find the missing sizes out
            return None
    if reason is not None:
        _say(reason)
        return None
    if block._active and block._cached_op is None:
        block._build_cache(x)  # what export() saves
    return result


def _body(block, below, maps):
    """The NativeBody of the blocks as they are now."""
    blocks = list(_blocks_below(below))
    require(not any(b._forward_hooks or b._forward_pre_hooks or getattr(b, "_callback", None)
                    for b in blocks), "a block has a hook")
    require(not getattr(block, "_backend", None), "the network is for another backend")
    options = [(b, b.__dict__.get("_kwargs"), b.__dict__.get("_act_type")) for b in blocks]
    known = block.__dict__.get("_native")
    if known is None or known.options != options:
        known = block.__dict__["_native"] = _Known(options, [below] if maps else list(below._children.values()), maps)
    require(known.body is not None, known.reason)
    return known.body


class _Known:
    """What was found out about a network with these blocks and their options."""

    def __init__(self, options, layers, maps):
        self.options = [(b, None if given is None else dict(given), kind) for b, given, kind in options]
        self.body, self.reason = None, None
        try:
            self.body = NativeBody(layers, maps)
        except NotNative as error:
            self.reason = str(error)


def _blocks_below(block):
    for child in block._children.values():
        yield child
        yield from _blocks_below(child)


def why_not():
    """None if MXNet has the native operators, else one line with the reason. Loads them at the first call."""
    if native.switched_off():
        return native.why_not()
    return _load()


def _operators():
    return library.path().with_name("libigc_mxnet.so")


@functools.lru_cache(None)
def _load():
    reason = native.why_not()
    if reason is None:
        path = _operators()
        if not path.is_file():
            return f"there are no operators for MXNet at {path}; run: python -m igc_gluon.native.build"
        try:
            mx.library.load(str(path), False)
        except (OSError, mx.MXNetError) as error:
            return f"the operators for MXNet cannot be loaded: {str(error).splitlines()[0]}"
    return reason


@functools.lru_cache(None)
def _say(reason):
    logger.warning("native CPU kernels are not used: %s", reason)


_OWNERS = itertools.count(1)  # not id(), which another object may get later


def _release(owner):
    ctypes.CDLL(str(_operators())).igc_body_release(str(owner).encode())


class NativeBody:
    """`blocks` as one operator.

    blocks: what blocks.Reader knows, in order, then, unless `maps`, global average pooling and perhaps flattening.
    Raises NotNative.
    """

    def __init__(self, blocks, maps=False):
        reader = Reader(blocks, maps)
        self._maps = maps
        self.layers, self._parameters, self._running = reader.layers, reader.parameters, reader.running
        self._flat = reader.flat
        self.text = ";".join(",".join(map(repr, layer.numbers())) for layer in self.layers)
        self._checked = set()
        # The operators keep memory and folded weights for the next call of the same owner.
        self._owner = next(_OWNERS)
        weakref.finalize(self, _release, self._owner).atexit = False

    def __call__(self, x):
        """NDArray (n, channels, H, W) on a CPU, float32 -> (n, features) or maps. Raises NotNative."""
        training_now = autograd.is_training()
        require(autograd.is_recording() == training_now,
                "gradients through moving statistics and batch statistics without gradients have no kernel")
        context = x.context
        require(x.dtype == np.float32 and x.stype == "default", "the data is not dense float32")
        require(x.ndim == 4 and x.shape[0] > 0, "the data is not a batch of images")
        self._check_shape(x.shape[1:])
        parameters = [p.data(context) for p, _ in self._parameters]
        running = [p.data(context) for p in self._running]
        require(all(a.dtype == np.float32 for a in parameters + running), "the parameters are not float32")
        parameters = [self._prepared(p, branches, array)
                      for (p, branches), array in zip(self._parameters, parameters)]
        if training_now:
            wanted = _wants_gradient(x)
            x = x if x.grad is None else mx.nd.identity(x)  # as in _prepared
            result = mx.nd.igc_body_train(x, *parameters, *running, layers=self.text, maps=int(self._maps),
                                          data_gradient=int(wanted), owner=self._owner)
        else:
            result = mx.nd.igc_body_infer(x, *parameters, *running, layers=self.text, maps=int(self._maps),
                                          owner=self._owner)
        return result if self._flat or self._maps else result.expand_dims(2).expand_dims(3)

    @staticmethod
    def _prepared(parameter, branches, array):
        if branches > 1:
            return mx.nd.sum(mx.nd.reshape(array, shape=(-4, branches, -1, -2)), axis=0)
        # MXNet does not tell an operator of this kind to add to a gradient; to an identity it does.
        return mx.nd.identity(array) if parameter.grad_req == "add" and autograd.is_training() else array

    def _check_shape(self, shape):
        if shape in self._checked:
            return
        try:
            training.check(self.layers, shape)
        except UserError as error:
            raise NotNative(str(error)) from None
        self._checked.add(shape)


def _wants_gradient(array):
    """Whether `array` is a variable or was computed from one while MXNet recorded."""
    try:
        autograd.get_symbol(array)
    except mx.MXNetError:  # "not part of a computation graph"; MXNet has no other way to ask
        return False
    return True
