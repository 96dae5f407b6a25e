"""The order and the augmentation of record batches, against MXNet's and OpenCV's own."""
import subprocess
import sys
from pathlib import Path

import cv2
import mxnet as mx
import numpy as np
import pytest
from test_records import write

from igc_gluon.data import record_batches
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.record_batches import (AUGMENTS, RecordEvaluation, RecordTraining, augmentation, parts_for,
                                           record_iter)
from igc_gluon.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD, SHAPE = (120.0, 110.0, 100.0), (70.0, 60.0, 50.0), (3, 32, 32)
EXPECTED = Preprocessing(SHAPE[1:], 36, MEAN, STD)


def smooth(seed, height=48, width=64):
    """A JPEG without fine detail, so that ways of resizing agree."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(coarse, (width, height)), (cv2.IMWRITE_JPEG_QUALITY, 98))[1].tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("records") / "a.rec", range(43), [smooth(i) for i in range(43)])


def training(path, augment="authors", parts=4, batch=8, seed=3, **share):
    return RecordTraining(path, 43, batch, parts, SHAPE, augment, MEAN, STD, seed, **share)


def same(one, two):
    return len(one) == len(two) and all(np.array_equal(a, b) for x, y in zip(one, two) for a, b in zip(x, y))


def test_an_epoch_has_every_image_and_each_batch_is_full(path):
    batches = list(training(path).epoch(0))
    assert len(batches) == len(training(path)) == 6  # 43 images in parts of 11, 2 of each part in a batch
    shapes = {(data.shape, data.dtype, label.shape) for data, label in batches}
    assert shapes == {((8, 3, 32, 32), np.dtype("float32"), (8,))}
    labels = np.concatenate([label for _, label in batches])
    assert set(labels) == set(range(43)) and np.bincount(labels.astype(int)).max() <= 2


def test_the_order_depends_on_seed_and_epoch_alone(path):
    epoch = list(training(path).epoch(5))
    assert same(epoch, list(training(path).epoch(5)))
    assert not same(epoch, list(training(path).epoch(6))) and not same(epoch, list(training(path, seed=4).epoch(5)))
    for first in (1, 5, 6):
        assert same(epoch[first:], list(training(path).epoch(5, first_batch=first)))


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_what_one_would_have(path, workers):
    shares = [list(training(path, part_index=i, num_parts=workers).epoch(1)) for i in range(workers)]
    together = [tuple(np.concatenate(pieces) for pieces in zip(*batch)) for batch in zip(*shares)]
    assert {len(share) for share in shares} == {6} and same(together, list(training(path).epoch(1)))


def test_workers_that_cannot_share(path):
    with pytest.raises(UserError, match="3 workers cannot share the 4 parts"):
        training(path, part_index=0, num_parts=3)


@pytest.mark.parametrize("records, batch, most, parts", [(1281167, 256, 16, 16), (1281167, 96, 16, 16), (43, 8, 16, 8),
                                                         (9, 8, 16, 2), (8, 8, 16, 8), (50, 7, 16, 7),
                                                         (100, 64, 3, 2), (64, 13, 16, 13)])
def test_number_of_parts(records, batch, most, parts):
    found = parts_for(records, batch, most)
    assert found == parts
    assert batch % found == 0 and records - (found - 1) * -(-records // found) >= batch // found


def test_fewer_images_than_a_batch():
    with pytest.raises(UserError, match="has 7 images, fewer than a batch of 8"):
        parts_for(7, 8)


def test_a_last_part_that_is_much_shorter(tmp_path):
    """10 images in 4 parts: 3, 3, 3 and 1, which comes again and again."""
    short = write(tmp_path / "a.rec", range(10), [smooth(i) for i in range(10)])
    batches = list(RecordTraining(short, 10, 4, 4, SHAPE, "none", MEAN, STD, 0).epoch(0))
    assert [label[3] for _, label in batches] == [9, 9, 9]
    assert set(np.concatenate([label for _, label in batches])) == set(range(10))


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_evaluation_has_each_image_once_in_order(path, workers):
    shares = [RecordEvaluation(path, 8, EXPECTED, i, workers) for i in range(workers)]
    pieces = [batch for share in shares for batch in share.epoch(0)]
    np.testing.assert_array_equal(np.concatenate([label for _, label in pieces]), np.arange(43))


def test_evaluation_is_the_center_crop(path):
    data = np.concatenate([data for data, _ in RecordEvaluation(path, 8, EXPECTED).epoch(0)])
    for number in (0, 7, 42):
        image = cv2.imdecode(np.frombuffer(smooth(number), np.uint8), cv2.IMREAD_COLOR)
        image = cv2.resize(image, (48, 36), interpolation=cv2.INTER_AREA)[2:34, 8:40, ::-1]
        expected = ((image - np.array(MEAN)) / STD).transpose(2, 0, 1)
        assert np.abs(data[number] - expected).max() < 1e-5 and np.abs(data[number] - expected).mean() < 0.02


def test_the_authors_augmentation_by_its_names():
    """scale 0.533 to 1, at least 256; aspect 0.25; HSL 36, 50, 50; crop; mirror; interpolation 9."""
    assert augmentation("authors", (3, 224, 224)) == {
        "min_random_scale": 0.533, "max_random_scale": 1.0, "min_img_size": 256, "max_aspect_ratio": 0.25,
        "random_h": 36, "random_s": 50, "random_l": 50, "rand_crop": True, "rand_mirror": True, "inter_method": 9}
    with pytest.raises(UserError, match="--augment must be one of authors, igcv3, resnet, none"):
        augmentation("imagenet", SHAPE)


def augmented(path, augment):
    machine = RecordTraining(path, 43, 8, 1, SHAPE, augment, (0, 0, 0), (1, 1, 1), 0)
    return np.concatenate([data for epoch in range(6) for data, _ in machine.epoch(epoch)])


def test_what_each_augmentation_does(tmp_path):
    """On an image that is dark at the left and bright at the right, with a colour that jitter moves."""
    ramp = np.zeros((48, 64, 3), np.uint8)
    ramp[:] = np.linspace(40, 160, 64).astype(np.uint8)[None, :, None]
    ramp[..., 2] += 40
    encoded = cv2.imencode(".png", ramp)[1].tobytes()
    path = write(tmp_path / "a.rec", [0] * 43, [encoded] * 43)
    for augment, moves_colour in (("authors", True), ("igcv3", True), ("resnet", True), ("none", False)):
        images = augmented(path, augment)
        slopes = images[:, :, :, -4:].mean(axis=(1, 2, 3)) - images[:, :, :, :4].mean(axis=(1, 2, 3))
        mirrored = (slopes < 0).mean()
        if augment == "none":
            assert mirrored == 0 and np.ptp(images, axis=0).max() == 0
            continue
        assert 0.35 < mirrored < 0.65
        # A full-sized crop shows half the width of the ramp, one of the image at 0.533 shows all but a bit of it.
        assert np.abs(slopes).max() > 1.4 * np.abs(slopes).min()
        red_over_blue = images[:, 0].mean(axis=(1, 2)) - images[:, 2].mean(axis=(1, 2))
        assert (red_over_blue.std() > 1) == moves_colour


def test_arguments_that_mxnet_would_ignore_are_refused(path):
    with pytest.raises(TypeError, match="has no scale_r"):
        record_iter(path_imgrec=str(path), data_shape=SHAPE, batch_size=1, scale_r=1)


@pytest.mark.parametrize("broken", [b"no image at all", smooth(0)[:20], smooth(0)[:3] + b"x" * 50])
def test_a_broken_image_is_one_line(tmp_path, broken):
    images = [smooth(i) for i in range(16)]
    images[5] = broken
    path = write(tmp_path / "a.rec", range(16), images)
    for augment in AUGMENTS:
        with pytest.raises(UserError, match="cannot read an image of .*igc data verify") as caught:
            list(RecordTraining(path, 16, 4, 4, SHAPE, augment, MEAN, STD, 0).epoch(0))
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="record at byte .*: it holds no readable image; igc data verify"):
        list(RecordEvaluation(path, 4, EXPECTED).epoch(0))


def test_too_little_memory_is_no_broken_image(path, monkeypatch):
    def no_memory(**arguments):
        raise mx.MXNetError("MXNetError: ../src/storage/cpu_device_storage.h:74: Failed to allocate CPU Memory")

    monkeypatch.setattr(record_batches, "record_iter", no_memory)
    with pytest.raises(UserError, match="too little memory to read .*lower --batch-size"):
        next(training(path).epoch(0))


def test_evaluation_refuses_an_image_with_flipped_bytes(tmp_path):
    """Which decodes all the same."""
    path = write(tmp_path / "a.rec", range(4), [smooth(i) for i in range(4)])
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 8] ^= 16
    path.write_bytes(content)
    with pytest.raises(UserError, match="its checksum is another; igc data verify"):
        list(RecordEvaluation(path, 4, EXPECTED).epoch(0))


AGAIN = """
import sys
from igc_gluon.data.record_batches import RecordTraining
from igc_gluon.errors import UserError
for _ in range(30):
    try:
        list(RecordTraining(sys.argv[1], 6, 2, 2, (3, 28, 28), "authors", (0, 0, 0), (1, 1, 1), 0).epoch(0))
    except UserError:
        print("refused")
"""


def test_broken_images_in_two_parts_never_end_the_process(tmp_path):
    """MXNet does it every few times when an iterator is freed while it comes upon the second."""
    images = [smooth(i) for i in range(6)]
    images[0] = images[3] = b"no image at all"
    path = write(tmp_path / "a.rec", range(6), images)
    done = subprocess.run([sys.executable, "-c", AGAIN, path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.split() == ["refused"] * 30, done.stderr[-500:]


STOPPED = """
import sys, time
from igc_gluon.data import record_batches
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.record_batches import RecordTraining
from igc_gluon.errors import UserError
record_batches.REST_SECONDS = 2
stopped = 0
for number in range(40):
    batches = RecordTraining(sys.argv[1], 12, 2, 2, (3, 28, 28), "authors", (0, 0, 0), (1, 1, 1), number).epoch(0)
    try:
        next(batches)
    except UserError:
        continue
    batches.close()
    stopped += 1
time.sleep(3)  # until all are freed
print(stopped)
"""


def test_stopping_before_a_broken_image_never_ends_the_process(tmp_path):
    """As SIGTERM does. MXNet may just be reading it ahead."""
    images = [smooth(i) for i in range(12)]
    images[0] = images[3] = images[7] = b"no image at all"
    path = write(tmp_path / "a.rec", range(12), images)
    done = subprocess.run([sys.executable, "-c", STOPPED, path], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 10, done.stderr[-500:]


def test_files_that_come_and_go_beside(path, monkeypatch):
    """Another worker may write what it knows of the file, another process pack its own."""
    real, failed = mx.io.ImageRecordIter, []

    def unlucky(**arguments):
        if len(failed) < 3:
            failed.append("LocalFileSystem.GetPathInfo: a.rec.json.tmp error: No such file or directory")
            raise mx.MXNetError(failed[-1])
        return real(**arguments)

    record_batches._known_arguments()
    monkeypatch.setattr(mx.io, "ImageRecordIter", unlucky)
    next(training(path).epoch(0))


def test_every_argument_is_one_of_mxnets():
    known = record_batches._known_arguments()
    assert {"seed_aug", "path_imgidx", "min_random_scale"} <= known and "scale_r" not in known
    assert mx.__version__ == "1.9.1"
