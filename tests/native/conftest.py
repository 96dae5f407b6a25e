"""Tests that take `isa` run on every instruction set of this machine."""
import pytest

from igc_gluon import native
from igc_gluon.errors import UserError
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
