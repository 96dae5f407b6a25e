"""MATLAB files written by scipy, and damaged ones, on some of which scipy itself crashes."""

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from igc_gluon.data.matfile import read_arrays
from igc_gluon.errors import UserError

RANDOM = np.random.RandomState(0)
ARRAYS = {
    "X": RANDOM.randint(0, 256, (4, 3, 2, 5)).astype(np.uint8),
    "double": RANDOM.randn(7, 3),
    "single": RANDOM.randn(1, 5).astype(np.float32),
    "tiny": np.array([[3, 7]], np.int16),  # at home in its tag
    "long_name_of_a_variable": RANDOM.randint(-9, 9, (2, 2)).astype(np.int64),
    "empty": np.zeros((3, 0), np.int32),
}
OTHERS = {"text": "abc", "cells": np.array([["a", 1]], object), "record": {"a": 1}, "complex": np.array([[1j]])}


@pytest.mark.parametrize("compress", [True, False])
def test_numeric_arrays_among_others(tmp_path, compress):
    path = tmp_path / "a.mat"
    savemat(
        path, {**OTHERS, **ARRAYS, **{name + "2": value for name, value in OTHERS.items()}}, do_compression=compress
    )
    read = read_arrays(path, tuple(ARRAYS))
    assert set(read) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)
        np.testing.assert_array_equal(read[name], loadmat(path)[name])


@pytest.mark.parametrize("name", OTHERS)
def test_other_variables_are_refused_by_name(tmp_path, name):
    savemat(tmp_path / "a.mat", OTHERS)
    with pytest.raises(UserError, match=f"{name} does not hold real numbers"):
        read_arrays(tmp_path / "a.mat", (name,))


def test_missing_variable(tmp_path):
    savemat(tmp_path / "a.mat", ARRAYS)
    with pytest.raises(UserError, match="holds no variable Y"):
        read_arrays(tmp_path / "a.mat", ("X", "Y"))


@pytest.mark.parametrize("version", [b"\1\0MI", b"\0\2IM"], ids=["big-endian", "version 2"])
def test_other_versions_are_refused(tmp_path, version):
    savemat(tmp_path / "a.mat", ARRAYS)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[:124] + version + content[128:])
    with pytest.raises(UserError, match="not a MATLAB 5 file"):
        read_arrays(tmp_path / "a.mat", ("X",))


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    for compress in (True, False):
        savemat(path, {"X": ARRAYS["X"]}, do_compression=compress)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(UserError):
                read_arrays(path, ("X",))


def test_every_flipped_byte_of_a_compressed_array_is_noticed(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"X": ARRAYS["X"]}, do_compression=True)
    whole = path.read_bytes()
    for position in range(128, len(whole)):
        content = bytearray(whole)
        content[position] ^= 0xFF
        path.write_bytes(bytes(content))
        with pytest.raises(UserError):
            read_arrays(path, ("X",))


def test_any_mutation_is_refused_or_reads_and_never_crashes(tmp_path):
    path = tmp_path / "a.mat"
    random = np.random.RandomState(1)
    for compress in (True, False):
        savemat(path, {"X": ARRAYS["X"], "y": ARRAYS["double"]}, do_compression=compress)
        whole = path.read_bytes()
        for _ in range(300):
            content = bytearray(whole)
            for position in random.randint(128, len(whole), random.randint(1, 5)):
                content[position] = random.randint(256)
            path.write_bytes(bytes(content))
            try:
                read = read_arrays(path, ("X", "y"))
            except UserError as error:
                assert "\n" not in str(error)
            else:
                assert set(read) == {"X", "y"}
