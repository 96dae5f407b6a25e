"""Checks of arguments that several modules of the theory share."""

from numbers import Integral
from typing import Any, List

from igc_gluon.errors import UserError


def whole(**values: Any) -> List[int]:
    """The values as a list of Python ints, which unlike numpy's cannot overflow.

    Raises UserError for the first one that is not a whole number of at least 1.
    """
    for name, value in values.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise UserError(f"{name} must be a whole number of at least 1, got {value!r}")
    return [int(value) for value in values.values()]
