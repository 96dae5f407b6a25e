import os

import mxnet as mx
import numpy as np
import pytest

from igc_gluon import get_model
from igc_gluon.engine import devices
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.engine.parallel import DataParallel
from igc_gluon.errors import UserError
from igc_gluon.nn import initialize_as_authors

RNG = np.random.RandomState(0)
DATA = RNG.standard_normal((4, 16, 3, 32, 32)).astype("float32")
LABEL = RNG.randint(0, 10, (4, 16)).astype("float32")


def train(number, shards, kv_store="device", model="cifar_resnet_igc8_l3m2"):
    mx.random.seed(3)
    where = [mx.cpu(i) for i in range(number)]
    net = get_model(model)
    initialize_as_authors(net, where)
    net.hybridize(static_alloc=True)
    parallel = DataParallel(net, where, shards, AuthorsNesterov(wd=1e-4), kv_store=kv_store)
    for data, label in zip(DATA, LABEL):
        parallel.step(data, label, lr=0.05)
    parallel.end_epoch()
    return parallel


def distance(actual, expected):
    """Of two arrays, relative to the larger of 1 and their size: rounding grows with every step, in small arrays
    too."""
    return np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1)


@pytest.fixture(scope="module")
def one_device():
    return train(1, 4)


@pytest.mark.parametrize("number,kv_store", [(2, "device"), (4, "device"), (2, "local")])
def test_n_devices_give_the_weights_of_one(one_device, number, kv_store):
    several = train(number, 4, kv_store)
    expected, arrays = one_device.parameters(), several.parameters()
    for name, value in expected.items():
        assert distance(arrays[name], value) < 2e-4, name
    for name, state in one_device.updates.states().items():
        assert distance(several.updates.states()[name], state) < 2e-3, name
    for parameter in several.net.collect_params().values():  # and the devices agree to the bit
        copies = [array.asnumpy() for array in parameter.list_data()]
        assert all((copy == copies[0]).all() for copy in copies)
    np.testing.assert_allclose(several.predict(DATA[0]), one_device.predict(DATA[0]), rtol=1e-2, atol=1e-3)


def test_the_same_run_gives_the_same_bits(one_device):
    again = train(1, 4).parameters()
    assert all((again[name] == value).all() for name, value in one_device.parameters().items())


def test_shards_matter():
    """The number of shards is part of the experiment: BN over 4 images is not BN over 16."""
    whole, cut = train(1, 1).parameters(), train(1, 4).parameters()
    assert max(abs(whole[name] - cut[name]).max() for name in whole) > 1e-3


@pytest.mark.parametrize(
    "usual, batch, number",
    [
        (2, 64, 2),
        (2, 128, 2),
        (2, 256, 2),
        (8, 256, 8),
        (8, 128, 8),
        (4, 96, 4),
        (2, 32, 2),  # as the papers', or larger
        (2, 31, 1),
        (2, 16, 1),
        (8, 16, 1),
        (8, 4, 1),
        (2, 1, 1),
        (8, 48, 3),
        (8, 64, 4),
    ],
)
def test_shards_of_small_batches_are_fewer(usual, batch, number):
    assert devices.usual_shards(usual, batch) == number
    assert devices.usual_shards(usual, batch, 2) == max(number, min(usual, 2))


def test_a_batch_of_16_is_normalized_whole():
    mx.random.seed(0)
    net = get_model("cifar_plain5_w2")
    initialize_as_authors(net, [mx.cpu()])
    activations = net.features[0][0](mx.nd.array(DATA[0])).asnumpy().astype("float64")
    parallel = DataParallel(net, [mx.cpu()], devices.usual_shards(8, 16), AuthorsNesterov())
    parallel.step(DATA[0], LABEL[0], lr=0.1)
    parallel.end_epoch()
    variance = parallel.parameters()["g0_bn_running_var"]
    np.testing.assert_allclose(variance, 0.01 * activations.var(axis=(0, 2, 3)), rtol=1e-3)


def test_each_shard_is_normalized_by_itself():
    """Moving statistics after one step: momentum times the start (0) plus the mean over the shards' own."""
    mx.random.seed(0)
    net = get_model("cifar_plain8_w4")
    initialize_as_authors(net, [mx.cpu()])
    stem = net.features[0][0]
    activations = stem(mx.nd.array(DATA[0])).asnumpy().astype("float64")
    parallel = DataParallel(net, [mx.cpu()], 4, AuthorsNesterov())
    parallel.step(DATA[0], LABEL[0], lr=0.1)
    parallel.end_epoch()
    shards = activations.reshape(4, 4, *activations.shape[1:])
    arrays = parallel.parameters()
    np.testing.assert_allclose(
        arrays["g0_bn_running_mean"], 0.01 * shards.mean(axis=(0, 1, 3, 4)), rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(arrays["g0_bn_running_var"], 0.01 * shards.var(axis=(1, 3, 4)).mean(axis=0), rtol=1e-3)


def test_a_loss_that_is_not_finite_leaves_the_weights():
    parallel = train(1, 2)
    parallel.net.collect_params()["fc_bias"].set_data(mx.nd.full((10,), np.nan))
    before = {
        name: p.copy() for name, p in parallel.parameters().items() if name != "fc_bias" and "running" not in name
    }
    assert not np.isfinite(parallel.step(DATA[0], LABEL[0], lr=0.1).loss)
    after = parallel.parameters()
    assert all((after[name] == value).all() for name, value in before.items())


@pytest.mark.parametrize("number", [1, 2, 4])
def test_statistics_of_shards_pass_to_another_number_of_devices(number):
    before = train(2, 4)
    before.step(DATA[0], LABEL[0], lr=0.05)  # in the middle of an epoch the shards differ
    state = before.state_dict(within_epoch=True)
    after = train(number, 4)
    after.load_state_dict(state)
    shards = [name for name in state["training.params"] if name.startswith("shard:")]
    assert len(shards) == 4 * sum("running" in name for name in state["net.params"])
    for file, arrays in after.state_dict(within_epoch=True).items():
        assert arrays.keys() == state[file].keys()
        for name, value in arrays.items():
            if "running" not in name or name in shards:  # of the network's own, those of one of the shards
                np.testing.assert_array_equal(value, state[file][name], err_msg=name)
    for parallel in (before, after):
        parallel.end_epoch()
    for name, value in before.parameters().items():
        if "running" in name:
            np.testing.assert_array_equal(after.parameters()[name], value)


def test_uneven_batches():
    parallel = train(2, 2)
    np.testing.assert_allclose(parallel.predict(DATA[0][:5]), parallel.predict(DATA[0])[:5], rtol=1e-4, atol=1e-5)
    assert parallel.predict(DATA[0][:1]).shape == (1, 10)
    result = parallel.step(DATA[0][:7], LABEL[0][:7], lr=0.0)
    assert result.scores.shape == (7, 10) and np.isfinite(result.loss)


@pytest.mark.parametrize(
    "call,text",
    [
        (lambda: devices.contexts("0"), "without CUDA|no GPU 0"),
        (lambda: devices.contexts("a,b"), "wants numbers"),
        (lambda: devices.contexts("0,0"), "different"),
        (lambda: devices.contexts("-1"), "from 0 on"),
        (lambda: devices.contexts(None, 0), "--cpus"),
        (lambda: devices.check_kv_store("fast", [mx.cpu()]), "device, local, nccl"),
        (lambda: devices.check_kv_store("nccl", [mx.cpu()]), "needs GPUs"),
        (lambda: devices.shards_for([mx.cpu()], 0, 64), "at least 1"),
        (lambda: devices.shards_for([mx.cpu(0), mx.cpu(1)], 3, 3), "cannot be cut into 4"),
    ],
)
def test_bad_devices(call, text):
    with pytest.raises(UserError, match=text):
        call()


def test_gpus_that_are_there(monkeypatch):
    """The path of a GPU machine, without one: what MXNet says is replaced."""
    monkeypatch.setattr(mx.runtime.Features, "is_enabled", lambda self, name: True)
    monkeypatch.setattr(mx.context, "num_gpus", lambda: 2)
    assert devices.contexts("0,1") == [mx.gpu(0), mx.gpu(1)]
    with pytest.raises(UserError, match="there is no GPU 2; this machine has 2, numbered from 0 to 1"):
        devices.contexts("1,2")


def test_shards_follow_the_devices():
    four = [mx.cpu(i) for i in range(4)]
    assert devices.shards_for(four[:1], 2, 64) == 2
    assert devices.shards_for(four[:2], 2, 64) == 2
    assert devices.shards_for(four, 2, 64) == 4
    assert devices.shards_for(four[:3], 4, 64) == 6


def test_determinism(monkeypatch):
    for name in ("MXNET_ENFORCE_DETERMINISM", "MXNET_CUDNN_AUTOTUNE_DEFAULT"):
        monkeypatch.setenv(name, "before")
    devices.choose_deterministic_operators(None, [mx.gpu(0)], "device")
    devices.choose_deterministic_operators(0, [mx.cpu()], "device")
    assert os.environ["MXNET_ENFORCE_DETERMINISM"] == "before"
    for wanted, device in ((1, mx.gpu(0)), (None, mx.cpu())):
        os.environ["MXNET_ENFORCE_DETERMINISM"] = "before"
        devices.choose_deterministic_operators(wanted, [device], "device")
        assert os.environ["MXNET_ENFORCE_DETERMINISM"] == "1"
    with pytest.raises(UserError, match="which worker is first"):
        devices.choose_deterministic_operators(1, [mx.cpu()], "dist_async")
