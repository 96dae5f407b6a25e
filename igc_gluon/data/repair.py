"""Finds the broken records of a file, and writes a file without them."""

import os
import shlex
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Deque, List, Tuple, Union

from igc_gluon.data import record_file, recordio
from igc_gluon.errors import UserError
from igc_gluon.files import write_atomically
from igc_gluon.paths import expand
from igc_gluon.progress_bar import progress_bar

DAMAGE = "no whole record lies there"


@dataclass
class Report:
    """Of a file: how many records are whole, (number, position in bytes, what is wrong) of the others, the labels'
    range."""

    whole: int = 0
    broken: List[Tuple[int, int, str]] = field(default_factory=list)
    smallest_label: float = float("inf")
    largest_label: float = float("-inf")

    def structure(self) -> record_file.Structure:
        return record_file.Structure(self.whole, self.smallest_label, self.largest_label)


def verify(path: Union[str, Path], out: Union[str, Path, None] = None, threads: int = 1) -> Report:
    """The `Report` on every record of the file at `path`, whose images are decoded one and all.

    out: None, or where to write the whole ones, with index. Raises UserError if the file cannot be read, or has no
    whole record to write.
    """
    path, out = expand(path), None if out is None else expand(out)
    try:
        if out is None:
            return _scan(path, lambda payload: None, threads)
        if Path(out).suffix != ".rec":
            raise UserError(f"{out} should end in .rec; its index gets the same name with .idx")
        if Path(out).exists():
            raise UserError(f"{out} exists; choose another name")
        with write_atomically(out) as file:
            positions: List[int] = []

            def keep(payload: bytes) -> None:
                positions.append(file.tell())
                file.write(recordio.frame(payload))

            report = _scan(path, keep, threads)
            if not report.whole:
                raise UserError(f"{path} has no whole record")
            _write_index(out, positions)
        record_file.write_facts(Path(out), report.structure())
        return report
    except OSError as error:
        raise UserError(f"cannot read {error.filename or path}: {error.strerror or error}") from None


def write_index(path: Union[str, Path]) -> int:
    """Writes the index of a file whose records are whole, and returns their number. Raises UserError on others."""
    try:
        positions = []
        for position, payload in recordio.scan(path):
            if payload is None:
                raise UserError(
                    f"{path} is damaged at byte {position:,}; igc data verify {shlex.quote(str(path))} "
                    "--repair OUT.rec drops what is"
                )
            positions.append(position)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not positions:
        raise UserError(f"{path} has no records")
    _write_index(path, positions)
    return len(positions)


def _write_index(path: Union[str, Path], positions: List[int]) -> None:
    with write_atomically(record_file.index_path(path), "w") as file:
        file.writelines(f"{number}\t{position}\n" for number, position in enumerate(positions))


def _scan(path: Union[str, Path], keep: Callable[[bytes], object], threads: int) -> Report:
    report = Report()
    waiting: Deque[Any] = deque()

    def take_oldest() -> None:
        number, position, payload, job = waiting.popleft()
        problem, label = job.result() if job else (DAMAGE, None)
        if problem or label is None:
            report.broken.append((number, position, problem or DAMAGE))
            return
        report.whole += 1
        report.smallest_label = min(report.smallest_label, label)
        report.largest_label = max(report.largest_label, label)
        keep(payload)

    size = os.path.getsize(path)
    # OpenCV decodes outside Python's lock, so that threads do.
    with ThreadPoolExecutor(threads) as pool, progress_bar(
        total=size, unit="B", unit_scale=True, delay=1, leave=False, desc=f"reading {Path(path).name}"
    ) as bar:
        for number, (position, payload) in enumerate(recordio.scan(path)):
            job = None if payload is None else pool.submit(recordio.problem_and_label, payload)
            waiting.append((number, position, payload, job))
            if len(waiting) > 8 * threads:
                take_oldest()
            bar.update(position - bar.n)
        while waiting:
            take_oldest()
    return report
