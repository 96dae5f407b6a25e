"""The kernel library through ctypes: `Net`, a planned network, and which instruction set runs it.

The C interface is described in include/igc.h; structures and constants here follow it. Nothing in this module
needs MXNet: arrays are numpy, float32, NCHW.
"""

import ctypes
import os
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from igc_gluon.environment import KINDS
from igc_gluon.errors import UserError

ABI = 13
CONV, BLOCK, PERMUTE, MAX_POOL, MEAN_POOL = 1, 2, 3, 4, 5
OP_KINDS = {CONV: "convolution", BLOCK: "IGC block", PERMUTE: "permutation", MAX_POOL: "max pooling", MEAN_POOL: "mean"}
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 2}
PRECISIONS = {"float32": 0, "half": 1, "int8": 2}  # igc_precision
ISAS = getattr(KINDS["IGC_NATIVE_ISA"], "words")  # noqa: B009 (of environment.Words)
FLOAT32_UNIT, VECTORS, AMX, BOTH = 0, 1, 2, 3  # igc_unit
_NO_MEMORY = 2


_ARRAYS = ("weight", "weight2", "scale", "bias")


class OpRecord(ctypes.Structure):
    """igc_op of igc.h."""

    _fields_ = [
        (name, ctypes.c_int32)
        for name in "kind input residual channels groups kernel_h kernel_w stride pad_h pad_w "
        "activation normalized".split()
    ] + [(name, ctypes.c_int64) for name in _ARRAYS]
    _fields_ += [(name, ctypes.c_int32) for name in ("permute", "reorder")]
    _fields_ += [(name, ctypes.c_float) for name in ("epsilon", "momentum")]


class Op(NamedTuple):
    """One operation of a network; operation i writes tensor i + 1, tensor 0 is the input (igc_op in igc.h).

    weight: (channels, inputs / groups, kernel_h, kernel_w); of a BLOCK the primary convolution's, groups = L.
    weight2: the secondary convolution's of a BLOCK, (channels, L) or (channels, L, 1, 1).
    scale, bias: (channels,), a folded batch normalization: scale * convolution + bias, to which the residual
        is added before the activation.

    In training (training.Body) an op has no arrays, and a convolution may have what inference has folded:
    normalized: whether batch normalization follows, with epsilon and momentum. permute, reorder: branches that the
        channels are permuted from after the convolution and after the normalization, 1: not.
    """

    kind: int
    input: int
    channels: int = 0
    groups: int = 1
    kernel: tuple = (1, 1)
    stride: int = 1
    pad: tuple = (0, 0)
    activation: Optional[str] = None
    residual: int = -1
    weight: Optional[np.ndarray] = None
    weight2: Optional[np.ndarray] = None
    scale: Optional[np.ndarray] = None
    bias: Optional[np.ndarray] = None
    permute: int = 1
    reorder: int = 1
    normalized: bool = False
    epsilon: float = 2e-5
    momentum: float = 0.9


def records(ops: Sequence[Op]) -> Tuple[Any, np.ndarray]:
    """(OpRecords of `ops`, all of their arrays in one). Raises UserError on an unknown activation."""
    made, blob, size = (OpRecord * len(ops))(), [], 0
    for i, (op, record) in enumerate(zip(ops, made)):
        if op.activation not in ACTIVATIONS:
            raise UserError(f"op {i}: activation must be one of {list(ACTIVATIONS)}, not {op.activation!r}")
        kernel, pad, numbers = op.kernel, op.pad, op._asdict()
        numbers.update(kernel_h=kernel[0], kernel_w=kernel[1], pad_h=pad[0], pad_w=pad[1])
        numbers.update(activation=ACTIVATIONS[op.activation], normalized=int(op.normalized))
        for name in _ARRAYS:
            array, numbers[name] = numbers[name], -1
            if array is not None:
                blob.append(np.asarray(array, np.float32).ravel())
                numbers[name], size = size, size + blob[-1].size
        for name, *_ in OpRecord._fields_:
            setattr(record, name, numbers[name])
    return made, np.concatenate(blob) if blob else np.zeros(0, np.float32)


def text(ops: Sequence[Op]) -> str:
    """The attribute `ops` of the operators for MXNet (src/mxnet/body_op.cpp)."""
    names = [name for name, *_ in OpRecord._fields_ if name not in _ARRAYS]
    return ";".join(",".join(repr(getattr(record, name)) for name in names) for record in records(ops)[0])


def path() -> Path:
    """Where the library is looked for: $IGC_NATIVE_LIBRARY or _lib/libigc.so beside this module."""
    named = os.environ.get("IGC_NATIVE_LIBRARY")
    return Path(named or Path(__file__).resolve().parent / "_lib" / "libigc.so")


_loaded = None


def load() -> ctypes.CDLL:
    """The loaded library. Raises UserError with the reason if it cannot be used."""
    global _loaded
    if _loaded is None:
        if not path().is_file():
            raise UserError(f"there is no kernel library at {path()}; run: python -m igc_gluon.native.build")
        try:
            library = ctypes.CDLL(str(path()))
            abi = library.igc_abi()
        except (OSError, AttributeError) as error:
            raise UserError(f"the kernel library cannot be loaded: {error}") from None
        if abi != ABI:
            raise UserError(
                f"{path()} is of another release (interface {abi}, not {ABI}); run: python -m igc_gluon.native.build"
            )
        _declare(library)
        _loaded = library
    return _loaded


def _declare(library: ctypes.CDLL) -> None:
    i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    for name, result, arguments in (
        ("igc_message", ctypes.c_char_p, []),
        ("igc_threads", ctypes.c_int, []),
        ("igc_isa", ctypes.c_char_p, []),
        ("igc_use_isa", ctypes.c_int, [ctypes.c_char_p]),
        ("igc_net_create_in", ctypes.c_int, [i32, pointer, i64, pointer, i64, pointer, i64, i32, i32, i32, pointer]),
        ("igc_has", ctypes.c_int, [i32]),
        ("igc_unit_name", ctypes.c_char_p, [i32, i32]),
        ("igc_net_reduced_ops", i64, [pointer, pointer]),
        ("igc_net_output_shape", ctypes.c_int, [pointer, pointer]),
        ("igc_net_multiply_adds", i64, [pointer]),
        ("igc_net_run", ctypes.c_int, [pointer, pointer, i64, pointer, i32]),
        ("igc_net_free", None, [pointer]),
        ("igc_share", None, [i64, pointer, pointer]),
        ("igc_layout", ctypes.c_int, [i32, i32, pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def check(status: int) -> None:
    """Raises UserError or MemoryError with the library's message unless `status` is IGC_OK."""
    if status:
        text = load().igc_message().decode()
        raise MemoryError(text) if status == _NO_MEMORY else UserError(text)


def isa() -> str:
    """The instruction set in use. Raises UserError if IGC_NATIVE_ISA names one that cannot run here."""
    name = load().igc_isa()
    if name is None:
        raise UserError(load().igc_message().decode())
    return name.decode()


def use_isa(name: Optional[str] = None) -> None:
    """Networks made from now on run on `name`; None: as at the start. Raises UserError if it cannot run."""
    check(load().igc_use_isa(None if name is None else name.encode()))


def has(precision: str) -> bool:
    """Whether the instruction set in use and this processor have kernels for a precision of PRECISIONS."""
    return bool(load().igc_has(PRECISIONS[precision]))


def unavailable_reason(precision: str) -> Optional[str]:
    """One line that says why `has(precision)` is False, or None."""
    return None if has(precision) else load().igc_message().decode()


def unit_name(precision: str, unit: int) -> Optional[str]:
    """Which instructions VECTORS, AMX or BOTH are in half or int8, with the instruction set in use, or None."""
    name = load().igc_unit_name(PRECISIONS[precision], unit)
    return name.decode() if name else None


def amx_unavailable_reason(precision: str) -> Optional[str]:
    """One line that says why nothing runs on AMX in half or int8, or None where layers may."""
    return None if unit_name(precision, AMX) else load().igc_message().decode()


def units(precision: str) -> str:
    """In words, what computes the layers of half or int8 here: "AMX-BF16 and AVX512-BF16"."""
    names = [name for name in (unit_name(precision, unit) for unit in (AMX, VECTORS)) if name]
    why = amx_unavailable_reason(precision)
    return (" and ".join(names) or f"float32 ({unavailable_reason(precision)})") + (f", no AMX: {why}" if why else "")


def layout(groups: int, members: int) -> np.ndarray:
    """Channel at each position of the interleaved layout of L = `groups`, M = `members`; -1 is padding."""
    positions = ctypes.c_int32()
    check(load().igc_layout(groups, members, ctypes.byref(positions), None))
    channel_at = np.empty(positions.value, np.int32)
    check(load().igc_layout(groups, members, ctypes.byref(positions), channel_at.ctypes.data))
    return channel_at


class Net:
    """A network planned for one size of input; callable, by several threads at once.

    ops: list of Op. shape: (channels, height, width) of the input. precision: of PRECISIONS. ranges: what
    deploy.calibration found, for int8, see igc_net_create_in in igc.h. Raises UserError if they do not fit.

    reduced: for each op whether it runs in the precision, where that is not float32. units: what computes it,
        FLOAT32_UNIT, VECTORS, AMX or, of an IGC block, BOTH.
    """

    def __init__(
        self, ops: Sequence[Op], shape: Sequence[int], ranges: Sequence[Any] = (), precision: Optional[str] = None
    ) -> None:
        self._handle = None
        library, (described, weights) = load(), records(ops)
        limits = np.ascontiguousarray(ranges, np.float32)
        precision = precision or ("int8" if limits.size else "float32")
        self.shape = tuple(int(n) for n in shape)
        handle = ctypes.c_void_p()
        check(
            library.igc_net_create_in(
                PRECISIONS[precision],
                described,
                len(ops),
                weights.ctypes.data,
                weights.size,
                limits.ctypes.data,
                limits.size,
                *self.shape,
                ctypes.byref(handle),
            )
        )
        self._handle = handle
        out = (ctypes.c_int32 * 3)()
        check(library.igc_net_output_shape(handle, out))
        self.output_shape = tuple(out)
        self.multiply_adds = library.igc_net_multiply_adds(handle)
        self.units = np.empty(len(ops), np.uint8)
        library.igc_net_reduced_ops(handle, self.units.ctypes.data)
        self.reduced = self.units != FLOAT32_UNIT

    def __call__(self, x: np.ndarray, threads: int = 0) -> np.ndarray:
        """x: (batch,) + shape, float32. Returns (batch,) + output_shape. threads 0: as many as igc.h says."""
        x = np.ascontiguousarray(x, np.float32)
        if x.shape[1:] != self.shape or x.ndim != 4:
            raise UserError(f"the network takes (batch, {', '.join(map(str, self.shape))}), not {x.shape}")
        y = np.empty((len(x),) + self.output_shape, np.float32)
        check(load().igc_net_run(self._handle, x.ctypes.data, len(x), y.ctypes.data, threads))
        return y

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            load().igc_net_free(self._handle)
            self._handle = None
