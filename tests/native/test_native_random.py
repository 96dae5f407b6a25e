"""Networks drawn at random compute natively what they compute on MXNet's operators, and go on to when they are changed.

The reference is the same network, changed in the same way, on MXNet's operators in double precision; the kernels may be
as far from it as MXNet's own in single precision.
"""

import mxnet as mx
import numpy as np
import pytest
from random_networks import Drawn, change, containers, values

from igc_gluon.native.operators import unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))


def results(seed, native, dtype, data_seed, monkeypatch):
    """All that can be seen of the network of `seed`: twice, before and after a change."""
    monkeypatch.setenv("IGC_NATIVE", native)
    rng = np.random.RandomState(seed)
    net = Drawn(rng, head=True, prefix="net_")
    x = mx.nd.array(np.random.RandomState(data_seed).standard_normal((3, 3, 9, 10)), dtype=dtype)
    net.initialize()
    with mx.autograd.pause():
        net(x.astype("float32"))  # finds missing sizes out
    values(net, seed)
    net.cast(dtype)
    # MXNet's own graphs would not notice what changes. A layer that is called twice, each time by itself, moves its
    # statistics in the order of the calls, by native operators as README.md says, and in the other one by MXNet's.
    hybridize = native == "1" and (rng.rand() < 0.5 or any(one.reuses() for one in containers(net, Drawn)))
    if hybridize:
        net.hybridize(static_alloc=bool(rng.randint(2)))
    arrays = {f"first {name}": array for name, array in both_passes(net, x).items()}
    calls = change(net, seed)
    arrays.update({f"then {name}": array for name, array in both_passes(net, x).items()})
    if not hybridize:
        arrays["calls of the hook"] = np.array(len(calls))
    return arrays


def both_passes(net, x):
    arrays = {}
    x = x.copy()
    x.attach_grad()
    for name, array in flat(net(x)):
        arrays[f"inference {name}"] = array
    with mx.autograd.record():
        outputs = flat(net(x))
        loss = sum(
            (array * mx.nd.arange(1, array.size + 1, dtype=array.dtype).reshape(array.shape).sin()).sum()
            for _, array in outputs
        )
    loss.backward()
    mx.nd.waitall()
    arrays.update({f"training {name}": array for name, array in outputs})
    arrays["gradient of the data"] = x.grad
    for name, p in net.collect_params().items():
        if p.grad_req != "null":
            arrays[f"gradient of {name}"] = p.grad()
        if "running" in name:
            arrays[name] = p.data()
    return {name: array.asnumpy().astype(np.float64) for name, array in arrays.items()}


def flat(outputs):
    if isinstance(outputs, mx.nd.NDArray):
        return [("", outputs)]
    return [(f"{i}{name}", array) for i, output in enumerate(outputs) for name, array in flat(output)]


def wrong(seed, data_seed, monkeypatch):
    native_results, single = (results(seed, native, "float32", data_seed, monkeypatch) for native in "10")
    double = results(seed, "0", "float64", data_seed, monkeypatch)
    single.pop("calls of the hook") if "calls of the hook" not in native_results else None
    names = double.keys() & native_results.keys()
    assert names >= double.keys() - {"calls of the hook"}
    scale = {name: max(np.linalg.norm(double[name]), 0.1) for name in names}
    errors = [
        {name: np.linalg.norm(one[name] - double[name]) / scale[name] for name in names}
        for one in (native_results, single)
    ]
    worst = max(errors[1].values())
    return {name: error for name, error in errors[0].items() if not error <= max(1e-4, 3 * errors[1][name], worst)}


def check(seed, monkeypatch):
    """An activation next to 0 or 6 may fall on either side of it; it does not for every batch."""
    wrong_names = [wrong(seed, 0, monkeypatch)]
    while wrong_names[-1] and len(wrong_names) < 3:
        wrong_names.append(wrong(seed, len(wrong_names), monkeypatch))
    assert not wrong_names[-1], (seed, wrong_names[-1])


# On some AMD processors MXNet's own gradient of concat divides by zero at 21 and ends the process, with or without us.
@pytest.mark.parametrize("seed", [seed for seed in range(31) if seed != 21])
def test_random_networks(seed, monkeypatch):
    check(seed, monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("first", range(1000, 2000, 50))
def test_a_thousand_random_networks(first, monkeypatch):
    for seed in range(first, first + 50):
        check(seed, monkeypatch)
