"""C++ kernels for IGC networks on CPUs. See include/igc.h for the C interface, src/layout.h for the idea.

`IGC_NATIVE=0` (no, false, off) switches them off, `IGC_NATIVE_ISA` forces avx512, avx2 or portable code.
"""

from typing import Optional

from igc_gluon import environment
from igc_gluon.errors import UserError
from igc_gluon.native import library


def switched_off() -> bool:
    """Whether the environment says so. Raises UserError if it says something else."""
    return environment.read("IGC_NATIVE") == "0"


def unavailable_reason() -> Optional[str]:
    """None if the kernels can be used, else one line with the reason. Raises UserError, see `switched_off`."""
    if switched_off():
        return "switched off by IGC_NATIVE=0"
    try:
        library.isa()
    except UserError as error:
        return str(error)
    return None


def available() -> bool:
    """Whether the kernels can be used here."""
    return unavailable_reason() is None
