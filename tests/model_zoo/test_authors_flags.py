"""What the authors' flags for ImageNet build: names, shapes and settings of the graph that their code makes of them, in
Gluon, as train_imagenet.py builds it, and in symbols/; and the same of the six published graphs.
"""

import json

import authors_graphs
import pytest

import igc_gluon
import symbols
import train_imagenet
from igc_gluon import symbol_file
from igc_gluon.model_zoo.authors import to_module_symbol
from igc_gluon.model_zoo.graphs import layers_of, match

IMAGE = (1, 3, 224, 224)
PAIRS = [(100, 1), (100, 2), (100, 4), (4, 16), (16, 8), (3, 5), (1, 1)]


def graph_of(symbol):
    return layers_of(symbol_file.loads(symbol.tojson().encode()))


def agrees(graph, symbol, bn):
    """`symbol` has the parameters of `graph`, an authors_graphs.Graph, by name and shape, in layers of the same
    settings, `bn` of every normalization."""
    arguments, _, aux = symbol.infer_shape(data=IMAGE)
    shape_of = {
        **{
            f"arg:{name}": shape
            for name, shape in zip(symbol.list_arguments(), arguments)
            if name not in ("data", "softmax_label")
        },
        **{f"aux:{name}": shape for name, shape in zip(symbol.list_auxiliary_states(), aux)},
    }
    assert shape_of == {name: tuple(shape) for name, shape in graph.shapes.items()}
    names = match(layers_of(symbol_file.loads(json.dumps(graph.dict()).encode())), graph_of(symbol))
    assert all(name == partner for name, partner in names.items()) and len(names) == len(shape_of)
    settings = {
        (float(node["attrs"]["eps"]), float(node["attrs"].get("momentum", 0.9)), node["attrs"]["fix_gamma"])
        for node in json.loads(symbol.tojson())["nodes"]
        if node["op"] == "BatchNorm"
    }
    assert settings == {bn}


def gluon_of(*flags):
    args = train_imagenet.parse([*flags])
    experiment = train_imagenet.experiment(args, 1)
    return to_module_symbol(experiment.build(1000))


@pytest.mark.parametrize("L, M", PAIRS)
def test_resnet_igc_imgnet_d18(L, M):
    graph = authors_graphs.resnet18_igc(L * M, [(L << stage, 2 * M) for stage in range(4)])
    for symbol in (
        gluon_of("--network", "resnet_igc_imgnet_d18", "--primary-partition", str(L), "--secondary-partition", str(M)),
        symbols.get_symbol("resnet_igc_imgnet_d18", 1000, 18, L, M),
    ):
        agrees(graph, symbol, (2e-5, 0.9, "False"))


def test_layers_of_one_pair():
    """L = 3, M = 5, by hand: (output channels, input channels of a group, kernel), groups, stride of first blocks."""
    expected = {"g0_conv": (15, 3, 7, 1, 2)}
    for stage, (width, before, L, stride) in enumerate(
        ((30, 15, 3, 1), (60, 30, 6, 2), (120, 60, 12, 2), (240, 120, 24, 2)), 1
    ):
        expected[f"g{stage}_b1_proj_conv"] = (width, before // L, 1, L, stride)
        expected[f"g{stage}_b1_conv1_conv1"] = (width, before // L, 3, L, stride)
        expected[f"g{stage}_b1_conv1_conv2"] = (width, width // 10, 1, 10, 1)
        expected[f"g{stage}_b2_conv2_conv1"] = (width, width // L, 3, L, 1)
    symbol = symbols.get_symbol("resnet_igc_imgnet_d18", 1000, 18, 3, 5)
    shapes = dict(zip(symbol.list_arguments(), symbol.infer_shape(data=IMAGE)[0]))
    nodes = {node["name"]: node.get("attrs", {}) for node in json.loads(symbol.tojson())["nodes"]}
    for name, (width, members, kernel, groups, stride) in expected.items():
        assert shapes[f"{name}_weight"] == (width, members, kernel, kernel), name
        assert int(nodes[name].get("num_group", 1)) == groups and nodes[name]["stride"] == f"({stride}, {stride})", name


@pytest.mark.parametrize("L", [64, 69, 7])
def test_resnet_imgnet_d18(L):
    """Its width is L; M, 4 by default in the authors' script, has no meaning."""
    for symbol in (
        gluon_of("--network", "resnet_imgnet_d18", "--primary-partition", str(L)),
        symbols.get_symbol("resnet_imgnet_d18", 1000, 18, L, 4),
    ):
        agrees(authors_graphs.resnet18(L), symbol, (2e-5, 0.9, "False"))


SYMBOLS = {
    "resnet18_w64": ("resnet_imgnet_d18", 64, 1),
    "resnet18_w69": ("resnet_imgnet_d18", 69, 1),
    "resnet18_igc_l4m32": ("resnet_igc_imgnet_d18", 4, 32, "secondary"),
    "resnet18_igc_l16m16": ("resnet_igc_imgnet_d18", 16, 16, "secondary"),
    "resnet18_igc_l100m2": ("resnet_igc_imgnet_d18", 100, 1),
}


@pytest.mark.parametrize("name", authors_graphs.NAMES)
def test_published_networks(name):
    bn = (1e-5 if name == "igcv3_1.0" else 2e-5, 0.9, "False")
    network, *numbers = SYMBOLS.get(name, ("igcv3",))
    symbol = getattr(symbols, network).get_symbol(1000, *([18, *numbers] if numbers else []))
    for graph_of_network in (to_module_symbol(igc_gluon.get_model(name)), symbol):
        agrees(authors_graphs.published(name), graph_of_network, bn)
