"""What the benchmarks of input pipelines share: pipelines that take turns, and the epochs of MXNet's iterators."""

import time


def measure(pipelines, repeats, cpu=None):
    """{name: images per second of each repeat}, the first of which is left out. cpu: a dictionary that is given
    {name: milliseconds of CPU time of this process for an image, of each repeat}.

    pipelines: {name: epoch}; epoch(number) reads every image once and returns how many. They take turns, so that
    other load on the machine hits them alike.
    """
    rates = {name: [] for name in pipelines}
    for repeat in range(repeats + 1):
        for name, epoch in pipelines.items():
            begin, used = time.perf_counter(), time.process_time()
            count = epoch(repeat)
            if repeat:
                rates[name].append(count / (time.perf_counter() - begin))
                if cpu is not None:
                    cpu.setdefault(name, []).append(1e3 * (time.process_time() - used) / count)
    return rates


def epochs_of(iterator):
    """The epochs of a DataIter, one after the other as in MXNet's examples."""

    def epoch(_):
        count = 0
        iterator.reset()
        for batch in iterator:
            batch.data[0].wait_to_read()
            count += iterator.batch_size
        return count

    return epoch
