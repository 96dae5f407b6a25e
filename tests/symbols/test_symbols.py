"""Structure of the symbols: the authors' names, shapes, published counts, and what is refused."""

import json

import numpy as np
import pytest

import symbols
from symbols import common

IMAGE = (1, 3, 32, 32)


def layers(symbol, op):
    """{name: attributes} of the layers that are the operator `op`."""
    nodes = json.loads(symbol.tojson())["nodes"]
    return {node["name"]: node.get("attrs", {}) for node in nodes if node["op"] == op}


def argument_shapes(symbol):
    return dict(zip(symbol.list_arguments(), symbol.infer_shape(data=IMAGE)[0]))


def counts(symbol, shortcuts=True):
    """Weights of convolutions and of the fully connected layer, and their multiply-adds for one 32x32 image;
    without those of the shortcut convolutions if not `shortcuts`."""
    weights = argument_shapes(symbol)
    internals = symbol.get_internals()
    outputs = dict(zip(internals.list_outputs(), internals.infer_shape(data=IMAGE)[1]))
    parameters = multiply_adds = 0
    for name in [*layers(symbol, "Convolution"), *layers(symbol, "FullyConnected")]:
        if "_p0_line_" in name and not shortcuts:
            continue
        size = int(np.prod(weights[f"{name}_weight"]))
        parameters += size
        multiply_adds += size * int(np.prod(outputs[f"{name}_output"][2:]))
    return parameters, multiply_adds


def with_bn(*convolutions, bn):
    return [*[f"{name}_weight" for name in convolutions], f"{bn}_gamma", f"{bn}_beta"]


def igc_names(name):
    return with_bn(f"{name}_conv1", f"{name}_conv2", bn=f"{name}_bn")


def regular_names(name):
    return with_bn(f"{name}_conv", bn=f"{name}_bn")


STEM = regular_names("g0")
RESIDUAL_UNITS = (
    "g1_b1_p2_two1 g1_b1_p2_two2 g2_b1_p0_line g2_b1_p2_two1 g2_b1_p2_two2 g3_b1_p0_line g3_b1_p2_two1 g3_b1_p2_two2"
).split()
# What the authors call the last layers of networks with and without shortcuts.
POOL, FC = {}, {}
CIFAR = [name for name in symbols.NETWORKS if "imgnet" not in name]  # the others: test_imagenet_symbols.py
for name in CIFAR:
    POOL[name], FC[name] = ("pool", "fc") if name.startswith("resnet") else ("global_pool", "fc_score")
# network: (depth with one block a stage, parameters before the fully connected layer's)
NAMES = {
    "plain": (5, STEM + regular_names("g1_b1") + regular_names("g2_b1") + regular_names("g3_b1")),
    "plain_igc": (5, STEM + igc_names("g1_b1") + igc_names("g2_b1") + igc_names("g3_b1")),
    "sumfusion": (5, STEM + regular_names("g1_b1") + regular_names("g2_b1") + regular_names("g3_b1")),
    "resnet": (8, STEM + [n for unit in RESIDUAL_UNITS for n in regular_names(unit)]),
    "resnet_igc": (
        8,
        STEM + [n for unit in RESIDUAL_UNITS for n in (regular_names if "line" in unit else igc_names)(unit)],
    ),
}
SMALLEST = {network: depth for network, (depth, _) in NAMES.items()}


def test_every_network_has_its_names_tested():
    assert sorted(CIFAR) == sorted(NAMES)


@pytest.mark.parametrize("network", NAMES)
def test_parameter_names(network):
    depth, parameters = NAMES[network]
    symbol = symbols.get_symbol(network, 10, depth, 2, 3)
    assert symbol.list_arguments() == [
        "data",
        *parameters,
        f"{FC[network]}_weight",
        f"{FC[network]}_bias",
        "softmax_label",
    ]
    norms = [name[: -len("_gamma")] for name in parameters if name.endswith("_gamma")]
    assert symbol.list_auxiliary_states() == [
        f"{norm}_{statistic}" for norm in norms for statistic in ("moving_mean", "moving_var")
    ]
    assert symbol.list_outputs() == ["softmax_output"]


@pytest.mark.parametrize("network", NAMES)
def test_all_nodes_are_named_alike_in_every_symbol_built(network):
    first, second = (symbols.get_symbol(network, 10, 8, 2, 3).tojson() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "network, block_nodes",
    [
        ("plain", ["conv", "bn", "relu"]),
        ("plain_igc", ["conv1", "reorder1", "conv2", "reorder2", "bn", "relu"]),
        ("sumfusion", ["conv", "sum", "bn", "relu"]),
        ("resnet", "p0_line_conv p0_line_bn p2_two1_conv p2_two1_bn p2_two1_relu p2_two2_conv p2_two2_bn relu".split()),
        (
            "resnet_igc",
            ["p0_line_conv", "p0_line_bn", "relu"]
            + [f"p2_two{i}_{n}" for i in (1, 2) for n in ("conv1", "reorder1", "conv2", "reorder2", "bn")]
            + ["p2_two1_relu"],
        ),
    ],
)
def test_layer_names(network, block_nodes):
    outputs = symbols.get_symbol(network, 10, SMALLEST[network], 2, 3).get_internals().list_outputs()
    expected = ["g0_conv", "g0_bn", "g0_relu", POOL[network], "flatten", FC[network], "softmax"]
    expected += [f"g2_b1_{node}" for node in block_nodes]
    assert {f"{name}_output" for name in expected} <= set(outputs)
    assert "g2_b1_p2_two2_relu_output" not in outputs  # the ReLU comes after the sum


@pytest.mark.parametrize(
    "network, momentum",
    [("plain", "0.99"), ("plain_igc", "0.99"), ("sumfusion", "0.99"), ("resnet", "0.9"), ("resnet_igc", "0.9")],
)
def test_batch_norm_and_bias_settings(network, momentum):
    symbol = symbols.get_symbol(network, 10, 8, 2, 3)
    for attributes in layers(symbol, "BatchNorm").values():
        assert float(attributes["eps"]) == 2e-5
        assert (attributes["momentum"], attributes["fix_gamma"]) == (momentum, "False")
    assert all(attributes["no_bias"] == "True" for attributes in layers(symbol, "Convolution").values())


# (out, in / groups, k, k) with L = 4, M = 3.
WEIGHTS = {
    "plain": {
        "g0_conv": (12, 3, 3, 3),
        "g1_b1_conv": (12, 12, 3, 3),
        "g2_b1_conv": (24, 12, 3, 3),
        "g2_b2_conv": (24, 24, 3, 3),
        "g3_b1_conv": (48, 24, 3, 3),
        "fc_score": (7, 48),
    },
    "plain_igc": {
        "g0_conv": (12, 3, 3, 3),
        "g1_b1_conv1": (12, 3, 3, 3),
        "g1_b1_conv2": (12, 4, 1, 1),
        "g2_b1_conv1": (24, 3, 3, 3),
        "g2_b1_conv2": (24, 4, 1, 1),
        "g2_b2_conv1": (24, 6, 3, 3),
        "g3_b1_conv1": (48, 6, 3, 3),
        "g3_b2_conv2": (48, 4, 1, 1),
        "fc_score": (7, 48),
    },
    "sumfusion": {
        "g0_conv": (3, 3, 3, 3),
        "g1_b1_conv": (12, 3, 3, 3),
        "g2_b1_conv": (24, 3, 3, 3),
        "g2_b2_conv": (24, 6, 3, 3),
        "g3_b1_conv": (48, 6, 3, 3),
        "fc_score": (7, 12),
    },
    "resnet": {
        "g1_b1_p2_two1_conv": (12, 12, 3, 3),
        "g2_b1_p0_line_conv": (24, 12, 1, 1),
        "g2_b1_p2_two1_conv": (24, 12, 3, 3),
        "g2_b1_p2_two2_conv": (24, 24, 3, 3),
        "fc": (7, 48),
    },
    "resnet_igc": {
        "g2_b1_p0_line_conv": (24, 3, 1, 1),
        "g2_b1_p2_two1_conv1": (24, 3, 3, 3),
        "g2_b1_p2_two1_conv2": (24, 4, 1, 1),
        "g2_b1_p2_two2_conv1": (24, 6, 3, 3),
        "g2_b1_p2_two2_conv2": (24, 4, 1, 1),
        "fc": (7, 48),
    },
}


@pytest.mark.parametrize("network", WEIGHTS)
def test_weight_and_map_shapes(network):
    symbol = symbols.get_symbol(network, 7, 8, 4, 3)
    weights = argument_shapes(symbol)
    assert {name: weights[f"{name}_weight"] for name in WEIGHTS[network]} == WEIGHTS[network]
    internals = symbol.get_internals()
    outputs = dict(zip(internals.list_outputs(), internals.infer_shape(data=(5, 3, 32, 32))[1]))
    width = 3 if network == "sumfusion" else 12
    last = 1 if "resnet" in network else 2
    assert outputs[f"g1_b{last}_relu_output"] == (5, width, 32, 32)
    assert outputs[f"g2_b{last}_relu_output"] == (5, 2 * width, 16, 16)
    assert outputs[f"g3_b{last}_relu_output"] == (5, 4 * width, 8, 8)
    assert outputs["softmax_output"] == (5, 7)


@pytest.mark.parametrize(
    "depth, blocks",
    [(8, [1, 1, 1]), (10, [1, 1, 2]), (12, [1, 2, 2]), (14, [2, 2, 2]), (38, [6, 6, 6]), (98, [16, 16, 16])],
)
def test_residual_blocks_per_stage(depth, blocks):
    assert common.residual_blocks(depth) == blocks
    # The rule as the authors' loop has it.
    used, authors = 2, []
    for stage in range(3):
        authors.append((depth - used) // (2 * (3 - stage)))
        used += 2 * authors[-1]
    assert authors == blocks


# Table 3 of the IGCV1 paper: depth, then for RegConv-W16, RegConv-W18, IGC-L4M8, IGC-L24M2.
PARAMETERS_M = """
 8 0.075 0.095 0.078 0.047
20 0.27  0.34  0.27  0.15
38 0.56  0.71  0.57  0.31
62 0.95  1.20  0.96  0.52
98 1.53  1.93  1.56  0.83"""
MULTIPLY_ADDS_1E8 = """
 8 0.122 0.154 0.131 0.099
20 0.406 0.513 0.424 0.288
38 0.830 1.05  0.862 0.571
62 1.40  1.77  1.45  0.948
98 2.25  2.84  2.32  1.51"""
COLUMNS = [("plain", 4, 4), ("plain", 9, 2), ("plain_igc", 4, 8), ("plain_igc", 24, 2)]


def as_printed(value, printed):
    return f"{value:.{len(printed.split('.')[1])}f}"


@pytest.mark.parametrize(
    "parameters_row, multiply_adds_row",
    list(zip(PARAMETERS_M.strip().split("\n"), MULTIPLY_ADDS_1E8.strip().split("\n"))),
)
def test_table_3_as_printed(parameters_row, multiply_adds_row):
    depth, *printed_parameters = parameters_row.split()
    for (network, primary, secondary), parameters_m, multiply_adds_1e8 in zip(
        COLUMNS, printed_parameters, multiply_adds_row.split()[1:]
    ):
        parameters, multiply_adds = counts(symbols.get_symbol(network, 10, int(depth), primary, secondary))
        assert as_printed(parameters / 1e6, parameters_m) == parameters_m
        assert as_printed(multiply_adds / 1e8, multiply_adds_1e8) == multiply_adds_1e8


@pytest.mark.parametrize(
    "downsample, shortcuts, parameters_m, multiply_adds_1e8",
    [("paper", False, "0.833", "1.514"), ("paper", True, "0.834", "1.515"), ("code", True, "0.841", "1.524")],
)
def test_counts_of_both_forms_of_resnet_igc(downsample, shortcuts, parameters_m, multiply_adds_1e8):
    symbol = symbols.get_symbol("resnet_igc", 10, 98, 24, 2, downsample=downsample)
    parameters, multiply_adds = counts(symbol, shortcuts)
    assert as_printed(parameters / 1e6, parameters_m) == parameters_m
    assert as_printed(multiply_adds / 1e8, multiply_adds_1e8) == multiply_adds_1e8


@pytest.mark.parametrize("plain, residual", [("plain", "resnet"), ("plain_igc", "resnet_igc")])
@pytest.mark.parametrize("depth", [8, 20, 98])
def test_residual_networks_are_the_plain_ones_plus_shortcuts(plain, residual, depth):
    """Why Table 5 can refer to the counts of Table 3."""
    assert counts(symbols.get_symbol(residual, 10, depth, 4, 8), shortcuts=False) == counts(
        symbols.get_symbol(plain, 10, depth, 4, 8)
    )


def test_sumfusion_has_nearly_the_counts_of_regconv_w16():
    """The caption of Table 3, for the L = 4, M = 8 of Table 2."""
    for depth in (8, 20, 98):
        fused, regular = (
            counts(symbols.get_symbol(*network))
            for network in [("sumfusion", 10, depth, 4, 8), ("plain", 10, depth, 4, 4)]
        )
        np.testing.assert_allclose(fused, regular, rtol=0.15)


def test_downsample_code_form_has_partitions_of_twice_the_channels():
    shapes = argument_shapes(symbols.get_symbol("resnet_igc", 10, 8, 4, 3, downsample="code"))
    assert shapes["g2_b1_p2_two1_conv2_weight"] == (24, 8, 1, 1)
    assert shapes["g2_b1_p2_two2_conv2_weight"] == (24, 4, 1, 1)


@pytest.mark.parametrize(
    "network, depth, message",
    [
        ("plain", 21, "depth must be one of 5, 8, 11, ..., not 21; the nearest: 20 and 23"),
        ("plain_igc", 22, "depth must be one of 5, 8, 11, ..., not 22; the nearest: 20 and 23"),
        ("sumfusion", 4, "depth must be one of 5, 8, 11, ..., not 4; the nearest: 5"),
        ("plain", 20.0, "depth must be one of 5, 8, 11, ..., not 20.0; the nearest: 20"),
        ("plain", 20.5, "depth must be one of 5, 8, 11, ..., not 20.5; the nearest: 20 and 23"),
        ("plain", True, "depth must be one of 5, 8, 11, ..., not True; the nearest: 5"),
        ("plain", 0, "depth must be one of 5, 8, 11, ..., not 0; the nearest: 5"),
        ("plain", float("nan"), "depth must be one of 5, 8, 11, ..., not nan"),
        ("plain", "20", "depth must be one of 5, 8, 11, ..., not '20'"),
        ("plain", np.array([[5], [8]]), "depth must be one of 5, 8, 11, ..., not a ndarray"),
        ("resnet", 21, "depth must be one of 8, 10, 12, ..., not 21; the nearest: 20 and 22"),
        ("resnet_igc", 6, "depth must be one of 8, 10, 12, ..., not 6; the nearest: 8"),
        ("resnet_igc", -20, "depth must be one of 8, 10, 12, ..., not -20; the nearest: 8"),
        ("resnet", None, "depth must be one of 8, 10, 12, ..., not a NoneType"),
    ],
)
def test_invalid_depth(network, depth, message):
    with pytest.raises(ValueError) as error:
        symbols.get_symbol(network, 10, depth, 4, 8)
    assert str(error.value) == message


@pytest.mark.parametrize("network", NAMES)
@pytest.mark.parametrize("argument", ["num_classes", "primary_partition", "secondary_partition"])
@pytest.mark.parametrize("value, shown", [(0, "0"), (-3, "-3"), (2.0, "2.0"), (True, "True"), ("4", "'4'")])
def test_invalid_size(network, argument, value, shown):
    arguments = dict(num_classes=10, depth=8, primary_partition=4, secondary_partition=8)
    arguments[argument] = value
    with pytest.raises(ValueError) as error:
        symbols.get_symbol(network, **arguments)
    assert str(error.value) == f"{argument} must be a positive integer, not {shown}"


def test_numpy_integers_are_integers():
    numpy_made = symbols.get_symbol("plain_igc", *np.array([10, 8, 4, 2]))
    assert numpy_made.tojson() == symbols.get_symbol("plain_igc", 10, 8, 4, 2).tojson()


def test_unknown_network_and_options():
    with pytest.raises(ValueError, match="unknown network 'plan'; choose one of plain, plain_igc, resnet"):
        symbols.get_symbol("plan", 10, 8, 4, 8)
    with pytest.raises(ValueError, match="downsample must be 'paper' or 'code', not 'both'"):
        symbols.get_symbol("resnet_igc", 10, 8, 4, 8, downsample="both")
    with pytest.raises(TypeError, match="downsample"):
        symbols.get_symbol("resnet", 10, 8, 4, 8, downsample="paper")
