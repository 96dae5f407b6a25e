"""Who is timed: PEERS, a row each. Runs in worker.py's process; nothing here is imported before it is needed.

What is inside the clock: from a batch in the framework's own kind of array, in the memory of the CPU, to the
scores in one; a training step is forward, loss, backward and update of the weights (SGD with Nesterov momentum 0.9
and weight decay 1e-4), the loss read. Outside: conversion of the batch to that kind of array, to channels-last
order too, compilation, warm-up. igc_gluon's own conversion between NCHW and its order of channels is inside.
"""

# Imports in functions are optional: each peer is a process of its own, which imports what it needs.
import importlib.util
from pathlib import Path
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

import numpy as np

from igc_gluon.bench.networks import Network

LEARNING_RATE, MOMENTUM, DECAY = 1e-3, 0.9, 1e-4


class Job(NamedTuple):
    """What a peer gets: a folder that networks.write made, images (batch, C, H, W), labels (batch,), threads."""

    network: Network
    folder: Path
    images: np.ndarray
    labels: np.ndarray
    threads: int

    def nodes(self) -> List[Any]:
        from igc_gluon.export import graph

        return graph.load(self.folder / "graph.npz")


class Peer(NamedTuple):
    """needs: modules. inference(job), training(job): return a function without arguments, one call of which is timed;
    it returns the scores, as something that numpy.asarray takes or with asnumpy(). None: the peer cannot. precision: by
    whose errors it belongs with others: float32 (exact to rounding), half (16 bits) or int8."""

    title: str
    needs: Tuple[str, ...]
    inference: Optional[Callable]
    training: Optional[Callable] = None
    ours: bool = False
    modified: bool = False  # runs another network that computes the same
    precision: str = "float32"

    def missing(self) -> List[str]:
        """The modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


Call = Callable[[], Any]  # what is timed; returns the scores
Starter = Callable[[Job], Call]


def _calibration(job: Job) -> np.ndarray:
    """Images for the ranges of 8-bit integers. The speed does not depend on them: those that are timed will do."""
    return np.resize(job.images, (max(8, len(job.images)), *job.network.shape))


def _compiled(precision: str) -> Starter:
    def inference(job: Job) -> Call:
        from igc_gluon import deploy
        from igc_gluon.deploy.runtime import float32_reason

        fast = deploy.compile(
            _network(job),
            job.network.shape,
            job.threads,
            precision=precision,
            calibration=_calibration(job) if precision == "int8" else None,
        )
        reason = float32_reason(fast)
        if reason:
            raise RuntimeError(f"runs in float32 here: {reason}")
        return lambda: fast(job.images)

    return inference


def _network(job: Job) -> Any:
    net = job.network.build()
    net.load_parameters(str(job.folder / "net.params"))
    return net


def _mxnet_inference(job: Job, backend: Optional[str] = None) -> Call:
    import mxnet as mx

    net, x = _network(job), mx.nd.array(job.images)
    if backend:
        net.optimize_for(x, backend=backend, static_alloc=True, static_shape=True)
    else:
        net.hybridize(static_alloc=True, static_shape=True)

    def call() -> Any:
        y = net(x)
        y.wait_to_read()
        return y

    return call


def _mxnet_training(job: Job) -> Call:
    import mxnet as mx
    from mxnet import autograd, gluon

    from igc_gluon.engine.optimizer import AuthorsNesterov

    net, x, labels = _network(job), mx.nd.array(job.images), mx.nd.array(job.labels)
    net.hybridize(static_alloc=True)
    measure = gluon.loss.SoftmaxCrossEntropyLoss()
    measure.hybridize()
    trainer = gluon.Trainer(net.collect_params(), AuthorsNesterov(MOMENTUM, learning_rate=LEARNING_RATE, wd=DECAY))

    def step() -> Any:
        with autograd.record():
            scores = net(x)
            loss = measure(scores, labels)
        loss.backward()
        trainer.step(len(x))
        loss.mean().asscalar()
        mx.nd.waitall()
        return scores

    return step


def _torch_network(job: Job, channels_last: bool) -> Tuple[Any, Any]:
    import torch

    from igc_gluon.bench import to_torch

    torch.set_num_threads(job.threads)
    net, x = to_torch.module(job.nodes()), torch.from_numpy(job.images)
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return net, x


def _torch_inference(channels_last: bool = False, compiled: bool = False, bfloat16: bool = False) -> Starter:
    def inference(job: Job) -> Call:
        import torch

        net, x = _torch_network(job, channels_last)
        net.eval()
        if compiled:
            import torch._inductor.config

            torch._inductor.config.freezing = True  # folds BN and packs weights
            net = torch.compile(net)

        def call() -> Any:
            precision = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
            with torch.inference_mode() if not compiled else torch.no_grad(), precision:
                return net(x).float()

        return call

    return inference


def _torch_training(channels_last: bool = False, compiled: bool = False) -> Starter:
    def training(job: Job) -> Call:
        import torch

        from igc_gluon.bench import to_torch

        net, x = _torch_network(job, channels_last)
        labels = torch.from_numpy(job.labels.astype(np.int64))
        optimizer = torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=DECAY, nesterov=True)
        if compiled:
            net = torch.compile(net)
        return lambda: to_torch.training_step(net, x, labels, optimizer).detach()

    return training


def _onnx(job: Job, rewritten: bool = False, quantized: bool = False) -> bytes:
    """quantized: as `igc export --int8` makes it."""
    from igc_gluon.bench import rewrite
    from igc_gluon.export import to_onnx

    nodes = rewrite.absorb_permutations(job.nodes()) if rewritten else job.nodes()
    if not quantized:
        return to_onnx.model(nodes, job.network.shape, len(job.images)).SerializeToString()
    from igc_gluon.export import graph, int8

    made = int8.quantized(to_onnx.model(graph.fold_batch_norms(nodes), job.network.shape), _calibration(job))
    return int8.with_batch(made, len(job.images)).SerializeToString()


def _onnxruntime(quantized: bool = False) -> Starter:
    def inference(job: Job) -> Call:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
        model = _onnx(job, quantized=quantized)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"images": job.images})[0]

    return inference


def _openvino(rewritten: bool = False, own_precision: bool = False) -> Starter:
    """own_precision: left to itself, as a user would run it; then it takes bfloat16 where the processor has it."""

    def inference(job: Job) -> Call:
        import openvino

        core = openvino.Core()
        model = core.read_model(_onnx(job, rewritten), b"")
        options = {"INFERENCE_NUM_THREADS": job.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if not own_precision:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        network = core.compile_model(model, "CPU", options)
        taken = network.get_property("INFERENCE_PRECISION_HINT").to_string()
        if own_precision and taken == "f32":
            raise RuntimeError("takes float32 here, when left to itself too")
        request = network.create_infer_request()
        images = openvino.Tensor(job.images, shared_memory=True)  # nothing is copied within the clock

        def call() -> Any:
            request.infer({0: images})
            return request.get_output_tensor().data

        return call

    return inference


PEERS = {
    "igc": Peer("igc_gluon, compiled", ("mxnet",), _compiled("float32"), ours=True),
    "igc-gluon": Peer("igc_gluon, in Gluon", ("mxnet",), _mxnet_inference, _mxnet_training, ours=True),
    "igc-half": Peer("igc_gluon, compiled, half", ("mxnet",), _compiled("half"), ours=True, precision="half"),
    "igc-int8": Peer("igc_gluon, compiled, INT8", ("mxnet",), _compiled("int8"), ours=True, precision="int8"),
    "mxnet": Peer("MXNet, hybridized", ("mxnet",), _mxnet_inference, _mxnet_training),
    "mxnet-onednn": Peer("MXNet, oneDNN fusion", ("mxnet",), lambda job: _mxnet_inference(job, "MKLDNN")),
    "torch": Peer("PyTorch, eager", ("torch",), _torch_inference(), _torch_training()),
    "torch-channels-last": Peer(
        "PyTorch, channels_last", ("torch",), _torch_inference(channels_last=True), _torch_training(channels_last=True)
    ),
    "torch-compile": Peer(
        "PyTorch, torch.compile", ("torch",), _torch_inference(compiled=True), _torch_training(compiled=True)
    ),
    "torch-bfloat16": Peer(
        "PyTorch, bfloat16, channels_last",
        ("torch",),
        _torch_inference(channels_last=True, bfloat16=True),
        precision="half",
    ),
    "torch-compile-bfloat16": Peer(
        "PyTorch, bfloat16, torch.compile",
        ("torch",),
        _torch_inference(channels_last=True, compiled=True, bfloat16=True),
        precision="half",
    ),
    "onnxruntime": Peer("ONNX Runtime", ("onnx", "onnxruntime"), _onnxruntime()),
    "onnxruntime-int8": Peer(
        "ONNX Runtime, INT8", ("onnx", "onnxruntime"), _onnxruntime(quantized=True), precision="int8"
    ),
    "openvino": Peer("OpenVINO", ("onnx", "openvino"), _openvino()),
    "openvino-rewrite": Peer(
        "OpenVINO, permutations absorbed", ("onnx", "openvino"), _openvino(rewritten=True), modified=True
    ),
    "openvino-own": Peer(
        "OpenVINO, its own precision", ("onnx", "openvino"), _openvino(own_precision=True), precision="half"
    ),
    "openvino-own-rewrite": Peer(
        "OpenVINO, its own precision, permutations absorbed",
        ("onnx", "openvino"),
        _openvino(rewritten=True, own_precision=True),
        modified=True,
        precision="half",
    ),
}
