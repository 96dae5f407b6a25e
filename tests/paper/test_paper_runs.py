"""The user's own results, from run folders."""

import json

import numpy as np
import pytest

from igc_gluon.cli import main
from igc_gluon.paper import compare, formats, published, runs

NETWORK = "cifar_plain_igc8_l24m2"


def make_run(
    log_dir, accuracies, model=NETWORK, dataset="cifar10", seed=0, num_epochs=None, exp_name=None, options=None
):
    """A run folder as training leaves it, with a test accuracy per epoch done."""
    folder = log_dir / dataset / (model + (f"_{exp_name}" if exp_name else "")) / f"seed{seed}"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model": model,
                "dataset": dataset,
                "seed": seed,
                "model_options": options,
                "schedule": {"num_epochs": num_epochs or len(accuracies), "lr": 0.1, "lr_factor": 0.1, "lr_steps": [1]},
            }
        )
    )
    (folder / "history.jsonl").write_text(
        "".join(
            json.dumps({"epoch": epoch, "test_accuracy": accuracy, "seconds": 2.0}) + "\n"
            for epoch, accuracy in enumerate(accuracies)
        )
    )
    return folder


def table_4(log_dir, **kwargs):
    """{data set: Result} of IGC-L24M2 at depth 8."""
    table = published.find_tables("IGCV1 4")[0]
    compared = compare.compare(table, runs.Runs(log_dir), **kwargs)
    (row,) = [row for row in compared.rows if row.network == NETWORK]
    return {result.dataset: result for result in row.results}


def test_mean_and_deviation_over_seeds(tmp_path):
    finals = [0.9012, 0.9107, 0.8991]
    for seed, final in enumerate(finals):
        make_run(tmp_path, [0.5] * 399 + [final], seed=seed)
    results = table_4(tmp_path)
    assert results["cifar100"].yours is None
    yours = results["cifar10"].yours
    assert yours.mean == pytest.approx(100 * np.mean(finals))
    assert yours.std == pytest.approx(100 * np.std(finals, ddof=1))
    assert (yours.seeds, yours.dataset, yours.notes) == (3, "cifar10", ())


def test_what_differs_from_the_paper_is_said(tmp_path):
    make_run(tmp_path, [0.5, 0.8])
    assert table_4(tmp_path)["cifar10"].yours.notes == ("a schedule of 2 epochs in place of 400",)
    assert table_4(tmp_path)["cifar10"].yours.std is None
    make_run(tmp_path, [0.2] * 30, dataset="cifar100", num_epochs=400)
    assert table_4(tmp_path)["cifar100"].yours.notes == ("not finished: 30 of 400 epochs",)
    make_run(tmp_path, [0.3] * 400, dataset="cifar100", seed=1)
    yours = table_4(tmp_path)["cifar100"].yours
    assert yours.notes == ("1 more not finished",) and yours.mean == pytest.approx(30) and yours.seeds == 1


def test_another_data_set_stands_in_only_where_it_has_no_column(tmp_path):
    make_run(tmp_path, [0.9] * 400)
    assert table_4(tmp_path)["cifar100"].yours is None
    make_run(tmp_path, [0.7] * 30, dataset="digits")
    results = table_4(tmp_path)
    assert results["cifar10"].yours.dataset == "cifar10"
    assert results["cifar100"].yours.notes[0] == "on digits, not cifar100"
    chosen = table_4(tmp_path, dataset="digits")["cifar10"].yours
    assert chosen.mean == pytest.approx(70) and chosen.notes[0] == "on digits, not cifar10"


def test_the_experiment_with_the_longest_schedule_counts(tmp_path):
    for seed in range(3):
        make_run(tmp_path, [0.6, 0.6], seed=seed, exp_name="short")
    make_run(tmp_path, [0.1] * 3, num_epochs=400, exp_name="cut")
    make_run(tmp_path, [0.9] * 10, exp_name="long")
    make_run(tmp_path, [0.99] * 400, exp_name="other", options={"downsample": "code"})  # another network
    yours = table_4(tmp_path)["cifar10"].yours
    assert yours.mean == pytest.approx(90) and yours.seeds == 1
    only = runs.Runs(tmp_path, lambda run: run.folder.parent.name.endswith("short"))
    assert only.summary(NETWORK, "cifar10").seeds == 3


def test_errors_are_shown_as_errors(tmp_path):
    make_run(tmp_path, [0.5] * 39 + [0.98], model="cifar_plain_igc20_l16m32", dataset="svhn")
    (table,) = published.find_tables("IGCV1 7")
    compared = [compare.compare(table, runs.Runs(tmp_path))]
    (row,) = [
        row
        for row in json.loads(formats.json_text(compared))["tables"][0]["rows"]
        if row["network"] == "cifar_plain_igc20_l16m32"
    ]
    (svhn,) = [result for result in row["results"] if result["dataset"] == "svhn"]
    assert svhn["yours"] == {"mean": pytest.approx(2), "std": None, "seeds": 1, "notes": ""}
    assert "2.00 (1)" in formats.terminal(compared) and ",1.63,,,,svhn,2.0" in formats.csv_text(compared)


def test_damage_is_named_and_left_out(tmp_path, capsys):
    good = make_run(tmp_path, [0.9] * 400)
    for seed, (name, text) in enumerate(
        (
            ("config.json", "{"),
            ("config.json", "[]"),
            ("history.jsonl", '{"epoch": 0}\n'),
            ("history.jsonl", "x\n"),
            ("history.jsonl", '{"test_accuracy": null, "seconds": 1}\n'),
        ),
        1,
    ):
        (make_run(tmp_path, [0.1] * 400, seed=seed) / name).write_text(text)
    (make_run(tmp_path, [0.1], seed=6) / "history.jsonl").unlink()  # not begun
    (make_run(tmp_path, [0.1], seed=7) / "history.jsonl").write_text("")
    assert good.parent.parent.is_dir() and table_4(tmp_path)["cifar10"].yours.seeds == 1
    assert main(["tables", "--table", "IGCV1 4", "--runs", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "90.00 (1)" in out and [f"seed{seed}:" in err for seed in range(1, 8)] == [True] * 5 + [False] * 2
    assert main(["tables", "--table", "IGCV1 4", "--runs", str(tmp_path / "none")]) == 0


def test_means_that_no_paper_has_are_said(tmp_path):
    """And a run without them stands in the table where there is one."""
    here = make_run(tmp_path, [0.9] * 400, exp_name="more")
    config = json.loads((here / "config.json").read_text())
    config.update(ema=0.99, clip_norm=1.0, accumulate=2, optimizer="adamw", teacher=None, augment_strength=1.0)
    config.update(
        mixing={"mixup": 0.2, "cutmix": 0.0, "erasing": 0.0}, schedule={**config["schedule"], "mode": "cosine"}
    )
    (here / "config.json").write_text(json.dumps(config))
    notes = table_4(tmp_path)["cifar10"].yours.notes
    assert notes == ("with ema, clip_norm, accumulate, mixup, cosine, adamw",)
    make_run(tmp_path, [0.7] * 400)
    assert (table_4(tmp_path)["cifar10"].yours.mean, table_4(tmp_path)["cifar10"].yours.notes) == (70, ())
