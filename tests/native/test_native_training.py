"""The training kernels against stock MXNet in float64, on every instruction set of this machine."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from igc_gluon import native
from igc_gluon.errors import UserError
from igc_gluon.native import library as lib
from igc_gluon.native.training import Body, Layer

pytestmark = pytest.mark.skipif(not native.available(), reason=str(native.why_not()))


def runs_here(name):
    try:
        lib.use_isa(name)
    except UserError:
        return False
    lib.use_isa()
    return True


ISAS = [name for name in lib.ISAS if native.available() and runs_here(name)]


@pytest.fixture(params=ISAS)
def isa(request):
    lib.use_isa(request.param)
    yield request.param
    lib.use_isa()


def permute(F, x, branches):
    return F.reshape(F.swapaxes(F.reshape(x, shape=(0, -4, branches, -1, -2)), dim1=1, dim2=2), shape=(0, -3, -2))


def stock(layers, x, parameters, running, dy):
    """The same in MXNet's operators, float64: output, gradients of parameters and x, moving statistics, inference."""
    F = mx.nd
    arrays = [F.array(p, dtype="float64") for p in parameters]
    moving = [F.array(r, dtype="float64") for r in running]
    data = F.array(x, dtype="float64")
    for a in arrays + [data]:
        a.attach_grad()

    def run():
        values, at = [data], iter(arrays)
        for i, l in enumerate(layers):
            y = F.Convolution(values[l.input], next(at), no_bias=True, kernel=(l.kernel,) * 2, pad=(l.kernel // 2,) * 2,
                              stride=(l.stride,) * 2, num_filter=l.channels, num_group=l.groups)
            if l.secondary:
                y = F.Convolution(permute(F, y, l.groups), next(at), no_bias=True, kernel=(1, 1), num_filter=l.channels,
                                  num_group=l.secondary)
                y = permute(F, y, l.secondary)
            y = F.BatchNorm(y, next(at), next(at), moving[2 * i], moving[2 * i + 1], eps=l.epsilon, momentum=l.momentum,
                            fix_gamma=False)
            if l.residual >= 0:
                y = y + values[l.residual]
            values.append(F.relu(y) if l.relu else y)
        return F.mean(values[-1], axis=(2, 3))

    inferred = run().asnumpy()
    with mx.autograd.record():
        y = run()
    y.backward(F.array(dy, dtype="float64"))
    mx.nd.waitall()
    return (y.asnumpy(), [a.grad.asnumpy() for a in arrays], data.grad.asnumpy(), [m.asnumpy() for m in moving], inferred)


def random_parameters(rng, shapes):
    return [(rng.standard_normal(s) * np.sqrt(2 / np.prod(s[1:])) if len(s) == 4 else
             rng.uniform(0.5, 1.5, s) if i % 2 == 0 else rng.normal(0, 0.3, s)).astype("float32")
            for i, s in enumerate(shapes)]


def close(found, expected, what, tolerance=1e-5):
    scale = max(np.abs(expected).max(), 1e-3) if expected.size else 1
    error = np.abs(found - expected).max() / scale if expected.size else 0
    assert error <= tolerance, f"{what}: {error:.2e}"


def compare(layers, shape, batch, threads=1, seed=0, tolerance=1e-5):
    rng = np.random.default_rng(seed)
    body = Body(layers, shape)
    parameters = random_parameters(rng, body.shapes)
    running = [a for l in layers for a in (rng.normal(0, 0.2, l.channels).astype("float32"),
                                           rng.uniform(0.5, 1.5, l.channels).astype("float32"))]
    x = rng.standard_normal((batch,) + shape).astype("float32")
    dy = rng.standard_normal((batch, layers[-1].channels)).astype("float32")
    y, gradients, dx, moving, inferred = stock(layers, x, parameters, running, dy)
    close(body.infer(x, parameters, running, threads), inferred, "inference", tolerance)
    close(body.forward(x, parameters, running, threads), y, "output", tolerance)
    found, found_dx = body.backward(dy, threads, data=True)
    for i, (f, e) in enumerate(zip(found, gradients)):
        close(f, e, f"gradient {i} of {body.shapes[i]}", tolerance)
    close(found_dx, dx, "gradient of x", tolerance)
    for i, (f, e) in enumerate(zip(running, moving)):
        close(f, e, f"moving statistic {i}", tolerance)
    return body


def test_one_layer(isa):
    compare([Layer(0, 16)], (3, 8, 8), 4)


def test_chain(isa):
    compare([Layer(0, 48), Layer(1, 48, 24, 2), Layer(2, 48, 24, 2), Layer(3, 96, 24, 4, stride=2), Layer(4, 96, 24, 4)], (3, 16, 16), 4, 2)


def test_chain_of_fours(isa):
    compare([Layer(0, 32), Layer(1, 32, 4, 8), Layer(2, 32, 4, 8), Layer(3, 64, 4, 16, stride=2), Layer(4, 64, 4, 16)], (3, 16, 16), 4, 2)
