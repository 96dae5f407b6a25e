"""Mixup, cutmix and random erasing: pixels and shares of labels, whatever the workers and wherever a run goes on."""

import numpy as np
import pytest

from igc_gluon.data.mixing import MixedBatches, Mixing, cutmix, erase, mixup

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 8, 3, 12, 10)).astype(np.float32)
LABELS = RNG.integers(0, 5, (3, 8)).astype(np.float32)


class Source:
    """Three batches of 8 images, of which a worker has its part."""

    def __init__(self, part=slice(None)):
        self._part = part

    def __len__(self):
        return 3

    def epoch(self, epoch, first_batch=0):
        for data, label in list(zip(IMAGES, LABELS))[first_batch:]:
            yield data[self._part].copy(), label[self._part]


def batches(mixing, part=slice(None), first_batch=0, epoch=1, **worker):
    made = MixedBatches(Source(part), mixing, batch_size=8, shards=2, classes=5, seed=3, **worker)
    return list(made.epoch(epoch, first_batch))


def test_mixup_and_cutmix_by_hand():
    data, target, order = IMAGES[0][:4], np.eye(5, dtype=np.float32)[LABELS[0][:4].astype(int)], np.array([2, 3, 1, 0])
    images, labels = mixup(data, target, order, 0.25)
    for i, j in enumerate(order):
        np.testing.assert_allclose(images[i], 0.25 * data[i] + 0.75 * data[j], rtol=1e-6)
        np.testing.assert_allclose(labels[i], 0.25 * target[i] + 0.75 * target[j], rtol=1e-6)
    # sqrt(1 - 0.75) of 12 and 10 is 6 and 5: halves of 3 and 2 around row 1 and column 5; two rows are outside
    images, labels = cutmix(data, target, order, 0.75, np.array([0.1, 0.5]))
    inside = np.zeros((12, 10), bool)
    inside[0:4, 3:7] = True
    for i, j in enumerate(order):
        np.testing.assert_array_equal(images[i], np.where(inside, data[j], data[i]))
        np.testing.assert_allclose(labels[i], (1 - 16 / 120) * target[i] + 16 / 120 * target[j], rtol=1e-6)


@pytest.mark.parametrize("mixing", [Mixing(mixup=0.4), Mixing(cutmix=1.0), Mixing(0.4, 1.0, 0.5)])
def test_neither_workers_nor_the_place_of_a_resumption_change_it(mixing):
    whole = batches(mixing)
    assert all(label.shape == (8, 5) and (label > 0).sum() > 8 for _, label in whole)
    assert all(np.allclose(label.sum(axis=1), 1) for _, label in whole)
    for resumed, expected in zip(batches(mixing, first_batch=1), whole[1:]):
        for array, other in zip(resumed, expected):
            np.testing.assert_array_equal(array, other)
    parts = [batches(mixing, slice(4 * i, 4 * i + 4), part_index=i, num_parts=2) for i in range(2)]
    for first, second, expected in zip(*parts, whole):
        for a, b, other in zip(first, second, expected):
            np.testing.assert_array_equal(np.concatenate([a, b]), other)
    again, other = batches(mixing), batches(mixing, epoch=2)
    assert all((a[0] == b[0]).all() for a, b in zip(again, whole)) and (other[0][0] != whole[0][0]).any()


def test_the_shares_are_of_the_beta_distribution():
    """Its variance is 1 / (4 (2 alpha + 1))."""
    made = MixedBatches(Source(), Mixing(mixup=0.5), batch_size=8, shards=2, classes=5, seed=0)
    greater_shares = []
    for epoch in range(300):
        for _, target in made.epoch(epoch):
            mixed = target[(target > 0).sum(axis=1) == 2]
            greater_shares.append(mixed[0].max() if len(mixed) else 1.0)  # the greater of lambda and 1 - lambda
    greater = np.maximum(*(lambda x: (x, 1 - x))(np.random.default_rng(1).beta(0.5, 0.5, 100000)))
    assert abs(np.mean(greater_shares) - greater.mean()) < 0.03


def test_erasing():
    erased, areas = 0, []
    for number in range(400):
        image = np.ones((3, 32, 32), np.float32)
        erase(image, 0.25, np.random.default_rng(number))
        hole = image == 0
        if hole.any():
            erased += 1
            rows, columns = np.flatnonzero(hole[0].any(axis=1)), np.flatnonzero(hole[0].any(axis=0))
            assert hole[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # one rectangle
            assert hole.sum() == 3 * len(rows) * len(columns)
            areas.append(hole[0].mean())
            assert 0.29 < len(rows) / len(columns) < 1 / 0.25
    assert 70 < erased < 130 and min(areas) > 0.015 and max(areas) < 0.42
    label = batches(Mixing(erasing=1.0))[0][1]
    np.testing.assert_array_equal(label, LABELS[0])
