"""Model getters in GluonCV's style: a name says the whole network."""
import difflib
import re
from dataclasses import dataclass
from typing import Callable, Tuple

import mxnet as mx

from igc_gluon.errors import UserError


@dataclass(frozen=True)
class Family:
    """A row per family of networks: `template` with {fields} for numbers, the builder, the published members.

    `build(classes=..., **numbers, **options)` returns the network; `published` holds the numbers of each member that
    a table of the papers names.
    """
    template: str
    build: Callable
    published: Tuple[dict, ...]

    def parse(self, name):
        """The numbers in `name`, or None if it is not of this family."""
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\d+)", re.escape(self.template))
        match = re.fullmatch(pattern, name)
        return match and {field: int(number) for field, number in match.groupdict().items()}

    def names(self):
        return [self.template.format(**numbers) for numbers in self.published]


def _families():
    from igc_gluon.model_zoo import cifar
    return cifar.FAMILIES


def get_model_list():
    """Names of every network that a table of the papers names, sorted by family as published.

    The families are larger: any valid depth and partition makes a name, `cifar_plain_igc26_l12m4` for example.
    """
    return [name for family in _families() for name in family.names()]


def get_model(name, pretrained=False, root="~/.mxnet/models", ctx=mx.cpu(), classes=10, **kwargs):
    """Builds the network called `name`.

    Parameters
    ----------
    name : str
        Case does not matter. See `get_model_list()`.
    pretrained : bool
        Published weights. There are none for CIFAR-sized networks: the authors published ImageNet checkpoints only.
    root : str, ctx : Context or list of Context
        Folder of downloaded weights, and the devices to load them onto; used with `pretrained`.
    classes : int
    kwargs
        `norm_layer`, `norm_kwargs` as in GluonCV; `prefix` for the parameters' names (default '': the names that the
        authors' symbols have); `spatial` ('primary', 'secondary', 'separable'), the paper's section 4 variants, and
        `downsample` ('paper', 'code') of IGC networks.

    Returns a HybridBlock, (N, 3, H, W) float32, normalised -> (N, classes) scores.
    Raises UserError (a ValueError) on an unknown name, with close matches, and on numbers that make no network, with
    the nearest that do.
    """
    lowered = str(name).lower()
    if int(classes) < 1:
        raise UserError(f"a network needs at least one class, not {classes}")
    for family in _families():
        numbers = family.parse(lowered)
        if numbers is not None:
            if pretrained:
                raise UserError(f"there are no published weights for {lowered}: the authors published ImageNet "
                                "checkpoints only; use pretrained=False")
            try:
                return family.build(classes=int(classes), **numbers, **kwargs)
            except TypeError as error:
                option = re.search(r"unexpected keyword argument '(\w+)'", str(error))
                if option and option.group(1) in kwargs:
                    raise UserError(f"{lowered} has no option {option.group(1)!r}") from None
                raise
    close = difflib.get_close_matches(lowered, get_model_list(), n=3, cutoff=0.5)
    raise UserError(f"unknown model {name!r}; " + (f"did you mean {', '.join(close)}?" if close else
                                                   "igc_gluon.get_model_list() (or `igc models`) lists them"))
