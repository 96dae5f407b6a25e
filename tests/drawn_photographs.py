"""Photographs that are drawn: a bright shape, round, square or striped, anywhere on a background of any color."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ("disc", "square", "stripes")


def draw(kind, size, rng):
    """uint8 (size, size * 4 // 3, 3), BGR."""
    height, width = size, size * 4 // 3
    image = np.empty((height, width, 3), np.uint8)
    image[:] = rng.integers(0, 90, 3)
    color = tuple(int(value) for value in rng.integers(160, 256, 3))
    radius = int(size * rng.uniform(0.2, 0.3))
    x, y = (int(rng.integers(radius, side - radius)) for side in (width, height))
    if kind == "disc":
        cv2.circle(image, (x, y), radius, color, -1)
    elif kind == "square":
        cv2.rectangle(image, (x - radius, y - radius), (x + radius, y + radius), color, -1)
    else:
        for row in range(y - radius, y + radius, max(4, radius // 2)):
            cv2.line(image, (x - radius, row), (x + radius, row), color, max(2, radius // 5))
    noise = rng.normal(0, 8, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def draw_photographs(folder, count, size=48, seed=0, classes=CLASSES):
    """folder/CLASS/*.jpg, `count` of each class. Returns folder."""
    rng = np.random.default_rng(seed)
    for kind in classes:
        place = Path(folder) / kind
        place.mkdir(parents=True)
        for number in range(count):
            cv2.imwrite(str(place / f"{kind} {number:03d}.jpg"), draw(kind, size, rng))
    return Path(folder)
