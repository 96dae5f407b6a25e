"""The kernels with sanitizers, built once a session, as fixtures: variables of the environment with which Python runs
on them."""

import os
import subprocess

import pytest

from igc_gluon.native import build

# Kernels for the other instruction sets are the same sources with more lanes.
SETS = ("avx2", "avx2_int8")


def _environment(folder, kind, runtime, **options):
    library = build.build(folder, sanitize=kind, only=SETS)
    # Python is not instrumented, so the run time comes first; it looks for exceptions in the C++ library.
    first = [
        subprocess.check_output([build.compiler(), f"-print-file-name={name}"], universal_newlines=True).strip()
        for name in (runtime, "libstdc++.so.6")
    ]
    return dict(os.environ, IGC_NATIVE_LIBRARY=str(library), LD_PRELOAD=" ".join(first), OMP_NUM_THREADS="2", **options)


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory):
    """Of addresses and undefined behavior."""
    return _environment(
        tmp_path_factory.mktemp("sanitized"),
        "address",
        "libasan.so",
        ASAN_OPTIONS="detect_leaks=0",
        UBSAN_OPTIONS="print_stacktrace=1",
    )


@pytest.fixture(scope="session")
def thread_sanitized(tmp_path_factory):
    """Of threads. MXNet and numpy are not instrumented: what they do among themselves is not looked at."""
    return _environment(
        tmp_path_factory.mktemp("thread_sanitized"),
        "thread",
        "libtsan.so",
        TSAN_OPTIONS="ignore_noninstrumented_modules=1 report_signal_unsafe=0 die_after_fork=0 exitcode=66",
    )
