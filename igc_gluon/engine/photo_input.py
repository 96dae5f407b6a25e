"""Photographs of one's own to train on: a folder, packed once, or record files; and what is chosen for them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from igc_gluon.data.pack import Encoding
from igc_gluon.data.photo_folder import PhotoFolder, pack_photographs, place
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.inputs import RecordInput
from igc_gluon.engine.schedule import DROP_FRACTIONS, IMAGENET, Recipe
from igc_gluon.errors import UserError

PACKED_SIDES = 15 / 7  # of the crop: 480 for 224, as the authors'


class PhotoInput(RecordInput):
    """The photographs of a folder, packed before they are first trained on.

    runs: the folder of all runs on them. preprocessing, augment: see `RecordInput`. name: what they are called.
    """

    def __init__(
        self,
        photographs: PhotoFolder,
        runs: Path,
        preprocessing: Preprocessing,
        augment: str,
        name: str,
        report: Callable[[str], object],
    ):
        self._photographs, self._report = photographs, report
        side = max(preprocessing.short_side or 0, round(max(preprocessing.crop) * PACKED_SIDES))
        self._encoding = Encoding(short_side=side, enlarge=False)
        self._folder = place(photographs, runs, self._encoding)
        names = photographs.class_names
        super().__init__(
            self._folder / "train.rec",
            self._folder / "val.rec",
            replace(preprocessing, class_names=names),
            len(names),
            augment,
            name,
        )

    def config(self) -> Dict[str, Any]:
        return {"photographs": self._folder.name, **super().config()}

    def prepare(self) -> None:
        window, side = self.preprocessing.window, self._photographs.short_side(smaller=0.5)
        if side < min(window):
            raise UserError(
                f"most photographs of {self._photographs.folder} are smaller than {window[1]}x{window[0]} pixels: the "
                f"short side is {side}; give --image-shape 3,{side},{side} or smaller"
            )
        pack_photographs(self._photographs, self._folder, self._encoding, self._report)
        super().__init__(self._train, self._val, self.preprocessing, self.classes, self._augment, self.name)
        try:
            super().prepare()
        except UserError as error:
            raise UserError(f"{error}; or delete {self._folder}, and they are packed anew") from None


@dataclass(frozen=True)
class Choice:
    """What is trained, and how, where nobody said it: the name of a network, the crop's side in pixels, a Recipe.
    why: in words."""

    network: str
    side: int
    recipe: Recipe
    why: str


@dataclass(frozen=True)
class _Row:
    """For fewer than `images` to train on."""

    images: float
    network: str
    side: int
    batch_size: int
    epochs: int
    why: str


# Accuracy is bought with computation: of few photographs small images and a small network, so that a CPU is done in
# minutes; of a million the paper's network.
_ROWS = (
    _Row(1_000, "resnet18_igc_l4m8", 96, 16, 30, "a small network, minutes on a CPU"),
    _Row(20_000, "resnet18_igc_l4m8", 96, 32, 30, "a small network, up to hours on a CPU"),
    _Row(200_000, "resnet18_igc_l4m8", 128, 64, 30, "a small network, hours on a CPU"),
    _Row(float("inf"), "resnet18_igc_l100m2", 224, 256, 95, "the paper's for ImageNet, weeks on a CPU"),
)
_TINY = "cifar_plain_igc8_l24m2"  # for images too small to be halved five times
_TINY_SIDE = 48
_UPDATES, _MOST_EPOCHS = 1500, 100  # of few images more epochs


def choose(images: int, short_side: int, side: Optional[int] = None, batch_size: Optional[int] = None) -> Choice:
    """For so many `images` to train on, whose short sides have `short_side` pixels. side: of the crop, batch_size:
    where they are given. Nothing is enlarged unless `side` says so."""
    row = next(row for row in _ROWS if images < row.images)
    if side is None:
        side = min(row.side, max(8, short_side // 8 * 8 if short_side >= 32 else short_side // 4 * 4))
    batch_size = batch_size or min(row.batch_size, max(images // 2, min(2, images)))
    batches = -(-images // batch_size)
    epochs = max(row.epochs, min(_MOST_EPOCHS, -(-_UPDATES // batches)))
    why = row.why
    if row.images == float("inf"):
        recipe = replace(IMAGENET["igcv1"], batch_size=batch_size)
    else:
        # The papers' rate, 0.1 for a batch of 64, in proportion; drops at the same shares of the epochs.
        drops = tuple(int(-(-epochs * fraction // 1)) for fraction in DROP_FRACTIONS)
        lr = 0.1 * min(1.0, batch_size / 64)
        recipe = Recipe(epochs, lr, drops, 1.0, batch_size, max(1, batch_size // 32), 1e-4, "nesterov")
    return Choice(_TINY if side < _TINY_SIDE else row.network, side, recipe, why)
