"""The loop that times one network in all peers: each in a process of its own, taking turns."""

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from igc_gluon.bench import machine
from igc_gluon.bench.networks import Network, write
from igc_gluon.bench.peers import PEERS

BUILD_LIMIT, CALL_LIMIT = 900, 300  # seconds until a worker counts as hung; torch.compile takes minutes
PAUSE = 0.05  # seconds between turns: threads of the one before spin for some milliseconds


class PeerFailed(Exception):
    """One line why a peer has no result."""


class Child:
    """A worker.py process, and the calls it answers."""

    def __init__(self, peer: str, threads: int) -> None:
        self.peer = peer
        environment = dict(
            os.environ,
            OMP_NUM_THREADS=str(threads),
            MXNET_SUBGRAPH_VERBOSE="0",
            IGC_NATIVE="1" if PEERS[peer].ours else "0",
        )
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "igc_gluon.bench.worker", peer, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, do: str, limit: float = CALL_LIMIT, **arguments: Any) -> Dict[str, Any]:
        try:
            self._requests.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        except BrokenPipeError:
            raise PeerFailed(self._last_words()) from None
        line, end = b"", time.monotonic() + limit
        while not line.endswith(b"\n"):
            if not select.select([self._answers], [], [], max(0, end - time.monotonic()))[0]:
                raise PeerFailed(f"no answer within {limit} s")
            piece = self._answers.read(1 << 16)
            if not piece:
                raise PeerFailed(self._last_words())
            line += piece
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"its process ended with code {code}" + (f": {lines[-1][:200]}" if lines else "")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._requests.close()
        self._answers.close()
        self._errors.close()


@dataclass
class Timing:
    """Of one peer: seconds per image of each repeat, wall and CPU; peak memory in bytes above the framework's own."""

    wall: list = field(default_factory=list)
    cpu: list = field(default_factory=list)
    memory: Optional[int] = None
    error: Optional[float] = None  # largest difference from ours / largest value of ours
    notes: list = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(self.wall)


@dataclass
class Result:
    """Of one network, batch size and number of threads."""

    network: str
    batch: int
    threads: int
    training: bool
    multiply_adds: int  # of an image, forward only
    timings: dict = field(default_factory=dict)  # by the peer's key
    missing: dict = field(default_factory=dict)  # reason by the peer's key
    peaks: dict = field(default_factory=dict)  # by instruction set, multiply-adds per second, a list of repeats
    bandwidth: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)


def candidates(keys: Sequence[str], training: bool) -> Tuple[List[str], Dict[str, str]]:
    """(those of `keys` that can be timed, {key: reason} of the others)."""
    usable, missing = [], {}
    for key in keys:
        peer = PEERS[key]
        if (peer.training if training else peer.inference) is None:
            continue
        absent = peer.missing()
        if absent:
            missing[key] = f"{' and '.join(absent)} not installed (pip install 'igc-gluon[bench]')"
        else:
            usable.append(key)
    return usable, missing


def measure(
    network: Network,
    batch: int,
    threads: int,
    training: bool = False,
    keys: Sequence[str] = tuple(PEERS),
    repeats: int = 7,
    seconds: float = 0.3,
    report: Callable[[str], None] = lambda text: None,
    children: Optional[Dict[str, Child]] = None,
) -> Result:
    """Result of `network` (networks.Network) in the peers `keys`, ours first.

    Each gets `repeats` turns of about `seconds`. children: workers {peer: Child} to be used again, and left open; by
    default each is started for this and ended. report(text) is told what is going on. Raises UserError if the
    network cannot be built, described or run by igc_gluon itself.
    """
    keys, missing = candidates(keys, training)
    own, opened = children is None, {} if children is None else children
    with tempfile.TemporaryDirectory() as folder:
        result = Result(
            network.title, batch, threads, training, write(network, folder) // network.repeats, missing=missing
        )
        try:
            calls, reference = {}, None
            for key in keys:  # all at once: their imports take the longest
                if key not in opened:
                    opened[key] = Child(key, threads)
            for key in keys:
                report(f"building {PEERS[key].title}")
                output = Path(folder) / f"{key}.npy"
                try:
                    built = opened[key].ask(
                        "build",
                        BUILD_LIMIT,
                        network=network.as_json(),
                        folder=folder,
                        batch=batch,
                        training=training,
                        output=str(output),
                    )
                except PeerFailed as failure:
                    missing[key] = str(failure)
                    opened.pop(key).close()
                    continue
                scores = np.load(output)
                reference = scores if reference is None else reference
                timing = result.timings[key] = Timing(notes=built["notes"])
                timing.error = float(np.abs(scores - reference).max() / np.abs(reference).max())
                result.versions.update(built["versions"])
                calls[key] = max(1, round(seconds / max(built["seconds"], 1e-6)))
            _take_turns(result, opened, calls, repeats, network.repeats, report)
            for key, timing in result.timings.items():
                memory = opened[key].ask("memory")
                if memory["peak"]:
                    timing.memory = memory["peak"] - memory["before"]
        finally:
            if own:
                for child in opened.values():
                    child.close()
    return result


def _take_turns(
    result: Result,
    children: Mapping[str, Child],
    calls: Mapping[str, int],
    repeats: int,
    divisor: int,
    report: Callable[[str], None],
) -> None:
    begin = time.monotonic()
    for repeat in range(repeats):
        left = f", {(time.monotonic() - begin) / repeat * (repeats - repeat):.0f} s left" if repeat else ""
        report(f"repeat {repeat + 1} of {repeats}{left}")
        for isa, rate in machine.peaks(result.threads).items():
            result.peaks.setdefault(isa, []).append(rate)
        for kind, rate in machine.bandwidth(result.threads).items():
            result.bandwidth.setdefault(kind, []).append(rate)
        order = list(result.timings)
        order = order[repeat % len(order) :] + order[: repeat % len(order)]  # no one always follows the same one
        for key in order:
            time.sleep(PAUSE)
            try:
                took = children[key].ask("time", calls=calls[key])
            except PeerFailed as failure:
                result.missing[key] = str(failure)
                del result.timings[key]
                continue
            images = calls[key] * result.batch * divisor
            result.timings[key].wall.append(took["wall"] / images)
            result.timings[key].cpu.append(took["cpu"] / images)
