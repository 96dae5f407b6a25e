"""The training scripts' schedules of IGCV1 against what the authors' scripts run (train_model.py, train_imagenet.py,
options.py of their repository): initial weights by moments, updates in NumPy, numbers."""

import mxnet as mx
import numpy as np
import pytest

import train_cifar
import train_imagenet
from igc_gluon.engine.experiment import Settings, build_network, build_parallel

CPU = [mx.cpu()]
RNG = np.random.default_rng(0)
SMALL = ["--network", "resnet_igc", "--depth", "8", "--primary-partition", "6", "--secondary-partition", "4"]


def on_cifar(*flags, shards=2):
    return train_cifar.experiment(train_cifar.parse([*SMALL, *flags]), shards)


@pytest.mark.parametrize(
    "dataset, epochs, drops",
    [("cifar10", 400, (200, 300, 350)), ("cifar100", 400, (200, 300, 350)), ("svhn", 40, (20, 30, 35))],
)
def test_numbers(dataset, epochs, drops):
    experiment = on_cifar("--dataset", dataset)
    schedule = experiment.schedule
    assert (schedule.num_epochs, schedule.lr_steps, schedule.lr, schedule.lr_factor) == (epochs, drops, 0.1, 0.1)
    assert (experiment.batch_size, experiment.wd, experiment.momentum, train_cifar.PAPER_GPUS) == (64, 1e-4, 0.9, 2)
    assert (experiment.optimizer, experiment.undecayed, experiment.initializer) == ("nesterov", (), "igcv1")


def test_initial_weights():
    """Convolutions: Init(gaussian, in, 2); what is called fc: Xavier(uniform, in, 1), its bias 0; gamma 1; all other
    arrays 0, the moving variances too."""
    net = build_network(on_cifar(), CPU, 10, seed=0)
    for name, parameter in net.collect_params().items():
        values = parameter.data().asnumpy()
        if not name.endswith("weight"):
            assert (values == name.endswith("gamma")).all(), name
            continue
        fan_in = np.prod(values.shape[1:])
        std = np.sqrt(1 / 3 / fan_in) if "fc" in name else np.sqrt(2 / fan_in)
        assert abs(values.std() / std - 1) < 5 / np.sqrt(2 * values.size), name
        if "fc" in name:
            assert abs(values).max() <= 1 / np.sqrt(fan_in), name
        elif values.size > 1000:
            assert abs(values).max() > 2.5 * std, name


def test_updates():
    """m = 0.9 m + g, w -= lr (g + 0.9 m) with g = gradient / batch + wd w, of weights, gamma, beta and bias alike."""
    experiment = on_cifar("--wd", "0.5", "--batch-size", "6", shards=1)
    net = build_network(experiment, CPU, 10, seed=1)
    parallel = build_parallel(experiment, Settings(CPU), net)
    parallel.begin()
    momenta, kinds = {}, set()
    for lr in (0.1, 0.1, 0.01):
        before = parallel.parameters()
        parallel.step(RNG.standard_normal((6, 3, 16, 16), dtype=np.float32), np.arange(6, dtype=np.float32), lr)
        after = parallel.parameters()
        for name, parameter in net.collect_params().items():
            if parameter.grad_req == "null":
                continue
            kinds.add(name.rsplit("_", 1)[1])
            w = before[name].astype(float)
            g = parameter.grad().asnumpy().astype(float) / 6 + 0.5 * w
            momenta[name] = 0.9 * momenta.get(name, 0) + g
            expected = w - lr * (g + 0.9 * momenta[name])
            np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    assert kinds == {"weight", "gamma", "beta", "bias"}


def test_imagenet():
    """Their README: batch 256 on 8 GPUs, drops every 30 epochs; 95 epochs as in the paper and of the checkpoints."""
    args = train_imagenet.parse(["--schedule", "igcv1"])
    experiment, data = train_imagenet.experiment(args, train_imagenet.paper_gpus(args)), train_imagenet.data(args)
    rates = [experiment.schedule.lr_at(epoch) for epoch in range(95)]
    np.testing.assert_allclose(rates, [0.1 * 0.1 ** (epoch // 30) for epoch in range(95)])
    assert (experiment.batch_size, experiment.batch_shards, experiment.wd, experiment.momentum) == (256, 8, 1e-4, 0.9)
    assert (experiment.optimizer, experiment.undecayed, experiment.initializer, args.augment) == (
        "nesterov",
        (),
        "igcv1",
        "authors",
    )
    assert (data.preprocessing.mean, data.preprocessing.std) == ((123.370, 112.757, 99.406), (68.998, 66.093, 68.292))
