"""Loads damaged .igc files in the C library and runs what it accepts: `python fuzz_files.py SEED COUNT
FILE...`.

A process of its own, which the test watches: a crash must not take the tests along. Prints how many were
refused and accepted.
"""

import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

from igc_gluon.deploy.runtime import Compiled
from igc_gluon.errors import UserError

INTERESTING = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    17,
    24,
    31,
    64,
    100,
    255,
    256,
    257,
    1000,
    4096,
    65535,
    65536,
    65537,
    1 << 20,
    (1 << 20) + 1,
    1 << 24,
    1 << 28,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    (1 << 32) - 2,
    (1 << 32) - 3,
]


def with_checksum(data):
    """`data` as a file that only its content can give away: size and checksum are right."""
    if len(data) < 24:
        return bytes(data)
    data[16:24] = struct.pack("<Q", len(data))
    data[12:16] = struct.pack("<I", zlib.crc32(data[16:]))
    return bytes(data)


def mutated(data, rng):
    data = bytearray(data)
    (n_ops,) = struct.unpack_from("<I", data, 40)
    before_ops = 88 + 8 * struct.unpack_from("<i", data, 24)[0]
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        how, size = rng.random(), len(data)
        if size < 80 or how < 0.05:
            data = data[: rng.randrange(size + 1)]
        elif how < 0.1:
            at = rng.randrange(size)
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.choice((1, 4, 8, 80))))
        elif how < 0.15:  # an op twice, or one less
            at = before_ops + 80 * rng.randrange(max(n_ops, 1))
            data[at : at + 80 * (rng.random() < 0.5)] = data[at : at + 80] * rng.randrange(3)
        elif how < 0.3:
            data[rng.randrange(size)] = rng.randrange(256)
        elif how < 0.45:
            struct.pack_into("<I", data, 24 + 4 * rng.randrange(16), rng.choice(INTERESTING))
        else:  # a number of an op
            at = before_ops + 4 * rng.randrange(max(20 * n_ops, 1))
            if at + 4 <= size:
                (old,) = struct.unpack_from("<I", data, at)
                new = rng.choice(INTERESTING + [old + 1, old - 1, old * 2, old // 2])
                struct.pack_into("<I", data, at, new & 0xFFFFFFFF)
    return with_checksum(data) if rng.random() < 0.9 else bytes(data)


def main(seed, count, paths):
    rng, files, refused, accepted = random.Random(seed), [Path(path).read_bytes() for path in paths], 0, 0
    for _ in range(count):
        try:
            compiled = Compiled(mutated(rng.choice(files), rng), threads=2)
        except UserError as error:
            assert "\n" not in str(error) and str(error), repr(str(error))
            refused += 1
            continue
        accepted += 1
        if (
            np.prod(compiled.input_shape) <= 1 << 16
            and compiled.multiply_adds <= 1 << 24
            and np.prod(compiled.output_shape) <= 1 << 20
        ):
            compiled(np.ones((1,) + compiled.input_shape, np.float32))
    print(refused, accepted)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
