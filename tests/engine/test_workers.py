"""Workers and servers, as far as one process shows them; tests/launch has whole runs."""

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from igc_gluon.data.sharding import shard
from igc_gluon.engine import devices, workers
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.engine.server import STATE, WEIGHTS, AsynchronousRule
from igc_gluon.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 300))
def test_a_part_of_a_part_is_cut_where_the_whole_is(count, each, more):
    """Shards are cut at the same places, however many workers have them."""
    shards = count * each
    total = shards + more
    cuts = [shard(total, number, shards) for number in range(shards)]
    assert [cuts[0].start, cuts[-1].stop] == [0, total] and all(a.stop == b.start for a, b in zip(cuts, cuts[1:]))
    for rank in range(count):
        mine = shard(shards, rank, count)
        assert len(mine) == each
        assert shard(total, rank, count) == range(cuts[mine[0]].start, cuts[mine[-1]].stop)


def test_what_a_server_does_in_dist_async():
    rng = np.random.RandomState(0)
    weights, gradients = rng.standard_normal(7).astype("float32"), rng.standard_normal((3, 7)).astype("float32")
    rule, stored, state = AsynchronousRule(2), mx.nd.array(weights), mx.nd.array(rng.standard_normal(7))
    expected, momentum = weights.astype("float64"), state.asnumpy().astype("float64")
    rule.handle_command({"optimizer": {"momentum": 0.9, "wd": 0.01, "lr": 0.1}})
    kept = mx.nd.zeros(7)
    rule(STATE, state, kept)
    for lr, gradient in zip((0.1, 0.1, 0.01), gradients):
        rule.handle_command({"lr": lr})
        rule(WEIGHTS, mx.nd.array(gradient), stored)
        gradient = gradient + 0.01 * expected
        momentum = 0.9 * momentum + gradient
        expected = expected - lr * (gradient + 0.9 * momentum)
    np.testing.assert_allclose(stored.asnumpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(kept.asnumpy(), momentum, rtol=1e-5, atol=1e-6)  # what a pull would read


def test_sums_in_dist_async_begin_anew_with_every_round():
    rule, stored = AsynchronousRule(3), mx.nd.zeros(2)
    for pushes in ((1, 2, 3), (10, 20, 30)):
        for push in pushes:
            rule(5, mx.nd.full(2, push), stored)
        assert stored.asnumpy().tolist() == [sum(pushes)] * 2


def test_a_launcher_may_start_every_role_with_the_training_command():
    """MXNet's import would otherwise become its own server, which unpickles what it is sent."""
    env = {
        **os.environ,
        "DMLC_ROLE": "scheduler",
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": "0",
        "DMLC_NUM_WORKER": "1",
        "DMLC_NUM_SERVER": "1",
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen([sys.executable, "train_cifar.py"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    try:
        word, port = process.stdout.readline().split()
        assert word == "port" and 1023 < int(port) < 65536
    finally:
        process.kill()
        process.communicate()


def test_workers_tell_that_they_do_not_hang(monkeypatch):
    begun = []
    monkeypatch.setattr(workers.heartbeat, "begin", lambda: begun.append(True))
    workers.connect("device")
    assert begun


def test_waiting_for_the_others_has_an_end():
    """No scheduler is there; MXNet would ask for it for ever."""
    env = {
        **os.environ,
        "DMLC_ROLE": "worker",
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": "9",
        "DMLC_NUM_WORKER": "1",
        "DMLC_NUM_SERVER": "1",
        "DMLC_NODE_HOST": "127.0.0.1",
    }
    script = "from igc_gluon.engine import workers; workers.CONNECT_SECONDS = 1; workers.connect('dist_sync')"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "error: the servers and workers of this run have not come together within 1 s" in done.stderr


@pytest.mark.parametrize(
    "call,text",
    [
        (lambda: workers.connect("dist_sync"), "start it with igc launch -n WORKERS -s SERVERS -- python"),
        (lambda: workers.connect("dist_async"), "start it with igc launch"),
        (lambda: devices.check_kv_store("dist_sync", [mx.cpu()], "2bit"), "--gc-type 2bit: MXNet compresses"),
        (lambda: devices.check_kv_store("device", [mx.cpu()], "2bit"), "between several devices"),
        (lambda: devices.check_kv_store("local", [mx.cpu(0), mx.cpu(1)], "2bit"), "with --kv-store device"),
        (lambda: devices.check_kv_store("device", [mx.cpu(0), mx.cpu(1)], "1bit"), "none, 2bit"),
    ],
)
def test_what_cannot_be(call, text, monkeypatch):
    for name in workers.variables.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=text):
        call()


def test_horovod_is_imported_only_when_asked_for(monkeypatch):
    assert "horovod" not in sys.modules
    monkeypatch.setitem(sys.modules, "horovod", None)  # as where it is not installed
    monkeypatch.setitem(sys.modules, "horovod.mxnet", None)
    with pytest.raises(UserError, match="--kv-store horovod needs Horovod with MXNet"):
        workers.connect("horovod")


def test_shards_follow_devices_and_workers():
    two = [mx.cpu(0), mx.cpu(1)]
    assert devices.shards_for(two, 12, 64, workers=3) == 12
    assert devices.shards_for(two, 2, 64, workers=3) == 6


def gradient_of_two_devices(compression):
    """What two devices make of gradients 0.3 and 0.1 of one weight."""
    net = mx.gluon.nn.Dense(1, use_bias=False, in_units=1)
    where = [mx.cpu(0), mx.cpu(1)]
    net.initialize(mx.init.Zero(), ctx=where)
    parallel = DataParallel(net, where, 2, AuthorsNesterov(momentum=0), compression=compression)
    parameter = net.weight
    with mx.autograd.record():
        losses = [factor * net(mx.nd.ones((1, 1), ctx=d)) for factor, d in zip((0.3, 0.1), where)]
    mx.autograd.backward(losses)
    parallel.updates.trainer.set_learning_rate(1)
    parallel.updates.trainer.step(1)
    return -parameter.data(where[0]).asscalar()


def test_gradients_of_two_bits():
    """Each becomes -threshold, 0 or threshold before they are added up; the rest waits for later steps."""
    assert gradient_of_two_devices(None) == pytest.approx(0.4)
    assert gradient_of_two_devices(0.2) == pytest.approx(0.2)
    assert gradient_of_two_devices(0.5) == 0
