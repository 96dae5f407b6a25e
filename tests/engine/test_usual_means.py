"""Schedules, optimizers, losses, averages, clipping and accumulation against formulas in NumPy."""

import math

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from igc_gluon import get_model
from igc_gluon.engine.dropout import add_dropout, has_dropout
from igc_gluon.engine.loss import Loss, Objective, class_weights
from igc_gluon.engine.optimizer import OPTIMIZERS
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.engine.schedule import schedule_for, with_mode
from igc_gluon.errors import UserError

RNG = np.random.default_rng(0)


# Schedules


@pytest.mark.parametrize("warmup", [0, 2])
@pytest.mark.parametrize(
    "mode, shape",
    [
        ("cosine", lambda share: (1 + math.cos(math.pi * share)) / 2),
        ("linear", lambda share: 1 - share),
        ("poly", lambda share: (1 - share) ** 1.5),
    ],
)
def test_smooth_schedules(mode, shape, warmup):
    batches, epochs, lr, target = 5, 6, 0.4, 0.02
    paper = schedule_for("cifar10", num_epochs=epochs, lr=lr, warmup_epochs=warmup)
    schedule = with_mode(paper, mode, target, 1.5 if mode == "poly" else None)
    rates = [schedule.lr_at(epoch, batch, batches) for epoch in range(epochs) for batch in range(batches)]
    first = warmup * batches
    count = epochs * batches - first
    expected = [lr * (i + 1) / max(first, 1) for i in range(first)]
    expected += [target + (lr - target) * shape(i / (count - 1)) for i in range(count)]
    if warmup:
        expected[first - 1] = lr  # both the warm-up's end and the other's beginning
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert rates[-1] == target and schedule.lr_at(epochs - 1) < lr


@pytest.mark.parametrize(
    "flags, text",
    [
        ({"mode": "cosine", "drops": True}, "--lr-steps is for --lr-mode step"),
        ({"mode": "sine"}, "must be one of step, cosine, linear, poly"),
        ({"mode": "linear", "power": 2.0}, "for --lr-mode poly"),
        ({"mode": "poly", "power": -1.0}, "--power is a positive number"),
        ({"mode": "cosine", "target_lr": 1.0}, "--target-lr must be from 0 to --lr"),
        ({"mode": "step", "target_lr": 0.1}, "--target-lr is for --lr-mode cosine"),
        ({"mode": "step", "power": 2.0}, "for --lr-mode poly"),
    ],
)
def test_schedules_that_make_no_sense(flags, text):
    with pytest.raises(UserError, match=text):
        with_mode(schedule_for("cifar10"), **flags)


def test_a_warm_up_leaves_epochs_for_the_rest():
    with pytest.raises(UserError, match="leaves nothing of 3 epochs"):
        with_mode(schedule_for("cifar10", num_epochs=3, warmup_epochs=3), "cosine")


# Optimizers


def adam(g, w, state, lr, wd, t, decoupled):
    """One update of Adam or AdamW, beta1 0.9, beta2 0.999, epsilon 1e-8."""
    g = g if decoupled else g + wd * w
    state["mean"] = 0.9 * state["mean"] + 0.1 * g
    state["variance"] = 0.999 * state["variance"] + 0.001 * g * g
    rate = lr * math.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return w - rate * state["mean"] / (np.sqrt(state["variance"]) + 1e-8) - (lr * wd * w if decoupled else 0)


def lamb(g, w, state, lr, wd, t):
    """You et al. (ICLR 2020), Algorithm 2."""
    state["mean"] = 0.9 * state["mean"] + 0.1 * g
    state["variance"] = 0.999 * state["variance"] + 0.001 * g * g
    step = state["mean"] / (1 - 0.9**t) / (np.sqrt(state["variance"] / (1 - 0.999**t)) + 1e-6) + wd * w
    return w - lr * np.linalg.norm(w) / np.linalg.norm(step) * step


RULES = {
    "adam": lambda *args: adam(*args, decoupled=False),
    "adamw": lambda *args: adam(*args, decoupled=True),
    "lamb": lamb,
}


class Linear(HybridBlock):
    """(n, 3, 1, 1) -> (n, 4), without BN: its gradient is a mean over images."""

    def __init__(self):
        super().__init__(prefix="")
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(4, 3), init=mx.init.Normal(0.5))
            self.bias = self.params.get("bias", shape=(4,), init=mx.init.Normal(0.5))

    def hybrid_forward(self, F, x, weight, bias):
        return F.FullyConnected(x, weight, bias, num_hidden=4)


def machine(devices=1, optimizer="nesterov", wd=0.0, **means):
    contexts = [mx.cpu(i) for i in range(devices)]
    mx.random.seed(7)
    net = Linear()
    net.initialize(ctx=contexts)
    rule = OPTIMIZERS[optimizer](momentum=0.9, wd=wd)
    made = DataParallel(net, contexts, 2, rule, **means)
    made.begin()
    return made


BATCHES = [(RNG.standard_normal((6, 3, 1, 1)).astype(np.float32), RNG.integers(0, 4, 6)) for _ in range(8)]


def gradients(parameters, data, label):
    """{name: gradient of the mean cross-entropy}, in float64."""
    x = data.reshape(len(data), -1).astype(float)
    scores = x @ parameters["weight"].T.astype(float) + parameters["bias"]
    share = np.exp(scores - scores.max(1, keepdims=True))
    error = (share / share.sum(1, keepdims=True) - np.eye(4)[label]) / len(data)
    return {"weight": error.T @ x, "bias": error.sum(0)}


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("optimizer", sorted(RULES))
def test_update_rules(optimizer, devices):
    parallel = machine(devices, optimizer, wd=0.1)
    w = {name: array.astype(float) for name, array in parallel.parameters().items()}
    states = {name: {"mean": 0 * array, "variance": 0 * array} for name, array in w.items()}
    for t, (data, label) in enumerate(BATCHES, 1):
        lr = 0.1 / t
        g = gradients(w, data, label)
        w = {name: RULES[optimizer](g[name], w[name], states[name], lr, 0.1, t) for name in w}
        parallel.step(data, label, lr)
        for name, array in parallel.parameters().items():
            np.testing.assert_allclose(array, w[name], rtol=2e-4, atol=2e-5, err_msg=f"{name} {t}")
    for name, state in states.items():
        for part, array in state.items():
            np.testing.assert_allclose(parallel.updates.states()[f"{part}:{name}"], array, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_a_resumed_run_has_the_same_bits(optimizer):
    """In the middle of gradients that are being accumulated."""
    means = {"accumulate": 3, "clip_norm": 0.1, "ema": 0.9, "wd": 0.1}
    whole, resumed = machine(1, optimizer, **means), machine(1, optimizer, **means)
    for data, label in BATCHES[:4]:
        whole.step(data, label, 0.1)
    resumed.load_state_dict(whole.state_dict(within_epoch=True))
    for number, (data, label) in enumerate(BATCHES[4:]):
        for parallel in (whole, resumed):
            parallel.step(data, label, 0.1, last=number == 3)
    for file, arrays in whole.state_dict(within_epoch=True).items():
        others = resumed.state_dict(within_epoch=True)[file]
        assert sorted(others) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(others[name], array, err_msg=name)


@pytest.mark.parametrize(
    "name, values",
    [
        ("count:updates", np.zeros(0)),
        ("count:updates", np.array([np.nan])),
        ("sum:images", np.array([1.5, 6])),
        ("sum:weight", None),
        ("mean:weight", None),
        ("variance:bias", np.zeros((2, 2))),
        ("average:updates", np.array([-1.0])),
    ],
)
def test_states_that_are_not_of_this_program_are_one_line(name, values):
    saved = machine(1, "adam", accumulate=2, ema=0.9)
    for data, label in BATCHES[:3]:
        saved.step(data, label, 0.1)
    state = saved.state_dict(within_epoch=True)
    training = state["training.params"]
    assert name in training
    del training[name]
    if values is not None:
        training[name] = values.astype(np.float32)
    with pytest.raises(UserError, match="these parameters are not this network's") as error:
        machine(1, "adam", accumulate=2, ema=0.9).load_state_dict(state)
    assert "\n" not in str(error.value)


# Clipping, accumulation, averages


@pytest.mark.parametrize("devices", [1, 2])
def test_clipping_by_the_norm_of_all_parameters(devices):
    parallel = machine(devices, clip_norm=0.05)
    data, label = BATCHES[0]
    before = {name: array.astype(float) for name, array in parallel.parameters().items()}
    g = gradients(before, data, label)
    norm = math.sqrt(sum((array**2).sum() for array in g.values()))
    assert norm > 0.1
    parallel.step(data, label, 0.1)
    for name, array in parallel.parameters().items():
        clipped = g[name] * 0.05 / norm
        np.testing.assert_allclose(array, before[name] - 0.1 * 1.9 * clipped, rtol=1e-4, atol=1e-6)
    unchanged, same = machine(devices, clip_norm=100.0), machine(devices)
    for other in (unchanged, same):
        other.step(data, label, 0.1)
    for name, array in unchanged.parameters().items():
        np.testing.assert_array_equal(array, same.parameters()[name])


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulated_gradients_are_those_of_one_large_batch(devices):
    """Three batches, and two at the epoch's end."""
    parallel, large = machine(devices, accumulate=3), machine(1)
    before = parallel.parameters()
    for number, (data, label) in enumerate(BATCHES[:5]):
        parallel.step(data, label, 0.1, last=number == 4)
        if number < 2:
            for name, array in parallel.parameters().items():
                np.testing.assert_array_equal(array, before[name])
    for few in (BATCHES[:3], BATCHES[3:5]):
        large.step(np.concatenate([data for data, _ in few]), np.concatenate([label for _, label in few]), 0.1)
    for name, array in large.parameters().items():
        np.testing.assert_allclose(parallel.parameters()[name], array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2])
def test_the_average_of_the_weights(devices):
    parallel = machine(devices, ema=0.5, accumulate=2)
    average = {name: array.astype(float) for name, array in parallel.parameters().items()}
    for t, number in enumerate(range(0, 8, 2), 1):
        for data, label in BATCHES[number : number + 2]:
            parallel.step(data, label, 0.1)
        decay = min(0.5, (1 + t) / (10 + t))
        for name, array in parallel.parameters().items():
            average[name] = decay * average[name] + (1 - decay) * array
    trained = parallel.parameters()
    with parallel.averaged():
        for name, array in parallel.parameters().items():
            np.testing.assert_allclose(array, average[name], rtol=1e-5, atol=1e-6)
        parallel.keep_averaged()
        inside = parallel.state_dict(within_epoch=True)
    state = parallel.state_dict()
    for name, array in parallel.parameters().items():
        np.testing.assert_array_equal(array, trained[name])
        np.testing.assert_array_equal(inside["training.params"][f"trained:{name}"], trained[name])
        np.testing.assert_allclose(state["net.params"][name], average[name], rtol=1e-5, atol=1e-6)


# Losses


SCORES, LABELS = RNG.standard_normal((6, 4)) * 3, RNG.integers(0, 4, 6)
SHARES = RNG.dirichlet(np.ones(4), 6)


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0, 3.0)])
@pytest.mark.parametrize("label", [LABELS, SHARES], ids=["labels", "mixed"])
def test_cross_entropy(label, weights, smoothing):
    target = np.eye(4)[label] if label.ndim == 1 else label
    target = ((1 - smoothing) * target + smoothing / 4) * (1 if weights is None else np.array(weights))
    losses = Loss(Objective(smoothing, weights), [mx.cpu()])(mx.nd.array(SCORES), label.astype(np.float32), None)
    np.testing.assert_allclose(losses.asnumpy(), -(target * log_softmax(SCORES)).sum(axis=1), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("label", [LABELS, SHARES], ids=["labels", "mixed"])
def test_distillation(label, hard_weight):
    """T^2 times the cross-entropy to the teacher's softmax at T, and the usual loss with its smoothing."""
    temperature, theirs = 4.0, RNG.standard_normal((6, 4)) * 3
    teacher = nn.HybridLambda(lambda F, x: F.reshape(x, (0, -1)))
    objective = Objective(0.1, None, teacher, temperature, hard_weight)
    losses = Loss(objective, [mx.cpu()])(
        mx.nd.array(SCORES), label.astype(np.float32), theirs.reshape(6, 4, 1, 1).astype(np.float32)
    )
    target = 0.9 * (np.eye(4)[label] if label.ndim == 1 else label) + 0.1 / 4
    hard = -(target * log_softmax(SCORES)).sum(axis=1)
    soft = -(np.exp(log_softmax(theirs / temperature)) * log_softmax(SCORES / temperature)).sum(axis=1)
    expected = hard_weight * hard + (1 - hard_weight) * temperature**2 * soft
    np.testing.assert_allclose(losses.asnumpy(), expected, rtol=1e-5, atol=2e-5)


class Data:
    name, classes = "data", 3

    def training_labels(self):
        return np.array([0, 0, 0, 1, 2, 2])


def test_class_weights():
    weights = class_weights("balanced", Data())
    np.testing.assert_allclose(weights, [6 / 9, 6 / 3, 6 / 6])
    np.testing.assert_allclose(np.mean([weights[label] for label in Data().training_labels()]), 1)
    assert class_weights(None, Data()) is None and class_weights((1, 2, 3), Data()) == (1, 2, 3)
    with pytest.raises(UserError, match="gives 2 numbers, data has 3 classes"):
        class_weights((1, 2), Data())
    Data.classes = 4
    with pytest.raises(UserError, match="no image of class 3"):
        class_weights("balanced", Data())


# Dropout


def test_dropout_draws_by_the_place_in_the_run_and_the_shard():
    """Half of the features are 0 and the others twice as large; the same on two devices as on one."""
    scores_on = {}
    for devices in (1, 2):
        contexts = [mx.cpu(i) for i in range(devices)]
        mx.random.seed(3)
        net = get_model("cifar_plain5_w4", classes=16)
        names = sorted(net.collect_params())
        add_dropout(net, 0.5)
        assert sorted(net.collect_params()) == names and has_dropout(net)
        net.initialize(ctx=contexts)
        net.output.weight.set_data(mx.nd.eye(16))  # scores are features
        net.hybridize()
        parallel = DataParallel(net, contexts, 2, OPTIMIZERS["nesterov"](), seed=1)
        data, label = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32), np.arange(8.0)

        def scores(*place):
            return np.concatenate([o.asnumpy() for o in parallel.replicas.forward(data, label, place)[0]])

        scores_on[devices] = scores(0, 0)
        np.testing.assert_array_equal(scores(0, 0), scores_on[devices])
        assert (scores(0, 1) != scores_on[devices]).mean() > 0.3
        net.features._children[str(len(net.features) - 1)]._rate = 0
        net.hybridize()
    dropped = scores_on[1] == 0
    assert 0.35 < dropped.mean() < 0.65 and (dropped[:4] != dropped[4:]).any()
    np.testing.assert_allclose(scores_on[2], scores_on[1], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores_on[1][~dropped], 2 * scores(0, 0)[~dropped], rtol=1e-3, atol=1e-4)


def test_dropout_needs_a_place():
    with pytest.raises(UserError, match="needs a network with `features`"):
        add_dropout(Linear(), 0.5)
