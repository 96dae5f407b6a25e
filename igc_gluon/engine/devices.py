"""A network on one or several devices: every batch is cut into shards, gradients go through the KVStore.

Each shard is normalised by itself, as on one GPU of the paper: 64 images over 2 GPUs, 256 over 8, so that BN always
saw 32. The number of shards is part of the experiment and the number of devices is not: a device that has several
shards works them off one after the other, each with moving statistics of its own, and the result is that of as many
devices as shards, to float accuracy. Workers (`igc_gluon.engine.workers`) divide the shards in the same way.
"""
import logging
import os

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from igc_gluon.engine.updates import AsynchronousExchange, SynchronousExchange
from igc_gluon.engine.loss import SoftmaxLoss
from igc_gluon.engine.anomaly import FiniteCheck, AnomalyDetector
from igc_gluon.engine.optimizer import momentum_and_master, state_of
from igc_gluon.engine.workers import HOROVOD, PARAMETER_SERVER, SingleWorker, share
from igc_gluon.errors import UserError
from igc_gluon.launch import heartbeat
from igc_gluon.model_zoo.authors import check_parameters

logger = logging.getLogger(__name__)

KV_STORES = ("device", "local", "nccl", *PARAMETER_SERVER, HOROVOD)
COMPRESSIONS = ("none", "2bit")


def contexts(gpus=None, cpus=1):
    """The devices to train on: `gpus` is a text such as '0,1' or None for `cpus` CPU contexts.

    Raises UserError on GPUs that are not there.
    """
    if not gpus:
        if cpus < 1:
            raise UserError(f"--cpus must be at least 1, not {cpus}")
        return [mx.cpu(i) for i in range(cpus)]
    try:
        numbers = [int(part) for part in gpus.split(",")]
    except ValueError:
        raise UserError(f"--gpus wants numbers, such as 0,1; not {gpus!r}") from None
    if len(set(numbers)) != len(numbers) or min(numbers) < 0:
        raise UserError(f"--gpus wants different numbers from 0 on; not {gpus!r}")
    if not mx.runtime.Features().is_enabled("CUDA"):
        raise UserError("--gpus: this MXNet is built without CUDA; install the GPU one (pip install -e '.[cu112]') "
                        "or use the CPU: leave --gpus out, or for train_imagenet.py give --cpus 1 in its place")
    there = mx.context.num_gpus()
    missing = [n for n in numbers if n >= there]
    if missing:
        raise UserError(f"--gpus: there is no GPU {missing[0]}; this machine has {there}" +
                        (f", numbered from 0 to {there - 1}" if there else ""))
    return [mx.gpu(n) for n in numbers]


def check_kv_store(name, devices, compression="none"):
    """Raises UserError where the KVStore `name` cannot serve `devices`, or cannot compress gradients."""
    if name not in KV_STORES:
        raise UserError(f"--kv-store must be one of {', '.join(KV_STORES)}, not {name!r}")
    if name == "nccl" and not (mx.runtime.Features().is_enabled("NCCL") and devices[0].device_type == "gpu"):
        raise UserError("--kv-store nccl needs GPUs and an MXNet built with NCCL; use --kv-store device")
    if compression not in COMPRESSIONS:
        raise UserError(f"--gc-type must be one of {', '.join(COMPRESSIONS)}, not {compression!r}")
    if compression != "none" and (name != "device" or len(devices) == 1):
        raise UserError(f"--gc-type {compression}: MXNet compresses gradients only between several devices of one "
                        "process, with --kv-store device; leave it out")


def be_deterministic(wanted, devices, kv_store):
    """Has MXNet choose operators that give the same bits run after run, to be called before any of them runs.

    wanted: 1, 0, or None for 1 on the CPU. There all that is used here is deterministic at a number of threads in any
    case. Raises UserError where bits cannot repeat.
    """
    if wanted and kv_store == "dist_async":
        raise UserError("--deterministic 1: with --kv-store dist_async the weights depend on which worker is first; "
                        "use dist_sync")
    if wanted or (wanted is None and devices[0].device_type == "cpu"):
        os.environ["MXNET_ENFORCE_DETERMINISM"] = "1"
        os.environ["MXNET_CUDNN_AUTOTUNE_DEFAULT"] = "0"


def shards_for(devices, shards, batch_size, workers=1):
    """The number of shards of a batch: `shards`, raised to a multiple of the number of devices of all workers.

    Raises UserError if the batch has fewer images than shards.
    """
    if shards < 1:
        raise UserError(f"--batch-shards must be at least 1, not {shards}")
    total = len(devices) * workers
    rounded = -(-shards // total) * total
    if rounded > batch_size:
        raise UserError(f"a batch of {batch_size} images cannot be cut into {rounded} shards; raise --batch-size or "
                        "lower --batch-shards or the number of devices")
    if rounded != shards:
        logger.warning("%d devices cut a batch into %d shards, not %d; --batch-shards %d gives the same training on "
                       "any number of devices that divides it", total, rounded, shards, rounded)
    return rounded


class DataParallel:
    """Trains and evaluates `net` on `devices`.

    net: a HybridBlock, initialised on `devices`, (n, 3, H, W) -> (n, classes) scores. Where its parameters are float16
    it is fed with float16, and an optimizer with multi_precision keeps float32 weights, which are those that
    `parameters` gives. Gradients are sums over a shard, not means, and so far from float16's smallest numbers.
    shards: of a batch, over all workers. batch_size: of all workers together; not needed by one.
    compression: None or MXNet's threshold for gradients of 2 bits.
    """

    def __init__(self, net, devices, shards, optimizer, kv_store="device", label_smoothing=0.0, workers=None,
                 batch_size=None, compression=None):
        self.net, self.devices, self.workers = net, devices, workers or SingleWorker()
        self._dtype = "float16" if any(p.dtype in ("float16", np.float16) for p in net.collect_params().values()) \
            else "float32"
        # One worker of a distributed store is not alone: the trainer would make a second store, for which the servers,
        # which know of one worker, have no answer.
        alone = isinstance(self.workers, SingleWorker)
        self.trainer = gluon.Trainer(net.collect_params(), optimizer, kvstore=kv_store if alone else None,
                                     compression_params=compression and {"type": "2bit", "threshold": compression},
                                     update_on_kvstore=False)
        # Left to itself, the trainer does this at its first step and so gives every device the moving statistics that
        # the first one has by then.
        self.trainer._init_kvstore()
        if alone:
            self.trainer._init_params()
        self._exchange = None if alone else (SynchronousExchange if self.workers.synchronous else AsynchronousExchange)(
            self.workers, self.trainer, devices)
        self._shards, self._batch_size = shards, batch_size
        mine = range(*share(shards, self.workers.rank, self.workers.count))
        self._shard_devices = [devices[i * len(devices) // len(mine)] for i in range(len(mine))]
        self._statistics = _ShardStatistics(net, devices, mine, shards)
        self._loss = SoftmaxLoss(label_smoothing)
        self._loss.hybridize()
        self._check = FiniteCheck(net.collect_params().values(), devices[0])
        self.probes = self.anomaly = self.broken = None

    def begin(self):
        """Gives all workers the same weights; to be called by all of them, before the first step."""
        if self._exchange:
            self._exchange.begin()

    def step(self, data, label, lr, stop=None):
        """One update on a batch: numpy float32 (n, 3, H, W), labels (n,). Returns (summed loss, scores as numpy).

        The loss is known before the weights change: where it is not finite, on any worker, they stay as they were.
        `broken` is then a line on what the update before left not finite, or None; `anomaly` one on this batch, see
        `detect_anomaly`. data, label: of this worker, with its loss and scores. stop: see `agreed_stop`.
        """
        outputs, losses = self._forward(data, label)
        self.probes.backward(losses) if self.probes else autograd.backward(losses)
        # Waiting here once a step keeps MXNet's queue short, without which a Ctrl-C takes effect many steps later.
        loss = sum(float(part.asnumpy().sum(dtype=np.float64)) for part in losses)
        self.check_update()
        self.anomaly = self.probes and self.probes.first()
        sound = np.isfinite(loss) and not (self.broken or self.anomaly)
        if self._exchange:
            everyones = self._exchange.update(loss if sound else np.nan, len(data), lr, stop)
            if sound and not np.isfinite(everyones):
                sound, self.anomaly = False, "on another worker"
        elif sound:
            self.trainer.set_learning_rate(lr)
            self.trainer.step(len(data))
        if sound:
            self._check.begin()
        heartbeat.progress()
        return loss, np.concatenate([output.asnumpy() for output in outputs])

    def _forward(self, data, label):
        """Scores and losses of the shards of a batch, recorded."""
        outputs, losses = [], []
        with autograd.record():
            for shard, (device, piece) in enumerate(zip(self._shard_devices, self._pieces(len(data)))):
                self._statistics.select(device, shard % self._statistics.copies)
                outputs.append(self._scores(data[piece], device))
                losses.append(self._loss(outputs[-1], mx.nd.array(label[piece], ctx=device)))
        return outputs, losses

    def check_update(self):
        """Sets and returns `broken` for the last update."""
        self.broken = self._check.end()
        return self.broken

    def detect_anomaly(self):
        """From now on every step goes layer by layer and `anomaly` names the first that makes something not finite."""
        self.probes = AnomalyDetector(self.net)

    def first_broken_layer(self, data, label):
        """A line on the layer in which a batch stops being finite; for the end of a run, which gets slow by it."""
        self.detect_anomaly()
        self._forward(data, label)
        return self.probes.first() or "layer by layer, with MXNet's operators, it is finite"

    def agreed_stop(self, stop):
        """The signal that all workers stop for after this step: what any was given in the step, or alone `stop`."""
        return self._exchange.stop_number if self._exchange else stop

    def _pieces(self, images):
        """A slice of this worker's images for each of its shards."""
        workers, total = self.workers, images if self.workers.count == 1 else self._batch_size
        first, end = share(total, workers.rank, workers.count)
        if images != end - first:
            raise ValueError(f"{images} images came to worker {workers.rank}, not {end - first}")
        cuts = [share(total, shard, self._shards) for shard in self._statistics.shards]
        return [slice(start - first, stop - first) for start, stop in cuts]

    def predict(self, data):
        """Scores of a batch in inference mode: numpy (n, 3, H, W) -> numpy (n, classes)."""
        pieces = [piece for piece in np.array_split(data, len(self.devices)) if len(piece)]
        outputs = [self._scores(piece, device) for device, piece in zip(self.devices, pieces)]
        heartbeat.progress()
        return np.concatenate([output.asnumpy() for output in outputs])

    def _scores(self, data, device):
        return self.net(mx.nd.array(data, ctx=device, dtype=self._dtype)).astype("float32", copy=False)

    def average_statistics(self):
        """Makes the moving statistics of all shards their mean, as Module does at an epoch's end."""
        _wait_for_moving_statistics()
        self._statistics.average(self.workers)

    def parameters(self):
        """{name: numpy array} of all parameters and moving statistics."""
        _wait_for_moving_statistics()
        arrays = {name: p.data(self.devices[0]).asnumpy() for name, p in self.net.collect_params().items()}
        for name, (_, master) in self._states().items():
            if master is not None:
                arrays[name] = master.asnumpy()
        return {name: array.astype(np.float32, copy=False) for name, array in arrays.items()}

    def set_parameters(self, arrays):
        """The opposite of `parameters`. Raises UserError, which names them, if the arrays are not this network's."""
        parameters = self.net.collect_params()
        check_parameters(arrays, parameters)
        for name, parameter in parameters.items():
            parameter.set_data(mx.nd.array(arrays[name], dtype=parameter.dtype))
        self._statistics.spread()

    def shard_statistics(self):
        """{name@shard: numpy array}: the moving statistics of every shard, which differ within an epoch."""
        _wait_for_moving_statistics()
        return self._statistics.export(self.workers)

    def settle(self):
        """Has all workers hold the same weights and optimizer state, before these are evaluated or saved."""
        if self._exchange:
            self._exchange.settle()

    def set_shard_statistics(self, arrays):
        """The opposite of `shard_statistics`, on any number of devices; nothing is set where `arrays` is empty."""
        if arrays:
            self._statistics.restore(arrays)

    def optimizer_states(self):
        """{parameter name: numpy array}; names, not MXNet's numbers, so that they fit any process."""
        return {name: momentum.asnumpy() for name, (momentum, _) in self._states().items() if momentum is not None}

    def set_optimizer_states(self, arrays, parameters):
        """The opposite of `optimizer_states`; `parameters` are those given to `set_parameters`.

        Raises UserError, which names them, if the arrays are not this network's.
        """
        check_parameters(arrays, {p.name: p for p in self.trainer._params if p.name in arrays})
        optimizer = self.trainer.optimizer
        for updater, device in zip(self.trainer._updaters, self.devices):
            for i, parameter in enumerate(self.trainer._params):
                if parameter.name in arrays:
                    updater.states[i] = state_of(optimizer, parameter.data(device),
                                                 mx.nd.array(arrays[parameter.name], ctx=device),
                                                 mx.nd.array(parameters[parameter.name], ctx=device))
                    updater.states_synced[i] = True

    def _states(self):
        """{parameter name: (momentum, float32 weights)} on the first device, None for what there is not."""
        optimizer, states = self.trainer.optimizer, self.trainer._updaters[0].states
        return {self.trainer._params[i].name: momentum_and_master(optimizer, state) for i, state in states.items()}


def _wait_for_moving_statistics():
    """BN's backward pass writes them without telling MXNet's engine, so that a read does not wait for it."""
    mx.nd.waitall()


class _ShardStatistics:
    """Moving statistics of `shards`, this worker's of all `count`: `copies` arrays per device, of which `select` puts
    one into the network."""

    def __init__(self, net, devices, shards, count):
        self.shards, self._count = shards, count
        self.copies = len(shards) // len(devices)
        self._devices = devices
        self._parameters = [p for name, p in net.collect_params().items()
                            if name.endswith(("running_mean", "running_var"))]
        # [parameter][device][copy]; copy 0 is the array that the parameter came with.
        self._arrays = [[[p.data(d)] + [p.data(d).copy() for _ in range(self.copies - 1)] for d in devices]
                        for p in self._parameters]

    def select(self, device, copy):
        if self.copies == 1:
            return
        index = self._devices.index(device)
        for parameter, arrays in zip(self._parameters, self._arrays):
            # Parameter has no call for this: set_data copies, once per parameter and shard.
            parameter._data[parameter.list_ctx().index(device)] = arrays[index][copy]

    def average(self, workers):
        for device in self._devices:
            self.select(device, 0)
        if self._count == 1 or not self._parameters:
            return
        sums = [np.sum([array.asnumpy() for array in _all(arrays)], axis=0, dtype=np.float64)
                for arrays in self._arrays]
        means = workers.sum(np.concatenate([value.ravel() for value in sums])) / self._count
        for value, arrays in zip(_like(means, sums), self._arrays):
            for array in _all(arrays):
                array[:] = value.astype(np.float32)

    def spread(self):
        """Gives every shard the statistics that the network has on the first device."""
        for parameter, arrays in zip(self._parameters, self._arrays):
            value = parameter.data(self._devices[0]).asnumpy()
            for array in _all(arrays):
                array[:] = value

    def export(self, workers):
        if workers.count == 1:
            return {f"{p.name}@{shard}": array.asnumpy() for p, shard, array in self._by_shard()}
        found = {}
        for parameter, arrays in zip(self._parameters, self._arrays):
            everyones = np.zeros((self._count, *parameter.shape), np.float32)
            for shard, array in zip(self.shards, _all(arrays)):
                everyones[shard] = array.asnumpy()
            found.update({f"{parameter.name}@{shard}": array for shard, array in enumerate(workers.sum(everyones))})
        return found

    def restore(self, given):
        check_parameters(given, {f"{p.name}@{shard}": p for p in self._parameters for shard in range(self._count)})
        for parameter, shard, array in self._by_shard():
            array[:] = given[f"{parameter.name}@{shard}"]

    def _by_shard(self):
        for parameter, arrays in zip(self._parameters, self._arrays):
            for shard, array in zip(self.shards, _all(arrays)):
                yield parameter, shard, array


def _all(arrays):
    """The arrays of a parameter, by shard."""
    return [array for on_device in arrays for array in on_device]


def _like(flat, arrays):
    """Cuts `flat` into pieces of the shapes of `arrays`."""
    ends = np.cumsum([array.size for array in arrays])
    return [piece.reshape(array.shape) for piece, array in zip(np.split(flat, ends[:-1]), arrays)]
