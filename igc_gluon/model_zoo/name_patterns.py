"""Which names a template of networks has: that no name can be read in two ways, by one family or by two.

A name is cut into numbers and the text between them, "cifar_igc38" into cifar_igc and 38. A family has the names with
its text in these places and a number of the right kind in each of its fields.
"""

import re
import string
from typing import Dict, List, Mapping, Optional, Sequence, Union

from igc_gluon.errors import UserError

_PIECES = re.compile(r"\d+\.\d+|\d+|\D+")


class Whole:
    """A field for a whole number."""


class Fraction:
    """A field for a number with a decimal point."""


Piece = Union[str, Whole, Fraction]


def pieces(template: str, numbers: Mapping[str, Union[int, float]]) -> List[Piece]:
    """The pieces of the names of `template`: text, numbers as text, fields of the kinds that `numbers` has.

    Raises UserError where a name could be read in two ways: {a}{b}, {a}8 or {a}.{b}.
    """
    cut: List[Piece] = []
    for text, field, *_ in string.Formatter().parse(template):
        cut += _PIECES.findall(text)
        if field is not None:
            cut.append(Fraction() if isinstance(numbers[field], float) else Whole())
    for before, piece, after in zip([None, *cut], cut, [*cut[1:], None]):
        if (_is_number(piece) and _is_number(after)) or (
            piece == "." and before is not None and _is_number(before) and _is_number(after)
        ):
            raise UserError(
                f"names of the family {template!r} can be read in two ways; put a letter or _ between its numbers"
            )
    return cut


def common_name(first: Sequence[Piece], second: Sequence[Piece]) -> Optional[str]:
    """A name that both families of these `pieces` have, or None."""
    if len(first) != len(second):
        return None
    shared = [_common(*both) for both in zip(first, second)]
    return None if None in shared else "".join(map(str, shared))


def _is_number(piece: Optional[Piece]) -> bool:
    return piece is not None and (not isinstance(piece, str) or piece[0].isdigit())


def _common(a: Piece, b: Piece) -> Optional[str]:
    if isinstance(a, str) and isinstance(b, str):
        return a if a == b else None
    if isinstance(b, str):
        a, b = b, a
    example: Dict[type, str] = {Whole: "8", Fraction: "0.5"}
    if not isinstance(a, str):
        return example[type(a)] if type(a) is type(b) else None
    return a if _is_number(a) and ("." in a) == isinstance(b, Fraction) else None
