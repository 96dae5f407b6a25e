"""The processes that train together, and what they tell each other.

All workers make the same calls in the same order: one that is left out is a hang.
"""

import json
import os
import shlex
import sys
import threading
import traceback
from typing import Any, Dict, List

import mxnet as mx
import numpy as np

from igc_gluon.engine.server import STATE, WEIGHTS
from igc_gluon.errors import UserError
from igc_gluon.launch import heartbeat, variables

PARAMETER_SERVER = ("dist_sync", "dist_device_sync", "dist_async")
HOROVOD = "horovod"
# An array of at least so many elements is spread evenly over the servers; MXNet leaves all below a million on one.
SPREAD_FROM = "1000"
CONNECT_SECONDS = 300  # for all processes to find each other; machines of a cluster start minutes apart


class Workers:
    """All that train together, of which this process has the number `rank` of `count`.

    synchronous: whether every step waits for all workers; dist_async does not.
    """

    rank: int = 0
    count: int = 1
    synchronous: bool = True

    def sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over all workers, in float32."""
        raise NotImplementedError

    def barrier(self) -> None:
        """Returns when all workers have called it."""
        raise NotImplementedError

    def leave(self, code: int) -> None:
        """Ends a distributed worker, unless `code` is 0."""


class SingleWorker(Workers):
    """This process only."""

    def sum(self, values: np.ndarray) -> np.ndarray:
        return values

    def barrier(self) -> None:
        pass


class DistributedWorkers(Workers):
    """Checks and sums on top of `all_reduce`."""

    def all_reduce(self, arrays: List[mx.nd.NDArray]) -> None:
        """Makes each of the flat arrays of one length, one per device of this worker, the sum over all devices of all
        workers."""
        raise NotImplementedError

    def leave(self, code: int) -> None:
        """Ends a worker that failed. An orderly exit would wait for the others, who wait for this one's gradients."""
        if code:
            if sys.exc_info()[0]:
                traceback.print_exc()
            sys.stderr.flush()
            os._exit(code)

    def sum(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values)
        flat = mx.nd.array(values.ravel(), dtype=np.float32)
        self.all_reduce([flat])
        return flat.asnumpy().astype(values.dtype if values.dtype.kind == "f" else np.float64).reshape(values.shape)

    def check_same(self, digest: bytes, what: str) -> None:
        """Raises UserError if the workers' 32-byte digests of `what` differ, or two workers have one rank."""
        present = np.zeros(self.count, np.float32)
        present[self.rank] = 1
        if (self.sum(present) != 1).any():
            raise UserError("two workers have the same number; start them with one igc launch")
        own = np.frombuffer(digest, np.uint8).astype(np.float32)
        if (self.sum(own if self.rank == 0 else 0 * own) != own).any():
            raise UserError(
                f"worker {self.rank} has {what} that are not worker 0's; give all workers the same "
                "command, and a --log-dir that they share"
            )


class ServerWorkers(DistributedWorkers):
    """MXNet's parameter servers: they add up, every worker updates its own copy of the weights."""

    def __init__(self, kv_store: str):
        os.environ.setdefault("MXNET_KVSTORE_BIGARRAY_BOUND", SPREAD_FROM)
        # MXNet waits for the others without end, and cannot be interrupted.
        limit = threading.Timer(CONNECT_SECONDS, _give_up)
        limit.daemon = True
        limit.start()
        with heartbeat.patiently():  # that limit is its end
            self._store = mx.kv.create(kv_store)
        limit.cancel()
        self.count = self._store.num_workers
        # ps-lite numbers workers by port; the launcher's numbers are those that its messages name.
        rank = os.environ.get("IGC_WORKER", str(self._store.rank))
        if not (rank.isascii() and rank.isdigit() and len(rank) < 9 and int(rank) < self.count):
            raise UserError(f"IGC_WORKER is {rank!r}, but must be a number below {self.count}; igc launch sets it")
        self.rank = int(rank)
        self._keys: Dict[int, int] = {}  # of arrays, by their length

    def all_reduce(self, arrays: List[mx.nd.NDArray]) -> None:
        key = self._keys.get(arrays[0].size)
        if key is None:
            key = self._keys[arrays[0].size] = max(WEIGHTS, STATE) + 1 + len(self._keys)
            self._store.init(key, mx.nd.zeros(arrays[0].shape))
        self._reduce(key, arrays)

    def _reduce(self, key: int, arrays: List[mx.nd.NDArray]) -> None:
        self._store.pushpull(key, arrays, out=arrays)

    def barrier(self) -> None:
        mx.nd.waitall()
        with heartbeat.waiting():
            self._store._barrier()


class AsynchronousWorkers(ServerWorkers):
    """MXNet's parameter servers, which update the weights whenever a worker's gradient comes; see engine.server."""

    synchronous = False

    def __init__(self, kv_store: str):
        super().__init__(kv_store)
        self._command()
        self.barrier()

    def _reduce(self, key: int, arrays: List[mx.nd.NDArray]) -> None:
        self._store.push(key, arrays)
        self.barrier()  # all have pushed
        self._store.pull(key, out=arrays)
        self.barrier()  # all have pulled, before anyone pushes again

    def begin(self, weights: mx.nd.NDArray, state: mx.nd.NDArray, **optimizer: float) -> None:
        """Gives the servers worker 0's weights and optimizer state, flat arrays, and the optimizer's numbers."""
        self._store.init(WEIGHTS, weights)
        self._store.init(STATE, mx.nd.zeros(state.shape))
        self._command(optimizer=optimizer)
        if self.rank == 0:
            self._store.push(STATE, state)
        self.barrier()

    def set_learning_rate(self, lr: float) -> None:
        self._command(lr=lr)

    def update(self, gradients: List[mx.nd.NDArray], weights: List[mx.nd.NDArray]) -> None:
        """Pushes flat gradients and pulls flat weights, a list each, of one array per device."""
        self._store.push(WEIGHTS, gradients)
        self._store.pull(WEIGHTS, out=weights)

    def pull(self, key: int, out: Any) -> None:
        self._store.pull(key, out=out)

    def _command(self, **command: Any) -> None:
        if self.rank == 0:
            self._store._send_command_to_servers(0, json.dumps(command))


class HorovodWorkers(DistributedWorkers):
    """Horovod's ring: no servers."""

    def __init__(self) -> None:
        try:
            # optional: horovod
            import horovod.mxnet as hvd
        except ImportError as error:
            raise UserError(
                f"--kv-store horovod needs Horovod with MXNet, which is not installed here ({error}); see "
                "docs/distributed.md, or use --kv-store dist_sync"
            ) from None
        hvd.init()
        self._hvd, self.rank, self.count = hvd, hvd.rank(), hvd.size()

    def all_reduce(self, arrays: List[mx.nd.NDArray]) -> None:
        first = arrays[0]
        for other in arrays[1:]:
            first += other.as_in_context(first.context)
        self._hvd.allreduce_(first, average=False, name=f"flat{first.size}")
        for other in arrays[1:]:
            first.copyto(other)

    def barrier(self) -> None:
        mx.nd.waitall()
        with heartbeat.waiting():
            self.sum(np.zeros(1))


def connect(kv_store: str) -> Workers:
    """The workers that `--kv-store` asks for; waits for the others. Raises UserError where there are none."""
    heartbeat.begin()
    if kv_store == HOROVOD:
        return HorovodWorkers()
    if kv_store not in PARAMETER_SERVER:
        return SingleWorker()
    # igc launch without servers sets the others.
    if len(variables.missing()) == len(variables.VARIABLES) or os.environ.get("DMLC_NUM_SERVER") == "0":
        raise UserError(
            f"--kv-store {kv_store} trains on several processes and servers; start it with "
            f"igc launch -n WORKERS -s SERVERS -- python {shlex.join(sys.argv)}"
        )
    variables.check()
    if variables.role() != "worker":
        raise UserError(f"DMLC_ROLE is {variables.role()}, but this is a worker; start it with igc launch")
    return AsynchronousWorkers(kv_store) if kv_store == "dist_async" else ServerWorkers(kv_store)


def _give_up() -> None:
    print(
        f"error: the servers and workers of this run have not come together within {CONNECT_SECONDS} s; can all "
        f"machines reach each other, and {os.environ['DMLC_PS_ROOT_URI']}, port {os.environ['DMLC_PS_ROOT_PORT']}?",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
