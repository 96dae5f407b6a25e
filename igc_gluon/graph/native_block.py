"""Blocks that run natively where they can: the one place that decides it.

What `hybrid_forward` computes is traced to a graph (tracing.py), in which parts become native operators (segments.py);
what is left are MXNet's own operators, in the same graph (program.py). Where no part can be native, or a call is out of
the ordinary, MXNet goes on as it would without this package.

A hybridized block is, as everywhere in Gluon, the graph that its `hybrid_forward` makes. One that is not hybridized
runs its Python code at every call; its graph stands for it only if all of that code is MXNet's or this package's. What
is changed afterwards (layers, options, hooks, attributes) is noticed at the next call, hybridized or not.

Parameters stay where they are; gradients and moving statistics arrive in them as ever, the statistics with the forward
pass (MXNet's own BN writes them in backward).
"""

import functools
import logging
from operator import is_
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import HybridBlock
from mxnet.gluon.block import _regroup

from igc_gluon.graph import segments, watch
from igc_gluon.graph.changes import State, blocks_below, python_reason
from igc_gluon.graph.permutations import contracted
from igc_gluon.graph.program import AtOnce, Program
from igc_gluon.graph.segments import NotNative, require
from igc_gluon.graph.tracing import Graph, Ref, first_line, parameters_of, read, trace
from igc_gluon.native.operators import Owner, unavailable_reason

logger = logging.getLogger(__name__)

_MOST_PROGRAMS = 16  # of a block, for sizes of images and ways of calling
_USELESS_WATCHES = 16  # so many in a row: what is written to all the time is not worth watching


class Native:
    """To derive a block from, before HybridBlock: on a CPU in float32 its call runs natively where it can. Traced with
    a Symbol (export, complexity) it is made of MXNet's operators."""

    def forward(self, x: Any, *args: Any) -> Any:
        of_mxnet = super().forward  # type: ignore[misc]  # of HybridBlock, which comes after this class
        made = compute(self, of_mxnet, (x, *args))
        return of_mxnet(x, *args) if made is None else made[0]


class NativeNetwork(Native, HybridBlock):
    """A HybridBlock that runs natively where it can."""


def accelerate(net: HybridBlock) -> HybridBlock:
    """Makes the HybridBlock `net` run natively where it can, in training and inference, and returns it.

    What has no kernel runs on MXNet's operators between the native parts, and so does a call with arrays on other
    devices or of other number types; `non_native_operators` lists it. A block whose `hybrid_forward` is not one of
    MXNet's or of this package has to be hybridized; until then only the blocks in it are native. Raises TypeError if
    `net` is no HybridBlock.
    """
    if not isinstance(net, HybridBlock):
        raise TypeError(f"only a HybridBlock can run natively, not a {type(net).__name__}")
    for block in blocks_below(net):
        if isinstance(block, HybridBlock) and not isinstance(block, Native) and (block is net or block._children):
            kind: Any = type(block)
            block.__class__ = _native_class(kind)
    return net


def non_native_operators(net: HybridBlock, *input_shapes: Sequence[int]) -> List[Tuple[str, str]]:
    """[(name of an operator, one line why it has no kernel)] of the HybridBlock `net` called with arrays of these
    shapes, the batch included, in order of execution. What always runs on MXNet's operators, as the classifier does,
    is among them."""
    graph = trace(net, len(input_shapes))
    _, reasons = segments.find(graph, graph.shapes(input_shapes))
    return [(graph.nodes[number].name, reason) for number, reason in reasons.items()]


@functools.lru_cache(None)
def _native_class(cls: Any) -> type:
    return type(cls.__name__, (Native, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


def compute(block: Any, forward: Callable[..., Any], inputs: Tuple[Any, ...]) -> Optional[Tuple[Any]]:
    """(what the native program of `block` makes of `inputs`,), or None where there is none: `forward`, which is
    MXNet's, is to go on."""
    contexts = []  # to ask MXNet takes a microsecond or two each time
    for x in inputs:
        if type(x) is not mx.nd.NDArray:
            return None
        contexts.append(x.context)
        if contexts[-1].device_type != "cpu":
            return None
    reason = unavailable_reason()
    if reason is None:
        plan = vars(block).get("_native")
        if plan is None or not plan.holds(block, len(inputs)):
            plan = _Plan.of(block, forward, inputs)
        try:
            made = plan(inputs, contexts)
        except NotNative as error:
            reason = str(error)
        except _Left:
            return None
    if reason is not None:
        _log_once(reason)
        return None
    if block._active and block._cached_op is None:
        block._build_cache(*inputs)  # what export() saves
    return (made,)


@functools.lru_cache(None)
def _log_once(reason: str, where: str = "") -> None:
    logger.warning("native CPU kernels are not used%s: %s", where, reason)


class _Left(Exception):
    """To MXNet, which finds missing sizes out, or says that those of the data do not fit, or that a parameter has no
    values."""


class _Plan:
    """A block as it was when it was traced: its graph and the programs made of it, or the reason why there is none."""

    @classmethod
    def of(cls, block: Any, forward: Callable[..., Any], inputs: Tuple[Any, ...]) -> "_Plan":
        vars(block).setdefault("_native", None)  # an attribute more or less is a change
        plan = cls()
        plan._read(block, forward, inputs)
        vars(block)["_native"] = plan
        return plan

    def __reduce__(self) -> Tuple[Any, ...]:
        return type(None), ()  # a copy of the block makes its own

    def _read(self, block: Any, forward: Callable[..., Any], inputs: Tuple[Any, ...]) -> None:
        self._block, self._count, self._active = block, len(inputs), block._active
        self._reason: Optional[str] = None
        self._graph: Any = None
        self._cached_graph = None
        self._found: Dict[Any, Any] = {}
        self._programs: Dict[Any, Program] = {}
        self._arrays: Dict[Any, Any] = {}
        self._owner = Owner()
        self._constants: Dict[int, Any] = {}  # by which permutations are known: {number of a parameter: values}
        self._watch: Optional[watch.Watch] = None
        self._watches, self._untouched = 0, False
        below = blocks_below(block)
        try:
            self._graph = self._hybridized(inputs) if self._active else self._by_itself(below, forward)
        except NotNative as error:
            self._reason = str(error)
        except Exception as error:  # of the user's code; MXNet's own call of it will raise it, if it does there too
            self._reason = f"{type(block).__name__} cannot be traced: {first_line(error)}"
        self._state = State(below)
        if self._graph is not None:
            self._parameters = list(self._graph.parameters.values())
            # With static_shape MXNet forgets one of two passes before a backward one; with static_alloc each size of
            # image would keep what training needs for it.
            self._flags = {
                training: [
                    (name, value)
                    for name, value in (block._flags if self._active else ())
                    if name not in ("static_shape", training and "static_alloc")
                ]
                for training in (True, False)
            }

    def _hybridized(self, inputs: Tuple[Any, ...]) -> Graph:
        require(not getattr(self._block, "_backend", None), "the network is for another backend")
        require(not self._block._callback, "a block has a hook for operators")
        self._block._clear_cached_op()
        symbols, made = self._block._get_graph(*inputs)
        self._cached_graph = self._block._cached_graph
        require(len(symbols) == len(inputs), "inputs within inputs have no native kernel")
        return read(made, [symbol.name for symbol in symbols], self._block._out_format, parameters_of(self._block))

    def _by_itself(self, below: Sequence[Any], forward: Callable[..., Any]) -> Graph:
        reason = python_reason(self._block, below)
        require(reason is None, reason or "")
        return trace(self._block, self._count, forward)

    def holds(self, block: Any, count: int) -> bool:
        """Whether this is still `block`, called with so many arrays."""
        self._untouched = self._watch is not None and self._watch.same() and self._state.unwatched_holds()
        return (
            block is self._block
            and count == self._count
            and block._active == self._active
            and (
                not self._active
                or (block._cached_graph is self._cached_graph and not block._backend and not block._callback)
            )
            and (self._untouched or self._state.holds())
        )

    def __call__(self, inputs: Tuple[Any, ...], contexts: Sequence[Any]) -> Any:
        """NDArrays on these CPUs, float32 -> what the block makes. Raises NotNative, _Left."""
        require(self._reason is None, self._reason or "")
        training = autograd.is_training()
        require(
            autograd.is_recording() == training,
            "gradients through moving statistics and batch statistics without gradients have no kernel",
        )
        context, shapes = contexts[0], tuple([x.shape for x in inputs])
        for x, shape, own in zip(inputs, shapes, contexts):
            require(
                x.dtype == np.float32 and x.stype == "default" and (own is context or own == context),
                "the data is not dense float32",
            )
            require(shape and 0 not in shape, "the data is empty")
        arrays = self._values(context)
        if not all(np.array_equal(arrays[number].asnumpy(), values) for number, values in self._constants.items()):
            self._found, self._programs, self._constants = {}, {}, {}  # permutations may be others now
        wanted: Tuple[int, ...] = ()
        added: Tuple[int, ...] = ()
        if training:
            # Whether a gradient goes to each input, and whether into an array of the user's, which may add.
            wanted = tuple(0 if not _wants_gradient(x) else 1 if x.grad is None else 2 for x in inputs)
            added = self._added
        single = not training and all([shape[0] == 1 for shape in shapes])
        key = tuple([shape[1:] for shape in shapes]), training, wanted, added, single
        program = self._programs.get(key)
        if program is None:
            program = self._program(key, shapes)
        return _regroup(program(arrays, inputs, context), self._graph.format)

    def _program(self, key: Any, shapes: Any) -> Program:
        _, training, wanted, added, single = key
        if key[0] not in self._found:
            try:
                of_values = self._graph.shapes(shapes)
            except (ValueError, mx.MXNetError):
                raise _Left from None
            short = contracted(self._graph, of_values)
            self._constants.update(
                {
                    self._parameters.index(self._graph.parameters[name]): values
                    for name, values in short.constants.items()
                }
            )
            native_parts, reasons = segments.find(self._graph, of_values, short)
            # A classifier may be a convolution of a single pixel: MXNet's operator is meant to run there.
            left = [
                reason
                for number, reason in reasons.items()
                if self._graph.nodes[number].op == "Convolution" and set(of_values[Ref(number)][2:]) != {1}
            ]
            if native_parts and left:
                _log_once(left[0], " in parts of a network")
            self._found[key[0]] = native_parts, [*left, *reasons.values(), "there is no operator"][0]
        native_parts, reason = self._found[key[0]]
        require(native_parts, reason)
        apart = [self._parameters[n].name for n in added]
        apart += [name for name, how in zip(self._graph.data, wanted) if how == 2]
        while len(self._programs) >= _MOST_PROGRAMS:
            del self._programs[next(iter(self._programs))]
        try:
            program = (single and AtOnce.of(self._graph, native_parts, self._owner, shapes)) or Program(
                self._graph, native_parts, self._owner, training, wanted, apart, self._flags[training]
            )
        except mx.MXNetError as error:  # an operator without a gradient, perhaps, which MXNet asks for here already
            self._found[key[0]] = (), first_line(error)
            raise NotNative(first_line(error)) from None
        self._programs[key] = program
        return program

    def _values(self, context: Any) -> List[Any]:
        """The arrays of the parameters on `context`, the same list as long as they are. Raises NotNative, _Left."""
        place, known = self._arrays.get(context, (None, None))
        if self._untouched and known is not None:
            self._watches = 0
            return known
        try:
            if known is None:
                place = [p.list_ctx().index(context) for p in self._parameters]
            arrays = [p._data[i] for p, i in zip(self._parameters, place)]
        except (TypeError, IndexError, ValueError, RuntimeError):
            raise _Left from None
        if known is None or not all(map(is_, arrays, known)):
            if any(a.context != context for a in arrays):
                raise _Left
            require(
                all(a.dtype == np.float32 and a.stype == "default" for a in arrays)
                and all(p._grad_stype == "default" for p in self._parameters),
                "the parameters are not float32",
            )
            known = arrays
        self._arrays[context] = place, known
        if not self._untouched:
            self._added = tuple(n for n, p in enumerate(self._parameters) if p._grad_req == "add")
            self._begin_watch(context)
        return known

    def _begin_watch(self, context: Any) -> None:
        """From now on `holds` need not look at anything that is not written to."""
        self._watch, self._watches = None, self._watches + 1
        self._arrays = {context: self._arrays[context]}  # others may have changed
        if self._watches > _USELESS_WATCHES or not watch.works():
            return
        new = watch.Watch()
        for parameter in self._parameters:
            new.dict(vars(parameter))
            new.list(parameter._data)
        if self._state.watch(new):
            new.begin()
            self._watch = new


def _wants_gradient(array: Any) -> bool:
    """Whether `array` is a variable or was computed from one while MXNet recorded."""
    try:
        autograd.get_symbol(array)
    except mx.MXNetError:  # "not part of a computation graph"; MXNet has no other way to ask
        return False
    return True
