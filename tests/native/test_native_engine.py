"""The native operators among MXNet's own threads and devices."""

import os
import subprocess
import sys

import mxnet as mx
import pytest

import igc_gluon
from igc_gluon import deploy
from igc_gluon.errors import UserError
from igc_gluon.native.operators import unavailable_reason

pytestmark = pytest.mark.skipif(unavailable_reason() is not None, reason=str(unavailable_reason()))

# Trains two networks, each alone and then both at once, every step from two threads at the same moment.
TRAINS = """
import sys, threading
import mxnet as mx, numpy as np
import igc_gluon
from igc_gluon.engine.optimizer import AuthorsNesterov
from igc_gluon.native import operators

assert operators.unavailable_reason() is None
LOSS = mx.gluon.loss.SoftmaxCrossEntropyLoss()
SHAPE = (8, 3, 16, 16)

def made(name, seed):
    mx.random.seed(seed)
    net = igc_gluon.get_model(name, classes=5)
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    net(mx.nd.zeros(SHAPE))
    optimizer = AuthorsNesterov(learning_rate=0.05, wd=1e-4)
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, kvstore=None)
    rng = np.random.default_rng(seed)
    return net, trainer, [(mx.nd.array(rng.standard_normal(SHAPE)), mx.nd.array(rng.integers(0, 5, SHAPE[0])))
                          for _ in range(15)]

def train(net, trainer, batches, barrier, losses):
    for data, label in batches:
        barrier.wait(60)
        with mx.autograd.record():
            loss = LOSS(net(data), label)
        loss.backward()
        trainer.step(len(data))
        losses.append(loss.asnumpy())

def trained(names, at_once):
    runs = [made(name, seed) for seed, name in enumerate(names)]
    barrier, losses, threads = threading.Barrier(len(runs) if at_once else 1), [[] for _ in runs], []
    for run, found in zip(runs, losses):
        threads.append(threading.Thread(target=train, args=(*run, barrier, found)))
        threads[-1].start()
        if not at_once:
            threads[-1].join()
    for thread in threads:
        thread.join()
    return [[*found, *(p.data().asnumpy() for p in run[0].collect_params().values())]
            for run, found in zip(runs, losses)]

alone, together = (trained(sys.argv[1:], at_once) for at_once in (False, True))
for one, other in zip(alone, together):
    assert len(one) == len(other) > 20 and np.isfinite(one[14]).all() and (one[0] != one[14]).any()
    for i, (a, b) in enumerate(zip(one, other)):
        assert a.tobytes() == b.tobytes(), i
print("the same bits")
"""


@pytest.mark.parametrize("workers", ["2", "4"])
@pytest.mark.parametrize(
    "names", [("cifar_plain_igc8_l4m2", "cifar_plain_igc8_l4m2"), ("cifar_plain_igc8_l24m2", "cifar_igcv2_8_c18")]
)
def test_networks_trained_at_once_end_with_the_bits_of_each_alone(names, workers):
    done = subprocess.run(
        [sys.executable, "-c", TRAINS, *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        env=dict(os.environ, MXNET_CPU_WORKER_NTHREADS=workers, OMP_NUM_THREADS="2"),
    )
    assert done.returncode == 0 and done.stdout.endswith("the same bits\n"), done.stdout[-3000:]


def test_an_array_on_a_gpu_is_refused(monkeypatch):
    net = igc_gluon.get_model("cifar_plain_igc8_l4m2", classes=5)
    net.initialize()
    x = mx.nd.zeros((1, 3, 16, 16))
    if mx.context.num_gpus() == 0:
        with pytest.raises(mx.MXNetError, match="(?i)gpu"):
            net(x.as_in_context(mx.gpu())).wait_to_read()
    compiled = deploy.compile(net, x.shape[1:])
    # There need be no GPU.
    monkeypatch.setattr(mx.nd.NDArray, "context", property(lambda array: mx.gpu(0)))
    with pytest.raises(UserError) as said:
        compiled(x)
    assert str(said.value) == "images are on gpu(0); this runs on the CPU: x.as_in_context(mx.cpu())"
    monkeypatch.setattr(mx.nd, "igc_body_infer", None)  # which is not tried
    with pytest.raises(RuntimeError, match=r"not initialized on context gpu\(0\)"):
        net(x)
