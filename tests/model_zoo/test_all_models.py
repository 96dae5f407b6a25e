"""Every getter of the model list: counts against a golden file, and what any network must do.

igc_gluon/model_zoo/models.json, which `igc models` prints, holds the counts of each, on an image of the network's
natural size, and the accuracies that the papers print. After a new network, or a change that is meant to change a
count, write it anew and read the difference:

    PYTHONPATH=tests python tests/model_zoo/test_all_models.py
"""

import json
from collections import defaultdict

import mxnet as mx
import numpy as np
import pytest
from small_networks import SMALL_IMAGES

import igc_gluon
from igc_gluon.cli import models
from igc_gluon.model_zoo import find_family
from igc_gluon.paper.compare import recipe_of
from igc_gluon.paper.published import load_tables

# One or two small members of each family, on small images.
SMALL = [(name, 16) for name in SMALL_IMAGES] + [
    ("resnet18_w4", 64),
    ("resnet18_igc_l3m2", 64),
    ("resnet18_igc_l2m3", 64),
    ("igcv2_0.25", 32),
    ("igcv3_0.7", 64),
    ("igcv3_d0.5", 64),
    ("mobilenet0.25", 64),
    ("mobilenetv2_0.2", 64),
]


def printed_accuracies():
    """{network: {data set: accuracy in %}} of the first table of each that prints one."""
    accuracies = defaultdict(dict)
    for table in load_tables():
        for row in table.rows:
            recipe = recipe_of(table, row)
            for dataset, printed in row.results.items() if recipe else ():
                if printed:
                    value = printed[0]
                    if table.metric == "error":
                        value = f"{100 - float(value):.{len(value.partition('.')[2])}f}"
                    accuracies[recipe.network.name].setdefault(dataset, value)
    return accuracies


def write_golden():
    accuracies = printed_accuracies()
    lines = []
    for name in igc_gluon.get_model_list():
        row = {**models.facts(name), **({"accuracy": accuracies[name]} if name in accuracies else {})}
        lines.append(f"{json.dumps(name)}: {json.dumps(row)}")
    models.STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.fixture(scope="module")
def golden():
    return json.loads(models.STORED.read_text())


@pytest.mark.parametrize("name", igc_gluon.get_model_list())
def test_counts_are_golden(golden, name):
    assert models.facts(name) == {key: value for key, value in golden[name].items() if key != "accuracy"}


def test_the_golden_file_holds_nothing_else(golden):
    assert list(golden) == igc_gluon.get_model_list()
    accuracies = printed_accuracies()
    assert {name: row["accuracy"] for name, row in golden.items() if "accuracy" in row} == {
        name: accuracies[name] for name in golden if name in accuracies
    }


def check_network(name, size, tmp_path, batch=4):
    """Finite scores, a gradient for every parameter, hybridized as imperative, saved and loaded.

    All in training mode: with the moving statistics that a network begins with the deepest ones overflow.
    """
    mx.random.seed(0)
    net = igc_gluon.get_model(name.upper(), **({"classes": 6} if size != 224 else {}))
    net.initialize()
    x = mx.nd.random.normal(shape=(batch, 3, size, size))

    def scores(net):
        with mx.autograd.record():  # as the first time: other kernels round otherwise, which small batches amplify
            return net(x).asnumpy()

    with mx.autograd.record():
        out = net(x)
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(out, mx.nd.arange(batch))
    loss.backward()
    expected = out.asnumpy()
    assert expected.shape == (batch, 6 if size != 224 else 1000) and np.isfinite(expected).all() and expected.std() > 0
    for parameter in net.collect_params().values():
        if parameter.grad_req != "null":
            gradient = parameter.grad().asnumpy()
            assert np.isfinite(gradient).all() and abs(gradient).sum() > 0, parameter.name
    net.hybridize(static_alloc=True, static_shape=True)
    tolerance = 1e-4 * abs(expected).max()
    np.testing.assert_allclose(scores(net), expected, rtol=1e-3, atol=tolerance)
    net.save_parameters(str(tmp_path / "net.params"))
    again = igc_gluon.get_model(name, prefix="other_", **({"classes": 6} if size != 224 else {}))
    again.load_parameters(str(tmp_path / "net.params"))
    np.testing.assert_allclose(scores(again), expected, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("name,size", SMALL)
def test_small_members(name, size, tmp_path):
    check_network(name, size, tmp_path)


def test_every_family_has_a_small_member():
    families = {find_family(name)[0].template for name in igc_gluon.get_model_list()}
    assert families == {find_family(name)[0].template for name, _ in SMALL}


@pytest.mark.long
@pytest.mark.parametrize("name", igc_gluon.get_model_list())
def test_every_getter_at_its_natural_size(name, tmp_path):
    check_network(name, find_family(name)[0].input_size, tmp_path, batch=2)


if __name__ == "__main__":
    write_golden()
