"""One HTML page about training runs, which needs no other file and no network."""

import base64
import io
import json
import shlex
from html import escape
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence

import cv2
import numpy as np

import igc_gluon
from igc_gluon import complexity
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.evaluation_data import EvaluationData
from igc_gluon.engine.metrics import TOP5_FROM, Metrics, Mistake
from igc_gluon.errors import printable
from igc_gluon.nn import interleaved_blocks
from igc_gluon.report import charts, pattern_picture
from igc_gluon.report.choices import choices
from igc_gluon.report.experiments import Experiment, Run, network

_CLASSES_SHOWN = 60  # in the confusion matrix; of more the pairs that are confused most
_STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def comparison_page(experiments: Sequence[Experiment]) -> str:
    """Several experiments, the most accurate first: a table, accuracy against cost, the curves."""
    experiments = sorted(experiments, key=lambda e: -e.accuracies.mean())
    rows = [
        [
            _text(e.label),
            _text(e.dataset),
            e.epochs_text,
            len(e.runs),
            e.accuracy_text,
            f"{e.cost.weights:,}",
            f"{e.cost.multiply_adds:,}",
            f"{e.minutes:.1f}",
        ]
        for e in experiments
    ]
    parts = [
        _section(
            "Accuracy and cost",
            _table(
                ("network", "data", "epochs", "seeds", "test accuracy, %", "weights", "multiply-adds", "minutes"),
                rows,
                left=2,
            ),
            "<p>Accuracy on the test images after the last epoch: mean and standard deviation of the seeds. Minutes of "
            "training, "
            "without tests, of one run.</p>",
        )
    ]
    if len({e.dataset for e in experiments}) == 1:
        parts.append(_section("Accuracy against cost", _chart(charts.accuracy_against_cost(experiments))))
    parts.append(_section("Test curves", _chart(charts.test_curves(experiments))))
    parts.append(
        _section(
            "The runs",
            _table(
                ("folder", "seed", "accuracy, %", "best, %", "in epoch", "processor"),
                [
                    [
                        _text(run.folder),
                        run.config.get("seed", ""),
                        f"{run.accuracy:.2f}",
                        f"{100 * run.best['test_accuracy']:.2f}",
                        run.best["epoch"] + 1,
                        _text(run.config.get("processor", "")),
                    ]
                    for e in experiments
                    for run in e.runs
                ],
            ),
        )
    )
    return _page(f"{len(experiments)} experiments", "", parts)


def run_page(
    run: Run,
    metrics: Optional[Metrics],
    reason: str,
    data: Optional[EvaluationData] = None,
    preprocessing: Optional[Preprocessing] = None,
) -> str:
    """One run: curves, what its best network does to each class, its mistakes, its cost, how to load it.

    metrics: of the best checkpoint over `data` (engine.evaluation_data.EvaluationData), with the images as the network
    got them; or None, for `reason`. preprocessing: what the network expects.
    """
    config, net = run.config, network(run.config)
    totals = complexity.totals(net, tuple(config["image_shape"]))
    state = "" if run.finished else f" (not finished: {len(run.history)} of {run.num_epochs} epochs)"
    tiles = [
        ("test accuracy after the last epoch", f"{run.accuracy:.2f} %"),
        (f"best, in epoch {run.best['epoch'] + 1}", f"{100 * run.best['test_accuracy']:.2f} %"),
        ("weights", f"{totals.weights:,}"),
        ("multiply-adds of an image", f"{totals.multiply_adds:,}"),
        ("training", f"{run.minutes:.1f} min"),
    ]
    parts = [
        f'<ul class="tiles">{"".join(f"<li><b>{value}</b>{name}</li>" for name, value in tiles)}</ul>',
        _section("Curves", _chart(charts.curves(run.history))),
        _section("Training", _choices(config)),
    ]
    if metrics is None or data is None or preprocessing is None:
        parts.append(_section("Classes", f"<p>Not evaluated: {_text(reason)}</p>"))
    else:
        parts += _evaluation(metrics, data, preprocessing)
    parts += [_patterns(config["model"], net), _layers(net, config), _loading(run), _configuration(config)]
    return _page(config["model"], f"on {run.dataset}{state}", [part for part in parts if part])


def _choices(config: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th scope="row" class="left">{_text(name)}</th><td class="left">{_text(value)}</td></tr>'
        for name, value in choices(config)
    )
    return f'<div class="wide"><table class="choices">{rows}</table></div>'


def _evaluation(metrics: Metrics, data: EvaluationData, preprocessing: Preprocessing) -> List[str]:
    names = [_text(name) for name in data.class_names or [f"class {i}" for i in range(len(metrics.confusion))]]
    totals = metrics.evaluation
    top5 = f" Top-5: {100 * totals.top5:.2f} %." if len(names) >= TOP5_FROM else ""
    rows = [
        [name, f"{count:,}", *map(_percent, shares)]
        for name, count, *shares in zip(names, metrics.support.tolist(), metrics.recall, metrics.precision, metrics.f1)
    ]
    parts = [
        _section(
            "Classes",
            f"<p>The best checkpoint on {_text(data.name)}: {100 * totals.accuracy:.2f} % of "
            f"{totals.images:,} images, cross-entropy {totals.loss:.4f}.{top5}</p>",
            _table(("class", "images", "recall, %", "precision, %", "F1, %"), rows),
        )
    ]
    parts.append(_section("Confusion", _confusion(metrics, names)))
    parts.append(
        _section(
            "Confidence",
            f"<p>Confidence and accuracy are {100 * metrics.calibration_error:.2f} points apart "
            "on average (expected calibration error).</p>",
            _chart(charts.reliability(metrics.bins), "small"),
        )
    )
    figures = "".join(_mistake(mistake, data, names, preprocessing) for mistake in metrics.mistakes())
    if figures:
        parts.append(_section("The surest mistakes", f'<div class="mistakes">{figures}</div>'))
    return parts


def _confusion(metrics: Metrics, names: Sequence[str]) -> str:
    if len(names) > _CLASSES_SHOWN:
        return _table(
            ("class", "taken for", "images"),
            [[names[a], names[b], f"{count:,}"] for a, b, count in metrics.confused(40)],
            left=2,
        )
    rows = []
    for name, row, images in zip(names, metrics.confusion.tolist(), metrics.support.tolist()):
        cells = "".join(_cell(count, images, name, other) for count, other in zip(row, names))
        rows.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    head = "".join(f'<th scope="col"><span>{name}</span></th>' for name in names)
    return (
        "<p>Rows: the class, columns: what it is taken for, in % of the class’s images.</p>"
        f'<div class="wide"><table class="confusion"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(count: int, images: int, name: str, other: str) -> str:
    share = 100 * count / images if images else 0
    strong = ' class="strong"' if share > 55 else ""  # letters in the paper's color, which are read on it
    shown = f"{share:.0f}" if round(share) else ""
    return f'<td{strong} style="--share:{share:.1f}" title="{name}, taken for {other}: {count:,}">{shown}</td>'


def _mistake(mistake: Mistake, data: EvaluationData, names: Sequence[str], preprocessing: Preprocessing) -> str:
    mean, std = (np.array(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    pixels = np.clip(np.rint(mistake.image * std + mean), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    picture = cv2.imencode(".png", pixels[..., ::-1] if preprocessing.color_order == "RGB" else pixels)[1].tobytes()
    return (
        f'<figure><img src="{_data_uri(picture)}" alt="{names[mistake.label]}">'
        f"<figcaption>{names[mistake.label]}, taken for <b>{names[mistake.predicted]}</b> "
        f"({100 * mistake.confidence:.1f} %)<small>{_text(data.image_name(mistake.number))}</small>"
        "</figcaption></figure>"
    )


def _patterns(name: str, net: Any) -> str:
    blocks = interleaved_blocks(net)
    if not blocks:
        return ""
    prefix, block = next(iter(blocks.items()))
    file = io.BytesIO()
    pattern_picture.picture(f"{name}, block {prefix.rstrip('_-')}", pattern_picture.factors(block)).savefig(
        file, format="png"
    )
    return _section(
        "Sparsity patterns",
        "<p>The factors of the first block, and the kernel that they compose.</p>",
        f'<img class="pattern" src="{_data_uri(file.getvalue())}" alt="sparsity patterns of the factors">',
    )


def _layers(net: Any, config: Mapping[str, Any]) -> str:
    layers = [layer for layer in complexity.layers(net, tuple(config["image_shape"])) if layer.params]
    rows = [
        [
            _text(layer.name),
            _text(layer.operator),
            "x".join(map(str, layer.output_shape)),
            f"{layer.params:,}",
            f"{layer.multiply_adds:,}",
        ]
        for layer in layers
    ]
    return _section(
        "Cost by layer",
        "<details><summary>"
        f"{len(rows)} layers with parameters</summary>"
        + _table(("layer", "operator", "output", "parameters", "multiply-adds"), rows, left=2)
        + "</details>",
    )


def _loading(run: Run) -> str:
    folder = str(run.folder.absolute())
    code = (
        f"from igc_gluon.engine.saved_networks import open_network\n\nnet = open_network({folder!r})\n"
        "scores = net(net.preprocessing.prepare(image))   # image: uint8 (height, width, 3), RGB"
    )
    commands = "\n".join(
        f"igc {command}"
        for command in (
            f"eval {shlex.quote(folder)}",
            f"predict {shlex.quote(folder)} photo.jpg",
            f"compile {shlex.quote(folder)} -o net.igc",
        )
    )
    return _section("How to load it", f"<pre>{_text(code, lines=True)}</pre><pre>{_text(commands, lines=True)}</pre>")


def _configuration(config: Mapping[str, Any]) -> str:
    return _section(
        "Configuration",
        f"<details><summary>config.json</summary><pre>"
        f"{_text(json.dumps(config, indent=1), lines=True)}</pre></details>",
    )


def _page(title: str, subtitle: str, parts: Sequence[str]) -> str:
    heading = f"{_text(title)} <small>{_text(subtitle)}</small>" if subtitle else _text(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>{_text(title)}</title><style>\n{_STYLE}</style></head>\n'
        f"<body><main><h1>{heading}</h1>\n"
        + "\n".join(parts)
        + f"\n<footer>igc-gluon {_text(igc_gluon.__version__)}</footer></main></body></html>\n"
    )


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{title}</h2>{''.join(content)}</section>"


def _chart(svg: str, kind: str = "") -> str:
    return f'<div class="chart {kind}">{svg}</div>'


def _table(header: Sequence[str], rows: Sequence[Sequence], left: int = 1) -> str:
    """Cells are HTML; the first `left` of them flush left, the others flush right."""

    def line(cells: Sequence, tag: str) -> str:
        return (
            "<tr>"
            + "".join(
                f'<{tag} class="left">{cell}</{tag}>' if place < left else f"<{tag}>{cell}</{tag}>"
                for place, cell in enumerate(cells)
            )
            + "</tr>"
        )

    return (
        f'<div class="wide"><table><thead>{line(header, "th")}</thead><tbody>'
        f"{''.join(line(row, 'td') for row in rows)}</tbody></table></div>"
    )


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.2f}"


def _text(value: object, lines: bool = False) -> str:
    """As HTML; names come from files and folders. lines: several."""
    return "\n".join(escape(printable(line)) for line in str(value).split("\n")) if lines else escape(printable(value))


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
