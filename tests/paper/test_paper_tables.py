"""Every table, printed beside computed: what must agree does, and everything else has its reason."""

import csv
import dataclasses
import io
import json
import re
from collections import Counter

import pytest

from igc_gluon import complexity, theory
from igc_gluon.cli import main
from igc_gluon.errors import UserError
from igc_gluon.nn import block_stacks
from igc_gluon.paper import compare, differences, formats, published
from igc_gluon.paper.compare import AGREES, DRAWN, KNOWN, UNKNOWN, WRONG
from igc_gluon.paper.layer_counts import Network, convolutions
from igc_gluon.paper.recipes import RECIPES

TABLES = {table.id: table for table in published.load_tables()}
# (agree, known difference, nothing to compute), counted by hand from the papers and the list of differences.
EXPECTED = {
    "IGCV1 1": (39, 1, 0),
    "IGCV1 2": (20, 0, 0),
    "IGCV1 3": (40, 0, 0),
    "IGCV1 4": (0, 0, 0),
    "IGCV1 5": (0, 0, 0),
    "IGCV1 6": (6, 4, 0),
    "README results": (6, 4, 0),
    "IGCV1 7": (3, 0, 26),
    "IGCV1 Figure 3": (0, 0, 0),
    "IGCV1 Section 4": (0, 0, 0),
    "Supplementary 1": (33, 7, 0),
    "Supplementary Figure 1": (0, 0, 0),
    "IGCV2 1": (12, 4, 0),
    "IGCV2 2": (12, 0, 0),
    "IGCV2 3": (14, 4, 0),
    "IGCV2 4": (11, 1, 0),
    "IGCV2 5": (18, 0, 0),
    "IGCV2 6": (9, 3, 0),
    "IGCV2 7": (1, 0, 17),
    "IGCV2 8": (21, 3, 0),
    "IGCV2 9": (11, 1, 0),
    "IGCV2 10": (31, 1, 0),
    "IGCV2 11": (6, 6, 0),
    "IGCV2 Figure 2": (15, 0, 0),
    "IGCV2 Figure 3": (0, 0, 0),
    "IGCV2 Figure 4": (0, 0, 0),
    "IGCV3 CIFAR": (3, 1, 1),
    "IGCV3 ImageNet": (2, 2, 0),
}


@pytest.fixture(scope="module")
def compared():
    return {id: compare.compare(table) for id, table in TABLES.items()}


def igc(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.mark.parametrize("id", EXPECTED)
def test_what_agrees(compared, id):
    verdicts = Counter(number.verdict for number in compared[id].numbers())
    assert (verdicts[AGREES], verdicts[KNOWN], verdicts[UNKNOWN], verdicts[WRONG]) == (*EXPECTED[id], 0)


def test_every_table_is_there():
    assert set(TABLES) == set(EXPECTED) == set(RECIPES)


def test_every_number_without_agreement_has_a_reason(compared):
    for table in compared.values():
        for row in table.rows:
            assert all(number.reason for number in row.numbers if number.verdict not in (AGREES, DRAWN)), row
            assert all((number.verdict == DRAWN) == (number.published == "") for number in row.numbers), row
            assert row.network or row.note, row
            assert all(number.computed for number in row.numbers if number.verdict != UNKNOWN)


def test_no_difference_is_listed_that_is_none(compared):
    for difference in differences.DIFFERENCES:
        rows = [
            row
            for row in compared[difference.table].rows
            if all(row.label.get(key) == value for key, value in difference.label.items())
        ]
        if difference.quantity == differences.NETWORK:
            assert rows and all(row.network is None and row.note == difference.reason for row in rows)
            continue
        verdicts = {number.verdict for row in rows for number in row.numbers if difference.quantity == number.quantity}
        assert verdicts and verdicts <= {KNOWN, UNKNOWN}, difference


def test_no_number_is_called_cut_off():
    """Others of the same columns are rounded: IGCV1's 1.7242 is printed 1.72, C64's 0.19994 is 0.200."""
    assert not [difference for difference in differences.DIFFERENCES if "cut off" in difference.reason]


def test_computed_values_by_hand(compared):
    """Three numbers counted with pen and paper."""

    def computed(id, quantity, **label):
        (matching,) = [
            number.computed
            for row in compared[id].rows
            for number in row.numbers
            if number.quantity == quantity and label.items() <= row.label.items()
        ]
        return matching

    assert computed("IGCV1 1", "params", L=40, M=2) == str(9 * 40 * 2**2 + 2 * 40**2)
    assert computed("Supplementary 1", "params", case="ii", L=128) == str(9 * 128 + 128**2)
    stages = [6 * 9 * c * c - (9 * c * c // 2 if c > 16 else 0) for c in (16, 32, 64)]
    assert float(computed("IGCV1 3", "params, M", model="RegConv-W16", depth=20)) == pytest.approx(
        (27 * 16 + sum(stages) + 640) / 1e6, abs=5e-5
    )


def test_a_number_that_is_off_is_wrong():
    table = TABLES["IGCV1 3"]
    for quantity, value in (("params, M", "0.076"), ("multiply-adds, 10^8", "0.1225")):
        row = dataclasses.replace(table.rows[0], numbers={**table.rows[0].numbers, quantity: value})
        compared = compare.compare(dataclasses.replace(table, rows=(row,)))
        assert [number.quantity for number in compared.numbers() if number.verdict == WRONG] == [quantity]
    structure = TABLES["IGCV1 2"].rows[0]
    row = dataclasses.replace(structure, numbers={"8x8": structure.numbers["8x8"].replace("x6", "x5")})
    (number,) = compare.compare(dataclasses.replace(TABLES["IGCV1 2"], rows=(row,))).numbers()
    assert number.verdict == WRONG and number.computed == structure.numbers["8x8"]


def test_about_is_within_ten_percent():
    row = TABLES["IGCV2 2"].rows[0]
    for value, verdict in (("~4700", AGREES), ("~4300", AGREES), ("~4200", WRONG), ("~5300", WRONG)):
        changed = dataclasses.replace(row, numbers={"params of a block": value})
        (number,) = compare.compare(dataclasses.replace(TABLES["IGCV2 2"], rows=(changed,))).numbers()
        assert number.verdict == verdict and number.computed == "4672"


def test_exit_code(monkeypatch, capsys, tmp_path):
    assert igc("tables", "--table", "IGCV1 3", "--runs", tmp_path) == 0
    assert "40 agree" in capsys.readouterr().out
    # a network that differs from the printed one is found as well as a printed number that was changed
    monkeypatch.setitem(
        RECIPES, "IGCV1 3", lambda row: RECIPES["IGCV1 4"](dataclasses.replace(row, label={**row.label, "depth": 8}))
    )
    assert igc("tables", "--table", "IGCV1 3", "--runs", tmp_path) == 1
    out = capsys.readouterr().out
    assert "32 should agree and do not" in " ".join(out.split())
    assert "WRONG  IGCV1, Table 3, RegConv-W16, 20: params, M" in out


def test_all_tables_in_every_format(compared):
    tables = list(compared.values())
    numbers = sum(len(table.numbers()) for table in tables)
    results = sum(len(row.results) for table in tables for row in table.rows)
    quoted = sum(len(row.quoted) for table in tables for row in table.rows)
    lines = list(csv.DictReader(io.StringIO(formats.csv_text(tables))))
    assert len(lines) == numbers + results + quoted and set(lines[0]) == set(formats.CSV_COLUMNS)
    (line,) = [
        line
        for line in lines
        if line["table"] == "IGCV1 3"
        and line["quantity"] == "params, M"
        and line["network"] == "cifar_plain_igc98_l24m2"
    ]
    assert (line["published"], line["computed"], line["verdict"]) == ("0.83", "0.8332", "=")
    assert line["row"] == "model=IGC-L24M2; depth=98"
    document = json.loads(formats.json_text(tables))
    assert document["counts"] == {
        verdict: sum(
            number["verdict"] == verdict
            for table in document["tables"]
            for row in table["rows"]
            for number in row["numbers"]
        )
        for verdict in document["verdicts"]
    }
    assert document["counts"][WRONG] == 0 and [table["id"] for table in document["tables"]] == list(TABLES)
    (row,) = [
        row
        for table in document["tables"]
        if table["id"] == "IGCV1 4"
        for row in table["rows"]
        if row["label"] == {"model": "SumFusion", "depth": 62}
    ]
    assert row["results"] == [
        {"dataset": "cifar10", "published": "82.66 ± 0.75", "yours": None},
        {"dataset": "cifar100", "published": "48.68 ± 3.84", "yours": None},
    ]


def test_markdown_tables_have_as_many_cells_in_every_row(compared):
    text = formats.markdown(list(compared.values()))
    sections = text.split("\n## ")
    assert len(sections) == len(TABLES)
    for section in sections:
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in section.splitlines() if line.startswith("|")]
        assert len(set(cells)) == 1 and len(cells) >= 3, section
    assert "| IGC-L24M2 | 98 | 0.83 | 0.8332 | = |" in text


def test_terminal_columns_are_aligned(compared):
    lines = formats.terminal([compared["IGCV1 3"]], 120).splitlines()
    marks = [line.index("=") for line in lines if line.startswith(("RegConv-W16 ", "IGC-L24M2 "))]
    assert len(set(marks)) == 1 and lines[0].startswith("IGCV1, Table 3: ")
    text = " ".join(formats.terminal([compared["IGCV2 8"]]).split())
    assert "[1] here 14x14 /1 IGCV2 x5 1024>1024 g 8,8; misprint: the counts of Table 9 are" in text
    (misprint,) = [line for line in formats.terminal([compared["IGCV1 1"]], 120).splitlines() if "l2m31" in line]
    assert misprint.split()[5:8] == ["63", "62", "≠"] and misprint.endswith("[1]")


def test_what_is_wider_than_the_terminal_goes_on_below(compared):
    """Nothing is lost, and every line fits."""
    for id, table in compared.items():
        whole = Counter(formats.terminal([table], 1000).split())
        for width in (80, 100):
            text = formats.terminal([table], width)
            assert max(map(len, text.splitlines())) <= width, id
            assert not whole - Counter(text.split()), id  # headings and first columns come again
    narrow = formats.terminal([compared["IGCV1 3"]], 60)
    assert max(map(len, narrow.splitlines())) <= 60
    assert sum(line.startswith("RegConv-W16  98 ") for line in narrow.splitlines()) == 3


def test_figures_without_printed_values(compared):
    lines = formats.terminal([compared["IGCV2 Figure 3"]]).splitlines()
    (row,) = [line.split() for line in lines if line.split()[:2] == ["7", "3"]]
    assert row == ["7", "3", "174", "4698", "0.0172", "-", "cifar_flat_igcv2_8_c174k3l7"]
    (line,) = [
        line
        for line in csv.DictReader(io.StringIO(formats.csv_text([compared["IGCV2 Figure 3"]])))
        if line["row"] == "L=7; K=3" and line["quantity"] == "width"
    ]
    assert (line["published"], line["computed"], line["verdict"]) == ("", "174", DRAWN)


def test_output_goes_to_a_file(tmp_path, capsys):
    for name in formats.FORMATS:
        path = tmp_path / name
        assert igc("tables", "--table", "igcv1 3", "--table", "IGCV2, Table 9", "--format", name, "--output", path) == 0
        assert "0.83" in path.read_text() and "564.85" in path.read_text()
    assert capsys.readouterr().out == ""
    assert igc("tables", "--table", "IGCV1 3", "--output", tmp_path / "none" / "file") == 2


def test_tables_by_name():
    assert [table.id for table in published.find_tables("igcv1 table 3")] == ["IGCV1 3"]
    assert [table.id for table in published.find_tables("IGCV2 figure")] == [f"IGCV2 Figure {n}" for n in (2, 3, 4)]
    assert len(published.find_tables("IGCV2")) == 14
    assert [table.id for table in published.find_tables("4")] == ["IGCV1 4"]
    assert [table.id for table in published.find_tables("4", "igcv2")] == ["IGCV2 4"]
    assert [table.id for table in published.find_tables("figure 3", "igcv2")] == ["IGCV2 Figure 3"]
    assert [table.id for table in published.find_tables("cifar", "igcv3")] == ["IGCV3 CIFAR"]
    for wrong in (("IGCV1 8",), ("IGCV4",), ("",), ("8",), ("IGCV1 3", "igcv2"), ("13", "igcv2")):
        with pytest.raises(UserError, match="IGCV1 3, IGCV1 4"):
            published.find_tables(*wrong)


@pytest.mark.parametrize(
    "arguments,id",
    [
        (("--table", 4), "IGCV1, Table 4"),
        (("--table", 3, "--paper", "igcv2"), "IGCV2, Table 3"),
        (("--figure", 3), "IGCV1, Figure 3"),
        (("--figure", 3, "--paper", "igcv2"), "IGCV2, Figure 3"),
        (("--table", "IGCV2 2"), "IGCV2, Table 2"),
        (("--table", "cifar", "--paper", "igcv3"), "IGCV3, CIFAR"),
    ],
)
def test_both_commands_name_tables_alike(arguments, id, capsys, tmp_path):
    assert igc("tables", *arguments, "--runs", tmp_path) == 0
    assert capsys.readouterr().out.startswith(f"{id}: ")
    assert igc("reproduce", *arguments) == 0
    assert capsys.readouterr().out.startswith(f"# {id}: ")


def test_a_whole_document(capsys, tmp_path):
    assert igc("tables", "--paper", "igcv3", "--runs", tmp_path) == 0
    out = capsys.readouterr().out
    assert "IGCV3, CIFAR: " in out and "IGCV3, ImageNet: " in out and "IGCV2, " not in out
    assert igc("reproduce", "--table", "IGCV3") == 2
    assert "IGCV3 CIFAR, IGCV3 ImageNet; give one" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mobilenet1.0", "mobilenet0.5", "mobilenet0.25", "mobilenetv2_1.0"])
def test_mobilenets_are_gluoncvs(name):
    from gluoncv.model_zoo import get_model

    theirs = complexity.totals(get_model(name), (3, 224, 224))
    assert complexity.totals(Network(name).build(), (3, 224, 224)) == theirs


def test_convolutions_add_up_to_the_totals():
    for name in ("cifar_sumfusion8_l4m8", "cifar_resnet_igc50_l4m8", "igcv2_0.25", "igcv3_0.7"):
        network = Network(name)
        totals = complexity.totals(network.build(), network.image_shape)
        layers = convolutions(network)
        assert sum(c.weights for c in layers) == totals.weights
        assert sum(c.multiply_adds for c in layers) == totals.multiply_adds
        assert all(c.weights * c.groups == c.channels * c.in_channels * c.kernel**2 for c in layers)


def test_designs_of_figure_3_are_what_the_figure_says():
    """Complementary, with the fewest channels K a branch for that, and of the same cost."""
    for row in TABLES["IGCV2 Figure 3"].rows:
        network = RECIPES["IGCV2 Figure 3"](row).network
        L, K = row.label["L"], row.label["K"]
        C = convolutions(network)[0].channels
        stack = next(iter(block_stacks(network.build()).values()))
        assert theory.is_loosely_complementary(stack) and (K - 1) ** (L - 1) < C
        weights = sum(c.weights for c in convolutions(network) if c.name.startswith("g1_b6_"))
        assert weights == 9 * C + (L - 1) * C * K == pytest.approx(4700, rel=0.03)
