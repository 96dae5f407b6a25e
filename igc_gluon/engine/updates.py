"""How the gradients of a step are reduced over devices and workers, and the weights updated.

Across workers all gradients go over the network as one array, because IGC networks have hundreds of small ones: a
message per server instead of one per parameter, and servers with equal shares.
"""

import signal
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from igc_gluon.engine.optimizer import momentum_and_master, state_of
from igc_gluon.engine.server import STATE, WEIGHTS
from igc_gluon.engine.workers import AsynchronousWorkers, DistributedWorkers, Workers
from igc_gluon.model_zoo.authors import check_parameters

EXTRA = 3  # at the array's end, on the first device: summed loss, images, number of the signal that asked to stop
Arrays = Dict[str, np.ndarray]
Stop = Callable[[], Optional[int]]  # the number of the signal that asked this worker to stop, or None


class LocalUpdate:
    """The devices of one process, whose KVStore adds up the gradients.

    compression: None or MXNet's threshold for gradients of 2 bits.
    """

    def __init__(
        self,
        parameters: gluon.ParameterDict,
        optimizer: mx.optimizer.Optimizer,
        devices: Sequence[mx.Context],
        kv_store: Optional[str] = "device",
        compression: Optional[float] = None,
    ):
        self.devices = list(devices)
        self.trainer = gluon.Trainer(
            parameters,
            optimizer,
            kvstore=kv_store,
            update_on_kvstore=False,
            compression_params=compression and {"type": "2bit", "threshold": compression},
        )
        # Left to itself, the trainer does this at its first step and so gives every device the moving statistics that
        # the first one has by then.
        self.trainer._init_kvstore()
        if kv_store is not None:
            self.trainer._init_params()

    def begin(self) -> None:
        """Gives all workers the same weights; to be called by all of them, before the first step."""

    def update(self, loss: float, images: int, lr: float, stop: Stop) -> Tuple[float, Optional[int]]:
        """Updates the weights from the gradients of all workers' `images`; where the loss is not finite, on any worker,
        they stay as they were. Returns (loss of all workers, number of the signal that all of them stop for, or None).
        """
        if np.isfinite(loss):
            self.trainer.set_learning_rate(lr)
            self.trainer.step(images)
        return loss, stop()

    def synchronize(self) -> None:
        """Has all workers hold the same weights and optimizer state, before these are evaluated or saved."""

    def momenta(self) -> Arrays:
        """{parameter name: array}; names, not MXNet's numbers, so that they fit any process."""
        return {name: momentum.asnumpy() for name, (momentum, _) in self._states().items() if momentum is not None}

    def master_weights(self) -> Arrays:
        """{parameter name: array}: the float32 weights that the optimizer keeps of float16 ones."""
        return {name: master.asnumpy() for name, (_, master) in self._states().items() if master is not None}

    def set_momenta(self, arrays: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> None:
        """The opposite of `momenta`; `weights` are the float32 ones. Raises UserError, which names them, if the arrays
        are not this network's."""
        check_parameters(arrays, {p.name: p for p in self.trainer._params if p.name in arrays})
        for updater, device in zip(self.trainer._updaters, self.devices):
            for i, parameter in enumerate(self.trainer._params):
                if parameter.name in arrays:
                    updater.states[i] = state_of(
                        self.trainer.optimizer,
                        parameter.data(device),
                        mx.nd.array(arrays[parameter.name], ctx=device),
                        mx.nd.array(weights[parameter.name], ctx=device),
                    )
                    updater.states_synced[i] = True

    def _states(self) -> Dict[str, Tuple[Optional[mx.nd.NDArray], Optional[mx.nd.NDArray]]]:
        """{parameter name: (momentum, float32 weights)} on the first device, None for what there is not."""
        optimizer, states = self.trainer.optimizer, self.trainer._updaters[0].states
        return {self.trainer._params[i].name: momentum_and_master(optimizer, state) for i, state in states.items()}


class AllReduceUpdate(LocalUpdate):
    """Every worker has the sum of all gradients and updates its own copy of the weights, to the same bits."""

    def __init__(
        self,
        workers: DistributedWorkers,
        parameters: gluon.ParameterDict,
        optimizer: mx.optimizer.Optimizer,
        devices: Sequence[mx.Context],
    ):
        # No store of the trainer's own, for which the servers, which know of one worker, have no answer.
        super().__init__(parameters, optimizer, devices, kv_store=None)
        self._workers = workers
        self._trained = [p for p in self.trainer._params if p.grad_req != "null"]

    def begin(self) -> None:
        weights = [
            self._flat(lambda p, d: p.data(d), d) * (self._workers.rank == 0 and d == self.devices[0])
            for d in self.devices
        ]
        self._workers.all_reduce(weights)
        self._scatter(weights, lambda p, d: p.data(d))
        self._workers.barrier()

    def update(self, loss: float, images: int, lr: float, stop: Stop) -> Tuple[float, Optional[int]]:
        own = stop()
        extra = mx.nd.array([loss, images, own or 0])
        gradients = [
            mx.nd.concat(
                self._flat(lambda p, d: p.grad(d), d), (extra if i == 0 else extra * 0).as_in_context(d), dim=0
            )
            for i, d in enumerate(self.devices)
        ]
        self._workers.all_reduce(gradients)
        loss, images, stopping = gradients[0][-EXTRA:].asnumpy().tolist()
        if np.isfinite(loss):
            self._scatter(gradients, lambda p, d: p.grad(d))
            self.trainer.set_learning_rate(lr)
            self.trainer.update(images)
        return loss, (own or signal.SIGTERM) if stopping else None

    def _flat(self, of: Callable, device: mx.Context) -> mx.nd.NDArray:
        return mx.nd.concat(*(of(p, device).reshape((-1,)).astype("float32", copy=False) for p in self._trained), dim=0)

    def _scatter(self, flats: List[mx.nd.NDArray], of: Callable) -> None:
        for flat, device in zip(flats, self.devices):
            begin = 0
            for parameter in self._trained:
                array = of(parameter, device)
                array[:] = flat[begin : begin + array.size].reshape(array.shape).astype(array.dtype, copy=False)
                begin += array.size


class AsynchronousUpdate(AllReduceUpdate):
    """The servers update; a worker goes on with whatever weights they have. A push counts as its share of a batch:
    of the gradient's mean over the batch, and of the weight decay."""

    _workers: AsynchronousWorkers

    def begin(self) -> None:
        optimizer, first = self.trainer.optimizer, self.devices[0]
        updater = self.trainer._updaters[0]
        state = mx.nd.concat(
            *(
                updater.states[i].reshape((-1,))
                if updater.states.get(i) is not None
                else mx.nd.zeros(p.data(first).size)
                for i, p in self._numbered()
            ),
            dim=0,
        )
        self._lr = optimizer.learning_rate
        self._workers.begin(
            self._flat(lambda p, d: p.data(d), first),
            state,
            momentum=optimizer.momentum,
            wd=optimizer.wd / self._workers.count,
            lr=self._lr,
        )
        self.synchronize()

    def update(self, loss: float, images: int, lr: float, stop: Stop) -> Tuple[float, Optional[int]]:
        number = stop()
        if not np.isfinite(loss):
            return loss, number
        if lr != self._lr:
            self._workers.set_learning_rate(lr)
            self._lr = lr
        gradients = [self._flat(lambda p, d: p.grad(d), d) / (images * self._workers.count) for d in self.devices]
        weights = [mx.nd.empty(gradient.shape, ctx=gradient.context) for gradient in gradients]
        self._workers.update(gradients, weights)
        self._scatter(weights, lambda p, d: p.data(d))
        return loss, number

    def synchronize(self) -> None:
        """Waits until all pushes of all workers are in the weights, and gives all workers these; and the trainer the
        momentum that belongs to them."""
        self._workers.barrier()
        first = self.devices[0]
        size = sum(p.data(first).size for p in self._trained)
        weights = [mx.nd.empty(size, ctx=d) for d in self.devices]
        state = mx.nd.empty(size, ctx=first)
        self._workers.pull(WEIGHTS, weights)
        self._workers.pull(STATE, state)
        self._scatter(weights, lambda p, d: p.data(d))
        begin = 0
        for i, parameter in self._numbered():
            array = parameter.data(first)
            self.trainer._updaters[0].states[i] = state[begin : begin + array.size].reshape(array.shape).copy()
            begin += array.size
        self._workers.barrier()

    def _numbered(self) -> List[Tuple[int, gluon.Parameter]]:
        return [(i, p) for i, p in enumerate(self.trainer._params) if p.grad_req != "null"]


def update_for(
    workers: Workers,
    parameters: gluon.ParameterDict,
    optimizer: mx.optimizer.Optimizer,
    devices: Sequence[mx.Context],
    kv_store: str,
    compression: Optional[float],
) -> LocalUpdate:
    """The update of one process, or with others as their kind asks for."""
    if not isinstance(workers, DistributedWorkers):
        return LocalUpdate(parameters, optimizer, devices, kv_store, compression)
    return (AllReduceUpdate if workers.synchronous else AsynchronousUpdate)(workers, parameters, optimizer, devices)
