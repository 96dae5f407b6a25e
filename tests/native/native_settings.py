"""Variables of the kernels for the duration of a test."""

import contextlib
import os

from igc_gluon.native import library as lib


@contextlib.contextmanager
def native_settings(isa=None, **values):
    """An instruction set, None: the best, and IGC_NATIVE_INT8, _HALF, _AMX as `int8`, `half`, `amx`."""
    names = {f"IGC_NATIVE_{name.upper()}": value for name, value in values.items()}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        lib.use_isa(isa)
        yield
    finally:
        lib.use_isa()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
