"""The authors' checkpoints for ImageNet: where they are, what they must be, how they come here.

The files are the authors' own, from their public repositories, known by their git blob id: sha1 of "blob <size>", NUL,
content. What they were trained on, and so what `net(x)` expects: RGB, (pixel - mean) / std with pixels 0..255, the
constants of the network's `Family`; a 224x224 crop, in their evaluation the central one of an image whose shorter side
is 256. There is no BN on the data. The order of classes is taken to be that of WordNet's numbers: so MXNet's im2rec,
which packs such data, numbers sorted folders; the files do not say it.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Union

from mxnet.gluon import HybridBlock

from igc_gluon import downloads, files, params_file
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.attributes import set_attributes, wordnet_numbers
from igc_gluon.model_zoo.authors import set_parameters
from igc_gluon.model_zoo.shipped import check_fit, shipped
from igc_gluon.paths import expand

CLASSES = 1000


@dataclass(frozen=True)
class Checkpoint:
    """A file in the branch `master` of a repository on GitHub."""

    repository: str
    path: str
    git_blob: str

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/master/{self.path}"

    @property
    def file(self) -> str:
        return Path(self.path).name


_IGCV1 = "hellozting/InterleavedGroupConvolutions"

PUBLISHED = {
    "resnet18_w64": Checkpoint(
        _IGCV1, "models/ResNet18-w64_ImageNet/resnet_d18-0095.params", "3d926978e2d8e6b4d145bbaca618a71b2bda9402"
    ),
    "resnet18_w69": Checkpoint(
        _IGCV1, "models/ResNet18-w69_ImageNet/resnet_d18_w69-0095.params", "11bb29afd5f71d00ff472afb0aa8240f4edbaa2c"
    ),
    "resnet18_igc_l4m32": Checkpoint(
        _IGCV1,
        "models/IGC-L4M32_ImageNet/resnet_gcwf_noshare_imagenet_d18b4-0095.params",
        "e13f33740800f06378006b90da35d8edc971eabf",
    ),
    "resnet18_igc_l16m16": Checkpoint(
        _IGCV1,
        "models/IGC-L16M16_ImageNet/resnet_gcwf_noshare_imagenet_d18b16-0095.params",
        "a96f44a0f7ae49241351efc451195e4fdf4d0bfc",
    ),
    "resnet18_igc_l100m2": Checkpoint(
        _IGCV1,
        "models/IGC-L100M2_ImageNet/resnet_gcwf_noshare_imagenet_d18b100-0095.params",
        "1dee63a039d71a5bbe0ada0343372534538e7bd8",
    ),
    "igcv3_1.0": Checkpoint("homles11/IGCV3", "models/igcv3-0000.params", "c4b0a995619676b526f41669d0fbff8886a79943"),
}


def check_published(name: str, classes: int, options: Mapping[str, Any]) -> None:
    """Raises UserError unless there are published weights of `name` that fit so many classes and these options."""
    if name not in PUBLISHED:
        ours = [dataset for model, dataset in shipped() if model == name]
        if ours:
            raise UserError(
                f"the weights of {name} that come with this package were trained on {ours[0]}; say so: "
                f"pretrained={ours[0]!r}, or --dataset {ours[0]} on the command line"
            )
        raise UserError(
            f"there are no published weights of {name} to load, only of {', '.join(PUBLISHED)}; use pretrained=False"
        )
    check_fit(f"the published weights of {name}", CLASSES, classes, options)


def load_published(
    net: HybridBlock,
    name: str,
    family: Any,
    place: Union[bool, str, Path] = True,
    root: str = "~/.mxnet/models",
    ctx: Any = None,
) -> HybridBlock:
    """Gives `net` its published weights and what it expects as attributes (see `attributes`), and returns it.

    `place` and `root`: see `get_model`. Raises UserError.
    """
    path = find_or_download(name, place, root)
    set_parameters(net, params_file.load(path), path, ctx)
    size = family.input_size
    return set_attributes(
        net, name, Preprocessing((size, size), mean=family.mean, std=family.std, class_names=wordnet_numbers())
    )


def models_folder(root: str) -> Path:
    """The folder of downloaded weights: `root`, or that of $MXNET_HOME, which has the last word as in GluonCV."""
    return expand(os.path.join(os.environ["MXNET_HOME"], "models") if "MXNET_HOME" in os.environ else root)


def find_or_download(name: str, place: Union[bool, str, Path] = True, root: str = "~/.mxnet/models") -> Path:
    """The Path of the verified checkpoint of `name`; see `get_model`. Raises UserError."""
    row = PUBLISHED[name]
    cached = f"{name}-{row.git_blob[:8]}.params"
    if not isinstance(place, bool):  # a path
        return _from(expand(place), row, cached)
    folder = models_folder(root)
    by_hand = folder / row.file
    if by_hand.is_file() and files.digest(by_hand, "git-blob") == row.git_blob:
        return by_hand
    mirror = os.environ.get("MXNET_GLUON_REPO", "")
    if mirror and expand(mirror).is_dir():
        return _from(expand(mirror), row, cached)
    if mirror and "://" not in mirror:
        raise UserError(f"MXNET_GLUON_REPO is {mirror}, which is neither an address nor a folder that is there")
    urls = [f"{mirror.rstrip('/')}/gluon/models/{cached}"] if mirror else []
    return downloads.download([*urls, row.url], folder / cached, "git-blob", row.git_blob)


def _from(place: Path, row: Any, cached: str) -> Path:
    """The checkpoint at `place`, a file or a mirror's folder."""
    if place.is_dir():
        candidates = [
            path
            for path in (place / cached, place / "gluon" / "models" / cached, place / row.file, place / row.path)
            if path.is_file()
        ]
        if not candidates:
            raise UserError(f"there is neither {cached} nor {row.file} in {place}; get {row.url} and put it there")
        place = candidates[0]
    try:
        digest = files.digest(place, "git-blob")
    except OSError as error:
        raise UserError(f"cannot read {place}: {error.strerror}") from None
    if digest != row.git_blob:
        raise UserError(
            f"{place} is not the file that the authors published: its git blob id is {digest}, not "
            f"{row.git_blob}; get {row.url}"
        )
    return place
