"""Files made with intent: whole in form, with right checksums, lengths and digests, and hostile values in their fields.

Damage (mutations.py) mostly ends at the first checksum; these files pass it. `craft(name, rng, samples)` returns the
file to be read and {path: bytes} of what is to be written for it.
"""

import gzip
import hashlib
import io
import json
import math
import os
import struct
import zipfile
import zlib

import make_archives
import numpy as np

from igc_gluon.data import record_file, recordio
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.deploy import file as igc_file
from igc_gluon.native import library

WHOLE = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    10,
    16,
    31,
    32,
    33,
    64,
    100,
    127,
    128,
    199,
    200,
    255,
    256,
    1000,
    4096,
    65535,
    65536,
    1 << 20,
    (1 << 24) + 1,
    (1 << 29) - 1,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 48,
    (1 << 62) + 1,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
FLOATS = [
    0.0,
    -0.0,
    0.5,
    -1.0,
    1e-45,
    1e30,
    -1e30,
    3.4e38,
    float("inf"),
    float("-inf"),
    float("nan"),
    9.0,
    10.0,
    2.0**24,
]
TEXTS = [
    "",
    "x",
    "x" * 300,
    "x" * 100000,
    "../../etc/passwd",
    "/dev/zero",
    "\x1b[2J\n",
    "a\0b",
    "-1",
    "1e999",
    "NaN",
    "\u202e",
    "()",
    "(1, 1)",
    "(-1, 3)",
    "(0, 0)",
    "(4096, 4096)",
    *"99999999999 True None cifar_plain5_w4 digits".split(),
]
WINDOWS = (((1, 1), 1, (0, 0)), ((3, 3), 1, (1, 1)), ((3, 3), 2, (1, 1)), ((2, 2), 2, (0, 0)))  # kernel, stride, pad
ZIP_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
DEEP = []
for _ in range(500):
    DEEP = [DEEP]
VALUES = [
    None,
    True,
    False,
    -1,
    0.5,
    -0.5,
    1e300,
    float("nan"),
    float("inf"),
    10**400,
    -(10**400),
    [],
    [None],
    [[]],
    [0] * 1000,
    DEEP,
    {},
    {"x": {}},
    {"classes": 5},
    {"pretrained": True},
]


def _number(rng, bits=64, signed=False):
    value = rng.choice(WHOLE) & (1 << bits) - 1
    return value - (1 << bits) if signed and value >> bits - 1 else value


def _value(rng):
    return rng.choice(
        [
            lambda: json.loads(json.dumps(rng.choice(VALUES))),
            lambda: rng.choice(TEXTS),
            lambda: rng.choice(WHOLE),
            lambda: -rng.choice(WHOLE),
            lambda: rng.choice(FLOATS),
        ]
    )()


def _either(rng, usual, hostile, odds=0.2):
    """`usual`, or with these odds one of `hostile`."""
    return rng.choice(hostile) if rng.random() < odds else usual


def _places(value, at=()):
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if len(at) > 20:  # what was nested without end before
        return
    for key, inner in items:
        yield from _places(inner, (*at, key))


def _forged(rng, value):
    """A JSON value with other values in one of its fields or a few, or without them, or with more."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.choice(list(_places(value)) or [()])
        if not at:
            return _value(rng)
        inner = value
        for key in at[:-1]:
            inner = inner[key]
        how = rng.random()
        if how < 0.1:
            del inner[at[-1]]
        elif how < 0.2 and isinstance(inner, list):
            inner += [inner[at[-1]]] * rng.choice((1, 2, 1000))
        elif how < 0.3 and isinstance(inner, dict):
            inner[rng.choice(TEXTS)] = _value(rng)
        elif how < 0.45 and isinstance(inner[at[-1]], (int, float)):
            inner[at[-1]] += rng.choice((-1, 1, 0.5))
        else:
            inner[at[-1]] = _value(rng)
    return value


def _json(value):
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _pick(rng, samples, *names):
    return rng.choice([(path, data) for path, data in samples if not names or path.name in names])


def _params_bytes(rng):
    count, names = rng.choice((0, 1, 2, 3)), []
    parts = [struct.pack("<QQQ", 0x112, _either(rng, 0, WHOLE, 0.03), _either(rng, count, WHOLE, 0.1))]
    for number in range(count):
        kind = _either(rng, rng.randrange(7), [7, 100, -1, 1 << 30], 0.1)
        axes = _either(rng, rng.randrange(1, 4), [0, 32, 33, 1000, (1 << 31) - 1], 0.1)
        wrong = [1, 0, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, -1, -(1 << 62)]
        shape = [_either(rng, rng.randrange(4), wrong, 0.2) for _ in range(min(axes, 33))]
        size = (4, 8, 2, 1, 4, 1, 8)[kind % 7] * math.prod(shape)
        head = rng.choice((0xF993FAC8, 0xF993FAC9, 0xF993FACA, None))
        if head is None:
            parts.append(struct.pack(f"<I{len(shape)}I", axes, *(extent & 0xFFFFFFFF for extent in shape)))
        else:
            parts.append(struct.pack("<I", head))
            if head != 0xF993FAC8:
                parts.append(struct.pack("<i", _either(rng, 0, [1, 2, -1, 1 << 30], 0.05)))
            parts.append(struct.pack(f"<i{len(shape)}q", axes, *shape))
        parts.append(struct.pack("<iii", _either(rng, 1, [0, 2, -1]), 0, kind))
        parts.append(bytes(size if 0 <= size < 1 << 16 else rng.choice((0, 4, 100))))
        names.append(_either(rng, f"arg:w{number}", TEXTS + ["arg:w0", "aux:mean"], 0.3).encode())
    parts.append(struct.pack("<Q", _either(rng, len(names), WHOLE, 0.1)))
    for name in names:
        parts += [struct.pack("<Q", _either(rng, len(name), WHOLE, 0.05)), name]
    return b"".join(parts)


def params(rng, samples):
    path = samples[0][0]
    return path, {path: _params_bytes(rng)}


def checkpoint(rng, samples):
    """A manifest that says so for every other file."""
    contents = dict(samples)
    by_name = {path.name: path for path in contents}
    changed = rng.choice(("state.json", "state.json", "state.json", "net.params", "manifest.json"))
    path = by_name[changed]
    whole = {name: contents[by_name[name]] for name in ("net.params", "training.params", "state.json")}
    if changed == "state.json":
        whole[changed] = _json(_forged(rng, json.loads(contents[path])))
    elif changed == "net.params":
        whole[changed] = _params_bytes(rng)
    manifest = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in whole.items()}
    if changed == "manifest.json":
        manifest = _forged(rng, manifest)
    return path, {**{by_name[name]: data for name, data in whole.items()}, by_name["manifest.json"]: _json(manifest)}


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _image(rng, side, jpeg=False):
    """An encoded image, of `side` pixels or of any size that its header claims; a PNG with right checksums."""
    wrong = [0, 1, side - 1, 30000, 65535, (1 << 31) - 1, (1 << 32) - 1]
    width, height = (_either(rng, side, wrong, 0.05) for _ in range(2))
    if jpeg or rng.random() < 0.5:
        data = bytearray(make_archives.jpeg(np.zeros((side, side, 3), np.uint8)))
        at = data.index(b"\xff\xc0")
        struct.pack_into(">HH", data, at + 5, height & 0xFFFF, width & 0xFFFF)
        data[at + 9] = _either(rng, 3, [0, 1, 4, 255], 0.1)  # components
        data[at + 11] = _either(rng, data[at + 11], [0, 0x44, 0xFF], 0.1)  # sampling
        scan = data.index(b"\xff\xda")
        data[scan:scan] = data[scan:] * _either(rng, 0, [1, 99, 101, 2000], 0.1)
        if rng.random() < 0.1:
            data[2:2] = b"\xff\xe1" + struct.pack(">H", _number(rng, 16)) + bytes(rng.choice((0, 100)))
        return bytes(data)
    depth, color = _either(rng, (8, 2), [(16, 2), (1, 0), (8, 3), (16, 6), (255, 2)], 0.1)
    rows = zlib.compress(bytes(_either(rng, (3 * side + 1) * side, [0, 1 << 22], 0.05)))
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, _either(rng, 0, [1, 2], 0.1)))
        + _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * _either(rng, 0, [1, 50], 0.1)
        + _chunk(b"IDAT", rows)
        + _chunk(b"IEND", b"")
    )


def _payload(rng, number, classes, side, checksum):
    if rng.random() < 0.6:
        plain = make_archives.jpeg(np.zeros((side, side, 3), np.uint8))
        return recordio.encode(rng.randrange(classes), number, plain)
    image, label = _image(rng, side), _either(rng, float(rng.randrange(classes)), FLOATS, 0.1)
    if rng.random() < 0.15:
        image = struct.pack("<I", 0xCED7230A) * rng.choice((1, 2, 50)) + image
    count = _either(rng, rng.choice((0, 1)), [2, 7, 1 << 20, 1 << 30, (1 << 32) - 1], 0.05)
    labels = struct.pack("<f", label) * min(count, 10)
    check = recordio.checksum(label, number, image) if checksum else 0
    return recordio.HEADER.pack(count, label, number, check) + labels + image


def _frame(rng, payload):
    """Mostly as it should be; else other flags and lengths, that fit together or do not."""
    if rng.random() < 0.95:
        return recordio.frame(payload)
    pieces = [payload[at : at + 64] for at in range(0, min(len(payload), 64 * rng.choice((1, 2, 5))), 64)]
    return b"".join(
        struct.pack(
            "<II",
            0xCED7230A,
            rng.randrange(8) << 29 | _either(rng, len(piece), [0, 1, (1 << 29) - 1, 1 << 24, 1 << 27]) & (1 << 29) - 1,
        )
        + piece
        + bytes(-len(piece) % 4)
        for piece in pieces
    )


def record(rng, samples):
    path = samples[0][0]
    frames = [_frame(rng, _payload(rng, number, 10, 32, False)) for number in range(rng.choice((1, 3, 20)))]
    return path, {path: b"".join(frames)}


def _record_file(rng, samples):
    path, index = (next(path for path, _ in samples if path.suffix == suffix) for suffix in (".rec", ".idx"))
    frames, lines, at = [], [], 0
    for number in range(rng.choice((2, 3, 10))):
        frames.append(_frame(rng, _payload(rng, number, 3, 32, True)))
        wrong = [*WHOLE, -4, -(1 << 63), -(1 << 70), 4 * at]
        lines.append([_either(rng, number, WHOLE, 0.02), _either(rng, at, wrong, 0.02)])
        at += len(frames[-1])
    if rng.random() < 0.1:
        rng.shuffle(lines)
    if rng.random() < 0.05:
        lines *= rng.choice((2, 1000))
    text = "".join(f"{number}\t{position}\n" for number, position in lines).encode()
    return path, {path: b"".join(frames), index: text}


def large_record(rng, samples):
    return _record_file(rng, samples)


def note(rng, samples):
    """The note that a file was checked, with the digest and the times of the file, which may be forged too."""
    path, files = (
        _record_file(rng, samples)
        if rng.random() < 0.5
        else (next(path for path, _ in samples if path.suffix == ".rec"), dict(samples))
    )
    index = path.with_suffix(".idx")
    for file, data in files.items():
        file.write_bytes(data)
    try:
        positions = record_file.read_index(path)
        digest = record_file._digest(path, positions)
    except (OSError, ValueError):  # UserError is one
        positions, digest = [], None
    truth = {
        "stamp": [[status.st_size, status.st_mtime_ns] for status in (os.stat(path), os.stat(index))],
        "structure": {"records": len(positions), "smallest_label": 0.0, "largest_label": 9.0},
        "digest": digest,
        "packed": None,
    }
    return path, {path.with_name(path.name + ".json"): _json(truth if rng.random() < 0.3 else _forged(rng, truth))}


def symbol(rng, samples):
    path, data = samples[0]
    graph = json.loads(data)
    nodes = graph["nodes"]
    for _ in range(rng.choice((1, 1, 2, 5))):
        node, how = rng.choice(nodes), rng.random()
        attributes = node.get("attrs") or node.get("attr") or node.get("param")
        if how < 0.5 and attributes:
            attributes[rng.choice([*attributes, "kernel", "num_group", "__preprocessing__", "dilate"])] = rng.choice(
                [*TEXTS, *map(str, WHOLE), *map(str, FLOATS), "[" * 200]
            )
        elif how < 0.7 and node.get("inputs"):
            node["inputs"] = node["inputs"] * rng.choice((0, 1, 2, 50))
            if node["inputs"]:
                rng.choice(node["inputs"])[0] = rng.choice([0, 1, -1, len(nodes), rng.randrange(len(nodes))])
        elif how < 0.85:
            node[rng.choice(list(node))] = rng.choice([*TEXTS, "Convolution", "Pooling", "Reorder", "null"])
        else:
            graph = _forged(rng, graph)
            nodes = graph.get("nodes") if isinstance(graph, dict) else None
            if (
                not isinstance(nodes, list)
                or not nodes
                or not all(isinstance(node, dict) for node in nodes)
                or not all(
                    isinstance(n.get(key) or [[0]], kind)
                    for n in nodes
                    for key, kind in (("inputs", list), ("attrs", dict), ("attr", dict), ("param", dict))
                )
                or not all(isinstance(i, list) and i for n in nodes for i in n.get("inputs") or [])
            ):
                break
    return path, {path: _json(graph)}


def run(rng, samples):
    """config.json or history.jsonl."""
    path, data = rng.choice(samples)
    if path.suffix == ".json":
        return path, {path: _json(_forged(rng, json.loads(data)))}
    entries = _forged(rng, [json.loads(line) for line in data.splitlines()])
    entries = entries if isinstance(entries, list) else [entries]
    return path, {path: b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)}


def _octal(number, width):
    """As tar writes a number; base 256 where it does not fit."""
    text = b"%0*o" % (width - 1, max(number, 0))
    return (
        text + b"\0"
        if len(text) < width and number >= 0
        else b"\x80" + (number % (1 << 8 * (width - 1))).to_bytes(width - 1, "big")
    )


def _tar_member(rng, name, content, kind=b"0", size=None):
    header = bytearray(512)
    header[: min(len(name), 100)] = name[:100]
    header[100:108], header[108:116], header[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    header[124:136] = _octal(len(content) if size is None else size, 12)
    header[136:148] = b"00000000000\0"
    header[156:157] = kind
    header[257:265] = _either(rng, b"ustar\x0000", [b"ustar  \0", bytes(8)], 0.1)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def tar(rng, samples):
    names = [f"cifar-10-batches-bin/data_batch_{part}.bin" for part in range(1, 6)]
    parts = []
    for name in names:
        how, content = rng.random(), _cifar(rng, 10)
        if how < 0.1:  # a long name before it, or many
            for _ in range(rng.choice((1, 1, 300))):
                parts.append(
                    _tar_member(
                        rng,
                        b"././@LongLink",
                        rng.choice([*TEXTS, name]).encode() + b"\0",
                        rng.choice((b"L", b"K")),
                        _either(rng, None, WHOLE),
                    )
                )
        elif how < 0.25:
            key = rng.choice((b"path", b"size", b"x" * 1000, b"GNU.sparse.realsize", b""))
            value = rng.choice([*TEXTS, name, *map(str, WHOLE)]).encode()
            record = b" %s=%s\n" % (key, value)
            right = str(len(record) + len(str(len(record) + 3)))
            length = _either(rng, right, [*map(str, WHOLE), "-1", "", "1" * 5000]).encode()
            text = (length + record) * rng.choice((1, 1, 100))
            parts.append(_tar_member(rng, b"pax", text, rng.choice((b"x", b"g", b"X"))))
        size = _either(rng, None, [*WHOLE, -1], 0.05)
        kind = _either(rng, b"0", [b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"S", b"V", b"\xff"], 0.1)
        parts.append(_tar_member(rng, _either(rng, name, TEXTS, 0.05).encode(), content, kind, size))
    if rng.random() < 0.1:
        parts.append(_tar_member(rng, b"zeros", b"") * rng.choice((10, 12000)))
    whole = b"".join(parts) + bytes(_either(rng, 1024, [0, 512, 1 << 20, 1 << 25], 0.1))
    path = rng.choice([path for path, _ in samples if path.suffix in (".tar", ".gz")])
    return path, {path: whole if path.suffix == ".tar" else gzip.compress(whole, 1)}


def _cifar(rng, classes, label_bytes=1):
    record = b"".join(bytes([_either(rng, rng.randrange(classes), [classes, 255], 0.05)]) for _ in range(label_bytes))
    content = (record + bytes(3072)) * rng.choice((1, 2, 10))
    return content[: _either(rng, len(content), [0, 1, len(content) - 1], 0.05)]


def binary(rng, samples):
    path = samples[0][0]
    return path, {path: _cifar(rng, 100, 2) * rng.choice((1, 2, 300))}


def zipped(rng, samples):
    """Tiny ImageNet's archive; zipfile makes the checksums, and hostile fields in its headers stand in both places."""
    path, data = samples[0]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist() if "/train/" not in info.filename}
    root, out = "tiny-imagenet-200/", io.BytesIO()
    for name, text in (
        (root + "wnids.txt", members[root + "wnids.txt"]),
        (root + "val/val_annotations.txt", members[root + "val/val_annotations.txt"]),
    ):
        if rng.random() < 0.3:
            lines = text.decode().splitlines()
            at = rng.randrange(len(lines))
            words = lines[at].split("\t")
            words[rng.randrange(len(words))] = rng.choice([*TEXTS, "n00000001", "n" + "9" * 8, "val_0.JPEG"])
            lines[at] = "\t".join(words)
            members[name] = "\n".join(lines * _either(rng, 1, [2, 3000], 0.1)).encode("utf-8", "replace")
    for name in [name for name in members if name.startswith(root + "val/images/")]:
        if rng.random() < 0.4:
            members[name] = _image(rng, 64, jpeg=rng.random() < 0.8)
        elif rng.random() < 0.01:  # of which xz takes a second
            members[name] = bytes(1 << 24)
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(_either(rng, name, TEXTS, 0.02)[:1000] or "x")
            info.compress_type = rng.choice(ZIP_KINDS)
            zip64 = struct.pack("<HHQQ", 1, 16, rng.choice(WHOLE), rng.choice(WHOLE))
            info.extra = _either(rng, b"", [zip64, b"\1\0\xff\xff"], 0.02)
            archive.writestr(info, content)
    whole = bytearray(out.getvalue())
    for _ in range(rng.choice((0, 0, 1, 2))):
        central = [at for at in _all(whole, b"PK\1\2")]
        at = rng.choice(central)
        field = rng.choice(((8, "<H", 6), (10, "<H", 8), (16, "<I", 14), (20, "<I", 18), (24, "<I", 22)))
        value = struct.pack(field[1], _number(rng, 8 * struct.calcsize(field[1])))
        (local,) = struct.unpack_from("<I", whole, at + 42)
        for place in (at + field[0], local + field[2]):
            whole[place : place + len(value)] = value
    if rng.random() < 0.1:
        at = bytes(whole).rindex(b"PK\5\6")
        struct.pack_into("<I", whole, at + rng.choice((8, 12, 16)), _number(rng, 32))
    return path, {path: bytes(whole)}


def _all(data, what):
    at = data.find(what)
    while at >= 0:
        yield at
        at = data.find(what, at + 1)


def _element(rng, kind, data, length=None):
    return struct.pack("<II", kind, len(data) if length is None else length & 0xFFFFFFFF) + data + bytes(-len(data) % 8)


def mat(rng, samples):
    path = samples[0][0]
    parts = [b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM"]
    count = rng.choice((1, 2, 5))
    for name, shape, kind in (("X", [32, 32, 3, count], 2), ("y", [count, 1], 2)):
        name = _either(rng, name, [*TEXTS[:8], "X", "y", "ans"], 0.05)
        shape = [_either(rng, extent, [0, 1, -1, 1 << 20, (1 << 31) - 1, -(1 << 31)], 0.03) for extent in shape]
        shape = shape * _either(rng, 1, [2, 3, 200], 0.03)
        kind = _either(rng, kind, [1, 3, 5, 7, 9, 12, 13, 14, 15, 16, 0, 255], 0.05)
        size = {1: 1, 2: 1, 3: 2, 4: 2, 7: 4, 9: 8, 12: 8, 13: 8}.get(kind, 4) * math.prod(shape)
        values = bytes([_either(rng, 1, [0, 10, 11, 255], 0.1)]) * (size if 0 <= size < 1 << 20 else 64)
        flags = _either(rng, 9, [0, 1, 4, 5, 6, 15, 16, 17, 255], 0.05)
        flags |= _either(rng, 0, [0x0800, 0x0400, 0xFFFF0000], 0.05)
        inner = (
            _element(rng, 6, struct.pack("<II", flags, 0), _either(rng, None, WHOLE[:32], 0.02))
            + _element(rng, 5, struct.pack(f"<{len(shape)}i", *shape), _either(rng, None, WHOLE[:32], 0.02))
            + _element(rng, 1, name.encode(), _either(rng, None, WHOLE[:32], 0.02))
            + _element(rng, kind, values, _either(rng, None, [*WHOLE[:32], size % (1 << 32)], 0.05))
        )
        matrix = _element(rng, 14, inner, _either(rng, None, WHOLE[:32], 0.05))
        if rng.random() < 0.7:
            packed = zlib.compress(matrix + bytes(_either(rng, 0, [1, 1 << 24, 1 << 26], 0.05)))
            matrix = struct.pack("<II", 15, len(packed)) + packed
        parts.append(matrix)
    return path, {path: b"".join(parts)}


def idx(rng, samples):
    """Both files of a split, or one that does not fit the other."""
    images, labels = (next(path for path, _ in samples if what in path.name) for what in ("images", "labels"))
    count = rng.choice((1, 4, 100))
    made = {}
    for path, shape in ((images, [count, 28, 28]), (labels, [count])):
        size = math.prod(shape)
        wrong = [0, 1, 27, 1 << 20, (1 << 20) + 1, 1 << 31, (1 << 32) - 1]
        shape = [_either(rng, extent, wrong, 0.05) for extent in shape]
        kind, axes = _either(rng, 8, [0, 9, 0x0D, 255], 0.03), _either(rng, len(shape), [0, 2, 255], 0.03)
        head = struct.pack(">HBB", 0, kind, axes)
        body = bytes([_either(rng, 9, [10, 255], 0.1)]) * _either(rng, size, [0, size - 1, size + 1, 1 << 25], 0.1)
        whole = head + struct.pack(f">{len(shape)}I", *shape) + body
        pieces = [whole] if rng.random() < 0.9 else [whole[:100], whole[100:], b""]
        made[path] = b"".join(gzip.compress(piece, 1) for piece in pieces)
    return rng.choice((images, labels)), made


def hostfile(rng, samples):
    path = samples[0][0]
    lines = []
    wrong_hosts = [*TEXTS, "-oProxyCommand=x", "a b", "h\u00f6st", "#", "[::1]", "\ufeffa"]
    wrong_slots = [f" slots={n}" for n in (*WHOLE, -1, "\u0664", "1e3", "0x2", "", "9" * 5000, "1 slots=2")]
    wrong_slots += [" max_slots=3", "\tslots=1", "\0"]
    for _ in range(rng.choice((1, 3, 20))):
        host = _either(rng, f"user@host{rng.randrange(9)}", wrong_hosts, 0.15)
        lines.append(host + _either(rng, rng.choice(("", " slots=2")), wrong_slots, 0.15))
    text = rng.choice(("\n", "\n", "\r\n", "\r")).join(lines) * _either(rng, 1, [1000, 100000], 0.05)
    return path, {path: text.encode(rng.choice(("utf-8", "utf-8", "utf-8", "utf-16")), "surrogatepass")}


def igc(rng, samples):
    """Ops of any numbers, with as many weights as they say where those are few; or a sample with other numbers."""
    path, data = rng.choice(samples)
    if rng.random() < 0.5:
        import fuzz_files

        whole = bytearray(fuzz_files.mutated(data, rng))
        return path, {path: fuzz_files.with_checksum(whole)}
    shape = tuple(_either(rng, side, [1, 2, 7, 16, 1000, 1 << 20], 0.1) for side in (3, 8, 8))
    ops, channels = [], [shape[0]]
    for number in range(rng.choice((1, 2, 5, 30))):
        kind = _either(rng, rng.choice((1, 1, 2, 3, 4, 5)), [0, 6, -1, 1 << 30], 0.03)
        source = _either(rng, number, [rng.randrange(number + 1), -1, 1 << 30], 0.1)
        inputs = channels[source] if 0 <= source < len(channels) else 4
        divisors = [n for n in range(1, min(inputs, 64) + 1) if not inputs % n] or [1]
        groups = _either(rng, rng.choice(divisors), WHOLE[:28], 0.05)
        kernel, stride, pad = rng.choice(WINDOWS)
        kernel = tuple(_either(rng, side, [0, -1, 5, 100, 1 << 20, (1 << 31) - 1], 0.03) for side in kernel)
        stride = _either(rng, stride, [0, -1, 3, 1 << 30], 0.03)
        pad = tuple(_either(rng, side, [-1, 2, 1 << 20], 0.03) for side in pad)
        out = rng.choice((groups, 2 * groups, inputs)) or 1
        out = inputs if kind > 2 else _either(rng, out, WHOLE[:28], 0.05) % (1 << 31)

        def array(*extents):
            size = math.prod(extents)
            return np.full(size if 0 <= size < 1 << 18 else 7, _either(rng, 0.1, FLOATS, 0.02), np.float32)

        parameters = {}
        if kind in (1, 2):
            parameters["weight"] = array(out, inputs // max(groups, 1), *kernel)
            if kind == 2:
                parameters["weight2"] = array(out, groups)
            for name in ("scale", "bias"):
                if rng.random() < 0.5:
                    parameters[name] = array(out)
        residual = _either(rng, -1, [*range(number + 1), number + 1, 1 << 30], 0.1)
        activation = rng.choice((None, "relu", "relu6"))
        ops.append(library.Op(kind, source, out, groups, kernel, stride, pad, activation, residual, **parameters))
        channels.append(out)
    odd_names = [text for text in TEXTS if "\0" not in text]
    names = (
        [_either(rng, f"class {i}", odd_names, 0.05) for i in range(channels[-1])]
        if channels[-1] < 100 and rng.random() < 0.5
        else None
    )
    known = (
        Preprocessing(shape[1:], mean=(1.0,) * shape[0], std=(1.0,) * shape[0])
        if max(shape) < 1 << 16 and rng.random() < 0.5
        else None
    )
    if known and names:
        known = Preprocessing(shape[1:], mean=known.mean, std=known.std, class_names=names)
    if max(shape[1:]) > 1 << 16 or shape[0] > 1 << 10:
        return path, {path: data}
    ranges = [_either(rng, 1.0, FLOATS, 0.05) for _ in range(2 * (len(ops) + 1))] if rng.random() < 0.2 else ()
    whole = bytearray(igc_file.dumps(ops, shape, rng.random() < 0.5, rng.choice(TEXTS[:7]), known, ranges))
    return path, {path: bytes(whole)}


CRAFTED = {
    "params": params,
    "checkpoint": checkpoint,
    "record": record,
    "large-record": large_record,
    "note": note,
    "symbol": symbol,
    "tar": tar,
    "bin": binary,
    "zip": zipped,
    "mat": mat,
    "idx": idx,
    "run": run,
    "hostfile": hostfile,
    "igc": igc,
}


def craft(name, rng, samples):
    return CRAFTED[name](rng, samples)
