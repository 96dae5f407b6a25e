"""Writes .igc files; the native library reads them. native/include/igc_file.h describes them."""

import struct
import zlib
from typing import Any, Optional, Sequence

import numpy as np

from igc_gluon.data.photos import INTERPOLATIONS
from igc_gluon.data.preprocessing import COLOR_ORDERS, Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.native import library
from igc_gluon.native.library import Op

MAGIC = b"\x89IGC\r\n\x1a\n"
VERSION = 5
_HEADER = struct.Struct("<Q3iiIIQII8i")  # after magic, version and checksum
_OP = struct.Struct("<12i4q")
_BEFORE_HEADER = 16
_INTERPOLATIONS = tuple(INTERPOLATIONS)  # in the order of igc_interpolation


def dumps(
    ops: Sequence[Op],
    shape: Sequence[int],
    is_row: bool,
    name: str = "",
    preprocessing: Optional[Preprocessing] = None,
    ranges: Sequence[Any] = (),
    precision: Optional[str] = None,
) -> bytes:
    """The bytes of an .igc file.

    ops: [library.Op]. shape: (channels, height, width) of an image. is_row: whether its result is a row of
    scores. preprocessing: what it expects of an image and the names of its classes; without mean and std pixels are
    taken as they are. ranges: what calibration found, for int8. precision: of library.PRECISIONS; None: int8 with
    ranges, float32 without.
    Raises UserError on numbers and names that do not fit.
    """
    expected = preprocessing or Preprocessing((shape[1], shape[2]))
    if expected.crop != tuple(shape[1:]):
        raise UserError(f"the network takes images of {shape[1:]}, not of {expected.crop}")
    known = expected.mean is not None
    mean, std = (
        _per_channel(what, values, shape[0])
        for what, values in (
            ("mean", expected.mean if known else [0.0] * shape[0]),
            ("std", expected.std if known else [1.0] * shape[0]),
        )
    )
    if not (std > 0).all():  # too small for a float32
        raise UserError(f"std must be above 0 for every channel, not {std.tolist()}")
    records, weights, size = [], [], 0
    for op in ops:
        offsets = []
        for array in (op.weight, op.weight2, op.scale, op.bias):
            offsets.append(-1 if array is None else size)
            if array is not None:
                weights.append(np.ascontiguousarray(array, "<f4"))
                size += array.size
        records.append(
            _OP.pack(
                op.kind,
                op.input,
                op.residual,
                op.channels,
                op.groups,
                *op.kernel,
                op.stride,
                *op.pad,
                library.ACTIVATIONS[op.activation],
                0,
                *offsets,
            )
        )
    class_names = expected.class_names or ()
    texts = b"".join(_text(text) for text in (name, *class_names))
    texts += bytes(-len(texts) % 8)
    limits = np.asarray(ranges, "<f4")
    parts = [mean.tobytes(), std.tobytes(), *records, texts, *(array.tobytes() for array in weights), limits.tobytes()]
    total = _BEFORE_HEADER + _HEADER.size + sum(map(len, parts))
    header = _HEADER.pack(
        total,
        *shape,
        int(is_row),
        len(ops),
        len(texts),
        size,
        len(class_names),
        limits.size,
        expected.short_side,
        _INTERPOLATIONS.index(expected.interpolation),
        COLOR_ORDERS.index(expected.color_order),
        int(known),
        expected.border,
        expected.fill,
        library.PRECISIONS[precision or ("int8" if limits.size else "float32")],
        0,
    )
    body = b"".join([header, *parts])
    return MAGIC + struct.pack("<II", VERSION, zlib.crc32(body)) + body


def preprocessing_of(info: Any, shape: Sequence[int], class_names: Optional[Sequence[str]]) -> Preprocessing:
    """The Preprocessing in an igc_model_info of the native library; what an older file does not say is as
    usual: the short side, no border."""
    mean, std = (tuple(array[: shape[0]]) if info.normalized else None for array in (info.mean, info.deviation))
    return Preprocessing(
        (shape[1], shape[2]),
        info.short_side or None,
        mean,
        std,
        _INTERPOLATIONS[info.interpolation],
        COLOR_ORDERS[info.color_order],
        None if class_names is None else tuple(class_names),
        info.border,
        info.fill,
    )


def _per_channel(what: str, values: Any, channels: int) -> Any:
    with np.errstate(over="ignore"):
        values = np.asarray(values, "<f4")
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise UserError(f"{what} must be {channels} finite numbers, one a channel, not {values.tolist()}")
    return values


def _text(text: str) -> bytes:
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"names must be texts without NUL, not {text!r}")
    return text.encode("utf-8", "replace") + b"\0"
