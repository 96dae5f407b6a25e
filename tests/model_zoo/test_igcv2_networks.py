"""The networks of IGCV2's tables: counts as printed, dense composed kernels, names."""

import re

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import complexity, theory
from igc_gluon.cli import main
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.cifar_igcv2 import branch_channels_for
from igc_gluon.nn import block_stacks, permutation_indices

# name: (parameters in M, multiply-adds in 10^8) of convolutions alone, as IGCV2's Tables 3, 4 and 6 print them. None:
# what no structure reproduces; those are up to 1.3 % off.
PRINTED = {
    "cifar_xception20_c58": ("0.44", "0.67"),
    "cifar_xception20_c71": ("0.66", "0.98"),
    "cifar_xception20_c83": ("0.89", "1.31"),
    "cifar_igcv1_20_c96": ("0.40", "0.82"),
    "cifar_igcv1_20_c126": ("0.60", None),
    "cifar_igcv1_20_c150": ("0.79", "1.72"),
    "cifar_igcv2star_20_c216": ("0.32", None),
    "cifar_igcv2star_20_c304": ("0.48", None),
    "cifar_igcv2star_20_c416": ("0.65", None),
    "cifar_xception8_c35": ("0.056", "0.095"),
    "cifar_xception20_c35": ("0.168", "0.268"),
    "cifar_xception26_c35": ("0.223", "0.355"),
    "cifar_igcv2_8_c64": ("0.047", "0.095"),
    "cifar_igcv2_20_c64": ("0.149", "0.262"),
    "cifar_igcv2_26_c64": ("0.200", None),
    "cifar_igcv1_8_c48": ("0.046", "0.100"),
    "cifar_igcv1_20_c48": ("0.151", "0.289"),
    "cifar_igcv1_26_c48": ("0.203", "0.383"),
    "cifar_igcv2_8_c80": ("0.046", None),
    "cifar_igcv2_20_c80": ("0.144", None),
    "cifar_igcv2_26_c80": ("0.193", None),
}
# What the same rules give where a number cannot be reached: the printed one in the comment.
NEAR = {
    "cifar_igcv1_20_c126": (602406, 128572416),  # 0.60, 1.28
    "cifar_igcv2star_20_c216": (321712, 75209728),  # 0.32, 0.76
    "cifar_igcv2star_20_c304": (478176, 111310848),  # 0.48, 1.12
    "cifar_igcv2star_20_c416": (653120, 151064576),  # 0.65, 1.52
    "cifar_igcv2_26_c64": (199936, 34545664),  # 0.200, 0.346
    "cifar_igcv2_8_c80": (45600, 11642880),  # 0.046, 0.118
    "cifar_igcv2_20_c80": (143840, 31877120),  # 0.144, 0.320
    "cifar_igcv2_26_c80": (192960, 41994240),  # 0.193, 0.421
}


def convolutions(name, **options):
    rows = [row for row in complexity.layers(igc_gluon.get_model(name, **options)) if row.operator == "Convolution"]
    return sum(row.params for row in rows), sum(row.multiply_adds for row in rows)


def printed_like(number, printed):
    return f"{number:.{len(printed.split('.')[1])}f}"


@pytest.mark.parametrize("name", PRINTED)
def test_tables_3_4_and_6(name):
    params, multiply_adds = PRINTED[name]
    counts = convolutions(name)
    assert printed_like(counts[0] / 1e6, params) == params
    if multiply_adds:
        assert printed_like(counts[1] / 1e8, multiply_adds) == multiply_adds


@pytest.mark.parametrize("name", NEAR)
def test_rows_that_no_structure_reproduces(name):
    assert convolutions(name) == NEAR[name]


@pytest.mark.parametrize(
    "name,params,multiply_adds",
    [("igcv2_1.0", "4.1", "564.85"), ("igcv2_0.5", "1.3", "156"), ("igcv2_0.25", "0.5", "46")],
)
def test_table_9(name, params, multiply_adds):
    """Table 9 prints 564 for 1.0, which no structure gives."""
    totals = complexity.totals(igc_gluon.get_model(name), (3, 224, 224))
    assert f"{totals.weights / 1e6:.1f}" == params
    assert f"{totals.multiply_adds / 1e6:.{len(multiply_adds.partition('.')[2])}f}" == multiply_adds


def test_table_8_as_printed():
    """Ten blocks of 1024 channels at 14x14, a head of two 1x1 convolutions with 8 and 4 branches."""
    net = igc_gluon.get_model("igcv2_1.0", repeats=10, head_partition=(8, 4))
    block = 9 * 1024 + 2 * 1024 * 1024 // 8
    head = 2048 * 2048 // 8 + 2048 * 1000 // 4
    totals = complexity.totals(net, (3, 224, 224))
    assert totals.weights == 4080000 + 5 * block - 2048 * 1000 // 2 + head == 5449088
    assert totals.multiply_adds == 564851712 + 5 * block * 14 * 14 - 2048 * 1000 // 2 + head == 830796800
    small = igc_gluon.get_model("igcv2_0.25", classes=8, repeats=1, head_partition=(8, 4))
    mixing, norm, reorder, scores, _ = small.output
    stack = [
        theory.GroupConv(mixing.weight.shape, 8),
        theory.Permutation(permutation_indices(512, 8)),
        theory.GroupConv(scores.weight.shape, 4),
    ]
    assert theory.is_loosely_complementary(stack)
    small.initialize()
    x = mx.nd.random.normal(shape=(2, 3, 32, 32))
    features = small.features(x).asnumpy()[:, :, 0, 0]
    first, last = mixing.weight.data().asnumpy(), scores.weight.data().asnumpy()
    mixed = np.einsum("ngi,goi->ngo", features.reshape(2, 8, 64), first.reshape(8, 64, 64))
    mixed = mixed.transpose(0, 2, 1).reshape(2, 512) / np.sqrt(1 + 2e-5)
    expected = np.einsum("ngi,goi->ngo", mixed.reshape(2, 4, 128), last.reshape(4, 2, 128))
    np.testing.assert_allclose(small(x).asnumpy(), expected.reshape(2, 8), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"repeats": -1},
        {"head_partition": ()},
        {"head_partition": (8, 3)},
        {"head_partition": (7, 4)},
        {"head_partition": 0},
    ],
)
def test_table_8_with_numbers_that_make_no_network(options):
    with pytest.raises(UserError):
        igc_gluon.get_model("igcv2_0.25", **options)


def last_block(name):
    """Its convolutions in a network of equal blocks."""
    layers = complexity.layers(igc_gluon.get_model(f"cifar_flat_{name}"))
    return [row for row in layers if row.operator == "Convolution" and row.name.startswith("g1_b6_")]


# Parameters and multiply-adds of one block, as IGCV2's Tables 2 and 5 say 'about'.
@pytest.mark.parametrize(
    "name,params,multiply_adds",
    [
        ("xception8_c64", 4700, 4.8e6),
        ("igcv2_8_c144k12l3", 4700, 4.8e6),
        ("xception8_c96", 10000, 1e7),
        ("igcv2_8_c256k16l3", 10000, 1e7),
        ("xception8_c128", 17000, 1.7e7),
        ("igcv2_8_c361k19l3", 17000, 1.7e7),
        ("igc8_l32m2", 3000, 3.2e6),
        ("igcv2i_8_c98k7", 3000, 3.2e6),
        ("igcv2_8_c100k10l3", 3000, 3.2e6),
        ("igc8_l48m2", 6000, 6.1e6),
        ("igcv2i_8_c162k9", 6000, 6.1e6),
        ("igcv2_8_c169k13l3", 6000, 6.1e6),
        ("igc8_l64m2", 10000, 1.1e7),
        ("igcv2i_8_c242k11", 10000, 1.1e7),
        ("igcv2_8_c256k16l3", 10000, 1.1e7),
    ],
)
def test_blocks_of_tables_2_and_5(name, params, multiply_adds):
    rows = last_block(name)
    assert sum(row.params for row in rows) == pytest.approx(params, rel=0.1)
    assert sum(row.multiply_adds for row in rows) == pytest.approx(multiply_adds, rel=0.1)
    assert {row.output_shape[1:] for row in rows} == {(32, 32)}


# Width and parameters of one block, computed in IGCV1's Table 1 and the supplementary's.
@pytest.mark.parametrize(
    "name,width,params",
    [
        ("igc8_l1m23", 23, 4784),
        ("igc8_l28m3", 84, 4620),
        ("igc8_l40m2", 80, 4640),
        ("igc8_l64m1", 64, 4672),
        ("igc8_l2m31", 62, 17422),
        ("igc8_l41m5", 205, 17630),
        ("igc8_l85m2", 170, 17510),
        ("igc8_l128m1", 128, 17536),
        ("gpc8_l1m22", 22, 4840),
        ("gpc8_l10m5", 50, 4750),
        ("gpc8_l64m1", 64, 4672),
        ("gpc8_l3m22", 66, 17424),
        ("gpc8_l62m2", 124, 17608),
    ],
)
def test_blocks_of_igcv1_table_1_and_the_supplementary(name, width, params):
    rows = last_block(name)
    assert sum(row.params for row in rows) == params and rows[-1].output_shape[0] == width


def distinct_stacks(name):
    """The stacks of the different blocks of a network."""
    structures = {}
    for prefix, stack in block_stacks(igc_gluon.get_model(name)).items():
        structure = str(
            [
                (layer.weight.shape, layer.groups) if isinstance(layer, theory.GroupConv) else layer.indices.tolist()
                for layer in stack
            ]
        )
        structures.setdefault(structure, (prefix, stack))
    return dict(structures.values())


@pytest.mark.parametrize(
    "name",
    (
        "cifar_igcv2_8_c64 cifar_igcv2_8_c80 cifar_igcv2_8_c36 cifar_igcv2_8_c50 cifar_igcv2star_20_c216 "
        "cifar_igcv2star_20_c304 cifar_igcv2star_20_c416 cifar_igcv2star_38_c64 cifar_igcv2star_20_c136 "
        "igcv2_1.0 igcv3_1.0 igcv3_0.7"
    ).split(),
)
def test_composed_kernels_are_dense(name):
    """The loose complementary condition, on the groups and permutations that the network has."""
    stacks = distinct_stacks(name)
    assert len(stacks) >= 5
    for prefix, stack in stacks.items():
        assert theory.is_loosely_complementary(stack), prefix


@pytest.mark.parametrize("name", [name for name in igc_gluon.get_model_list() if "flat_igcv2" in name])
def test_composed_kernels_of_the_flat_networks(name):
    """One path where the K multiply up to C, several where to more, and no dense kernel where to less."""
    (stack,) = distinct_stacks(name).values()
    numbers = {field: int(number) for field, number in re.findall("([ckl])([0-9]+)", name.split("8_")[1])}
    product = numbers["k"] ** (numbers["l"] - 1) if "l" in numbers else 2 * numbers["k"] ** 2
    assert theory.is_loosely_complementary(stack) == (product >= numbers["c"])
    assert theory.has_one_path(stack) == (product == numbers["c"])


@pytest.mark.parametrize("multiplier,sparse", [("0.5", ["g1_b1_"]), ("0.25", ["g1_b1_", "g2_b1_"])])
def test_eight_branches_are_dense_from_64_channels_on(multiplier, sparse):
    """A branch of 8 out of 8 C/8 channels reaches (C/8)^2 of C: the narrow first blocks cannot be dense."""
    stacks = block_stacks(igc_gluon.get_model(f"igcv2_{multiplier}"))
    assert [prefix for prefix, stack in stacks.items() if not theory.is_loosely_complementary(stack)] == sparse
    assert all(stacks[prefix][0].in_channels < 64 for prefix in sparse)


def test_channels_per_branch():
    assert branch_channels_for(64) == (8, 16, 32) and branch_channels_for(80) == (10, 16, 20)  # section 4.3, 4.4
    assert branch_channels_for(144) == (12, 18, 24)  # smallest divisors of 144, 144, 288 from 12, 16.97, 24 on
    net = igc_gluon.get_model("cifar_igcv2_8_c64", branch_channels=(16, 16, 16))
    assert net.features[2].body[1][1].weight.shape == (128, 16, 1, 1)


@pytest.mark.parametrize(
    "name",
    ["cifar_xception8_c6", "cifar_igcv2star_8_c16", "cifar_plain8_w4", "cifar_flat_gpc4_l2m3", "cifar_igcv3_d0.5"],
)
def test_tiny_imagenet(name):
    """A stem of stride 2 makes 64x64 images what 32x32 ones are: the same maps, and so the same counts."""
    net = igc_gluon.get_model(name, classes=200, stem_strides=2)
    assert complexity.totals(net, (3, 64, 64)) == complexity.totals(igc_gluon.get_model(name, classes=200))
    with pytest.raises(UserError, match="stem_strides must be 1 or 2, not 3"):
        igc_gluon.get_model(name, stem_strides=3)


def test_shortcuts():
    """Every two blocks: the identity, a 1x1 convolution where a stage begins, none from a stem of another width."""
    rows = [row.name for row in complexity.layers(igc_gluon.get_model("cifar_igcv2star_14_c16"))]
    assert [row for row in rows if "line_conv" in row] == ["g2_b1_p0_line_conv_fwd", "g3_b1_p0_line_conv_fwd"]
    assert [row.split("__plus")[0] for row in rows if "plus" in row] == ["g1_b2", "g2_b1", "g2_b2", "g3_b1", "g3_b2"]
    shapes = {name: p.shape for name, p in igc_gluon.get_model("cifar_igcv2star_14_c16").collect_params().items()}
    assert shapes["g2_b1_p0_line_conv_weight"] == (32, 2, 1, 1)
    assert igc_gluon.get_model("cifar_xception8_c6").features[2].shortcut[0].weight.shape == (12, 6, 1, 1)


@pytest.mark.parametrize(
    "name,text",
    [
        ("cifar_igcv2_21_c64", "it must be 6n + 2 (a skip connection every two blocks); nearest valid: 20 and 26"),
        ("cifar_xception2_c64", "nearest valid: 8"),
        ("cifar_xception8_c0", "nearest valid: 1"),
        ("cifar_igcv1_20_c95", "a multiple of 2; nearest valid: 94 and 96"),
        ("cifar_igcv2_20_c7", "nearest valid: 6 and 8"),
        ("cifar_igcv2star_20_c100", "a multiple of 8; nearest valid: 96 and 104"),
        ("cifar_flat_igc2_l2m2", "at least 3"),
        ("cifar_flat_igc8_l0m2", "L, M must be at least 1, not 0, 2"),
        (
            "cifar_flat_igcv2_8_c144k13l3",
            "K_2 = 13 does not divide 144 channels into equal branches; nearest that does: 12 and 16",
        ),
        ("cifar_flat_igcv2_8_c144k12l1", "at least L = 2"),
        ("cifar_flat_igcv2i_8_c99k9", "K_1 = 2 does not divide 99"),
        ("cifar_gpc21_l2m2", "nearest valid: 20 and 23"),
        ("cifar_igcv2_20_c64.0", "did you mean cifar_igcv2_20_c64"),
        ("igcv2_0.0", "above 0"),
        ("igcv2_1", "did you mean igcv2_1.0"),
        ("igcv3_0.0", "above 0"),
        ("cifar_igcv3_d0.6", "there are 0.5, 0.7, 1.0"),
        ("igcv3_d0.9", "there are 0.5, 0.7, 1.0"),
    ],
)
def test_names_that_make_no_network(name, text):
    with pytest.raises(UserError, match=re.escape(text)) as error:
        igc_gluon.get_model(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name,options,text",
    [
        ("igcv2_0.25", {"classes": 7}, "give head_partition=1"),
        ("igcv2_0.25", {"spatial": "primary"}, "no option 'spatial'"),
        ("cifar_igcv2_8_c64", {"branch_channels": (8, 8)}, "K of each of the three stages"),
        ("cifar_igcv2_8_c64", {"branch_channels": (8, 8, 12)}, "K_2 = 12 does not divide 128"),
        ("cifar_igcv3_d0.5", {"block": "other"}, "released, paper"),
        ("cifar_flat_xception8_c4", {"downsample": "code"}, "no option 'downsample'"),
    ],
)
def test_bad_options(name, options, text):
    with pytest.raises(UserError, match=text):
        igc_gluon.get_model(name, **options)


def test_natural_classes_and_size(capsys):
    assert igc_gluon.get_model("igcv2_0.25").output[0].weight.shape[0] == 1000
    assert igc_gluon.get_model("igcv2_0.25", classes=7, head_partition=1).output[0].weight.shape == (7, 512, 1, 1)
    assert igc_gluon.get_model("cifar_xception8_c6").output.weight.shape[0] == 10
    assert main(["info", "igcv3_1.0"]) == 0
    out = capsys.readouterr().out
    assert "1000 classes, one image of 3x224x224" in out and "312,970,176" in out and "3,491,688" in out
    assert main(["info", "igcv3_1.0", "--classes", "5", "--size", "64"]) == 0
    assert "5 classes, one image of 3x64x64" in capsys.readouterr().out
    assert main(["models", "igcv2_0"]) == 0
    out = capsys.readouterr().out
    assert "igcv2_0.25 " in out and "igcv2_0.5 " in out and "images of 224x224, 1000 classes" in out
    assert main(["info", "igcv3"]) == 2


def test_head_of_igcv2():
    """Two branches of one 1x1 convolution over all pooled channels, as a dense layer's two diagonal blocks."""
    net = igc_gluon.get_model("igcv2_0.25", classes=6)
    net.initialize()
    pooled = mx.nd.random.normal(shape=(2, 512, 1, 1))
    weight = net.output[0].weight.data().reshape((6, 256))
    expected = mx.nd.concat(
        mx.nd.dot(pooled[:, :256, 0, 0], weight[:3].T), mx.nd.dot(pooled[:, 256:, 0, 0], weight[3:].T)
    )
    assert abs(net.output(pooled) - expected).max().asscalar() < 1e-5
