"""From a row of a table to the networks behind it and how the table counts them.

A table's function takes a row and returns its `Recipe`, or None where the row's network is not here.
"""

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional, Tuple

from igc_gluon.paper import quantities
from igc_gluon.paper.layer_counts import Network
from igc_gluon.paper.published import Row


@dataclass(frozen=True)
class Recipe:
    """`sources` are (network, measure) pairs, which together give the row's quantities; the first network is the one
    whose results the row reports."""

    sources: Tuple[Tuple[Network, "Measure"], ...]

    @property
    def network(self) -> Network:
        return self.sources[0][0]


Measure = Callable[[Network], quantities.Values]
RecipeOf = Callable[[Row], Optional[Recipe]]


def _one(name: str, how: Measure = quantities.weights, classes: Optional[int] = None) -> Recipe:
    return Recipe(((Network(name, classes), how),))


def by_name(row: Row) -> Recipe:
    """Of a row that names a model of the getter's, as those of `igc_gluon.paper.imported` do."""
    return _one(row.label["model"])


def _flat(row: Row) -> Recipe:
    """Blocks of IGCV1's Table 1 and Figure 3, and of the supplementary's."""
    kind = "gpc" if row.label.get("model") == "GPC block" else "igc"
    return _one("cifar_flat_{0}8_l{L}m{M}".format(kind, **row.label), quantities.block)


def _section_4(row: Row) -> Recipe:
    return _one("cifar_flat_{0}8_l{L}m{M}".format(_SECTION_4[row.label["model"]], **row.label), quantities.block)


def _by_model(names: Mapping[str, str], how: Measure = quantities.weights, classes: Optional[int] = None) -> RecipeOf:
    """Of the model a row names: `names` has {fields} of the row's label. Other rows quote other papers."""

    def recipe(row: Row) -> Optional[Recipe]:
        name = names.get(row.label["model"])
        return _one(name.format(**row.label), how, classes) if name else None

    return recipe


_PLAIN = {
    "SumFusion": "cifar_sumfusion{depth}_l4m8",
    "RegConv-W16": "cifar_plain{depth}_w16",
    "RegConv-W18": "cifar_plain{depth}_w18",
    "IGC-L4M8": "cifar_plain_igc{depth}_l4m8",
    "IGC-L24M2": "cifar_plain_igc{depth}_l24m2",
    "IGC-L16M32": "cifar_plain_igc{depth}_l16m32",
    "IGC-L450M2": "cifar_plain_igc{depth}_l450m2",
    "IGC-L32M26": "cifar_plain_igc{depth}_l32m26",
}
_RESIDUAL = {
    "RegConv-W16 + Ident.": "cifar_resnet{depth}_w16",
    "RegConv-W18 + Ident.": "cifar_resnet{depth}_w18",
    "IGC-L4M8 + Ident.": "cifar_resnet_igc{depth}_l4m8",
    "IGC-L24M2 + Ident.": "cifar_resnet_igc{depth}_l24m2",
}
_RESNET_18 = {
    "ResNet (C=64)": "resnet18_w64",
    "ResNet (C=69)": "resnet18_w69",
    "ResNet(C=64)": "resnet18_w64",
    "ResNet(C=69)": "resnet18_w69",
    "IGC-L4M32 + Ident.": "resnet18_igc_l4m32",
    "IGC-L16M16 + Ident.": "resnet18_igc_l16m16",
    "IGC-L100M2 + Ident.": "resnet18_igc_l100m2",
}
_SECTION_4 = {
    "IGC": "igc",
    "IGC, ReLU between the group convolutions": "igc_relu",
    "IGC, 3x3 in the secondary group convolution": "igc_secondary",
    "IGC, 3x3 in both group convolutions": "igc_both",
    "IGC, 3x1 and 1x3 in the primary group convolution": "igc_separable",
    "IGC, half as many channels between": "igc_bottleneck",
    "IGC, dense 1x1 convolution in place of the secondary group convolution": "gpc",
}
_TABLE_1 = {
    "Xception (Cx)": "cifar_xception20_c{x}",
    "IGC-V1 (Cx)": "cifar_igcv1_20_c{x}",
    "IGCV2 (Cx)": "cifar_igcv2_20_c{x}",
    "IGCV2* (Cx)": "cifar_igcv2star_20_c{x}",
}
_DEPTH_20 = {"Xception": "cifar_xception20_c{C}", "IGCV1": "cifar_igcv1_20_c{C}", "IGCV2*": "cifar_igcv2star_20_c{C}"}
_DEPTHS = {
    "Xception": "cifar_xception{depth}_c{C}",
    "IGCV1": "cifar_igcv1_{depth}_c{C}",
    "IGCV2": "cifar_igcv2_{depth}_c{C}",
}
_MOBILE = {
    "MobileNetV1": "mobilenet{multiplier}",
    "IGCV2": "igcv2_{multiplier}",
    "MobileNetV2 (Our impl.)": "mobilenetv2_{multiplier}",
    "MobileNetV2 [35]": "mobilenetv2_{multiplier}",
    "IGCV3 (ours)": "igcv3_{multiplier}",
}
_IGCV3 = {"MobileNetV2 (our impl.)": "cifar_mobilenetv2_1.0", "IGCV3-D": "cifar_igcv3_d{s}"}
_IGCV3_IMAGENET = {"MobileNetV2": "mobilenetv2_1.0", "IGCV3-D": "igcv3_1.0"}
# C of Figure 3's designs, by L and K: about 4700 weights a block, 9C + (L - 1)CK, and K the smallest number with
# which the composed kernel is dense, K^(L - 1) >= C.
_FIGURE_3_C = {
    (2, 64): 64,
    (3, 12): 144,
    (4, 6): 174,
    (5, 4): 184,
    (6, 3): 195,
    (7, 3): 174,
    (8, 3): 156,
    (9, 2): 188,
    (10, 2): 174,
}
# K of Table 2's networks, by C.
_TABLE_2_K = {144: 12, 256: 16, 361: 19}


def _imagenet_resnet(row: Row) -> Recipe:
    return _one(_RESNET_18[row.label["model"]], quantities.weights_without_shortcuts)


def _igcv2_table_2(row: Row) -> Recipe:
    C = row.label["C"]
    name = f"xception8_c{C}" if row.label["model"] == "Xception" else f"igcv2_8_c{C}k{_TABLE_2_K[C]}l3"
    return _one(f"cifar_flat_{name}", quantities.block)


def _igcv2_table_5(row: Row) -> Recipe:
    C, K = row.label["C"], row.label["K2"]
    name = {"IGCV1": f"igc8_l{K}m2", "IGCV2 I": f"igcv2i_8_c{C}k{K}", "IGCV2 II": f"igcv2_8_c{C}k{K}l3"}
    return _one(f"cifar_flat_{name[row.label['model']]}", quantities.block)


def _igcv2_figure_2(row: Row) -> Recipe:
    # The figure's L counts the 1x1 convolutions only.
    return _one(f"cifar_flat_igcv2_8_c{row.numbers['width']}k{row.label['K']}l{row.label['L'] + 1}", quantities.block)


def _igcv2_figure_3(row: Row) -> Recipe:
    L, K = row.label["L"], row.label["K"]
    C = _FIGURE_3_C[L, K]
    return _one("cifar_flat_" + (f"xception8_c{C}" if K == C else f"igcv2_8_c{C}k{K}l{L}"), quantities.block)


def _mobile(names: Mapping[str, str], classes: Optional[int] = None) -> RecipeOf:
    """Rows of MobileNets and IGCV3."""

    def recipe(row: Row) -> Optional[Recipe]:
        # 3.5 M of IGCV3-1.0 counts gamma and beta too; without them it is 3.4.
        how = quantities.learned if row.label["model"].startswith("IGCV3") else quantities.weights
        return _by_model(names, how, classes)(row)

    return recipe


def _halves(*halves: Tuple[Any, ...]) -> RecipeOf:
    """Two networks side by side, a line each: (name, arguments of quantities.line but the number)."""

    def recipe(row: Row) -> Recipe:
        return Recipe(
            tuple((Network(name), quantities.line(column, row.label["line"], *rest)) for name, column, *rest in halves)
        )

    return recipe


RECIPES = {
    "IGCV1 1": _flat,
    "IGCV1 2": _by_model(_PLAIN, quantities.stages),
    "IGCV1 3": _by_model(_PLAIN),
    "IGCV1 4": _by_model(_PLAIN),
    "IGCV1 5": _by_model(_RESIDUAL),
    "IGCV1 6": _imagenet_resnet,
    "IGCV1 7": _by_model(_PLAIN, classes=100),
    "IGCV1 Figure 3": _flat,
    "IGCV1 Section 4": _section_4,
    "README results": _imagenet_resnet,
    "Supplementary 1": _flat,
    "Supplementary Figure 1": _flat,
    "IGCV2 1": _by_model(_TABLE_1, quantities.stages),
    "IGCV2 2": _igcv2_table_2,
    "IGCV2 3": _by_model(_DEPTH_20, quantities.convolution_weights),
    "IGCV2 4": _by_model(_DEPTHS, quantities.convolution_weights),
    "IGCV2 5": _igcv2_table_5,
    "IGCV2 6": _by_model(_DEPTHS, quantities.convolution_weights),
    "IGCV2 7": _by_model({"IGCV2*-C416": "cifar_igcv2star_{depth}_c416"}, quantities.convolution_weights),
    "IGCV2 8": _halves(
        ("igcv2_1.0", "IGCV2-1.0", "IGCV2", "IGCV2*"), ("mobilenet1.0", "MobileNetV1-1.0", "Xception", "FC")
    ),
    "IGCV2 9": _mobile(_MOBILE),
    "IGCV2 10": _halves(
        ("igcv3_1.0", "IGCV3-1.0", "IGCV3", "Conv2d", True),
        ("mobilenetv2_1.0", "MobileNetV2-1.0", "Bottleneck", "Conv2d", True),
    ),
    "IGCV2 11": _mobile(_MOBILE),
    "IGCV2 Figure 2": _igcv2_figure_2,
    "IGCV2 Figure 3": _igcv2_figure_3,
    "IGCV2 Figure 4": lambda row: _one("cifar_igcv2star_{depth}_c{C}".format(**row.label)),
    "IGCV3 CIFAR": _mobile(_IGCV3, classes=100),
    "IGCV3 ImageNet": _mobile(_IGCV3_IMAGENET),
}
