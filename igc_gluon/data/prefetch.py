"""Work that a thread does ahead of its use."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def prefetched(make: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
    """Yields make(job) for each of `jobs`, in order; a thread makes the next one while the caller uses this one.

    What `make` raises is raised here, in place of its result. In a forked process, which has no such thread, the work
    is done when it is asked for.
    """
    process = os.getpid()
    with ThreadPoolExecutor(1, "prefetch") as thread:
        waiting = None
        for job in jobs:
            following = job, thread.submit(make, job) if os.getpid() == process else None
            if waiting:
                yield _result(make, *waiting, process)
            waiting = following
        if waiting:
            yield _result(make, *waiting, process)


def _result(make: Callable[[Job], Result], job: Job, future: Any, process: int) -> Result:
    return future.result() if future and os.getpid() == process else make(job)
