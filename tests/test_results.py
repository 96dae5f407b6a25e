"""docs/results.md says what the histories beside it say."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("draw_results", DOCS / "draw_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def add_run(folder, model, seed, accuracies, epochs=None):
    run = folder / "2_epochs" / "fashion-mnist" / model / f"seed{seed}"
    run.mkdir(parents=True)
    config = json.loads(next(DOCS.glob("results/*/*/*/seed0/config.json")).read_text())
    config.update(model=model, seed=seed)
    config["schedule"]["num_epochs"] = epochs or len(accuracies)
    (run / "config.json").write_text(json.dumps(config))
    (run / "history.jsonl").write_text(
        "".join(json.dumps({"epoch": i, "test_accuracy": a, "seconds": 60.0}) + "\n" for i, a in enumerate(accuracies))
    )


def test_page_is_up_to_date(script):
    assert (DOCS / "results.md").read_text() == script.page(script.read(DOCS / "results"), script.read_times()), (
        "run python docs/draw_results.py"
    )


def test_mean_deviation_and_claims(script, tmp_path):
    finals = {
        "cifar_plain8_w16": (0.88, 0.884, 0.882),
        "cifar_plain_igc8_l24m2": (0.892, 0.89, 0.894),
        "cifar_plain_igc8_l4m8": (0.87, 0.871, 0.8695),
        "cifar_plain8_w18": (0.87,),
    }
    for model, values in finals.items():
        for seed, final in enumerate(values):
            add_run(tmp_path, model, seed, [0.5, final])
    add_run(tmp_path, "cifar_plain8_w18", 1, [0.9], epochs=2)  # cut off
    (results,) = script.read(tmp_path).values()
    assert [result.model for result in results] == [
        "cifar_plain_igc8_l24m2",
        "cifar_plain8_w16",
        "cifar_plain_igc8_l4m8",
        "cifar_plain8_w18",
    ]  # 46,992, 74,800, 77,664, 94,518 weights
    assert results[0].mean == pytest.approx(89.2) and results[0].deviation == pytest.approx(
        np.std([89.2, 89, 89.4], ddof=1)
    )
    text = script.page(script.read(tmp_path), {"milliseconds": {"cifar_plain8_w18": 0.25}, "processor": "a fast one"})
    assert "| `cifar_plain_igc8_l24m2` | 46,992 | 9.88 | - | 3 | 89.20 ± 0.20 | 89.20, 89.00, 89.40 | 2 |" in text
    assert "| `cifar_plain8_w18` | 94,518 | 15.43 | 0.250 | 1 | 87.00 | 87.00 | 2 |" in text
    # 1.00 with an error of sqrt(2 * 0.2^2 / 3) = 0.16; the last one is 1.18 below.
    assert (
        "| plain_igc8_l24m2 above plain8_w16 | IGCV1, Table 4, CIFAR-10: 90.31 and 89.46 | +1.00 ± "
        "0.16 (3 and 3 seeds) "
        "| holds |" in text
    )
    assert "| -1.18 ± 0.12 (3 and 3 seeds) | **does not hold** |" in text and "one seed has no spread" in text


def test_sweep_has_its_peak_and_its_picture(script, tmp_path):
    for partitions, final in (("l64m1", 0.87), ("l40m2", 0.89), ("l1m23", 0.8), ("l6m9", 0.85)):
        add_run(tmp_path, f"cifar_flat_igc8_{partitions}", 0, [0.5, final])
    add_run(tmp_path, "cifar_flat_igc8_l85m2", 0, [0.5, 0.95])  # of Figure 3 (ii), three times as large
    groups = script.read(tmp_path)
    (results,) = groups.values()
    sweep = script.sweep_of(results)
    assert [script.partitions(result) for result in sweep] == [(1, 23), (6, 9), (40, 2), (64, 1)]
    text = script.page(groups, {"milliseconds": {}})
    assert "The highest is at L = 40, M = 2 with 89.00 %, of one seed each" in text
    assert "| flat_igc8_l40m2 above flat_igc8_l64m1 | IGCV1, section 5.3, CIFAR-100: 63.89 and 63.07 | +2.00" in text
    script.draw_sweep(sweep, tmp_path / "sweep.png")
    assert cv2.imread(str(tmp_path / "sweep.png")).std() > 10
    assert script.sweep_of(results[:2]) == []  # no curve of two


def test_pictures_are_drawn(script, tmp_path):
    for seed in (0, 1):
        add_run(tmp_path, "cifar_plain8_w16", seed, [0.5, 0.8])
    (results,) = script.read(tmp_path).values()
    for name, milliseconds in (("plain", {}), ("timed", script.measure(["cifar_plain8_w16"]))):
        script.draw(results, tmp_path / f"{name}.png", milliseconds)
    plain, timed = (cv2.imread(str(tmp_path / f"{name}.png")) for name in ("plain", "timed"))
    assert timed.shape[1] == plain.shape[1] * 4 // 3 and plain.std() > 10 and timed.std() > 10
