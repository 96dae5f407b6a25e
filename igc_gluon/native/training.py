"""Training on the kernels through ctypes: `Body`, everything of a network between image and scores.

The C interface is described in include/igc_train.h; structures here follow it. Nothing in this module needs
MXNet: arrays are numpy, float32, NCHW.
"""

import ctypes
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.native import library


def parameter_shapes(op: library.Op, in_channels: int) -> List[Tuple[int, ...]]:
    """Of an op's weight and, where it is normalized, gamma, beta, in the order of igc_train.h."""
    if op.kind != library.CONV:
        return []
    weight = (op.channels, in_channels // op.groups, *op.kernel)
    return [weight] + [(op.channels,)] * (2 if op.normalized else 0)


def _functions() -> ctypes.CDLL:
    loaded = library.load()
    if not hasattr(loaded, "igc_train_declared"):
        i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
        for name, result, arguments in (
            ("igc_train_create", ctypes.c_int, [pointer, i64, i32, i32, i32, pointer]),
            ("igc_train_check", ctypes.c_int, [pointer, i64, i32, i32, i32]),
            ("igc_train_forward", ctypes.c_int, [pointer, pointer, i64, pointer, pointer, pointer, i32]),
            ("igc_train_backward", ctypes.c_int, [pointer, pointer, pointer, pointer, pointer, i32]),
            ("igc_train_infer", ctypes.c_int, [pointer, pointer, i64, i32, i32, pointer, pointer, pointer, i32]),
            ("igc_train_bytes", i64, [pointer]),
            ("igc_train_free", None, [pointer]),
        ):
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        setattr(loaded, "igc_train_declared", True)  # noqa: B010 (mypy knows no attributes of libraries)
    return loaded


def check(ops: Sequence[library.Op], shape: Sequence[int]) -> None:
    """Raises UserError if there are no kernels to train these ops on images of `shape` (C, H, W)."""
    library.check(_functions().igc_train_check(library.records(ops)[0], len(ops), *shape))


def _pointers(arrays: Sequence[Optional[np.ndarray]]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*[None if a is None else a.ctypes.data for a in arrays])


class Body:
    """A network body for one size of image. One forward and its backward at a time.

    ops: list of library.Op, without arrays; igc_train.h says for which there are kernels. shape: (channels, height,
    width). Raises UserError if the ops do not fit.

    shapes: of the parameters, of each convolution its weight and, where it is normalized, gamma, beta.
    """

    def __init__(self, ops: Sequence[library.Op], shape: Sequence[int]) -> None:
        self._handle = None
        self.ops, self.shape = list(ops), tuple(int(n) for n in shape)
        handle = ctypes.c_void_p()
        library.check(
            _functions().igc_train_create(
                library.records(self.ops)[0], len(self.ops), *self.shape, ctypes.byref(handle)
            )
        )
        self._handle = handle
        channels = [self.shape[0], *(op.channels for op in self.ops)]
        self.shapes = [s for op in self.ops for s in parameter_shapes(op, channels[op.input])]
        self._output = self._output_of(self.shape)

    def forward(
        self,
        x: np.ndarray,
        parameters: Sequence[np.ndarray],
        running: Optional[Sequence[np.ndarray]] = None,
        threads: int = 0,
    ) -> np.ndarray:
        """With batch statistics. running: each normalized op's moving mean and variance; updated."""
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

    def backward(
        self, dy: np.ndarray, threads: int = 0, data: bool = False
    ) -> Tuple[List[np.ndarray], Optional[np.ndarray]]:
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
                None if dx is None else dx.ctypes.data,
                threads,
            )
        )
        return gradients, dx

    def infer(
        self, x: np.ndarray, parameters: Sequence[np.ndarray], running: Sequence[np.ndarray], threads: int = 0
    ) -> np.ndarray:
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
    def bytes(self) -> int:
        """What it holds: packed weights, activations, workspaces."""
        return _functions().igc_train_bytes(self._handle)

    def _output_of(self, shape: Sequence[int]) -> Tuple[int, ...]:
        values = [tuple(shape)]
        for op in self.ops:
            sizes = zip(values[op.input][1:], op.kernel, op.pad)
            values.append((op.channels,) + tuple((n + 2 * p - k) // op.stride + 1 for n, k, p in sizes))
        return values[-1][:1] if self.ops[-1].kind == library.MEAN_POOL else values[-1]

    def _image(self, x: np.ndarray, shape: Optional[Sequence[int]] = None) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        if x.ndim != 4 or x.shape[1:] != (shape or self.shape):
            raise UserError(f"the network takes (batch, {', '.join(map(str, self.shape))}), not {x.shape}")
        return x

    def _parameters(self, parameters: Sequence[np.ndarray]) -> List[np.ndarray]:
        arrays = [np.ascontiguousarray(p, np.float32) for p in parameters]
        if [a.shape for a in arrays] != self.shapes:
            raise UserError(f"the parameters must have the shapes {self.shapes}")
        return arrays

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            library.load().igc_train_free(self._handle)
            self._handle = None
