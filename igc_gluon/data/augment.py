"""Random crops of photographs: how the authors and others augment ImageNet, for records of any size.

The authors' records have a short side of 480 pixels and their crops 224. MXNet's iterator (ImageRecordIter,
its default augmenter) draws a scale and an aspect ratio, resizes the photograph by them about its center, on
a canvas as large as the photograph at that scale, cuts the crop out anywhere on the canvas, and changes the
colors. That is done here step by step, in one resampling from the record to the crop. Records and crops of
other sizes see the same shares of the photograph: the scale is multiplied by what brings the record's own
short side to 480 / 224 of the crop. Only at the authors' own sizes may a crop reach beyond the photograph, as
theirs do where the aspect ratio leaves a part of the canvas empty; at all others it stays within.
"""

from dataclasses import dataclass, replace
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

RECORD, CROP = 480, 224  # the authors': short side of the records, side of the crops

# Eigenvalues times eigenvectors of ImageNet's colors, RGB, as MXNet has them (Krizhevsky et al. 2012, section 4.1).
PRINCIPAL_COLORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]], np.float32
) * np.array([55.46, 4.794, 1.148], np.float32)
HLS_LIMITS = (180, 255, 255)  # of OpenCV's hue (in steps of 2 degrees), lightness and saturation


@dataclass(frozen=True)
class Augmentation:
    """What is drawn for each image. Sizes in pixels are for records of 480 and crops of 224.

    scale: range that a photograph is scaled by. aspect: its height over its width is multiplied by 1 - aspect
    to 1 + aspect. canvas: smallest side of the canvas. hls: largest change of hue, lightness and saturation.
    noise: deviation of the colors along their principal components. fill: RGB of what the canvas has beyond
    the photograph.
    """

    scale: Tuple[float, float]
    aspect: float = 0.0
    canvas: float = 0.0
    hls: Optional[Tuple[int, ...]] = None
    noise: float = 0.0
    fill: Tuple[int, int, int] = (0, 0, 0)

    def scaled(self, strength: float) -> "Augmentation":
        """With changes `strength` (from 0 to 2) times as large: of scale, aspect and colors; 1 is the original. Places
        of crops and mirroring stay."""
        if strength == 1:
            return self
        lowest, highest = self.scale
        return replace(
            self,
            scale=(highest - (highest - lowest) * strength, highest),
            aspect=self.aspect * strength,
            hls=self.hls and tuple(round(most * strength) for most in self.hls),
            noise=self.noise * strength,
        )


AUGMENTATIONS = {
    # train_imagenet.py of IGCV1's authors. `fill` is the rounded mean color.
    "authors": Augmentation((0.533, 1.0), aspect=0.25, canvas=256, hls=(36, 50, 50), fill=(123, 113, 99)),
    # train_imagenet.py and common/data.py of IGCV3's authors.
    "igcv3": Augmentation((0.533, 1.0), hls=(36, 50, 50), fill=(127, 127, 127)),
    # He et al. 2016, section 3.4: short side 256 to 480, colors as in Krizhevsky et al.
    "resnet": Augmentation((256 / RECORD, 1.0), noise=0.1),
}


@dataclass(frozen=True)
class Draw:
    """The random numbers of one crop. scale, ratio (height over width): see Augmentation. x, y: place of the
    crop on the canvas, from 0 (left, top) to 1. hls: what is added to hue, lightness, saturation; rgb: to the
    colors; or None."""

    scale: float
    ratio: float = 1.0
    x: float = 0.5
    y: float = 0.5
    mirror: bool = False
    hls: Optional[Tuple[int, ...]] = None
    rgb: Optional[Tuple[float, float, float]] = None


def draw(augmentation: Augmentation, random: np.random.Generator) -> Draw:
    """A `Draw` from `random`, a numpy Generator. As MXNet's: all uniform, but the changes of color, see below."""
    scale, ratio, x, y, coin, *color = random.random(11)
    lowest, highest = augmentation.scale
    hls = rgb = None
    if augmentation.hls:  # the weighted sum of two makes large changes rarer
        hls = tuple(
            int((2 * (one + 4 * other) / 5 - 1) * most)
            for one, other, most in zip(color[::2], color[1::2], augmentation.hls)
        )
    if augmentation.noise:
        rgb = tuple((PRINCIPAL_COLORS @ random.normal(0, augmentation.noise, 3)).tolist())
    return Draw(
        lowest + (highest - lowest) * scale, 1 + augmentation.aspect * (2 * ratio - 1), x, y, coin < 0.5, hls, rgb
    )


def random_crop(image: np.ndarray, height: int, width: int, augmentation: Augmentation, drawn: Draw) -> np.ndarray:
    """The crop (height, width, 3) of `image` (uint8, RGB) that `drawn` describes."""
    return recolor(resample(image, height, width, augmentation, drawn), drawn)


def resample(image: np.ndarray, height: int, width: int, augmentation: Augmentation, drawn: Draw) -> np.ndarray:
    """`random_crop` without the changes of color."""
    sides = image.shape[1::-1]
    published = (min(sides), height, width) == (RECORD, CROP, CROP)
    crop = min(height, width)
    proportion = RECORD / CROP * crop / min(sides)
    across = 2 * drawn.scale / (1 + drawn.ratio)
    places = []
    for side, length, stretch, place in zip(sides, (width, height), (across, drawn.ratio * across), (drawn.x, drawn.y)):
        stretched = side * stretch * proportion
        canvas = max(augmentation.canvas / CROP * crop, drawn.scale * proportion * side)
        if not published:
            stretched = max(stretched, length)
            canvas = min(canvas, stretched)
        corner = int(place * (int(canvas) - length + 1))  # of the crop, on the canvas
        places.append((corner - (canvas - stretched) / 2, stretched / side))
    if published:
        cropped = _warp(image, height, width, places, augmentation.fill)
    else:
        cropped = _resize(image, height, width, places)
    return cropped[:, ::-1] if drawn.mirror else cropped


def _warp(
    image: np.ndarray, height: int, width: int, places: Sequence[Tuple[float, float]], fill: Sequence[float]
) -> np.ndarray:
    """As MXNet does it. It asks for areas, of which OpenCV knows nothing here: it interpolates."""
    (left, across), (top, down) = places
    matrix = np.array([[across, 0, -left], [0, down, -top]])
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )


def _resize(image: np.ndarray, height: int, width: int, places: Sequence[Tuple[float, float]]) -> np.ndarray:
    """Of whole pixels: averages areas to shrink, enlarges by cubic splines, as MXNet's inter_method 9 means to."""
    windows = []
    for side, length, (begin, factor) in zip(image.shape[1::-1], (width, height), places):
        count = min(side, max(1, round(length / factor)))
        windows.append((min(max(0, round(begin / factor)), side - count), count))
    (left, columns), (top, rows) = windows
    kind = cv2.INTER_LINEAR
    if columns >= width and rows >= height:
        kind = cv2.INTER_AREA
    elif columns <= width and rows <= height:
        kind = cv2.INTER_CUBIC
    return cv2.resize(image[top : top + rows, left : left + columns], (width, height), interpolation=kind)


def recolor(image: np.ndarray, drawn: Draw) -> np.ndarray:
    """`image` (uint8, RGB) with the changes of color of `drawn`."""
    if drawn.hls is not None:
        tables = [np.clip(np.arange(256) + change, 0, limit) for change, limit in zip(drawn.hls, HLS_LIMITS)]
        image = cv2.cvtColor(_look_up(cv2.cvtColor(image, cv2.COLOR_RGB2HLS), tables), cv2.COLOR_HLS2RGB)
    if drawn.rgb is not None:
        image = _look_up(image, [np.clip(np.trunc(np.arange(256) + change), 0, 255) for change in drawn.rgb])
    return image


def _look_up(image: np.ndarray, tables: Sequence[np.ndarray]) -> np.ndarray:
    """Each channel through its table of 256."""
    return cv2.LUT(image, np.stack(tables, axis=-1).astype(np.uint8)[None])
