from pathlib import Path

import pytest

import igc_gluon
from igc_gluon import cli

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_networks.py"


def run(capsys, *arguments):
    """Exit code, output and error of `igc arguments`."""
    try:
        code = cli.main(list(arguments))
    except SystemExit as error:  # argparse
        code = error.code
    return (code, *capsys.readouterr())


def test_models_lists_every_model_with_its_size(capsys):
    code, out, _ = run(capsys, "models", "plain_igc20")
    names = [name for name in igc_gluon.get_model_list() if "plain_igc20" in name]
    lines = [line.split() for line in out.splitlines() if line.startswith("cifar_") and "{" not in line]
    rows = {name: cells for name, *cells in lines}
    assert code == 0 and sorted(rows) == sorted(names)
    assert rows["cifar_plain_igc20_l24m2"] == ["0.152", "28.8", "92.84", "70.54"]  # accuracies: IGCV1, Table 4


def test_models_of_other_files_stand_beside_them(capsys, registry_as_before):
    code, out, _ = run(capsys, "models", "igc_bn", "--import", str(EXAMPLE))
    assert code == 0 and "cifar_igc_bn20_l24m2" in out and "images of 32x32, 10 classes" in out


def test_info_prints_layers_and_counts(capsys):
    code, out, _ = run(capsys, "info", "CIFAR_plain_igc8_l24m2")
    assert code == 0
    row = next(line.split() for line in out.splitlines() if line.startswith("g2_b2_conv1"))
    assert row[1:] == ["conv", "96x16x16", "3,456", "884,736"]
    for text in ("46,992", "48,442", "1,440", "9,881,472"):
        assert text in out


def test_info_at_another_size_and_number_of_classes(capsys):
    _, out, _ = run(capsys, "info", "cifar_plain8_w16", "--classes", "100", "--size", "64", "--all")
    assert "100 classes, one image of 3x64x64" in out and "Activation" in out and "fc_score" in out


@pytest.mark.parametrize(
    "arguments,text",
    [
        (("info", "resnet"), "unknown model"),
        (("models", "zzz"), "no model"),
        (("info", "cifar_plain8_w16", "--size", "0"), "--size"),
        (("bake",), "bake"),
        (("info",), "name"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, text):
    code, _, err = run(capsys, *arguments)
    assert code == 2 and len(err.splitlines()) == 1 and err.startswith("error: ") and text in err
