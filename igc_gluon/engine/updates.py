"""A training step's update across workers: all gradients go over the network as one array.

One array for all parameters, because IGC networks have hundreds of small ones: a message per server instead of one per
parameter, and servers with equal shares.
"""
import signal

import mxnet as mx
import numpy as np

from igc_gluon.engine.server import STATE, WEIGHTS

EXTRA = 3  # at the array's end, on the first device: summed loss, images, number of the signal that asked to stop


class SynchronousExchange:
    """Every worker has the sum of all gradients and updates its own copy of the weights, to the same bits."""

    def __init__(self, workers, trainer, devices):
        self.workers, self._trainer, self._devices = workers, trainer, devices
        self._parameters = [p for p in trainer._params if p.grad_req != "null"]
        self.stop_number = None

    def begin(self):
        """Gives all workers the weights of worker 0, and returns when all have them."""
        weights = [self._flat(lambda p, d: p.data(d), d) * (self.workers.rank == 0 and d == self._devices[0])
                   for d in self._devices]
        self.workers.all_reduce(weights)
        self._scatter(weights, lambda p, d: p.data(d))
        self.workers.barrier()

    def update(self, loss, images, lr, stop):
        """Returns the loss of all workers together. Where it is not finite, the weights stay as they were.

        stop: number of the signal that asked this worker to stop, or None; `stop_number` is then set on all workers.
        """
        extra = mx.nd.array([loss, images, stop or 0])
        gradients = [mx.nd.concat(self._flat(lambda p, d: p.grad(d), d),
                                  (extra if i == 0 else extra * 0).as_in_context(d), dim=0)
                     for i, d in enumerate(self._devices)]
        self.workers.all_reduce(gradients)
        loss, images, stopping = gradients[0][-EXTRA:].asnumpy().tolist()
        if stopping:
            self.stop_number = stop or signal.SIGTERM
        if np.isfinite(loss):
            self._scatter(gradients, lambda p, d: p.grad(d))
            self._trainer.set_learning_rate(lr)
            self._trainer.update(images)
        return loss

    def settle(self):
        """Nothing is ever on its way: all workers have the same weights after every step."""

    def _flat(self, of, device):
        return mx.nd.concat(*(of(p, device).reshape((-1,)).astype("float32", copy=False) for p in self._parameters),
                            dim=0)

    def _scatter(self, flats, of):
        for flat, device in zip(flats, self._devices):
            position = 0
            for parameter in self._parameters:
                array = of(parameter, device)
                array[:] = flat[position:position + array.size].reshape(array.shape).astype(array.dtype, copy=False)
                position += array.size


class AsynchronousExchange(SynchronousExchange):
    """The servers update; a worker goes on with whatever weights they have. A push counts as its share of a batch:
    of the gradient's mean over the batch, and of the weight decay."""

    def begin(self):
        optimizer, first = self._trainer.optimizer, self._devices[0]
        updater = self._trainer._updaters[0]
        state = mx.nd.concat(*(updater.states[i].reshape((-1,)) if updater.states.get(i) is not None else
                               mx.nd.zeros(p.data(first).size) for i, p in self._indices()), dim=0)
        self._lr = optimizer.learning_rate
        self.workers.begin(self._flat(lambda p, d: p.data(d), first), state, momentum=optimizer.momentum,
                           wd=optimizer.wd / self.workers.count, lr=self._lr)
        self.settle()

    def update(self, loss, images, lr, stop):
        if stop:
            self.stop_number = stop
        if not np.isfinite(loss):
            return loss
        if lr != self._lr:
            self.workers.learning_rate(lr)
            self._lr = lr
        gradients = [self._flat(lambda p, d: p.grad(d), d) / (images * self.workers.count) for d in self._devices]
        weights = [mx.nd.empty(gradient.shape, ctx=gradient.context) for gradient in gradients]
        self.workers.update(gradients, weights)
        self._scatter(weights, lambda p, d: p.data(d))
        return loss

    def settle(self):
        """Waits until all pushes of all workers are in the weights, and gives all workers these; and the trainer the
        momentum that belongs to them."""
        self.workers.barrier()
        first = self._devices[0]
        size = sum(p.data(first).size for p in self._parameters)
        weights = [mx.nd.empty(size, ctx=d) for d in self._devices]
        state = mx.nd.empty(size, ctx=first)
        self.workers.pull(WEIGHTS, weights)
        self.workers.pull(STATE, state)
        self._scatter(weights, lambda p, d: p.data(d))
        position = 0
        for i, parameter in self._indices():
            array = parameter.data(first)
            self._trainer._updaters[0].states[i] = state[position:position + array.size].reshape(array.shape).copy()
            position += array.size
        self.workers.barrier()

    def _indices(self):
        return [(i, p) for i, p in enumerate(self._trainer._params) if p.grad_req != "null"]
