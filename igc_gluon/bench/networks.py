"""The networks that are timed, and what is written down of one so that every peer builds the same."""

# Imports in functions are slow: MXNet, which not every peer's process needs.
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

CHAIN = 6  # blocks in a row: what surrounds a network costs a block of it nothing


@dataclass(frozen=True)
class Network:
    """A network of the zoo (`model` with `options`), or `CHAIN` IGC blocks of L partitions and width G in a row.

    shape: (channels, height, width) of the image, or of what the first block reads.
    """

    title: str
    shape: Tuple[int, int, int]
    model: Optional[str] = None
    options: Dict[str, Any] = field(default_factory=dict)
    block: Optional[Tuple[int, int]] = None  # L, G
    model_file: Optional[str] = None  # of the user's, which registers `model`

    @property
    def repeats(self) -> int:
        """What its times and multiply-adds are divided by."""
        return CHAIN if self.block else 1

    def build(self) -> Any:
        """The HybridBlock, without values."""
        if self.block:
            return _chain(*self.block)
        from igc_gluon.model_zoo import get_model, import_networks

        if self.model_file:  # a worker is a process of its own
            import_networks(self.model_file)
        return get_model(str(self.model), **self.options)

    def as_json(self) -> Dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Network":
        fields = dict(fields, shape=tuple(fields["shape"]))
        return cls(**dict(fields, block=fields["block"] and tuple(fields["block"])))


def _chain(primary_partition: int, channels: int) -> Any:
    from mxnet.gluon import nn

    from igc_gluon.graph import NativeNetwork
    from igc_gluon.nn import IGCBlock

    class Chain(NativeNetwork):
        def __init__(self) -> None:
            super().__init__(prefix="")
            with self.name_scope():
                self.features = nn.HybridSequential(prefix="")
                for i in range(CHAIN):
                    self.features.add(IGCBlock(primary_partition, channels, prefix=f"b{i}_"))
                self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
                self.output = nn.Dense(10, in_units=channels, prefix="fc_")

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.output(self.features(x))

    return Chain()


def zoo(
    model: str, classes: Optional[int] = None, size: Optional[int] = None, title: Optional[str] = None, **options: Any
) -> Network:
    """The Network of a getter's name. Raises UserError where there is none."""
    from igc_gluon.errors import UserError
    from igc_gluon.model_zoo import find_family

    family, _ = find_family(model)
    size = family.input_size if size is None else size
    if size < 1:
        raise UserError(f"--size must be at least 1, not {size}")
    options["classes"] = family.classes if classes is None else classes
    return Network(
        title or model.lower(),
        (3, size, size),
        model.lower(),
        options,
        model_file=str(family.source.path) if family.source else None,
    )


def block(primary_partition: int, secondary_partition: int, size: int) -> Network:
    """A single IGC block on size x size positions, timed in a chain."""
    width = primary_partition * secondary_partition
    return Network(
        f"block L{primary_partition}M{secondary_partition} {size}x{size}",
        (width, size, size),
        block=(primary_partition, width),
    )


def write(network: Network, folder: Union[str, Path], seed: int = 0) -> int:
    """Gives the network values and writes what the workers read into `folder`. Returns its multiply-adds.

    net.params: Gluon's. graph.npz: see export/graph.py. The moving statistics are those of a batch of noise, so that
    every layer's values are as large as after training. Raises UserError.
    """
    import mxnet as mx

    from igc_gluon import complexity
    from igc_gluon.export import graph

    mx.random.seed(seed)
    np.random.seed(seed)
    net = network.build()
    net.initialize()
    _replace_statistics(net, network.shape)
    folder = Path(folder)
    net.save_parameters(str(folder / "net.params"))
    graph.save(graph.describe(net, network.shape), folder / "graph.npz")
    return complexity.totals(net, network.shape).multiply_adds


def _replace_statistics(net: Any, shape: Sequence[int], batch: int = 4) -> None:
    """One training pass that replaces the moving statistics, and other scales and shifts than 1 and 0."""
    import mxnet as mx

    for name, parameter in net.collect_params().items():
        if name.endswith("gamma"):
            parameter.set_data(mx.nd.random.uniform(0.7, 1.3, parameter.shape))
        elif name.endswith("beta"):
            parameter.set_data(mx.nd.random.normal(0, 0.1, parameter.shape))
    norms = []
    net.apply(lambda b: norms.append(b) if isinstance(b, mx.gluon.nn.BatchNorm) else None)
    momenta = [norm._kwargs["momentum"] for norm in norms]
    for norm in norms:
        norm._kwargs["momentum"] = 0.0
    with mx.autograd.record():
        scores = net(mx.nd.random.normal(shape=(batch, *shape)))
    scores.backward()
    mx.nd.waitall()
    for norm, momentum in zip(norms, momenta):
        norm._kwargs["momentum"] = momentum
