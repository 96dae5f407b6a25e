"""Statistics of batch normalization that are taken anew, against plain operators and sums in NumPy."""

import json
import math

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from igc_gluon.data import DATASETS
from igc_gluon.engine import statistics
from igc_gluon.engine.checkpoint import CheckpointStore
from igc_gluon.engine.experiment import Experiment, Settings, build_network, build_parallel
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.engine.schedule import PAPER, schedule_for
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import cifar_model

RNG = np.random.default_rng(0)
BATCHES = [(RNG.standard_normal((8, 3, 12, 12), dtype=np.float32), np.zeros(8, np.float32)) for _ in range(3)]
EPSILON, MOMENTUM = 2e-5, 0.99


def machine(devices, shards=2):
    experiment = Experiment(cifar_model("plain", 5, 4, 1), "digits", schedule_for("digits"), batch_shards=shards)
    net = build_network(experiment, devices, 10, seed=0)
    parallel = build_parallel(experiment, Settings(devices), net)
    parallel.begin()
    return parallel


def of_batch(net, images):
    """[(mean, variance)] of every BN of a network of plain layers, by MXNet's convolution and NumPy in float64."""
    statistics, values = [], images
    for layer in list(net.features._children.values())[:-2]:
        weight = layer.conv.weight.data()
        kwargs = layer.conv._kwargs
        made = mx.nd.Convolution(mx.nd.array(values), weight, **{**kwargs, "no_bias": True}).asnumpy().astype(float)
        mean, variance = made.mean((0, 2, 3)), made.var((0, 2, 3))
        statistics.append((mean, variance))
        gamma, beta = (p.data().asnumpy()[:, None, None] for p in (layer.bn.gamma, layer.bn.beta))
        normal = (made - mean[:, None, None]) / np.sqrt(variance[:, None, None] + EPSILON)
        values = np.maximum(gamma * normal + beta, 0).astype(np.float32)
    return statistics


@pytest.mark.parametrize("devices", [1, 2])
def test_they_are_the_average_over_the_batches_with_the_weights_as_they_are(devices):
    parallel = machine([mx.cpu(i) for i in range(devices)])
    for data, label in BATCHES:  # leaves other weights and statistics behind
        parallel.step(data, label, 0.1)
    weights = parallel.parameters()
    parallel.take_statistics(BATCHES)
    shares = np.array([(1 - MOMENTUM) * MOMENTUM ** (2 - i) for i in range(3)]) / (1 - MOMENTUM**3)
    expected = None
    for share, (data, _) in zip(shares, BATCHES):
        for half in (data[:4], data[4:]):
            of_share = [[share / 2 * v for v in pair] for pair in of_batch(parallel.net, half)]
            expected = (
                of_share if expected is None else [[a + b for a, b in zip(*two)] for two in zip(expected, of_share)]
            )
    layers = list(parallel.net.features._children.values())[:-2]
    assert len(layers) == len(expected) == 4
    for layer, (mean, variance) in zip(layers, expected):
        for device in parallel.replicas.devices:
            np.testing.assert_allclose(layer.bn.running_mean.data(device).asnumpy(), mean, rtol=2e-4, atol=2e-5)
            np.testing.assert_allclose(layer.bn.running_var.data(device).asnumpy(), variance, rtol=2e-4, atol=2e-5)
    for name, array in parallel.parameters().items():
        if "running" not in name:
            np.testing.assert_array_equal(array, weights[name])


def test_without_the_values_that_they_began_with():
    """After two batches of a mean m and variance v each, on the same weights, they are those of the batches, whether
    variances began at 0 or at 1."""
    for variance in (0.0, 1.0):
        net = nn.HybridSequential()
        net.add(nn.BatchNorm(in_channels=3, momentum=0.9))
        net.initialize()
        net[0].running_var.set_data(mx.nd.full(3, variance))
        images = mx.nd.array(BATCHES[0][0])
        for _ in range(2):
            with mx.autograd.record():
                scores = net(images)
            scores.backward()  # MXNet moves the averages then
        mx.nd.waitall()
        statistics.without_initial_values(net, 2, variance)
        expected = BATCHES[0][0].astype(float)
        np.testing.assert_allclose(net[0].running_mean.data().asnumpy(), expected.mean((0, 2, 3)), atol=1e-6)
        np.testing.assert_allclose(net[0].running_var.data().asnumpy(), expected.var((0, 2, 3)), rtol=1e-3)


def test_a_checkpoint_of_the_first_epoch_is_evaluated_without_its_initial_values(tmp_path, caplog):
    parallel = machine([mx.cpu()])
    for data, label in BATCHES:
        parallel.step(data, label, 0.1)
    arrays = parallel.state_dict(within_epoch=True)
    CheckpointStore(tmp_path / "checkpoints").save(0, 3, arrays, {}, best=False)
    config = {"model": "cifar_plain5_w4", "dataset": "digits", "classes": 10, "schedule": {"num_epochs": 1}}
    (tmp_path / "config.json").write_text(json.dumps({**config, "bn_statistics": "auto"}))
    net = open_network(tmp_path)
    assert "is of the first epoch" in caplog.text
    for name, parameter in net.collect_params().items():
        left = MOMENTUM**3 if "running" in name else 0
        np.testing.assert_allclose(
            parameter.data().asnumpy(), arrays["net.params"][name] / (1 - left), rtol=1e-5, err_msg=name
        )
    for forged in ("none", ["igcv1"]):
        (tmp_path / "config.json").write_text(json.dumps({**config, "bn_statistics": "auto", "initializer": forged}))
        with pytest.raises(UserError, match="is damaged"):
            open_network(tmp_path)
    caplog.clear()
    (tmp_path / "config.json").write_text(json.dumps({**config, "bn_statistics": "moving"}))
    net = open_network(tmp_path)
    assert not caplog.text
    for name, parameter in net.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), arrays["net.params"][name])


def test_a_stop_leaves_them_as_they_were():
    parallel = machine([mx.cpu()])
    parallel.step(*BATCHES[0], 0.1)
    parallel.end_epoch()
    before, asked = parallel.parameters(), []
    parallel.take_statistics(BATCHES, lambda: asked.append(0) or len(asked) > 1)
    assert len(asked) == 2
    for name, array in parallel.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_layers_that_keep_their_statistics():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3, use_global_stats=True), nn.BatchNorm(in_channels=3, momentum=1), nn.Dense(2))
    assert statistics.moving_norms(net) == [] and statistics.batches_needed(net) == 0


def test_how_many_batches_a_moving_average_needs():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3, momentum=0.9))
    assert statistics.batches_needed(net) == 66 and 0.9**66 < 1e-3 < 0.9**65
    net.add(nn.BatchNorm(in_channels=3, momentum=0.99))
    assert statistics.batches_needed(net) == 688 and 0.99**688 < 1e-3 < 0.99**687
    assert "before each evaluation" in statistics.remark(net, 23, 8)
    assert "first 29 epochs" in statistics.remark(net, 23, 40)  # 29 * 23 = 667
    assert statistics.remark(net, 688, 8) is None


def test_the_papers_runs_are_as_ever():
    """On CIFAR, SVHN, Tiny ImageNet and ImageNet the first epoch has enough batches for every network."""
    nets = [cifar_model(name, 8, 4, 8).build(10) for name in ("plain", "plain_igc", "resnet_igc", "sumfusion")]
    for dataset in ("cifar10", "cifar100", "svhn", "tiny-imagenet"):
        batches = math.ceil(DATASETS[dataset].train_size / 64)
        for net in nets:
            assert statistics.remark(net, batches, PAPER[dataset][0]) is None, dataset
