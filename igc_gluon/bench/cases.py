"""Cases one after the other, with progress and the time left: what `igc bench` and benchmarks/ share."""

import platform
import sys
import time
from typing import Iterable, List, Optional, Sequence, Tuple

import numpy as np

import igc_gluon
from igc_gluon.bench.measure import Result, measure
from igc_gluon.bench.networks import Network
from igc_gluon.bench.peers import PEERS
from igc_gluon.errors import UserError


def peer_keys(text: Optional[str] = None) -> List[str]:
    """Keys of PEERS: ours and those named in 'a,b', or all. Raises UserError on an unknown one."""
    named = [part.strip() for part in text.split(",")] if text else list(PEERS)
    unknown = [key for key in named if key not in PEERS]
    if unknown:
        raise UserError(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    return [key for key in PEERS if key in named or PEERS[key].ours]


class Bench:
    """Measures `steps` cases with the same settings and says on stderr how far it is."""

    def __init__(self, threads: int, keys: Sequence[str], repeats: int, seconds: float, steps: int) -> None:
        self.threads, self.keys, self.repeats, self.seconds, self.steps = threads, keys, repeats, seconds, steps
        self._done, self._begin = 0, time.monotonic()

    def case(
        self, network: Network, batch: int, training: bool, single: bool = True, without: Sequence[str] = ()
    ) -> Tuple[Result, Optional[Result]]:
        """(Result on all threads, Result on one thread or None) of a network, in all peers but `without`."""
        results = []
        for threads in (self.threads, 1)[: 1 + (single and self.threads > 1)]:
            name = f"{network.title}, {'training' if training else 'inference'}, batch {batch}, {threads} threads"
            keys = [key for key in self.keys if key not in without]
            results.append(
                measure(
                    network,
                    batch,
                    threads,
                    training,
                    keys,
                    self.repeats,
                    self.seconds,
                    lambda text: self.report(f"{name}: {text}"),
                )
            )
        self.advance()
        return results[0], results[1] if len(results) > 1 else None

    def advance(self) -> None:
        self._done += 1
        self.report("")

    def report(self, text: str) -> None:
        passed = time.monotonic() - self._begin
        left = f", about {passed / self._done * (self.steps - self._done) / 60:.0f} min left" if self._done else ""
        line = f"[{self._done}/{self.steps}, {passed / 60:.0f} min{left}] {text}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line if text else ''}", end="", file=sys.stderr, flush=True)
        elif text and "repeat" not in text:
            print(line, file=sys.stderr, flush=True)

    @staticmethod
    def versions(results: Iterable[Result]) -> str:
        versions = {"Python": platform.python_version(), "NumPy": np.__version__, "igc_gluon": igc_gluon.__version__}
        for result in results:
            versions.update(result.versions)
        return ", ".join(f"{name} {version.partition('-')[0]}" for name, version in versions.items())
