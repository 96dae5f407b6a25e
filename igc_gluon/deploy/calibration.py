"""Post-training calibration: which values the tensors of a compiled network take, for 8-bit integers."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from igc_gluon import data
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.files import open_file
from igc_gluon.native import library
from igc_gluon.native.library import Op
from igc_gluon.paths import expand

FEWEST, ENOUGH = 8, 256  # images
_AT_ONCE = 16  # images: as many as bound the memory at 224x224


def images_of(  # noqa: C901 (one check after another)
    source: Any, preprocessing: Preprocessing, shape: Sequence[int], dataset: Optional[str] = None
) -> np.ndarray:
    """Images float32 (N,) + shape of what `compiler.compile` takes as calibration. preprocessing: the network's.
    dataset: the run's."""
    if source is True:
        if dataset is None:
            raise UserError(
                "only a run on a data set of this package knows its images; give calibration images, the "
                "name of a data set or a .npy file"
            )
        source = dataset
    if isinstance(source, Path) or isinstance(source, str) and source.endswith(".npy"):
        try:
            with open_file(expand(source)) as file:
                source = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"cannot read images from {source}: {error}") from None
    elif isinstance(source, str):
        row = data.find_dataset(source)
        source = _some(data.load(row.name, "train").images)
        if source.shape[1:3] == preprocessing.crop:  # otherwise refused below
            source = np.stack([preprocessing.pixels(image) for image in source])
        if preprocessing.mean is None:
            preprocessing = replace(preprocessing, mean=row.mean, std=row.std)
    if hasattr(source, "asnumpy"):
        source = source.asnumpy()
    images = np.asarray(source)
    if len(images.shape) == 4:
        images = _some(images)
    if images.dtype != np.uint8:
        return images
    if images.shape[1:] != (shape[1], shape[2], shape[0]):
        raise UserError(f"pixels for calibration are {('N', shape[1], shape[2], shape[0])}, not {images.shape}")
    if preprocessing.mean is None:
        raise UserError("pixels for calibration need the mean and std that they are normalized with")
    return np.ascontiguousarray(preprocessing.normalize(images))


def _some(images: np.ndarray) -> np.ndarray:
    """From everywhere, in case they are in the order of their classes."""
    return images[np.linspace(0, len(images) - 1, min(len(images), ENOUGH)).astype(int)]


def ranges(ops: Sequence[Op], shape: Sequence[int], images: np.ndarray) -> List[Any]:  # noqa: C901 (a case for each kind of op)
    """What igc_net_create_in (igc.h) takes: of each tensor the lowest and the highest value over `images`,
    then of each BLOCK, for each channel, the largest absolute value between its two convolutions.

    ops: [library.Op]. shape: (channels, height, width) of an image. images: float32 (N,) + shape, as the
    network takes them. Every op runs by itself, in float32. Raises UserError if there are too few images or
    a value is not finite.
    """
    images = np.asarray(images)
    if images.dtype != np.float32 or images.shape[1:] != tuple(shape) or images.ndim != 4:
        raise UserError(
            f"images for calibration are float32 {('N',) + tuple(shape)}, not {images.dtype} {images.shape}"
        )
    if len(images) < FEWEST:
        raise UserError(f"calibration needs at least {FEWEST} images, better a few hundred; not {len(images)}")
    last_reader = {}
    for i, op in enumerate(ops):
        last_reader.update({op.input: i, op.residual: i})
    nets: Dict[Any, Any] = {}
    middles: Dict[int, Any] = {}
    lowest, highest = [], []
    for start in range(0, len(images), _AT_ONCE):
        tensors = {0: images[start : start + _AT_ONCE]}
        low, high = [tensors[0].min()], [tensors[0].max()]
        for i, op in enumerate(ops):
            x = tensors[op.input]
            if op.kind == library.BLOCK:
                primary = op._replace(kind=library.CONV, weight2=None, scale=None, bias=None)
                largest = np.abs(_convolved(nets, (i, "middle"), primary, x)).max((0, 2, 3))
                middles[i] = np.maximum(middles.get(i, 0), largest)
            y = _convolved(nets, i, op, x)
            if op.residual >= 0:
                y = y + tensors[op.residual]
            if op.activation is not None:
                y = np.clip(y, 0, 6 if op.activation == "relu6" else None)
            tensors[i + 1] = y
            low.append(y.min())
            high.append(y.max())
            for tensor in (op.input, op.residual):
                if last_reader[tensor] == i:
                    tensors.pop(tensor, None)
        lowest.append(low)
        highest.append(high)
    both = np.stack([np.min(lowest, axis=0), np.max(highest, axis=0)], axis=1).ravel()
    result = np.concatenate([both, *(middles[i] for i in sorted(middles))]).astype(np.float32)
    if not np.isfinite(result).all():
        raise UserError(
            "calibration gives values that are not finite; the network has diverged or an image is not finite"
        )
    return result


def _convolved(nets: Dict[Any, Any], key: Any, op: Op, x: np.ndarray) -> np.ndarray:
    """The result of `op` before its residual and activation."""
    if key not in nets:
        nets[key] = library.Net([op._replace(input=0, residual=-1, activation=None)], x.shape[1:])
    return nets[key](x)
