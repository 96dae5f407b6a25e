"""Described networks compute what Gluon's do: run with numpy here, and where they are installed by PyTorch and ONNX."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import igc_gluon
from igc_gluon.bench import rewrite
from igc_gluon.bench.networks import block, write, zoo
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.errors import UserError
from igc_gluon.export import graph
from igc_gluon.model_zoo.attributes import set_attributes
from igc_gluon.symbol_file import PREPROCESSING

NETWORKS = [
    zoo("cifar_plain_igc5_l2m3"),
    zoo("cifar_resnet_igc8_l2m2"),
    zoo("cifar_sumfusion5_l2m3"),
    zoo("cifar_igcv2_8_c64", size=16),
    zoo("igcv2_0.25", 10, 32),
    zoo("igcv3_d0.5", 10, 32),
    block(3, 2, 5),
]
ORDER_KEPT = ("plain_igc", "resnet_igc", "block")  # of these every permutation is beside a 1x1 convolution


def conv(x, weight, groups, stride, pad, **_):
    x = np.pad(x, [(0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2])
    (n, _, h, w), (o, c, kh, kw) = x.shape, weight.shape
    rows, columns = (h - kh) // stride[0] + 1, (w - kw) // stride[1] + 1
    y = np.zeros((n, o, rows, columns))
    for dy in range(kh):
        for dx in range(kw):
            window = x[:, :, dy : dy + stride[0] * rows : stride[0], dx : dx + stride[1] * columns : stride[1]]
            window, taps = window.reshape(n, groups, c, rows, columns), weight[:, :, dy, dx].reshape(groups, -1, c)
            y += np.einsum("ngchw,goc->ngohw", window, taps).reshape(y.shape)
    return y


def evaluate(nodes, x):
    values = [x.astype(np.float64)]
    for node in nodes:
        a, arrays = node.attributes, {key: array.astype(np.float64) for key, array in node.arrays.items()}
        x = values[node.inputs[0]]
        column = {key: array.reshape(-1, 1, 1) for key, array in arrays.items() if array.ndim == 1}
        if node.op == "conv":
            y = conv(x, arrays["weight"], **a) + column.get("bias", 0)
        elif node.op == "linear":
            y = x @ arrays["weight"].T + arrays["bias"]
        elif node.op == "batch_norm":
            y = (x - column["mean"]) / np.sqrt(column["variance"] + a["epsilon"]) * column["gamma"] + column["beta"]
        elif node.op == "permute":
            y = x.reshape(len(x), a["branches"], -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)
        elif node.op == "affine":
            y = x * a["scale"] + a["shift"]
        else:
            y = {
                "relu": lambda: np.maximum(x, 0),
                "clip": lambda: np.clip(x, a["low"], a["high"]),
                "add": lambda: x + values[node.inputs[1]],
                "mean": lambda: x.mean((2, 3), keepdims=True),
                "flatten": lambda: x.reshape(len(x), -1),
                "sum": lambda: x.sum(a["axis"]),
                "reshape": lambda: x.reshape(len(x), *node.shape),
                "transpose": lambda: x.transpose(a["axes"]),
            }[node.op]()
        assert y.shape[1:] == node.shape
        values.append(y)
    return values[-1]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.title)
def written(request, tmp_path_factory):
    """(network, its nodes from the file, images, Gluon's scores)"""
    folder = tmp_path_factory.mktemp("network")
    write(request.param, folder)
    net = request.param.build()
    net.load_parameters(str(folder / "net.params"))
    images = np.random.RandomState(0).standard_normal((2, *request.param.shape)).astype(np.float32)
    return request.param, graph.load(folder / "graph.npz"), images, net(mx.nd.array(images)).asnumpy()


def close(scores, expected):
    np.testing.assert_allclose(scores, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_description_computes_the_network(written):
    _, nodes, images, expected = written
    assert not {"reshape", "transpose"} & {node.op for node in nodes} or "sumfusion" in written[0].title
    close(evaluate(nodes, images), expected)


def test_absorbed_permutations_change_nothing(written):
    network, nodes, images, expected = written
    rewritten = rewrite.absorb_permutations(nodes)
    before, after = (sum(node.op == "permute" for node in some) for some in (nodes, rewritten))
    assert after < before or not before
    if any(part in network.title for part in ORDER_KEPT):
        assert after == 0
    close(evaluate(rewritten, images), expected)


def test_pytorch_computes_the_network(written):
    torch = pytest.importorskip("torch")
    from igc_gluon.bench import to_torch

    _, nodes, images, expected = written
    net = to_torch.module(nodes).eval()
    with torch.no_grad():
        close(net(torch.from_numpy(images)).numpy(), expected)


def test_onnx_computes_the_network(written):
    pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    from igc_gluon.export import to_onnx

    network, nodes, images, expected = written
    for some in (nodes, rewrite.absorb_permutations(nodes)):
        made = to_onnx.model(some, network.shape, len(images))
        close(reference.ReferenceEvaluator(made).run(None, {"images": images})[0], expected)


def test_onnx_says_what_the_network_expects_of_an_image(tmp_path):
    onnx = pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx

    expected = Preprocessing(
        (32, 24), 40, (1.5, 2, 3), (4, 5, 6.25), "bilinear", "BGR", ("ant", 'a "bee"', "k\u00f6nig"), border=3, fill=7
    )
    net = igc_gluon.get_model("cifar_plain_igc5_l2m3", classes=3)
    net.initialize()
    onnx.save(to_onnx.of_network(set_attributes(net, "cifar_plain_igc5_l2m3", expected), 2), str(tmp_path / "net.onnx"))
    made = onnx.load(str(tmp_path / "net.onnx"))
    assert to_onnx.preprocessing_of(made) == expected and len(made.metadata_props) == 3
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 24)).astype(np.float32)
    reference = pytest.importorskip("onnx.reference")
    close(reference.ReferenceEvaluator(made).run(None, {"images": images})[0], net(mx.nd.array(images)).asnumpy())
    next(entry for entry in made.metadata_props if entry.key == PREPROCESSING).value = "{"
    with pytest.raises(UserError, match="no description of a network's images"):
        to_onnx.preprocessing_of(made)
    del made.metadata_props[:]
    assert to_onnx.preprocessing_of(made) is None


def test_pooling_and_numbers():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, 2, 1), nn.MaxPool2D(3, 2, 1), nn.AvgPool2D(2, 2), nn.HybridLambda(lambda F, x: x * 2 + 1))
    net.initialize()
    nodes = graph.describe(net, (3, 16, 16))
    assert [(node.op, node.shape) for node in nodes] == [
        ("conv", (4, 8, 8)),
        ("max_pool", (4, 4, 4)),
        ("mean_pool", (4, 2, 2)),
        ("affine", (4, 2, 2)),
        ("affine", (4, 2, 2)),
    ]
    assert nodes[0].attributes == {"groups": 1, "kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
    assert nodes[1].attributes == {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}


@pytest.mark.parametrize(
    "layer, name",
    [
        (nn.Activation("tanh"), "tanh"),
        (nn.Conv2DTranspose(4, 3), "Deconvolution"),
        (nn.MaxPool2D(3, 2, ceil_mode=True), "stick out"),
    ],
)
def test_what_peers_cannot_be_given_is_named(layer, name):
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), layer)
    net.initialize()
    with pytest.raises(UserError, match=name):
        graph.describe(net, (3, 16, 16))
