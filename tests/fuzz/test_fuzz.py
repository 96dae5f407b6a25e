"""Damaged and crafted files of every format that is read: refused in one line that names them, or read; never a crash,
a hang, 10 s of a processor or 512 MB.

`python tests/fuzz/test_fuzz.py damaged|crafted COUNT [FORMAT ...]` tries COUNT of each and prints the table of
docs/faults.md.
"""

import collections
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

COUNTS = {"damaged": 200, "crafted": 60}  # of each format in the short form
NAMES = tuple("params checkpoint record large-record symbol tar bin zip mat idx run note hostfile igc".split())


def fuzz(how, name, seed, count, folder):
    """Counter of what reading `count` files did, and a line for each that did wrong."""
    counts, wrong, number = collections.Counter(), [], 0
    while number < count:
        child = subprocess.run(
            [
                sys.executable,
                Path(__file__).with_name("fuzz_child.py"),
                how,
                name,
                str(seed),
                str(number),
                str(count),
                folder,
            ],
            capture_output=True,
            text=True,
        )
        lines = [line.partition(" ") for line in child.stdout.splitlines()]
        for tried, _, result in lines:
            number = int(tried) + 1
            kind = result.partition(" ")[0] or (
                "hung" if -child.returncode in (signal.SIGALRM, signal.SIGPROF) else "crashed"
            )
            counts["crashed" if kind == "wrong" else kind] += 1
            if kind not in ("refused", "accepted"):
                wrong.append(
                    f"{how} {name} {seed} {tried}: exit code {child.returncode} {result} {child.stderr[-300:]}"
                )
        if child.returncode and (not lines or lines[-1][2]):
            raise RuntimeError(f"{name}, exit code {child.returncode} after {number}: {child.stderr[-2000:]}")
    return counts, wrong


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["damaged", "crafted"])
def test_files_are_refused_or_read(how, name, tmp_path):
    counts, wrong = fuzz(how, name, 0, COUNTS[how], tmp_path / "samples")
    assert not wrong, wrong[:3]
    assert counts["refused"] + counts["accepted"] == COUNTS[how] and counts["refused"] >= 3, counts


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how", ["damaged", "crafted"])
def test_many_files(how, name, tmp_path):
    counts, wrong = fuzz(how, name, 1, 20000, tmp_path / "samples")
    print(dict(counts))
    assert not wrong, wrong[:3]


def main(how, count, *names):
    print("| format | tried | refused | accepted | crashed | hung |\n|---|---|---|---|---|---|")
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            counts, wrong = fuzz(how, name, 1, int(count), str(Path(folder, "samples")))
        print(
            f"| {name} | {sum(counts.values()):,} |",
            " | ".join(f"{counts[kind]:,}" for kind in ("refused", "accepted", "crashed", "hung")),
            "|",
            flush=True,
        )
        print(*wrong[:5], sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
