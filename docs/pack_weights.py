#!/usr/bin/env python
"""Puts the weights of finished runs into the package, see `igc_gluon.model_zoo.shipped`.

    python docs/pack_weights.py RUNS/fashion-mnist/cifar_plain_igc8_l24m2 ...

Of each folder, which holds seed0, seed1, ...: the last checkpoint of seed 0. A row that was there before is replaced.
tests/model_zoo/shipped_outputs.json gets what MXNet's own operators compute with them.
"""

import json
import os
import sys
from pathlib import Path

os.environ["IGC_NATIVE"] = "0"
DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402

import train_cifar  # noqa: E402
from igc_gluon import files, params_file  # noqa: E402
from igc_gluon.data import find_dataset, load  # noqa: E402
from igc_gluon.engine.checkpoint import CheckpointStore  # noqa: E402
from igc_gluon.engine.saved_networks import open_network  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.model_zoo import shipped  # noqa: E402
from igc_gluon.paper.runs import read_run  # noqa: E402

OUTPUTS = DOCS.parent / "tests" / "model_zoo" / "shipped_outputs.json"
LICENSES = {"fashion-mnist": "MIT"}  # of the data


def fixed_images(dataset):
    """float32 (2, 3, H, W), normalized as `dataset`: the same on every machine."""
    pixels = np.random.RandomState(0).randint(0, 256, (2, dataset.size, dataset.size, 3))
    return ((pixels - np.array(dataset.mean)) / np.array(dataset.std)).transpose(0, 3, 1, 2).astype(np.float32)


def pack(folder):
    """(row of weights.json, scores of `fixed_images`) of the runs in `folder`; writes the weights."""
    runs = [read_run(seed) for seed in sorted(folder.glob("seed*"), key=lambda path: int(path.name[4:]))]
    runs = [run for run in runs if run is not None and run.finished]
    if not runs or runs[0].folder.name != "seed0":
        raise UserError(f"{folder} has no finished run of seed 0")
    first = runs[0]
    config = json.loads((first.folder / "config.json").read_text(encoding="utf-8"))
    arguments = ["--dataset", first.dataset, "--network", first.model, "--num-epochs", str(first.num_epochs)]
    experiment = vars(train_cifar.experiment(train_cifar.parse(arguments), train_cifar.PAPER_GPUS))
    meant = json.loads(json.dumps({**experiment, "model": first.model}, default=vars))
    different = [key for key, value in meant.items() if config.get(key, value) != value]  # older ones had fewer
    if different:
        raise UserError(
            f"{first.folder} was not trained by train_cifar.py {' '.join(arguments)}: it has another "
            f"{', '.join(different)}"
        )
    store = CheckpointStore(first.folder / "checkpoints")
    net = open_network(first.folder / "checkpoints" / store.pointer("last"))
    info = find_dataset(first.dataset)
    row = shipped.Weights(
        first.model,
        first.dataset,
        "",
        first.accuracy,
        0,
        tuple(run.accuracy for run in runs),
        first.num_epochs,
        f"python train_cifar.py {' '.join(arguments)}",
        config["commit"],
        LICENSES[first.dataset],
    )
    arrays = {name: parameter.data().asnumpy() for name, parameter in net._collect_params_with_prefix().items()}
    with files.write_atomically(row.path) as file:
        file.write(params_file.dumps(arrays))
    test = load(first.dataset, "test")
    pixels = test.images[:1000].astype(np.float32)
    images = ((pixels - np.array(info.mean)) / np.array(info.std)).transpose(0, 3, 1, 2)
    scores = np.concatenate([net(mx.nd.array(images[i : i + 100])).asnumpy() for i in range(0, 1000, 100)])
    fields = {
        **vars(row),
        "sha256": files.digest(row.path, "sha256"),
        "correct_of_1000": int((scores.argmax(axis=1) == test.labels[:1000]).sum()),
    }
    return fields, net(mx.nd.array(fixed_images(info))).asnumpy().tolist()


def main(folders):
    def read(path):
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    shipped.FOLDER.mkdir(exist_ok=True)
    rows = {(row["model"], row["dataset"]): row for row in read(shipped.TABLE) or []}
    outputs = read(OUTPUTS) or {}
    for folder in map(Path, folders):
        row, scores = pack(folder)
        rows[row["model"], row["dataset"]] = row
        outputs[f"{row['model']}, {row['dataset']}"] = scores
        print(
            f"{row['model']}: {row['accuracy']:.2f} %, {row['correct_of_1000']} of 1,000, "
            f"{Path(shipped.FOLDER, row['model'] + '-' + row['dataset'] + '.params').stat().st_size:,} bytes"
        )
    for path, content in ((shipped.TABLE, list(rows.values())), (OUTPUTS, outputs)):
        with files.write_atomically(path, "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
