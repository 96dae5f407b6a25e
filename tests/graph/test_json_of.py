"""MXNet's JSON of a network: what is read of it, and that it is freed."""

import ctypes
import gc
import json

import mxnet as mx
import pytest

from igc_gluon import get_model
from igc_gluon.graph import json_of, trace


class _Heap(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def bytes_of_heap():
    gc.collect()
    mallinfo2 = ctypes.CDLL(None).mallinfo2  # of glibc 2.33 on
    mallinfo2.restype = _Heap
    heap = mallinfo2()
    return heap.uordblks + heap.hblkhd


def growth(call, times):
    """Bytes of the heap that each call leaves."""
    call()
    call()
    before = bytes_of_heap()
    for _ in range(times):
        call()
    return (bytes_of_heap() - before) / times


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library does not say what its heap holds"
)
def test_a_network_that_is_traced_leaves_nothing():
    """MXNet's tojson() leaves 20 KB of such a network."""
    net = get_model("cifar_plain5_w4", classes=3)
    assert growth(lambda: trace(net), 20) < 2000
    symbol = net(mx.sym.var("data"))
    assert growth(lambda: json_of(symbol), 20) < 1000


def test_casts_of_mixed_precision_are_left_out():
    data = mx.sym.var("data")
    cast = mx.sym.amp_cast(data, dtype="float16")
    symbol = mx.sym.relu(mx.sym.amp_cast(mx.sym.FullyConnected(cast, num_hidden=3, name="fc"), dtype="float32"))
    made = json.loads(json_of(symbol))
    assert [node["op"] for node in made["nodes"]] == ["null", "null", "null", "FullyConnected", "relu"]
    assert json.loads(json_of(mx.sym.relu(data, name="x"))) == json.loads(mx.sym.relu(data, name="x").tojson())
