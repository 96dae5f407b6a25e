"""A network on one or several devices, each of which works off its shards of every batch."""

from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd

from igc_gluon.data.batches import Batch
from igc_gluon.data.sharding import shard
from igc_gluon.engine import statistics
from igc_gluon.engine.dropout import has_dropout
from igc_gluon.engine.loss import Loss, Objective
from igc_gluon.engine.workers import Workers
from igc_gluon.model_zoo.authors import check_parameters
from igc_gluon.model_zoo.image_network import split_network

Arrays = Dict[str, np.ndarray]
Place = Sequence[int]  # epoch, batch


class Replicas:
    """The copies of `net` on `devices`, for the shards that this worker has of a batch.

    net: a HybridBlock, initialized on `devices`, (n, 3, H, W) -> (n, classes) scores. Where its parameters are float16
    it is fed with float16. shards: of a batch, over all workers. batch_size: of all workers together; not needed by
    one. frozen: so many layers of net.features are not trained.
    """

    def __init__(
        self,
        net: mx.gluon.HybridBlock,
        devices: Sequence[mx.Context],
        shards: int,
        *,
        workers: Workers,
        batch_size: Optional[int] = None,
        objective: Objective = Objective(),
        seed: int = 0,
        frozen: int = 0,
    ):
        self.net, self.devices = net, list(devices)
        self._workers, self._batch_size, self._count = workers, batch_size, shards
        self._shards = shard(shards, workers.rank, workers.count)
        self._shard_devices = [
            self.devices[i * len(self.devices) // len(self._shards)] for i in range(len(self._shards))
        ]
        self._dtype = (
            "float16" if any(p.dtype in ("float16", np.float16) for p in net.collect_params().values()) else "float32"
        )
        self.statistics = ShardStatistics(net, self.devices, self._shards, shards)
        self._loss = Loss(objective, self.devices)
        # Dropout draws from generators of the process and device.
        self._seed = seed if has_dropout(net) else None
        self._parts = split_network(net, frozen) if frozen else None

    def forward(
        self, data: np.ndarray, label: np.ndarray, place: Place = ()
    ) -> Tuple[List[mx.nd.NDArray], List[mx.nd.NDArray]]:
        """(scores, losses) of the shards of a batch (n, 3, H, W) with labels (n,), or shares of the classes (n,
        classes), recorded for `backward`. place: the batch's in the run, by which dropout draws."""
        outputs, losses = [], []
        with autograd.record():
            for output, piece in self._outputs(data, place):
                outputs.append(output)
                losses.append(self._loss(output, label[piece], data[piece]))
        return outputs, losses

    def take_statistics(
        self,
        batches: Iterable[Batch],
        backward: Callable[[List[mx.nd.NDArray]], object],
        stop: Callable[[], bool],
        place: Place = (),
    ) -> None:
        """Takes the moving statistics anew from `batches`, see `igc_gluon.engine.statistics`; weights stay as they are.

        backward(heads): as autograd.backward, in which MXNet's BN writes them. stop() is asked before each batch: True
        leaves them as they were.
        """

        def passes() -> Iterator[bool]:
            for number, (data, _) in enumerate(batches):
                if stop():
                    yield False
                with autograd.record():
                    outputs = [output for output, _ in self._outputs(data, (*place, number))]
                backward(outputs)
                mx.nd.waitall()
                yield True

        statistics.take_anew(self.net, self.statistics.arrays_of, passes())

    def predict(self, data: np.ndarray) -> np.ndarray:
        """Scores of a batch in inference mode: float32 (n, 3, H, W) -> (n, classes)."""
        pieces = [piece for piece in np.array_split(data, len(self.devices)) if len(piece)]
        outputs = [self._scores(piece, device) for device, piece in zip(self.devices, pieces)]
        return np.concatenate([output.asnumpy() for output in outputs])

    def parameters(self) -> Arrays:
        """{name: array} of all parameters and moving statistics, in the network's number type."""
        wait_for_moving_statistics()
        return {name: p.data(self.devices[0]).asnumpy() for name, p in self.net.collect_params().items()}

    def set_parameters(self, arrays: Mapping[str, np.ndarray]) -> None:
        """The opposite of `parameters`. Raises UserError, which names them, if the arrays are not this network's."""
        parameters = self.net.collect_params()
        check_parameters(arrays, parameters)
        for name, parameter in parameters.items():
            parameter.set_data(mx.nd.array(arrays[name], dtype=parameter.dtype))
        self.statistics.broadcast()

    def _outputs(self, data: np.ndarray, place: Place) -> Iterator[Tuple[mx.nd.NDArray, slice]]:
        """(scores, slice of the batch) of each of this worker's shards."""
        for number, (device, piece) in enumerate(zip(self._shard_devices, self._slices(len(data)))):
            self.statistics.select(device, number % self.statistics.copies)
            if self._seed is not None:
                sequence = np.random.SeedSequence([self._seed, *place, self._shards[number]])
                mx.random.seed(int(sequence.generate_state(1)[0] >> 1), ctx=device)
            yield self._scores(data[piece], device), piece

    def _slices(self, images: int) -> List[slice]:
        """A slice of this worker's images for each of its shards."""
        total = images if self._workers.count == 1 or self._batch_size is None else self._batch_size
        mine = shard(total, self._workers.rank, self._workers.count)
        if images != len(mine):
            raise ValueError(f"{images} images came to worker {self._workers.rank}, not {len(mine)}")
        cuts = [shard(total, number, self._count) for number in self._shards]
        return [slice(cut.start - mine.start, cut.stop - mine.start) for cut in cuts]

    def _scores(self, data: np.ndarray, device: mx.Context) -> mx.nd.NDArray:
        images = mx.nd.array(data, ctx=device, dtype=self._dtype)
        if self._parts is None or not autograd.is_recording():
            return self.net(images).astype("float32", copy=False)
        for part in self._parts:  # the detector of anomalies goes layer by layer
            if part._active != self.net._active:
                part.hybridize(self.net._active)
        frozen, trained = self._parts
        with autograd.pause():  # as in evaluation: BN goes by its moving statistics, and keeps them
            images = frozen(images)
        return trained(images).astype("float32", copy=False)


class ShardStatistics:
    """Moving statistics of `shards`, this worker's of all `count`: `copies` arrays per device, of which `select` puts
    one into the network. Within an epoch they differ from shard to shard."""

    def __init__(self, net: mx.gluon.HybridBlock, devices: List[mx.Context], shards: range, count: int):
        self._shards, self._count, self._devices = shards, count, devices
        self.copies = len(shards) // len(devices)
        self._parameters = [
            p for name, p in net.collect_params().items() if name.endswith(("running_mean", "running_var"))
        ]
        # [parameter][device][copy]; copy 0 is the array that the parameter came with.
        self._arrays = [
            [[p.data(d)] + [p.data(d).copy() for _ in range(self.copies - 1)] for d in devices]
            for p in self._parameters
        ]

    def select(self, device: mx.Context, copy: int) -> None:
        if self.copies == 1:
            return
        index = self._devices.index(device)
        for parameter, arrays in zip(self._parameters, self._arrays):
            # Parameter has no call for this: set_data copies, once per parameter and shard.
            parameter._data[parameter.list_ctx().index(device)] = arrays[index][copy]

    def arrays_of(self, parameter: mx.gluon.Parameter) -> List[mx.nd.NDArray]:
        """Of one of the statistics, the array of each shard."""
        return _by_shard(self._arrays[self._parameters.index(parameter)])

    def average(self, workers: Workers) -> None:
        """Makes the statistics of all shards of all workers their mean, as Module does at an epoch's end."""
        wait_for_moving_statistics()
        for device in self._devices:
            self.select(device, 0)
        if self._count == 1 or not self._parameters:
            return
        sums = [
            np.sum([array.asnumpy() for array in _by_shard(arrays)], axis=0, dtype=np.float64)
            for arrays in self._arrays
        ]
        means = workers.sum(np.concatenate([value.ravel() for value in sums])) / self._count
        for value, arrays in zip(_split_like(means, sums), self._arrays):
            for array in _by_shard(arrays):
                array[:] = value.astype(np.float32)

    def broadcast(self) -> None:
        """Gives every shard the statistics that the network has on the first device."""
        for parameter, arrays in zip(self._parameters, self._arrays):
            value = parameter.data(self._devices[0]).asnumpy()
            for array in _by_shard(arrays):
                array[:] = value

    def state(self, workers: Workers) -> Arrays:
        """{name@shard: array} of the shards of all workers."""
        wait_for_moving_statistics()
        if workers.count == 1:
            return {f"{p.name}@{number}": array.asnumpy() for p, number, array in self._items()}
        state: Arrays = {}
        for parameter, arrays in zip(self._parameters, self._arrays):
            gathered = np.zeros((self._count, *parameter.shape), np.float32)
            for number, array in zip(self._shards, _by_shard(arrays)):
                gathered[number] = array.asnumpy()
            state.update({f"{parameter.name}@{number}": array for number, array in enumerate(workers.sum(gathered))})
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """The opposite of `state`, on any number of devices; nothing is set where it is empty."""
        if not state:
            return
        check_parameters(state, {f"{p.name}@{number}": p for p in self._parameters for number in range(self._count)})
        for parameter, number, array in self._items():
            array[:] = state[f"{parameter.name}@{number}"]

    def _items(self) -> Iterator[Tuple[mx.gluon.Parameter, int, mx.nd.NDArray]]:
        for parameter, arrays in zip(self._parameters, self._arrays):
            for number, array in zip(self._shards, _by_shard(arrays)):
                yield parameter, number, array


def wait_for_moving_statistics() -> None:
    """BN's backward pass writes them without telling MXNet's engine, so that a read does not wait for it."""
    mx.nd.waitall()


def _by_shard(arrays: List[List[mx.nd.NDArray]]) -> List[mx.nd.NDArray]:
    """The arrays of a parameter, by shard."""
    return [array for on_device in arrays for array in on_device]


def _split_like(flat: np.ndarray, arrays: List[np.ndarray]) -> List[np.ndarray]:
    """Cuts `flat` into pieces of the shapes of `arrays`."""
    ends = np.cumsum([array.size for array in arrays])
    return [piece.reshape(array.shape) for piece, array in zip(np.split(flat, ends[:-1]), arrays)]
