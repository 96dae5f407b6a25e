import contextlib
import struct

import mxnet as mx
import numpy as np
import pytest

from igc_gluon import params_file
from igc_gluon.errors import UserError

ARRAYS = {
    "arg:weight": np.arange(12, dtype="float32").reshape(3, 4),
    "aux:mean": np.array([-1.5], dtype="float64"),
    "half": np.ones((1, 2, 3), dtype="float16"),
    "index": np.array([2**40], dtype="int64"),
    "bytes": np.zeros((0, 3), dtype="uint8"),
}


def test_the_bytes_are_those_of_mxnet(tmp_path):
    arrays = {k: v for k, v in ARRAYS.items() if v.size}
    mx.nd.save(str(tmp_path / "theirs"), {k: mx.nd.array(v, dtype=v.dtype) for k, v in arrays.items()})
    assert params_file.dumps(arrays) == (tmp_path / "theirs").read_bytes()


def test_round_trip(tmp_path):
    (tmp_path / "file").write_bytes(params_file.dumps(ARRAYS))
    loaded = params_file.load(tmp_path / "file")
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_the_format_of_2016():
    """MXNet 0.8 wrote neither a magic number nor a storage type, and 32-bit shapes."""
    values = np.arange(6, dtype="<f4")
    data = (
        struct.pack("<QQQ", 0x112, 0, 1)
        + struct.pack("<III", 2, 2, 3)
        + struct.pack("<iii", 2, 0, 0)
        + values.tobytes()
        + struct.pack("<QQ", 1, 1)
        + b"w"
    )
    np.testing.assert_array_equal(params_file.loads(data)["w"], values.reshape(2, 3))


def test_every_truncation_is_refused(tmp_path):
    data = params_file.dumps(ARRAYS)
    for size in range(len(data)):
        with pytest.raises(UserError):
            params_file.loads(data[:size])
    with pytest.raises(UserError, match="left over"):
        params_file.loads(data + b"x")
    (tmp_path / "cut").write_bytes(data[:100])
    with pytest.raises(UserError, match="cut is not a whole .params file") as error:
        params_file.load(tmp_path / "cut")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="No such file"):
        params_file.load(tmp_path / "absent")


def test_flipped_bits_never_do_more_than_refuse():
    data, rng = bytearray(params_file.dumps(ARRAYS)), np.random.RandomState(0)
    for _ in range(2000):
        position, bit = rng.randint(len(data)), 1 << rng.randint(8)
        data[position] ^= bit
        with contextlib.suppress(UserError):
            params_file.loads(bytes(data))
        data[position] ^= bit
