"""Notices that Python objects have been written to, without looking at what is in them.

To walk through all attributes of a network takes longer than to run a small one. CPython gives every dictionary another
number whenever it is written to (PEP 509), a class when it or one of its bases is, an OrderedDict another state when it
is put in another order; these are words in memory, of which a native function compares hundreds in microseconds.
Where they do not behave like that, on another Python than those up to 3.12, nothing is watched, and the walk is made.
"""

import ctypes
import functools
import struct
import sys
import sysconfig
from collections import OrderedDict
from typing import Any, Callable, Dict, List

import numpy as np

from igc_gluon.native.operators import functions

_TYPE, _DICT_VERSION, _LIST_LENGTH, _LIST_ITEMS = 8, 24, 16, 24  # bytes into an object
_CLASS_FLAGS, _CLASS_VERSION, _HAS_VERSION = 168, 384, 1 << 19  # the last is a flag
_OF_ORDER = range(48, 96, 8)  # what an OrderedDict has behind that of a dict: where in it the state is differs


class Watch:
    """Objects as they are at `begin`. It keeps them alive."""

    def __init__(self) -> None:
        self._kept: Any = []
        self._addresses: Any = []

    def type_of(self, thing: object) -> None:
        self._kept.append(thing)
        self._addresses.append(id(thing) + _TYPE)

    def attributes_of_class(self, cls: type) -> bool:
        """That nothing is written to a class and its bases. Returns whether this class can be watched."""
        getattr(cls, "forward", None)  # a class has a number from when something is looked up in it
        self._kept.append(cls)
        self._addresses += [id(cls) + _CLASS_FLAGS, id(cls) + _CLASS_VERSION]
        return bool(ctypes.c_uint64.from_address(id(cls) + _CLASS_FLAGS).value & _HAS_VERSION)

    def dict(self, thing: Dict[Any, Any]) -> None:
        """That nothing is written to a dict, nor its order changed."""
        self._kept.append(thing)
        self._addresses.append(id(thing) + _DICT_VERSION)
        if isinstance(thing, OrderedDict) and len(thing) > 1:
            self._addresses += [id(thing) + word for word in _OF_ORDER]

    def list(self, thing: List[Any]) -> None:
        """That a list holds the same objects."""
        self._kept.append(thing)
        items = id(thing) + _LIST_ITEMS
        first = ctypes.c_uint64.from_address(items).value
        self._addresses += [id(thing) + _LIST_LENGTH, items, *(first + 8 * place for place in range(len(thing)))]

    def begin(self) -> None:
        self._addresses = np.array(self._addresses, np.uint64)
        self._expected = np.empty_like(self._addresses)
        self._arguments = len(self._addresses), self._addresses.ctypes.data, self._expected.ctypes.data
        functions().igc_read_words(*self._arguments)

    def same(self) -> bool:
        """Whether all is as it was at `begin`."""
        return functions().igc_same_words(*self._arguments) == 1


@functools.lru_cache(None)
def works() -> bool:
    """Whether this Python's bytecode behaves as described above, by trying it."""
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    try:
        return all(_is_noticed(make, change) for make, change in _TRIALS)
    except Exception:  # whatever this Python is, it is not known
        return False


def _is_noticed(make: Callable[[], Any], change: Callable[[Any], Any]) -> bool:
    thing = make()
    held = vars(thing) if isinstance(thing, _Thing) else thing
    for _ in range(30):  # Python specializes code that runs often
        watch = Watch()
        if isinstance(held, type):
            if not watch.attributes_of_class(held):
                return False
        elif isinstance(held, dict):
            watch.dict(held)
            watch.type_of(thing)
        else:
            watch.list(held)
        watch.begin()
        if not watch.same():
            return False
        change(thing)
        if watch.same():
            return False
    return True


class _Thing:
    def __init__(self) -> None:
        self.a, self.b = object(), None


class _Other(_Thing):
    pass


def _set(thing: Any) -> None:
    thing.a = object()


def _swap_class(thing: Any) -> None:
    thing.__class__ = _Other if type(thing) is _Thing else _Thing


def _derived() -> type:
    return type("Derived", (type("Base", (), {"method": lambda self: 1}),), {"other": lambda self: 2})


def _replace_in(cls: type, thing: Any, name: str) -> None:
    thing.method(), thing.other()
    setattr(cls, name, lambda self: 3)


def _add_and_remove(thing: Any) -> None:
    thing["c"] = 1
    del thing["c"]


_TRIALS = [
    (_Thing, _set),
    (_Thing, _swap_class),
    (_Thing, lambda thing: setattr(thing, "a", object())),
    (_Thing, lambda thing: thing.__dict__.update(b=object())),
    (lambda: {"a": 1, "b": 2}, lambda thing: thing.update(a=object())),
    (lambda: {"a": 1}, _add_and_remove),
    (dict, _add_and_remove),
    (OrderedDict, _add_and_remove),
    (lambda: OrderedDict(a=1, b=2), lambda thing: thing.move_to_end(next(iter(thing)))),
    (lambda: [1, 2], lambda thing: thing.__setitem__(0, object())),
    (lambda: [1], lambda thing: thing.append(object())),
    (list, lambda thing: thing.append(object())),
    (_derived, lambda cls: _replace_in(cls, cls(), "other")),
    (_derived, lambda cls: _replace_in(cls.__base__, cls(), "method")),
]
