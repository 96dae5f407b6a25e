"""Dropout before the scores."""

import mxnet as mx
from mxnet.gluon import nn

from igc_gluon.errors import UserError


def add_dropout(net: mx.gluon.HybridBlock, rate: float) -> None:
    """Has `net` drop each of its features with probability `rate` in training, after the pooling, before the scores
    (Srivastava et al., JMLR 2014); parameters keep their names. Raises UserError where it has no such place."""
    features = getattr(net, "features", None)
    if not isinstance(features, nn.HybridSequential):
        raise UserError(f"--dropout needs a network with `features`, a HybridSequential; {type(net).__name__} has none")
    with features.name_scope():
        features.add(nn.Dropout(rate))


def has_dropout(net: mx.gluon.Block) -> bool:
    """Whether anything in `net` is dropped at random in training."""
    dropouts = []
    net.apply(lambda block: dropouts.append(block) if isinstance(block, nn.Dropout) and block._rate > 0 else None)
    return bool(dropouts)
