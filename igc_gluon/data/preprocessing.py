"""What a network expects of an image, all of it in one object, and how an image is prepared so.

    net.preprocessing                                  # of a network with weights, compiled or not
    net.preprocessing.prepare(read_photo("cat.jpg"))   # float32 (1, 3, 224, 224)

The object goes with the weights: into a run's config.json and so its checkpoints, into .igc files, into the symbol of a
Module checkpoint.
"""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple, cast

import numpy as np

from igc_gluon.data.normalization import normalize
from igc_gluon.data.photos import INTERPOLATIONS, central_crop, natural_short_side
from igc_gluon.errors import UserError

COLOR_ORDERS = ("RGB", "BGR")
_LARGEST = 1 << 20  # of a side, and how many classes: it may come from a stranger's file


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image on its way into a network, and what the scores that come out mean.

    crop           (height, width) of what it takes: the middle of an image
    short_side     whose shorter side, with the border, was first made this long. Where nobody said it is the crop's
    longer
                   side times 8/7 from 128 on, 256 for 224, and below it that side itself: small images are whole
    mean, std      of each channel, of pixels 0..255: it takes (pixel - mean) / std. None where nobody said
    interpolation  of the resizing, one of `photos.INTERPOLATIONS`
    color_order    of the channels, "RGB" or "BGR", and so of mean and std
    class_names    a name for each score, or None
    border, fill   so many pixels on each side of the crop are no part of the image: they have the brightness `fill`, in
                   all channels. 2 and 0, black, for a network that was trained on images of 28x28 pixels as 32x32 ones:
                   of any image the shorter side is resized to 28, the middle 28x28 cut out, and the border put around

    Raises UserError (a ValueError) where these make no sense.
    """

    crop: Tuple[int, int]
    short_side: Optional[int] = None
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    interpolation: str = "area"
    color_order: str = "RGB"
    class_names: Optional[Tuple[str, ...]] = None
    border: int = 0
    fill: int = 0

    def __post_init__(self) -> None:  # noqa: C901 (one check after another)
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("crop", tuple(self.crop))
        if len(self.crop) != 2 or not all(_is_length(side) for side in self.crop):
            raise UserError(f"crop is a height and a width from 1 to {_LARGEST}, not {self.crop}")
        if self.short_side is None:
            longer = max(self.crop)
            put("short_side", natural_short_side(longer) if longer >= 128 else longer)
        if not _is_length(self.short_side) or self.short_side < max(self.crop):  # type: ignore[operator]
            raise UserError(
                f"the short side must be a number from {max(self.crop)} on, the crop's longer side, to "
                f"{_LARGEST}, not {self.short_side}"
            )
        if type(self.border) is not int or not 0 <= 2 * self.border < min(self.crop):
            raise UserError(
                f"the border is a number of pixels from 0 on that leaves some of {self.crop}, not {self.border}"
            )
        if type(self.fill) is not int or not 0 <= self.fill <= 255:
            raise UserError(f"the border's brightness is a number from 0 to 255, not {self.fill}")
        if (self.mean is None) != (self.std is None):
            raise UserError("mean and std go together, a number each for every channel")
        if self.mean is not None and self.std is not None:
            for name in ("mean", "std"):
                put(name, _numbers(name, getattr(self, name)))
            if len(self.mean) != len(self.std) or min(self.std) <= 0:
                raise UserError(
                    f"mean and std are a number each for every channel, std above 0, not {self.mean} and {self.std}"
                )
        if self.interpolation not in list(INTERPOLATIONS):
            raise UserError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {self.interpolation!r}")
        if self.color_order not in COLOR_ORDERS:
            raise UserError(f"the order of colors must be {' or '.join(COLOR_ORDERS)}, not {self.color_order!r}")
        if self.class_names is not None:
            put("class_names", tuple(self.class_names))
            if not 0 < len(self.class_names) <= _LARGEST or not all(isinstance(n, str) for n in self.class_names):
                raise UserError(f"names of classes are 1 to {_LARGEST} texts")

    @property
    def image_shape(self) -> Tuple[int, int, int]:
        """(channels, height, width) of the image that the network takes."""
        return (3 if self.mean is None else len(self.mean), *self.crop)

    @property
    def window(self) -> Tuple[int, int]:
        """(height, width) of what is seen of an image: the crop without its border."""
        height, width = self.crop
        return height - 2 * self.border, width - 2 * self.border

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3), RGB, of any size -> uint8 (height, width, 3) in the network's order of colors: resized,
        cropped and with the border. An image of the crop's size that has the border already, as those that `load`
        returns, stays as it is. Raises UserError where that cannot be."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UserError(f"an image is uint8 (height, width, 3), RGB, not {image.dtype} {image.shape}")
        if not self._has_border(image):
            image = self.bordered(
                central_crop(image, self._resized_side, *self.window, interpolation=self.interpolation)
            )
        return self.ordered(image)

    def bordered(self, images: np.ndarray) -> np.ndarray:
        """uint8 (..., H, W, channels) with the border around each: new arrays (..., H + 2 * border, W + 2 * border,
        channels), where there is one."""
        if not self.border:
            return images
        *batch, height, width, channels = images.shape
        whole = np.full((*batch, height + 2 * self.border, width + 2 * self.border, channels), self.fill, np.uint8)
        self._inside(whole)[...] = images
        return whole

    def _inside(self, images: np.ndarray) -> np.ndarray:
        return images[
            ..., self.border : images.shape[-3] - self.border, self.border : images.shape[-2] - self.border, :
        ]

    def _has_border(self, image: np.ndarray) -> bool:
        if not self.border or image.shape[:2] != self.crop:
            return False
        return np.array_equal(self.bordered(self._inside(image)), image)

    def ordered(self, image: np.ndarray) -> np.ndarray:
        """The RGB image in the network's order of colors."""
        return image if self.color_order == "RGB" else np.ascontiguousarray(image[..., ::-1])

    def normalize(self, pixels: Any, out: Optional[np.ndarray] = None) -> np.ndarray:
        """uint8 (N, height, width, channels), as `pixels` returns them -> float32 (N, channels, height, width),
        (pixel - mean) / std, into `out` where that is given. Takes an NDArray too. Raises UserError on others, and
        where mean and std are not known."""
        if self.mean is None or self.std is None:
            raise UserError("nothing says how the network wants its images normalized; give it mean and std")
        if hasattr(pixels, "asnumpy"):
            pixels = pixels.asnumpy()
        shape = (*self.crop, len(self.mean))
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            actual = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
            raise UserError(f"images to normalize are uint8 (N, {', '.join(map(str, shape))}), not {actual}")
        return normalize(pixels.transpose(0, 3, 1, 2), self.mean, self.std, out)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (H, W, 3), RGB, of any size -> what the network takes: float32 (1, 3, height, width)."""
        return self.normalize(self.pixels(image)[None])

    @property
    def _resized_side(self) -> int:
        """How long the shorter side of an image is made, the border not counted."""
        return cast(int, self.short_side) - 2 * self.border

    def with_crop(self, crop: Sequence[int]) -> "Preprocessing":
        """The same at another size: of an image the same share is seen, and the border is in proportion."""
        (height, width), scale = crop, max(crop) / max(self.crop)
        return replace(
            self,
            crop=(height, width),
            short_side=round(cast(int, self.short_side) * scale),
            border=min(round(self.border * scale), (min(crop) - 1) // 2),
        )

    def __str__(self) -> str:
        text = f"short side {self._resized_side}, central {'x'.join(map(str, self.window))}"
        if self.border:
            text += f", a border of {self.border} pixels of brightness {self.fill}"
        return text if self.mean is None else f"{text}, {self.normalization}"

    @property
    def normalization(self) -> str:
        """In words, for messages."""
        return f"(pixel - mean) / std, mean {_listed(self.mean)}, std {_listed(self.std)}"

    def as_config(self) -> Dict[str, Any]:
        """As entries of a run's config.json."""
        entries = asdict(self)
        del entries["crop"]
        return {"image_shape": self.image_shape, **entries}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], default: "Preprocessing") -> "Preprocessing":
        """Of a config.json; what it does not say, as those of older releases, is that of `default`. Raises UserError
        where it makes no sense."""
        settings = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        shape = config.get("image_shape")
        try:
            if shape is not None:
                settings = {"crop": shape[1:], "short_side": None, **settings}
            preprocessing = replace(default, **settings)
        except TypeError as error:
            raise UserError(f"it says nothing of a network's images: {error}") from None
        if shape is not None and list(preprocessing.image_shape) != list(shape):
            raise UserError(f"image_shape {shape} and mean {preprocessing.mean} have other channels")
        return preprocessing

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Raises UserError where `text` is nothing that `to_json` wrote."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise UserError(f"this is no description of a network's images: {error}") from None


def not_images(
    name: str,
    shape: Tuple[int, Optional[int], Optional[int]],
    array: Any,
    preprocessing: Optional[Preprocessing] = None,
) -> str:
    """One line that says what the network called `name` takes in place of `array` (numpy's or MXNet's).

    shape: (channels, height, width) of its images, height and width None where any will do. preprocessing: the
    network's, where it is known."""
    channels, height, width = shape
    sides = f"{height or 'H'}, {width or 'W'}"
    dtype, layout = np.dtype(array.dtype), tuple(array.shape)
    how = (
        "as its images were in training"
        if preprocessing is None or preprocessing.mean is None
        else f"as in training: {preprocessing.normalization}"
    )
    text = f"{name} takes float32 (N, {channels}, {sides}), normalized {how}; not {dtype} {layout}"

    def fits(
        axes: Tuple[int, int, int],
    ) -> bool:  # whether the layout is (N, channels, height, width), in this order of the axes
        return len(layout) == 4 and all(want in (None, layout[axis]) for want, axis in zip(shape, axes))

    ours, last = fits((1, 2, 3)), fits((3, 1, 2))
    if dtype.kind in "iub":
        if (ours or last) and preprocessing is not None and preprocessing.mean is not None:
            pixels = "x" if last else "x.transpose((0, 2, 3, 1))"
            return f"{text}; of pixels 0..255 net.preprocessing.normalize({pixels}) makes them"
        return text
    if last and not ours:
        return f"{text}; channels come first: x.transpose((0, 3, 1, 2))"
    if ours and dtype.kind == "f":
        return f"{text}; if they are normalized, x.astype('float32') is enough"
    return text


def _is_length(value: object) -> bool:
    return type(value) is int and 0 < cast(int, value) <= _LARGEST


def _numbers(name: str, values: Any) -> Tuple[float, ...]:
    try:
        numbers: Tuple[float, ...] = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise UserError(f"{name} is a finite number for every channel, not {values}")
    return numbers


def _listed(values: Optional[Tuple[float, ...]]) -> str:
    return ", ".join(f"{value:.6g}" for value in values or ())
