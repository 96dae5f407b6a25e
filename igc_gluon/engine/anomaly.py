"""Detection of anomalies: whether gradients and weights are finite, and which layer began it."""

from typing import Any, Iterable, Iterator, List, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd


class FiniteCheck:
    """Learns of every update whether it left the gradients and weights of `parameters` (in the network's order) finite.

    The sums of squares of all arrays are one operator, and they are read a step later, when they have long been
    computed, so that nothing waits for them. A norm above 1.8e19, whose square float32 cannot hold, counts as broken.
    """

    def __init__(self, parameters: Iterable[mx.gluon.Parameter], device: mx.Context):
        self._parameters = [p for p in parameters if p.grad_req != "null"]
        self._device = device
        self._sums: Optional[mx.nd.NDArray] = None

    def begin(self) -> None:
        """To be called after an update."""
        arrays = [a for p in self._parameters for a in (p.grad(self._device), p.data(self._device))]
        self._sums = mx.nd.multi_sum_sq(*arrays, num_arrays=len(arrays))

    def end(self) -> Optional[str]:
        """What was broken at the last `begin`, a line for people, or None."""
        sums, self._sums = self._sums, None
        if sums is None:
            return None
        whole = np.isfinite(sums.asnumpy()).reshape(-1, 2)
        if whole.all():
            return None
        # Gradients come from the output, so the last layer is where they went wrong; weights have no such order.
        gradients, weights = (np.flatnonzero(~column) for column in whole.T)
        what, number = ("gradient", gradients[-1]) if len(gradients) else ("value", weights[0])
        name = self._parameters[number].name
        return f"in layer {name.rpartition('_')[0]} the {what} of {name} is not finite, or beyond 1e19,"


class AnomalyDetector:
    """Watches what every layer of `net` makes, forward and backward, in a run of MXNet's own operators one by one.

    The graph is cut behind each layer, and `backward` goes back from cut to cut: MXNet gives gradients of parameters
    only, not of what is between them. The network is no longer hybridized afterwards, and slower by far.
    """

    def __init__(self, net: mx.gluon.HybridBlock):
        self._cuts: List[Tuple[str, mx.nd.NDArray, mx.nd.NDArray]] = []
        self._anomalies: List[str] = []
        self._parameters = [p for p in net.collect_params().values() if p.grad_req != "null"]
        for parameter in self._parameters:
            parameter.grad_req = "add"  # the shards of a batch come one after the other
        net.hybridize(active=False)
        for path, block in _leaves(net, ""):
            self._watch(f"{path} ({type(block).__name__} {block.name})", block)

    def backward(self, losses: List[mx.nd.NDArray]) -> None:
        """`autograd.backward`, which also looks at the gradients of what the layers have made."""
        for parameter in self._parameters:
            parameter.zero_grad()
        autograd.backward(losses)
        for name, out, cut in reversed(self._cuts):
            if not np.isfinite(_largest(cut.grad)):
                self._anomalies.append(f"{name} gets a gradient of {_count(cut.grad)} from the layers after it")
            # What lies between layers, a sum with its ReLU, may be read by two of them: the second comes by it again.
            autograd.backward(out, cut.grad, retain_graph=True)

    def first(self) -> Optional[str]:
        """The first layer since the last call that made something not finite, a line for people, or None."""
        anomalies, self._anomalies, self._cuts = self._anomalies, [], []
        return anomalies[0] if anomalies else None

    def _watch(self, name: str, block: mx.gluon.HybridBlock) -> None:
        inner = block.forward

        def forward(*args: Any) -> Any:
            largest = max((_largest(a) for a in args if isinstance(a, mx.nd.NDArray)), default=0.0)
            out = inner(*args)
            if np.isfinite(largest) and not np.isfinite(_largest(out)):
                self._anomalies.append(f"{name} makes {_count(out)} from input of at most {largest:.3g}")
            if not autograd.is_recording():
                return out
            cut = out.detach()
            cut.attach_grad("add")
            self._cuts.append((name, out, cut))
            return cut

        block.forward = forward
        block.register_forward_hook(lambda *_: None)  # leaves the network to MXNet's operators, see NativeNetwork


def _leaves(block: mx.gluon.Block, path: str) -> Iterator[Tuple[str, mx.gluon.Block]]:
    for name, child in block._children.items():
        here = f"{path}.{name}" if path else name
        if child._children:
            yield from _leaves(child, here)
        else:
            yield here, child


def _largest(array: mx.nd.NDArray) -> float:
    return float(np.abs(array.asnumpy()).max(initial=0.0))


def _count(array: mx.nd.NDArray) -> str:
    bad = ~np.isfinite(array.asnumpy())
    return f"{bad.sum():,} of {bad.size:,} values that are not finite"
