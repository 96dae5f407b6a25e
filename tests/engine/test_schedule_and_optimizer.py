import mxnet as mx
import numpy as np
import pytest

from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.engine.schedule import LEAST, Schedule, schedule_for, with_mode
from igc_gluon.errors import UserError


@pytest.mark.parametrize(
    "dataset,epochs,drops",
    [("cifar10", 400, (200, 300, 350)), ("cifar100", 400, (200, 300, 350)), ("svhn", 40, (20, 30, 35))],
)
def test_the_papers_schedules(dataset, epochs, drops):
    schedule = schedule_for(dataset)
    assert (schedule.num_epochs, schedule.lr, schedule.lr_steps) == (epochs, 0.1, drops)
    rates = [schedule.lr_at(epoch) for epoch in range(epochs)]
    assert rates[0] == rates[drops[0] - 1] == 0.1
    for i, drop in enumerate(drops):
        np.testing.assert_allclose(rates[drop], 0.1 * 0.1 ** (i + 1))
    np.testing.assert_allclose(rates[-1], 1e-4)


def test_a_shorter_run_scales_the_drops():
    assert schedule_for("cifar10", num_epochs=16).lr_steps == (8, 12, 14)
    assert schedule_for("cifar10", num_epochs=16, lr_steps=(3, 5)).lr_steps == (3, 5)


@pytest.mark.parametrize(
    "flags,text",
    [
        ({"num_epochs": 0}, "num-epochs"),
        ({"lr": -1}, "--lr "),
        ({"lr": float("nan")}, "--lr "),
        ({"lr": 1e300}, "--lr must be a number from 1e-18 to 1e"),
        ({"lr": 1e-300}, "--lr must be a number from 1e-18 to 1e"),
        ({"lr_factor": 1e300}, "lr-factor"),
        ({"lr_factor": 1e30, "lr_steps": range(20)}, "lower one of them"),
        ({"lr_factor": 0}, "lr-factor"),
        ({"lr_steps": (5, 3)}, "ascending"),
        ({"lr_steps": (-5, 3)}, "ascending"),
    ],
)
def test_bad_schedules(flags, text):
    with pytest.raises(UserError, match=text):
        schedule_for("cifar10", **flags)


@pytest.mark.parametrize("flags", [{"lr_factor": 1e-30, "lr_steps": (1,)}, {"mode": "poly", "power": 90.0}])
def test_a_rate_too_small_for_mxnet_is_0(flags):
    """Its operators end the run at 1e-38, after hours perhaps."""
    flags = dict(flags)
    mode, power = flags.pop("mode", "step"), flags.pop("power", None)
    schedule = with_mode(schedule_for("digits", 3, 0.1, **flags), mode, power=power)
    rates = [schedule.lr_at(epoch, batch, 20) for epoch in range(3) for batch in range(20)]
    assert rates[0] == 0.1 and rates[-1] == 0 and all(a >= b for a, b in zip(rates, rates[1:]))
    weight, gradient, momentum = mx.nd.ones(3), mx.nd.ones(3), mx.nd.zeros(3)
    for lr in rates:
        mx.nd.sgd_mom_update(weight, gradient, momentum, lr=lr * LEAST, momentum=LEAST)
    with pytest.raises(mx.MXNetError, match="Out of range"):
        mx.nd.sgd_mom_update(weight, gradient, momentum, lr=1e-38)


def test_warm_up_and_decay():
    schedule = Schedule(8, 0.4, 0.1, (6,), lr_decay=0.5, warmup_epochs=2)
    np.testing.assert_allclose([schedule.lr_at(0, batch, 4) for batch in range(4)], [0.05, 0.1, 0.15, 0.2])
    np.testing.assert_allclose(schedule.lr_at(1, 3, 4), 0.2)  # the warm-up's end, after one decay
    np.testing.assert_allclose([schedule.lr_at(epoch) for epoch in (2, 3, 5, 6)], [0.1, 0.05, 0.0125, 0.000625])


def test_update_rule():
    """Against the authors' rule in float64, over a drop of the rate, with weight decay."""
    rng = np.random.RandomState(0)
    w = rng.standard_normal((5, 7))
    weight, m, batch, wd, momentum = mx.nd.array(w), np.zeros_like(w), 8, 1e-2, 0.9
    optimizer = AuthorsNesterov(momentum=momentum, wd=wd, rescale_grad=1 / batch)
    state = optimizer.create_state(0, weight)
    for lr in (0.1, 0.1, 0.01, 0.01, 0.001):
        gradient = rng.standard_normal(w.shape)
        optimizer.set_learning_rate(lr)
        optimizer.update(0, weight, mx.nd.array(gradient), state)
        g = gradient / batch + wd * w
        m = momentum * m + g
        w = w - lr * (g + momentum * m)
        np.testing.assert_allclose(weight.asnumpy(), w, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(state.asnumpy(), m, rtol=1e-5, atol=1e-6)


def test_it_parts_from_nag_after_a_drop():
    """The reason for an own optimizer: MXNet's nag keeps the rate inside the momentum."""
    results = []
    for optimizer in (AuthorsNesterov(momentum=0.9), mx.optimizer.NAG(momentum=0.9)):
        weight = mx.nd.ones((3,))
        state = optimizer.create_state(0, weight)
        values = []
        for lr in (0.1, 0.1, 0.01):
            optimizer.set_learning_rate(lr)
            optimizer.update(0, weight, mx.nd.ones((3,)), state)
            values.append(float(weight[0].asscalar()))
        results.append(values)
    np.testing.assert_allclose(results[0][:2], results[1][:2], rtol=1e-5)
    assert abs(results[0][2] - results[1][2]) > 0.1
