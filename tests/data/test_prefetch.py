"""Work that a thread does ahead: in order, with its errors, and where there is no such thread."""

import os
import threading

import pytest

from igc_gluon.data.prefetch import prefetched


def test_one_is_made_while_the_caller_has_the_one_before():
    made, second = [], threading.Event()

    def make(job):
        made.append((job, threading.current_thread() is threading.main_thread()))
        if job == 1:
            second.set()
        return 10 * job

    results = prefetched(make, range(4))
    assert not made  # nothing before it is asked for
    assert next(results) == 0 and second.wait(10)
    assert next(results) == 10 and list(results) == [20, 30]
    assert made == [(job, False) for job in range(4)]


@pytest.mark.parametrize("bad", [0, 2])
def test_an_error_comes_in_place_of_its_result(bad):
    def make(job):
        if job == bad:
            raise MemoryError(str(job))
        return job

    results = prefetched(make, range(4))
    assert [next(results) for _ in range(bad)] == list(range(bad))
    with pytest.raises(MemoryError, match=str(bad)):
        next(results)


def test_a_forked_process_goes_on_without_the_thread():
    results = prefetched(lambda job: job * job, range(5))
    assert next(results) == 0
    child = os.fork()
    if not child:
        os._exit(0 if list(results) == [1, 4, 9, 16] else 1)
    assert os.waitpid(child, 0)[1] == 0 and list(results) == [1, 4, 9, 16]


def test_what_is_left_early_ends_its_thread():
    before = threading.active_count()
    results = prefetched(str, range(3))
    assert next(results) == "0" and threading.active_count() == before + 1
    results.close()
    assert threading.active_count() == before and list(prefetched(str, [])) == []
