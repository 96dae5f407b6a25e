"""Our operators for MXNet (src/mxnet): loads them."""
import ctypes
import functools
import itertools
import weakref

import mxnet as mx

from igc_gluon import native
from igc_gluon.native import library


def why_not():
    """None if MXNet has the native operators, else one line with the reason. Loads them at the first call."""
    if native.switched_off():
        return native.why_not()
    return _load()


def path_of_operators():
    return library.path().with_name("libigc_mxnet.so")


@functools.lru_cache(None)
def _load():
    reason = native.why_not()
    if reason is None:
        path = path_of_operators()
        if not path.is_file():
            return f"there are no operators for MXNet at {path}; run: python -m igc_gluon.native.build"
        try:
            mx.library.load(str(path), False)
        except (OSError, mx.MXNetError) as error:
            return f"the operators for MXNet cannot be loaded: {str(error).splitlines()[0]}"
    return reason


class Owner:
    """Whose call an operator works for: memory and folded weights that it keeps for the next call of the same owner are
    freed with it."""

    _numbers = itertools.count(1)  # not id(), which another object may get later

    def __init__(self):
        self._number, self._names = next(self._numbers), set()
        weakref.finalize(self, _release, self._names).atexit = False

    def name(self, part):
        """The operator's attribute `owner` for one of the owner's parts: those of equal layers elsewhere are others."""
        name = f"{self._number}.{part}"
        self._names.add(name)
        return name


def _release(names):
    operators = ctypes.CDLL(str(path_of_operators()))
    for name in names:
        operators.igc_body_release(name.encode())
