"""What a run depends on is recorded; a change of it is reported."""

import json
import os

import pytest

from igc_gluon import native
from igc_gluon.engine import versions
from igc_gluon.engine.run_log import RunLog

HOW = {"devices": "1 x cpu", "kv_store": "device", "workers": 1}


@pytest.fixture
def resume(tmp_path, caplog):
    """Begins a run in the first call, and returns what a resumed one says."""

    def write(config=None, how=HOW):
        versions._of_the_machine.cache_clear()
        caplog.clear()
        record = RunLog(tmp_path)
        try:
            record.write_config(config or {"model": "a"}, how)
        finally:
            record.close()
        return caplog.text

    assert write() == ""
    yield write
    versions._of_the_machine.cache_clear()


@pytest.mark.parametrize(
    "name",
    (
        "OMP_NUM_THREADS MXNET_OMP_MAX_THREADS OMP_THREAD_LIMIT OMP_DYNAMIC OPENBLAS_NUM_THREADS "
        "MXNET_SAFE_ACCUMULATION DNNL_MAX_CPU_ISA OPENBLAS_CORETYPE MKL_CBWR"
    ).split(),
)
def test_variables_that_change_bits_are_compared(resume, monkeypatch, name):
    before = os.environ.get(name)
    monkeypatch.setenv(name, "7")
    assert (
        f"was begun with other versions ({name} {before} -> 7): it goes on, but not with the same last bits" in resume()
    )
    monkeypatch.delenv(name)
    assert before is None or f"{name} {before} -> None" in resume()


@pytest.mark.parametrize("name", ["MXNET_HOME", "MXNET_SUBGRAPH_VERBOSE", "OMP_DISPLAY_ENV", "PATH", "IGC_WORKER"])
def test_other_variables_are_not(resume, monkeypatch, name):
    monkeypatch.setenv(name, "7")
    assert resume() == ""


def test_the_machine_is_compared(resume, monkeypatch, tmp_path):
    monkeypatch.setattr(versions, "_processor", lambda: ("another", ["avx", "avx2", "fma", "hypervisor"]))
    assert "-> another" in resume() and "vectors" in resume()
    monkeypatch.undo()
    other = tmp_path / "libigc.so"
    other.write_bytes(native.library.path().read_bytes() + b"\0")
    monkeypatch.setattr(native.library, "path", lambda: other)
    assert "kernels " in resume() and "processor" not in resume()
    monkeypatch.undo()
    monkeypatch.setattr(versions, "_blas", lambda folder: "another BLAS")
    assert "-> another BLAS" in resume()


def test_the_instruction_set_is_compared(resume, monkeypatch):
    monkeypatch.setenv("IGC_NATIVE", "0")
    assert "native " in resume()


@pytest.mark.parametrize("key,value", [("devices", "2 x cpu"), ("kv_store", "dist_sync"), ("workers", 3)])
def test_devices_and_workers_are_compared(resume, key, value):
    assert f"{key} {HOW[key]} -> {value}" in resume(how={**HOW, key: value})


def test_what_an_older_release_did_not_record_is_not_compared(resume, tmp_path):
    config = json.loads((tmp_path / "config.json").read_text())
    config["versions"] = {"numpy": config["versions"]["numpy"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert resume() == ""


def test_the_blas_says_its_version_and_its_processor():
    version_of = versions.versions()
    assert "OpenBLAS 0." in version_of["numpy_blas"] and "blas" in version_of["mxnet_blas"]
    assert all(len(digest) == 16 for digest in version_of["kernels"].split()) == native.available()
