"""Tests that take `isa` run on every instruction set of this machine."""

import pytest

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.graph.program import AtOnce, Program
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
    names = []

    def record(call):
        def recorded(self, *arrays):
            names.extend(self.operators)
            return call(self, *arrays)

        return recorded

    for cls in (Program, AtOnce):
        monkeypatch.setattr(cls, "__call__", record(cls.__call__))
    return names


@pytest.fixture
def count_operators(monkeypatch):
    """{name of a native operator: how often programs call it}"""
    counts = {"igc_body_train": 0, "igc_body_infer": 0}

    def count(call):
        def counted(self, *arrays):
            for name in self.operators:
                counts[name] += 1
            return call(self, *arrays)

        return counted

    for cls in (Program, AtOnce):
        monkeypatch.setattr(cls, "__call__", count(cls.__call__))
    return counts
