#!/usr/bin/env python
"""Writes docs/results.md and its pictures from the histories in docs/results.

    python docs/draw_results.py
    python docs/draw_results.py --time      # first times all networks, on a machine that does nothing else

docs/results holds what runs leave, a --log-dir for each length of the schedule, of which config.json and history.jsonl
are kept in the repository. More runs go there so; what is there is not run again:

    igc reproduce --table 4 --only plain8,igc8,sumfusion8 --dataset fashion-mnist --num-epochs 20 --num-runs 3 \
        --log-dir docs/results/20_epochs --run
"""

import argparse
import json
import statistics
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import List

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import mxnet as mx  # noqa: E402

from igc_gluon import complexity, deploy, processor  # noqa: E402
from igc_gluon.model_zoo import find_family, get_model  # noqa: E402
from igc_gluon.paper.runs import read_run  # noqa: E402

ROUNDS, BATCH = 31, 16
SWEPT = "cifar_flat_igc{depth}_l{l}m{m}"  # the networks of IGCV1's Figure 3
# (better, than, where the paper claims it with its means on CIFAR-10, or CIFAR-100 for IGCV2, in %).
CLAIMS = (
    ("cifar_plain_igc8_l24m2", "cifar_plain8_w16", "IGCV1, Table 4, CIFAR-10: 90.31 and 89.46"),
    ("cifar_plain_igc8_l24m2", "cifar_plain8_w18", "IGCV1, Table 4, CIFAR-10: 90.31 and 90.30"),
    ("cifar_plain_igc8_l4m8", "cifar_plain8_w16", "IGCV1, Table 4, CIFAR-10: 89.89 and 89.46"),
    ("cifar_plain_igc8_l24m2", "cifar_plain_igc8_l4m8", "IGCV1, Table 4, CIFAR-10: 90.31 and 89.89"),
    ("cifar_plain8_w16", "cifar_sumfusion8_l4m8", "IGCV1, Table 4, CIFAR-10: 89.46 and 84.94"),
    ("cifar_flat_igc8_l40m2", "cifar_flat_igc8_l64m1", "IGCV1, section 5.3, CIFAR-100: 63.89 and 63.07"),
    ("cifar_igcv2_8_c64", "cifar_xception8_c35", "IGCV2, Table 4, CIFAR-100: 67.83 and 67.00"),
)


@dataclass(frozen=True)
class Result:
    """A network after `epochs` epochs on `dataset`, in one run for each of `seeds`."""

    model: str
    dataset: str
    epochs: int
    seeds: List[int]
    configs: List[dict]
    histories: List[List[dict]]

    @property
    def accuracies(self):
        """In %, after the last epoch, in the order of the seeds."""
        return np.array([100 * history[-1]["test_accuracy"] for history in self.histories])

    @property
    def mean(self):
        return self.accuracies.mean()

    @property
    def deviation(self):
        """Sample standard deviation, or None of one seed."""
        return self.accuracies.std(ddof=1) if len(self.seeds) > 1 else None

    @property
    def minutes(self):
        """Of training in one run, without its tests: the median of the runs, as a run may have been held up."""
        return np.median([sum(entry["seconds"] for entry in history) for history in self.histories]) / 60

    @cached_property
    def totals(self):
        size = find_family(self.model)[0].input_size
        return complexity.totals(get_model(self.model), (3, size, size))

    def text(self):
        return f"{self.mean:.2f}" + (f" ± {self.deviation:.2f}" if len(self.seeds) > 1 else "")


def read(folder):
    """{(data set, epochs): [Result, the fewest parameters first]} of the whole runs below `folder`."""
    folders_of = defaultdict(list)
    for config in sorted(Path(folder).glob("*/*/*/seed*/config.json")):
        run = read_run(config.parent)
        if run is not None and run.finished:
            folders_of[run.dataset, run.num_epochs, run.model].append(config.parent)
    groups = defaultdict(list)
    for (dataset, epochs, model), folders in sorted(folders_of.items()):
        configs = [json.loads((f / "config.json").read_text(encoding="utf-8")) for f in folders]
        histories = [
            [json.loads(line) for line in (f / "history.jsonl").read_text(encoding="utf-8").splitlines()]
            for f in folders
        ]
        groups[dataset, epochs].append(Result(model, dataset, epochs, [c["seed"] for c in configs], configs, histories))
    return {group: sorted(results, key=lambda r: r.totals.weights) for group, results in sorted(groups.items())}


def measure(models):
    """{model: milliseconds of an image}, compiled, in batches of 16: CPU time of one thread, medians, taking turns."""
    compiled = {}
    for model in models:
        net = get_model(model)
        net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
        compiled[model] = deploy.compile(net)
    images = np.random.default_rng(0).standard_normal((BATCH, 3, 32, 32)).astype(np.float32)
    seconds = defaultdict(list)
    for _ in range(ROUNDS + 1):  # the first one warms up
        for model, run in compiled.items():
            begin = time.thread_time()
            run(images, threads=1)
            seconds[model].append(time.thread_time() - begin)
    return {model: 1000 * statistics.median(values[1:]) / BATCH for model, values in seconds.items()}


def short(model):
    return model.replace("cifar_", "")


def draw(results, path, milliseconds):
    """Accuracy against parameters, multiply-adds, epochs and, where they are known, milliseconds."""
    timed = all(result.model in milliseconds for result in results)
    figure = Figure(figsize=(16 if timed else 12, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    by_weights, by_operations, by_epoch, *by_time = figure.subplots(1, 3 + timed)
    for number, result in enumerate(results):
        color, totals = f"C{number}", result.totals
        marker = "o" if "igc" in result.model else "s"
        costs = [(by_weights, totals.weights / 1e3), (by_operations, totals.multiply_adds / 1e6)]
        for axes, x in costs + [(axes, milliseconds[result.model]) for axes in by_time]:
            axes.errorbar(x, result.mean, yerr=result.deviation, marker=marker, color=color, capsize=4)
        curves = 100 * np.array([[entry["test_accuracy"] for entry in history] for history in result.histories])
        by_epoch.plot(
            np.arange(1, result.epochs + 1),
            curves.mean(axis=0),
            marker=marker,
            markersize=4,
            color=color,
            label=f"{short(result.model)} ({len(result.seeds)})",
        )
    by_weights.set_xlabel("weights, thousands")
    by_weights.set_ylabel("test accuracy at the end, %")
    by_operations.set_xlabel("multiply-adds of an image, millions")
    by_epoch.set_xlabel("epochs")
    by_epoch.set_ylabel("test accuracy, %")
    by_epoch.xaxis.get_major_locator().set_params(integer=True)
    by_epoch.legend(fontsize=8, title="network (seeds)", title_fontsize=8)
    for axes in by_time:
        axes.set_xlabel("milliseconds of an image, compiled, one thread")
    for axes in (by_weights, by_operations, by_epoch, *by_time):
        axes.grid(alpha=0.3)
    figure.suptitle(
        f"{results[0].dataset}, {results[0].epochs} epochs; circles: IGC, squares: others"
        + ("; bars: standard deviation of the seeds" if any(len(r.seeds) > 1 for r in results) else ""),
        fontsize=10,
    )
    figure.savefig(path, metadata={"Software": None})


def partitions(result):
    """(L, M) of a network of IGCV1's Figure 3, or None of others."""
    family, numbers = find_family(result.model)
    return (numbers["l"], numbers["m"]) if family.template == SWEPT else None


def draw_sweep(results, path):
    """Accuracy against the number of primary partitions, at the same number of weights."""
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = [partitions(result)[0] for result in results]
    means = [result.mean for result in results]
    deviations = [result.deviation or 0 for result in results]
    axes.errorbar(counts, means, yerr=deviations if any(deviations) else None, marker="o", capsize=4)
    label = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center", "fontsize": 8}
    for result, count, mean in zip(results, counts, means):
        axes.annotate(f"M={partitions(result)[1]}", (count, mean), **label)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, list(map(str, counts)))
    axes.minorticks_off()
    axes.margins(y=0.15)
    axes.set_xlabel("L, primary partitions of M channels")
    axes.set_ylabel("test accuracy at the end, %")
    axes.grid(alpha=0.3)
    seeds = min(len(result.seeds) for result in results)
    trained = f"{results[0].dataset}, {results[0].epochs} epochs, {seeds} seed(s) each"
    axes.set_title(f"{trained}: 8-layer networks of one number of weights", fontsize=10)
    figure.savefig(path, metadata={"Software": None})


def verdict(better, than):
    """What the runs say about `better` being better than `than`."""
    difference = better.mean - than.mean
    seeds = f"{len(better.seeds)} and {len(than.seeds)} seeds"
    if min(len(better.seeds), len(than.seeds)) < 2:
        return f"{difference:+.2f} ({seeds})", "not decided: one seed has no spread"
    error = np.sqrt(sum(r.deviation**2 / len(r.seeds) for r in (better, than)))
    if abs(difference) <= 2 * error:
        return f"{difference:+.2f} ± {error:.2f} ({seeds})", "not decided"
    return f"{difference:+.2f} ± {error:.2f} ({seeds})", "holds" if difference > 0 else "**does not hold**"


def sweep_of(results):
    """The networks of Figure 3 (i) among `results`, the fewest primary partitions first, where they make a curve."""
    swept = [r for r in results if partitions(r) and r.totals.weights < 40_000]
    return sorted(swept, key=partitions) if len(swept) > 2 else []


def picture_of(results, what="epochs"):
    return f"results/{results[0].dataset}_{results[0].epochs}_{what}.png"


def peak(results):
    """The sentence on where the sweep is highest."""
    best = max(results, key=lambda r: r.mean)
    seeds = min(len(r.seeds) for r in results)
    return (
        "The sweep of Figure 3 (i) of IGCV1: 8-layer networks of one number of weights, cut into L primary partitions "
        f"of M channels. The highest is at L = {partitions(best)[0]}, M = {partitions(best)[1]} with {best.text()} %"
        f"{', of one seed each' if seeds == 1 else ''}; the paper's, on CIFAR-100, at L = 40, M = 2."
    )


def section(dataset, epochs, results, milliseconds):
    lines = [
        f"## {dataset}, {epochs} epochs",
        "",
        f"![accuracy against parameters, multiply-adds and epochs]({picture_of(results)})",
        "",
    ]
    sweep = sweep_of(results)
    if sweep:
        lines += [peak(sweep), "", f"![accuracy against L]({picture_of(sweep, 'epochs_sweep')})", ""]
    lines += [
        "| network | weights | multiply-adds, 10^6 | ms | seeds | test accuracy, % | each seed, % | minutes a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        totals, ms = result.totals, milliseconds.get(result.model)
        lines.append(
            f"| `{result.model}` | {totals.weights:,} | {totals.multiply_adds / 1e6:.2f} | "
            f"{'-' if ms is None else f'{ms:.3f}'} | {len(result.seeds)} | {result.text()} | "
            f"{', '.join(f'{a:.2f}' for a in result.accuracies)} | {result.minutes:.0f} |"
        )
    known = {result.model: result for result in results}
    claims = [(known[better], known[than], where) for better, than, where in CLAIMS if {better, than} <= known.keys()]
    if claims:
        lines += ["", "| claim | the papers' means, % | difference here | |", "|---|---|---|---|"]
        for better, than, where in claims:
            lines.append(
                f"| {short(better.model)} above {short(than.model)} | {where} | {' | '.join(verdict(better, than))} |"
            )
    return lines + ["", *made_with(results), ""]


def made_with(results):
    """The paragraph of configuration, versions and machines, each different one once."""

    def different(value):
        return list(dict.fromkeys(str(value(config)) for result in results for config in result.configs))

    schedule = different(
        lambda c: (
            f"Rate {c['schedule']['lr']:g}, times {c['schedule']['lr_factor']:g} after epochs "
            f"{', '.join(map(str, dict.fromkeys(c['schedule']['lr_steps'])))}"
        )
    )
    settings = different(
        lambda c: (
            f"Batch {c['batch_size']} in {c['batch_shards']} shards, {c['optimizer']} momentum "
            f"{c['momentum']:g}, weight decay {c['wd']:g}, padded with {c['pad']}"
        )
    )
    versions = different(
        lambda c: (
            "MXNet {mxnet}, NumPy {numpy}, Python {python}, kernels {native}, OMP_NUM_THREADS={OMP_NUM_THREADS}".format(
                **c["versions"]
            )
        )
    )
    machines = different(lambda c: c.get("processor", "a processor that was not written down"))
    commits = different(lambda c: (c.get("commit") or "not written down")[:12])
    return [
        f"{'; '.join(schedule)}. {'; '.join(settings)}. {'; '.join(versions)}. {'; '.join(machines)}, beside other "
        f"work. Commit {', '.join(commits)}."
    ]


def read_times():
    """The content of milliseconds.json: {"milliseconds": {model: milliseconds}, "processor": ...}."""
    path = DOCS / "results" / "milliseconds.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"milliseconds": {}}


def page(groups, times):
    """The text of results.md."""
    timing = (
        f"Milliseconds are those of an image in a batch of {BATCH}, compiled by `igc_gluon.deploy`, CPU time of one "
        f"thread, medians of {ROUNDS} rounds, on {times['processor']}."
        if times["milliseconds"]
        else "Inference was not timed: the machine was at other work, which also makes the minutes longer than need be."
    )
    lines = [
        "# Results",
        "",
        "Made by `python docs/draw_results.py` from the histories in `docs/results`. Test accuracy is that of the last",
        "epoch, over the 10,000 official test images, the mean and sample standard deviation of the seeds; of one seed",
        "there is no deviation, and differences of a few tenths between single seeds say "
        "nothing. A claim is held to be",
        "decided where the difference is more than twice its standard error. Minutes "
        "are those of training, without tests, the median of the runs.",
        timing,
        "",
    ]
    for (dataset, epochs), results in groups.items():
        lines += section(dataset, epochs, results, times["milliseconds"])
    return "\n".join(lines).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--time", action="store_true", help="time all networks first")
    groups = read(DOCS / "results")
    if parser.parse_args().time:
        models = dict.fromkeys(result.model for results in groups.values() for result in results)
        (DOCS / "results" / "milliseconds.json").write_text(
            json.dumps({"milliseconds": measure(models), "processor": processor.name()}, indent=1) + "\n",
            encoding="utf-8",
        )
    times = read_times()
    for results in groups.values():
        draw(results, DOCS / picture_of(results), times["milliseconds"])
        if sweep_of(results):
            draw_sweep(sweep_of(results), DOCS / picture_of(results, "epochs_sweep"))
    (DOCS / "results.md").write_text(page(groups, times), encoding="utf-8")


if __name__ == "__main__":
    main()
