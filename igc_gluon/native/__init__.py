"""C++ kernels for IGC networks on CPUs. See include/igc.h for the C interface, src/layout.h for the idea.

`IGC_NATIVE=0` (no, false, off) switches them off, `IGC_NATIVE_ISA` forces avx512, avx2 or portable code.
"""

import os

from igc_gluon.errors import UserError
from igc_gluon.native import library

_ON, _OFF = ("1", "yes", "true", "on"), ("0", "no", "false", "off")


def switched_off():
    """Whether the environment says so. Raises UserError if it says something else."""
    word = os.environ.get("IGC_NATIVE", "").strip().lower()
    if word not in ("", *_ON, *_OFF):
        raise UserError(f"IGC_NATIVE is {word!r}; {', '.join(_OFF)} switch the CPU kernels off, {', '.join(_ON)} on")
    return word in _OFF


def unavailable_reason():
    """None if the kernels can be used, else one line with the reason. Raises UserError, see `switched_off`."""
    if switched_off():
        return "switched off by IGC_NATIVE=0"
    try:
        library.isa()
    except UserError as error:
        return str(error)
    return None


def available():
    """Whether the kernels can be used here."""
    return unavailable_reason() is None
