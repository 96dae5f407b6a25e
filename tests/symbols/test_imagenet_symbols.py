"""ResNet-18 symbols: names, shapes and counts of the published checkpoints."""

import hashlib
import json

import numpy as np
import pytest

from symbols import resnet_igc_imgnet_d18, resnet_imgnet_d18

IMAGE = (1, 3, 224, 224)
# arguments, arguments + moving statistics, multiply-adds
PUBLISHED = {
    "w64": (resnet_imgnet_d18, (64, 1), (11689512, 11699112, 1814073344)),
    "w69": (resnet_imgnet_d18, (69, 1), (13542457, 13552807, 2098611264)),
    "l4m32": (resnet_igc_imgnet_d18, (4, 32, "secondary"), (12251240, 12270440, 1944641536)),
    "l16m16": (resnet_igc_imgnet_d18, (16, 16, "secondary"), (13528296, 13566696, 2265989120)),
    "l100m2": (resnet_igc_imgnet_d18, (100, 1), (8637900, 8668100, 1264780800)),
}


def published(name):
    module, partitions, counts = PUBLISHED[name]
    return module.get_symbol(1000, 18, *partitions), counts


def shapes_of(symbol):
    arguments, _, aux = symbol.infer_shape(data=IMAGE)
    shape_of = dict(zip(symbol.list_arguments(), arguments))
    shape_of.pop("data"), shape_of.pop("softmax_label")
    return shape_of, dict(zip(symbol.list_auxiliary_states(), aux))


def size(shapes):
    return sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_of_the_published_checkpoints(name):
    symbol, expected = published(name)
    arguments, aux = shapes_of(symbol)
    internals = symbol.get_internals()
    outputs = dict(zip(internals.list_outputs(), internals.infer_shape(data=IMAGE)[1]))
    multiply_adds = sum(
        int(np.prod(shape)) * int(np.prod(outputs[parameter[: -len("_weight")] + "_output"][2:]))
        for parameter, shape in arguments.items()
        if parameter.endswith("_weight")
    )
    assert (size(arguments), size(arguments) + size(aux), multiply_adds) == expected


@pytest.mark.parametrize(
    "name, digest",
    [("w64", "725c2ddb13b6cd3f31444210b3037862cfdd0b98"), ("l100m2", "9de809522c03ce11a9ad5de8e7849b70af555b6e")],
)
def test_names_and_shapes_of_the_published_checkpoints(name, digest):
    """The digest is that of the parameter files' sorted names and shapes, taken from the authors' graphs."""
    arguments, aux = shapes_of(published(name)[0])
    text = "\n".join(f"{key} {tuple(shape)}" for key, shape in sorted({**arguments, **aux}.items()))
    assert hashlib.sha1(text.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    "name, stem, widths, partitions",
    [
        ("w64", 64, (64, 128, 256, 512), [None] * 4),
        ("l4m32", 128, (128, 256, 512, 1024), [(4, 32), (4, 64), (4, 128), (4, 256)]),
        ("l100m2", 100, (200, 400, 800, 1600), [(100, 2), (200, 2), (400, 2), (800, 2)]),
    ],
)
def test_stages(name, stem, widths, partitions):
    symbol, _ = published(name)
    internals = symbol.get_internals()
    outputs = dict(zip(internals.list_outputs(), internals.infer_shape(data=IMAGE)[1]))
    nodes = {node["name"]: node.get("attrs", {}) for node in json.loads(symbol.tojson())["nodes"]}
    assert outputs["g0_relu_output"] == (1, stem, 112, 112) and outputs["g0_pool_output"] == (1, stem, 56, 56)
    for stage, (width, pair) in enumerate(zip(widths, partitions), 1):
        assert outputs[f"g{stage}_b2_relu_output"][1:3] == (width, 112 >> stage)
        projected = any(node.startswith(f"g{stage}_b1_proj") for node in nodes)
        assert projected == (stage > 1 or stem != width)
        if pair:
            assert tuple(int(nodes[f"g{stage}_b1_conv1_conv{i}"]["num_group"]) for i in (1, 2)) == pair
            if projected:
                assert int(nodes[f"g{stage}_b1_proj_conv"]["num_group"]) == pair[0]


@pytest.mark.parametrize(
    "module, arguments, text",
    [
        (resnet_imgnet_d18, (10, 34, 64, 1), "depth must be 18, not 34"),
        (resnet_igc_imgnet_d18, (10, 20, 64, 1), "depth must be 18, not 20"),
        (resnet_imgnet_d18, (0, 18, 64, 1), "num_classes must be a positive integer, not 0"),
        (resnet_igc_imgnet_d18, (10, 18, 4, 0), "secondary_partition must be a positive integer, not 0"),
        (resnet_igc_imgnet_d18, (10, 18, 4, 3, "both"), "doubled must be 'primary' or 'secondary', not 'both'"),
    ],
)
def test_bad_arguments(module, arguments, text):
    with pytest.raises(ValueError, match=text):
        module.get_symbol(*arguments)
