"""The examples do what their first lines say. Of own_networks.py: test_own_networks.py, of classify.c: tests/deploy."""

import re
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from igc_gluon import deploy, native
from igc_gluon.data import load

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(capsys, name, *arguments):
    """What the example prints."""
    runpy.run_path(str(EXAMPLES / name))["main"]([*map(str, arguments)])
    return capsys.readouterr().out


def test_two_networks_are_compared(capsys):
    heading, *rows = run(capsys, "compare_networks.py", "--epochs", 2).splitlines()
    assert heading.split()[0] == "network" and [row.split()[0] for row in rows] == [
        "cifar_plain8_w16",
        "cifar_plain_igc8_l24m2",
    ]
    assert [row.split()[1:3] for row in rows] == [["0.075", "12.2"], ["0.047", "9.9"]]
    assert all(float(row.split()[3]) > 50 for row in rows)  # 10 by chance


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_photographs_become_a_file_that_names_others(capsys, tmp_path):
    random = np.random.default_rng(0)

    def photograph(across):
        """Stripes along or across, of any color and width."""
        stripes = np.sin(np.arange(48) * random.uniform(0.4, 1) + random.uniform(0, 6))[:, None] * np.ones(48)
        light = 128 + 80 * (stripes.T if across else stripes)[..., None] * random.uniform(0.5, 1, 3)
        return np.clip(light + random.normal(0, 20, light.shape), 0, 255).astype(np.uint8)

    for name in ("across", "along"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(40):
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), photograph(name == "across"))
    out = run(capsys, "own_photographs.py", tmp_path / "photos", tmp_path / "net.igc", "--epochs", 8)
    right, photos = map(int, re.search(r"(\d+) of (\d+) photographs", out).groups())
    assert photos == 16 and right >= 14, out
    network = deploy.load(tmp_path / "net.igc")
    named = [network.classify(photograph(across), top=1)[0][0] for across in (True, False) * 10]
    assert sum(name == ("across", "along")[number % 2] for number, name in enumerate(named)) >= 18, named


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_a_network_is_deployed(capsys, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), load("digits", "test").images[0])
    lines = run(capsys, "deploy.py", tmp_path / "net.igc", tmp_path / "image.png").splitlines()
    expected = deploy.load(tmp_path / "net.igc").classify(tmp_path / "image.png", top=3)
    assert [line.split("%  ")[1] for line in lines] == [name for name, _ in expected]
