"""Data-parallel training: every batch is cut into shards, on one or several devices of one or several workers.

Each shard is normalized by itself, as on one GPU of the paper: 64 images over 2 GPUs, 256 over 8, so that BN always
saw 32. The number of shards is part of the experiment and the number of devices is not: a device that has several
shards works them off one after the other, each with moving statistics of its own, and the result is that of as many
devices as shards, to float accuracy. Workers (`igc_gluon.engine.workers`) divide the shards in the same way.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd

from igc_gluon.data.batches import Batch
from igc_gluon.engine.anomaly import AnomalyDetector, FiniteCheck
from igc_gluon.engine.loss import Objective
from igc_gluon.engine.replicas import Arrays, Place, Replicas
from igc_gluon.engine.updates import Stop, update_for
from igc_gluon.engine.weight_average import WeightAverage
from igc_gluon.engine.workers import SingleWorker, Workers
from igc_gluon.launch import heartbeat

NETWORK, TRAINING = "net.params", "training.params"  # files of a checkpoint


@dataclass(frozen=True)
class StepResult:
    """What a training step did. The weights have changed unless one of `broken` and `anomaly` is set or the loss is
    not finite.

    loss: summed over this worker's images. scores: (n, classes), of these images. broken: a line on what the update
    before this step left not finite, or None. anomaly: one on what this step made that is not finite; where the loss is
    finite only with an anomaly detector, or from another worker. stop: the number of the signal for which all workers
    stop after this step, or None.
    """

    loss: float
    scores: np.ndarray
    broken: Optional[str] = None
    anomaly: Optional[str] = None
    stop: Optional[int] = None


class DataParallel:
    """Trains and evaluates `net` on `devices`.

    net, shards, batch_size, objective, seed, frozen: see `Replicas`. optimizer: one with multi_precision keeps float32
    weights of a float16 network, which are those that `parameters` gives. Gradients are sums over a shard, not means,
    and so far from float16's smallest numbers. kv_store, compression, accumulate, clip_norm: see `LocalUpdate`. ema:
    the decay of the weights' average, see `WeightAverage`; 0 for none.
    """

    def __init__(
        self,
        net: mx.gluon.HybridBlock,
        devices: Sequence[mx.Context],
        shards: int,
        optimizer: mx.optimizer.Optimizer,
        *,
        kv_store: str = "device",
        objective: Objective = Objective(),
        workers: Optional[Workers] = None,
        batch_size: Optional[int] = None,
        compression: Optional[float] = None,
        accumulate: int = 1,
        clip_norm: Optional[float] = None,
        ema: float = 0.0,
        seed: int = 0,
        frozen: int = 0,
    ):
        self.net, self.workers = net, workers or SingleWorker()
        parameters = net.collect_params()
        self.updates = update_for(
            self.workers, parameters, optimizer, devices, kv_store, compression, accumulate, clip_norm
        )
        self.replicas = Replicas(
            net,
            devices,
            shards,
            workers=self.workers,
            batch_size=batch_size,
            objective=objective,
            seed=seed,
            frozen=frozen,
        )
        self.average = WeightAverage(list(parameters.values()), devices[0], ema) if ema else None
        self._averaged: Optional[Arrays] = None  # the network of the average, with its statistics
        self._kept: Optional[Tuple[Arrays, Arrays]] = None  # `_trained` while the network holds other values
        self.finite_check = FiniteCheck(parameters.values(), devices[0])
        self.anomaly_detector: Optional[AnomalyDetector] = None

    def begin(self) -> None:
        """Gives all workers the same weights; to be called by all of them, before the first step."""
        self.updates.begin()
        if self.average:
            self.average.begin()

    def step(
        self,
        data: np.ndarray,
        label: np.ndarray,
        lr: float,
        stop: Stop = lambda: None,
        place: Place = (),
        last: bool = False,
    ) -> StepResult:
        """One update on this worker's part of a batch: float32 (n, 3, H, W), labels (n,), or shares of the classes (n,
        classes).

        stop: gives the number of a signal that has asked this worker to stop, or None. place: epoch and batch, by which
        dropout draws. last: whether it is the epoch's last batch, with which accumulated gradients come to an update.
        """
        outputs, losses = self.replicas.forward(data, label, place)
        (self.anomaly_detector or autograd).backward(losses)
        # Waiting here once a step keeps MXNet's queue short, without which a Ctrl-C takes effect many steps later.
        loss = sum(float(part.asnumpy().sum(dtype=np.float64)) for part in losses)
        broken = self.finite_check.end()
        anomaly = self.anomaly_detector.first() if self.anomaly_detector else None
        sound = bool(np.isfinite(loss)) and not (broken or anomaly)
        reduced, stop_number, updated = self.updates.update(loss if sound else np.nan, len(data), lr, stop, last)
        if sound and not np.isfinite(reduced):
            sound, anomaly = False, "on another worker"
        if sound:
            self.finite_check.begin()
        if updated and self.average:
            self.average.update()
        heartbeat.progress()
        scores = np.concatenate([output.asnumpy() for output in outputs])
        return StepResult(loss, scores, broken, anomaly, stop_number)

    def predict(self, data: np.ndarray) -> np.ndarray:
        """Scores of a batch in inference mode: float32 (n, 3, H, W) -> (n, classes)."""
        scores = self.replicas.predict(data)
        heartbeat.progress()
        return scores

    def detect_anomaly(self) -> None:
        """From now on every step goes layer by layer and tells the first that makes something not finite."""
        self.anomaly_detector = AnomalyDetector(self.net)

    def first_broken_layer(self, data: np.ndarray, label: np.ndarray) -> str:
        """A line on the layer in which a batch stops being finite; for the end of a run, which gets slow by it."""
        self.anomaly_detector = AnomalyDetector(self.net)
        self.replicas.forward(data, label)
        return self.anomaly_detector.first() or "layer by layer, with MXNet's operators, it is finite"

    def end_epoch(self) -> None:
        """Has all shards of all workers agree on weights, optimizer state and moving statistics."""
        self.updates.synchronize()
        self.replicas.statistics.average(self.workers)

    def take_statistics(
        self, batches: Iterable[Batch], stop: Callable[[], bool] = lambda: False, place: Place = ()
    ) -> None:
        """Takes the moving statistics anew from `batches` of this worker, with the weights as they are, and has all
        shards of all workers agree on them. stop() is asked before each batch: True leaves them as they were. place: as
        in `step`, for dropout."""

        def backward(heads: List[mx.nd.NDArray]) -> None:
            (self.anomaly_detector or autograd).backward(heads)
            if self.anomaly_detector:
                self.anomaly_detector.first()  # forgets this pass
            heartbeat.progress()

        self.replicas.take_statistics(batches, backward, stop, place)
        self.replicas.statistics.average(self.workers)

    @contextmanager
    def averaged(self, kept: bool = False) -> Iterator[None]:
        """Within the block the network has the average of the weights, with the statistics of `keep_averaged` if
        `kept`; checkpoints hold what is trained nevertheless. To be used at an epoch's end, when all shards agree."""
        assert self.average
        values = self._averaged if kept and self._averaged else self.average.values()
        self._kept = self._trained(within_epoch=True)
        self.replicas.set_parameters({**self._kept[0], **values})
        try:
            yield
        finally:
            parameters, shards = self._kept
            self._kept = None
            self.replicas.set_parameters(parameters)
            self.replicas.statistics.load_state(shards)

    def keep_averaged(self) -> None:
        """Makes the network, that of the average with its statistics, the one that the epoch's checkpoint holds."""
        self._averaged = self.replicas.parameters()

    def parameters(self) -> Arrays:
        """{name: float32 array} of all parameters and moving statistics."""
        arrays = {**self.replicas.parameters(), **self.updates.master_weights()}
        return {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}

    def state_dict(self, within_epoch: bool = False) -> Dict[str, Arrays]:
        """{file of a checkpoint: {name: array}}: `parameters`, and the optimizer's state with, within an epoch, the
        moving statistics of every shard. At an epoch's end the shards agree, and the network holds what they agree on.

        Where the weights are averaged the first file has the average, with the statistics of `keep_averaged`, within
        an epoch with the moving ones; the trained weights are in the second.
        """
        network, shards = self._kept or self._trained(within_epoch)
        training = self.updates.states()
        if within_epoch:
            training.update({f"shard:{name}": array for name, array in shards.items()})
        if self.average:
            training.update({f"trained:{name}": array for name, array in network.items()})
            training.update({f"average:{name}": array for name, array in self.average.state().items()})
            network = {**network, **self.average.values(), **({} if within_epoch else self._averaged or {})}
        return {NETWORK: network, TRAINING: training}

    def load_state_dict(self, state: Mapping[str, Arrays]) -> None:
        """The opposite of `state_dict`, on any number of devices. Raises UserError, which names them, if the arrays are
        not this network's."""
        network, training = state[NETWORK], state[TRAINING]
        shards = _with_prefix(training, "shard:")
        if self.average:
            self.average.load_state(_with_prefix(training, "average:"), network)
            self._averaged = None if shards else dict(network)
            network = _with_prefix(training, "trained:") or network
        self.replicas.set_parameters(network)
        self.updates.set_states(training, network)
        self.replicas.statistics.load_state(shards)

    def _trained(self, within_epoch: bool) -> Tuple[Arrays, Arrays]:
        """(`parameters`, within an epoch the statistics of all shards)"""
        return self.parameters(), self.replicas.statistics.state(self.workers) if within_epoch else {}


def _with_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
