import json
import re

import pytest

import igc_gluon
import train_cifar
import train_imagenet
from igc_gluon import complexity
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import Family, cifar_model, cifar_model_name

# IGCV1, Table 3, as printed: depth -> parameters (M) and multiply-adds (10^8) of these four.
COLUMNS = ("cifar_plain{}_w16", "cifar_plain{}_w18", "cifar_plain_igc{}_l4m8", "cifar_plain_igc{}_l24m2")
TABLE_3 = {
    8: (("0.075", "0.095", "0.078", "0.047"), ("0.122", "0.154", "0.131", "0.099")),
    20: (("0.27", "0.34", "0.27", "0.15"), ("0.406", "0.513", "0.424", "0.288")),
    38: (("0.56", "0.71", "0.57", "0.31"), ("0.830", "1.05", "0.862", "0.571")),
    62: (("0.95", "1.20", "0.96", "0.52"), ("1.40", "1.77", "1.45", "0.948")),
    98: (("1.53", "1.93", "1.56", "0.83"), ("2.25", "2.84", "2.32", "1.51")),
}


def printed_like(number, printed):
    return f"{number:.{len(printed.split('.')[1])}f}"


@pytest.mark.parametrize("depth", TABLE_3)
@pytest.mark.parametrize("column", range(4))
def test_table_3(depth, column):
    totals = complexity.totals(igc_gluon.get_model(COLUMNS[column].format(depth)))
    params, multiply_adds = (values[column] for values in TABLE_3[depth])
    assert printed_like(totals.weights / 1e6, params) == params
    assert printed_like(totals.multiply_adds / 1e8, multiply_adds) == multiply_adds


@pytest.mark.parametrize("partitions,params", [("l16m32", "17.7"), ("l450m2", "19.3"), ("l32m26", "24.1")])
def test_table_7(partitions, params):
    """The papers' 17.7, 19.3 and 24.1 M are those of the CIFAR-100 networks."""
    net = igc_gluon.get_model(f"cifar_plain_igc20_{partitions}", classes=100)
    assert printed_like(complexity.totals(net).weights / 1e6, params) == params


def test_forms_of_the_downsampling_block():
    """98 layers, L24M2: the code's form has more weights. The counts are those of the authors' symbols."""
    paper, code = (
        complexity.totals(igc_gluon.get_model("cifar_resnet_igc98_l24m2", downsample=form))
        for form in ("paper", "code")
    )
    assert (paper.weights, code.weights) == (834192, 841104)
    assert printed_like(code.multiply_adds / 1e8, "1.524") == "1.524"


def test_complexity_counts_by_hand():
    """One block of plain_igc, counted from the equations: 9 L M^2 + M L^2 weights (eq. 7), and each used at 32x32."""
    rows = {row.name: row for row in complexity.layers(igc_gluon.get_model("cifar_plain_igc5_l3m4"))}
    assert rows["g1_b1_conv1_fwd"].params == 9 * 3 * 4**2 and rows["g1_b1_conv2_fwd"].params == 4 * 3**2
    assert rows["g1_b1_conv1_fwd"].multiply_adds == 32 * 32 * 9 * 3 * 4**2
    assert rows["g2_b1_conv1_fwd"].output_shape == (24, 16, 16)
    assert rows["g1_b1_bn_fwd"].params == 24 and rows["g1_b1_bn_fwd"].multiply_adds == 0
    totals = complexity.totals(igc_gluon.get_model("cifar_plain_igc5_l3m4"))
    assert totals.params == sum(row.params for row in rows.values())


def test_the_list_holds_the_tables():
    names = igc_gluon.get_model_list()
    assert len(names) == len(set(names))
    for name in names:
        assert name == name.lower()
    for name in ("cifar_sumfusion62_l4m8", "cifar_resnet_igc98_l24m2", "cifar_plain_igc20_l450m2"):
        assert name in names


@pytest.mark.parametrize(
    "name,text",
    [
        ("cifar_plain_igc21_l24m2", "nearest valid: 20 and 23"),
        ("cifar_plain1_w16", "nearest valid: 5"),
        ("cifar_resnet9_w16", "nearest valid: 8 and 10"),
        ("cifar_plain_igc20_l0m2", "smallest number is 1"),
        ("cifar_plain20_w0", "smallest number is 1"),
        ("cifar_plain_igc20_l24", "did you mean cifar_plain_igc20_l24m2"),
        ("resnet50_v1", "unknown model"),
        ("", "unknown model"),
    ],
)
def test_names_that_make_no_network(name, text):
    with pytest.raises(ValueError, match=re.escape(text)) as error:
        igc_gluon.get_model(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options,text",
    [
        ({"pretrained": True}, "no published weights"),
        ({"classes": 0}, "at least one class"),
        ({"depth_": 3}, "no option 'depth_'"),
        ({"downsample": "code"}, "no option 'downsample'"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(UserError, match=text):
        igc_gluon.get_model("cifar_plain_igc8_l2m2", **options)


def test_bad_form_of_the_downsampling_block():
    with pytest.raises(UserError, match="paper, code"):
        igc_gluon.get_model("cifar_resnet_igc8_l2m2", downsample="both")


def test_names_from_the_flags_of_the_scripts():
    assert cifar_model_name("plain_igc", 38, 24, 2) == "cifar_plain_igc38_l24m2"
    assert cifar_model_name("resnet", 50, 9, 2) == "cifar_resnet50_w18"
    with pytest.raises(UserError, match="plain, plain_igc, resnet, resnet_igc, sumfusion"):
        cifar_model_name("vgg", 38, 24, 2)


def test_flags_are_numbers_all_the_way(monkeypatch):
    """No name is made of them and parsed back on the way to the network; numbers that make none are refused by it."""

    def parse(self, name):
        raise AssertionError(f"the name {name} was parsed")

    monkeypatch.setattr(Family, "parse", parse)
    flags = ["--network", "plain_igc", "--depth", "8", "--primary-partition", "3", "--secondary-partition", "2"]
    experiment = train_cifar.experiment(train_cifar.parse(flags), 2)
    assert experiment.model.numbers == {"depth": 8, "l": 3, "m": 2} and experiment.model.name == "cifar_plain_igc8_l3m2"
    assert experiment.build(10).collect_params()["g1_b1_conv1_weight"].shape == (6, 2, 3, 3)
    flags = ["--network", "resnet_igc_imgnet_d18", "--primary-partition", "4", "--secondary-partition", "1"]
    experiment = train_imagenet.experiment(train_imagenet.parse(flags), 1)
    assert (
        experiment.model.numbers == {"l": 4, "m": 2}
        and experiment.build(10).collect_params()["g0_conv_weight"].shape[0] == 4
    )
    with pytest.raises(UserError, match="nearest valid: 5"):
        cifar_model("plain", 1, 16, 1).build()


def test_a_network_keeps_its_parameters_names():
    """Fixed whatever else lives in the process; in another block they get its prefix."""
    igc_gluon.get_model("cifar_plain8_w4")
    names = list(igc_gluon.get_model("cifar_plain_igc8_l3m2").collect_params())
    assert names[:3] == ["g0_conv_weight", "g0_bn_gamma", "g0_bn_beta"] and "g1_b1_conv1_weight" in names
    assert json.dumps(names) == json.dumps(list(igc_gluon.get_model("cifar_plain_igc8_l3m2").collect_params()))
    assert all(name.startswith("a_") for name in igc_gluon.get_model("cifar_plain8_w4", prefix="a_").collect_params())


def weights_of_a_variant(name, L, M):
    """Of section 4, for a width of L * M: primary and secondary group convolution by hand."""
    return {
        "relu": 9 * L * M * M + M * L * L,
        "secondary": L * M * M + 9 * M * L * L,
        "both": 9 * L * M * M + 9 * M * L * L,
        "separable": 2 * 3 * L * M * M + M * L * L,
        "bottleneck": 9 * L * M * (M // 2) + M // 2 * L * (2 * L),
    }[name]


@pytest.mark.parametrize(
    "name, L, M", [("relu", 40, 2), ("secondary", 2, 40), ("both", 8, 5), ("separable", 24, 4), ("bottleneck", 12, 8)]
)
def test_variants_of_section_4_have_one_size(name, L, M):
    """About Table 1's 4672 weights a block; where there is a choice no block of that size is wider."""
    net = igc_gluon.get_model(f"cifar_flat_igc_{name}8_l{L}m{M}")
    weights = sum(
        p.shape[0] * p.shape[1] * p.shape[2] * p.shape[3] for p in net.collect_params(".*b1_conv.*weight").values()
    )
    assert weights == weights_of_a_variant(name, L, M) and abs(weights / 4672 - 1) < 0.015
    if name not in ("relu", "secondary"):  # these have the size of L40M2
        rivals = [
            l * m
            for l in range(1, 130)
            for m in range(1, 130)
            if m % 2 == 0 or name != "bottleneck"
            if abs(weights_of_a_variant(name, l, m) / 4672 - 1) < 0.015
        ]
        assert max(rivals) == L * M
