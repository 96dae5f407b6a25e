"""How much a file may make of itself when it is unpacked or decoded: in bytes, in pixels and so in time.

What comes from strangers is read under these bounds, each of which follows from what the files are for; whatever is
beyond one is refused before memory is taken for it.
"""

import lzma
import struct
import zipfile
import zlib
from typing import Any, BinaryIO, Callable, Dict, Iterator, Optional, Tuple

import numpy as np

from igc_gluon.errors import UserError

PHOTO_PIXELS = 1 << 27  # twice the largest image of ImageNet, and about what the largest cameras make
PHOTO_BYTES = 1 << 28  # of an image file
SCANS = 100  # of a JPEG, each of which costs the time of the whole image; programs make about ten
# Pixels, as numbers or as JPEGs, cannot be packed much. The official archives take 1.1 times their size.
MOST_PACKED = 8  # bytes out of one
ALWAYS = 1 << 24  # bytes that any archive may unpack to
ARCHIVE_BYTES = 1 << 29  # unpacked; CIFAR's have 185 MB
MEMBERS = 10000  # of a tar archive
ZIP_ENTRIES = 125000  # Tiny ImageNet's has 120,609
ZIP_DIRECTORY = 1 << 25  # bytes
TEXT_BYTES = 1 << 20  # of a text, a name, a header
LZMA_MEMORY = 80 << 20  # bytes; `xz -9` takes 65 MB
_PIECE = 1 << 16


def decode(data: bytes, pixels: int = PHOTO_PIXELS, flags: Optional[int] = None) -> np.ndarray:
    """The image of the encoded bytes, as OpenCV gives it (BGR, or by `flags`). Raises UserError where it is none, has
    more than `pixels` pixels, or is made to take long; that is told from its header, before anything is decoded."""
    size = image_size(data)
    if size is None:
        raise UserError("it is no image of a known format (JPEG, PNG, BMP, GIF, WebP, TIFF, JPEG 2000, PNM)")
    height, width, area = size
    if area > pixels:
        raise UserError(f"it claims {width:,}x{height:,} pixels; at most {pixels:,} are taken")
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > SCANS:
        raise UserError(f"it is a JPEG of more than {SCANS} scans")
    import cv2  # optional: OpenCV

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if flags is None else flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        image = None
    if image is None:
        raise UserError("OpenCV cannot read the image")
    return image


def image_size(data: bytes) -> Optional[Tuple[int, int, int]]:
    """(height, width, pixels that OpenCV takes memory for) that an encoded image claims in its header, or None where
    the header is none of a known format."""
    try:
        for begin, read in _FORMATS:
            if data.startswith(begin):
                height, width, *more = read(data)
                return (height, width, max([height * width, *more])) if height > 0 and width > 0 else None
    except (struct.error, ValueError, LookupError):
        pass
    return None


def _jpeg(data: bytes) -> Tuple[int, ...]:
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while data[at] == 0xFF:
            at += 1
        kind, at = data[at], at + 1
        if kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            continue
        if kind in (0xD9, 0xDA):  # an end, or pixels, before their size
            raise ValueError
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", data, at + 3)
        at += struct.unpack_from(">H", data, at)[0]


def _png(data: bytes) -> Tuple[int, ...]:
    width, height = struct.unpack_from(">II", data, 16)
    return height, width


def _bmp(data: bytes) -> Tuple[int, ...]:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return abs(height), abs(width)


def _gif(data: bytes) -> Tuple[int, ...]:
    width, height = struct.unpack_from("<HH", data, 6)
    return height, width


def _webp(data: bytes) -> Tuple[int, ...]:
    kind = data[12:16]
    if data[8:12] != b"WEBP":
        raise ValueError
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise ValueError
    return height, width


def _tiff(data: bytes) -> Tuple[int, ...]:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: Dict[int, int] = {}
    for number in range(count):
        tag, kind, _ = struct.unpack_from(order + "HHI", data, at + 2 + 12 * number)
        if kind in (3, 4):
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, at + 10 + 12 * number)
            tags.setdefault(tag, value)
    return tags[257], tags[256], tags.get(322, 0) * tags.get(323, 0)  # a tile is taken memory for as a whole


def _jpeg2000(data: bytes) -> Tuple[int, ...]:
    return struct.unpack_from(">II", data, data.index(b"ihdr", 0, _PIECE) + 4)


def _pnm(data: bytes) -> Tuple[int, ...]:
    words = [word for line in data[:_PIECE].split(b"\n") for word in line.split(b"#")[0].split()]
    return int(words[2]), int(words[1])


_FORMATS = (
    (b"\xff\xd8\xff", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"BM", _bmp),
    (b"GIF8", _gif),
    (b"RIFF", _webp),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
    (b"\0\0\0\x0cjP  ", _jpeg2000),
    *((b"P%d" % number, _pnm) for number in range(1, 7)),
)


# What zipfile and zlib raise on damaged bytes; RuntimeError of an encrypted member, NotImplementedError of an
# unknown compression.
ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
)


def check_zip(file: BinaryIO) -> None:
    """Raises UserError where the open zip archive has more files than Tiny ImageNet's: zipfile makes an object of
    each."""
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:  # zipfile says so
        return
    size, place = end[zipfile._ECD_SIZE], end[zipfile._ECD_LOCATION]  # type: ignore[attr-defined]
    file.seek(max(place - size, 0))
    count, left, before = 0, size, b""
    while left > 0 and size <= ZIP_DIRECTORY:
        piece = file.read(min(left, _PIECE))
        if not piece:
            break
        count += (before + piece).count(b"PK\1\2")
        left, before = left - len(piece), piece[-3:]
    if size > ZIP_DIRECTORY or count > ZIP_ENTRIES:
        raise UserError(
            "it claims more than "
            f"{f'{ZIP_ENTRIES:,} files' if count > ZIP_ENTRIES else f'{ZIP_DIRECTORY:,} bytes of names'}"
        )
    file.seek(0)


class Unpacked:
    """The bytes of a packed file: gzip, bzip2, xz or none of them, told by how it begins.

    read(n) gives n bytes, or fewer at the end, which is checked as far as the format can. Raises UserError on more
    bytes than `most` or than pixels can be packed into, and what the decompressors raise on damaged ones.
    """

    def __init__(self, file: BinaryIO, most: int = ARCHIVE_BYTES) -> None:
        self._file, self._most, self._out, self._rest = file, most, 0, b""
        begin = file.read(6)
        file.seek(0)
        self._new: Optional[Callable[[], Any]] = (
            (lambda: zlib.decompressobj(31))
            if begin[:2] == b"\x1f\x8b"
            else (lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY))
            if begin == b"\xfd7zXZ\0"
            else _bz2
            if begin[:3] == b"BZh"
            else None
        )
        self._decompressor: Any = self._new and self._new()

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            piece = self._some(min(count, _PIECE))
            if not piece:
                break
            parts.append(piece)
            count -= len(piece)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            piece = self._some(min(count, _PIECE))
            if not piece:
                raise EOFError("it ends too early")
            count -= len(piece)

    def _some(self, count: int) -> bytes:
        piece = self._file.read(count) if self._new is None else self._decompress(count)
        self._out += len(piece)
        if self._out > max(ALWAYS, min(self._most, MOST_PACKED * self._file.tell())):
            raise UserError(f"it unpacks to more than {self._out - len(piece):,} bytes, which is no archive of images")
        return piece

    def _decompress(self, count: int) -> bytes:
        while True:
            decompressor = self._decompressor
            if decompressor.eof:
                self._rest = decompressor.unused_data or self._file.read(_PIECE)
                if not self._rest.strip(b"\0"):  # padding is no other file
                    return b""
                assert self._new is not None
                decompressor = self._decompressor = self._new()
            if hasattr(decompressor, "unconsumed_tail"):  # zlib's, which gives back what it has not come to
                packed = self._rest or self._file.read(_PIECE)
                piece = decompressor.decompress(packed, count)
                self._rest = decompressor.unconsumed_tail
            else:
                packed = self._rest or (self._file.read(_PIECE) if decompressor.needs_input else b"")
                piece, self._rest = decompressor.decompress(packed, count), b""
            if piece:
                return piece
            if not packed and not decompressor.eof and getattr(decompressor, "needs_input", True):
                raise EOFError("it ends too early")


def _bz2() -> Any:
    # optional: Python may be built without it
    import bz2

    return bz2.BZ2Decompressor()


def tar_members(stream: "Unpacked") -> Iterator[Tuple[str, int, "_Limited"]]:
    """Yields (name without folders, size, stream) of the regular files of a tar archive; `size` bytes may be read off
    the stream, what is left is passed over. Raises UserError, EOFError and ValueError on what is no tar archive.

    Python's tarfile takes time that grows with the square of a header, and calls itself for each long name.
    """
    extended: Dict[bytes, Any] = {}  # from headers of longer names and sizes, of the file that follows
    for _ in range(MEMBERS):
        header = stream.read(512)
        if not header.strip(b"\0"):  # two such blocks end it; what follows is not looked at, but for checksums
            if len(header) < 512:
                raise EOFError("it ends too early")
            while stream.read(1 << 20):
                pass
            return
        checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if len(header) < 512 or _octal(header[148:156]) != checksum:
            raise ValueError("there is no header of a file where one should be")
        size = int.from_bytes(header[125:136], "big") if header[124] & 0x80 else _octal(header[124:136])
        kind, name = header[156:157], header[:100].partition(b"\0")[0]
        padded = -(-size // 512) * 512
        if kind in (b"L", b"K", b"x", b"g", b"X"):
            extended.update(_extended_header(stream, kind, size, padded))
            continue
        name, size, extended = extended.get(b"path", name), int(extended.get(b"size", size)), {}
        if not 0 <= size <= ARCHIVE_BYTES:
            raise UserError(f"{name.decode('utf-8', 'replace')} in it claims {size:,} bytes")
        padded = -(-size // 512) * 512
        if kind in (b"0", b"\0", b"7"):
            limited = _Limited(stream, size)
            yield name.rpartition(b"/")[2].decode("utf-8", "replace"), size, limited
            stream.skip(limited.left + padded - size)
    raise UserError(f"it holds more than {MEMBERS:,} files")


def _extended_header(stream: Unpacked, kind: bytes, size: int, padded: int) -> Dict[bytes, bytes]:
    """{b"path", b"size" and others: value} of a header of such a kind, of `size` bytes."""
    if size > TEXT_BYTES:
        raise UserError(f"a name in it claims {size:,} bytes")
    text = stream.read(size)
    stream.skip(padded - size)
    if kind == b"L":
        return {b"path": text.partition(b"\0")[0]}
    return _pax(text) if kind in (b"x", b"X") else {}


def _octal(text: bytes) -> int:
    return int(text.strip(b" \0") or b"0", 8)


def _pax(text: bytes) -> Dict[bytes, bytes]:
    """{name: value} of records such as b"19 path=folder/file\\n"."""
    at = 0
    records: Dict[bytes, bytes] = {}
    while at < len(text):
        length, space, _ = text[at : at + 20].partition(b" ")
        end = at + int(length)
        if not space or end <= at + len(length) + 1 or end > len(text):
            raise ValueError("a header in it is damaged")
        key, _, value = text[at + len(length) + 1 : end - 1].partition(b"=")
        records[key], at = value, end
    return records


class _Limited:
    """`left` bytes of a stream."""

    def __init__(self, stream: Unpacked, left: int) -> None:
        self._stream, self.left = stream, left

    def read(self, count: int) -> bytes:
        piece = self._stream.read(min(count, self.left))
        if len(piece) < min(count, self.left):
            raise EOFError("it ends too early")
        self.left -= len(piece)
        return piece
