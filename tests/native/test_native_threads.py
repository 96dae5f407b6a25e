"""The pool of threads: forks, how many threads, denormal numbers, and its own check in C++."""

import ctypes
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from igc_gluon import native
from igc_gluon.native import build, library

pytestmark = pytest.mark.skipif(not native.available(), reason="no kernel library")
HERE = Path(__file__).parent
RNG = np.random.default_rng(5)


def small_net(bias=True):
    """A 3x3 convolution of 3 channels and an IGC block of L = 4, M = 2."""

    def weights(*shape):
        return RNG.standard_normal(shape).astype(np.float32) * 0.3

    return library.Net(
        [
            library.Op(
                library.CONV,
                0,
                8,
                kernel=(3, 3),
                pad=(1, 1),
                weight=weights(8, 3, 3, 3),
                bias=weights(8) if bias else None,
            ),
            library.Op(
                library.BLOCK,
                1,
                8,
                groups=4,
                kernel=(3, 3),
                pad=(1, 1),
                weight=weights(8, 2, 3, 3),
                weight2=weights(8, 4),
                bias=weights(8) if bias else None,
            ),
        ],
        (3, 16, 16),
    )


NET = small_net() if native.available() else None
IMAGES = RNG.standard_normal((5, 3, 16, 16)).astype(np.float32)


def in_a_child(function):
    """Whether function() is true in a forked child, which has 30 seconds."""
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(30)
        os._exit(0 if function() else 1)
    return os.waitpid(child, 0)[1] == 0


def answers(count):
    return NET(IMAGES[:count], 2).tobytes()


@pytest.mark.parametrize("count", [1, 5])
def test_a_forked_child_gives_the_same_bits(count):
    expected = answers(count)  # the parent's pool has threads now, which the child has not
    assert in_a_child(lambda: answers(count) == expected and in_a_child(lambda: answers(count) == expected))


def test_forks_while_other_threads_run():
    expected, stop = answers(1), threading.Event()

    def run():
        while not stop.is_set():
            assert answers(1) == expected

    runners = [threading.Thread(target=run) for _ in range(2)]
    for runner in runners:
        runner.start()
    try:
        assert all(in_a_child(lambda: answers(1) == expected) for _ in range(10))
    finally:
        stop.set()
        for runner in runners:
            runner.join()


def test_multiprocessing_with_forks():
    expected = answers(5)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(answers, [5, 5, 5]).get(60) == [expected] * 3


def threads_with(affinity=None, **environment):
    code = (
        "import os, sys\n"
        + (f"os.sched_setaffinity(0, {{{affinity}}})\n" if affinity is not None else "")
        + "from igc_gluon.native import library\n"
        "from test_native_threads import answers\n"
        "answers(5); answers(1)\n"
        "print(library.load().igc_threads())"
    )
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MXNET_OMP_MAX_THREADS")}
    return int(
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            stdout=subprocess.PIPE,
            cwd=str(HERE),
            env={**clean, **environment},
            timeout=120,
        ).stdout
    )


@pytest.mark.parametrize(
    "environment, threads",
    [
        ({"OMP_NUM_THREADS": "3"}, 3),
        ({"OMP_NUM_THREADS": "4,2"}, 4),
        ({"OMP_NUM_THREADS": "100000"}, 1024),
        ({"OMP_NUM_THREADS": "3", "MXNET_OMP_MAX_THREADS": "2"}, 2),
        ({"MXNET_OMP_MAX_THREADS": "1"}, 1),
    ],
)
def test_threads_by_the_environment(environment, threads):
    assert threads_with(**environment) == threads


@pytest.mark.parametrize("value", ["", "0", "-3", "all"])
def test_a_number_of_threads_that_is_none_means_the_cores_of_the_affinity(value):
    cores = sorted(os.sched_getaffinity(0))
    assert threads_with(affinity=cores[0], OMP_NUM_THREADS=value) == 1


def test_denormal_numbers_are_zero_within_a_call_only():
    net = small_net(bias=False)
    for images in (1, 4):
        tiny = np.full((images, 3, 16, 16), 1e-40, np.float32)
        assert (tiny != 0).all() and (net(tiny, 2) == 0).all()
    assert (np.float32(1e-40) * np.float32(0.5)) != 0  # the caller's own arithmetic is as before


def test_igc_share_calls_every_part_once():
    seen = []
    work = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(lambda _, part: seen.append(part))
    library.load().igc_share(ctypes.c_int64(100), work, None)
    assert sorted(seen) == list(range(100))


@pytest.fixture(scope="module", params=["plain", pytest.param("thread", marks=pytest.mark.long)])
def pool_check(request, tmp_path_factory):
    program = tmp_path_factory.mktemp("pool") / request.param
    source = build.HERE / "src"
    flags = {"plain": ["-O1"], "thread": ["-O1", "-g", "-fsanitize=thread"]}[request.param]
    subprocess.run(
        [
            build.compiler(),
            "-std=c++17",
            "-pthread",
            *flags,
            f"-I{source}",
            str(source / "thread_pool.cpp"),
            str(HERE / "thread_pool_check.cpp"),
            "-o",
            str(program),
        ],
        check=True,
    )
    return [str(program)] + (["fork"] if request.param == "plain" else [])


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core: there are no workers")
def test_the_pool_itself(pool_check):
    done = subprocess.run(pool_check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "well\n", done.stdout[-3000:]
