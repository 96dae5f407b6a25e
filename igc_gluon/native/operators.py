"""Our operators for MXNet (src/mxnet): loads them."""
import functools

import mxnet as mx

from igc_gluon import native
from igc_gluon.native import library


def why_not():
    """None if MXNet has the native operators, else one line with the reason. Loads them at the first call."""
    if native.switched_off():
        return native.why_not()
    return _load()


@functools.lru_cache(None)
def _load():
    reason = native.why_not()
    if reason is None:
        path = library.path().with_name("libigc_mxnet.so")
        if not path.is_file():
            return f"there are no operators for MXNet at {path}; run: python -m igc_gluon.native.build"
        try:
            mx.library.load(str(path), False)
        except (OSError, mx.MXNetError) as error:
            return f"the operators for MXNet cannot be loaded: {str(error).splitlines()[0]}"
    return reason
