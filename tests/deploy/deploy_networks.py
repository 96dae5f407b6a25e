"""Small networks whose numbers stay near 1 while every parameter and statistic is drawn at random."""

import contextlib
import os

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

import igc_gluon


@contextlib.contextmanager
def stock_operators():
    before = os.environ.get("IGC_NATIVE")
    os.environ["IGC_NATIVE"] = "0"
    try:
        yield
    finally:
        os.environ.pop("IGC_NATIVE")
        if before is not None:
            os.environ["IGC_NATIVE"] = before


def randomize(net, shape, seed=0):
    """Initializes `net` for images of `shape`: random parameters, statistics of real batches times random
    factors.

    Statistics drawn from nowhere let a deep network amplify rounding beyond any tolerance.
    """
    rng = np.random.default_rng(seed)
    mx.random.seed(seed)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2), force_reinit=True)
    with stock_operators(), mx.autograd.pause():
        net(mx.nd.zeros((1, *shape)))  # deferred shapes
        for name, parameter in net.collect_params().items():
            if name.endswith("gamma"):
                # Sums of many branches of one size each amplify rounding, in MXNet as anywhere: in IGCV3 by
                # 1000.
                size = 0.2 if "linear" in name else 1.0
                parameter.set_data(mx.nd.array(size * rng.uniform(0.5, 1.5, parameter.shape)))
            elif name.endswith(("beta", "bias")):
                parameter.set_data(mx.nd.array(rng.normal(0, 0.3, parameter.shape)))
        norms = []
        net.apply(lambda block: norms.append(block) if isinstance(block, nn.BatchNorm) else None)
        momenta = [norm._kwargs["momentum"] for norm in norms]
        for norm in norms:
            norm._kwargs["momentum"] = 0.0
        with mx.autograd.train_mode():
            net(mx.nd.array(images(shape, 8, seed + 1))).wait_to_read()
        for norm, momentum in zip(norms, momenta):
            norm._kwargs["momentum"] = momentum
            for statistic, change in ((norm.running_mean, 0.2), (norm.running_var, 0.0)):
                values = statistic.data().asnumpy()
                values = values * rng.uniform(0.7, 1.4, values.shape) + rng.normal(0, 1, values.shape) * change
                statistic.set_data(mx.nd.array(values))
    return net


def images(shape, batch, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, *shape)).astype(np.float32)


def stock(net, x):
    """What MXNet's own operators compute."""
    with stock_operators(), mx.autograd.pause():
        return net(mx.nd.array(x)).asnumpy()


def small(name, size, **options):
    return randomize(igc_gluon.get_model(name, **options), (3, size, size))


def assert_close(actual, expected):
    assert actual.shape == expected.shape and actual.dtype == np.float32
    if expected.size:
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
