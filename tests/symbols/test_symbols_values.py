"""What the symbols compute: against the paper's equations in numpy, and one step of the Module API."""

import mxnet as mx
import numpy as np
import pytest

import symbols
from symbols import common


def random_values(symbol, data_shape):
    """Values of every argument and auxiliary state that keep the signal near unit size."""
    rng = np.random.RandomState(0)
    arguments, _, states = symbol.infer_shape(data=data_shape)
    values = {}
    for name, shape in zip(symbol.list_arguments() + symbol.list_auxiliary_states(), arguments + states):
        if name.endswith(("gamma", "moving_var")):
            values[name] = rng.uniform(0.5, 1.5, shape)
        elif name.endswith("weight"):
            values[name] = rng.randn(*shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values[name] = rng.randn(*shape) * 0.5
    return {name: value.astype("float32") for name, value in values.items()}


def infer(symbol, layers, values):
    """{layer: its output in inference}"""
    internals = symbol.get_internals()
    outputs = mx.sym.Group([internals[f"{layer}_output"] for layer in layers])
    feed = {name: mx.nd.array(value) for name, value in values.items()}
    arguments = {name: feed[name] for name in outputs.list_arguments()}
    states = {name: feed[name] for name in outputs.list_auxiliary_states()}
    executor = outputs.bind(mx.cpu(), arguments, grad_req="null", aux_states=states)
    return dict(zip(layers, (out.asnumpy() for out in executor.forward(is_train=False))))


def reorder(data, branch_factor):
    """The definition: out[j*b + i] = in[i*(C/b) + j]."""
    branch = data.shape[1] // branch_factor
    out = np.empty_like(data)
    for i in range(branch_factor):
        for j in range(branch):
            out[:, j * branch_factor + i] = data[:, i * branch + j]
    return out


@pytest.mark.parametrize("channels, factor", [(6, 2), (6, 3), (12, 4), (35, 5), (5, 1), (5, 5)])
def test_reorder(channels, factor):
    reordered = common.reorder(mx.sym.Variable("data"), "there", factor)
    back = common.reorder(reordered, "back", channels // factor)
    value = np.random.RandomState(0).randn(2, channels, 3, 4).astype("float32")
    values_of = infer(back, ["there", "back"], {"data": value})
    np.testing.assert_array_equal(values_of["there"], reorder(value, factor))
    np.testing.assert_array_equal(values_of["back"], value)


@pytest.mark.parametrize("downsample, partitions", [("paper", 6), ("code", 3)])
def test_reorders_of_a_down_sampling_block(downsample, partitions):
    symbol = symbols.get_symbol("resnet_igc", 10, 8, 4, 3, downsample=downsample)
    values = random_values(symbol, (1, 3, 32, 32))
    for unit, secondary in (("g2_b1_p2_two1", partitions), ("g2_b1_p2_two2", 6)):
        names = [f"{unit}_{layer}" for layer in ("conv1", "reorder1", "conv2", "reorder2")]
        conv1, reorder1, conv2, reorder2 = infer(symbol, names, values).values()
        np.testing.assert_array_equal(reorder1, reorder(conv1, 4))
        np.testing.assert_array_equal(reorder2, reorder(conv2, secondary))


# Convolutions in numpy, as the dense matrices that the paper's equations have.


def block_diagonal(weight, groups):
    """(out, in / groups, k, k) to the dense (out, in, k, k), equation 1."""
    out, partition, *kernel = weight.shape
    dense = np.zeros((out, partition * groups, *kernel))
    for group in range(groups):
        rows = slice(group * out // groups, (group + 1) * out // groups)
        dense[rows, group * partition : (group + 1) * partition] = weight[rows]
    return dense


def permutation(primary, secondary):
    """P^T of equation 2: the m-th secondary partition is the m-th channel of each primary partition."""
    matrix = np.zeros((primary * secondary, primary * secondary))
    for p in range(primary):
        for m in range(secondary):
            matrix[m * primary + p, p * secondary + m] = 1
    return matrix


def pointwise(data, matrix):
    return np.einsum("oi,nihw->nohw", matrix, data)


def convolve(data, weight, stride=1):
    """3x3 with padding 1."""
    padded = np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = data.shape[2:]
    return sum(
        pointwise(padded[:, :, y : y + height : stride, x : x + width : stride], weight[:, :, y, x])
        for y in range(3)
        for x in range(3)
    )


def batch_norm(data, values, name):
    gamma, beta, mean, var = (
        values[f"{name}_bn_{suffix}"].reshape(-1, 1, 1) for suffix in ("gamma", "beta", "moving_mean", "moving_var")
    )
    return gamma * (data - mean) / np.sqrt(var + 2e-5) + beta


def relu(data):
    return np.maximum(0, data)


# What stands before a BN: layers(data, values, name, L, M of the stage, stride).


def regular(data, values, name, primary, secondary, stride=1):
    return convolve(data, values[f"{name}_conv_weight"], stride)


def igc(data, values, name, primary, secondary, stride=1):
    """x' = P Ws P^T Wp x, equation 5."""
    w_p = block_diagonal(values[f"{name}_conv1_weight"], primary)
    w_s = block_diagonal(values[f"{name}_conv2_weight"], secondary)[:, :, 0, 0]
    p_t = permutation(primary, secondary)
    return pointwise(convolve(data, w_p, stride), p_t.T @ w_s @ p_t)


def summation(data, values, name, primary, secondary, stride=1):
    """The sum of L convolutions of the same input."""
    weights = values[f"{name}_conv_weight"].reshape(primary, secondary, -1, 3, 3)
    return sum(convolve(data, weight, stride) for weight in weights)


def plain_block(layers, data, values, name, primary, secondary, stride):
    return relu(batch_norm(layers(data, values, name, primary, secondary, stride), values, name))


def residual_block(layers, data, values, name, primary, secondary, stride):
    first, second, line = f"{name}_p2_two1", f"{name}_p2_two2", f"{name}_p0_line"
    body = relu(batch_norm(layers(data, values, first, primary, secondary, stride), values, first))
    body = batch_norm(layers(body, values, second, primary, secondary), values, second)
    if stride == 2:
        weight = block_diagonal(values[f"{line}_conv_weight"], primary if layers is igc else 1)[:, :, 0, 0]
        data = batch_norm(pointwise(data[:, :, ::2, ::2], weight), values, line)
    return relu(data + body)


def scores_in_numpy(block, layers, values, primary, secondary, blocks_per_stage):
    """Scores before the softmax."""
    fc = "fc" if block is residual_block else "fc_score"
    data = relu(batch_norm(convolve(values["data"], values["g0_conv_weight"]), values, "g0"))
    for stage in range(3):
        for i in range(blocks_per_stage):
            name, stride = f"g{stage + 1}_b{i + 1}", 2 if stage > 0 and i == 0 else 1
            data = block(layers, data, values, name, primary, secondary * 2**stage, stride)
    return data.mean(axis=(2, 3)) @ values[f"{fc}_weight"].T + values[f"{fc}_bias"]


@pytest.mark.parametrize(
    "network, depth, primary, secondary, block, layers",
    [
        ("plain", 8, 3, 2, plain_block, regular),
        ("plain_igc", 8, 3, 2, plain_block, igc),
        ("plain_igc", 8, 1, 4, plain_block, igc),
        ("plain_igc", 8, 5, 1, plain_block, igc),
        ("sumfusion", 8, 3, 2, plain_block, summation),
        ("resnet", 14, 3, 2, residual_block, regular),
        ("resnet_igc", 14, 3, 2, residual_block, igc),
    ],
)
def test_network_computes_its_equations(network, depth, primary, secondary, block, layers):
    symbol = symbols.get_symbol(network, 10, depth, primary, secondary)
    values = random_values(symbol, (2, 3, 32, 32))
    double = {name: value.astype("float64") for name, value in values.items()}
    scores = scores_in_numpy(block, layers, double, primary, secondary, blocks_per_stage=2)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    fc = "fc" if block is residual_block else "fc_score"
    outputs = infer(symbol, [fc, "softmax"], values)
    largest = np.abs(scores).max()  # 3 to 5 in the plain nets, 20 to 60 in the residual ones
    assert largest > 0.1
    np.testing.assert_allclose(outputs[fc] / largest, scores / largest, atol=1e-5)
    np.testing.assert_allclose(outputs["softmax"], probabilities, atol=1e-5)


@pytest.mark.parametrize("network", symbols.NETWORKS)
def test_one_module_step_changes_every_parameter(network):
    rng = np.random.RandomState(0)
    batch = mx.io.NDArrayIter(
        rng.randn(8, 3, 32, 32).astype("float32"), rng.randint(0, 4, 8).astype("float32"), batch_size=8
    )
    depth = 18 if "imgnet" in network else 8
    module = mx.mod.Module(symbols.get_symbol(network, 4, depth, 2, 2), context=mx.cpu())
    module.bind(batch.provide_data, batch.provide_label)
    module.init_params(mx.init.Xavier())
    before = [{name: value.copy() for name, value in params.items()} for params in module.get_params()]
    # waitall: the trap that the docstring of `symbols` describes.
    module.fit(
        batch,
        num_epoch=1,
        optimizer="sgd",
        optimizer_params={"learning_rate": 0.1},
        arg_params=before[0],
        aux_params=before[1],
        force_init=True,
        batch_end_callback=lambda _: mx.nd.waitall(),
    )
    for old, new in zip(before, module.get_params()):
        assert sorted(old) == sorted(new)
        for name, value in new.items():
            assert np.isfinite(value.asnumpy()).all(), name
            assert not np.array_equal(value.asnumpy(), old[name].asnumpy()), name
