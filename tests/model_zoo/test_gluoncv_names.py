"""Our networks through GluonCV's get_model, trained by a loop as its scripts have it."""

import gluoncv
import mxnet as mx
import numpy as np
import pytest
from gluoncv.data import transforms as gluoncv_transforms
from mxnet import autograd, gluon
from mxnet.gluon.data.vision import transforms

import igc_gluon


@pytest.fixture(autouse=True)
def registered():
    igc_gluon.register_with_gluoncv()
    igc_gluon.register_with_gluoncv()


@pytest.mark.parametrize("name", ["cifar_plain_igc20_l24m2", "CIFAR_plain_igc11_l4m8", "cifar_igcv2_8_c48"])
def test_a_name_makes_the_same_network(name):
    """Those of the tables, others of a family, in any case."""
    nets = [get(name, classes=7) for get in (gluoncv.model_zoo.get_model, igc_gluon.get_model)]
    images, outputs = mx.nd.random.uniform(shape=(2, 3, 32, 32)), []
    for net in nets:
        mx.random.seed(0)
        net.initialize(mx.init.Xavier())
        outputs.append(net(images).asnumpy())
    assert outputs[0].shape == (2, 7)
    np.testing.assert_array_equal(*outputs)


def test_gluoncv_keeps_its_own():
    names = set(gluoncv.model_zoo.get_model_list())
    assert set(igc_gluon.get_model_list()) < names and "resnet50_v1b" in names
    assert type(gluoncv.model_zoo.get_model("cifar_resnet20_v1", classes=10)).__module__.startswith("gluoncv.")
    with pytest.raises(ValueError, match="not among the following model list"):
        gluoncv.model_zoo.get_model("no_such_network")


def test_weights_that_come_with_the_package():
    net = gluoncv.model_zoo.get_model("cifar_plain_igc8_l24m2", pretrained="fashion-mnist", ctx=mx.cpu())
    assert net.classes[0] == "T-shirt/top"


def test_it_trains_as_gluoncv_trains():
    """GluonCV's transforms, MXNet's DataLoader with forked workers, Trainer and metric: three classes of one color each
    are learned."""
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    images = np.clip(rng.normal(80, 25, (48, 32, 32, 3)) + 120 * np.eye(3)[labels][:, None, None], 0, 255).astype(
        np.uint8
    )
    data = gluon.data.ArrayDataset([mx.nd.array(image, dtype="uint8") for image in images], labels.astype(np.float32))
    transform = transforms.Compose(
        [
            gluoncv_transforms.RandomCrop(32, pad=4),
            transforms.RandomFlipLeftRight(),
            transforms.ToTensor(),
            transforms.Normalize([0.4, 0.4, 0.4], [0.2, 0.2, 0.2]),
        ]
    )
    np.random.seed(0)
    mx.random.seed(0)
    net = gluoncv.model_zoo.get_model("cifar_plain_igc5_l2m3", classes=3)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    loader = gluon.data.DataLoader(data.transform_first(transform), 16, shuffle=True, num_workers=2)
    trainer = gluon.Trainer(net.collect_params(), "nag", {"learning_rate": 0.1, "wd": 1e-4, "momentum": 0.9})
    loss_function = gluon.loss.SoftmaxCrossEntropyLoss()
    for _ in range(6):
        metric = mx.metric.Accuracy()
        for pair in loader:  # the workers' memory is shared, from which split_and_load copies
            batch, label = (gluon.utils.split_and_load(array, [mx.cpu()])[0] for array in pair)
            with autograd.record():
                outputs = net(batch)
                loss = loss_function(outputs, label)
            loss.backward()
            trainer.step(len(batch))
            metric.update(label, outputs)
    assert metric.get()[1] > 0.9
