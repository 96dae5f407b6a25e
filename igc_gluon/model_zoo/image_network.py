"""What all networks of this package are: networks of images."""

from dataclasses import replace
from typing import Any, Dict, List, Optional, Tuple
from weakref import WeakKeyDictionary

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from igc_gluon.data.preprocessing import not_images
from igc_gluon.errors import UserError
from igc_gluon.graph import NativeNetwork
from igc_gluon.model_zoo.attributes import preprocessing_attribute, write_preprocessing
from igc_gluon.nn import SCORE_INIT
from igc_gluon.nn.basic import NativeLayers
from igc_gluon.paths import expand

CHANNELS = 3


# {network: {stage: its `features_only`}}; beside the networks, as MXNet takes a block in an attribute for a part of it.
_parts: "WeakKeyDictionary[HybridBlock, Dict[str, _Part]]" = WeakKeyDictionary()


class ImageNetwork(NativeNetwork):
    """(N, 3, H, W) -> scores. Raises UserError on what is no such batch, where MXNet would name an operator's input."""

    def __call__(self, x: Any, *args: Any) -> Any:
        if isinstance(x, mx.nd.NDArray):
            shape, whole = x.shape, np.dtype(x.dtype).kind in "iub"
            channels = CHANNELS if len(shape) == 4 and shape[1] == CHANNELS and not whole else self._channels()
            if len(shape) != 4 or shape[1] != channels or whole:
                name = getattr(self, "model", self.name) or "the network"
                raise UserError(not_images(name, (channels, None, None), x, getattr(self, "preprocessing", None)))
        return super().__call__(x, *args)

    features: NativeLayers
    output: HybridBlock
    preprocessing: Any

    def forward_features(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        """What the classifier is given, an embedding of each image: (N, 3, H, W) -> (N, num_features)."""
        return self.features_only()(x)

    @property
    def num_features(self) -> int:
        """How many numbers `forward_features` gives for an image."""
        weight = score_layer(self).weight
        return int(weight.shape[1]) * getattr(score_layer(self), "_kwargs", {}).get("num_group", 1)

    def features_only(self, stage: Optional[str] = None) -> "NativeNetwork":
        """A network of the same layers and parameters without the classifier: (N, 3, H, W) -> (N, num_features); with
        `stage` ("g2", "g2_b1": how the names of its parameters begin) up to there: (N, channels, H', W').

        It runs natively where this one does, and can be compiled. Raises UserError where no stage is called so.
        """
        key = stage or ""
        made = _parts.setdefault(self, {})
        layers, count = self.features, len(self.features)
        last = count if stage is None else layers_until(self, stage)
        if key not in made or made[key].layers != list(layers)[:last]:
            made[key] = _Part(layers[:last], stage is None)
            if self._active:
                made[key].hybridize(static_alloc=True)
        only = made[key]
        for name in ("model", "preprocessing", "dataset"):
            if hasattr(self, name):
                setattr(only, name, getattr(self, name))
        if hasattr(self, "preprocessing"):
            only.preprocessing = replace(self.preprocessing, class_names=None)
        return only

    def reset_classifier(self, classes: int) -> None:
        """Puts a new last layer for `classes` scores in place of the one there is, with the authors' initial values
        where this network has values; all other layers keep theirs. Names of classes are forgotten.

        Raises UserError where there is no such layer.
        """
        old = score_layer(self)
        if int(classes) < 1:
            raise UserError(f"a network needs at least one class, not {classes}")
        new = _like(old, int(classes))
        if old.weight._data is not None:
            new.initialize(ctx=old.weight.list_ctx())
        if old is self.output:
            self.output = new
        else:
            key = next(key for key, child in self.output._children.items() if child is old)
            self.output._children[key] = new
        if self._active:
            new.hybridize()
        self._clear_cached_op()
        self.classes = self.classes_long = self.synset = None
        if getattr(self, "preprocessing", None) is not None:
            self.preprocessing = replace(self.preprocessing, class_names=None)

    def export(self, path: str, epoch: int = 0, remove_amp_cast: bool = True) -> Any:
        """As HybridBlock's; what the network expects of an image, where it is known, is an attribute of the input."""
        if self._cached_graph:
            self._cached_graph[0][0]._set_attr(**preprocessing_attribute(self))
        return super().export(str(expand(path)), epoch, remove_amp_cast)

    def save_parameters(self, filename: str, deduplicate: bool = False) -> None:
        """As Block's; and writes FILENAME.json, see `write_preprocessing`."""
        super().save_parameters(filename, deduplicate)
        write_preprocessing(self, filename)

    def _channels(self) -> int:
        """Of an image: those of the first convolution, which somebody may have replaced."""
        weight = next((p for p in self.collect_params().values() if p.shape and len(p.shape) == 4), None)
        return weight.shape[1] if weight is not None and weight.shape[1] else CHANNELS


class _Part(NativeNetwork):
    """The layers of `layers`; pooled: what they make as one row of numbers for each image."""

    def __init__(self, layers: NativeLayers, pooled: bool) -> None:
        super().__init__(prefix=layers.prefix)
        self.body, self._pooled = layers, pooled

    @property
    def layers(self) -> List[HybridBlock]:
        return list(self.body)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.body(x)
        return F.Flatten(x) if self._pooled else x


def score_layer(net: HybridBlock) -> HybridBlock:
    """The last layer of `net` that has parameters: it makes the scores. Raises UserError where `net` has no output of
    its own, as networks of this package have."""
    output = getattr(net, "output", None)
    layers = [output, *(output._children.values() if isinstance(output, HybridBlock) else ())]
    classifiers = [layer for layer in layers if isinstance(layer, (nn.Dense, nn.Conv2D))]
    if not classifiers or not hasattr(net, "features"):
        raise UserError(
            f"{getattr(net, 'model', net.name)} has no `features` followed by a classifier `output`, which this needs"
        )
    return classifiers[-1]


def layers_until(net: HybridBlock, stage: str) -> int:
    """How many layers of `net.features` there are up to the last of `stage`, by which the names of its parameters
    begin. Raises UserError, which names all layers, where there is none."""
    score_layer(net)
    names = [child.prefix[len(net.prefix) :].rstrip("_-") if child.collect_params() else "" for child in net.features]
    matching = [n for n, name in enumerate(names) if name == stage or name.startswith((f"{stage}_", f"{stage}-"))]
    if not matching or not stage:
        raise UserError(
            f"{getattr(net, 'model', net.name)} has no stage {stage!r}; its layers are {', '.join(filter(None, names))}"
        )
    return matching[-1] + 1


def split_network(net: HybridBlock, layers: int) -> Tuple[HybridBlock, HybridBlock]:
    """The first `layers` of net.features, and a network of all that comes after them; they share the parameters."""
    rest = net.features[layers:]
    return net.features[:layers], _Rest(rest, net.output) if len(rest) else net.output


class _Rest(NativeNetwork):
    def __init__(self, layers: HybridBlock, output: HybridBlock) -> None:
        super().__init__(prefix=layers.prefix)
        self.body, self.output = layers, output

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.body(x))


def _like(layer: HybridBlock, classes: int) -> HybridBlock:
    bias = layer.bias is not None
    if isinstance(layer, nn.Dense):
        return nn.Dense(
            classes, use_bias=bias, in_units=layer.weight.shape[1], weight_initializer=SCORE_INIT, prefix=layer.prefix
        )
    groups = layer._kwargs["num_group"]
    if classes % groups:
        raise UserError(f"{classes} classes cannot be split among the {groups} branches of this classifier")
    return nn.Conv2D(
        classes,
        1,
        groups=groups,
        use_bias=bias,
        in_channels=layer.weight.shape[1] * groups,
        weight_initializer=SCORE_INIT,
        prefix=layer.prefix,
    )
