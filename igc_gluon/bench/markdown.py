"""Results as tables in Markdown, and beside targets."""

import statistics
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from igc_gluon.bench.measure import Result
from igc_gluon.bench.peers import PEERS

TRAINING_FACTOR = 3  # multiply-adds of a training step over those of the forward pass: two more products backward


def ours(result: Result, precision: str = "float32") -> Optional[str]:
    """The key of our own timing that the others are compared with, or None."""
    return next((key for key in result.timings if PEERS[key].ours and PEERS[key].precision == precision), None)


def peers(result: Result, prefix: str = "", modified: bool = False, precision: str = "float32") -> Dict[str, float]:
    """{key: seconds per image} of those of this precision that are not ours, whose key begins with `prefix`."""
    return {
        key: timing.seconds
        for key, timing in result.timings.items()
        if key.startswith(prefix)
        and not PEERS[key].ours
        and (modified or not PEERS[key].modified)
        and PEERS[key].precision == precision
    }


def peak(result: Result) -> Optional[float]:
    """Multiply-adds per second of the fastest instruction set, or None."""
    return max((statistics.median(rates) for rates in result.peaks.values()), default=None)


def share_of_peak(result: Result, key: str) -> Optional[float]:
    fastest = peak(result)
    if fastest is None:
        return None
    factor = TRAINING_FACTOR if result.training else 1
    return factor * result.multiply_adds / result.timings[key].seconds / fastest


def title(result: Result) -> str:
    what = "training step" if result.training else "inference"
    return f"{result.network}, {what}, batch {result.batch}, {result.threads} thread{'s' * (result.threads > 1)}"


def table(result: Result, single: Optional[Result] = None) -> str:
    """Markdown. single: the Result of the same on one thread, whose CPU time is then shown."""
    header, rows = cells(result, single)
    lines = [_line([title(result), *header[1:]]), "|---" * len(header) + "|", *map(_line, rows)]
    return "\n".join([*lines, *(f"\n{remark}" for remark in remarks(result))])


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def cells(result: Result, single: Optional[Result] = None) -> Tuple[List[str], List[List[str]]]:
    """(header, rows) of a table of `result`, the fastest first. single: see `table`."""
    single = result if single is None and result.threads == 1 else single
    header = [
        "with",
        "steps' images/s" if result.training else "images/s",
        "slowest to fastest",
        "ms of CPU an image, 1 thread",
        "of the FMA peak",
        "memory, MB",
        "error",
        "igc_gluon against it",
        "by CPU time",
    ]
    by_speed = sorted(result.timings, key=lambda key: result.timings[key].seconds)
    return header, [_row(result, single, key) for key in by_speed]


def _row(result: Result, single: Optional[Result], key: str) -> List[str]:
    timing, base = result.timings[key], ours(result)
    alone = single.timings.get(key) if single else None
    cpu = statistics.median(alone.cpu) if alone else None
    share, slower, slower_cpu = share_of_peak(result, key), None, None
    if base:
        slower = timing.seconds / result.timings[base].seconds
        if cpu is not None and single and base in single.timings:
            slower_cpu = cpu / statistics.median(single.timings[base].cpu)
    return [
        PEERS[key].title + (" (not native)" if PEERS[key].ours and timing.notes else ""),
        f"{1 / timing.seconds:,.1f}",
        f"{1 / max(timing.wall):,.1f} to {1 / min(timing.wall):,.1f}",
        "" if cpu is None else f"{1e3 * cpu:.3g}",
        "" if share is None else f"{100 * share:.0f} %",
        "" if timing.memory is None else f"{timing.memory / 1e6:.0f}",
        f"{timing.error:.0e}" if timing.error else "-",
        "" if slower is None else f"{slower:.2f}x",
        "" if slower_cpu is None else f"{slower_cpu:.2f}x",
    ]


def remarks(result: Result) -> List[str]:
    """Lines on what was left out, by the reason, and on what was timed."""
    left_out: Dict[str, List[str]] = {}
    for key, reason in result.missing.items():
        left_out.setdefault(reason, []).append(PEERS[key].title)
    lines = [f"Left out: {'; '.join(names)}: {reason}" for reason, names in left_out.items()]
    return lines + [f"{PEERS[key].title}: {note}" for key, timing in result.timings.items() for note in timing.notes]


def limits(results: Sequence[Result]) -> str:
    """A line on what the machine could do while `results` were measured: medians over all repeats."""
    threads = max(result.threads for result in results)
    parts = []
    for attribute, unit, name in (("peaks", "GMAC/s", "FMA peak {}"), ("bandwidth", "GB/s", "memory {}")):
        rates: Dict[str, List[float]] = {}
        for result in results:
            for key, values in getattr(result, attribute).items():
                rates.setdefault(key, []).extend(values if result.threads == threads else [])
        parts += [f"{name.format(key)} {statistics.median(values) / 1e9:.1f} {unit}" for key, values in rates.items()]
    return f"{threads} threads: " + (", ".join(parts) or "no compiler, so the FMA peak is not known")


def overview(results: Sequence[Result]) -> str:
    """Markdown: a row for each of `results`, a column for each peer, images/s."""
    keys = [key for key in PEERS if any(key in result.timings for result in results)]
    lines = [
        "| network | batch | " + " | ".join(PEERS[key].title for key in keys) + " | against the best peer |",
        "|---" * (len(keys) + 3) + "|",
    ]
    for result in results:
        cells = [f"{1 / result.timings[key].seconds:,.1f}" if key in result.timings else "" for key in keys]
        best = min(peers(result).values(), default=None)
        ratio = f"{best / result.timings[ours(result)].seconds:.2f}x" if best and ours(result) else ""
        name = result.network + (", training" if result.training else "")
        lines.append(f"| {name} | {result.batch} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines)


ERRORS = {"float32": "exact to rounding", "half": "16 bits", "int8": "8 bits"}


def by_errors(results: Sequence[Result]) -> str:
    """Markdown: inference in each precision beside the best peer whose errors are of the same size, networks that are
    rewritten for it among them."""
    lines = [
        "| network | batch | errors | ours, images/s | our error | best peer | its images/s | its error | against it |",
        "|---" * 9 + "|",
    ]
    for result in results:
        for precision, errors in ERRORS.items() if not result.training else ():
            key, times = ours(result, precision), peers(result, modified=True, precision=precision)
            if not key:
                continue
            own, cells = result.timings[key], ("none", "", "", "")
            if times:
                best = min(times, key=times.__getitem__)
                cells = (
                    PEERS[best].title,
                    f"{1 / times[best]:,.1f}",
                    f"{result.timings[best].error:.0e}" if result.timings[best].error else "-",
                    f"{times[best] / own.seconds:.2f}x",
                )
            error = f"{own.error:.0e}" if own.error else "-"
            row = (result.network, str(result.batch), errors, f"{1 / own.seconds:,.1f}", error, *cells)
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


class Target(NamedTuple):
    """Speeds to reach: ratios to the speed of others, None: no target."""

    network: str
    inference: Optional[float]  # to the best unmodified peer
    peak: Optional[float]  # share of the FMA peak, inference
    torch: Optional[float] = None  # training, to PyTorch's best
    mxnet: Optional[float] = None  # training, to stock MXNet


def verdicts(targets: Sequence[Target], results: Sequence[Result]) -> str:
    """Markdown: each of `targets` beside what `results` say; what was not measured is left out.

    The largest measured batch counts. The last column: the share of the FMA peak that the target takes.
    """
    lines = ["| network | what | measured | target | met | target as share of the FMA peak |", "|---" * 6 + "|"]
    for target in targets:
        for training in (False, True):
            matching = [r for r in results if r.network == target.network and r.training == training and ours(r)]
            if not matching:
                continue
            result = max(matching, key=lambda r: (r.threads, r.batch))
            key = ours(result) or ""  # `matching` have one
            own, own_share, best = result.timings[key].seconds, share_of_peak(result, key), peers(result)
            rows = (
                [
                    ("training step, against PyTorch's best", peers(result, "torch"), target.torch),
                    ("training step, against stock MXNet", peers(result, "mxnet"), target.mxnet),
                ]
                if training
                else [("inference, against the best peer", best, target.inference)]
            )
            for what, times, target_ratio in rows:
                if target_ratio is not None and times:
                    fastest = min(times, key=times.__getitem__)
                    of_peak = share_of_peak(result, fastest)
                    share = "" if of_peak is None else f"{100 * target_ratio * of_peak:.0f} %"
                    lines.append(
                        _verdict(
                            target.network,
                            f"{what} ({PEERS[fastest].title})",
                            times[fastest] / own,
                            target_ratio,
                            "{:.2f}x",
                            share,
                        )
                    )
            if not training and target.peak is not None and own_share is not None:
                lines.append(
                    _verdict(
                        target.network,
                        "inference, of the FMA peak",
                        100 * own_share,
                        100 * target.peak,
                        "{:.0f} %",
                        f"{100 * target.peak:.0f} %",
                    )
                )
    return "\n".join(lines)


def _verdict(network: str, what: str, measured: float, target: float, form: str, share: str) -> str:
    return (
        f"| {network} | {what} | {form.format(measured)} | {form.format(target)} | "
        f"{'yes' if measured >= target else 'no'} | {share} |"
    )


def claim(results: Sequence[Result], igc: str, regular: str) -> str:
    """Markdown lines: our `igc` against the network `regular` on any peer, the papers' claim on a clock."""
    lines = []
    for training in (False, True):
        cases = {(r.batch, r.threads): r for r in results if r.network == regular and r.training == training}
        for result in results:
            other = cases.get((result.batch, result.threads))
            if result.network != igc or result.training != training or not other or not ours(result):
                continue
            times = peers(other)
            if times:
                fastest = min(times, key=times.__getitem__)
                ratio = times[fastest] / result.timings[ours(result)].seconds
                lines.append(
                    f"- {title(result)}: {ratio:.2f} times the images/s of {regular} on the best peer "
                    f"({PEERS[fastest].title}): {'faster' if ratio > 1 else 'not faster'}"
                )
    return "\n".join(lines)
