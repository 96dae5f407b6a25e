"""Our operators for MXNet (src/mxnet): loads them."""

import ctypes
import functools
import itertools
import weakref
from pathlib import Path
from typing import Any, Optional, Sequence, Set

import mxnet as mx
from mxnet.base import _LIB, check_call

from igc_gluon import native
from igc_gluon.native import library


def unavailable_reason() -> Optional[str]:
    """None if MXNet has the native operators, else one line with the reason. Loads them at the first call."""
    if native.switched_off():
        return native.unavailable_reason()
    return _load()


def path_of_operators() -> Path:
    return library.path().with_name("libigc_mxnet.so")


@functools.lru_cache(None)
def _load() -> Optional[str]:
    reason = native.unavailable_reason()
    if reason is None:
        path = path_of_operators()
        if not path.is_file():
            return f"there are no operators for MXNet at {path}; run: python -m igc_gluon.native.build"
        try:
            mx.library.load(str(path), False)
        except (OSError, mx.MXNetError) as error:
            return f"the operators for MXNet cannot be loaded: {str(error).splitlines()[0]}"
    return reason


@functools.lru_cache(None)
def functions() -> ctypes.CDLL:
    """The library of the operators, for what is called without MXNet. Only where `unavailable_reason()` is None."""
    loaded = ctypes.CDLL(str(path_of_operators()))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    loaded.igc_body_call.restype = text
    loaded.igc_body_call.argtypes = [
        text,
        text,
        pointer,
        pointer,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int,
        pointer,
        pointer,
    ]
    loaded.igc_read_words.restype, loaded.igc_read_words.argtypes = None, [ctypes.c_int64, pointer, pointer]
    loaded.igc_same_words.restype, loaded.igc_same_words.argtypes = ctypes.c_int, [ctypes.c_int64, pointer, pointer]
    loaded.igc_body_release.restype, loaded.igc_body_release.argtypes = None, [text]
    return loaded


class Inference:
    """The operator igc_body_infer (src/mxnet/body_op.cpp) without MXNet's engine: done when a call returns.

    owner, ops: the operator's attributes. scores: how many numbers a fully connected layer makes of its
    result, 0: there is none. shape: of the images. Raises MXNetError, also that of an operator before it.
    """

    def __init__(self, owner: str, ops: str, scores: int, has_bias: bool, shape: Sequence[int]) -> None:
        self._attributes = owner.encode(), ops.encode(), (ctypes.c_int64 * 4)(*shape)
        self._scores = scores, int(has_bias)
        self._in_mxnet = [
            ctypes.cast(function, ctypes.c_void_p) for function in (_LIB.MXNDArrayWaitToRead, _LIB.MXNDArrayGetData)
        ]

    def read(self, arrays: Sequence[Any]) -> None:
        """Calls from now on read these: parameters, moving statistics, weight and bias of the fully connected layer."""
        self._read = arrays
        self._handles = (ctypes.c_void_p * (2 + len(arrays)))(None, None, *[array.handle.value for array in arrays])

    def __call__(self, image: Any, output: Any) -> None:
        """NDArrays, float32, of which `output` is written."""
        handles = type(self._handles).from_buffer_copy(self._handles)  # several threads may call
        handles[0], handles[1] = output.handle.value, image.handle.value
        message = functions().igc_body_call(*self._attributes, handles, len(handles), *self._scores, *self._in_mxnet)
        if message is not None:
            check_call(0 if message else -1)
            raise mx.MXNetError(message.decode())


class Owner:
    """Whose call an operator works for: memory and folded weights that it keeps for the next call of the same owner are
    freed with it."""

    _numbers = itertools.count(1)  # not id(), which another object may get later

    def __init__(self) -> None:
        self._number = next(self._numbers)
        self._names: Set[str] = set()
        weakref.finalize(self, _release, self._names).atexit = False

    def name(self, part: int) -> str:
        """The operator's attribute `owner` for one of the owner's parts: those of equal layers elsewhere are others."""
        name = f"{self._number}.{part}"
        self._names.add(name)
        return name


def _release(names: Set[str]) -> None:
    for name in names:
        functions().igc_body_release(name.encode())
