"""How many cores an entry point uses. To be called before the first import of mxnet, which reads it once."""
import os


def cores():
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_all_cores():
    """Has MXNet use every core that this process may run on; alone it would use one. The environment wins."""
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    os.environ.setdefault("OMP_DYNAMIC", "false")  # with fewer threads under load the bits would be others
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line per graph otherwise
