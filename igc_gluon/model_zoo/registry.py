"""Model getters in GluonCV's style: a name says the whole network."""
import difflib
import re
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple, Union

import mxnet as mx

from igc_gluon.errors import UserError
from igc_gluon.data import DATASETS
from igc_gluon.model_zoo.published import check_published, load_published
from igc_gluon.model_zoo.shipped import find_shipped, load_shipped


@dataclass(frozen=True)
class Family:
    """A row per family of networks: `template` with {fields} for numbers, the builder, the published members.

    `build(classes=..., **numbers, **options)` returns the network; `published` holds the numbers of each member that
    a table or a figure of the papers names, or of one to begin with where none does. A number is a whole one where
    the first published member has a whole one, otherwise it is written with a decimal point (`igcv3_0.7`).
    `classes` and `input_size` (height and width of the image) are those of the data that the family is made for;
    `mean` and `std` (R, G, B, of pixels 0..255) are what the authors normalise that data with, None where it may be
    one of several data sets.
    """
    template: str
    build: Callable
    published: Tuple[dict, ...]
    classes: int = 10
    input_size: int = 32
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None

    def parse(self, name):
        """The numbers in `name`, or None if it is not of this family."""
        pattern = re.escape(self.template)
        for field, number in self.published[0].items():
            digits = r"\d+\.\d+" if isinstance(number, float) else r"\d+"
            pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{digits})")
        match = re.fullmatch(pattern, name)
        return match and {field: type(self.published[0][field])(number)
                          for field, number in match.groupdict().items()}

    def names(self):
        return [self.template.format(**numbers) for numbers in self.published]


@dataclass(frozen=True)
class Model:
    """A network before it is built: its family, and the numbers that its name would say.

    Flags make one directly; a name is parsed to one by `find_model`.
    """
    family: Family
    numbers: Dict[str, Union[int, float]]

    @property
    def name(self) -> str:
        """As `get_model` takes it; run folders and records are named so."""
        return self.family.template.format(**self.numbers)

    def __str__(self):
        return self.name

    def build(self, classes: Optional[int] = None, **options):
        """The HybridBlock, without values; see `get_model` for `classes` and the options.

        This is where numbers and options are checked: raises UserError on those that make no network.
        """
        classes = self.family.classes if classes is None else int(classes)
        if classes < 1:
            raise UserError(f"a network needs at least one class, not {classes}")
        try:
            return self.family.build(classes=classes, **self.numbers, **options)
        except TypeError as error:
            option = re.search(r"unexpected keyword argument '(\w+)'", str(error))
            if option and option.group(1) in options:
                raise UserError(f"{self.name} has no option {option.group(1)!r}") from None
            if set(options) - NO_TEXT:
                raise UserError(f"an option of {self.name} has a value of the wrong kind ({error})") from error
            raise


# Arguments of `get_model` and of networks that say nothing of their structure: no text, of a file or a flag, gives them.
NO_TEXT = {"name", "pretrained", "root", "ctx", "classes", "norm_layer", "norm_kwargs", "prefix", "params"}


def _families():
    from igc_gluon.model_zoo import cifar, cifar_igcv2, flat, igcv2, igcv3, mobilenet, resnet18
    modules = cifar, cifar_igcv2, flat, resnet18, igcv2, igcv3, mobilenet
    return tuple(family for module in modules for family in module.FAMILIES)


def get_model_list():
    """Names of every network that a table of the papers names, sorted by family as published.

    The families are larger: any valid depth and partition makes a name, `cifar_plain_igc26_l12m4` for example.
    """
    return [name for family in _families() for name in family.names()]


def find_model(name) -> Model:
    """The `Model` called `name`, whose case does not matter. Raises UserError on an unknown name, with close matches."""
    lowered = str(name).lower()
    for family in _families():
        numbers = family.parse(lowered)
        if numbers is not None:
            return Model(family, numbers)
    close = difflib.get_close_matches(lowered, get_model_list(), n=3, cutoff=0.5)
    raise UserError(f"unknown model {name!r}; " + (f"did you mean {', '.join(close)}?" if close else
                                                   "igc_gluon.get_model_list() (or `igc models`) lists them"))


def find_family(name):
    """(family, numbers) of the network called `name`, see `find_model`."""
    model = find_model(name)
    return model.family, model.numbers


def get_model(name, pretrained=False, root="~/.mxnet/models", ctx=mx.cpu(), classes=None, **kwargs):
    """Builds the network called `name`.

    Parameters
    ----------
    name : str
        Case does not matter. See `get_model_list()`.
    pretrained : bool, name of a data set, or path
        True: with the weights that the authors published, see `igc_gluon.model_zoo.published`; they are downloaded once
        and verified. Or the path of their file, or of a folder that holds it. "fashion-mnist", for example: with weights
        trained on it that come with the package, see `igc_gluon.model_zoo.shipped`. The network then has what it expects
        as attributes: `preprocessing`, `classes`, ...; see `igc_gluon.model_zoo.attributes`.
    root : str, ctx : Context or list of Context
        With `pretrained`, the folder of downloaded weights, and the devices to load them onto. As in GluonCV the
        environment has the last word: $MXNET_HOME/models is the folder, $MXNET_GLUON_REPO is tried before the authors'
        repository, at <repo>/gluon/models/<name>-<first 8 digits of the git blob id>.params. It may be a folder here.
    classes : int, default those of the data that the network is made for
        10 for the networks of 32x32 images, 1000 for those of ImageNet.
    kwargs
        `norm_layer`, `norm_kwargs` as in GluonCV; `prefix` for the parameters' names (default '': the names that the
        authors' symbols have). Of some families only: `stem_strides` (2 for 64x64 Tiny ImageNet, 1 by default) of all
        networks for 32x32 images; `spatial` ('primary', 'secondary', 'both', 'separable') and `bottleneck` (1, 2,
        ...), the variants of IGCV1's section 4, `between` (None, 'relu'), the activation of its footnote 4, and
        `downsample` ('paper', 'code') of IGC networks; `branch_channels` (K of each stage) of `cifar_igcv2_*`;
        `doubled` ('primary', 'secondary'), which partition doubles with the width of `resnet18_igc_*`;
        `head_partition` and `repeats` of `igcv2_*`; `block` ('released', 'paper') and `partitions` (g1, g2) of
        IGCV3; `strides` ((32, 64), (64, 160)) of `cifar_igcv3_*`.

    Returns a HybridBlock, (N, 3, H, W) float32, normalised -> (N, classes) scores.
    Raises UserError (a ValueError) on an unknown name, with close matches, and on numbers that make no network, with
    the nearest that do.
    """
    model = find_model(name)
    classes = model.family.classes if classes is None else int(classes)
    name = str(name).lower()
    row = None
    if isinstance(pretrained, str) and pretrained.lower() in DATASETS:
        row = find_shipped(name, pretrained, classes, kwargs)
    elif pretrained:
        check_published(name, classes, kwargs)
    net = model.build(classes, **kwargs)
    if row is not None:
        return load_shipped(net, row, ctx)
    return load_published(net, name, model.family, pretrained, root, ctx) if pretrained else net
