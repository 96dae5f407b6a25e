"""The five commands of docs/photographs.md, on photographs that are drawn: train, eval, predict, export, report."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_photographs import CLASSES, draw_photographs

from igc_gluon.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent


def call(place, *arguments, program):
    """What `program`, without the source tree, prints in the folder `place`."""
    done = subprocess.run(
        [*map(str, program), *map(str, arguments)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=1200,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def journey(place, igc, *flags):
    """Goes through the five commands in the folder `place`. Returns (the run's folder, accuracy of the best epoch over
    the test photographs, the share of the new ones that are taken for what they are)."""
    out = igc("train", "photos", *flags)
    assert "photographs of 3 classes to train on" in out and "packed once" in out
    (run,) = (place / "runs" / "photos").glob("*/seed0")
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    best = max(entry["test_accuracy"] for entry in history)

    igc("eval", run, "--json", "eval.json")
    assert json.loads((place / "eval.json").read_text())["top1"] == pytest.approx(best)

    igc("predict", run, "new", "--csv", "out.csv")
    predictions = rows(place / "out.csv")
    assert [row["image"] for row in predictions] == sorted(
        str(path.relative_to(place)) for path in place.glob("new/*/*.jpg")
    )
    right = np.mean([row["class_1"] == Path(row["image"]).parent.name for row in predictions])

    igc("export", run, "model.igc")
    igc("predict", "model.igc", "new", "--csv", "igc.csv")
    for ours, deployed in zip(predictions, rows(place / "igc.csv")):
        assert deployed["class_1"] == ours["class_1"]
        assert float(deployed["probability_1"]) == pytest.approx(float(ours["probability_1"]), abs=1e-4)

    igc("report", run, "-o", "report.html")
    page = (place / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in CLASSES) and "on photos" in page and "data:image" in page
    return run, best, right


def test_five_commands(tmp_path, monkeypatch, capsys):
    """Small, and in this process."""
    monkeypatch.chdir(tmp_path)
    draw_photographs(tmp_path / "photos", 8, 32)
    draw_photographs(tmp_path / "new", 2, 40, seed=3)

    def igc(*arguments):
        assert main([*map(str, arguments)]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    journey(tmp_path, igc, "--network", "cifar_plain5_w4", "--num-epochs", "1")


ONNX = """
import sys
import numpy as np, onnxruntime, igc_gluon, mxnet as mx
from pathlib import Path
from igc_gluon.data.photos import read_photo
from igc_gluon.engine.saved_networks import open_network
net = open_network(sys.argv[1])
images = np.concatenate([net.preprocessing.prepare(read_photo(path)) for path in sorted(Path("new").rglob("*.jpg"))])
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(theirs,) = session.run(None, {session.get_inputs()[0].name: images})
np.testing.assert_allclose(theirs, net(mx.nd.array(images)).asnumpy(), rtol=1e-3, atol=1e-3)
assert "site-packages" in igc_gluon.__file__, igc_gluon.__file__
"""


@pytest.mark.long
def test_five_commands_of_the_installed_wheel(tmp_path):
    """With the defaults, in a fresh environment without the source tree; then ONNX Runtime, C, and a browser."""
    wheels, python = tmp_path / "wheels", tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "-q", f"{wheel}[cpu,onnx]"], check=True)
    place = tmp_path / "place"
    draw_photographs(place / "photos", 100, 120)
    draw_photographs(place / "new", 10, 120, seed=3)

    def igc(*arguments):
        return call(place, *arguments, program=[python.parent / "igc"])

    run, best, right = journey(place, igc)
    print(f"test accuracy {best:.3f}, new photographs {right:.3f}")
    assert best > 0.9 and right > 0.9
    igc("export", run, "model.onnx")
    call(place, "-c", ONNX, run, program=[python])
    _check_c(place, python)
    _look_at(place / "report.html")


def _check_c(place, python):
    """examples/classify.c says what `igc predict` says of the same file: a PPM, which it reads without a library."""
    folder = call(place, "-c", "import igc_gluon; print(igc_gluon.__path__[0])", program=[python])
    native = Path(folder.strip()) / "native"
    source, library = ROOT / "examples" / "classify.c", native / "_lib"
    flags = [f"-I{native / 'include'}", f"-L{library}", "-ligc", f"-Wl,-rpath,{library}", "-lm"]
    subprocess.run(["cc", source, *flags, "-o", place / "classify"], check=True)
    for number, path in enumerate(sorted(place.glob("new/*/*.jpg"))[::10]):
        file = f"{number}.ppm"
        cv2.imwrite(str(place / file), cv2.imread(str(path)))
        c = call(place, "model.igc", file, program=[place / "classify"])
        ours = call(place, "predict", "model.igc", file, program=[python.parent / "igc"])
        assert re.findall(r"[\d.]+|[a-z]+", c)[-6:] == re.findall(r"[\d.]+|[a-z]+", ours)[-6:], (c, ours)


def _look_at(page):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        return
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"file://{page}"]
    dom = subprocess.run([chromium, *flags], capture_output=True, text=True, timeout=120, check=True).stdout
    assert all(name in dom for name in CLASSES)
