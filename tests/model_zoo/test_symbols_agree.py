"""The Gluon networks against the independent symbols of `symbols/`, parameters passed in both directions."""

import mxnet as mx
import numpy as np
import pytest

import igc_gluon
import symbols
from igc_gluon.errors import UserError
from igc_gluon.model_zoo import authors, cifar_model_name, imagenet_model_name

RNG = np.random.RandomState(0)
NETWORKS = [
    ("plain", 8, 3, 2, {}),
    ("plain_igc", 8, 3, 2, {}),
    ("plain_igc", 5, 4, 1, {}),
    ("resnet", 10, 3, 2, {}),
    ("resnet_igc", 10, 3, 2, {}),
    ("resnet_igc", 10, 3, 2, {"downsample": "code"}),
    ("sumfusion", 8, 3, 2, {}),
    ("resnet_imgnet_d18", 18, 4, 1, {}),
    ("resnet_igc_imgnet_d18", 18, 3, 1, {}),
    ("resnet_igc_imgnet_d18", 18, 2, 2, {}),
    ("resnet_igc_imgnet_d18", 18, 2, 3, {"doubled": "secondary"}),
]
DATA = RNG.standard_normal((4, 3, 32, 32)).astype("float32")
LABEL = np.array([1, 0, 3, 2], dtype="float32")


def pair(network, depth, L, M, options):
    """(Gluon network, symbol, random arrays by the authors' names with moving statistics that matter)"""
    if options == {"doubled": "secondary"}:
        name, keywords = f"resnet18_igc_l{L}m{M}", options
    elif "imgnet" in network:
        name, keywords = imagenet_model_name(network, L, M)
    else:
        name, keywords = cifar_model_name(network, depth, L, M), options
    net = igc_gluon.get_model(name, classes=5, **keywords)
    symbol = symbols.get_symbol(network, 5, depth, L, M, **options)
    arguments, _, aux = symbol.infer_shape(data=DATA.shape)
    values = {}
    for name, shape in list(zip(symbol.list_arguments(), arguments)) + list(zip(symbol.list_auxiliary_states(), aux)):
        if name in ("data", "softmax_label"):
            continue
        values[name] = (
            RNG.uniform(0.5, 1.5, shape)
            if name.endswith(("gamma", "var"))
            else RNG.normal(0, np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.3, shape)
        )
    return net, symbol, {name: mx.nd.array(value) for name, value in values.items()}


def bind(symbol, values):
    return symbol.bind(
        mx.cpu(),
        {
            **{k: v.copy() for k, v in values.items() if k in symbol.list_arguments()},
            "data": mx.nd.array(DATA),
            "softmax_label": mx.nd.array(LABEL),
        },
        args_grad={k: mx.nd.zeros(v.shape) for k, v in values.items() if k in symbol.list_arguments()},
        aux_states={k: values[k].copy() for k in symbol.list_auxiliary_states()},
    )


def close(actual, expected, name="", tolerance=1e-5):
    assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_inference_and_one_training_step_agree(network, monkeypatch):
    monkeypatch.setenv("IGC_NATIVE", "0")  # the definition is compared; kernels have tests of their own, in float64
    net, symbol, values = pair(*network)
    authors.from_module_params(net, *split(symbol, values))
    net.hybridize()
    executor = bind(symbol, values)
    scores = net(mx.nd.array(DATA))
    close(mx.nd.softmax(scores).asnumpy(), executor.forward(is_train=False)[0].asnumpy())
    # SoftmaxOutput's gradient is that of the summed cross-entropy.
    with mx.autograd.record():
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(mx.nd.array(DATA)), mx.nd.array(LABEL))
    loss.backward()
    probabilities = executor.forward(is_train=True)[0].asnumpy()
    executor.backward()
    mx.nd.waitall()
    close(loss.asnumpy(), -np.log(probabilities[np.arange(4), LABEL.astype(int)]))
    for name, parameter in net.collect_params().items():
        theirs = authors.authors_name(name)
        if parameter.grad_req != "null":
            # BN undoes the scale of a projection's few weights, so their gradient is a difference of nearly equal sums.
            close(
                parameter.grad().asnumpy(),
                executor.grad_dict[theirs].asnumpy(),
                name,
                3e-4 if "_proj_conv_weight" in name else 1e-5,
            )
        else:
            close(parameter.data().asnumpy(), executor.aux_dict[theirs].asnumpy(), name)


def split(symbol, values):
    return (
        {k: values[k] for k in symbol.list_arguments() if k in values},
        {k: values[k] for k in symbol.list_auxiliary_states()},
    )


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_parameters_pass_from_gluon_to_the_symbol(network):
    net, symbol, _ = pair(*network)
    mx.random.seed(1)
    net.initialize()
    arg_params, aux_params = authors.to_module_params(net)
    assert sorted(arg_params) == sorted(set(symbol.list_arguments()) - {"data", "softmax_label"})
    assert sorted(aux_params) == sorted(symbol.list_auxiliary_states())
    for graph in (symbol, authors.to_module_symbol(net)):
        module = mx.mod.Module(graph)
        module.bind([("data", DATA.shape)], [("softmax_label", (4,))], for_training=False)
        module.set_params(arg_params, aux_params)
        module.forward(mx.io.DataBatch([mx.nd.array(DATA)], [mx.nd.array(LABEL)]), is_train=False)
        close(module.get_outputs()[0].asnumpy(), mx.nd.softmax(net(mx.nd.array(DATA))).asnumpy())


def test_parameters_that_do_not_fit_are_all_named():
    net, symbol, values = pair("plain_igc", 5, 3, 2, {})
    net.initialize()
    before = net.features[0][0].weight.data().asnumpy()
    arg_params, aux_params = split(symbol, values)
    del arg_params["g1_b1_conv1_weight"], aux_params["g0_bn_moving_var"]
    arg_params["fc_score_bias"] = mx.nd.zeros((7,))
    arg_params["extra"] = mx.nd.zeros((1,))
    with pytest.raises(UserError) as error:
        authors.from_module_params(net, arg_params, aux_params)
    for text in (
        "missing g1_b1_conv1_weight",
        "missing g0_bn_moving_var",
        "left over extra",
        "fc_score_bias is (7,), not (5,)",
    ):
        assert text in str(error.value)
    np.testing.assert_array_equal(net.features[0][0].weight.data().asnumpy(), before)


def test_a_prefix_does_not_matter():
    net = igc_gluon.get_model("cifar_plain8_w4", prefix="mine_")
    net.initialize()
    arg_params, _ = authors.to_module_params(net)
    assert "g0_conv_weight" in arg_params
    other = igc_gluon.get_model("cifar_plain8_w4")
    authors.from_module_params(other, *authors.to_module_params(net))
    close(other(mx.nd.array(DATA)).asnumpy(), net(mx.nd.array(DATA)).asnumpy())
