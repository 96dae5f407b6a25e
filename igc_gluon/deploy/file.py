"""Writes .igc files; the native library reads them. native/include/igc_file.h describes them."""
import struct
import zlib

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.native import library

MAGIC = b"\x89IGC\r\n\x1a\n"
VERSION = 2  # with ranges; files without are of version 1, as before there were any
_HEADER = struct.Struct("<Q3iiIIQII")  # after magic, version and checksum
_OP = struct.Struct("<12i4q")
_BEFORE_HEADER = 16


def dumps(ops, shape, is_row, name="", class_names=(), mean=None, std=None, ranges=()):
    """The bytes of an .igc file.

    ops: [library.Op]. shape: (channels, height, width) of an image. is_row: whether its result is a row of
    scores. class_names: one for each score, or none. mean, std: of each channel, of pixels 0..255; without
    them pixels are taken as they are. ranges: what calibration found, for 8-bit integers.
    Raises UserError on numbers and names that do not fit.
    """
    channels = shape[0]
    mean = _per_channel("mean", mean, channels, 0.0)
    std = _per_channel("std", std, channels, 1.0)
    if not (std > 0).all():
        raise UserError(f"std must be above 0 for every channel, not {std.tolist()}")
    records, weights, size = [], [], 0
    for op in ops:
        offsets = []
        for array in (op.weight, op.weight2, op.scale, op.bias):
            offsets.append(-1 if array is None else size)
            if array is not None:
                weights.append(np.ascontiguousarray(array, "<f4"))
                size += array.size
        records.append(_OP.pack(op.kind, op.input, op.residual, op.channels, op.groups, *op.kernel, op.stride,
                                *op.pad, library.ACTIVATIONS[op.activation], 0, *offsets))
    texts = b"".join(_text(text) for text in (name, *class_names))
    texts += bytes(-len(texts) % 8)
    ranges = np.asarray(ranges, "<f4")
    parts = [mean.tobytes(), std.tobytes(), *records, texts, *(array.tobytes() for array in weights),
             ranges.tobytes()]
    total = _BEFORE_HEADER + _HEADER.size + sum(map(len, parts))
    header = _HEADER.pack(total, *shape, int(is_row), len(ops), len(texts), size, len(class_names),
                          ranges.size)
    body = b"".join([header, *parts])
    return MAGIC + struct.pack("<II", VERSION if ranges.size else 1, zlib.crc32(body)) + body


def has_ranges(data):
    """Whether a whole .igc file, given as bytes, is for 8-bit integers."""
    return struct.unpack_from("<I", data, len(MAGIC))[0] >= VERSION


def _per_channel(what, values, channels, default):
    values = np.broadcast_to(np.asarray(default if values is None else values, "<f4"), (channels,)) \
        if np.ndim(values) == 0 else np.asarray(values, "<f4")
    if values.shape != (channels,) or not np.isfinite(values).all():
        raise UserError(f"{what} must be {channels} finite numbers, one a channel, not {values.tolist()}")
    return values


def _text(text):
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"names must be texts without NUL, not {text!r}")
    return text.encode("utf-8", "replace") + b"\0"
