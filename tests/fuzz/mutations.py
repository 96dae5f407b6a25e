"""Damage to files: what a bad disk, a cut connection and somebody with bad intentions do."""

import random
import re
import struct

NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    127,
    128,
    255,
    256,
    65535,
    65536,
    (1 << 20) + 1,
    (1 << 29) - 1,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    (1 << 40) + 1,
    (1 << 62),
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
]
TEXTS = [
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-1e-999",
    b"NaN",
    b'""',
    b"[]",
    b"{}",
    b"[[[[",
    b'"../../../etc/passwd"',
    b'"\\u0000"',
    b"9" * 400,
    b"99999999",
    b"1.5",
    b'{"a": {"a": 1}}',
    b"\xff\xfe",
    b"[" * 3000,
]


def mutated(data, rng, is_text=False):  # noqa: C901 (a case for each kind)
    """`data` damaged at one place or a few."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 10))):
        size = len(data)
        at = rng.randrange(size) if size else 0
        if rng.random() < 0.5:  # numbers and lengths stand in front
            at = min(at, rng.randrange(200))
        kind = rng.randrange(5 if is_text else 9)
        if is_text and kind:
            data = _text(data, rng, kind)
        elif kind == 0:
            data = data[:at]
        elif kind == 1:
            data[at:at] = _bytes(rng, rng.choice((1, 4, 8, 100)))
        elif kind == 2:
            del data[at : at + rng.choice((1, 4, 8, 100, 5000))]
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice((8, 64, 512))] * rng.randrange(1, 4)
        elif kind == 4:
            data[at : at + 512] = bytes(min(512, size - at))
        elif kind == 5 and size:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 6 and size:
            data[at] = rng.randrange(256)
        elif size >= 8:
            at = at // 4 * 4
            layout = rng.choice(("<I", "<Q", "<H"))
            number = rng.choice(NUMBERS) & (1 << 8 * struct.calcsize(layout)) - 1
            data[at : at + struct.calcsize(layout)] = struct.pack(layout, number)
    return bytes(data)


def _bytes(rng, count):
    return rng.getrandbits(8 * count).to_bytes(count, "little")  # Random.randbytes, which Python 3.8 has not


def _text(data, rng, kind):
    """A number, a word or a bracket becomes something else, goes, or comes twice."""
    tokens = re.findall(rb'"[^"]*"|[-\d.eE+]+|[\w]+|[\s]+|.', bytes(data), re.DOTALL)
    if not tokens:
        return data
    at = rng.randrange(len(tokens))
    if kind == 1:
        del tokens[at : at + rng.choice((1, 2, 5))]
    elif kind == 2:
        tokens[at:at] = tokens[at : at + rng.choice((1, 4, 20))]
    else:
        values = [i for i, token in enumerate(tokens) if token[:1] in b'"-0123456789' and token.strip()]
        at = rng.choice(values or [at])
        tokens[at] = rng.choice(TEXTS + tokens) if rng.random() < 0.8 else b"%d" % rng.choice(NUMBERS)
    return bytearray(b"".join(tokens))


def for_file(seed, name, number):
    """The random numbers of one damaged file."""
    return random.Random(f"{seed} {name} {number}")
