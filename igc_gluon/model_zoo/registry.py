"""The registry of networks, and the getters in GluonCV's style: a name says the whole network.

A module registers a family of networks, those of the papers as well as a file of the user's (`model_zoo.imports`):

    @register("cifar_mine{depth}_w{w}", published=[{"depth": 8, "w": 16}])
    def mine(depth, w, classes, **options):
        return CIFARNet(MyBlock, w, stage_blocks(depth), classes, **options)
"""

import difflib
import re
import string
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
from mxnet.gluon import HybridBlock

from igc_gluon.data import DATASETS
from igc_gluon.errors import UserError
from igc_gluon.model_zoo.gluoncv2 import RELEASES, SOURCE, check_gluoncv2, load_gluoncv2
from igc_gluon.model_zoo.name_patterns import common_name, pieces
from igc_gluon.model_zoo.published import PUBLISHED, check_published, load_published
from igc_gluon.model_zoo.shipped import find_shipped, load_shipped
from igc_gluon.model_zoo.source_file import SourceFile

Number = Union[int, float]
Numbers = Mapping[str, Number]

# Arguments of `get_model` and of networks that say nothing of their structure: no text, of a file or a flag, gives
# them.
NO_TEXT = {"name", "pretrained", "root", "ctx", "classes", "norm_layer", "norm_kwargs", "prefix", "params"}

BlockOf = Callable[..., HybridBlock]  # (channels, in_channels, strides=..., norm_layer=..., ...) -> a block


@dataclass(frozen=True)
class Family:
    """A row per family of networks: `template` with {fields} for numbers, the builder, the published members.

    `build(classes=..., **numbers, **options)` returns the network; `published` holds the numbers of each member that
    a table or a figure of the papers names, or of one to begin with where none does. A number is a whole one where
    the first published member has a whole one, otherwise it is written with a decimal point (`igcv3_0.7`).
    `classes` and `input_size` (height and width of the image) are those of the data that the family is made for;
    `mean` and `std` (R, G, B, of pixels 0..255) are what the authors normalize that data with, None where it may be
    one of several data sets. `schedule` is the one on ImageNet, of `igc_gluon.engine.schedule.IMAGENET`. `source` is
    the file outside of this package that registered the family.
    """

    template: str
    build: Callable[..., HybridBlock]
    published: Tuple[Numbers, ...]
    classes: int = 10
    input_size: int = 32
    mean: Optional[Tuple[float, ...]] = None
    std: Optional[Tuple[float, ...]] = None
    schedule: str = "igcv1"
    source: Optional[SourceFile] = None

    def parse(self, name: str) -> Optional[Numbers]:
        """The numbers in `name`, or None if it is not of this family."""
        pattern = re.escape(self.template)
        for field, number in self.published[0].items():
            digits = r"\d+\.\d+" if isinstance(number, float) else r"\d+"
            pattern = pattern.replace(re.escape(f"{{{field}}}"), f"(?P<{field}>{digits})")
        match = re.fullmatch(pattern, name)
        return match and {field: type(self.published[0][field])(number) for field, number in match.groupdict().items()}

    def names(self) -> List[str]:
        """Names of the published members."""
        return [self.template.format(**numbers) for numbers in self.published]


@dataclass(frozen=True)
class Model:
    """A network before it is built: its family, and the numbers that its name would say.

    Flags make one directly; a name is parsed to one by `find_model`.
    """

    family: Family
    numbers: Numbers

    @property
    def name(self) -> str:
        """As `get_model` takes it; run folders and records are named so."""
        return self.family.template.format(**self.numbers)

    def __str__(self) -> str:
        return self.name

    def build(self, classes: Optional[int] = None, **options: Any) -> HybridBlock:
        """The network without values; see `get_model` for `classes` and the options.

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


_families: Dict[str, Family] = {}  # by template, in the order of registration


def register(template: str, published: Sequence[Mapping[str, Number]], **facts: Any) -> Callable[[Callable], Callable]:
    """Decorates the function or class that builds the networks of a family.

    What is decorated is called with `classes`, the numbers and the options of `get_model` by name, and returns a
    HybridBlock (N, 3, H, W) -> (N, classes). It is registered anew if its module is run again, as a notebook's cell.
    Raises UserError where the template does not fit the numbers, or another family has these names.

    Parameters
    ----------
    template : str
        Of the names, lower case, with a {field} for each number: "cifar_mine{depth}_l{l}m{m}".
    published : sequence of {field: number}
        The members that `igc models` and tables list, at least one, which tells whole numbers from fractions.
    facts
        `classes`, `input_size`, `mean`, `std`, `schedule`: see `Family`.
    """

    def decorate(build: Callable) -> Callable:
        add_family(Family(template, build, tuple(map(dict, published)), source=SourceFile.of(build), **facts))
        return build

    return decorate


def add_family(family: Family) -> Family:
    """Registers `family` and returns it. Raises UserError, see `register`."""
    fields = [field for _, field, *_ in string.Formatter().parse(family.template) if field is not None]
    if (
        family.template != family.template.lower()
        or not family.published
        or any(sorted(numbers) != sorted(set(fields)) for numbers in family.published)
    ):
        raise UserError(
            f"the family {family.template!r} needs a template in lower case, and published members with the "
            f"numbers {', '.join(fields) or 'of its fields'}, not {list(family.published)}"
        )
    own = pieces(family.template, family.published[0])
    for other in _families.values():
        if other.template == family.template and other.build.__module__ == family.build.__module__:
            continue  # run again, as a notebook's cell
        name = common_name(own, pieces(other.template, other.published[0]))
        if name is not None:
            raise UserError(
                f"the family {family.template!r} has the name {name}, which {other.template!r} has already; choose "
                "another template"
            )
    _families[family.template] = family
    return family


def remove_families(module: str) -> None:
    """Forgets the families that the module of this name has registered."""
    for template in [template for template, family in _families.items() if family.build.__module__ == module]:
        del _families[template]


def families(source: Optional[SourceFile] = None) -> List[Family]:
    """All families, or those that the file `source` has registered."""
    return [family for family in _families.values() if source in (None, family.source)]


def get_model_list() -> List[str]:
    """Names of every network that a table of the papers names, sorted by family as published, then of those that files
    of the user's have registered.

    The families are larger: any valid depth and partition makes a name, `cifar_plain_igc26_l12m4` for example.
    """
    return [name for family in _families.values() for name in family.names()]


def find_model(name: str) -> Model:
    """The `Model` called `name`, whose case does not matter. Raises UserError on an unknown name, with close
    matches."""
    lowered = str(name).lower()
    for family in _families.values():
        numbers = family.parse(lowered)
        if numbers is not None:
            return Model(family, numbers)
    close = difflib.get_close_matches(lowered, get_model_list(), n=3, cutoff=0.5)
    raise UserError(
        f"unknown model {name!r}; "
        + (f"did you mean {', '.join(close)}?" if close else "igc_gluon.get_model_list() (or `igc models`) lists them")
    )


def find_family(name: str) -> Tuple[Family, Numbers]:
    """(family, numbers) of the network called `name`, see `find_model`."""
    model = find_model(name)
    return model.family, model.numbers


def _of_gluoncv2(name: str, pretrained: Union[bool, str]) -> bool:
    if isinstance(pretrained, str):
        return pretrained.lower() == SOURCE
    return pretrained is True and name in RELEASES and name not in PUBLISHED


def get_model(
    name: str,
    pretrained: Union[bool, str] = False,
    root: str = "~/.mxnet/models",
    ctx: Any = mx.cpu(),
    classes: Optional[int] = None,
    **kwargs: Any,
) -> HybridBlock:
    """Builds the network called `name`.

    Returns a HybridBlock, (N, 3, H, W) float32, normalized -> (N, classes) scores.
    Raises UserError (a ValueError) on an unknown name, with close matches, and on numbers that make no network, with
    the nearest that do.

    Parameters
    ----------
    name : str
        Case does not matter. See `get_model_list()`.
    pretrained : bool, name of a data set, or path
        True: with the weights that the authors published, see `igc_gluon.model_zoo.published`; they are downloaded once
        and verified. Or the path of their file, or of a folder that holds it. "fashion-mnist", for example: with
        weights trained on it that come with the package, see `igc_gluon.model_zoo.shipped`. "gluoncv2": with that
        package's weights of IGCV3, see `igc_gluon.model_zoo.gluoncv2`; so has True where the authors published none,
        for igcv3_0.5 for example. The network then has what
        it expects as attributes: `preprocessing`, `classes`, ...; see `igc_gluon.model_zoo.attributes`.
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
        IGCV3, and `last_channels` of its last convolution; `strides` ((32, 64), (64, 160)) of `cifar_igcv3_*`.
    """
    model = find_model(name)
    classes = model.family.classes if classes is None else int(classes)
    name = str(name).lower()
    row = None
    if _of_gluoncv2(name, pretrained):
        return load_gluoncv2(model.build(classes, **check_gluoncv2(name, classes, kwargs)), name, root, ctx)
    if isinstance(pretrained, str) and pretrained.lower() in DATASETS:
        row = find_shipped(name, pretrained, classes, kwargs)
    elif pretrained:
        check_published(name, classes, kwargs)
    net = model.build(classes, **kwargs)
    if row is not None:
        return load_shipped(net, row, ctx)
    return load_published(net, name, model.family, pretrained, root, ctx) if pretrained else net
