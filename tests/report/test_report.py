"""igc report and igc compare: what they say of runs that are written here, whose numbers are known."""

import base64
import csv
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser

import cv2
import mxnet as mx
import numpy as np
import pytest

import igc_gluon
from igc_gluon import complexity
from igc_gluon.cli import main
from igc_gluon.engine.checkpoint import CheckpointStore

MODEL, OTHER = "cifar_plain_igc5_l2m3", "cifar_plain5_w4"
CLASSES = ["ant", "<script>alert(1)</script>", "cow"]
VOID = {"meta", "img", "br", "use", "path", "link"}


def write_run(folder, model=MODEL, seed=0, accuracies=(0.25, 0.5), **config):
    net = igc_gluon.get_model(model, classes=3)
    mx.random.seed(1)
    net.initialize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    arrays = {name: p.data().asnumpy() for name, p in net.collect_params().items()}
    CheckpointStore(folder / "checkpoints").save(2, 0, {"net.params": arrays, "training.params": {}}, {}, best=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model": model,
                "dataset": "photos",
                "classes": 3,
                "schedule": {"num_epochs": 2},
                "seed": seed,
                "image_shape": [3, 32, 32],
                "mean": [100, 110, 120],
                "std": [50, 60, 70],
                "class_names": CLASSES,
                **config,
            }
        )
    )
    (folder / "history.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "epoch": n,
                    "lr": 0.1,
                    "train_loss": 1.5 - n,
                    "train_accuracy": a,
                    "test_loss": 2 - n,
                    "test_accuracy": a,
                    "seconds": 30.0,
                }
            )
            + "\n"
            for n, a in enumerate(accuracies)
        )
    )
    return net


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        # A slash ends the name of a folder: the class with it in its name gets no images here.
        (folder / CLASSES[number % 2 * 2]).mkdir(exist_ok=True)
        cv2.imwrite(str(folder / CLASSES[number % 2 * 2] / f"{number:02}.png"), image[..., ::-1])
    return folder, images


class Page(HTMLParser):
    """Fails on a tag that does not close, and on whatever the page would load from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.pictures = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "iframe", "object", "embed", "link")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/png;base64,")), attributes
        if tag == "img":
            png = np.frombuffer(base64.b64decode(attributes["src"].split(",")[1]), np.uint8)
            self.pictures.append(cv2.imdecode(png, cv2.IMREAD_COLOR)[..., ::-1])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_the_page_of_a_run(photos, tmp_path, capsys):
    folder, images = photos
    net = write_run(tmp_path / "run" / "seed0")
    output = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "-o", str(output), "--data", str(folder)]) == 0
    assert "open it in a browser" in capsys.readouterr().out
    page = Page(output.read_text(encoding="utf-8"))
    totals = complexity.totals(net)
    # The confusion matrix by MXNet's own operators on the pixels.
    mean, std = np.array([100.0, 110, 120]), np.array([50.0, 60, 70])
    predicted = net(mx.nd.array(((images - mean) / std).transpose(0, 3, 1, 2))).asnumpy().argmax(axis=1)
    labels = np.arange(12) % 2 * 2
    accuracy = 100 * np.mean(predicted == labels)
    assert f"{accuracy:.2f} % of 12 images" in page.text and "50.00 % test accuracy after the last epoch" in page.text
    assert f"{totals.weights:,}" in page.text and f"{totals.multiply_adds:,}" in page.text
    titles = re.findall(r'title="(ant|cow), taken for (ant|cow): (\d+)"', output.read_text())
    assert {(a, b): int(n) for a, b, n in titles} == {
        (CLASSES[a], CLASSES[b]): int(((labels == a) & (predicted == b)).sum()) for a in (0, 2) for b in (0, 2)
    }
    # Its surest mistakes are pictures of the files, pixel for pixel.
    wrong = np.flatnonzero(predicted != labels)
    mistakes = [picture for picture in page.pictures if picture.shape == (32, 32, 3)]
    assert len(mistakes) == len(wrong) > 0
    for picture in mistakes:
        assert any(np.array_equal(picture, images[number]) for number in wrong)
    assert "Sparsity patterns" in page.text and "Cost by layer" in page.text


def test_the_page_says_how_a_run_was_trained(tmp_path):
    """Each choice that is not the default, and none that is."""
    schedule = {"num_epochs": 2, "lr": 0.05, "lr_factor": 0.1, "lr_steps": [1, 2], "warmup_epochs": 0, "mode": "step"}
    usual = {"batch_size": 16, "batch_shards": 1, "wd": 1e-4, "momentum": 0.9, "optimizer": "nesterov", "ema": 0.0}
    more = {"ema": 0.999, "teacher": "cifar_resnet8_w4 a1b2", "temperature": 4.0, "freeze": "g2", "clip_norm": 5.0}
    more.update(
        mixing={"mixup": 0.2, "cutmix": 0.0, "erasing": 0.25}, undecayed=["_bias", "_beta"], augment_strength=0.5
    )
    more.update(pretrained="0123456789abcdef", pretrained_from="runs/other", optimizer="adamw", accumulate=4)
    cosine = {"num_epochs": 2, "lr": 0.05, "lr_steps": [], "mode": "cosine", "target_lr": 0.001}
    write_run(tmp_path / "usual", schedule=schedule, **usual)
    write_run(tmp_path / "more", schedule=cosine, **{**usual, **more})
    found = {}
    for name in ("usual", "more"):
        page = tmp_path / f"{name}.html"
        assert main(["report", str(tmp_path / name), "--no-eval", "-o", str(page)]) == 0
        table = re.search(r'<table class="choices">(.*?)</table>', page.read_text(encoding="utf-8"), re.DOTALL).group(1)
        found[name] = dict(re.findall(r"<th[^>]*>(.*?)</th><td[^>]*>(.*?)</td>", table))
        Page(page.read_text(encoding="utf-8"))
    assert found["usual"] == {
        "learning rate": "0.05, times 0.1 after 1, 2 epochs; 2 epochs",
        "batch": "16 images",
        "optimizer": "nesterov, momentum 0.9, decay 0.0001",
    }
    assert found["more"] == {
        "learning rate": "from 0.05 to 0.001, cosine; 2 epochs",
        "batch": "16 images",
        "optimizer": "adamw, momentum 0.9, decay 0.0001, none of ..._bias, ..._beta",
        "batches to an update": "4",
        "gradients clipped to the norm": "5",
        "averaged weights, decay": "0.999",
        "teacher": "cifar_resnet8_w4 a1b2",
        "temperature": "4",
        "begins with the weights of": "runs/other",
        "frozen": "g2",
        "mixup": "0.2",
        "random erasing": "0.25",
        "strength of the augmentation": "0.5",
    }


def test_folders_without_runs_and_beyond_measure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("igc_gluon.report.experiments._MOST_FOLDERS", 5)
    for number in range(8):
        (tmp_path / f"{number}").mkdir()
    for command in ("compare", "report"):
        for path, text in ((tmp_path, "has too many folders"), (tmp_path / "0", "has no run"), ("", "is empty")):
            assert main([command, str(path)]) == 2
            error = capsys.readouterr().err
            assert text in error and error.count("\n") == 1
    assert main(["check", ""]) == 2 and "unknown model ''" in capsys.readouterr().err


def test_a_run_whose_data_is_not_at_hand(tmp_path, capsys):
    write_run(tmp_path / "seed0")
    output = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "seed0"), "-o", str(output)]) == 0
    assert "without classes and mistakes: " in capsys.readouterr().err
    assert "Not evaluated: nothing says what" in Page(output.read_text(encoding="utf-8")).text
    assert main(["report", str(tmp_path / "seed0"), "-o", str(output), "--data", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_runs_are_compared(tmp_path, capsys):
    """Seeds of one configuration are one row: mean, sample deviation; a copy of a run is not a seed."""
    write_run(tmp_path / "a" / "seed0", accuracies=(0.1, 0.5))
    write_run(tmp_path / "a" / "seed1", seed=1, accuracies=(0.1, 0.6))
    shutil.copytree(tmp_path / "a" / "seed1", tmp_path / "copy")
    write_run(tmp_path / "b", OTHER, accuracies=(0.1, 0.9))
    write_run(tmp_path / "c", OTHER, accuracies=(0.2,), wd=0.5)
    assert main(["compare", str(tmp_path), "--csv", str(tmp_path / "table.csv")]) == 0
    out = capsys.readouterr().out
    with open(tmp_path / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    results = {row["network"]: (row["seeds"], row["epochs"], row["accuracy_mean"], row["accuracy_std"]) for row in rows}
    assert results == {
        OTHER: ("1", "2", "90.0000", ""),
        f"{OTHER} (wd 0.5)": ("1", "1 of 2", "20.0000", ""),
        MODEL: ("2", "2", "55.0000", f"{np.std([50, 60], ddof=1):.4f}"),
    }
    assert [row["network"] for row in rows] == [OTHER, MODEL, f"{OTHER} (wd 0.5)"]
    assert rows[0]["weights"] == str(complexity.totals(igc_gluon.get_model(OTHER, classes=3)).weights)
    assert "55.00 ± 7.07" in out and max(map(len, out.splitlines())) <= 100
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "page.html")]) == 0
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "55.00 ± 7.07" in page.text and "3 experiments" in page.text and f"{OTHER} (wd 0.5)" in page.text


def test_names_of_files_and_classes_are_no_markup(photos, tmp_path, capsys):
    write_run(
        tmp_path / "<b>run" / "seed0", class_names=["ant", "<img src=x onerror=alert(1)>", "cow"], processor="<i>"
    )
    assert main(["report", str(tmp_path / "<b>run"), "-o", str(tmp_path / "page.html"), "--data", str(photos[0])]) == 0
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    Page(text)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text and "<b>run" not in text and "<i>" not in text


@pytest.mark.parametrize(
    "what, text",
    [
        ("nothing", "has no run that has finished an epoch"),
        ("history", "is damaged"),
        ("config", "is damaged"),
        ("no text", "is damaged"),
    ],
)
def test_mistakes_and_damage(tmp_path, capsys, what, text):
    folder = tmp_path / "run"
    folder.mkdir()
    if what != "nothing":
        write_run(folder)
        (folder / ("config.json" if what == "config" else "history.jsonl")).write_bytes(
            b"\xff" if what == "no text" else b"[]\n"
        )
    for command in (["report", str(folder), "-o", str(tmp_path / "page.html")], ["compare", str(folder)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    "file, key, value",
    [
        ("config.json", "seed", [0]),
        ("config.json", "seed", {}),
        ("config.json", "dataset", None),
        ("config.json", "dataset", ["x"]),
        ("config.json", "schedule", {"num_epochs": "3"}),
        ("config.json", "schedule", {"num_epochs": 10**400}),
        ("config.json", "mixing", [1]),
        ("config.json", "undecayed", 5),
        ("config.json", "initializer", "none"),
        ("config.json", "initializer", ["igcv1"]),
        ("history.jsonl", "epoch", 10**400),
        ("history.jsonl", "epoch", 0.5),
        ("history.jsonl", "test_accuracy", "0.5"),
        ("history.jsonl", "seconds", 1e300),
        ("history.jsonl", "test_loss", "2"),
        ("history.jsonl", "train_loss", [1]),
        ("history.jsonl", "test_loss", 10**400),
        ("history.jsonl", "test_loss", "missing"),
        ("history.jsonl", "validation_accuracy", 0.5),
    ],
    ids=lambda value: str(value)[:20],
)
def test_forged_fields_are_one_line(file, key, value, tmp_path, capsys):
    write_run(tmp_path / "run", OTHER)
    path = tmp_path / "run" / file
    lines = [
        json.loads(line) for line in ([path.read_text()] if file == "config.json" else path.read_text().splitlines())
    ]
    lines[0][key] = value
    if value == "missing":
        del lines[0][key]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for command in (
        ["compare", str(tmp_path)],
        ["report", str(tmp_path), "--no-eval", "-o", str(tmp_path / "page.html")],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "is damaged" in error and error.count("\n") == 1


def test_losses_that_overflowed_and_epochs_far_away(tmp_path):
    write_run(tmp_path / "run", OTHER)
    path = tmp_path / "run" / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["test_loss"], lines[1]["epoch"] = None, 1 << 61
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["report", str(tmp_path), "--no-eval", "-o", str(tmp_path / "page.html")]) == 0


@pytest.mark.parametrize("file", ["config.json", "history.jsonl"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(file, tmp_path, capsys):
    write_run(tmp_path / "run", OTHER)
    (tmp_path / "run" / file).unlink()
    os.mkfifo(tmp_path / "run" / file)
    for command in (
        ["compare", str(tmp_path / "run")],
        ["tables", "--runs", str(tmp_path)],
        ["predict", str(tmp_path / "run"), "x"],
    ):
        assert main(command) in (0, 2)
        assert capsys.readouterr().err.count("\n") <= 1


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs chromium")
def test_the_page_in_a_browser(photos, tmp_path):
    """It shows what it says, on white and on black, without asking the network for anything."""
    write_run(tmp_path / "run")
    assert main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "page.html"), "--data", str(photos[0])]) == 0
    colors = []
    for scheme in (1, 0):  # light, dark
        flags = [
            *"--headless --no-sandbox --disable-gpu --hide-scrollbars".split(),
            "--window-size=900,1400",
            f"--blink-settings=preferredColorScheme={scheme}",
            f"--screenshot={tmp_path / 'page.png'}",
        ]
        subprocess.run(
            ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()],
            check=True,
            capture_output=True,
            timeout=120,
        )
        picture = cv2.imread(str(tmp_path / "page.png"))
        colors.append(np.median(picture))
        assert picture.std() > 10
    assert colors[0] > 240 and colors[1] < 40
