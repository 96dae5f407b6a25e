"""The file outside of this package that a family of networks comes from."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Optional

from igc_gluon import files


def is_of_package(function: Callable) -> bool:
    """Whether it is one of igc_gluon's own."""
    return function.__module__.partition(".")[0] == __name__.partition(".")[0]


@dataclass(frozen=True)
class SourceFile:
    """`sha256` is that of the file when the family was registered."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, build: Callable) -> Optional["SourceFile"]:
        """The file that `build` is written in; None of this package's own, and of what has no file (a prompt)."""
        if is_of_package(build):
            return None
        try:
            path = Path(inspect.getsourcefile(build) or "").absolute()
            return cls(path, files.digest(path, "sha256"))
        except (OSError, TypeError):
            return None

    def as_config(self) -> Dict[str, str]:
        """What the record of a run holds of it."""
        return {"path": str(self.path), "sha256": self.sha256}
