"""Symbol JSON from strangers: what is read, and that everything else is one line."""

import copy
import json

import authors_graphs
import mxnet as mx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import igc_gluon
from igc_gluon import symbol_file
from igc_gluon.errors import UserError

GRAPH = authors_graphs.resnet18_igc(2, [(2 << s, 2) for s in range(4)]).dict()


def loads(document):
    return symbol_file.loads(json.dumps(document).encode())


def refused(document, text):
    with pytest.raises(UserError, match=text) as error:
        loads(document)
    assert "\n" not in str(error.value)


def changed(change):
    document = copy.deepcopy(GRAPH)
    change(document)
    return document


def operator(document, op):
    return next(node for node in document["nodes"] if node["op"] == op)


def test_all_three_generations():
    old = loads(GRAPH)
    assert old.nodes[old.head].op == "SoftmaxOutput"
    stem = next(node for node in old.nodes if node.op == "Convolution")
    assert stem.attributes == {
        "num_filter": 2,
        "kernel": (7, 7),
        "stride": (2, 2),
        "pad": (3, 3),
        "dilate": (1, 1),
        "num_group": 1,
        "no_bias": True,
        "layout": "NCHW",
    }
    norm = next(node for node in old.nodes if node.op == "BatchNorm")
    assert norm.attributes["eps"] == 2e-5 and len(norm.inputs) == 3 and not norm.attributes["fix_gamma"]
    assert len(next(n for n in loads(authors_graphs.igcv3().dict()).nodes if n.op == "BatchNorm").inputs) == 5
    net = igc_gluon.get_model("cifar_sumfusion8_l2m3")
    new = symbol_file.loads(net(mx.sym.var("data")).tojson().encode())
    assert {node.op for node in new.nodes} >= {"Reshape", "sum", "Pooling", "FullyConnected"}


@pytest.mark.parametrize(
    "data, text",
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[]", "no list of 1 to"),
        (b'{"nodes": []}', "no list of 1 to"),
        (b"[" * 100000, "nested too deeply|not JSON"),
        (b'{"nodes": ' + b"9" * 5000 + b"}", "not JSON"),
        (b" " * (symbol_file.MAX_BYTES + 1), "larger than 16 MiB"),
        (b'{"nodes": [1]}', "node 0 has no name"),
    ],
)
def test_what_is_no_symbol(data, text):
    with pytest.raises(UserError, match=text):
        symbol_file.loads(data)


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda d: d["heads"].append([0, 0]), "does not have one result"),
        (lambda d: d.update(heads=[[10**6, 0]]), "its result is not the number of a node"),
        (lambda d: d.update(heads=[[-1, 0]]), "its result is not the number of a node"),
        (lambda d: d.update(heads=[[0, 1]]), "second result"),
        (lambda d: d.update(heads=[[True, 0]]), "its result is not the number"),
        (lambda d: operator(d, "Convolution")["inputs"].__setitem__(0, [99, 0]), "input is not the number of a node"),
        (lambda d: operator(d, "Convolution").update(inputs=[[0, 0]]), "has 1 inputs, not 2"),
        (lambda d: operator(d, "BatchNorm")["inputs"].__setitem__(1, [2, 0]), "takes the result of g0_conv for"),
        (lambda d: operator(d, "Flatten").update(op="Custom"), "is a Custom, an operator that is not known"),
        (
            lambda d: operator(d, "Convolution")["param"].update(num_filter="-2"),
            "num_filter of g0_conv must be a whole",
        ),
        (lambda d: operator(d, "Convolution")["param"].update(num_filter="99999999999999"), "must be a whole number"),
        (lambda d: operator(d, "Convolution")["param"].update(kernel="(3, 3, 3)"), "at most 2 whole numbers"),
        (lambda d: operator(d, "Convolution")["param"].update(kernel="(3,)"), "two whole numbers"),
        (lambda d: operator(d, "Convolution")["param"].update(stride="(0, 1)"), "from 1 to"),
        (lambda d: operator(d, "Convolution")["param"].update(no_bias="maybe"), "True or False, not maybe"),
        (lambda d: operator(d, "Convolution")["param"].update(other="1"), "has the attribute other"),
        (lambda d: operator(d, "Convolution")["param"].pop("num_filter"), "has no attribute num_filter"),
        (lambda d: operator(d, "BatchNorm")["param"].update(eps="nan"), "eps of g0_bn must be a number"),
        (lambda d: operator(d, "BatchNorm")["param"].update(eps="x" * 300), "texts of at most 256"),
        (lambda d: operator(d, "Reorder")["param"].update(branch_factor="0"), "branch_factor of"),
        (lambda d: operator(d, "Pooling")["param"].pop("kernel"), "has no attribute kernel"),
        (lambda d: operator(d, "null").update(inputs=[[0, 0]]), "is not the number of a node"),
        (lambda d: d["nodes"][1].update(name="data"), "two of its arrays have the same name"),
        (lambda d: d["nodes"][1].update(name="a\nb"), "no name"),
        (lambda d: d["nodes"][2].update(inputs=5), "no list of inputs"),
    ],
)
def test_what_is_refused(change, text):
    refused(changed(change), text)


def test_files(tmp_path):
    with pytest.raises(UserError, match="cannot read .*: No such file"):
        symbol_file.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="bad.json is no symbol that can be read here: it is not JSON"):
        symbol_file.load(tmp_path / "bad.json")


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_damage_is_read_or_refused(data):
    """Values anywhere in the document replaced by others."""
    document = copy.deepcopy(GRAPH)
    for _ in range(data.draw(st.integers(1, 3))):
        place, key = document, data.draw(st.sampled_from(sorted(document)))
        while isinstance(place[key], (list, dict)) and len(place[key]) and data.draw(st.integers(0, 4)):
            place = place[key]
            key = data.draw(
                st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1)
            )
        place[key] = data.draw(
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(max_size=5),
                st.just([]),
                st.just({}),
                st.sampled_from(["(3, 3)", "Convolution", "Pooling", "null", [0, 0], [5, 0], [[1, 0]]]),
            )
        )
    try:
        graph = loads(document)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert all(0 <= i < number for number, node in enumerate(graph.nodes) for i in node.inputs)
