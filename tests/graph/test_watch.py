"""A single image: computed in the caller's thread, and whatever is written to a network in between is noticed."""

import sys
import threading
from collections import OrderedDict

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import igc_gluon
from igc_gluon.graph import watch
from igc_gluon.native.operators import unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

X = mx.nd.array(np.random.RandomState(0).standard_normal((1, 3, 12, 12)))


@pytest.fixture
def net():
    mx.random.seed(0)
    net = igc_gluon.get_model("cifar_plain_igc5_l2m2", classes=5)
    net.initialize(mx.init.Xavier(magnitude=3))
    net.hybridize(static_alloc=True)
    net.features[0][1].running_mean.set_data(mx.nd.random.normal(0, 0.3, (4,)))
    for _ in range(3):
        net(X).wait_to_read()
    return net


def stock(net, monkeypatch, x=X):
    with monkeypatch.context() as patch:
        patch.setenv("IGC_NATIVE", "0")
        return net(x).asnumpy()


def first_weight(net):
    return net.features[1][0].weight


def by_trainer(net):
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    with mx.autograd.record():
        loss = (net(X) ** 2).sum()
    loss.backward()
    trainer.step(1)


def by_view(net):
    first_weight(net).data()[1:3][:] = 3


def by_reshaped_view(net):
    first_weight(net).data().reshape(-1)[5:9] *= 2


def in_bulk(net):
    with mx.engine.bulk(20):
        first_weight(net).data()[:] = 2
        net(X)
        first_weight(net).data()[:] *= 3


def by_dlpack(net):
    array = first_weight(net).data()
    mx.nd.waitall()
    other = mx.nd.from_dlpack(array.to_dlpack_for_write())
    other[:] = 0.25
    other.wait_to_read()


def with_much_to_do_before(net):
    large = mx.nd.ones((300, 300))
    for _ in range(20):
        large = mx.nd.dot(large, large) / 300
    first_weight(net).data()[:] = large[0, 0]


CHANGES = [
    lambda net: first_weight(net).data().__setitem__(slice(None), 2),
    by_view,
    by_reshaped_view,
    in_bulk,
    by_dlpack,
    lambda net: first_weight(net).set_data(first_weight(net).data() * -1),
    by_trainer,
    with_much_to_do_before,
    lambda net: net.initialize(mx.init.Normal(1), force_reinit=True),
    lambda net: net.features[0][1].running_mean.data().__setitem__(slice(None), 1),
    lambda net: net.features[0][1].running_mean.set_data(mx.nd.ones(net.features[0][1].running_mean.shape)),
    lambda net: first_weight(net)._data.__setitem__(0, first_weight(net).data() * 3),
    lambda net: net.output.bias.data().__setitem__(slice(None), 7),
    lambda net: setattr(net.features[0], "relu", nn.Activation("tanh")),
    lambda net: net.features._children.__setitem__("4", nn.GlobalMaxPool2D()),
    lambda net: net.features[0][1]._kwargs.update(eps=1.0),
]


@pytest.mark.parametrize(
    "change,watched", [(change, True) for change in CHANGES] + [(CHANGES[0], False), (CHANGES[-1], False)]
)
def test_a_change_between_two_single_images_is_noticed(net, change, watched, monkeypatch):
    if not watched:
        monkeypatch.setattr(watch, "works", lambda: False)
        net.hybridize(static_alloc=True)
        net(X).wait_to_read()
    before = net(X).asnumpy()
    change(net)
    scores = net(X).asnumpy()
    assert abs(scores - before).max() > 1e-4
    np.testing.assert_allclose(scores, stock(net, monkeypatch), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(net(X).asnumpy(), scores)


def test_parameters_that_are_loaded(net, tmp_path, monkeypatch):
    other = igc_gluon.get_model("cifar_plain_igc5_l2m2", classes=5)
    other.initialize(mx.init.Normal(0.3))
    expected = other(X).asnumpy()
    other.save_parameters(str(tmp_path / "other.params"))
    net.load_parameters(str(tmp_path / "other.params"))
    np.testing.assert_array_equal(net(X).asnumpy(), expected)


def test_one_image_has_the_bits_that_it_has_in_a_batch_up_to_the_classifier(net):
    maps = net.features(X).asnumpy()
    both = net.features(mx.nd.concat(X, 2 * X, dim=0)).asnumpy()
    np.testing.assert_array_equal(maps[0], both[0])


def test_an_image_that_is_still_being_computed_and_one_in_blocks(net, monkeypatch):
    large = mx.nd.ones((400, 400))
    for _ in range(20):
        large = mx.nd.dot(large, large) / 400
    x = X * large[0, 0]
    np.testing.assert_array_equal(net(x).asnumpy(), net(X).asnumpy())
    conv = nn.Conv2D(3, 3, padding=1, in_channels=3)
    conv.initialize()
    blocked = conv(X)
    np.testing.assert_array_equal(net(blocked).asnumpy(), net(mx.nd.array(blocked.asnumpy())).asnumpy())


def test_several_threads_with_an_image_each(net):
    images = [X * (i + 1) for i in range(4)]
    expected = [net(x).asnumpy() for x in images]
    wrong = []

    def call(i):
        for _ in range(50):
            if (net(images[i]).asnumpy() != expected[i]).any():
                wrong.append(i)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info > (3, 12, 99), reason="of CPython up to 3.12"
)
def test_this_python_can_be_watched():
    assert watch.works()


def test_a_watch_notices_writes_and_nothing_else():
    class Thing:
        pass

    thing, order, held = Thing(), OrderedDict(a=1, b=2), [1, 2]
    changes = [
        lambda: setattr(thing, "x", 1),
        lambda: order.move_to_end("a"),
        lambda: order.update(a=[]),
        lambda: held.append(3),
        lambda: held.__setitem__(0, "other"),
        lambda: setattr(thing, "__class__", Other),
    ]

    class Other(Thing):
        pass

    for change in changes:
        watched = watch.Watch()
        watched.type_of(thing)
        watched.dict(vars(thing))
        watched.dict(order)
        watched.list(held)
        watched.begin()
        assert watched.same() and (list(order), held[0], vars(thing)) and watched.same()
        change()
        assert not watched.same()
