"""igc check: what it prints against the theory, and what it draws."""

import re

import cv2
import numpy as np
import pytest

from igc_gluon import cli, theory
from igc_gluon.cli import check
from igc_gluon.model_zoo import get_model
from igc_gluon.nn import IGCBlock, IGCV3Block, interleaved_blocks
from igc_gluon.report import pattern_picture


def igc_check(capsys, *flags, code=0):
    assert cli.main(["check", *map(str, flags)]) == code
    return capsys.readouterr()


def rows(out):
    """{block: {heading: cell}} of the printed table."""
    found = {}
    for part in out.split("\n\n")[1:]:
        heading, *lines = [re.split(r"\s{2,}", line.strip()) for line in part.splitlines()]
        if heading[0] == "block":  # a table that is too wide goes on below
            for line in lines:
                found.setdefault(line[0], {}).update(zip(heading, line))
    return found


def expected(stack):
    """The cells of a row by the theory, for a stack of constant width with a 3x3 convolution."""
    counts, params = theory.paths(stack), theory.stack_params(stack)
    regular = theory.regular_width(params)
    few, many = counts.min(), counts.max()
    return {
        "dense": "yes" if few else f"no, {100 * (counts > 0).mean():.1f} %",
        "paths": f"{few}" if few == many else f"{few}..{many}",
        "width": str(len(counts)),
        "regular": f"{regular:.1f}",
        "wider": f"{len(counts) / regular:.2f}",
    }


@pytest.mark.parametrize("L, M", [(24, 2), (4, 8), (40, 2)])
def test_igcv1(capsys, L, M):
    row_of = rows(igc_check(capsys, f"cifar_plain_igc8_l{L}m{M}", "--no-picture").out)
    assert list(row_of) == ["g1_b1", "g1_b2", "g2_b1", "g2_b2", "g3_b1", "g3_b2"]
    for title, M_here in (("g1_b1", M), ("g1_b2", M), ("g2_b2", 2 * M), ("g3_b2", 4 * M)):
        row = row_of[title]
        C = L * M_here
        stack = theory.igc_stack((C, M_here, 3, 3), (C, L, 1, 1), L)
        assert {key: row[key] for key in expected(stack)} == expected(stack)
        assert row["branches"] == f"{L}x{M_here} 3x3, {M_here}x{L}" and row["compl."] == "strict"
        assert row["terms"] == f"{9 * M_here} {L}"
        assert row["balance"] == f"{theory.imbalance([9 * M_here, L]):.2f}"
        assert row["regular"] == f"{theory.Block(L, M_here).regular_width:.1f}"
    assert row_of["g2_b1"]["branches"] == f"{L}x{M}->{2 * M} 3x3, {2 * M}x{L}"


@pytest.mark.parametrize(
    "name, C, Ks, condition, dense",
    [
        ("cifar_flat_igcv2_8_c144k12l3", 144, (1, 12, 12), "strict", 6),
        ("cifar_flat_igcv2_8_c144k6l5", 144, (1, 6, 6, 6, 6), "loose", 6),
        ("cifar_flat_igcv2_8_c216k8l3", 216, (1, 8, 8), "no", 0),  # 64 < 216
        ("cifar_flat_igcv2_8_c216k8l4", 216, (1, 8, 8, 8), "loose", 6),
    ],
)
def test_igcv2(capsys, name, C, Ks, condition, dense):
    out = igc_check(capsys, name, "--no-picture").out
    row = rows(out)["g1_b1"]
    stack = theory.igcv2_stack(C, Ks)
    assert {key: row[key] for key in expected(stack)} == expected(stack)
    assert row["compl."] == condition
    assert row["terms"] == " ".join(map(str, Ks[1:])) and row["balance"] == "1.00"
    assert f"{dense} of 6 blocks are dense, {6 if condition == 'strict' else 0} of them with one path" in out


def test_the_balance_counts_the_spatial_convolution_where_it_mixes_channels(capsys):
    row = rows(igc_check(capsys, "cifar_flat_igcv2i_8_c98k7", "--no-picture").out)["g1_b1"]
    assert row["terms"] == "18 7 7" and row["balance"] == f"{theory.imbalance([18, 7, 7]):.2f}"


def test_igcv3_and_a_width_that_changes(capsys):
    row_of = rows(igc_check(capsys, "cifar_igcv3_d0.5", "--no-picture").out)
    same, wider = row_of["seq-1-block1"], row_of["seq-2-block0"]  # 24 -> 144 -> 24 and 24 -> 144 -> 32
    weights = 144 * 12 + 144 * 9 + 24 * 72
    assert (same["paths"], same["compl."], same["terms"], same["balance"]) == ("36", "loose", "72 72", "1.00")
    assert same["regular"] == f"{(weights / 9) ** 0.5:.1f}"
    weights = 144 * 12 + 144 * 9 + 32 * 72
    assert wider["regular"] == f"{(weights / 9 * 32 / 24) ** 0.5:.1f}"  # c_in c_out 9 weights at 24 : 32
    assert wider["terms"] == "54 72" and wider["balance"] == f"{theory.imbalance([54, 72]):.2f}"


def test_one_path_that_is_not_complementary_to_the_letter():
    convolution = theory.GroupConv((8, 2, 1, 1), 4)
    checked = check.check_stack(
        [
            convolution,
            theory.Permutation([5, 3, 0, 6, 4, 2, 7, 1]),
            convolution,
            theory.Permutation([0, 7, 1, 3, 4, 6, 5, 2]),
            convolution,
        ]
    )
    assert checked.paths == (1, 1) and checked.connected == 1 and checked.condition == "one path"
    assert check.describe(checked) == "dense, one path between any two channels"


def test_a_network_without_such_blocks(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = igc_check(capsys, "cifar_plain8_w16").out
    assert out.count("\n") == 1 and "no blocks that interleave" in out and not list(tmp_path.iterdir())


def test_the_picture_is_there_and_on_white(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = igc_check(capsys, "CIFAR_Plain_IGC8_L24M2").out
    assert "the picture of block g1_b1 is in cifar_plain_igc8_l24m2.png" in out
    image = cv2.imread("cifar_plain_igc8_l24m2.png")
    assert (image[[0, -1]] == 255).all() and (image[:, [0, -1]] == 255).all() and image.std() > 10
    out = igc_check(capsys, "igcv3_d0.5", "--block", "seq-1-block1-", "--picture", tmp_path / "here.PNG").out
    assert "block seq-1-block1 is in" in out and cv2.imread("here.PNG") is not None


@pytest.mark.parametrize("name", ["cifar_plain_igc8_l4m2", "cifar_flat_igcv2_8_c36k6l3", "cifar_igcv3_d0.5"])
def test_patterns_multiply_up_to_the_paths(name):
    block = next(iter(interleaved_blocks(get_model(name)).values()))
    named = pattern_picture.factors(block)
    product = np.eye(named[0][1].in_channels)
    for pattern in pattern_picture._patterns(named):
        product = ~np.isnan(pattern) @ product
    np.testing.assert_array_equal(product, theory.paths([layer for _, layer in named]))


@pytest.mark.parametrize(
    "block, symbols",
    [
        (IGCBlock(4, 8), ["W^p", "P^T", "W^s", "P"]),
        (IGCBlock(4, 8, spatial="separable"), ["W^p_1", "W^p_2", "P^T", "W^s", "P"]),
        (IGCV3Block(4, 4), ["W_1", "P_1", "W_2", "W_3"]),
        (IGCV3Block(4, 4, block="paper"), ["W_1", "P_1", "W_2", "W_3", "P_3"]),
    ],
)
def test_symbols_of_the_papers(block, symbols):
    assert [symbol for symbol, _ in pattern_picture.factors(block)] == symbols


def test_a_coarse_pattern_keeps_every_entry():
    diagonal = np.where(np.eye(1500), 0.5, np.nan)
    coarse = pattern_picture._coarse(diagonal, np.fmax)
    assert max(coarse.shape) <= pattern_picture.MOST_CELLS and (np.diag(coarse) == 0.5).all()
    assert np.isnan(coarse[0, 1:]).all()


@pytest.mark.parametrize(
    "flags, text",
    [
        (["cifar_plain_igc20_l24"], "did you mean"),
        (["cifar_plain_igc8_l4m2", "--block", "g1_b9"], "g1_b1"),
        (["cifar_plain_igc8_l4m2", "--picture", "x.pdf"], "ends in .png"),
        (["cifar_plain_igc8_l4m2", "--picture", "missing/x.png"], "cannot write missing/x.png"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, monkeypatch, flags, text):
    monkeypatch.chdir(tmp_path)
    lines = igc_check(capsys, *flags, code=2).err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0]


def test_options_of_the_model(capsys):
    name = "cifar_resnet_igc10_l2m4"
    paper, code = (
        rows(igc_check(capsys, name, "--no-picture", *flags).out)["g2_b1_p2_two1"]
        for flags in ((), ("--option", "downsample=code"))
    )
    assert paper["branches"] == "2x4->8 3x3, 8x2" and code["branches"] == "2x4->8 3x3, 4x4"
    assert "paper, code" in igc_check(capsys, name, "--option", "downsample=other", code=2).err
    assert "no option 'nonsense'" in igc_check(capsys, name, "--option", "nonsense=1", code=2).err
    stride = igc_check(capsys, "cifar_igcv2_8_c64", "--no-picture", "--option", "branch_channels=16,16,32").out
    assert rows(stride)["g1_b1_p2_two1"]["terms"] == "16 16"


OWN = """
from mxnet.gluon import HybridBlock, nn
from igc_gluon.model_zoo import register

ORDER = (5, 3, 0, 6, 4, 2, 7, 1)


class Three(HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.one, self.two = (nn.Conv2D(8, k, padding=k // 2, groups=4, use_bias=False) for k in (3, 1))
            self.three = nn.Conv2D(8, 1, groups=2, use_bias=False)
            self.norm = nn.BatchNorm()

    def hybrid_forward(self, F, x):
        y = self.one(x)
        y = self.two(F.concat(*[F.slice_axis(y, axis=1, begin=i, end=i + 1) for i in ORDER], dim=1))
        y = F.reshape(F.swapaxes(F.reshape(y, (0, -4, 4, 2, -2)), 1, 2), (0, -3, -2))
        return x + F.relu(self.norm(self.three(y)))


@register("cifar_three{depth}", [{"depth": 2}])
def three(depth, classes, **options):
    net = nn.HybridSequential(**options)
    with net.name_scope():
        net.add(nn.Conv2D(8, 3, padding=1), *[Three() for _ in range(depth)])
        net.add(nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(classes))
    return net
"""


def test_any_stack_of_group_convolutions_and_permutations(capsys, tmp_path, registry_as_before):
    """Of plain Gluon blocks, whose permutations are slices, reshapes and transpositions."""
    (tmp_path / "own.py").write_text(OWN)
    out = igc_check(capsys, "cifar_three2", "--import", tmp_path / "own.py", "--picture", tmp_path / "own.png").out
    four = theory.GroupConv((8, 2, 1, 1), 4)
    stack = [
        theory.GroupConv((8, 2, 3, 3), 4),
        theory.Permutation([5, 3, 0, 6, 4, 2, 7, 1]),
        four,
        theory.Permutation([0, 2, 4, 6, 1, 3, 5, 7]),
        theory.GroupConv((8, 4, 1, 1), 2),
    ]
    table = list(rows(out).values())
    assert len(table) == 2 and cv2.imread(str(tmp_path / "own.png")) is not None
    for row in table:
        assert {key: row[key] for key in expected(stack)} == expected(stack)
        assert row["branches"] == "4x2 3x3, 4x2, 2x4"
