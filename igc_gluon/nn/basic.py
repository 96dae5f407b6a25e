"""What every block is made of: the authors' initializers, batch normalization, convolution + BN + ReLU."""

from typing import Any, Dict, Optional, Type, Union

import mxnet as mx
from mxnet.gluon import HybridBlock, nn

from igc_gluon.graph import Native

BN_EPSILON = 2e-5
BN_MOMENTUM_PLAIN = 0.99
BN_MOMENTUM_RESIDUAL = 0.9

# Gaussian with std sqrt(2 / fan_in), fan_in = kernel area * input channels / groups (He et al., ref. 9 of IGCV1).
CONVOLUTION_INIT = mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2)
# Uniform in +-1/sqrt(fan_in).
SCORE_INIT = mx.init.Xavier(rnd_type="uniform", factor_type="in", magnitude=1)


def batch_norm(
    channels: int, norm_layer: type = nn.BatchNorm, norm_kwargs: Optional[Dict[str, Any]] = None, prefix: str = "bn_"
) -> HybridBlock:
    """A normalization layer for `channels` channels, by default batch normalization with the authors' settings.

    `norm_layer` and `norm_kwargs` as in GluonCV: the class, and its keyword arguments, which win over the defaults.
    The defaults are given to BatchNorm and its subclasses only; other layers may not know their names.
    """
    defaults = {}
    if issubclass(norm_layer, nn.BatchNorm):
        defaults = {"in_channels": channels, "epsilon": BN_EPSILON, "momentum": BN_MOMENTUM_RESIDUAL}
    return norm_layer(prefix=prefix, **{**defaults, **(norm_kwargs or {})})


def initialize_as_authors(net: HybridBlock, ctx: Any = None, force_reinit: bool = False) -> None:
    """Initializes `net` exactly as the authors' code does.

    The blocks of this package carry the authors' initializers for convolutions and scores, so `net.initialize()`
    differs from this function in one thing: MXNet's moving variances start at 1, the authors' at 0. After training
    nothing is left of the difference; before it, a moving variance of 0 makes a network in inference mode multiply by
    1/sqrt(epsilon) = 224 at every BN, which overflows in a deep one. Hence it is not the default.
    """
    net.initialize(ctx=ctx, force_reinit=force_reinit)
    for parameter in net.collect_params(".*running_var").values():
        parameter.initialize(mx.init.Zero(), ctx=ctx, force_reinit=True)


def initialize_as_igcv3(net: HybridBlock, ctx: Any = None, force_reinit: bool = False) -> None:
    """Initializes `net` as the authors' code of IGCV3 does (`common/fit.py`): every weight, that of the scores too, is
    Gaussian with std sqrt(2 / fan_in), biases and beta are 0, gamma is 1, moving means are 0 and moving variances 1."""
    for parameter in net.collect_params(".*weight$").values():
        parameter.init = CONVOLUTION_INIT
    net.initialize(ctx=ctx, force_reinit=force_reinit)


# By the authors' code whose they are.
INITIALIZERS = {"igcv1": initialize_as_authors, "igcv3": initialize_as_igcv3}
INITIAL_VARIANCES = {"igcv1": 0.0, "igcv3": 1.0}  # at which moving variances begin


class OrderedBlock(HybridBlock):
    """A block whose parts, attributes that `hybrid_forward` calls, are numbered in the order in which they are set.

    Names of parameters in `.params` files, `features.1.0.weight`, so do not depend on what the parts are called. The
    parts are there by number too: `block[0]`, `block[:2]` (a HybridSequential), `len(block)`.
    """

    def register_child(self, block: HybridBlock, name: Optional[str] = None) -> None:
        replaced = vars(self).get(name or "")
        number = next((number for number, child in self._children.items() if child is replaced), len(self._children))
        super().register_child(block, str(number))

    def __getitem__(self, key: Union[int, slice]) -> Any:
        return _by_number(self, key)

    def __len__(self) -> int:
        return len(self._children)


class InterleavedBlock(Native, HybridBlock):
    """To derive blocks from that interleave group convolutions: `igc check` finds, verifies and draws them."""


class NativeLayers(Native, nn.HybridSequential):
    """A HybridSequential that runs natively where it can, as a slice of it does, which is on the same layers.

    MXNet would build a slice by calling the derived class without arguments.
    """

    def __getitem__(self, key: Union[int, slice]) -> Any:
        return _by_number(self, key, NativeLayers)


def _by_number(
    block: HybridBlock, key: Union[int, slice], sequence_class: Type[nn.HybridSequential] = nn.HybridSequential
) -> Any:
    parts = list(block._children.values())[key]
    if not isinstance(parts, list):
        return parts
    sequence = sequence_class(prefix=block.prefix)
    sequence.add(*parts)
    return sequence


class ConvBNReLU(OrderedBlock):
    """Convolution without bias, BN, ReLU: (N, in_channels, H, W) -> (N, channels, H', W').

    `activation=None` leaves the ReLU out. Padding keeps the size at stride 1 (odd kernels). `conv_prefix` is for the
    convolution's parameters.
    """

    def __init__(
        self,
        channels: int,
        in_channels: int,
        kernel_size: int = 3,
        strides: int = 1,
        groups: int = 1,
        activation: Optional[str] = "relu",
        norm_layer: type = nn.BatchNorm,
        norm_kwargs: Optional[Dict[str, Any]] = None,
        conv_prefix: str = "conv_",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.conv = nn.Conv2D(
                channels,
                kernel_size,
                strides,
                kernel_size // 2,
                groups=groups,
                use_bias=False,
                in_channels=in_channels,
                weight_initializer=CONVOLUTION_INIT,
                prefix=conv_prefix,
            )
            self.bn = batch_norm(channels, norm_layer, norm_kwargs)
            self.relu = nn.Activation(activation, prefix="relu_") if activation else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.bn(self.conv(x))
        return x if self.relu is None else self.relu(x)
