"""Networks drawn at random: layers with and without kernels, branches, shared and reused layers, several outputs,
networks within networks; and what a user may change in one after its first call."""

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from igc_gluon.graph import NativeNetwork
from igc_gluon.model_zoo.cifar import ResidualBlock
from igc_gluon.nn import (
    ChannelPermutation,
    ConvBNReLU,
    GPCBlock,
    IGCBlock,
    IGCV2Block,
    IGCV3Block,
    NonlinearIGCV2Block,
    ReLU6,
    SumFusion,
    XceptionBlock,
)

WIDTHS = (4, 6, 8, 12)


class Drawn(NativeNetwork):
    """A sequence of steps, each a way to compute from x and a layer. depth: how many networks may be within. With
    `keeps` the map keeps its size."""

    def __init__(self, rng, channels=3, width=None, depth=2, head=False, keeps=False, **kwargs):
        super().__init__(**kwargs)
        self.steps, self.outputs = [], set()
        self.channels, self._keeps = channels, keeps
        self._layers = []  # (name, channels in, channels out, whether the map keeps its size)
        with self.name_scope():
            for number in range(rng.randint(2, 7)):
                self._step(rng, f"layer{number}", depth)
            if width is not None and width != self.channels:
                self._add("last", ConvBNReLU(width, self.channels), width)
                self.steps.append(("call", "last", None))
            if head:
                if rng.rand() < 0.3:
                    self.outputs.add(rng.randint(len(self.steps)))
                self.head = nn.Dense(3)

    def _add(self, name, layer, channels, keeps=True):
        setattr(self, name, layer)
        self._layers.append((name, self.channels, channels, keeps))
        self.channels = channels

    def _step(self, rng, name, depth):
        c, kind = (
            self.channels,
            rng.choice(
                ["layer", "residual", "concat", "operator", "again", "shared", "network"],
                p=[0.5, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05],
            ),
        )
        if kind == "residual":
            body = nn.HybridSequential() if rng.rand() < 0.5 else Drawn(rng, c, c, 0, keeps=True)
            if isinstance(body, nn.HybridSequential):
                body.add(*[layer for layer in (draw(rng, c, c)[0] for _ in range(rng.randint(1, 3)))])
            self._add(name, body, c)
            return self.steps.append(("residual", name, (float(rng.choice([1, 1, 1, 0.1, -2])), int(rng.randint(4)))))
        if kind == "concat":
            # MXNet itself ends the process (a division by zero in oneDNN) in training on some other widths.
            parts = [draw(rng, c, 8) for _ in range(rng.randint(2, 4))]
            names = []
            for i, (part, _) in enumerate(parts):
                setattr(self, f"{name}_{i}", part)
                names.append(f"{name}_{i}")
            self.channels = sum(width for _, width in parts)
            return self.steps.append(("concat", names, None))
        if kind == "operator":
            return self.steps.append(("operator", None, str(rng.choice(["tanh", "relu", "clip", "double", "dropout"]))))
        same = [entry for entry in self._layers if entry[1] == c and entry[3]]
        if kind == "again" and same:
            again, _, self.channels, _ = same[rng.randint(len(same))]
            return self.steps.append(("call", again, None))
        convolutions = [entry for entry in same if isinstance(getattr(self, entry[0]), ConvBNReLU)]
        if kind == "shared" and convolutions:
            other, _, width, _ = convolutions[rng.randint(len(convolutions))]
            first = getattr(self, other)[0]
            if first._kwargs["num_group"] == 1 and first._kwargs["kernel"] == (3, 3):
                layer = nn.HybridSequential()
                layer.add(
                    nn.Conv2D(width, 3, padding=1, in_channels=c, use_bias=False, params=first.params),
                    nn.BatchNorm(in_channels=width),
                    nn.Activation("relu"),
                )
                self._add(name, layer, width)
                return self.steps.append(("call", name, None))
        if kind == "network" and depth:
            width = int(rng.choice(WIDTHS))
            self._add(name, Drawn(rng, c, width, depth - 1, keeps=self._keeps), width)
            return self.steps.append(("call", name, None))
        layer, width = draw(rng, c, int(rng.choice(WIDTHS)), shrinks=not self._keeps)
        self._add(name, layer, width)
        return self.steps.append(("call", name, None))

    def reuses(self):
        names = [name for _, name, _ in self.steps if isinstance(name, str)]
        return len(set(names)) < len(names)

    def hybrid_forward(self, F, x):
        kept = []
        for number, (kind, name, options) in enumerate(self.steps):
            if kind == "call":
                x = getattr(self, name)(x)
            elif kind == "concat":
                x = F.concat(*[getattr(self, one)(x) for one in name], dim=1)
            elif kind == "residual":
                factor, form = options
                y = getattr(self, name)(x)
                y = y if factor == 1 else factor * y
                x = (x + y, y + x, F.relu(x + y), F.Activation(y + x, act_type="relu"))[form]
            else:
                x = {
                    "tanh": F.tanh,
                    "relu": F.relu,
                    "clip": lambda v: F.clip(v, 0, 6),
                    "double": lambda v: 2 * v + v,
                    "dropout": lambda v: F.Dropout(v, p=0),
                }[options](x)
            if number in self.outputs:
                kept.append(F.mean(x, axis=(2, 3)))
        if not hasattr(self, "head"):
            return x
        pooled = F.flatten(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))
        return (self.head(pooled), kept) if kept else self.head(pooled)


def draw(rng, c, width, shrinks=False):
    """(a layer from c channels, its channels): `width` of them and the size of the map kept, unless it `shrinks`."""
    groups = [g for g in (1, 2, 3, 4) if c % g == 0 and width % g == 0]
    g = int(rng.choice(groups))
    inner = [g for g in (1, 2, 3, 4) if c % g == 0]
    choices = [
        lambda: ConvBNReLU(
            width, c, kernel_size=int(rng.choice([1, 3, 5])), groups=g, activation=[None, "relu"][rng.randint(2)]
        ),
        lambda: IGCBlock(g, width, c, activation=[None, "relu"][rng.randint(2)]),
        lambda: IGCBlock(g, width, c, spatial=str(rng.choice(["primary", "secondary", "separable"]))),
        lambda: GPCBlock(int(rng.choice(inner)), width, c),
        lambda: XceptionBlock(width, c),
        lambda: SumFusion(int(rng.randint(1, 4)), width, c),
        lambda: IGCV2Block((1, c // (g if g < c else 1)), width, c),
        lambda: ResidualBlock(ConvBNReLU, width, c, 1, None, {}),
        lambda: IGCV3Block(
            width,
            c,
            2,
            shortcut=width == c,
            partitions=(int(rng.choice(inner)), g),
            block=str(rng.choice(["released", "paper"])),
        ),
        lambda: NonlinearIGCV2Block(width, c, (int(rng.choice(inner)), g)),
        lambda: nn.Conv2D(width, 3, padding=1, groups=g, in_channels=c, use_bias=bool(rng.randint(2))),
        lambda: sequence(
            nn.Conv2D(width, 3, padding=1, in_channels=c, use_bias=False),
            nn.BatchNorm(
                in_channels=width,
                scale=bool(rng.randint(2)),
                center=bool(rng.randint(2)),
                use_global_stats=rng.rand() < 0.2,
                epsilon=float(rng.choice([1e-5, 1e-3])),
            ),
            [nn.Activation("relu"), nn.Activation("tanh"), ReLU6(), nn.LeakyReLU(0.2)][rng.randint(4)],
        ),
    ]
    if shrinks:
        choices += [lambda: ConvBNReLU(width, c, strides=2, groups=g), lambda: IGCBlock(g, width, c, strides=2)]
        if rng.rand() < 0.3:
            layer = [
                lambda: nn.BatchNorm(in_channels=c),
                lambda: nn.MaxPool2D(3, int(rng.choice([1, 2])), 1),
                lambda: nn.AvgPool2D(2, ceil_mode=True),
                lambda: ChannelPermutation(int(rng.choice(inner))),
            ]
            return layer[rng.randint(len(layer))](), c
    return choices[rng.randint(len(choices))](), width


def sequence(*layers):
    made = nn.HybridSequential()
    made.add(*layers)
    return made


def values(net, seed):
    """Gives `net` values that matter, those of moving statistics too, by the order of its parameters."""
    rng = np.random.RandomState(seed)
    for name, p in net.collect_params().items():
        low, high = (0.5, 1.5) if name.endswith(("gamma", "running_var")) else (-0.3, 0.3)
        if name.endswith("weight"):
            high = (6 / max(1, np.prod(p.shape[1:]))) ** 0.5
            low = -high
        if p.shape and 0 not in p.shape:
            p.set_data(mx.nd.array(rng.uniform(low, high, p.shape)))


def containers(net, kind):
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, kind) else None)
    return found


class Doubled(HybridBlock):
    def hybrid_forward(self, F, x):
        return x * 2


def change(net, seed):  # noqa: C901 (a case for each kind)
    """Changes `net` in some way, the same for the same seed. Returns a list that hooks write into."""
    rng, calls = np.random.RandomState(seed), []
    kind = rng.choice("nothing hook added removed option cast grad_req attribute method class values swapped".split())
    norms, rows = containers(net, nn.BatchNorm), containers(net, nn.HybridSequential)
    rows = [row for row in rows if len(row)]
    if kind == "hook":
        blocks = containers(net, HybridBlock)
        blocks[rng.randint(len(blocks))].register_forward_hook(lambda *_: calls.append(1))
    elif kind == "added" and rows:
        rows[rng.randint(len(rows))].add([nn.Activation("sigmoid"), Doubled()][rng.randint(2)])
    elif kind == "removed":
        for row in rows:
            if isinstance(row[-1], (nn.Activation, ReLU6)):
                row._children.popitem()
                break
    elif kind == "option" and norms:
        norms[rng.randint(len(norms))]._kwargs.update(eps=0.5, momentum=0.3)
    elif kind == "cast":
        dtype = net.head.weight.dtype
        net.cast("float64")
        net.cast(dtype)
    elif kind == "grad_req":
        for p in list(net.collect_params().values())[::2]:
            if p.grad_req != "null":
                p.grad_req = ["add", "null"][rng.randint(2)]
    elif kind == "attribute":
        net.steps = (
            net.steps[:-1]
            if not any(n == len(net.steps) - 1 for n in net.outputs) and _keeps_channels(net.steps[-1])
            else net.steps + [("operator", None, "tanh")]
        )
    elif kind == "method" and rows:
        row = rows[rng.randint(len(rows))]
        inner = row.hybrid_forward
        row.hybrid_forward = lambda F, x: inner(F, x) * 3
    elif kind == "class" and norms:
        norm = norms[rng.randint(len(norms))]
        norm.__class__ = type(
            "Shifted",
            (type(norm),),
            {"hybrid_forward": lambda self, F, x, **p: nn.BatchNorm.hybrid_forward(self, F, x, **p) + 1},
        )
    elif kind == "values":
        values(net, seed)
    elif kind == "swapped":
        for row in rows:
            if len(row) == 3 and isinstance(row[2], (nn.Activation, ReLU6)) and isinstance(row[1], nn.BatchNorm):
                row._children.move_to_end("1")
                break
    return calls


def _keeps_channels(step):
    return step[0] in ("residual", "operator")
