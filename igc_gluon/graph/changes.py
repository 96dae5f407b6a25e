"""Whether a block is still what it was when it was traced, and whether its Python code need not run at every call."""

import types
from collections import OrderedDict
from operator import itemgetter
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Set

from mxnet.gluon import Block

# What MXNet gives every block and no computation depends on, or what changes with the way it is called only.
_OF_EVERY_BLOCK = set(
    (
        "_empty_prefix _prefix _params _name _scope _cached_graph _cached_op _cached_op_args _out_format "
        "_in_format _active _flags _monitor_all _backend _backend_opts _native"
    ).split()
)
_METHODS = ("__call__", "forward", "hybrid_forward")
_HARMLESS = set(
    (
        "__module__ __qualname__ __doc__ __init__ __repr__ __dict__ __weakref__ __annotations__ "
        "__firstlineno__ __static_attributes__"
    ).split()
)


def blocks_below(block: Block) -> List[Block]:
    """`block` and every block that it can reach, each once: children, and others among its attributes."""
    blocks, waiting = {}, [block]
    while waiting:
        one = waiting.pop()
        if id(one) not in blocks:
            blocks[id(one)] = one
            waiting += _blocks_in(vars(one).values())
    return list(blocks.values())


def _blocks_in(values: Iterable[Any]) -> Iterator[Block]:
    for value in values:
        if isinstance(value, Block):
            yield value
        elif isinstance(value, dict):
            yield from _blocks_in(value.values())
        elif isinstance(value, (list, tuple)):
            yield from _blocks_in(value)


class State:
    """Attributes, children, options and hooks of `blocks` as they are now, and the methods of their classes."""

    def __init__(self, blocks: List[Block]) -> None:
        self._blocks, self._dicts = blocks, [vars(block) for block in blocks]
        self._counts = list(map(len, self._dicts))
        self._of = [itemgetter(*[key for key in held if key not in _OF_EVERY_BLOCK]) for held in self._dicts]
        self._values = self._read()
        containers = [value for values in self._values for value in values if isinstance(value, (dict, list, set))]
        self._empty = [value for value in containers if not value]
        self._full = [value for value in containers if value]
        self._copies = [_copy(value) for value in self._full]
        self._types = list(map(type, blocks))
        self._classes = list(set(self._types))
        self._methods, self._methods_watched = self._read_methods(), False

    def holds(self) -> bool:
        """Whether all is as it was."""
        try:
            return (
                list(map(type, self._blocks)) == self._types
                and list(map(len, self._dicts)) == self._counts
                and not any(self._empty)
                and self._full == self._copies
                and self._read() == self._values
                and self._methods_hold()
            )
        except Exception:  # attributes that are gone, or that cannot be compared: any class may be among them
            return False

    def watch(self, watch: Any) -> bool:
        """Gives all that `holds` looks at to a watch.Watch. Returns whether it can watch that, apart from methods."""
        self._methods_watched = all([watch.attributes_of_class(cls) for cls in self._classes])
        for block, held in zip(self._blocks, self._dicts):
            watch.type_of(block)
            watch.dict(held)
        return all(_watched(watch, value) for value in self._empty + self._full)

    def unwatched_holds(self) -> bool:
        """Whether all is as it was, as far as the watch does not say it."""
        return self._methods_watched or self._methods_hold()

    def _methods_hold(self) -> bool:
        return self._read_methods() == self._methods

    def _read(self) -> List[Any]:
        return [of(held) for of, held in zip(self._of, self._dicts)]

    def _read_methods(self) -> List[Any]:
        return [getattr(cls, name) for cls in self._classes for name in _METHODS if hasattr(cls, name)]


def _watched(watch: Any, value: Any) -> bool:
    if isinstance(value, dict):
        watch.dict(value)
        return all(_watched(watch, one) for one in value.values())
    if isinstance(value, list):
        watch.list(value)
        return all(_watched(watch, one) for one in value)
    return not isinstance(value, set)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):  # the order of children is that of execution
        return (OrderedDict if isinstance(value, OrderedDict) else dict)(
            (key, _copy(one)) for key, one in value.items()
        )
    return [_copy(one) for one in value] if isinstance(value, list) else set(value) if isinstance(value, set) else value


def python_reason(block: Block, below: Sequence[Block]) -> Optional[str]:
    """None, or one line why the Python code of `block`, which is not hybridized, has to run at every call: code of the
    user's may compute something else each time. below: blocks_below(block)."""
    known = {}
    for one in below:
        if one is not block and (one._forward_hooks or one._forward_pre_hooks):
            return "a block has a hook"
        if getattr(one, "_callback", None):
            return "a block has a hook for operators"
        if type(one) not in known:
            known[type(one)] = _functions_of(type(one))
        names = known[type(one)]
        if names is None or any(
            name in names or (callable(value) and not isinstance(value, (Block, type)))
            for name, value in vars(one).items()
            if name not in _OF_EVERY_BLOCK
        ):
            return f"{type(one).__name__} has code of its own, which hybridize() makes a graph of"
    return None


def _functions_of(cls: type) -> Optional[Set[str]]:
    """Names of the functions of a class that adds none to those of MXNet and this package, else None."""
    names: Set[str] = set()
    for one in cls.__mro__:
        if not _is_ours(one.__module__) and one is not object and set(vars(one)) - _HARMLESS:
            return None
        names.update(name for name, value in vars(one).items() if isinstance(value, types.FunctionType))
    patched = not all(_is_ours(getattr(getattr(cls, name), "__module__", "")) for name in _METHODS)
    return None if patched else names


def _is_ours(module: str) -> bool:
    return module == "igc_gluon" or module.startswith(("mxnet.gluon.", "igc_gluon."))
