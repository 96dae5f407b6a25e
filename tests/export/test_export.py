"""`igc export` and ONNX models, beside what Gluon computes: with ONNX Runtime and onnx where they are installed."""

import json
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import igc_gluon
from igc_gluon import deploy, native
from igc_gluon.cli import main
from igc_gluon.data.preprocessing import Preprocessing
from igc_gluon.engine.saved_networks import open_network
from igc_gluon.errors import UserError
from igc_gluon.export import graph
from igc_gluon.model_zoo.attributes import set_attributes
from igc_gluon.model_zoo.registry import families

SHIPPED = "cifar_plain_igc8_l24m2"
SOURCE = [SHIPPED, "--dataset", "fashion-mnist"]
QUICK = ("cifar_plain_igc8_l4m8", "cifar_sumfusion8_l4m8", "igcv3_d0.5")
FIRST = [family.names()[0] for family in families()]


def run(made, images):
    """ONNX Runtime's only result."""
    onnxruntime = pytest.importorskip("onnxruntime")
    data = made if isinstance(made, str) else made.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"images": images})
    return result


def close(actual, expected, share=2e-5):
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=share * np.abs(expected).max())


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)


def network(name, size=32, classes=10, **expected):
    net = igc_gluon.get_model(name, classes=classes)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, size, size)))
    return set_attributes(net, name, Preprocessing((size, size), size, **expected))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.long) for name in FIRST]
)
def test_onnx_runtime_gives_our_scores_for_any_number_of_images(name):
    """One network of every family."""
    pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx

    net = network(name)
    made = to_onnx.of_network(net)
    assert made.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for batch in (1, 5):
        images = np.random.default_rng(batch).standard_normal((batch, 3, 32, 32)).astype(np.float32)
        # The sums of shortcuts of an untrained IGCV3 amplify rounding.
        close(run(made, images), net(mx.nd.array(images)).asnumpy(), 2e-4)


@pytest.mark.parametrize("flags", [[], ["--normalize"], ["--normalize", "float32", "--softmax", "--batch-size", "5"]])
def test_export_of_a_network_with_weights(tmp_path, capsys, flags):
    """The file gives the scores of the network, its metadata say how an image is prepared for it."""
    onnx = pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx

    out = str(tmp_path / "net.onnx")
    assert main(["export", *SOURCE, out, *flags]) == 0
    net, shown = open_network(SHIPPED, dataset="fashion-mnist"), capsys.readouterr().out
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 3), np.uint8)
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2), (0, 0)))  # the black border of training
    normalized = (pixels.transpose(0, 3, 1, 2) - np.float64(net.preprocessing.mean[0])) / net.preprocessing.std[0]
    expected = net(mx.nd.array(normalized)).asnumpy()
    if "--softmax" in flags:
        expected = softmax(expected)
    images = pixels.transpose(0, 3, 1, 2) if flags else normalized.astype(np.float32)
    if "float32" in flags:
        images = images.astype(np.float32)
    close(run(out, images), expected)
    made = onnx.load(out)
    metadata = {entry.key: entry.value for entry in made.metadata_props}
    assert metadata["model"] == SHIPPED and json.loads(metadata["classes"]) == net.classes
    assert "computes the same, to" in shown and ("Nx3x32x32" in shown) == ("--batch-size" not in flags)
    preprocessing = to_onnx.preprocessing_of(made)
    prepared = preprocessing.prepare(pixels[0])
    close(run(out, np.repeat(prepared, 5, 0).astype(images.dtype))[0], run(out, np.repeat(images[:1], 5, 0))[0])


def test_names_of_classes_and_the_size_of_images(tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    names, out = tmp_path / "names.txt", tmp_path / "net.onnx"
    names.write_text("".join(f"k\u00f6nig {i}\n" for i in range(10)), encoding="utf-8")
    assert main(["export", *SOURCE, str(out), "--class-names", str(names), "--size", "24"]) == 0
    made = onnx.load(str(out))
    assert {e.key: e.value for e in made.metadata_props}["classes"] == json.dumps(
        [f"k\u00f6nig {i}" for i in range(10)], ensure_ascii=False
    )
    assert [axis.dim_value for axis in made.graph.input[0].type.tensor_type.shape.dim][1:] == [3, 24, 24]
    names.write_text("one\ntwo\n")
    out.unlink()
    capsys.readouterr()
    assert main(["export", *SOURCE, str(out), "--class-names", str(names)]) == 2 and not out.exists()
    assert capsys.readouterr().err == "error: there are 2 names of classes for 10 scores\n"


@pytest.mark.skipif(not native.available(), reason=str(native.unavailable_reason()))
def test_igc_files_and_symbols(tmp_path):
    assert main(["export", *SOURCE, str(tmp_path / "net.igc")]) == 0
    assert main(["export", *SOURCE, str(tmp_path / "net-symbol.json")]) == 0
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    net = open_network(SHIPPED, dataset="fashion-mnist")
    expected = net(mx.nd.array(images)).asnumpy()
    close(deploy.load(tmp_path / "net.igc")(images), expected)
    symbol, arguments, states = mx.model.load_checkpoint(str(tmp_path / "net"), 0)
    arguments.update(data=mx.nd.array(images), softmax_label=mx.nd.zeros(2))
    close(symbol.bind(mx.cpu(), arguments, aux_states=states).forward()[0].asnumpy(), softmax(expected))


@pytest.mark.parametrize(
    "out, flags, message",
    [
        ("net.pt", [], "ends in .onnx, .igc or -symbol.json"),
        ("net.igc", ["--softmax"], "--softmax goes with OUT.onnx"),
        ("net-symbol.json", ["--normalize"], "--normalize goes with OUT.onnx"),
        ("net.igc", ["--batch-size", "1"], "--batch-size goes with OUT.onnx"),
        ("net.onnx", ["--batch-size", "0"], "--batch-size must be from 1"),
        ("net.onnx", ["--size", "0"], "--size must be at least 1"),
        ("none/net.onnx", [], "cannot write"),
        ("net.onnx", ["--normalize", "int4"], "choose from 'uint8', 'float32'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, out, flags, message):
    if "none" in out:
        pytest.importorskip("onnx")
    try:
        code = main(["export", *SOURCE, str(tmp_path / out), *flags])
    except SystemExit as end:  # of the parser
        code = end.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1 and not list(tmp_path.iterdir()), error


def test_without_the_package_onnx(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "igc_gluon.export.to_onnx", raising=False)
    monkeypatch.delattr("igc_gluon.export.to_onnx", raising=False)
    assert main(["export", *SOURCE, str(tmp_path / "net.onnx")]) == 2
    error = capsys.readouterr().err
    assert "pip install 'igc-gluon[onnx]'" in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_without_onnx_runtime_the_file_is_written_and_it_is_said(tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", *SOURCE, str(tmp_path / "net.onnx")]) == 0
    assert "not run by ONNX Runtime" in capsys.readouterr().out and (tmp_path / "net.onnx").stat().st_size > 1e5


def test_another_result_of_onnx_runtime_is_an_error():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx
    from igc_gluon.export.check import check

    net = network("cifar_plain_igc8_l4m8")
    made = to_onnx.of_network(net)
    assert "computes the same" in check(made, net)
    with pytest.raises(UserError, match="computes something else"):
        check(made, network("cifar_plain_igc8_l4m8"))
    made.graph.node[0].op_type = "Nothing"
    with pytest.raises(UserError, match="does not run the model: .*Nothing"):
        check(made, net)


def test_a_size_that_does_not_fit_and_what_has_no_scores():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3, in_channels=3))
    net.initialize()
    with pytest.raises(UserError, match="images of 3x2x2 do not fit the network"):
        graph.describe(net, (3, 2, 2))
    pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx

    with pytest.raises(UserError, match="this network gives 4x6x6"):
        to_onnx.model(graph.describe(net, (3, 8, 8)), (3, 8, 8), softmax=True)


def random_statistics(net):
    """Gives the batch normalizations of `net` values that matter."""
    random = np.random.default_rng(0)
    for name, parameter in net.collect_params(".*(gamma|beta|running_mean|running_var)$").items():
        low = 0.5 if name.endswith(("gamma", "var")) else -0.5
        parameter.set_data(mx.nd.array(random.uniform(low, low + 1, parameter.shape)))
    return net


@pytest.mark.parametrize(
    "name, left", [("cifar_plain_igc8_l4m8", 0), ("cifar_igcv3_d0.5", 0), ("cifar_sumfusion8_l4m8", 6)]
)
def test_batch_normalization_goes_into_the_convolution_before_it(name, left):
    """Through the permutations between them; not where branches are summed before it."""
    pytest.importorskip("onnx")
    from igc_gluon.export import to_onnx

    net = random_statistics(network(name))
    made = to_onnx.of_network(net)
    assert sum(node.op_type == "BatchNormalization" for node in made.graph.node) == left
    images = np.random.default_rng(1).standard_normal((2, 3, 32, 32)).astype(np.float32)
    close(run(made, images), net(mx.nd.array(images)).asnumpy(), 2e-4)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A .npy of pixels that look like something, as the shipped weights want them: blobs on black with its border."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:32, :32]
    places = random.uniform(10, 22, (64, 3, 2, 1, 1))
    blobs = 255 * np.exp(-((y - places[:, :, 0]) ** 2 + (x - places[:, :, 1]) ** 2) / 30).max(1)
    path = tmp_path_factory.mktemp("calibration") / "pictures.npy"
    np.save(path, np.repeat(blobs[..., None], 3, 3).astype(np.uint8))
    return path


@pytest.mark.parametrize("flags", [[], ["--normalize", "--softmax", "--batch-size", "4"]])
def test_8_bits(tmp_path, capsys, pictures, flags):
    """Every convolution reads bytes, whose weights are those of the float32 model to half a step of their scale."""
    onnx = pytest.importorskip("onnx")
    exact, out = str(tmp_path / "exact.onnx"), str(tmp_path / "net.onnx")
    assert main(["export", *SOURCE, exact, *flags]) == 0
    assert main(["export", *SOURCE, out, *flags, "--int8", "--calibration", str(pictures)]) == 0
    assert "% of the 64 images of the calibration keep their class" in capsys.readouterr().out
    made = onnx.load(out)
    assert {e.key for e in made.metadata_props} == {"model", "classes", "__preprocessing__"}
    maker = {node.output[0]: node for node in made.graph.node}
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    convolutions = [node for node in made.graph.node if node.op_type in ("Conv", "Gemm")]
    weights = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(exact).graph.initializer
        if len(tensor.dims) in (2, 4)
    ]
    assert len(convolutions) == len(weights) == 14
    for node, weight in zip(convolutions, weights):
        assert maker[node.input[0]].op_type == "DequantizeLinear"
        stored, scale, zero = (arrays[name] for name in maker[node.input[1]].input)
        assert stored.dtype == np.int8 and not zero.any()
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.size == len(weight) else scale
        assert np.all(np.abs(stored * scale - weight) <= 0.501 * scale)
    images = np.load(pictures)[:4]
    images = (
        images.transpose(0, 3, 1, 2)
        if flags
        else open_network(SHIPPED, dataset="fashion-mnist").preprocessing.normalize(images)
    )
    close(run(out, images), run(exact, images), 0.2)
    assert (run(out, images) != run(exact, images)).any()


@pytest.mark.parametrize(
    "out, flags, message",
    [
        ("net-symbol.json", ["--int8"], "--int8 goes with OUT.onnx and OUT.igc"),
        ("net.onnx", ["--calibration", "digits"], "--calibration goes with --int8"),
        ("net.onnx", ["--int8", "--calibration", "none.npy"], "cannot read images from none.npy"),
    ],
)
def test_mistakes_in_8_bits(tmp_path, capsys, out, flags, message):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    assert main(["export", *SOURCE, str(tmp_path / out), *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not list(tmp_path.iterdir()), error
