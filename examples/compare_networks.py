"""Trains a network of regular convolutions and one of IGC blocks on the handwritten digits that come with the package,
with Gluon's own Trainer, and compares them: about half a minute.

    python examples/compare_networks.py --epochs 10
"""

import argparse
import time

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import igc_gluon
from igc_gluon import complexity
from igc_gluon.data import DATASETS, load

NETWORKS = ("cifar_plain8_w16", "cifar_plain_igc8_l24m2")
BATCH = 32


def split(name):
    """What a network takes, float32 (N, 3, 32, 32), and labels 0..9, of "train" or "test"."""
    images, labels = load("digits", name)
    return DATASETS["digits"].preprocessing.normalize(images), labels


def train(net, images, labels, epochs):
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    steps = epochs * (len(images) // BATCH)
    trainer = gluon.Trainer(
        net.collect_params(),
        "sgd",
        {"momentum": 0.9, "wd": 1e-4, "lr_scheduler": mx.lr_scheduler.CosineScheduler(steps, base_lr=0.1)},
    )
    for _ in range(epochs):
        order = np.random.permutation(len(images))
        for first in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            with autograd.record():
                loss = loss_of(net(mx.nd.array(images[chosen])), mx.nd.array(labels[chosen]))
            loss.backward()
            trainer.step(BATCH)


def accuracy(net, images, labels):
    return np.mean(net(mx.nd.array(images)).asnumpy().argmax(axis=1) == labels)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args(argv).epochs
    (images, labels), test = split("train"), split("test")
    print(f"{'network':24}  weights, M  MACs, M  accuracy, %  seconds")
    for name in NETWORKS:
        mx.random.seed(0)
        np.random.seed(0)
        # In a run this short BN's moving statistics have to follow faster than in the papers' 400 epochs.
        net = igc_gluon.get_model(name, norm_kwargs={"momentum": 0.9})
        net.initialize(mx.init.MSRAPrelu(slope=0))
        net.hybridize()
        begin = time.monotonic()
        train(net, images, labels, epochs)
        seconds = time.monotonic() - begin
        cost = complexity.totals(net)
        print(
            f"{name:24}  {cost.weights / 1e6:10.3f}  {cost.multiply_adds / 1e6:7.1f}  "
            f"{100 * accuracy(net, *test):11.2f}  {seconds:7.0f}"
        )


if __name__ == "__main__":
    main()
