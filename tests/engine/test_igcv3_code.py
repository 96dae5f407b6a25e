"""`train_imagenet.py --schedule igcv3-code` against what the authors' script of IGCV3 runs on MXNet 0.11, field by
field: SGD in NumPy, the rules of Module for weight decay, its initializer by moments. Its augmentation:
tests/data/test_augment.py.
"""

import mxnet as mx
import numpy as np
import pytest

import train_imagenet
from igc_gluon.engine.experiment import Settings, build_network, build_parallel

CPU = [mx.cpu()]
RNG = np.random.default_rng(0)


def parsed(*flags, shards=None):
    args = train_imagenet.parse(["--network", "igcv3_d0.5", "--schedule", "igcv3-code", "--cpus", "1", *flags])
    return args, train_imagenet.experiment(args, shards or train_imagenet.paper_gpus(args)), train_imagenet.data(args)


@pytest.fixture(scope="module")
def network():
    return build_network(parsed()[1], CPU, 1000, seed=0)


def test_its_numbers():
    """parser.set_defaults of their train_imagenet.py, and 4 GPUs."""
    args, experiment, data = parsed()
    schedule = experiment.schedule
    assert (schedule.num_epochs, experiment.batch_size, experiment.batch_shards) == (480, 96, 4)
    assert (experiment.wd, experiment.momentum, experiment.label_smoothing) == (4e-5, 0.9, 0.0)
    assert args.augment == "igcv3" and schedule.warmup_epochs == 0
    expected = data.preprocessing
    assert (expected.mean, expected.std, expected.image_shape) == (
        (123.68, 116.779, 103.939),
        (1.0, 1.0, 1.0),
        (3, 224, 224),
    )
    theirs = [0.045 * 0.98 ** sum(step <= epoch for step in range(1, 480)) for epoch in range(480)]
    np.testing.assert_allclose([schedule.lr_at(epoch) for epoch in range(480)], theirs, rtol=1e-9)


def test_initial_weights(network):
    """mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2) of every weight, and Module's rules by
    name."""
    for name, parameter in network.collect_params().items():
        values = parameter.data().asnumpy()
        if name.endswith("weight"):
            std = np.sqrt(2 / np.prod(values.shape[1:]))
            assert abs(values.std() / std - 1) < 5 / np.sqrt(2 * values.size), name
            assert abs(values.mean()) < 5 * std / np.sqrt(values.size), name
            if values.size > 1000:  # a uniform distribution ends at 1.73 standard deviations
                assert abs(values).max() > 2.5 * std, name
        else:
            assert (values == (1 if name.endswith(("gamma", "running_var")) else 0)).all(), name
    assert network.output.weight.shape == (1000, 1280)


def test_updates():
    """m = 0.9 m - lr (g / 96 + wd w), w += m, over a change of the rate; no weight decay of biases and beta."""
    _, experiment, _ = parsed("--wd", "0.5", "--batch-size", "4", shards=1)
    net = build_network(experiment, CPU, 5, seed=1)
    parallel = build_parallel(experiment, Settings(CPU), net)
    parallel.begin()
    momenta, kinds = {}, set()
    for lr in (0.045, 0.045 * 0.98, 0.0045):
        before = parallel.parameters()
        parallel.step(RNG.standard_normal((4, 3, 32, 32), dtype=np.float32), np.arange(4, dtype=np.float32), lr)
        after = parallel.parameters()
        for name, parameter in net.collect_params().items():
            if parameter.grad_req == "null":
                continue
            w, gradient = before[name].astype(float), parameter.grad().asnumpy().astype(float)
            kinds.add(name.rsplit("_", 1)[1])
            wd = 0.5 if name.endswith(("_weight", "_gamma")) else 0  # Optimizer.set_wd_mult
            momenta[name] = 0.9 * momenta.get(name, 0) - lr * (gradient / 4 + wd * w)
            np.testing.assert_allclose(after[name], w + momenta[name], rtol=1e-5, atol=1e-6, err_msg=name)
    assert kinds == {"weight", "gamma", "beta", "bias"}


def test_loss_is_that_of_softmax_output():
    """Its gradient is p - y, summed over the batch; Module divides by the batch."""
    _, experiment, _ = parsed("--batch-size", "4", shards=1)
    net = build_network(experiment, CPU, 5, seed=1)
    parallel = build_parallel(experiment, Settings(CPU), net)
    parallel.begin()
    labels = np.array([0, 3, 4, 3], np.float32)
    scores = parallel.step(RNG.standard_normal((4, 3, 32, 32), dtype=np.float32), labels, 0.1).scores
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    np.testing.assert_allclose(net.output.bias.grad().asnumpy(), (p - np.eye(5)[labels.astype(int)]).sum(0), atol=1e-5)


def test_moving_statistics():
    """BatchNorm with eps 1e-5 and momentum 0.9, from mean 0 and variance 1."""
    _, experiment, _ = parsed("--batch-size", "4", shards=1)
    net = build_network(experiment, CPU, 5, seed=1)
    parallel = build_parallel(experiment, Settings(CPU), net)
    parallel.begin()
    data = RNG.standard_normal((4, 3, 32, 32), dtype=np.float32)
    maps = net.features[0](mx.nd.array(data)).asnumpy().astype(float)
    parallel.step(data, np.zeros(4, np.float32), 0.1)
    parallel.end_epoch()
    norm = net.features[1]
    np.testing.assert_allclose(norm.running_mean.data().asnumpy(), 0.1 * maps.mean((0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(norm.running_var.data().asnumpy(), 0.9 + 0.1 * maps.var((0, 2, 3)), rtol=1e-4)
    assert {block._kwargs["eps"] for block in _norms(net)} == {1e-5}


def _norms(block):
    norms = [block] if isinstance(block, mx.gluon.nn.BatchNorm) else []
    return norms + [norm for child in block._children.values() for norm in _norms(child)]
