"""benchmarks/networks.py and scaling.py: every case can be built, and what they write of made-up measurements."""

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from igc_gluon.bench.measure import Result, Timing

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def networks():
    return script("networks")


def entry(network, training=False):
    timings = {
        key: Timing([seconds] * 3, [seconds] * 3, 10**6, 1e-7)
        for key, seconds in (("igc-gluon" if training else "igc", 1e-4), ("torch", 5e-4))
    }
    result = Result(
        network,
        64,
        2,
        training,
        10**7,
        timings,
        {"openvino": "openvino not installed"},
        {"avx512": [1e11]},
        {"read": [1e10]},
        {"torch": "2"},
    )
    return {
        "result": asdict(result),
        "single": None,
        "machine": "a machine, 2 cores",
        "load": 0.5,
        "versions": "torch 2",
        "repeats": 3,
        "seconds": 0.2,
    }


def test_page_of_stored_results(networks, tmp_path):
    path = tmp_path / "networks.json"
    assert networks.read(path) == {}
    parts = {
        "inference": {name: entry(name) for name in (networks.L24M2.title, networks.W16.title)},
        "training": {"a": entry(networks.L24M2.title, True)},
    }
    path.write_text(json.dumps(parts))
    page = networks.page(networks.read(path))
    for what, wanted in (("inference, against the best peer", 8), ("training step, against PyTorch's best", 7)):
        assert f"| IGC-L24M2, D=20 | {what} (PyTorch, eager) | 5.00x | {wanted}.00x | no |" in page
    assert "5.00 times the images/s of RegConv-W16, D=20" in page
    assert page.count("## IGC-L24M2") == 2 and "2 threads: FMA peak avx512 100.0 GMAC/s, memory read 10.0 GB/s" in page


def test_every_target_is_measured(networks):
    """Each target has a case that gives it."""
    cases = {(case.network.title, case.training) for part in networks.PARTS.values() for case in part}
    for target in networks.TARGETS:
        assert (target.network, False) in cases
        assert (target.network, True) in cases or target.torch is None


def test_every_case_is_a_network(networks):
    for network in {case.network.title: case.network for part in networks.PARTS.values() for case in part}.values():
        assert type(network).from_json(json.loads(json.dumps(network.as_json()))) == network
        network.build()


def test_picture(tmp_path):
    scaling = script("scaling")
    rows = scaling.series(4)
    assert rows[-1].values == (1, 2, 4) and rows[-1].point(2, 4) == ("cifar_plain_igc20_l24m2", 64, 2)
    assert rows[0].point(8, 4) == ("cifar_plain_igc8_l8m2", 64, 4) and rows[4].point(8, 4)[1] == 8
    points = [
        {"title": row.title, "value": value, "milliseconds": {"igc": value, "torch": 2 * value, "limit": 0.5}}
        for row in rows
        for value in row.values
    ]
    scaling.draw(points, False, "a machine", tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").read_bytes()[:4] == b"\x89PNG"
