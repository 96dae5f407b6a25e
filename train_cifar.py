#!/usr/bin/env python
"""Trains a network of the IGC papers on CIFAR, SVHN, Tiny ImageNet, digits, Fashion-MNIST, MNIST or KMNIST.

    python train_cifar.py --network plain_igc --primary-partition 24 --secondary-partition 2
    python train_cifar.py --network cifar_igcv2_20_c64 --dataset tiny-imagenet

Unset flags take the paper's schedule for the data set (IGCV1, section 5.2; IGCV2, section 4.1).
"""

import sys

try:
    from igc_gluon.start import exit_code, prepare
except ImportError as error:  # igc_gluon is not installed, or NumPy is one that MXNet cannot run on
    sys.exit(print(f"error: {error}", file=sys.stderr) or 2)

prepare()

from igc_gluon.cli.training.small_images import PAPER_GPUS, data, experiment, model_of, parse, run  # noqa: E402, F401

if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse())))
