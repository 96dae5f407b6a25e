"""`igc checkpoint ls|verify|diff DIR`

A run may be at work in the folder: checkpoints go, and pointers move, while they are looked at.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Callable, List, Mapping, Sequence, Tuple, Union

import numpy as np

from igc_gluon.engine.checkpoint import POINTERS, CheckpointStore, position_of, read_state
from igc_gluon.errors import UserError, printable
from igc_gluon.paths import expand
from igc_gluon.text_table import table

GOING_SECONDS = 0.5  # for a run to remove a whole checkpoint, of which some files are gone already


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ls|verify|diff", required=True)
    for name, text in (
        ("ls", "what is there, oldest first"),
        ("verify", "read every byte; exit code 1 if a checkpoint is damaged"),
        ("diff", "compare two bit for bit; exit code 1 if they differ"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("dir", metavar="DIR", help="a run's folder, its checkpoints/, or one checkpoint")
    action.add_argument(
        "other", metavar="DIR", nargs="?", help="a second one (default: the first one's checkpoint before its last)"
    )


def run(args: argparse.Namespace) -> int:
    return {"ls": _list, "verify": _verify, "diff": _diff}[args.action](args)


def _store_and_names(path: Union[str, Path]) -> Tuple[CheckpointStore, List[str]]:
    """(store, names of the checkpoints that `path` stands for, oldest first). Raises UserError if there is none."""
    here = expand(path)
    for folder, name in ((here / "checkpoints", None), (here, None), (here.absolute().parent, here.absolute().name)):
        store = CheckpointStore(folder)
        names = store.names() if folder.is_dir() else []
        chosen = [n for n in names if name in (None, n)]
        if chosen:
            return store, chosen
    raise UserError(f"there is no checkpoint in {here}; name a run's folder, runs/digits/.../seed0 for example")


def _list(args: argparse.Namespace) -> int:
    store, names = _store_and_names(args.dir)
    rows = []
    for name in names:
        epoch, batch = position_of(name)
        try:
            accuracy, size = _accuracy_and_size(store.folder / name)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            if _is_gone(store, name):
                continue
            accuracy, size = "damaged", float("nan")
        pointers = ", ".join(which for which in POINTERS if store.pointer(which) == name)
        rows.append((name, epoch, batch, accuracy, f"{size / 1e6:.2f}", pointers))
    print(table(("checkpoint", "epochs", "batches", "test accuracy", "MB", ""), rows))
    return 0


def _accuracy_and_size(folder: Path) -> Tuple[str, float]:
    """(test accuracy as text, bytes of all files) of the checkpoint in `folder`, not verified. Raises one of several
    exceptions where it is damaged."""
    history = read_state(folder)["position"]["history"]
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{100 * float(history[-1]['test_accuracy']):.2f} %" if history else "-", size


def _is_gone(store: CheckpointStore, name: str) -> bool:
    """Whether the checkpoint that could not be read is one that a run removes at this moment."""
    return _comes_true(lambda: name not in store.names())


def _verify(args: argparse.Namespace) -> int:
    store, names = _store_and_names(args.dir)
    problems = 0
    for name in names:
        try:
            arrays, _ = store.load(name)
        except UserError as error:
            if not _is_gone(store, name):
                problems += 1
                print(error)
            continue
        tensors = {f"{file}: {key}": array for file, found in arrays.items() for key, array in found.items()}
        broken = [key for key, array in tensors.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
        problems += bool(broken)
        print(
            f"{name} is whole: {len(tensors)} arrays, {sum(a.nbytes for a in tensors.values()) / 1e6:.2f} MB"
            + (f"; not finite: {printable(', '.join(broken[:3]))}" if broken else "")
        )
    for which in POINTERS:
        if not _leads_somewhere(store, which):
            problems += 1
            print(f"the pointer {store.folder / which} leads to no checkpoint")
    return 1 if problems else 0


def _leads_somewhere(store: CheckpointStore, which: str) -> bool:
    """Whether the pointer `which` does. A run may move it, and remove what it led to, between two looks."""
    return _comes_true(lambda: store.pointer(which) is not None)


def _comes_true(condition: Callable[[], bool]) -> bool:
    """Whether `condition` holds now or within GOING_SECONDS."""
    limit = time.monotonic() + GOING_SECONDS
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True


def _diff(args: argparse.Namespace) -> int:
    store, names = _store_and_names(args.dir)
    if args.other:
        # A run stands for its last checkpoint, the one that --resume would take.
        other, others = _store_and_names(args.other)
        chosen = [(store, _last(store, names)), (other, _last(other, others))]
    elif len(names) < 2:
        raise UserError(f"{args.dir} holds only {names[0]}; name a second checkpoint or run to compare it with")
    else:
        chosen = [(store, names[-2]), (store, names[-1])]
    (first, first_state), (second, second_state) = (s.load(name) for s, name in chosen)
    print("\n".join(f"{sign} {s.folder / name}" for sign, (s, name) in zip("-+", chosen)))
    differ = _print_state("", first_state, second_state)
    for file in first:
        differ |= _print_arrays(file, first[file], second[file])
    print("they differ" if differ else "the same, bit for bit")
    return 1 if differ else 0


def _last(store: CheckpointStore, names: Sequence[str]) -> str:
    return names[-1] if len(names) == 1 else store.pointer("last") or names[-1]


def _print_state(where: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Prints what differs between two states, by key; of lists, times and speeds nothing. Returns whether any does."""
    differ = False
    for key in sorted({*first, *second}):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differ |= _print_state(f"{where}{key}.", a, b)
        elif a != b and key not in ("seconds", "history"):
            differ = True
            print(printable(f"  {where}{key}: {a} -> {b}"))
    return differ


def _print_arrays(file: str, first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    """Prints how the arrays of one file differ. Returns whether they do."""
    for sign, names in (("-", [n for n in first if n not in second]), ("+", [n for n in second if n not in first])):
        for name in names:
            print(f"  {file}: {sign} {printable(name)}")
    differ, worst, where = 0, 0.0, ""
    both = [name for name in first if name in second]
    for name in both:
        a, b = first[name], second[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            print(f"  {file}: {printable(name)}: {a.dtype} {a.shape} -> {b.dtype} {b.shape}")
            differ += 1
        elif a.tobytes() != b.tobytes():
            with np.errstate(all="ignore"):
                gap = np.abs(a.astype(np.float64) - b).max() / max(np.abs(a).max(), np.finfo(np.float32).tiny)
            differ += 1
            if gap > worst or np.isnan(gap):
                worst, where = np.nan_to_num(gap, nan=np.inf), name
    if differ:
        print(
            f"  {file}: {differ} of {len(both)} arrays differ"
            + (f", {printable(where)} the most: by {worst:.1e} of its largest value" if where else "")
        )
    return bool(differ) or set(first) != set(second)
