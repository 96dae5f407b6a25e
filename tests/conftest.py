"""Tests use the cores that an entry point would use; set before the first import of mxnet."""

import ctypes
import gc
from pathlib import Path

import pytest

from igc_gluon.threads import use_all_cores

use_all_cores()

from loopback import quick_and_direct, server  # noqa: E402, F401
from sanitizers import sanitized, thread_sanitized  # noqa: E402, F401


def resident_pages():
    return int(Path("/proc/self/statm").read_text().split()[1])


@pytest.fixture(autouse=True)
def memory_is_given_back():
    """Blocks refer to each other, which Python sees late, and glibc keeps what is freed: gigabytes in the end."""
    before = resident_pages()
    yield
    if resident_pages() > before + 25000:  # 100 MB
        gc.collect()
        getattr(ctypes.CDLL(None), "malloc_trim", lambda _: None)(0)


@pytest.fixture
def registry_as_before():
    """Networks that a test registers are gone after it."""
    from igc_gluon.model_zoo import imports, registry  # slow: MXNet

    families, imported = dict(registry._families), dict(imports._imported)
    yield
    for now, before in ((registry._families, families), (imports._imported, imported)):
        now.clear()
        now.update(before)
