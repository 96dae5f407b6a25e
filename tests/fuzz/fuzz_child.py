"""Reads damaged or crafted files of one format: `python fuzz_child.py HOW FORMAT SEED FIRST LAST FOLDER`.

A process of its own, which the test watches: what kills it must not take the tests along. Prints a line per file,
before and after it is read: its number, then `refused`, `accepted`, or `wrong` with the reason.
"""

import resource
import signal
import sys
import traceback
from pathlib import Path

import formats
from crafted import craft
from mutations import for_file, mutated

from igc_gluon.errors import UserError

LONGEST, ASLEEP = 10, 200  # seconds of CPU and on the wall for one file, on a machine that does other work too
MEMORY = 512 << 20  # bytes that may come on top of what the process has before it reads


def outcome(kind, path):
    """What reading does. A refusal must be one line that names the file or a folder above it."""
    try:
        kind.read(path)
    except UserError as error:
        text = str(error)
        if "\n" in text or not any(str(part) in text for part in (path, *list(path.parents)[:3])):
            return f"wrong message {text!r}"
        return "refused"
    except BaseException:
        return f"wrong {traceback.format_exc()[-600:]!r}"
    return "accepted"


def damage(kind, name, rng, samples):
    """The file to read, and {path: bytes} of it."""
    path, data = rng.choice(samples)
    is_text = path.suffix in (".json", ".jsonl", ".idx") if kind.is_text is None else kind.is_text
    return path, {path: mutated(data, rng, is_text and rng.random() < 0.9)}


def main(how, name, seed, first, last, folder):
    kind, samples = formats.FORMATS[name], formats.prepare(name, Path(folder))
    for path, _ in samples:
        assert outcome(kind, path) == "accepted", (path, outcome(kind, path))
    for number in range(first, last):
        rng = for_file(seed, name, number)
        path, files = craft(name, rng, samples) if how == "crafted" else damage(kind, name, rng, samples)
        print(number, end=" ", flush=True)
        for file, data in files.items():
            file.write_bytes(data)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))  # of reading, not of making it
        signal.setitimer(signal.ITIMER_PROF, LONGEST)  # the default action of both ends the process
        signal.alarm(ASLEEP)
        result = outcome(kind, path)
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        for file, data in samples:
            file.write_bytes(data)
        print(result, flush=True)


if __name__ == "__main__":
    how, name, seed, first, last, folder = sys.argv[1:]
    main(how, name, int(seed), int(first), int(last), folder)
