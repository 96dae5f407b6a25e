"""Damaged files of every format that is read: refused in one line that names them, or read; never a crash or a hang.

`python tests/fuzz/test_fuzz.py COUNT [FORMAT ...]` tries COUNT of each and prints the table of docs/faults.md.
"""
import collections
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

COUNT = 200  # of each format in the short form
NAMES = ("params", "checkpoint", "record", "large-record", "symbol", "tar", "bin", "zip", "mat", "idx", "run")


def fuzz(name, seed, count, folder):
    """Counter of what reading `count` damaged files did, and a line for each that did wrong."""
    counts, wrong, number = collections.Counter(), [], 0
    while number < count:
        child = subprocess.run([sys.executable, Path(__file__).with_name("fuzz_child.py"), name, str(seed), str(number),
                                str(count), folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        lines = [line.partition(" ") for line in child.stdout.splitlines()]
        for tried, _, result in lines:
            number = int(tried) + 1
            kind = result.partition(" ")[0] or \
                ("hung" if -child.returncode in (signal.SIGALRM, signal.SIGPROF) else "crashed")
            counts["crashed" if kind == "wrong" else kind] += 1
            if kind not in ("refused", "accepted"):
                wrong.append(f"{name} {seed} {tried}: exit code {child.returncode} {result} {child.stderr[-300:]}")
        if child.returncode and (not lines or lines[-1][2]):
            raise RuntimeError(f"{name}, exit code {child.returncode} after {number}: {child.stderr[-2000:]}")
    return counts, wrong


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_or_read(name, tmp_path):
    counts, wrong = fuzz(name, 0, COUNT, tmp_path / "samples")
    assert not wrong, wrong[:3]
    assert counts["refused"] + counts["accepted"] == COUNT and counts["refused"] > 20


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_many_damaged_files(name, tmp_path):
    counts, wrong = fuzz(name, 1, 20000, tmp_path / "samples")
    print(dict(counts))
    assert not wrong, wrong[:3]


def main(count, *names):
    print("| format | tried | refused | accepted | crashed | hung |\n|---|---|---|---|---|---|")
    for name in names or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            counts, wrong = fuzz(name, 1, int(count), str(Path(folder, "samples")))
        print(f"| {name} | {sum(counts.values()):,} |",
              " | ".join(f"{counts[kind]:,}" for kind in ("refused", "accepted", "crashed", "hung")), "|", flush=True)
        print(*wrong[:5], sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
