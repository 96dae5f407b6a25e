"""Whole networks and single blocks here beside PyTorch, ONNX Runtime, OpenVINO and stock MXNet, in one run.

    python benchmarks/networks.py                      # all parts
    python benchmarks/networks.py --part training      # one of them; the table keeps the others' last results

Needs the peers: pip install -e ".[cpu,bench]" into an environment of its own. Writes results/networks.json and, from
all that is in there, results/networks.md.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from igc_gluon.threads import use_all_cores

use_all_cores()

import json  # noqa: E402

from igc_gluon.bench import machine, markdown  # noqa: E402
from igc_gluon.bench.cases import Bench, peer_keys  # noqa: E402
from igc_gluon.bench.measure import Result, Timing  # noqa: E402
from igc_gluon.bench.networks import Network, block, zoo  # noqa: E402
from igc_gluon.cli import exit_code  # noqa: E402
from igc_gluon.cli.parser import Parser  # noqa: E402
from igc_gluon.errors import UserError  # noqa: E402
from igc_gluon.files import write_atomically  # noqa: E402
from igc_gluon.native import library  # noqa: E402

RESULTS = Path(__file__).parent / "results"

L24M2 = zoo("cifar_plain_igc20_l24m2", title="IGC-L24M2, D=20")
L4M8 = zoo("cifar_plain_igc20_l4m8", title="IGC-L4M8, D=20")
W16 = zoo("cifar_plain20_w16", title="RegConv-W16, D=20")
IGCV2_SMALL = zoo("cifar_igcv2_20_c64", title="IGCV2-C64, D=20")
IGCV3_SMALL = zoo("cifar_igcv3_d1.0", title="IGCV3-D 1.0")
TINY = zoo("cifar_plain_igc20_l24m2", 200, 64, "IGC-L24M2, D=20, 64x64", stem_strides=2)
L100M2 = zoo("resnet18_igc_l100m2", title="IGC-L100M2 ResNet-18")
L16M16 = zoo("resnet18_igc_l16m16", title="IGC-L16M16 ResNet-18")
L4M32 = zoo("resnet18_igc_l4m32", title="IGC-L4M32 ResNet-18")
IGCV2 = zoo("igcv2_1.0", title="IGCV2-1.0")
IGCV3 = zoo("igcv3_1.0", title="IGCV3-1.0")
BLOCKS = [block(*numbers) for numbers in ((24, 2, 32), (24, 4, 16), (24, 8, 8), (4, 8, 32), (4, 16, 16), (4, 32, 8))]


class Case(NamedTuple):
    """single: also on one thread, for the CPU time. compiled: also torch.compile, which takes a minute or more."""

    network: Network
    batch: int
    training: bool = False
    single: bool = False
    compiled: bool = False


PARTS = {
    "inference": [Case(net, 64, single=True, compiled=True) for net in (L24M2, L4M8, W16)]
    + [Case(net, 64) for net in (IGCV2_SMALL, IGCV3_SMALL)]
    + [Case(net, 1) for net in (L24M2, L4M8, W16)],
    "training": [Case(net, 64, True, compiled=True) for net in (L24M2, L4M8, W16)]
    + [Case(net, 64, True) for net in (IGCV2_SMALL, IGCV3_SMALL)],
    "tiny-imagenet": [Case(TINY, 64), Case(TINY, 64, True)],
    "imagenet": [Case(net, 16, single=net is L100M2) for net in (L100M2, L16M16, L4M32, IGCV2, IGCV3)]
    + [Case(net, 1) for net in (L100M2, L16M16, L4M32, IGCV2, IGCV3)],
    "imagenet-training": [Case(L100M2, 16, True, compiled=True)],
    "blocks": [Case(net, 64) for net in BLOCKS] + [Case(net, 64, True) for net in BLOCKS],
}

NOTES = """\
Same network, same weights, one batch of the same images. Each peer runs in a process of its own, and they
take turns.

- Inside the clock: from a batch in the framework's own kind of array to the scores; a training step is forward, loss,
  backward and update (SGD, Nesterov), for igc_gluon and MXNet through `autograd.record`, `backward`, `Trainer.step`.
  igc_gluon's change between NCHW and its own order of channels is inside.
- Outside it, for all: making that array, compilation, warm-up; for PyTorch also the change to channels-last.
- Error: largest difference from igc_gluon's scores / largest score; in training of two steps.
- Memory: the peak of the process above that with the framework imported.
- "Permutations absorbed" is another network that computes the same, the strongest rewrite for an engine without IGC
  kernels: a group convolution and a dense 1x1 one. It does not count as the best peer.
- INT8 is calibrated on the timed images. Half precision and peers left to their own precision compute in 16 bits: they
  are compared with one another, and INT8 with INT8; all others are float32.
- Blocks: one of a chain of six, the average pooling and the scores behind them included.
- Left out, for the time that they take: torch.compile but for the first three networks and IGC-L100M2's training, one
  thread but for four networks, batches of 64 images of 224x224 (16 in their place).
- Of the FMA peak: multiply-adds of convolutions and the fully connected layer, three times those in training."""

TARGETS = (
    markdown.Target(L24M2.title, 8, 0.65, 7, 15),
    markdown.Target(L4M8.title, 4, 0.80, 3, 4),
    markdown.Target(W16.title, 1, 0.75),
    markdown.Target(L100M2.title, 1.9, 0.60, 2, 3),
    markdown.Target(L16M16.title, 1.5, 0.60),
    markdown.Target(L4M32.title, 1.5, 0.60),
    markdown.Target(IGCV2.title, 1.2, None),
    markdown.Target(IGCV3.title, 1.2, None),
)


def read(path):
    """{part: {title: what `measured` made}} of the file, empty if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def measured(bench, case):
    """What is written down of a case."""
    load = os.getloadavg()[0]
    both = bench.case(
        case.network,
        case.batch,
        case.training,
        case.single,
        () if case.compiled else ("torch-compile", "torch-compile-bfloat16"),
    )
    return {
        "result": asdict(both[0]),
        "single": both[1] and asdict(both[1]),
        "machine": f"{machine.describe()}; " + ", ".join(f"{p} on {library.units(p)}" for p in ("half", "int8")),
        "load": load,
        "versions": bench.versions(both[:1]),
        "repeats": bench.repeats,
        "seconds": bench.seconds,
    }


def result_of(fields):
    """The Result that asdict made `fields` of."""
    if fields is None:
        return None
    timings = {key: Timing(**timing) for key, timing in fields["timings"].items()}
    return Result(**dict(fields, timings=timings))


def page(parts):
    """results/networks.md"""
    entries = [entry for part in PARTS for entry in parts.get(part, {}).values()]
    results = [result_of(entry["result"]) for entry in entries]
    settings = dict.fromkeys(
        f"- {entry['machine']}; {entry['versions']}; median of {entry['repeats']} turns of about {entry['seconds']} s "
        "each, one after the other in every turn"
        for entry in entries
    )
    loads = [entry["load"] for entry in entries]
    lines = [
        "# Networks here and in other frameworks",
        "",
        NOTES,
        "",
        *settings,
        f"- load average of the machine at the start of a case: {min(loads):.1f} to {max(loads):.1f}",
        f"- {markdown.limits(results)}",
        "- `python benchmarks/networks.py`",
        "",
        "## Targets",
        "",
        markdown.verdicts(TARGETS, results),
        "",
        "What limits those that were not met, and what was tried: [tried.md](../tried.md).",
        "",
        markdown.claim(results, L24M2.title, W16.title),
        "",
        "## By the size of the errors",
        "",
        markdown.by_errors(results),
        "",
        "## Images/s",
        "",
        markdown.overview(results),
    ]
    for entry in entries:
        result = result_of(entry["result"])
        lines += [
            "",
            f"## {markdown.title(result)}",
            "",
            f"At that time, {markdown.limits([result])}.",
            "",
            markdown.table(result, result_of(entry["single"])),
        ]
    return "\n".join(lines) + "\n"


def main():
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="(default: all, one after the other)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="(default: all cores)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each, of which the median counts (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.2, help="length of a turn, about (default: 0.2)")
    parser.add_argument("--peers", metavar="A,B", help="only these beside igc_gluon (default: all that are installed)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder (default: benchmarks/results)")
    arguments = parser.parse_args()
    if min(arguments.threads, arguments.repeats, arguments.seconds) <= 0:
        raise UserError("--threads, --repeats and --seconds must be above 0")
    chosen = arguments.part or list(PARTS)
    bench = Bench(
        arguments.threads,
        peer_keys(arguments.peers),
        arguments.repeats,
        arguments.seconds,
        steps=sum(len(PARTS[part]) for part in chosen),
    )
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "networks.json"
    for part, case in ((name, case) for name in chosen for case in PARTS[name]):
        entry = measured(bench, case)
        parts = read(path)
        parts.setdefault(part, {})[markdown.title(result_of(entry["result"]))] = entry
        with write_atomically(path, "w") as file:
            json.dump(parts, file, indent=1)
        with write_atomically(arguments.output / "networks.md", "w") as file:
            file.write(page(parts))
    print(page(parts))


if __name__ == "__main__":
    sys.exit(exit_code(main))
