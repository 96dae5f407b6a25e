"""From folders of your photographs, FOLDER/<class>/*.jpg, to a network in one file that names the class of others.

    python examples/own_photographs.py FOLDER net.igc
    igc predict net.igc photo.jpg

`igc train FOLDER` does more, see docs/photographs.md: it crops at random, saves as it trains and goes on after a stop.
"""

import argparse
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

import igc_gluon
from igc_gluon.data.photos import list_photos, read_photo
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.model_zoo.attributes import set_attributes

NETWORK = "cifar_plain_igc8_l24m2"
SIZE, BATCH, HELD_OUT = 32, 16, 5  # every fifth photograph is for the test


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", help="file.igc")
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args(argv)

    names = sorted(entry.name for entry in args.folder.iterdir() if entry.is_dir())
    photos = [(path, label) for label, name in enumerate(names) for path in list_photos([args.folder / name])]
    images, labels = [read_photo(path) for path, _ in photos], np.array([label for _, label in photos])
    # What the network expects of an image goes with it: into its attributes, and into the .igc file.
    colors = np.concatenate([image.reshape(-1, 3) for image in images])
    expected = Preprocessing((SIZE, SIZE), mean=colors.mean(axis=0), std=colors.std(axis=0), class_names=names)
    pixels = expected.normalize(np.stack([expected.pixels(image) for image in images]))
    test = np.arange(len(labels)) % HELD_OUT == 0

    mx.random.seed(0)
    np.random.seed(0)
    net = igc_gluon.get_model(NETWORK, classes=len(names), norm_kwargs={"momentum": 0.9})
    net.initialize(mx.init.MSRAPrelu(slope=0))
    net.hybridize()
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.003})
    for epoch in range(args.epochs):
        order = np.random.permutation(np.flatnonzero(~test))
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            x = pixels[chosen][..., :: np.random.choice((-1, 1))]  # half of the batches mirrored
            with autograd.record():
                loss = loss_of(net(mx.nd.array(np.ascontiguousarray(x))), mx.nd.array(labels[chosen])).mean()
            loss.backward()
            trainer.step(1)
        print(f"epoch {epoch + 1}: loss {loss.asscalar():.3f}")
    right = net(mx.nd.array(pixels[test])).asnumpy().argmax(axis=1) == labels[test]
    print(f"{right.sum()} of {len(right)} photographs of the test are right")

    compiled = igc_gluon.deploy.compile(set_attributes(net, NETWORK, expected))
    compiled.save(args.output)
    name, probability = compiled.classify(images[0], top=1)[0]
    print(f"{photos[0][0]}: {100 * probability:.1f} % {name}")


if __name__ == "__main__":
    main()
