"""Moving statistics of batch normalization where a run has too few batches for their moving average.

The average r = m r + (1 - m) x over t batches still has the share m^t of its initial values, and what it has beside
them is of weights of up to 1 / (1 - m) batches ago. With m = 0.99 and 23 batches an epoch both are wrong for the whole
of a short run. The statistics are then taken anew before each evaluation: the same average over batches of the epoch
with the weights standing still, begun at 0 and divided by 1 - m^n after n batches. So the weights of the average sum to
1, and its limit is that of the moving average. (Precise batch normalization: Wu and Johnson, arXiv 2105.07576, section
3.)
"""

import math
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import mxnet as mx
from mxnet.gluon import nn

from igc_gluon.data.batches import Batch, BatchSource

SHARE = 1e-3  # of the initial values, from which on the moving average is taken as it is: 688 batches with m = 0.99
BATCHES = 100  # at most, that statistics are taken from


class Norm(NamedTuple):
    """A layer of batch normalization whose statistics follow its batches: its momentum and both parameters."""

    momentum: float
    parameters: List[mx.gluon.Parameter]


def moving_norms(net: mx.gluon.Block) -> List[Norm]:
    """Of `net`; layers that keep their statistics (use_global_stats, momentum 1, frozen ones) are not among them."""
    norms: Dict[str, Norm] = {}

    def look(block: Any) -> None:
        if not isinstance(block, nn.BatchNorm) or block._kwargs["use_global_stats"]:
            return
        if block.gamma.grad_req == block.beta.grad_req == "null":
            return
        momentum = block._kwargs["momentum"]
        if 0 <= momentum < 1:
            norms[block.running_var.name] = Norm(momentum, [block.running_mean, block.running_var])

    net.apply(look)
    return list(norms.values())


def batches_needed(net: mx.gluon.Block) -> int:
    """After so many batches no more than SHARE of the initial values is left in any moving average of `net`."""
    momenta = [norm.momentum for norm in moving_norms(net)]
    return max((math.ceil(math.log(SHARE) / math.log(m)) if m else 1 for m in momenta), default=0)


def due(net: mx.gluon.Block, done: int, choice: str = "auto") -> bool:
    """Whether after `done` batches the statistics are to be taken anew. choice: "auto", where the moving average has
    had too few batches; "moving", never; "anew", always."""
    if choice == "auto":
        return done < batches_needed(net)
    return choice == "anew" and bool(moving_norms(net))


def remark(net: mx.gluon.Block, batches: int, epochs: int, choice: str = "auto") -> Optional[str]:
    """The line that says what is done in a run of so many batches an epoch, None where nothing is."""
    number = sum(due(net, (epoch + 1) * batches, choice) for epoch in range(epochs))
    if not number:
        return None
    when = "each evaluation" if number == epochs else f"the evaluations of the first {number} epochs"
    why = f"{number * batches} batches are too few for its moving average, so " if choice == "auto" else ""
    return (
        f"batch normalization: {why}before {when} the statistics are taken anew from the epoch's last "
        f"{min(batches, BATCHES)} batches"
    )


def last_batches(source: BatchSource, epoch: int) -> Iterator[Batch]:
    """The batches that statistics are taken anew from, the last ones of epoch number `epoch`."""
    return source.epoch(epoch, first_batch=max(0, len(source) - BATCHES))


def take_anew(
    net: mx.gluon.Block, arrays_of: Callable[[mx.gluon.Parameter], List[mx.nd.NDArray]], passes: Iterator[bool]
) -> None:
    """Sets the statistics of `net` to the average over as many batches as `passes` carries out, as training has it.

    arrays_of(parameter): its arrays, of which each has the statistics of one shard. passes: yields True after each
    batch that has gone through the network, and False to give up, which leaves the statistics as they were.
    """
    norms = [(norm.momentum, [array for p in norm.parameters for array in arrays_of(p)]) for norm in moving_norms(net)]
    before = [[array.copy() for array in arrays] for _, arrays in norms]
    mx.nd.waitall()  # copies are to be of now: BN's backward pass writes without telling MXNet's engine
    for _, arrays in norms:
        for array in arrays:
            array[:] = 0
    mx.nd.waitall()
    done = 0
    for going_on in passes:
        if not going_on:
            done = 0
            break
        done += 1
    mx.nd.waitall()
    for (momentum, arrays), olds in zip(norms, before):
        for array, old in zip(arrays, olds):
            array[:] = array / (1 - momentum**done) if done else old


def without_initial_values(net: mx.gluon.Block, batches: int, variance: float) -> None:
    """Makes moving averages that began at mean 0 and `variance`, `batches` ago, averages over these batches alone: of a
    network that is evaluated before its statistics were ever taken anew."""
    for momentum, (mean, var) in moving_norms(net):
        left = momentum**batches
        for parameter, initial in ((mean, 0.0), (var, variance)):
            for array in parameter.list_data():
                array[:] = (array - left * initial) / (1 - left)
