"""The order of record batches, evaluation's crops, and files that are broken, small or strange."""

import io

import cv2
import numpy as np
import pytest
from test_record_file import write

from igc_gluon.data import pack, photos, record_batches, record_file, recordio, repair
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.data.record_batches import AUGMENTS, RecordEvaluation, RecordTraining, check_size
from igc_gluon.engine.inputs import RecordInput, record_preprocessing
from igc_gluon.errors import UserError

MEAN, STD, SHAPE = (120.0, 110.0, 100.0), (70.0, 60.0, 50.0), (3, 32, 32)
EXPECTED = Preprocessing(SHAPE[1:], 36, MEAN, STD)


def smooth(seed, height=48, width=64):
    """A JPEG without fine detail, so that ways of resizing agree."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(coarse, (width, height)), (cv2.IMWRITE_JPEG_QUALITY, 98))[1].tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("records") / "a.rec", range(43), [smooth(i) for i in range(43)])


def training(path, augment="authors", batch=8, seed=3, **share):
    return RecordTraining(path, batch, EXPECTED, augment=augment, seed=seed, **share)


def same(one, two):
    return len(one) == len(two) and all(np.array_equal(a, b) for x, y in zip(one, two) for a, b in zip(x, y))


def test_an_epoch_has_every_image_and_each_batch_is_full(path):
    batches = list(training(path).epoch(0))
    assert len(batches) == len(training(path)) == 6  # of 43 images, 5 of which come twice
    shapes = {(data.shape, data.dtype, label.shape, label.dtype) for data, label in batches}
    assert shapes == {((8, 3, 32, 32), np.dtype("float32"), (8,), np.dtype("float32"))}
    labels = np.concatenate([label for _, label in batches])
    assert set(labels[:43]) == set(range(43)) and list(labels[43:]) == list(labels[:5])
    assert not (batches[-1][0][-5:] == batches[0][0][:5]).all()  # in other crops


def test_the_order_depends_on_seed_and_epoch_alone(path, monkeypatch):
    epoch = list(training(path).epoch(5))
    assert not same(epoch, list(training(path).epoch(6))) and not same(epoch, list(training(path, seed=4).epoch(5)))
    for threads in (1, 7):
        monkeypatch.setattr(record_batches, "cores", lambda: threads)
        assert same(epoch, list(training(path).epoch(5)))


@pytest.mark.parametrize("first", [1, 5, 6])
def test_going_on_at_any_batch_reads_the_rest_alone(path, monkeypatch, first):
    epoch = list(training(path).epoch(5))
    real, read = record_batches.decode, []
    monkeypatch.setattr(record_batches, "decode", lambda payload: read.append(1) or real(payload))
    assert same(epoch[first:], list(training(path).epoch(5, first_batch=first)))
    assert len(read) == 8 * (6 - first)


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_workers_share_what_one_would_have(path, workers):
    shares = [list(training(path, part_index=i, num_parts=workers).epoch(1)) for i in range(workers)]
    together = [tuple(np.concatenate(pieces) for pieces in zip(*batch)) for batch in zip(*shares)]
    assert {len(share) for share in shares} == {6} and same(together, list(training(path).epoch(1)))


def test_batches_that_cannot_be_made(path):
    with pytest.raises(UserError, match="a batch of 8 images is too small for 9 workers"):
        training(path, part_index=0, num_parts=9)
    with pytest.raises(UserError, match="has 43 images, fewer than a batch of 44; lower --batch-size"):
        training(path, batch=44)
    with pytest.raises(UserError, match="--augment must be one of authors, igcv3, resnet, none, not 'imagenet'"):
        training(path, augment="imagenet")


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_evaluation_has_each_image_once_in_order(path, workers):
    shares = [RecordEvaluation(path, 8, EXPECTED, part_index=i, num_parts=workers) for i in range(workers)]
    pieces = [batch for share in shares for batch in share.epoch(0)]
    np.testing.assert_array_equal(np.concatenate([label for _, label in pieces]), np.arange(43))


def test_evaluation_is_the_center_crop(path):
    data = np.concatenate([data for data, _ in RecordEvaluation(path, 8, EXPECTED).epoch(0)])
    for number in (0, 7, 42):
        image = cv2.imdecode(np.frombuffer(smooth(number), np.uint8), cv2.IMREAD_COLOR)
        image = cv2.resize(image, (48, 36), interpolation=cv2.INTER_AREA)[2:34, 8:40, ::-1]
        expected = ((image - np.array(MEAN)) / STD).transpose(2, 0, 1)
        assert np.abs(data[number] - expected).max() < 1e-5 and np.abs(data[number] - expected).mean() < 0.02


@pytest.mark.parametrize("broken", [b"no image at all", smooth(0)[:20], smooth(0)[:3] + b"x" * 50])
def test_a_broken_image_is_one_line(tmp_path, broken):
    images = [smooth(i) for i in range(16)]
    images[5] = images[7] = broken
    path = write(tmp_path / "a.rec", range(16), images)
    sources = [RecordTraining(path, 4, EXPECTED, augment=augment, seed=0) for augment in AUGMENTS]
    for source in (*sources, RecordEvaluation(path, 4, EXPECTED)):
        with pytest.raises(UserError, match="record at byte .*: it holds no readable image; igc data verify") as caught:
            list(source.epoch(0))
        assert "\n" not in str(caught.value)


def test_flipped_bytes_are_refused(tmp_path):
    """They decode all the same."""
    path = write(tmp_path / "a.rec", range(4), [smooth(i) for i in range(4)])
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 8] ^= 16
    path.write_bytes(content)
    for source in (training(path, batch=4), RecordEvaluation(path, 4, EXPECTED)):
        with pytest.raises(UserError, match="its checksum is another; igc data verify"):
            list(source.epoch(0))


def test_a_file_that_is_cut_during_a_run(tmp_path):
    path = write(tmp_path / "a.rec", range(16), [smooth(i) for i in range(16)])
    source = training(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="has been changed since the run began"):
        list(source.epoch(0))
    path.unlink()
    with pytest.raises(UserError, match="cannot read .*a.rec: No such file"):
        list(source.epoch(0))


def test_too_little_memory_is_no_broken_image(path, monkeypatch):
    def no_memory(*arguments):
        error = cv2.error("Failed to allocate")
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    with pytest.raises(UserError, match="too little memory to read .*lower --batch-size"):
        next(training(path).epoch(0))


def test_an_epoch_that_is_left_early_ends_its_threads(path):
    batches = training(path).epoch(0)
    next(batches)
    batches.close()


@pytest.mark.parametrize("name", ["a#1", "b?c=d", "c;d", "e&f", "g%20h", "i j", "ü", "[k]", "s3:x"])
def test_names_that_mxnet_takes_for_addresses(tmp_path, name):
    """Of the folder, and of the file."""
    folder = tmp_path / name
    folder.mkdir()
    path = write(folder / f"{name}.rec", [0, 1] * 4, [smooth(i) for i in range(8)])
    data = RecordInput(path, path, EXPECTED, 2)
    data.prepare()
    for source in data.batches(4, seed=0):
        assert len(list(source.epoch(0))) == 2


def encoded(form, image, **options):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


def colors(height=40, width=60):
    """Another color in each quarter."""
    quarters = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)
    return quarters.repeat(height // 2, 0).repeat(width // 2, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_what_training_reads_is_what_verify_calls_whole(tmp_path, form):
    """In records without a checksum, as other programs write them."""
    path = tmp_path / "a.rec"
    path.write_bytes(recordio.frame(recordio.HEADER.pack(0, 0.0, 0, 0) + encoded(form, colors())))
    record_file.index_path(path).write_text("0\t0\n")
    data = RecordInput(path, path, record_preprocessing(SHAPE, (0, 0, 0), (1, 1, 1)), 1, augment="none")
    data.prepare()
    broken = repair.verify(path).broken
    assert not broken or form == "GIF"  # of which not every release of OpenCV knows
    for source in data.batches(1, seed=0):
        if broken:
            with pytest.raises(UserError, match="it holds no readable image; igc data verify"):
                list(source.epoch(0))
            continue
        ((crop, _),) = source.epoch(0)
        for y, x in ((4, 4), (4, 27), (27, 4), (27, 27)):
            assert np.abs(crop[0, :, y, x] - colors()[y * 40 // 32, 10 + x * 40 // 32]).max() < 12


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_turned_upright(tmp_path, form):
    """As Pillow turns them; packed, in records of other programs, and for `igc predict`."""
    from PIL import Image, ImageOps

    folder = tmp_path / "train" / "one"
    folder.mkdir(parents=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        name = f"{orientation}.{ {'TIFF': 'tif'}.get(form, form.lower()) }"
        (folder / name).write_bytes(encoded(form, colors(), exif=exif))
    pack.pack(pack.list_images(tmp_path / "train"), tmp_path / "a.rec", pack.Encoding(0), report=lambda line: None)
    positions = record_file.read_index(tmp_path / "a.rec").tolist()
    for path, position in zip(sorted(folder.iterdir()), positions):
        content = path.read_bytes()
        expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")).astype(int)
        with open(tmp_path / "a.rec", "rb") as file:
            packed, _ = recordio.decode(recordio.read_record(file, position))
        for decoded in (photos.read_photo(path), packed, recordio.decode(recordio.encode(0, 0, content))[0]):
            assert decoded.shape == expected.shape and np.abs(decoded - expected)[::8, ::8].max() < 30, path


@pytest.mark.parametrize(
    "damage",
    [
        lambda exif: exif[:10],
        lambda exif: b"",
        lambda exif: b"xx" + exif[2:],
        lambda exif: exif[:4] + b"\xff" * 4 + exif[8:],
        lambda exif: exif[:8] + b"\xff\xff",
    ],
)
def test_broken_exif_is_none(damage):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    for content in (damage(exif.tobytes()[6:]), damage(exif.tobytes())):
        assert photos._exif_orientation(content) == 1
    assert photos._exif_orientation(exif.tobytes()) == 6
    webp = np.frombuffer(encoded("WEBP", colors(), exif=exif), np.uint8)
    for end in range(12, len(webp), 7):
        assert photos._webp_orientation(webp[:end]) in (1, 6)


@pytest.mark.parametrize("side", [200, 223])
def test_files_that_are_too_small_are_refused(tmp_path, side):
    """And the advice works."""
    image = np.zeros((side, side + 9, 3), np.uint8)
    (tmp_path / "train" / "one").mkdir(parents=True)
    for number in range(3):
        cv2.imwrite(str(tmp_path / "train" / "one" / f"{number}.png"), image)
    listing = pack.list_images(tmp_path / "train")
    for short_side in (0, 224):
        path = tmp_path / f"{short_side}.rec"
        pack.pack(listing, path, pack.Encoding(short_side), report=lambda line: None)
        data = RecordInput(path, path, record_preprocessing((3, 224, 224), MEAN, STD), 1)
        if short_side:
            data.prepare()
            continue
        with pytest.raises(
            UserError,
            match=f"too small for images of 224x224 pixels: the short side of its images is "
            f"{side}; pack the photographs with --short-side 224 or more",
        ):
            data.prepare()


def test_a_few_small_images_are_enlarged(tmp_path):
    path = write(tmp_path / "a.rec", range(8), [smooth(i, *((20, 30) if i % 4 == 0 else (48, 64))) for i in range(8)])
    check_size(path, SHAPE)
    assert sorted(np.concatenate([label for _, label in training(path, batch=4).epoch(0)])) == list(range(8))


def test_the_pixels_of_a_batch(path):
    """The order and each crop's random numbers, drawn again here."""
    from igc_gluon.data.augment import AUGMENTATIONS, draw, random_crop

    def random(*purpose):
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 2, *purpose])))

    order = random(0).permutation(43)
    data, labels = next(training(path).epoch(2, first_batch=1))
    row = AUGMENTATIONS["authors"]
    for place, (image, label) in enumerate(zip(data, labels), 8):
        assert label == order[place]
        source = photos.decode(np.frombuffer(smooth(order[place]), np.uint8))
        crop = random_crop(source, 32, 32, row, draw(row, random(1, place)))
        expected = (crop - np.array(MEAN)) / np.array(STD)
        np.testing.assert_allclose(image.transpose(1, 2, 0), expected, atol=1e-5)
