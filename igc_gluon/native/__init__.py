"""C++ kernels for IGC networks on CPUs. See include/igc.h for the C interface, src/layout.h for the idea.

`IGC_NATIVE=0` switches them off, `IGC_NATIVE_ISA` forces avx512, avx2 or portable code.
"""
import os

from igc_gluon.errors import UserError
from igc_gluon.native import library


def why_not():
    """None if the kernels can be used, else one line with the reason."""
    if os.environ.get("IGC_NATIVE", "1") == "0":
        return "switched off by IGC_NATIVE=0"
    try:
        library.isa()
    except UserError as error:
        return str(error)
    return None


def available():
    """Whether the kernels can be used here."""
    return why_not() is None
