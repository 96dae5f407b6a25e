"""Runs the body of a Gluon network as one native operator: the one place that decides whether it can.

`NativeBody` reads a network's layers (blocks.py) once, and then computes everything from the image to the
pooled features, in training and inference. The network's parameters stay where they are; gradients and moving
statistics arrive in them as ever, the statistics with the forward pass (MXNet's own BN writes them in
backward). Where anything is out of the ordinary the caller goes on with MXNet's own operators.
"""
import functools
import logging
import os

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock

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
        here = isinstance(x, mx.nd.NDArray) and x.context.device_type == "cpu" and not args
        features = self._native_features(x) if here else None
        if features is None:
            return super().forward(x, *args)
        if self._active and self._cached_op is None:
            self._build_cache(x)  # what export() saves
        return self.output(features)

    def _native_features(self, x):
        reason = why_not()
        if reason is None:
            try:
                return self._native_body()(x)
            except NotNative as error:
                reason = str(error)
        _say(reason)
        return None

    def _native_body(self):
        """The NativeBody of the blocks as they are now."""
        blocks = list(_blocks_below(self.features))
        require(not any(b._forward_hooks or b._forward_pre_hooks or getattr(b, "_callback", None)
                        for b in blocks), "a block has a hook")
        require(not getattr(self, "_backend", None), "the network is for another backend")
        known = self.__dict__.get("_native")
        if known is None or known.blocks != blocks:
            known = self.__dict__["_native"] = _Known(blocks, list(self.features._children.values()))
        require(known.body is not None, known.reason)
        return known.body


class _Known:
    """What was found out about a network whose blocks are `blocks`."""

    def __init__(self, blocks, features):
        self.blocks, self.body, self.reason = blocks, None, None
        try:
            self.body = NativeBody(features)
        except NotNative as error:
            self.reason = str(error)


def _blocks_below(block):
    for child in block._children.values():
        yield child
        yield from _blocks_below(child)


def why_not():
    """None if MXNet has the native operators, else one line with the reason. Loads them at the first call."""
    if os.environ.get("IGC_NATIVE", "1") == "0":
        return native.why_not()
    return _load()


@functools.lru_cache(None)
def _load():
    reason = native.why_not()
    if reason is None:
        path = library.path().with_name("libigc_mxnet.so")
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


class NativeBody:
    """`blocks` as one operator.

    blocks: what blocks.Reader knows, in order, then global average pooling and perhaps flattening. Raises
    NotNative.
    """

    def __init__(self, blocks):
        reader = Reader(blocks)
        self.layers, self._parameters, self._running = reader.layers, reader.parameters, reader.running
        self._flat = reader.flat
        self.text = ";".join(",".join(map(repr, layer.numbers())) for layer in self.layers)
        self._checked = set()

    def __call__(self, x):
        """NDArray (n, channels, H, W) on a CPU, float32 -> (n, features). Raises NotNative."""
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
            features = mx.nd.igc_body_train(x, *parameters, *running, layers=self.text,
                                            data_gradient=int(_wants_gradient(x)))
        else:
            features = mx.nd.igc_body_infer(x, *parameters, *running, layers=self.text)
        return features if self._flat else features.expand_dims(2).expand_dims(3)

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
