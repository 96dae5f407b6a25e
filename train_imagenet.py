#!/usr/bin/env python
"""Trains a network of the IGC papers on ImageNet, or on any folders of images packed by `igc data imagenet`.

    python train_imagenet.py
    python train_imagenet.py --network=resnet_igc_imgnet_d18 --primary-partition=100 --secondary-partition=1
    python train_imagenet.py --network igcv3_1.0 --schedule igcv3-code --cpus 1

Without flags it is the paper's experiment with IGC-L100M2 on 8 GPUs (IGCV1, section 5.5).
"""

import sys

try:
    from igc_gluon.start import exit_code, prepare
except ImportError as error:  # igc_gluon is not installed, or NumPy is one that MXNet cannot run on
    sys.exit(print(f"error: {error}", file=sys.stderr) or 2)

prepare()

from igc_gluon.cli.training.records import data, experiment, model_of, paper_gpus, parse, run, schedule_name  # noqa: E402, F401

if __name__ == "__main__":
    sys.exit(exit_code(lambda: run(parse())))
