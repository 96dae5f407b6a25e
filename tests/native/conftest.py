"""Tests that take `isa` run on every instruction set of this machine."""
import pytest

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.graph.program import Program
from igc_gluon.native import library


def runs_here(name):
    try:
        library.use_isa(name)
    except UserError:
        return False
    library.use_isa()
    return True


@pytest.fixture(params=[name for name in library.ISAS if native.available() and runs_here(name)])
def isa(request):
    library.use_isa(request.param)
    yield request.param
    library.use_isa()


@pytest.fixture
def record_operators(monkeypatch):
    """The names of the native operators that programs call."""
    names, call = [], Program.__call__

    def recorded(self, *arrays):
        names.extend(self.operators)
        return call(self, *arrays)
    monkeypatch.setattr(Program, "__call__", recorded)
    return names


@pytest.fixture
def count_operators(monkeypatch):
    """{name of a native operator: how often programs call it}"""
    counts, call = {"igc_body_train": 0, "igc_body_infer": 0}, Program.__call__

    def counted(self, *arrays):
        for name in self.operators:
            counts[name] += 1
        return call(self, *arrays)
    monkeypatch.setattr(Program, "__call__", counted)
    return counts
