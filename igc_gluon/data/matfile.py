"""Numeric arrays out of MATLAB 5 files, every size checked before it is used.

scipy.io.loadmat ends the process with a segmentation fault on some damaged files. This reads the little of
the format that a data set needs, and notices each damaged byte of a compressed array by its checksum.

Format ("MAT-File Format", MathWorks): 128 bytes of header, then elements: type uint32, length uint32, data,
padded to a multiple of 8. Up to 4 bytes of data may stand in the second half of the tag itself, their length
in the upper 16 bits of the first. A compressed element, not padded, holds one element in zlib's format. A
matrix holds the elements flags, dimensions, name, values; values may be stored in a smaller type than their
class.
"""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, Dict, Sequence, Tuple, Union

import numpy as np

from igc_gluon.data.bounds import ALWAYS, MOST_PACKED
from igc_gluon.errors import UserError
from igc_gluon.files import open_file

_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMERIC_CLASSES = range(6, 16)  # the others are cell, struct, object, char, sparse, and newer ones
_COMPLEX = 1 << 11
_SMALL = 1 << 12  # bytes; more than any flags, dimensions or name take
_PIECE = 1 << 20


def read_arrays(path: Union[str, Path], names: Sequence[str]) -> Dict[str, np.ndarray]:
    """{name: array, of the type it is stored in} for the variables `names` of the file at `path`.

    Raises UserError when the file is damaged, of another format, or lacks one of the names.
    """
    arrays: Dict[str, np.ndarray] = {}
    with open_file(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        header = file.read(128)
        # Version 1.0 in little-endian order. MATLAB 7.3 files, which are HDF5, start differently.
        if not header.startswith(b"MATLAB 5.0 MAT-file") or header[124:] != b"\0\1IM":
            raise UserError(f"{path} is not a MATLAB 5 file; delete it or fetch it again")
        try:
            position = 128
            while position < size:
                file.seek(position)
                kind, length = struct.unpack("<II", _Stored(file, size - position).read(8))
                position += 8 + length
                if position > size:
                    raise _Damaged("it is truncated")
                stream: _Stream = _Stored(file, length)
                if kind == _COMPRESSED:
                    stream = _Inflated(stream)
                    kind, _ = struct.unpack("<II", stream.read(8))
                if kind != _MATRIX:
                    raise _Damaged("it holds something else than variables")
                name = _read_variable(stream, names, arrays, length)
                if name in names:
                    stream.finish()
        except (_Damaged, zlib.error) as error:
            raise UserError(f"{path} is damaged ({error}); delete it or fetch it again") from error
    for name in names:
        if name not in arrays:
            raise UserError(f"{path} holds no variable {name}; it is another kind of file")
    return arrays


class _Damaged(Exception):
    """Says in its message what is wrong with the file."""


class _Stream:
    """A row of bytes."""

    def some(self, count: int) -> bytes:
        """The next bytes, at most `count`; none at the end."""
        raise NotImplementedError

    def read(self, count: int) -> bytes:
        content = bytearray(count)
        self.fill(memoryview(content))
        return bytes(content)

    def fill(self, view: memoryview) -> None:
        while len(view):
            piece = self.some(min(len(view), _PIECE))
            if not piece:
                raise _Damaged("a variable ends too early")
            view[: len(piece)] = piece
            view = view[len(piece) :]

    def finish(self) -> None:
        """Raises _Damaged if what has been read is not intact, as far as the format can tell."""


class _Stored(_Stream):
    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file, self._left = file, length

    def some(self, count: int) -> bytes:
        piece = self._file.read(min(count, self._left))
        self._left -= len(piece)
        return piece


class _Inflated(_Stream):
    def __init__(self, stored: _Stream) -> None:
        self._stored, self._inflater = stored, zlib.decompressobj()

    def some(self, count: int) -> bytes:
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._stored.some(_PIECE)
            piece = self._inflater.decompress(packed, count)
            if piece or not packed:
                return piece
        return b""

    def finish(self) -> None:
        # zlib compares its checksum when it comes to the end.
        if self.some(1) or not self._inflater.eof:
            raise _Damaged("a variable does not end where it should")


def _read_variable(stream: _Stream, names: Sequence[str], arrays: Dict[str, np.ndarray], packed: int) -> str:
    """Reads one matrix, of `packed` bytes in the file, into `arrays` if its name is among `names`; returns the name."""
    flags = _read_small(stream, _UINT32)
    shape = _read_small(stream, _INT32).tolist()
    name = _read_small(stream, _INT8).tobytes().decode("latin-1")
    if name not in names:
        return name
    if len(flags) != 2 or flags[0] & 0xFF not in _NUMERIC_CLASSES or flags[0] & _COMPLEX:
        raise _Damaged(f"{name} does not hold real numbers")
    kind, length, source = _read_tag(stream)
    if kind not in _NUMBERS or not 1 <= len(shape) <= 8 or min(shape) < 0:
        raise _Damaged(f"{name} is not an array of numbers")
    values = np.dtype(_NUMBERS[kind])
    if math.prod(shape) * values.itemsize != length:
        raise _Damaged(f"{name} is of shape {tuple(shape)}, but has {length:,} bytes")
    if length > max(ALWAYS, MOST_PACKED * packed):
        raise _Damaged(f"{name} claims {length:,} bytes out of {packed:,}")
    array = np.empty(math.prod(shape), values)
    if length:
        source.fill(memoryview(array.view(np.uint8).data))
        if stream is source:
            stream.read(-length % 8)
    arrays[name] = array.reshape(shape, order="F")
    return name


def _read_tag(stream: _Stream) -> Tuple[int, int, _Stream]:
    """(type, length in bytes, stream that starts with the data) of the next element."""
    first, second = struct.unpack("<II", stream.read(8))
    if first >> 16:
        data = io.BytesIO(struct.pack("<I", second))
        return first & 0xFFFF, first >> 16, _Stored(data, 4)
    return first, second, stream


def _read_small(stream: _Stream, kind: int) -> np.ndarray:
    """The next element as an array. It must be of type `kind`; its padding is skipped."""
    stored, length, source = _read_tag(stream)
    values = np.dtype(_NUMBERS[kind])
    if stored != kind or length > _SMALL or length % values.itemsize:
        raise _Damaged("a variable has no proper header")
    content = source.read(length)
    if source is stream:
        stream.read(-length % 8)
    return np.frombuffer(content, values)
