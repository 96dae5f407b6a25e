"""No name is of two families: by the rule, and by trying."""

import itertools

import pytest

from igc_gluon.errors import UserError
from igc_gluon.model_zoo import registry
from igc_gluon.model_zoo.name_patterns import common_name, pieces

FAMILIES = {
    "a{x}": {"x": 8},
    "a{y}": {"y": 0.5},
    "a8": {},
    "a0.5": {},
    "a8_w{x}": {"x": 4},
    "a{x}_w{y}": {"x": 1, "y": 2},
    "a{x}_w{y}b": {"x": 1, "y": 2},
    "a{x}_w0.25": {"x": 1},
}


def test_names_that_two_families_have_are_found():
    found = {
        frozenset((one, other))
        for one, other in itertools.combinations(FAMILIES, 2)
        if common_name(pieces(one, FAMILIES[one]), pieces(other, FAMILIES[other]))
    }
    # By trying every name of small numbers.
    names = {template: set() for template in FAMILIES}
    for template, numbers in FAMILIES.items():
        values = [("0.5", "0.25") if isinstance(n, float) else ("8", "4") for n in numbers.values()]
        for chosen in itertools.product(*values):
            names[template].add(template.format(**dict(zip(numbers, chosen))))
    tried = {frozenset(pair) for pair in itertools.combinations(FAMILIES, 2) if names[pair[0]] & names[pair[1]]}
    assert (
        found == tried == {frozenset(("a{x}", "a8")), frozenset(("a{y}", "a0.5")), frozenset(("a8_w{x}", "a{x}_w{y}"))}
    )


@pytest.mark.parametrize("template", ["a{x}{y}", "a{x}8", "a8{x}", "a{x}.{y}", "a{x}_{y}{x}"])
def test_names_that_can_be_read_in_two_ways_are_refused(template):
    with pytest.raises(UserError, match="can be read in two ways"):
        pieces(template, {"x": 1, "y": 2})


def test_the_packages_own():
    own = [(family.template, pieces(family.template, family.published[0])) for family in registry.families()]
    for (one, first), (other, second) in itertools.combinations(own, 2):
        assert common_name(first, second) is None, (one, other)
