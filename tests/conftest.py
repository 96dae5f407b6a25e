"""Tests use the cores that an entry point would use; set before the first import of mxnet."""
from igc_gluon.threads import use_all_cores

use_all_cores()

from loopback import quick_and_direct, server  # noqa: E402, F401
from sanitizers import sanitized  # noqa: E402, F401
