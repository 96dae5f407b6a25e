"""Our names in GluonCV's model zoo, so that its scripts, and those written for it, build and train our networks."""

import functools
from typing import Any, Callable, Dict

from igc_gluon.errors import UserError
from igc_gluon.model_zoo.registry import find_family, get_model, get_model_list


def register_with_gluoncv() -> None:
    """Makes `gluoncv.model_zoo.get_model(name, **kwargs)` take every name that `igc_gluon.get_model` takes, with its
    arguments; `gluoncv.model_zoo.get_model_list()` then has those of the papers' tables too. GluonCV's own names stay
    its own. To call it again changes nothing.

        import igc_gluon, gluoncv
        igc_gluon.register_with_gluoncv()
        net = gluoncv.model_zoo.get_model("cifar_plain_igc20_l24m2", classes=10)
    """
    from gluoncv.model_zoo import model_zoo  # slow: takes seconds

    # GluonCV has no call to register a name: this is the table that its get_model looks into.
    if not isinstance(model_zoo._models, _Names):
        model_zoo._models = _Names(model_zoo._models)


class _Names(dict):
    """GluonCV's table {name: builder}; a name that it has not may be one of ours, of which there is no end."""

    def __init__(self, table: Dict[str, Any]) -> None:
        super().__init__({**{name: functools.partial(get_model, name) for name in get_model_list()}, **table})

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name):
            return True
        try:
            find_family(str(name))
        except UserError:
            return False
        return True

    def __missing__(self, name: str) -> Callable[..., Any]:
        return functools.partial(get_model, name)
