"""Runs compiled networks. Does not import MXNet; takes and gives its arrays where the caller has it."""

import collections
import ctypes
import logging
import os
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from igc_gluon import native
from igc_gluon.data.photos import read_photo
from igc_gluon.data.preprocessing import not_images
from igc_gluon.deploy import file
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.native import library
from igc_gluon.paths import expand

logger = logging.getLogger(__name__)
_PRECISIONS = tuple(library.PRECISIONS)  # in the order of igc_precision


class _Info(ctypes.Structure):
    """igc_model_info of igc_file.h."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("shape", ctypes.c_int32 * 3),
        ("output_shape", ctypes.c_int32 * 3),
        ("scores", ctypes.c_int32),
        ("named", ctypes.c_int32),
        ("multiply_adds", ctypes.c_int64),
        ("mean", ctypes.POINTER(ctypes.c_float)),
        ("deviation", ctypes.POINTER(ctypes.c_float)),
        ("normalized", ctypes.c_int32),
        ("short_side", ctypes.c_int32),
        ("interpolation", ctypes.c_int32),
        ("color_order", ctypes.c_int32),
        ("border", ctypes.c_int32),
        ("fill", ctypes.c_int32),
        ("precision", ctypes.c_int32),
    ]


class _Layer(ctypes.Structure):
    """igc_layer of igc_file.h."""

    _fields_ = [
        ("op", library.OpRecord),
        ("shape", ctypes.c_int32 * 3),
        ("precision", ctypes.c_int32),
        ("unit", ctypes.c_int32),
    ]


class Layer(NamedTuple):
    """A layer of a compiled network, the precision in which it runs here, float32, half or int8, and on what, such as
    AMX-BF16; in float32 None."""

    kind: str
    channels: int
    groups: int
    kernel: tuple
    stride: int
    output_shape: tuple
    precision: str
    unit: Optional[str] = None


class NativeModel:
    """An .igc file, given as bytes, in the native library. Raises UserError if it is not a whole one."""

    def __init__(self, data: bytes) -> None:
        self._handle = None
        self._library = _library()
        handle = ctypes.c_void_p()
        library.check(self._library.igc_load_buffer(data, len(data), ctypes.byref(handle)))
        self._handle = handle
        info = _Info()
        library.check(self._library.igc_get_info(handle, ctypes.byref(info)))
        self.name = info.name.decode("utf-8", "replace")
        self.shape = tuple(info.shape)
        self.output_shape = (info.scores,) if info.scores else tuple(info.output_shape)
        class_names = (
            tuple(self._library.igc_class_name(handle, i).decode("utf-8", "replace") for i in range(info.scores))
            if info.named
            else None
        )
        self.preprocessing = file.preprocessing_of(info, self.shape, class_names)
        self.multiply_adds = info.multiply_adds
        self.precision = _PRECISIONS[info.precision]
        self.layers = tuple(self._layer(i) for i in range(self._library.igc_layers(handle)))
        reason = float32_reason(self)
        if reason:
            logger.warning("%s runs in float32, not in %s: %s", self.name or "the network", self.precision, reason)

    def _layer(self, number: int) -> Layer:
        layer = _Layer()
        library.check(self._library.igc_get_layer(self._handle, number, ctypes.byref(layer)))
        op = layer.op
        return Layer(
            library.OP_KINDS[op.kind],
            op.channels or layer.shape[0],
            op.groups,
            (op.kernel_h, op.kernel_w),
            op.stride,
            tuple(layer.shape),
            _PRECISIONS[layer.precision],
            library.unit_name(self.precision, layer.unit) if layer.unit else None,
        )

    def run(self, x: np.ndarray, y: np.ndarray, threads: int) -> None:
        """Writes y, (N,) + output_shape, for x, (N,) + shape; both float32 in C order."""
        library.check(self._library.igc_run(self._handle, x.ctypes.data, len(x), y.ctypes.data, threads))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.igc_free(self._handle)
            self._handle = None


def reduced_layers(model: Any) -> int:
    """How many layers run in the model's precision where that is not float32."""
    return sum(layer.precision != "float32" for layer in model.layers)


def runs_on(model: Any) -> str:
    """In words, on what the layers in the model's precision run, and why none of them on AMX: "14 on AMX-BF16, 6 on
    AVX512-BF16"; "" where there are none."""
    units = collections.Counter(layer.unit for layer in model.layers if layer.unit)
    why = library.amx_unavailable_reason(model.precision) if units else None
    return ", ".join(f"{count} on {unit}" for unit, count in units.most_common()) + (f" (no AMX: {why})" if why else "")


def float32_reason(model: Any) -> Optional[str]:
    """One line that says why a model of another precision runs in float32 here, or None."""
    if model.precision == "float32" or reduced_layers(model):
        return None
    return library.unavailable_reason(model.precision) or "no layer gains by it"


def _library() -> ctypes.CDLL:
    reason = native.unavailable_reason()
    if reason is not None:
        raise UserError(f"compiled networks need the native library: {reason}")
    loaded = library.load()
    try:
        i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
        for name, result, arguments in (
            ("igc_load_buffer", ctypes.c_int, [ctypes.c_char_p, i64, pointer]),
            ("igc_free", None, [pointer]),
            ("igc_get_info", ctypes.c_int, [pointer, pointer]),
            ("igc_class_name", ctypes.c_char_p, [pointer, i32]),
            ("igc_layers", i64, [pointer]),
            ("igc_get_layer", ctypes.c_int, [pointer, i64, pointer]),
            ("igc_run", ctypes.c_int, [pointer, pointer, i64, pointer, i32]),
        ):
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError:
        raise UserError(f"{library.path()} is of another release; run: python -m igc_gluon.native.build") from None
    return loaded


class Compiled:
    """A network ready for inference; callable, by several threads at once.

    Attributes
    ----------
    name : str
    input_shape, output_shape : tuple
        Of one image and its result: (channels, height, width), and (scores,) or (channels, height, width).
    preprocessing : igc_gluon.data.preprocessing.Preprocessing
        What it expects of an image, mean and std among it, and the names of its classes.
    multiply_adds : int, or None where MXNet runs it
    precision : str
        That it was compiled for: float32, half or int8.
    layers : tuple of Layer
        Its layers, and the precision in which each runs here; () where MXNet runs it.
    reduced_layers : int
        How many layers run in the precision here, where that is not float32; the others run in float32.
    native : bool
        Whether the native library runs it.
    threads : int
        Of every call that does not say otherwise; 0: OMP_NUM_THREADS or else all cores that this process may use.
    """

    def __init__(self, data: bytes, threads: int = 0, model: Any = None) -> None:
        """data: the bytes of an .igc file. model: what runs it instead of the native library."""
        self._data = data
        self._model = model or NativeModel(data)
        self.threads = _check_threads(threads)
        self.native = model is None
        self.name, self.preprocessing = self._model.name, self._model.preprocessing
        self.input_shape, self.output_shape = self._model.shape, self._model.output_shape
        self.multiply_adds = self._model.multiply_adds
        self.precision, self.layers = self._model.precision, self._model.layers
        self.reduced_layers = reduced_layers(self._model)

    def __reduce__(self) -> Tuple[Any, ...]:
        """Copies and pickles: the bytes of the file say it all."""
        return type(self), (self._data, self.threads, None if self.native else self._model)

    def __call__(self, x: Any, threads: Optional[int] = None) -> Any:
        """Scores of a batch of normalized images.

        x: numpy array or MXNet NDArray on the CPU, float32, (N,) + input_shape; N may be 0. Returns the same
        kind, (N,) + output_shape. Raises TypeError if x is neither, UserError (a ValueError) on another
        shape, data type or device, and where x is not finite.
        """
        threads = self.threads if threads is None else _check_threads(threads)
        array = _memory(x)
        if array.dtype != np.float32 or array.shape[1:] != self.input_shape or array.ndim != 4:
            raise UserError(not_images(self.name or "the network", self.input_shape, array, self.preprocessing))
        array = np.require(array, np.float32, ["C", "A"])
        # A sum is one pass; only where it is not finite is it worth looking closer, as large numbers may
        # overflow it.
        with np.errstate(over="ignore", invalid="ignore"):
            suspicious = not np.isfinite(array.sum())
        if suspicious and not np.isfinite(array).all():
            image = int(np.argmin(np.isfinite(array).all(axis=(1, 2, 3))))
            raise UserError(f"image {image} of the batch is not finite everywhere")
        result, y = _empty_like(x, (len(array), *self.output_shape))
        self._model.run(array, y, threads)
        return result

    def classify(self, image: Any, top: int = 5) -> List[Tuple[str, float]]:
        """[(class, probability)] of the `top` likeliest classes of a photograph, the likeliest first.

        image: uint8 (height, width, 3), RGB, of any size, or the path of an image file. A class is its name, or its
        number where it has none. As `igc predict` prints them; C programs have igc_classify. Raises UserError where
        the image cannot be read, the network gives no scores, or nothing says how its images are normalized.
        """
        if len(self.output_shape) != 1:
            raise UserError(f"{self.name or 'the network'} gives no scores but {self.output_shape}")
        if isinstance(image, (str, os.PathLike)):
            image = read_photo(os.fspath(image))
        probabilities = softmax(self(self.normalize(self.preprocessing.pixels(image)[None]))[0])
        names = self.preprocessing.class_names or range(len(probabilities))
        return [(names[i], float(probabilities[i])) for i in probabilities.argsort()[::-1][:top].tolist()]

    def normalize(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, height, width, channels) -> float32 (N,) + input_shape, see `Preprocessing.normalize`."""
        if self.preprocessing.mean is None:
            raise UserError(
                f"{self.name or 'the network'} was compiled without the mean and std that its images are "
                "normalized with; compile it again with mean and std"
            )
        return self.preprocessing.normalize(images)

    def save(self, path: Union[str, Path]) -> None:
        """Writes an .igc file, which `load` and C programs read. Raises UserError if it cannot be written."""
        with write_atomically(path) as out:
            out.write(self._data)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, {self.input_shape} -> {self.output_shape}, "
            f"{library.isa() if self.native else 'MXNet'}"
            f"{f', {self.reduced_layers} layers in {self.precision}' if self.reduced_layers else ''})"
        )


def load(path: Union[str, Path], threads: int = 0) -> Compiled:
    """The Compiled network of an .igc file. Raises UserError if it is not a whole one, or there is no native
    library."""
    path = expand(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # to open a pipe would wait for ever
            raise UserError(f"cannot read {path}: it is no regular file")
        with open(path, "rb") as whole:
            data = whole.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        return Compiled(data, threads)
    except UserError as error:
        text = str(error)
        raise UserError(f"{path}{text[len('this') :]}" if text.startswith("this is not") else text) from None


def softmax(scores: np.ndarray, name: str = "the network") -> np.ndarray:
    """Probabilities of one image's scores, float64. name: of the network, for the message. Raises UserError where
    they are not finite."""
    scores = np.asarray(scores, np.float64)
    if not np.isfinite(scores).all():
        raise UserError(f"{name} gives scores that are not finite; it has diverged")
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


def _check_threads(threads: Any) -> int:
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 0 <= threads <= 1024:
        raise UserError(f"threads must be a whole number from 0 (all) to 1024, not {threads!r}")
    return int(threads)


def _mxnet_array(x: Any) -> bool:
    mxnet = sys.modules.get("mxnet")  # who has an NDArray has imported it
    return mxnet is not None and isinstance(x, mxnet.nd.NDArray)


def _memory(x: Any) -> np.ndarray:
    """`x` as a numpy array, not copied."""
    if isinstance(x, np.ndarray):
        return x
    if not _mxnet_array(x):
        raise TypeError(f"images must be a numpy array or an NDArray, not a {type(x).__name__}")
    if not x.context.device_type.startswith("cpu"):
        raise UserError(f"images are on {x.context}; this runs on the CPU: x.as_in_context(mx.cpu())")
    if x.stype != "default":
        raise UserError(f"images must be dense, not of storage type {x.stype}")
    return _numpy_of(x)


def _numpy_of(x: Any) -> np.ndarray:
    """The memory of a dense NDArray on the CPU, all that was to be written to it written; valid as long as `x` is."""
    from mxnet.base import _LIB, check_call  # optional: only who has an NDArray has MXNet

    at = ctypes.c_void_p()
    x.wait_to_read()
    check_call(_LIB.MXNDArrayGetData(x.handle, ctypes.byref(at)))
    if not x.size:
        return np.empty(x.shape, x.dtype)
    whole = (ctypes.c_char * (x.size * np.dtype(x.dtype).itemsize)).from_address(at.value)
    return np.frombuffer(whole, x.dtype).reshape(x.shape)


def _empty_like(x: Any, shape: Sequence[int]) -> Tuple[Any, np.ndarray]:
    """(an array of the kind of `x`, its memory as numpy array), float32."""
    if isinstance(x, np.ndarray):
        y = np.empty(shape, np.float32)
        return y, y
    mxnet = sys.modules["mxnet"]
    module = mxnet.np if isinstance(x, mxnet.np.ndarray) else mxnet.nd
    result = module.empty(shape, dtype=np.float32, ctx=x.context)
    return result, _numpy_of(result)
