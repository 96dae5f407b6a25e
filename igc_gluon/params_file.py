"""MXNet's `.params` files, read and written without MXNet.

MXNet writes such a file in place, notices neither a full disk nor flipped bits, and reads sizes from it unchecked. Here
a file is written by Python (see `igc_gluon.files.write_atomically`) and every size is checked before it is used.

Layout, little-endian: uint64 0x112, uint64 0, uint64 number of arrays, the arrays, uint64 number of names, the names
(uint64 length, bytes). An array: uint32 magic, int32 storage type (version 2 on), int32 number of axes, int64 per axis,
int32 device type, int32 device id, int32 data type, the values. Before version 1 there is no magic: uint32 number of
axes, uint32 per axis, and then as above.
"""

import struct
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Union

import numpy as np

from igc_gluon.errors import UserError
from igc_gluon.files import open_file
from igc_gluon.paths import expand

_LIST_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = [np.dtype(name) for name in ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")]
_MAX_AXES = 32
_CPU = 1


def dumps(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a `.params` file that holds `arrays`, a dict of name to numpy array."""
    parts = [struct.pack("<QQQ", _LIST_MAGIC, 0, len(arrays))]
    for name, array in arrays.items():
        array = np.asarray(array, order="C")
        if array.ndim == 0:
            # MXNet 1.x reads an array without axes as one that was never filled.
            raise ValueError(f"{name}: a .params file cannot hold an array without axes")
        kind = _DTYPES.index(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
        parts += [
            struct.pack(f"<Iii{array.ndim}qiii", _V2, 0, array.ndim, *array.shape, _CPU, 0, kind),
            array.tobytes(),
        ]
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        encoded = name.encode("utf-8")
        parts += [struct.pack("<Q", len(encoded)), encoded]
    return b"".join(parts)


def load(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """{name: numpy array} of the file at `path`. Raises UserError, which names the file, if it is not a whole one."""
    try:
        with open_file(expand(path)) as file:
            data = file.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    try:
        return loads(data)
    except UserError as error:
        raise UserError(f"{path} is not a whole .params file: {error}") from None


def loads(data: bytes) -> Dict[str, np.ndarray]:
    """{name: numpy array} of the bytes of a `.params` file. Raises UserError where they are not one."""
    cursor = _Cursor(data)
    if cursor.take("<QQ") != (_LIST_MAGIC, 0):
        raise UserError("it does not begin as one")
    arrays = [cursor.array() for _ in range(*cursor.take("<Q"))]
    names = [cursor.name() for _ in range(*cursor.take("<Q"))]
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise UserError(f"it holds {len(arrays)} arrays under {len(set(names))} names")
    if cursor.position != len(data):
        raise UserError(f"{len(data) - cursor.position} bytes are left over at its end")
    return dict(zip(names, arrays))


class _Cursor:
    """Takes values off `data` in order and checks before each that it is there."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def bytes(self, size: int) -> Any:
        if size < 0 or size > len(self.data) - self.position:
            raise UserError(f"it ends at byte {len(self.data)}, in the middle of something")
        self.position += size
        return self.data[self.position - size : self.position]

    def take(self, layout: str) -> Tuple[Any, ...]:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))

    def array(self) -> np.ndarray:
        (first,) = self.take("<I")
        if first in (_V2, _V3):
            (storage,) = self.take("<i")
            if storage != 0:
                raise UserError("it holds a sparse array; only dense ones are known here")
        shape = (
            self.take(f"<{self.axes(*self.take('<i'))}q")
            if first in (_V1, _V2, _V3)
            else self.take(f"<{self.axes(first)}I")
        )
        _, _, kind = self.take("<iii")
        if not 0 <= kind < len(_DTYPES):
            raise UserError(f"it holds an array of the unknown data type {kind}")
        size = _DTYPES[kind].itemsize
        for extent in shape:  # Python's integers do not overflow
            size *= extent
        try:
            return np.frombuffer(self.bytes(size), _DTYPES[kind]).reshape(shape)
        except ValueError as error:  # an array without values may claim extents beyond any memory, or negative ones
            raise error if isinstance(error, UserError) else UserError(f"it holds an array of shape {shape}") from None

    def axes(self, number: int) -> int:
        if not 0 < number <= _MAX_AXES:
            raise UserError(f"it holds an array with {number} axes")
        return number

    def name(self) -> str:
        (length,) = self.take("<Q")
        try:
            return self.bytes(length).decode("utf-8")
        except UnicodeDecodeError:
            raise UserError("a name in it is not text") from None
