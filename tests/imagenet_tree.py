"""Folders of photographs, one for each class: the two that scikit-learn ships, and crops of them."""

import sys

import cv2
import numpy as np


def make_tree(root, train=20, val=6, size=(120, 160), photographs=None):
    """root/train and root/val with folders china, flower and gray: crops of the two photographs, and generated ones."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = dict(zip(("china", "flower"), load_sample_images().images))
    for split, count in (("train", train), ("val", val)):
        for name in ("china", "flower", "gray"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = size
                if name == "gray":
                    coarse = np.repeat(rng.integers(0, 256, (height // 8, width // 8, 1)), 3, axis=2)
                    image = np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)
                else:
                    y, x = (rng.integers(0, have - want + 1) for have, want in zip(sources[name].shape, size))
                    image = sources[name][y : y + height, x : x + width, ::-1]
                cv2.imwrite(str(folder / f"{number:03d}.{'png' if number % 5 == 0 else 'JPEG'}"), image)
    return root


def make_textures(root, train, val, short_side):
    """root/train and root/val with four classes of `train` and `val` photographs each: the same texture, of which
    1.3, 3.5, 9.5 or 25 waves fit into the short side. Random crops show 41 to 98 % of it, evaluation 87.5 %, so
    that the classes stay apart. Who sees other shares of a photograph in training takes one class for another."""
    rng = np.random.default_rng(0)
    sides = [np.arange(length, dtype=np.float32) / short_side for length in (short_side, short_side * 4 // 3)]
    for split, count in (("train", train), ("val", val)):
        for waves in (1.3, 3.5, 9.5, 25):
            folder = root / split / f"{waves:04.1f}"
            folder.mkdir(parents=True)
            for number in range(count):
                down, across = (np.sin(2 * np.pi * (waves * side + rng.random(dtype=np.float32))) for side in sides)
                level = rng.choice([-70, 70]) * np.outer(down, across)
                level += 6 * rng.standard_normal(level.shape, np.float32)
                image = level[:, :, None] + rng.uniform(90, 165, 3).astype(np.float32)
                cv2.imwrite(str(folder / f"{number}.jpg"), image.clip(0, 255).astype(np.uint8))
    return root


def slow_packing(root):
    """Writes 120 images of noise to root/big and returns the command that packs them to root/out: a few seconds."""
    folder = root / "big" / "train" / "only"
    folder.mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (400, 400, 3)).astype(np.uint8)
    for i in range(120):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    return [
        sys.executable,
        "-c",
        "import sys; from igc_gluon.cli import main; sys.exit(main())",
        "data",
        "imagenet",
        "--root",
        str(root / "big"),
        "--out",
        str(root / "out"),
        "--workers",
        "1",
    ]
