"""Training on the kernels through ctypes: `Body`, everything of a network between image and scores.

The C interface is described in include/igc_train.h; structures here follow it. Nothing in this module needs
MXNet: arrays are numpy, float32, NCHW.
"""

import ctypes
from typing import NamedTuple, Optional

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.native import library


class Layer(NamedTuple):
    """A convolution without bias, batch normalization, perhaps a sum, an activation; or max pooling (igc_layer).

    Layer i makes value i + 1, value 0 is the image. input: the value that is convolved. residual: the value
    added before the activation, or -1. activation: "relu", "relu6" (not of a sum) or None. permute, reorder:
    branches that the channels are permuted from after the convolution and after the normalization, 1: not.
    normalized=False: followed by a 1x1 convolution, the next layer, and nothing between.
    """

    input: int
    channels: int
    groups: int = 1
    kernel: int = 3
    stride: int = 1
    residual: int = -1
    activation: Optional[str] = "relu"
    permute: int = 1
    normalized: bool = True
    reorder: int = 1
    epsilon: float = 2e-5
    momentum: float = 0.9
    kind: int = library.CONV

    def numbers(self):
        """The members of igc_layer, in order."""
        return (
            self.kind,
            self.input,
            self.residual,
            self.channels,
            self.groups,
            self.kernel,
            self.stride,
            self.permute,
            int(self.normalized),
            self.reorder,
            library.ACTIVATIONS[self.activation],
            self.epsilon,
            self.momentum,
        )

    @classmethod
    def max_pool(cls, input, channels, kernel, stride):
        """Padded by kernel // 2; channels: those of its input."""
        return cls(
            input, channels, kernel=kernel, stride=stride, activation=None, normalized=False, kind=library.MAX_POOL
        )

    def parameter_shapes(self, in_channels):
        """Of weight and, where it is normalized, gamma, beta, in the order of igc_train.h."""
        if self.kind == library.MAX_POOL:
            return []
        weight = (self.channels, in_channels // self.groups, self.kernel, self.kernel)
        return [weight] + [(self.channels,)] * (2 if self.normalized else 0)


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            "kind",
            "input",
            "residual",
            "channels",
            "groups",
            "kernel",
            "stride",
            "permute",
            "normalized",
            "reorder",
            "activation",
        )
    ] + [("epsilon", ctypes.c_float), ("momentum", ctypes.c_float)]


def _functions():
    loaded = library.load()
    if not hasattr(loaded, "igc_train_declared"):
        i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
        for name, result, arguments in (
            ("igc_train_create", ctypes.c_int, [pointer, i64, i32, i32, i32, i32, pointer]),
            ("igc_train_check", ctypes.c_int, [pointer, i64, i32, i32, i32]),
            ("igc_train_forward", ctypes.c_int, [pointer, pointer, i64, pointer, pointer, pointer, i32]),
            ("igc_train_backward", ctypes.c_int, [pointer, pointer, pointer, pointer, pointer, i32]),
            ("igc_train_infer", ctypes.c_int, [pointer, pointer, i64, i32, i32, pointer, pointer, pointer, i32]),
            ("igc_train_bytes", i64, [pointer]),
            ("igc_train_free", None, [pointer]),
        ):
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        loaded.igc_train_declared = True
    return loaded


def _records(layers):
    return (_Layer * len(layers))(*[_Layer(*l.numbers()) for l in layers])


def check(layers, shape):
    """Raises UserError if there are no kernels for these layers on images of `shape` (C, H, W)."""
    library.check(_functions().igc_train_check(_records(layers), len(layers), *shape))


def _pointers(arrays):
    return (ctypes.c_void_p * len(arrays))(*[None if a is None else a.ctypes.data for a in arrays])


class Body:
    """A network body for one size of image. One forward and its backward at a time.

    layers: list of Layer. shape: (channels, height, width). maps: whether it gives (batch, channels, height, width)
    in place of their means, (batch, channels). Raises UserError if the layers do not fit.
    `shapes` are those of the parameters: of each layer weight and, where it is normalized, gamma, beta.
    """

    def __init__(self, layers, shape, maps=False):
        self._handle = None
        self.layers, self.shape = list(layers), tuple(int(n) for n in shape)
        handle = ctypes.c_void_p()
        library.check(
            _functions().igc_train_create(
                _records(self.layers), len(self.layers), *self.shape, int(maps), ctypes.byref(handle)
            )
        )
        self._handle = handle
        self._maps, channels = maps, [self.shape[0], *(l.channels for l in self.layers)]
        self.shapes = [s for l in self.layers for s in l.parameter_shapes(channels[l.input])]
        self._output = self._output_of(self.shape)

    def forward(self, x, parameters, running=None, threads=0):
        """With batch statistics. running: each layer's moving mean and variance; updated."""
        self._x, parameters = self._image(x), self._parameters(parameters)
        y = np.empty((len(self._x),) + self._output, np.float32)
        library.check(
            _functions().igc_train_forward(
                self._handle,
                self._x.ctypes.data,
                len(y),
                _pointers(parameters),
                None if running is None else _pointers(running),
                y.ctypes.data,
                threads,
            )
        )
        return y

    def backward(self, dy, threads=0, data=False):
        """(gradients of the parameters, gradient of x or None) of the last forward."""
        dy = np.ascontiguousarray(dy, np.float32)
        if dy.shape[1:] != self._output:
            raise UserError(f"the gradient must be (batch, {', '.join(map(str, self._output))}), not {dy.shape}")
        gradients = [np.empty(s, np.float32) for s in self.shapes]
        dx = np.empty_like(self._x) if data else None
        library.check(
            _functions().igc_train_backward(
                self._handle,
                self._x.ctypes.data,
                dy.ctypes.data,
                _pointers(gradients),
                dx.ctypes.data if data else None,
                threads,
            )
        )
        return gradients, dx

    def infer(self, x, parameters, running, threads=0):
        """With the moving statistics; images may have any size."""
        x, parameters = self._image(x, (self.shape[0], *np.shape(x)[2:])), self._parameters(parameters)
        y = np.empty((len(x),) + self._output_of(x.shape[1:]), np.float32)
        library.check(
            _functions().igc_train_infer(
                self._handle,
                x.ctypes.data,
                len(y),
                *x.shape[2:],
                _pointers(parameters),
                _pointers(running),
                y.ctypes.data,
                threads,
            )
        )
        return y

    @property
    def bytes(self):
        """What it holds: packed weights, activations, workspaces."""
        return _functions().igc_train_bytes(self._handle)

    def _output_of(self, shape):
        values = [shape]
        for l in self.layers:
            values.append((l.channels,) + tuple((n - 1) // l.stride + 1 for n in values[l.input][1:]))
        return values[-1] if self._maps else values[-1][:1]

    def _image(self, x, shape=None):
        x = np.ascontiguousarray(x, np.float32)
        if x.ndim != 4 or x.shape[1:] != (shape or self.shape):
            raise UserError(f"the network takes (batch, {', '.join(map(str, self.shape))}), not {x.shape}")
        return x

    def _parameters(self, parameters):
        arrays = [np.ascontiguousarray(p, np.float32) for p in parameters]
        if [a.shape for a in arrays] != self.shapes:
            raise UserError(f"the parameters must have the shapes {self.shapes}")
        return arrays

    def __del__(self):
        if getattr(self, "_handle", None):
            library.load().igc_train_free(self._handle)
            self._handle = None
