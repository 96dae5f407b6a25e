"""The process that one peer runs in, for one number of threads: requests and answers are lines of JSON.

    {"do": "build", "network": ..., "folder": ..., "batch": 64, "training": false, "output": "scores.npy"}
        -> {"seconds": of a call, "notes": [lines from the log], "versions": {module: version}}
    {"do": "time", "calls": 5}     -> {"wall": seconds, "cpu": seconds of all threads}
    {"do": "memory"}               -> {"peak": bytes, "before": bytes with the framework imported}
An answer {"error": "one line"} in place of these; the end of the input ends the process.
"""

import argparse
import contextlib
import importlib
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, TextIO

import numpy as np

from igc_gluon.bench.networks import Network
from igc_gluon.bench.peers import PEERS, Job

SEED = 1
TRAINING_STEPS = 2  # the scores of so many steps are compared: the second one knows of every gradient


def _nothing() -> None:
    """In place of a call, until there is a network."""


class Worker:
    def __init__(self, peer: str, threads: int) -> None:
        self.peer, self.threads = PEERS[peer], threads
        self.notes: List[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: self.notes.append(record.getMessage())  # type: ignore[method-assign]
        if self.peer.ours:  # of the others everybody knows that they do without our kernels
            logging.getLogger("igc_gluon").addHandler(handler)
        for name in self.peer.needs:
            importlib.import_module(name)
        self._before = _memory()
        self._job: Optional[Job] = None
        self._call: Callable[[], Any] = _nothing

    def build(self, network: Dict[str, Any], folder: str, batch: int, training: bool, output: str) -> Dict[str, Any]:
        chosen = Network.from_json(network)
        self._job, self._call = None, _nothing  # what was built before is not part of this one's memory
        _reset_peak()
        random = np.random.RandomState(SEED)
        labels = random.randint(0, 10, batch).astype(np.float32)
        # Kept, because some peers use the memory of the images without holding on to it.
        self._job = Job(chosen, Path(folder), _images(random, batch, chosen.shape), labels, self.threads)
        start = self.peer.training if training else self.peer.inference
        assert start is not None, "measure.candidates leaves such peers out"
        self._call = start(self._job)
        scores = [_array(self._call()) for _ in range(TRAINING_STEPS if training else 1)]
        np.save(output, np.concatenate(scores))
        begin = time.perf_counter()
        self._call()
        return {
            "seconds": time.perf_counter() - begin,
            "notes": self.notes,
            "versions": {name: getattr(sys.modules[name], "__version__", "") for name in self.peer.needs},
        }

    def time(self, calls: int) -> Dict[str, float]:
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            self._call()
        return {"wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}

    def memory(self) -> Dict[str, Optional[int]]:
        return {"peak": _memory("VmHWM"), "before": self._before}


def _images(random: np.random.RandomState, batch: int, shape: Sequence[int]) -> np.ndarray:
    """Images that differ in their large patches, not in noise alone, which would look the same to a network."""
    channels, height, width = shape
    patches = random.standard_normal((batch, channels, 4, 4)).repeat(-(-height // 4), 2).repeat(-(-width // 4), 3)
    return (patches[:, :, :height, :width] + 0.3 * random.standard_normal((batch, *shape))).astype(np.float32)


def _array(scores: Any) -> np.ndarray:
    return np.array(scores.asnumpy() if hasattr(scores, "asnumpy") else scores)


def _memory(field: str = "VmRSS") -> Optional[int]:
    """Bytes; None where there is no /proc."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _reset_peak() -> None:
    with contextlib.suppress(OSError):  # the peak then counts imports too, if they needed more
        Path("/proc/self/clear_refs").write_text("5")


def serve(worker: Worker, requests: Iterable[str], answers: TextIO) -> None:
    for line in requests:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # of any framework: it becomes a line in the table
            text = [part.strip() for part in str(error).splitlines() if part.strip()]
            answer = {"error": f"{type(error).__name__}: {text[0] if text else ''}"[:300]}
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("threads", type=int)
    arguments = parser.parse_args()
    # Frameworks print to stdout; the answers keep it for themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Worker(arguments.peer, arguments.threads), sys.stdin, answers)


if __name__ == "__main__":
    main()
