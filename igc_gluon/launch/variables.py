"""What MXNet's parameter server reads from the environment, checked: where it does not fit, it aborts or waits for
ever."""

import os
from typing import List, Optional

from igc_gluon.errors import UserError

VARIABLES = ("DMLC_ROLE", "DMLC_PS_ROOT_URI", "DMLC_PS_ROOT_PORT", "DMLC_NUM_WORKER", "DMLC_NUM_SERVER")
ROLES = ("worker", "server", "scheduler")
MOST = 10000  # processes of a role


def role() -> Optional[str]:
    """The role of this process, or None. Raises UserError on another word: MXNet would take it for a server's."""
    name = os.environ.get("DMLC_ROLE")
    if name not in (None, *ROLES):
        raise UserError(
            f"DMLC_ROLE is {name!r}, but the roles are {', '.join(ROLES)}; unset it, or use igc launch, which sets it"
        )
    return name


def missing() -> List[str]:
    """Names of the variables that are not set."""
    return [name for name in VARIABLES if not os.environ.get(name)]


def check() -> None:
    """Raises UserError unless the environment says all that the process of a distributed run needs."""
    without = missing()
    if without:
        raise UserError(
            f"{', '.join(without)} {'is' if len(without) == 1 else 'are'} not set, but others of a "
            "distributed run are; start it with igc launch, which sets them all"
        )
    # The scheduler of igc launch looks for a free port itself.
    for name, least, most in (
        ("DMLC_PS_ROOT_PORT", 0 if role() == "scheduler" else 1, 65535),
        ("DMLC_NUM_WORKER", 1, MOST),
        ("DMLC_NUM_SERVER", 1, MOST),
    ):
        value = os.environ[name]
        if not (value.isascii() and value.isdigit() and len(value) < 9 and least <= int(value) <= most):
            raise UserError(f"{name} is {value!r}, but must be a number from {least} to {most}; igc launch sets it")
