"""The networks behind the tables' rows: those of this package, and MobileNets from GluonCV."""
import re
from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache
from typing import Optional

import numpy as np
from mxnet.gluon import nn

from igc_gluon import complexity
from igc_gluon.model_zoo import find_family, get_model

Convolution = namedtuple("Convolution", "name weights multiply_adds kernel strides groups channels in_channels "
                                        "input_size branches")
Convolution.__doc__ = """A convolution or fully connected layer of a network, on one image.

weights: without biases; input_size: height of its input; branches: in how many equal parts, which are then summed, its
output falls (1 but for SumFusion)."""


@dataclass(frozen=True)
class Network:
    """A network by name, with the number of classes that its table counts; by default that of its family."""
    name: str
    classes: Optional[int] = None

    def build(self):
        zoo = re.fullmatch(r"(mobilenet|mobilenetv2_)(\d+\.\d+)", self.name)
        if zoo is None:
            return get_model(self.name, classes=self.classes)
        if zoo.group(1) == "mobilenetv2_":
            return _mobilenet_v2(float(zoo.group(2)))
        from gluoncv.model_zoo.mobilenet import MobileNet
        return MobileNet(float(zoo.group(2)))

    @property
    def size(self):
        return 224 if self.name.startswith("mobilenet") else find_family(self.name)[0].input_size

    @property
    def image_shape(self):
        return 3, self.size, self.size


@lru_cache(maxsize=None)
def convolutions(network):
    """Tuple of `Convolution`, every layer of `network` that has weights, in order of execution."""
    net = network.build()
    modules = {}
    net.apply(lambda block: modules.setdefault(block.name + "_fwd", block))
    rows = complexity.layers(net, network.image_shape)
    found = []
    for row in rows:
        if row.operator == "sum":
            # SumFusion: the branches are summed right after the one convolution that computes them all.
            found[-1] = found[-1]._replace(branches=found[-1].channels // row.output_shape[0])
        if row.operator not in ("Convolution", "FullyConnected"):
            continue
        # Every weight is used once per output position.
        weights = row.multiply_adds // int(np.prod(row.output_shape[1:]))
        options = getattr(modules[row.name], "_kwargs", None) if row.operator == "Convolution" else None
        kernel, strides, groups = (options["kernel"], options["stride"], options["num_group"]) if options else \
            ((1, 1), (1, 1), 1)
        channels = row.output_shape[0]
        found.append(Convolution(row.name, weights, row.multiply_adds, kernel[0], strides[0], groups, channels,
                                 weights * groups // (channels * kernel[0] * kernel[1]),
                                 row.output_shape[1] * strides[0] if options else 1, 1))
    return tuple(found)


@lru_cache(maxsize=None)
def learned_parameters(network):
    """All learned parameters of `network`, with biases, gamma and beta."""
    return complexity.totals(network.build(), network.image_shape).params


def _mobilenet_v2(multiplier):
    """MobileNetV2 of GluonCV's blocks with the width rule of IGCV3: made even, that of the last convolution too.

    At 1.0 it is GluonCV's. At 0.7 GluonCV cuts widths off and keeps the last one at 1280, which gives 155 M multiply-
    adds in place of the printed 160.
    """
    from gluoncv.model_zoo.mobilenet import LinearBottleneck

    def width(channels):
        channels = round(channels * multiplier)
        return channels + channels % 2

    def convolution(channels, kernel, strides):
        net.add(nn.Conv2D(channels, kernel, strides, kernel // 2, use_bias=False), nn.BatchNorm(),
                nn.HybridLambda(lambda F, x: F.clip(x, 0, 6)))

    net = nn.HybridSequential(prefix="mobilenetv2_")
    with net.name_scope():
        in_channels = width(32)
        convolution(in_channels, 3, 2)
        for t, channels, blocks, strides in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                             (6, 160, 3, 2), (6, 320, 1, 1)):
            for i in range(blocks):
                net.add(LinearBottleneck(in_channels, width(channels), t, 1 if i else strides))
                in_channels = width(channels)
        convolution(width(1280), 1, 1)
        net.add(nn.GlobalAvgPool2D(), nn.Conv2D(1000, 1, use_bias=False, prefix="pred_"), nn.Flatten())
    return net
