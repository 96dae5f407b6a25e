"""The kernels with address and undefined-behaviour sanitizers, built once a session, as a fixture."""
import os
import subprocess

import pytest

from igc_gluon.native import build


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory):
    """Variables of the environment with which Python runs on them."""
    library = build.build(tmp_path_factory.mktemp("sanitized"), sanitize=True)
    # Python is not instrumented, so the run time comes first; it looks for exceptions in the C++ library.
    runtime = [subprocess.check_output([build.compiler(), f"-print-file-name={name}"],
                                       universal_newlines=True).strip() for name in ("libasan.so", "libstdc++.so.6")]
    return dict(os.environ, IGC_NATIVE_LIBRARY=str(library), LD_PRELOAD=" ".join(runtime), OMP_NUM_THREADS="2",
                ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1")
