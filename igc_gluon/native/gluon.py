"""Runs the body of a Gluon network as one native operator: the one place that decides whether it can.

`NativeBody` reads a network's layers (convolution, BN and ReLU; IGC blocks; residual blocks), once, and then
computes everything from the image to the pooled features, in training and inference. The network's parameters
stay where they are; gradients and moving statistics arrive in them as ever, the statistics with the forward
pass (MXNet's own BN writes them in backward). Where anything is out of the ordinary the caller goes on with
MXNet's own operators.
"""
import functools
import logging
import os

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock, nn

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library, training
from igc_gluon.nn import ChannelPermutation, ConvBNReLU, IGCBlock

logger = logging.getLogger(__name__)


class NotNative(Exception):
    """One line why a network or a call is left to MXNet's operators."""


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
        _require(not any(b._forward_hooks or b._forward_pre_hooks or getattr(b, "_callback", None)
                         for b in blocks), "a block has a hook")
        _require(not getattr(self, "_backend", None), "the network is for another backend")
        known = self.__dict__.get("_native")
        if known is None or known.blocks != blocks:
            known = self.__dict__["_native"] = _Known(blocks, list(self.features._children.values()))
        _require(known.body is not None, known.reason)
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

    blocks: ConvBNReLU, IGCBlock or residual blocks (with `body` and `shortcut`), in order, then global
    average pooling and flattening. Raises NotNative.
    """

    def __init__(self, blocks):
        self.layers, self._parameters, self._running = [], [], []
        _require(len(blocks) > 2 and type(blocks[-2]) is nn.GlobalAvgPool2D and
                 type(blocks[-1]) is nn.Flatten, "the features do not end in global average pooling")
        value = 0
        for block in blocks[:-2]:
            value = self._residual(block, value) if hasattr(block, "shortcut") else self._unit(block, value)
        self.text = ";".join(",".join(map(repr, layer.numbers())) for layer in self.layers)
        self._checked = set()

    def _residual(self, block, value):
        _require(block._has_shortcut, "a residual block without a shortcut has no native kernel")
        shortcut = value if block.shortcut is None else self._unit(block.shortcut, value, relu=False)
        for inner in list(block.body)[:-1]:
            value = self._unit(inner, value)
        return self._unit(block.body[-1], value, relu=False, residual=shortcut)

    def _unit(self, block, value, relu=True, residual=-1):
        """Adds a convolution or IGC block. relu: whether it must end with one; a sum gets it in any case."""
        parts = list(block._children.values())
        _require(type(block) in (ConvBNReLU, IGCBlock), f"{type(block).__name__} has no native kernel")
        if relu:
            _require(parts and isinstance(parts[-1], nn.Activation) and parts.pop()._act_type == "relu",
                     "another activation than ReLU has no native kernel")
        secondary = None
        if type(block) is IGCBlock:
            _require(len(parts) == 5 and all(isinstance(p, ChannelPermutation) for p in (parts[1], parts[3])),
                     "the separable form has no native kernel")
            conv, first, secondary, second, norm = parts
            _check_conv(secondary)
            _require(secondary._kwargs["kernel"] == secondary._kwargs["stride"] == (1, 1),
                     "a spatial secondary convolution has no native kernel")
            _require(first._branch_factor == conv._kwargs["num_group"] and
                     second._branch_factor == secondary._kwargs["num_group"],
                     "permutations that do not belong to the groups")
        else:
            _require(len(parts) == 2, "unknown parts")
            conv, norm = parts
        _check_conv(conv)
        _require(type(norm) is nn.BatchNorm, f"{type(norm).__name__} has no native kernel")
        options = norm._kwargs
        _require(options["axis"] == 1 and not options["fix_gamma"] and not options["use_global_stats"],
                 "BatchNorm with other options than epsilon and momentum has no native kernel")
        conv_options = conv._kwargs
        self.layers.append(training.Layer(
            value, conv_options["num_filter"], conv_options["num_group"],
            secondary._kwargs["num_group"] if secondary else 0,
            conv_options["kernel"][0], conv_options["stride"][0], residual,
            "relu" if relu or residual >= 0 else None,
            options["eps"], options["momentum"]))
        self._parameters += [conv.weight, *([secondary.weight] if secondary else []), norm.gamma, norm.beta]
        self._running += [norm.running_mean, norm.running_var]
        return len(self.layers)

    def __call__(self, x):
        """NDArray (n, channels, H, W) on a CPU, float32 -> (n, features). Raises NotNative."""
        training_now = autograd.is_training()
        _require(autograd.is_recording() == training_now,
                 "gradients through moving statistics and batch statistics without gradients have no kernel")
        context = x.context
        _require(x.dtype == np.float32 and x.stype == "default", "the data is not dense float32")
        _require(x.ndim == 4 and x.shape[0] > 0, "the data is not a batch of images")
        self._check_shape(x.shape[1:])
        parameters = [p.data(context) for p in self._parameters]
        running = [p.data(context) for p in self._running]
        _require(all(a.dtype == np.float32 for a in parameters + running), "the parameters are not float32")
        if not training_now:
            return mx.nd.igc_body_infer(x, *parameters, *running, layers=self.text)
        # MXNet does not tell an operator of this kind to add to a gradient; to an identity it does.
        parameters = [mx.nd.identity(a) if p.grad_req == "add" else a
                      for p, a in zip(self._parameters, parameters)]
        return mx.nd.igc_body_train(x, *parameters, *running, layers=self.text)

    def _check_shape(self, shape):
        if shape in self._checked:
            return
        try:
            training.check(self.layers, shape)
        except UserError as error:
            raise NotNative(str(error)) from None
        self._checked.add(shape)


def _require(condition, reason):
    if not condition:
        raise NotNative(reason)


def _check_conv(conv):
    options = conv._kwargs
    kernel = options["kernel"]
    _require(isinstance(conv, nn.Conv2D) and conv.bias is None and conv.act is None and
             options["layout"] == "NCHW" and len(set(kernel)) == 1 and kernel[0] % 2 == 1 and
             options["pad"] == (kernel[0] // 2,) * 2 and
             options["dilate"] == (1, 1) and options["stride"] in ((1, 1), (2, 2)),
             "a convolution of this form has no native kernel")
