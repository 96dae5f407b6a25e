"""Paths as users write them."""

from pathlib import Path

from igc_gluon.errors import UserError


def expand(path):
    """The Path with `~` replaced, unless a file or folder is called so. Raises UserError where nobody knows what it
    stands for."""
    try:
        return Path(path).expanduser()
    except (RuntimeError, KeyError):  # no HOME and no entry in the password file, as in containers; or ~name of nobody
        if Path(path).exists():
            return Path(path)
        raise UserError(
            f"nothing says which folder {Path(path).parts[0]} of {path} stands for; set HOME, or give the path "
            "without it"
        ) from None
