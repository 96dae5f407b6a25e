import argparse
import csv

import pytest

from igc_gluon import theory
from igc_gluon.cli import widest
from igc_gluon.errors import UserError


def igc_widest(*flags):
    parser = argparse.ArgumentParser()
    widest.add_arguments(parser)
    assert widest.run(parser.parse_args([str(flag) for flag in flags])) == 0


def rows(output):
    """The cells of the table's rows, and the marked one."""
    table = output.split("\n\n")[1].splitlines()[1:]
    marked = [line for line in table if line.endswith("<- widest")]
    assert len(marked) == 1
    return [line.replace(",", "").replace("<- widest", "").split() for line in table], marked[0].split()[:4]


def test_table_for_the_papers_budget(capsys):
    igc_widest("--params", 4672, "--kernel", 3)
    out = capsys.readouterr().out
    table, marked = rows(out)
    assert marked == ["28", "3", "84", "4,620"]
    assert "no IGC block of this cost is wider than 84.6" in out
    assert "width 22.8, in whole channels 22" in out
    assert ["40", "2", "80", "4640", "22.7", "3.52", "2.22", "84.3"] in table
    assert all(int(params) <= 4672 for _, _, _, params, *_ in table)
    assert [[int(L), int(M)] for L, M, *_ in table] == [[b.L, b.M] for b in theory.best_blocks(4672)]


def test_near_shows_the_papers_rows(capsys):
    igc_widest("--params", 17536, "--near")
    table, marked = rows(capsys.readouterr().out)
    assert marked[:3] == ["41", "5", "205"]
    printed = {(int(L), int(M)): int(params) for L, M, _, params, *_ in table}
    assert printed[4, 22] == 17776 and printed[28, 7] == 17836


def test_top_keeps_the_widest(capsys):
    igc_widest("--params", 4672, "--top", 3)
    table, marked = rows(capsys.readouterr().out)
    assert [row[2] for row in table] == ["80", "84", "80"] and marked[2] == "84"


def test_kernel_sets_S(capsys):
    igc_widest("--params", 5000, "--kernel", 5, "--top", 1)
    table, _ = rows(capsys.readouterr().out)
    block = theory.widest_block(5000, 25)
    assert table[0][:4] == [str(n) for n in (block.L, block.M, block.width, block.params)]


def test_csv_holds_the_table_unrounded(tmp_path, capsys):
    path = tmp_path / "widest.csv"
    path.write_text("old")
    igc_widest("--params", 4672, "--csv", path)
    table, _ = rows(capsys.readouterr().out)
    with open(path, newline="") as file:
        written = list(csv.DictReader(file))
    assert len(written) == len(table)
    (best,) = [row for row in written if row["widest"] == "1"]
    assert (best["L"], best["M"], best["width"], best["params"]) == ("28", "3", "84", "4620")
    assert float(best["regular"]) == pytest.approx((4620 / 9) ** 0.5)
    assert float(best["bound"]) == pytest.approx((4620 / 6) ** (2 / 3))
    assert float(best["L/(M S)"]) == pytest.approx(28 / 27)
    assert [entry.name for entry in tmp_path.iterdir()] == ["widest.csv"]  # no temporary file is left


@pytest.mark.parametrize(
    "flags, names",
    [
        (("--params", 0), "--params"),
        (("--params", -5), "--params"),
        (("--params", 9), "10"),
        (("--params", 4672, "--kernel", 0), "--kernel"),
        (("--params", 4672, "--top", 0), "--top"),
    ],
)
def test_bad_flags_are_one_clear_line(flags, names):
    with pytest.raises(UserError) as caught:
        igc_widest(*flags)
    assert names in str(caught.value) and "\n" not in str(caught.value)


def test_csv_in_no_folder_and_onto_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "widest.csv", tmp_path / "folder"):
        with pytest.raises(UserError, match="cannot write"):
            igc_widest("--params", 4672, "--csv", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]
