"""A network on one or several devices: every batch is cut into shards, gradients go through the KVStore.

Each shard is normalised by itself, as on one GPU of the paper: 64 images over 2 GPUs, 256 over 8, so that BN always
saw 32. The number of shards is part of the experiment and the number of devices is not: a device that has several
shards works them off one after the other, each with moving statistics of its own, and the result is that of as many
devices as shards, to float accuracy.
"""
import logging

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from igc_gluon.engine.loss import SoftmaxLoss
from igc_gluon.engine.numbers import FiniteCheck, LayerProbes
from igc_gluon.engine.optimizer import momentum_and_master, state_of
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.authors import check_parameters

logger = logging.getLogger(__name__)

KV_STORES = ("device", "local", "nccl")


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
                        "or give --cpus 1 in place of --gpus to train on the CPU")
    there = mx.context.num_gpus()
    missing = [n for n in numbers if n >= there]
    if missing:
        raise UserError(f"--gpus: there is no GPU {missing[0]}; this machine has {there}" +
                        (f", numbered from 0 to {there - 1}" if there else ""))
    return [mx.gpu(n) for n in numbers]


def check_kv_store(name, devices):
    """Raises UserError where the KVStore `name` cannot serve `devices`."""
    if name not in KV_STORES:
        raise UserError(f"--kv-store must be one of {', '.join(KV_STORES)}, not {name!r}")
    if name == "nccl" and not (mx.runtime.Features().is_enabled("NCCL") and devices[0].device_type == "gpu"):
        raise UserError("--kv-store nccl needs GPUs and an MXNet built with NCCL; use --kv-store device")


def shards_for(devices, shards, batch_size):
    """The number of shards of a batch: `shards`, raised to a multiple of the number of devices.

    Raises UserError if the batch has fewer images than shards.
    """
    if shards < 1:
        raise UserError(f"--batch-shards must be at least 1, not {shards}")
    rounded = -(-shards // len(devices)) * len(devices)
    if rounded > batch_size:
        raise UserError(f"a batch of {batch_size} images cannot be cut into {rounded} shards; raise --batch-size or "
                        "lower --batch-shards or the number of devices")
    if rounded != shards:
        logger.warning("%d devices cut a batch into %d shards, not %d; --batch-shards %d gives the same training on any "
                       "number of devices that divides it", len(devices), rounded, shards, rounded)
    return rounded


class DataParallel:
    """Trains and evaluates `net` on `devices`.

    net: a HybridBlock, initialised on `devices`, (n, 3, H, W) -> (n, classes) scores. Where its parameters are float16
    it is fed with float16, and an optimizer with multi_precision keeps float32 weights, which are those that
    `parameters` gives. Gradients are sums over a shard, not means, and so far from float16's smallest numbers.
    """

    def __init__(self, net, devices, shards, optimizer, kv_store="device", label_smoothing=0.0):
        self.net, self.devices = net, devices
        self._dtype = "float16" if any(p.dtype in ("float16", np.float16) for p in net.collect_params().values()) \
            else "float32"
        self.trainer = gluon.Trainer(net.collect_params(), optimizer, kvstore=kv_store, update_on_kvstore=False)
        # Left to itself, the trainer does this at its first step and so gives every device the moving statistics that
        # the first one has by then.
        self.trainer._init_kvstore()
        self.trainer._init_params()
        self._shard_devices = [devices[i * len(devices) // shards] for i in range(shards)]
        self._statistics = _ShardStatistics(net, devices, shards // len(devices))
        self._loss = SoftmaxLoss(label_smoothing)
        self._loss.hybridize()
        self._check = FiniteCheck(net.collect_params().values(), devices[0])
        self.probes = self.anomaly = self.broken = None

    def step(self, data, label, lr):
        """One update on a batch: numpy float32 (n, 3, H, W), labels (n,). Returns (summed loss, scores as numpy).

        The loss is known before the weights change: where it is not finite they stay as they were. `broken` is then a
        line on what the update before left not finite, or None; `anomaly` one on this batch, see `detect_anomaly`.
        """
        outputs, losses = self._forward(data, label)
        self.probes.backward(losses) if self.probes else autograd.backward(losses)
        # Waiting here once a step keeps MXNet's queue short, without which a Ctrl-C takes effect many steps later.
        loss = sum(float(part.asnumpy().sum(dtype=np.float64)) for part in losses)
        self.check_update()
        self.anomaly = self.probes and self.probes.first()
        if np.isfinite(loss) and not (self.broken or self.anomaly):
            self.trainer.set_learning_rate(lr)
            self.trainer.step(len(data))
            self._check.begin()
        return loss, np.concatenate([output.asnumpy() for output in outputs])

    def _forward(self, data, label):
        """Scores and losses of the shards of a batch, recorded."""
        pieces, outputs, losses = np.array_split(np.arange(len(data)), len(self._shard_devices)), [], []
        with autograd.record():
            for shard, (device, piece) in enumerate(zip(self._shard_devices, pieces)):
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
        self.probes = LayerProbes(self.net)

    def first_broken_layer(self, data, label):
        """A line on the layer in which a batch stops being finite; for the end of a run, which gets slow by it."""
        self.detect_anomaly()
        self._forward(data, label)
        return self.probes.first() or "layer by layer, with MXNet's operators, it is finite"

    def predict(self, data):
        """Scores of a batch in inference mode: numpy (n, 3, H, W) -> numpy (n, classes)."""
        pieces = [piece for piece in np.array_split(data, len(self.devices)) if len(piece)]
        outputs = [self._scores(piece, device) for device, piece in zip(self.devices, pieces)]
        return np.concatenate([output.asnumpy() for output in outputs])

    def _scores(self, data, device):
        return self.net(mx.nd.array(data, ctx=device, dtype=self._dtype)).astype("float32", copy=False)

    def average_statistics(self):
        """Makes the moving statistics of all shards their mean, as Module does at an epoch's end."""
        _wait_for_moving_statistics()
        self._statistics.average()

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
        return self._statistics.export()

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
    """Moving statistics for every shard: `copies` arrays per device, of which `select` puts one into the network."""

    def __init__(self, net, devices, copies):
        self.copies = copies
        self._devices = devices
        self._parameters = [p for name, p in net.collect_params().items()
                            if name.endswith(("running_mean", "running_var"))]
        # [parameter][device][copy]; copy 0 is the array that the parameter came with.
        self._arrays = [[[p.data(d)] + [p.data(d).copy() for _ in range(copies - 1)] for d in devices]
                        for p in self._parameters]

    def select(self, device, copy):
        if self.copies == 1:
            return
        index = self._devices.index(device)
        for parameter, arrays in zip(self._parameters, self._arrays):
            # Parameter has no call for this: set_data copies, once per parameter and shard.
            parameter._data[parameter.list_ctx().index(device)] = arrays[index][copy]

    def average(self):
        for device in self._devices:
            self.select(device, 0)
        if len(self._devices) * self.copies == 1:
            return
        for parameter, arrays in zip(self._parameters, self._arrays):
            values = [array.asnumpy() for on_device in arrays for array in on_device]
            mean = np.mean(values, axis=0, dtype=np.float64).astype(values[0].dtype)
            for on_device in arrays:
                for array in on_device:
                    array[:] = mean

    def spread(self):
        """Gives every shard the statistics that the network has on the first device."""
        for parameter, arrays in zip(self._parameters, self._arrays):
            value = parameter.data(self._devices[0]).asnumpy()
            for on_device in arrays:
                for array in on_device:
                    array[:] = value

    def export(self):
        return {f"{p.name}@{shard}": array.asnumpy() for p, shard, array in self._by_shard()}

    def restore(self, given):
        check_parameters(given, {f"{p.name}@{shard}": array for p, shard, array in self._by_shard()})
        for parameter, shard, array in self._by_shard():
            array[:] = given[f"{parameter.name}@{shard}"]

    def _by_shard(self):
        for parameter, arrays in zip(self._parameters, self._arrays):
            for shard, array in enumerate(array for on_device in arrays for array in on_device):
                yield parameter, shard, array
