"""Batches against a slow reference that handles one image at a time."""

import numpy as np
import pytest

from igc_gluon.data import Batches
from igc_gluon.errors import UserError

MEAN, STD = (125.307, 122.950, 113.865), (62.993, 62.089, 66.705)


def data_set(count, size=(32, 32), seed=0):
    random = np.random.RandomState(seed)
    return random.randint(0, 256, (count, *size, 3)).astype(np.uint8), np.arange(count) % 10


def numbered(count):
    """Images that are not needed, and labels that tell which image was taken."""
    return np.zeros((count, 4, 4, 3), np.uint8), np.arange(count)


def generator(seed, epoch, purpose):
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, purpose])))


def reference(images, labels, batch_size, seed, epoch, augment, mirror, pad_color):
    """All training batches of an epoch by the definition, image by image, in float64."""
    count = len(images)
    total = -(-count // batch_size) * batch_size
    order = generator(seed, epoch, 0).permutation(count)
    corners = generator(seed, epoch, 1).integers(0, 9, (total, 2))
    mirrored = generator(seed, epoch, 2).random(total) < 0.5
    data, label = [], []
    for position in range(total):
        index = order[position % count]
        image = images[index]
        if augment:
            height, width = image.shape[:2]
            canvas = np.empty((height + 8, width + 8, 3))
            canvas[:] = pad_color
            canvas[4 : 4 + height, 4 : 4 + width] = image
            row, column = corners[position]
            image = canvas[row : row + height, column : column + width]
        if mirror and mirrored[position]:
            image = image[:, ::-1]
        data.append(((image - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1))
        label.append(labels[index])
    batches = total // batch_size
    shape = (batches, batch_size)
    return np.reshape(data, shape + data[0].shape), np.reshape(label, shape)


@pytest.mark.parametrize("augment", [True, False])
@pytest.mark.parametrize("mirror", [True, False])
@pytest.mark.parametrize("pad_value, color", [("mean", (125, 123, 114)), ("zero", (0, 0, 0))])
def test_training_batches_equal_the_slow_reference(augment, mirror, pad_value, color):
    images, labels = data_set(45)
    batches = Batches(images, labels, 8, MEAN, STD, augment=augment, mirror=mirror, pad_value=pad_value, seed=3)
    for epoch in (0, 7):
        data, label = reference(images, labels, 8, 3, epoch, augment, mirror, color)
        made = list(batches.epoch(epoch))
        assert len(made) == len(batches) == len(data) == 6
        for (x, y), expected, expected_label in zip(made, data, label):
            assert x.dtype == y.dtype == np.float32 and x.flags.c_contiguous
            np.testing.assert_allclose(x, expected, atol=1e-6)
            np.testing.assert_array_equal(y, expected_label)


def test_images_that_are_not_square():
    images, labels = data_set(9, size=(6, 10))
    batches = Batches(images, labels, 4, MEAN, STD, augment=True, mirror=True, seed=1)
    data, _ = reference(images, labels, 4, 1, 0, True, True, (125, 123, 114))
    for (x, _), expected in zip(batches.epoch(0), data):
        np.testing.assert_allclose(x, expected, atol=1e-6)


def bilinear(image, height, width):
    """Every pixel of the new image by the definition: centers of pixels at halves, edges repeated."""
    old_height, old_width = image.shape[:2]
    new = np.empty((height, width, 3))
    for row in range(height):
        y = min(max((row + 0.5) * old_height / height - 0.5, 0), old_height - 1)
        for column in range(width):
            x = min(max((column + 0.5) * old_width / width - 0.5, 0), old_width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old_height - 1), min(left + 1, old_width - 1)
            upper = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
            new[row, column] = upper * (1 - y + top) + lower * (y - top)
    return new


@pytest.mark.parametrize("size, short_side", [((16, 16), (16, 20)), ((8, 12), (9, 11))])
def test_random_sizes_equal_the_slow_reference(size, short_side):
    count, batch_size, seed, epoch = 11, 4, 5, 2
    images, labels = data_set(count, size)
    batches = Batches(
        images, labels, batch_size, MEAN, STD, augment=True, mirror=True, seed=seed, short_side=short_side
    )
    order = generator(seed, epoch, 0).permutation(count)
    places = generator(seed, epoch, 1).random((12, 2))
    mirrored = generator(seed, epoch, 2).random(12) < 0.5
    shorter = generator(seed, epoch, 3).integers(short_side[0], short_side[1] + 1, (12, 1))[:, 0]
    assert set(shorter) >= {short_side[0], short_side[1]}
    data = np.concatenate([data for data, _ in batches.epoch(epoch)])
    assert data.dtype == np.float32 and data.shape == (12, 3, *size) and data.flags.c_contiguous
    for position in range(12):
        height, width = (int(np.rint(shorter[position] * side / min(size))) for side in size)
        image = bilinear(images[order[position % count]].astype(float), height, width)
        row, column = (int(place * (new - old + 1)) for place, new, old in zip(places[position], (height, width), size))
        image = image[row : row + size[0], column : column + size[1]]
        image = image[:, ::-1] if mirrored[position] else image
        pixels = data[position].transpose(1, 2, 0) * STD + MEAN
        assert abs(pixels - image).max() <= 1  # of 255, for OpenCV rounds
        assert abs(pixels - image).mean() < 0.3


def test_random_sizes_are_for_training_with_augmentation_alone():
    images, labels = data_set(6, (16, 16))
    expected = ((images - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    for flags in ({"train": False, "augment": True}, {"augment": False, "shuffle": False}):
        ((data, _),) = Batches(images, labels, 6, MEAN, STD, short_side=(18, 20), **flags).epoch(0)
        np.testing.assert_allclose(data, expected, atol=1e-6)


def test_every_size_and_every_corner_occurs():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, 0, 0], image[0, 0, 3], image[0, 3, 0] = 80, 160, 240
    batches = Batches(image, np.zeros(1), 8000, (0, 0, 0), (1, 1, 1), augment=True, short_side=(4, 6))
    ((data, _),) = batches.epoch(0)
    views, counts = np.unique(data.reshape(len(data), -1), axis=0, return_counts=True)
    assert len(views) == 1 + 4 + 9
    expected = [8000 / 3] + [8000 / 3 / 4] * 4 + [8000 / 3 / 9] * 9
    np.testing.assert_allclose(sorted(counts), sorted(expected), rtol=0.2)


def test_every_corner_occurs_and_half_is_mirrored():
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(1, 4, 4, 3) + 100
    batches = Batches(image, np.zeros(1), 20000, (0, 0, 0), (1, 1, 1), augment=True, mirror=True, pad_value="zero")
    ((data, _),) = batches.epoch(0)
    views, counts = np.unique(data.reshape(len(data), -1), axis=0, return_counts=True)
    # 9 x 9 corners, mirrored or not. The outermost ones show padding only, which all looks the same.
    assert len(views) == 7 * 7 * 2 + 1
    seen = counts[views.any(axis=1)]
    assert abs(seen.mean() - 20000 / 162) < 3 and seen.min() > 80 and seen.max() < 170


def test_paper_sized_epoch_has_782_batches_and_wraps_to_its_start():
    images, labels = numbered(50000)
    batches = Batches(images, labels, 64, MEAN, STD)
    batch_labels = [label for _, label in batches.epoch(0)]
    assert len(batch_labels) == len(batches) == 782 and all(len(label) == 64 for label in batch_labels)
    order = np.concatenate(batch_labels)
    assert sorted(order[:50000]) == list(range(50000))
    np.testing.assert_array_equal(order[50000:], order[:48])


def test_batch_larger_than_the_data_set():
    images, labels = numbered(5)
    ((data, label),) = Batches(images, labels, 12, MEAN, STD).epoch(0)
    assert data.shape == (12, 3, 4, 4)
    np.testing.assert_array_equal(label, np.tile(label[:5], 3)[:12])
    assert sorted(label[:5]) == list(range(5))


def test_evaluation_is_in_order_and_complete_whatever_the_flags():
    images, labels = data_set(23)
    batches = Batches(images, labels, 10, MEAN, STD, train=False, augment=True, mirror=True, shuffle=True)
    made = list(batches.epoch(5))
    assert [len(label) for _, label in made] == [10, 10, 3] and len(batches) == 3
    expected = ((images - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate([data for data, _ in made]), expected, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([label for _, label in made]), labels)


def test_without_shuffle_the_order_is_that_of_the_data_set():
    images, labels = numbered(10)
    batches = Batches(images, labels, 4, MEAN, STD, shuffle=False)
    order = np.concatenate([label for _, label in batches.epoch(3)])
    np.testing.assert_array_equal(order, [*range(10), 0, 1])


def as_bytes(batches):
    return [data.tobytes() + label.tobytes() for data, label in batches]


def test_epoch_depends_on_seed_and_number_alone():
    images, labels = data_set(30)

    def make(seed):
        return Batches(images, labels, 8, MEAN, STD, augment=True, mirror=True, seed=seed)

    first = make(1)
    epochs = [as_bytes(first.epoch(epoch)) for epoch in range(3)]
    np.random.seed(0)
    assert as_bytes(make(1).epoch(2)) == epochs[2]
    assert as_bytes(first.epoch(0)) == epochs[0]
    assert epochs[0] != epochs[1] and as_bytes(make(2).epoch(0)) != epochs[0]


@pytest.mark.parametrize("train, short_side", [(True, None), (True, (32, 40)), (False, None)])
def test_first_batch_leaves_the_others_as_they_are(train, short_side):
    images, labels = data_set(30)
    batches = Batches(
        images, labels, 8, MEAN, STD, train=train, augment=True, mirror=True, seed=1, short_side=short_side
    )
    whole = as_bytes(batches.epoch(4))
    for first in range(len(batches) + 1):
        assert as_bytes(batches.epoch(4, first_batch=first)) == whole[first:]


@pytest.mark.parametrize("short_side", [None, (32, 40)])
@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_workers_share_each_training_batch(workers, short_side):
    images, labels = data_set(30)
    flags = dict(augment=True, mirror=True, seed=1, short_side=short_side)
    whole = list(Batches(images, labels, 8, MEAN, STD, **flags).epoch(2))
    parts = [
        list(Batches(images, labels, 8, MEAN, STD, part_index=index, num_parts=workers, **flags).epoch(2))
        for index in range(workers)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for number, (data, label) in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([part[number][0] for part in parts]), data)
        np.testing.assert_array_equal(np.concatenate([part[number][1] for part in parts]), label)
    sizes = [len(part[0][1]) for part in parts]
    assert max(sizes) - min(sizes) <= 1 and min(sizes) >= 1


@pytest.mark.parametrize("workers, count", [(2, 23), (3, 23), (4, 3)])
def test_workers_share_the_test_images(workers, count):
    images, labels = numbered(count)
    seen = []
    for index in range(workers):
        part = Batches(images, labels, 5, MEAN, STD, train=False, part_index=index, num_parts=workers)
        batches = list(part.epoch(0))
        assert len(batches) == len(part) and all(len(label) for _, label in batches)
        seen.extend(int(value) for _, label in batches for value in label)
    assert seen == list(range(count))


def test_batches_do_not_share_memory():
    images, labels = data_set(16)
    before = images.copy()
    batches = Batches(images, labels, 8, MEAN, STD, mirror=True, shuffle=False).epoch(0)
    (first, _), (second, _) = batches
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(batch_size=0), "batch size"),
        (dict(seed=-1), "seed"),
        (dict(pad_value="black"), "mean or zero"),
        (dict(batch_size=2, num_parts=3), "too small for 3 workers"),
        (dict(images=np.zeros((0, 32, 32, 3), np.uint8), labels=np.zeros(0)), "empty"),
    ],
)
def test_mistakes_of_the_user(changes, message):
    images, labels = data_set(4)
    arguments = {"images": images, "labels": labels, "batch_size": 2, "mean": MEAN, "std": STD, **changes}
    with pytest.raises(UserError, match=message):
        Batches(**arguments)


@pytest.mark.parametrize(
    "changes",
    [
        dict(images=np.zeros((4, 32, 32, 3), np.float32)),
        dict(images=np.zeros((4, 3, 32, 32), np.uint8)),
        dict(labels=np.zeros(5)),
        dict(part_index=1),
        dict(short_side=(31, 40)),
        dict(short_side=(40, 39)),
    ],
)
def test_mistakes_of_the_programmer(changes):
    images, labels = data_set(4)
    arguments = {"images": images, "labels": labels, "batch_size": 2, "mean": MEAN, "std": STD, **changes}
    with pytest.raises(ValueError):
        Batches(**arguments)
