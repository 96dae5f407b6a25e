"""Times reading photographs of records: ours, whose order is reproducible, beside MXNet's plain ImageRecordIter.

    python benchmarks/record_pipeline.py

Both read the same file, crops of the two photographs that scikit-learn ships, short side 480, with the authors'
augmentation to 224x224 and with the crop alone. The pipelines take turns; the result goes to
benchmarks/results/record_pipeline.md.
"""

from igc_gluon.threads import use_all_cores

use_all_cores()

import argparse  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import statistics  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import cv2  # noqa: E402
import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from pipelines import epochs_of, measure  # noqa: E402

import igc_gluon  # noqa: E402
from igc_gluon.bench import machine  # noqa: E402
from igc_gluon.data import pack, record_batches, record_file  # noqa: E402
from igc_gluon.data.preprocessing import Preprocessing  # noqa: E402
from igc_gluon.data.registry import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from igc_gluon.threads import cores  # noqa: E402

BATCH = 64
SHAPE = (3, 224, 224)
EXPECTED = Preprocessing(SHAPE[1:], 256, IMAGENET_MEAN, IMAGENET_STD)
OPTIONS = {
    "authors": {
        "max_random_scale": 1.0,
        "max_aspect_ratio": 0.25,
        "random_h": 36,
        "random_s": 50,
        "random_l": 50,
        "rand_crop": True,
        "rand_mirror": True,
        "fill_value": 112,
    },
    "none": {"max_random_scale": 0.533},
}  # of ImageRecordIter
RESULTS = Path(__file__).parent / "results" / "record_pipeline.md"


def make_file(folder, count):
    """A packed file of `count` crops of 360 pixels and more, as large as ImageNet's photographs mostly are."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photographs = load_sample_images().images
    for number in range(count):
        photograph = photographs[number % 2]
        height, width = int(rng.integers(360, 427)), int(rng.integers(400, 640))
        y, x = rng.integers(0, 427 - height + 1), rng.integers(0, 640 - width + 1)
        where = folder / "train" / ("china", "flower")[number % 2]
        where.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(where / f"{number}.jpg"), photograph[y : y + height, x : x + width, ::-1])
    begin = time.perf_counter()
    pack.pack(pack.list_images(folder / "train", shuffle_seed=0), folder / "train.rec", workers=cores())
    return folder / "train.rec", count / (time.perf_counter() - begin)


def ours(path, augment):
    batches = record_batches.RecordTraining(path, BATCH, EXPECTED, augment=augment, seed=0)

    def epoch(number):
        return sum(len(label) for _, label in batches.epoch(number))

    return epoch


def plain(path, augment, threads):
    mean, std = (
        dict(zip((f"{kind}_r", f"{kind}_g", f"{kind}_b"), values))
        for kind, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD))
    )
    return epochs_of(
        mx.io.ImageRecordIter(
            path_imgrec=str(path),
            path_imgidx=str(record_file.index_path(path)),
            data_shape=SHAPE,
            batch_size=BATCH,
            shuffle=True,
            preprocess_threads=threads,
            verbose=False,
            **mean,
            **std,
            min_img_size=256,
            inter_method=9,
            min_random_scale=0.533,
            **OPTIONS[augment],
        )
    )


def evaluation(path):
    batches = record_batches.RecordEvaluation(path, BATCH, EXPECTED)
    return lambda _: sum(len(label) for _, label in batches.epoch(0))


def table(rates, cpu, packing, arguments, load):
    rows = "\n".join(
        f"| {name} | {statistics.median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} "
        f"| {statistics.median(cpu[name]):.2f} |"
        for name, values in rates.items()
    )
    return f"""# Reading records of photographs

{arguments.images:,} JPEGs, short side 480, quality 95, to normalized float32 at 224x224, batches of {BATCH}; \
{arguments.repeats} repeats, taking turns.

| pipeline | images/s, median | slowest | fastest | ms of CPU time for an image, median |
|---|---|---|---|---|
{rows}

Ours decodes in {cores()} threads and gives NumPy arrays; MXNet's gives NDArrays, in an order and with crops that
another run
does not repeat. Packing made {packing:,.0f} images/s with {cores()} processes.

- `python benchmarks/record_pipeline.py --images {arguments.images} --repeats {arguments.repeats}`, \
OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]}
- {machine.describe()}, load average {load:.1f} from other work when it started
- Python {platform.python_version()}, NumPy {np.__version__}, MXNet {mx.__version__}, OpenCV {cv2.__version__}, \
igc_gluon {igc_gluon.__version__}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        path, packing = make_file(Path(folder), arguments.images)
        pipelines = {}
        for augment, words in (("authors", "the authors' augmentation"), ("none", "scale and center crop")):
            pipelines[f"igc_gluon, {words}"] = ours(path, augment)
            for threads in sorted({1, cores()}):
                pipelines[f"mx.io.ImageRecordIter, {threads} thread{'s' * (threads > 1)}, {words}"] = plain(
                    path, augment, threads
                )
        pipelines["igc_gluon, evaluation"] = evaluation(path)
        cpu = {}
        text = table(measure(pipelines, arguments.repeats, cpu), cpu, packing, arguments, load)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
