"""The argument parser of every entry point."""

import argparse
from typing import Any, NoReturn

from igc_gluon.errors import printable


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a flag in one line, without the usage; takes no abbreviated flags."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {printable(message)} (see {self.prog} --help)\n")
