"""The one exception that entry points turn into a line on stderr and exit code 2."""

from typing import Any, Callable, Optional


class UserError(ValueError):
    """A mistake the user can mend; its message is one line that says what is wrong and what to do.

    Names in it come from files and command lines: as text it is `printable`, whatever they hold.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: object) -> str:
    """`text` in one line that a terminal only shows: control characters, line ends too, become escapes such as \\x1b.

    For every name that comes from a file.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in str(text)
    )


def nearest_valid(number: int, valid: Callable[[int], Any], largest: Optional[int] = None) -> str:
    """The nearest numbers below and above `number` for which valid(n) holds, as text for a message: '20 and 23'.

    Looks at 1 to `largest` (default: a little above `number`).
    """
    largest = max(number, 0) + 100 if largest is None else largest
    below = next((n for n in range(min(number - 1, largest), 0, -1) if valid(n)), None)
    above = next((n for n in range(max(number, 0) + 1, largest + 1) if valid(n)), None)
    return " and ".join(str(n) for n in (below, above) if n)
