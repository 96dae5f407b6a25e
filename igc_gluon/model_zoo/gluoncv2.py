"""IGCV3's weights for ImageNet from gluoncv2, a collection of networks by O. Semery (github.com/osmr/imgclsmob, MIT).

    get_model("igcv3_0.5", pretrained="gluoncv2")

Its IGCV3 is the graph of the authors' checkpoint, with the last convolution at 1280 channels whatever the multiplier.
It was trained there, on RGB divided by 255, with ImageNet's usual mean and standard deviation. The file of a release is
a zip archive of one `.params` file, known by the sha1 of the latter; where gluoncv2 itself has put it already, it is
found.
"""

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np
from mxnet.gluon import HybridBlock

from igc_gluon import downloads, files, params_file
from igc_gluon.data.bounds import ZIP_DAMAGE, check_zip
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.attributes import set_attributes, wordnet_numbers
from igc_gluon.model_zoo.authors import set_parameters
from igc_gluon.model_zoo.published import models_folder
from igc_gluon.model_zoo.shipped import check_fit

SOURCE = "gluoncv2"
CLASSES, LAST_CHANNELS = 1000, 1280
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# (stage, units before it there) of the blocks of each sequence: where the map does not shrink, no stage begins.
STAGES = ((1, 0), (2, 0), (3, 0), (4, 0), (4, 8), (5, 0), (5, 6))
PARTS = ("exp", "depthwise", "linear")
ENDS = {"first-3x3-conv": "features.0", "last-1x1-conv": "features.6"}
_MOST_BYTES = 64 << 20  # of an archive and of what is in it; the largest network has 14 MB


@dataclass(frozen=True)
class Release:
    """A file of a release. top1, top5: its errors on ImageNet's validation images, the central crop, in %, as published
    there; parameters: of the network, scales and shifts of the normalization included, as published there."""

    file: str
    tag: str
    sha1: str
    top1: float
    top5: float
    parameters: int

    @property
    def url(self) -> str:
        return f"https://github.com/osmr/imgclsmob/releases/download/{self.tag}/{self.file}.zip"


RELEASES = {
    "igcv3_1.0": Release(
        "igcv3_w1-0900-e2c3da1c.params", "v0.0.243", "e2c3da1cffd8e42da7a052b80db2f86758c8d35b", 27.73, 9.00, 3491688
    ),
    "igcv3_0.75": Release(
        "igcv3_w3d4-1096-3c7c86fc.params", "v0.0.207", "3c7c86fc43df2e5cf95a451ebe07fccf2d9dc076", 30.71, 10.96, 2638084
    ),
    "igcv3_0.5": Release(
        "igcv3_wd2-1703-145b7089.params", "v0.0.132", "145b7089e1d0e0ce88f17393a357d5bb4ae37734", 39.41, 17.03, 1985528
    ),
    "igcv3_0.25": Release(
        "igcv3_wd4-2830-71abf6e0.params", "v0.0.142", "71abf6e0b6bff1d3a3938bfea7c752b59ac05e9d", 53.43, 28.30, 1534020
    ),
}


def check_gluoncv2(name: str, classes: int, options: Mapping[str, Any]) -> Dict[str, Any]:
    """The options of the network whose weights gluoncv2 has. Raises UserError unless it has some of `name` that fit so
    many classes and these options."""
    if name not in RELEASES:
        raise UserError(f"gluoncv2 has no weights of {name}, only of {', '.join(RELEASES)}")
    allowed = ["last_channels"] if options.get("last_channels") == LAST_CHANNELS else []
    check_fit(f"gluoncv2's weights of {name}", CLASSES, classes, options, allowed)
    return {**options, "last_channels": LAST_CHANNELS}


def load_gluoncv2(net: HybridBlock, name: str, root: str = "~/.mxnet/models", ctx: Any = None) -> HybridBlock:
    """Gives `net` gluoncv2's weights and what it expects as attributes (see `attributes`), and returns it.

    root: see `get_model`. Raises UserError.
    """
    path = find_or_download(RELEASES[name], root)
    set_parameters(net, _renamed(net, params_file.load(path)), path, ctx)
    return set_attributes(net, name, Preprocessing((224, 224), mean=MEAN, std=STD, class_names=wordnet_numbers()))


def find_or_download(release: Release, root: str = "~/.mxnet/models") -> Path:
    """The Path of the verified `.params` file, in gluoncv2's own place. Raises UserError."""
    path = models_folder(root) / release.file
    if path.is_file() and files.digest(path, "sha1") == release.sha1:
        return path
    archive = path.with_name(path.name + ".zip")
    downloads.download([release.url], archive, _sha1_inside, release.sha1, _MOST_BYTES)
    with files.write_atomically(path) as file:
        file.write(_only_member(archive))
    archive.unlink()
    return path


def _only_member(archive: Path) -> bytes:
    """The content of the one file in a zip archive, or b"" where it is none such."""
    try:
        with files.open_file(archive) as file:
            check_zip(file)
            with zipfile.ZipFile(file) as members:
                (member,) = members.infolist()
                if member.file_size > _MOST_BYTES:
                    return b""
                with members.open(member) as packed:  # no more than it claims is unpacked
                    return packed.read(_MOST_BYTES)
    except (UserError, *ZIP_DAMAGE):
        return b""


def _sha1_inside(archive: Path) -> str:
    return hashlib.sha1(_only_member(archive)).hexdigest()


def _theirs(name: str) -> str:
    """Where gluoncv2 keeps the parameter that is called `name` here, `seq-4-block0-exp-conv2d_weight` for example:
    `features.4.8.conv1.conv.weight`."""
    place, layer, parameter = re.fullmatch(r"(.*?)-?(conv2d|batchnorm|fc)_(\w+)", name).groups()  # type: ignore[union-attr]
    if layer == "fc":
        return f"output.1.{parameter}"
    if place in ENDS:
        unit = ENDS[place]
    else:
        sequence, block, part = re.fullmatch(r"seq-(\d+)-block(\d+)-(\w+)", place).groups()  # type: ignore[union-attr]
        stage, first = STAGES[int(sequence)]
        unit = f"features.{stage}.{first + int(block)}.conv{1 + PARTS.index(part)}"
    return f"{unit}.{'conv' if layer == 'conv2d' else 'bn'}.{parameter}"


def _renamed(net: HybridBlock, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """`arrays` under the names of the parameters of `net`; what has none keeps its name."""
    ours = {_theirs(name[len(net.prefix) :]): name[len(net.prefix) :] for name in net.collect_params()}
    return {ours.get(name, name): array for name, array in arrays.items()}
