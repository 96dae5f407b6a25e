"""The networks behind the tables' rows."""

from collections import namedtuple
from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, List, Optional, Tuple

import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon import complexity
from igc_gluon.model_zoo import find_family, get_model

Convolution = namedtuple(
    "Convolution", "name weights multiply_adds kernel strides groups channels in_channels input_size branches"
)
Convolution.__doc__ = """A convolution or fully connected layer of a network, on one image.

weights: without biases; input_size: height of its input; branches: in how many equal parts, which are then summed, its
output falls (1 but for SumFusion)."""


@dataclass(frozen=True)
class Network:
    """A network by name, with the number of classes that its table counts; by default that of its family."""

    name: str
    classes: Optional[int] = None

    def build(self) -> HybridBlock:
        return get_model(self.name, classes=self.classes)

    @property
    def size(self) -> int:
        return find_family(self.name)[0].input_size

    @property
    def image_shape(self) -> Tuple[int, int, int]:
        return 3, self.size, self.size


@lru_cache(maxsize=None)
def convolutions(network: Network) -> Tuple[Convolution, ...]:
    """Tuple of `Convolution`, every layer of `network` that has weights, in order of execution."""
    net = network.build()
    modules: Dict[str, HybridBlock] = {}
    net.apply(lambda block: modules.setdefault(block.name + "_fwd", block))
    rows = complexity.layers(net, network.image_shape)
    layers: List[Convolution] = []
    for row in rows:
        if row.operator == "sum":
            # SumFusion: the branches are summed right after the one convolution that computes them all.
            layers[-1] = layers[-1]._replace(branches=layers[-1].channels // row.output_shape[0])
        if row.operator not in ("Convolution", "FullyConnected"):
            continue
        # Every weight is used once per output position.
        weights = row.multiply_adds // int(np.prod(row.output_shape[1:]))
        options = getattr(modules[row.name], "_kwargs", None) if row.operator == "Convolution" else None
        kernel, strides, groups = (
            (options["kernel"], options["stride"], options["num_group"]) if options else ((1, 1), (1, 1), 1)
        )
        channels = row.output_shape[0]
        layers.append(
            Convolution(
                row.name,
                weights,
                row.multiply_adds,
                kernel[0],
                strides[0],
                groups,
                channels,
                weights * groups // (channels * kernel[0] * kernel[1]),
                row.output_shape[1] * strides[0] if options else 1,
                1,
            )
        )
    return tuple(layers)


@lru_cache(maxsize=None)
def learned_parameters(network: Network) -> int:
    """All learned parameters of `network`, with biases, gamma and beta."""
    return complexity.totals(network.build(), network.image_shape).params
