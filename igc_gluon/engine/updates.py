"""How the gradients of a step are reduced over devices and workers, and the weights updated.

Across workers all gradients go over the network as one array, because IGC networks have hundreds of small ones: a
message per server instead of one per parameter, and servers with equal shares.
"""

import signal
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from igc_gluon.engine.gradients import Gradients, whole_numbers
from igc_gluon.engine.optimizer import counts, part_names, state_of, state_parts
from igc_gluon.engine.server import STATE, WEIGHTS
from igc_gluon.engine.workers import AsynchronousWorkers, DistributedWorkers, Workers
from igc_gluon.model_zoo.authors import check_parameters

EXTRA = 3  # at the array's end, on the first device: summed loss, images, number of the signal that asked to stop
Arrays = Dict[str, np.ndarray]
_UPDATES, _SUM = "count:updates", "sum:"
Stop = Callable[[], Optional[int]]  # the number of the signal that asked this worker to stop, or None


class Updated(NamedTuple):
    """loss: of all workers. stop: the number of the signal that all of them stop for, or None. updated: whether the
    weights have changed."""

    loss: float
    stop: Optional[int]
    updated: bool


class LocalUpdate:
    """The devices of one process, whose KVStore adds up the gradients.

    compression: None or MXNet's threshold for gradients of 2 bits. accumulate, clip_norm: see `Gradients`.
    """

    def __init__(
        self,
        parameters: gluon.ParameterDict,
        optimizer: mx.optimizer.Optimizer,
        devices: Sequence[mx.Context],
        kv_store: Optional[str] = "device",
        compression: Optional[float] = None,
        accumulate: int = 1,
        clip_norm: Optional[float] = None,
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
        self.gradients = Gradients(self.trainer._params, devices, accumulate, clip_norm)

    def begin(self) -> None:
        """Gives all workers the same weights; to be called by all of them, before the first step."""

    def update(self, loss: float, images: int, lr: float, stop: Stop, last: bool = False) -> Updated:
        """Updates the weights from the gradients of all workers' `images`, of the `last` batch of an epoch or another;
        where the loss is not finite, on any worker, they stay as they were."""
        updated = False
        if np.isfinite(loss):
            self.trainer.allreduce_grads()
            updated = self._update(images, lr, last)
        return Updated(loss, stop(), updated)

    def _update(self, images: int, lr: float, last: bool) -> bool:
        """The update, of all devices, from gradients that are the sum over all of them; False where it is to come."""
        images = self.gradients.ready(images, last)
        if images:
            self.trainer.set_learning_rate(lr)
            self.trainer.update(images)
        return bool(images)

    def synchronize(self) -> None:
        """Has all workers hold the same weights and optimizer state, before these are evaluated or saved."""

    def states(self) -> Arrays:
        """{"part:parameter name": array} of the optimizer's state, "momentum:fc_weight" for example, and of gradients
        that are being accumulated; names, not MXNet's numbers, so that they fit any process."""
        arrays = {
            f"{part}:{name}": array.asnumpy()
            for name, (parts, _) in self._states().items()
            for part, array in parts.items()
        }
        if counts(self.trainer.optimizer):
            arrays[_UPDATES] = np.array([self.trainer.optimizer.num_update], np.float32)
        return {**arrays, **{f"{_SUM}{name}": array for name, array in self.gradients.state().items()}}

    def master_weights(self) -> Arrays:
        """{parameter name: array}: the float32 weights that the optimizer keeps of float16 ones."""
        return {name: master.asnumpy() for name, (_, master) in self._states().items() if master is not None}

    def set_states(self, arrays: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]) -> None:
        """The opposite of `states`; `weights` are the float32 ones. Raises UserError, which names them, if the arrays
        are not this network's."""
        self.gradients.load_state({name[len(_SUM) :]: array for name, array in arrays.items() if name.startswith(_SUM)})
        parts = part_names(self.trainer.optimizer)
        saved = {p.name: p for p in self.trainer._params if any(f"{part}:{p.name}" in arrays for part in parts)}
        parts_of: Dict[str, Arrays] = {name: {} for name in saved}
        for part in parts:
            of_part = {name[len(part) + 1 :]: array for name, array in arrays.items() if name.startswith(f"{part}:")}
            check_parameters(of_part, saved)
            for name, array in of_part.items():
                parts_of[name][part] = array
        for updater, device in zip(self.trainer._updaters, self.devices):
            for i, parameter in enumerate(self.trainer._params):
                if parameter.name in parts_of:
                    updater.states[i] = state_of(
                        self.trainer.optimizer,
                        parameter.data(device),
                        {part: mx.nd.array(array, ctx=device) for part, array in parts_of[parameter.name].items()},
                        mx.nd.array(weights[parameter.name], ctx=device),
                    )
                    updater.states_synced[i] = True
        self._set_count(whole_numbers(arrays, _UPDATES, 1)[0])

    def _set_count(self, updates: int) -> None:
        """Has the optimizer know how many updates there were."""
        optimizer = self.trainer.optimizer
        if not counts(optimizer):
            return
        optimizer.num_update = updates
        for device in self.devices:
            optimizer._set_current_context(device.device_id)
            optimizer._index_update_count.update({i: updates for i in range(len(self.trainer._params))})

    def _states(self) -> Dict[str, Tuple[Dict[str, mx.nd.NDArray], Optional[mx.nd.NDArray]]]:
        """{parameter name: `state_parts`} on the first device."""
        optimizer, states = self.trainer.optimizer, self.trainer._updaters[0].states
        parameters = self.trainer._params
        return {
            parameters[i].name: state_parts(optimizer, parameters[i].data(self.devices[0]), state)
            for i, state in states.items()
        }


class AllReduceUpdate(LocalUpdate):
    """Every worker has the sum of all gradients and updates its own copy of the weights, to the same bits."""

    def __init__(
        self,
        workers: DistributedWorkers,
        parameters: gluon.ParameterDict,
        optimizer: mx.optimizer.Optimizer,
        devices: Sequence[mx.Context],
        accumulate: int = 1,
        clip_norm: Optional[float] = None,
    ):
        # No store of the trainer's own, for which the servers, which know of one worker, have no answer.
        super().__init__(parameters, optimizer, devices, None, None, accumulate, clip_norm)
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

    def update(self, loss: float, images: int, lr: float, stop: Stop, last: bool = False) -> Updated:
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
        updated = False
        if np.isfinite(loss):
            self._scatter(gradients, lambda p, d: p.grad(d))
            updated = self._update(round(images), lr, last)
        return Updated(loss, (own or signal.SIGTERM) if stopping else None, updated)

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

    def update(self, loss: float, images: int, lr: float, stop: Stop, last: bool = False) -> Updated:
        number = stop()
        if not np.isfinite(loss):
            return Updated(loss, number, False)
        if lr != self._lr:
            self._workers.set_learning_rate(lr)
            self._lr = lr
        gradients = [self._flat(lambda p, d: p.grad(d), d) / (images * self._workers.count) for d in self.devices]
        weights = [mx.nd.empty(gradient.shape, ctx=gradient.context) for gradient in gradients]
        self._workers.update(gradients, weights)
        self._scatter(weights, lambda p, d: p.data(d))
        return Updated(loss, number, True)

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
    accumulate: int = 1,
    clip_norm: Optional[float] = None,
) -> LocalUpdate:
    """The update of one process, or with others as their kind asks for."""
    if not isinstance(workers, DistributedWorkers):
        return LocalUpdate(parameters, optimizer, devices, kv_store, compression, accumulate, clip_norm)
    kind = AllReduceUpdate if workers.synchronous else AsynchronousUpdate
    return kind(workers, parameters, optimizer, devices, accumulate, clip_norm)
