"""Images per second of igc_gluon's batches beside MXNet's two input pipelines, on the same images in one run.

    python benchmarks/input_pipeline.py              # about two minutes on two cores

All do the CIFAR augmentation: pad 4, random 32x32 crop, mirror, normalize, batches of 64. The images are
synthetic and in memory for igc_gluon and DataLoader; ImageRecordIter reads its own format, with JPEG images,
from a file. One untimed turn comes first.
"""

import argparse
import os
import platform
import statistics
import tempfile
from importlib import metadata
from pathlib import Path

# MXNet's pipelines may use every core; ours is NumPy on one thread. Read by MXNet at its import.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))

import cv2  # noqa: E402
import mxnet as mx  # noqa: E402
import numpy as np  # noqa: E402
from gluoncv.data.transforms.block import RandomCrop  # noqa: E402
from mxnet.gluon.data.vision import transforms  # noqa: E402
from pipelines import epochs_of, measure  # noqa: E402

import igc_gluon  # noqa: E402  (first: it makes MXNet importable on newer NumPy)
from igc_gluon.bench import machine  # noqa: E402
from igc_gluon.data import DATASETS, Batches  # noqa: E402

BATCH = 64
CIFAR10 = DATASETS["cifar10"]
RESULTS = Path(__file__).parent / "results" / "input_pipeline.md"


def synthetic(count):
    """Smooth noise: JPEG and crops cost what they cost on photographs, roughly."""
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return np.stack([cv2.resize(image, (32, 32)) for image in coarse]), random.randint(0, 10, count)


def ours(images, labels, as_ndarray):
    batches = Batches(images, labels, BATCH, CIFAR10.mean, CIFAR10.std, augment=True, mirror=True)

    def epoch(number):
        for data, _ in batches.epoch(number):
            if as_ndarray:
                data = mx.nd.array(data)
        if as_ndarray:
            data.wait_to_read()
        return len(batches) * BATCH

    return epoch


def data_loader(images, labels, workers):
    augment = transforms.Compose(
        [
            RandomCrop(32, pad=4),
            transforms.RandomFlipLeftRight(),
            transforms.ToTensor(),
            transforms.Normalize(tuple(np.array(CIFAR10.mean) / 255), tuple(np.array(CIFAR10.std) / 255)),
        ]
    )
    data_set = mx.gluon.data.ArrayDataset(mx.nd.array(images, dtype=np.uint8), labels.astype(np.float32))
    loader = mx.gluon.data.DataLoader(
        data_set.transform_first(augment), BATCH, shuffle=True, last_batch="rollover", num_workers=workers
    )

    def epoch(number):
        count = 0
        for data, _ in loader:
            data.wait_to_read()
            count += len(data)
        return count

    return epoch


def record_iter(images, labels, threads, folder):
    path = str(Path(folder) / f"{threads}.rec")
    writer = mx.recordio.MXRecordIO(path, "w")
    for index, (image, label) in enumerate(zip(images, labels)):
        writer.write(mx.recordio.pack_img(mx.recordio.IRHeader(0, float(label), index, 0), image[:, :, ::-1]))
    writer.close()
    mean, std = CIFAR10.mean, CIFAR10.std
    return epochs_of(
        mx.io.ImageRecordIter(
            path_imgrec=path,
            data_shape=(3, 32, 32),
            batch_size=BATCH,
            shuffle=True,
            pad=4,
            fill_value=120,
            rand_crop=True,
            rand_mirror=True,
            mean_r=mean[0],
            mean_g=mean[1],
            mean_b=mean[2],
            std_r=std[0],
            std_g=std[1],
            std_b=std[2],
            preprocess_threads=threads,
            verbose=False,
        )
    )


def table(rates, arguments, load):
    ours = statistics.median(rates["igc_gluon, NDArrays, 1 thread"])
    lines = [
        "| pipeline | images/s, median | slowest | fastest | igc_gluon's NDArrays against it |",
        "|---|---|---|---|---|",
    ]
    for name, values in rates.items():
        median = statistics.median(values)
        lines.append(f"| {name} | {median:,.0f} | {min(values):,.0f} | {max(values):,.0f} | {ours / median:.1f}x |")
    rows = "\n".join(lines)
    return f"""# Input pipelines on CIFAR-sized images

Pad 4, random crop, mirror, normalize, batches of {BATCH}; {arguments.images:,} synthetic images
({arguments.loader_images:,} for DataLoader, which would take half a minute for all). MXNet's two yield
NDArrays. {arguments.repeats} repeats, taking turns.

{rows}

- `python benchmarks/input_pipeline.py --images {arguments.images} --loader-images {arguments.loader_images} \
--repeats {arguments.repeats}`, OMP_NUM_THREADS={os.environ["OMP_NUM_THREADS"]}
- {machine.describe()}, load average {load:.1f} from other work when it started
- Python {platform.python_version()}, NumPy {np.__version__}, MXNet {mx.__version__}, \
GluonCV {metadata.version("gluoncv")}, igc_gluon {igc_gluon.__version__}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=50000)
    parser.add_argument("--loader-images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    images, labels = synthetic(arguments.images)
    few = images[: arguments.loader_images], labels[: arguments.loader_images]
    with tempfile.TemporaryDirectory() as folder:
        pipelines = {
            "igc_gluon, NumPy arrays, 1 thread": ours(images, labels, as_ndarray=False),
            "igc_gluon, NDArrays, 1 thread": ours(images, labels, as_ndarray=True),
            "mx.io.ImageRecordIter, 1 thread": record_iter(images, labels, 1, folder),
            "mx.io.ImageRecordIter, 2 threads": record_iter(images, labels, 2, folder),
            "gluon DataLoader, no worker": data_loader(*few, workers=0),
            "gluon DataLoader, 2 workers": data_loader(*few, workers=2),
        }
        text = table(measure(pipelines, arguments.repeats), arguments, load)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
