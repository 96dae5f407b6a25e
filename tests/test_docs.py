"""README and docs/ against the repository: links, anchors, flags, commands, paths, counts, examples."""

import contextlib
import io
import json
import re
from pathlib import Path

import pytest

import train_cifar
import train_imagenet
from igc_gluon import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LONGEST_README = 120
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NESTED = {"data": ("imagenet", "verify"), "checkpoint": ("ls", "verify", "diff")}
SCRIPTS = {"train_cifar.py": train_cifar, "train_imagenet.py": train_imagenet}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page, language):
    return [text for name, text in BLOCK.findall(page.read_text()) if name == language]


def code(page):
    """Lines of shell, and what stands between backticks."""
    text = page.read_text()
    return [line for block in blocks(page, "sh") for line in block.splitlines()] + re.findall(
        r"`([^`\n]+)`", BLOCK.sub("", text)
    )


def anchors(page):
    """Of every heading, where GitHub and mkdocs agree."""
    names = set()
    for heading in re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        if re.sub(r"\s", "-", plain) == re.sub(r"[-\s]+", "-", plain):
            names.add(re.sub(r"\s", "-", plain))
    return names


def flags_of_help(program, *words):
    """The flags that `program --help` lists; program: "igc" or a script's name."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        if program == "igc":
            cli.main([*words, "--help"])
        else:
            SCRIPTS[program].parse(["--help"])
    return set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", out.getvalue()))


@pytest.fixture(scope="module")
def known():
    """{("igc", command) or (script,): its flags}."""
    flags = {(script,): flags_of_help(script) for script in SCRIPTS}
    for command in cli.COMMANDS:
        nested = [flags_of_help("igc", command, word) for word in NESTED.get(command, ())]
        flags["igc", command] = flags_of_help("igc", command).union(*nested)
    return flags


def calls(page):
    """(("igc", command) or (script,), [flags]) of every call in the page's code."""
    for line in code(page):
        for part in re.split(r"&&| -- |;", line.split("  #")[0]):
            program = re.search(r"(?:^|[\s/])(igc) ([a-z]+)\b|(train_\w+\.py)\b", part)
            if program:
                yield (
                    tuple(filter(None, program.groups())),
                    re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", part[program.end() :]),
                )


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text())):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        target_file = (page.parent / path).resolve() if path else page
        assert target_file.is_file() and ROOT in target_file.parents, target
        assert not anchor or anchor in anchors(target_file), target


@pages
def test_commands_and_their_flags_exist(page, known):
    for program, flags in calls(page):
        assert program in known, f"there is no {' '.join(program)}"
        assert set(flags) <= known[program], f"{' '.join(program)} has no {set(flags) - known[program]}"


@pages
def test_flags_that_stand_alone_exist(page, known):
    """Of the scripts, of igc, or of a script beside the package."""
    everywhere = set().union(*known.values())
    others = "".join(
        path.read_text()
        for folder in ("benchmarks", "docs", "igc_gluon/native")
        for path in ROOT.glob(f"{folder}/*.py")
    )
    for span in code(page):
        flag = re.match(r"--[a-z][\w-]*", span)
        assert not flag or flag[0] in everywhere or f'"{flag[0]}"' in others or page.name == "CHANGELOG.md", flag[0]


@pages
def test_files_that_are_named_exist(page):
    for span in code(page):
        for name in re.findall(r"(?<![\w/.$~])(?:igc_gluon|tests|docs|benchmarks|symbols|examples)/[\w./-]*\w", span):
            path = ROOT / name
            assert path.exists() or path.parent.name == "_lib", name


def test_calls_are_found(known):
    """The tests above look at something."""
    all_calls = [call for page in PAGES for call in calls(page)]
    assert len(all_calls) > 60 and {program for program, _ in all_calls} == set(known)
    assert (("train_cifar.py",), ["--dataset", "--batch-shards", "--kv-store"]) in all_calls
    assert (("igc", "launch"), ["-n", "-s", "--max-restarts"]) in all_calls


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= LONGEST_README


def test_readme_counts():
    golden = json.loads((ROOT / "igc_gluon" / "model_zoo" / "models.json").read_text())
    rows = re.findall(
        r"^\| [^|]+ \| `(\w[\w.]+)` \| \d+x\d+ \| ([\d.]+) \| ([\d.]+) \|$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) >= 6
    for name, weights, multiply_adds in rows:
        row = golden[name]
        assert (f"{row['weights'] / 1e6:.3f}", f"{row['multiply_adds'] / 1e6:.1f}") == (weights, multiply_adds), name


def test_readme_test_command_is_what_ci_runs():
    """.ci/run takes the block behind the comment, and runs it in a fresh environment."""
    (block,) = re.findall(
        r"^<!-- test command -->\n```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert " -m pytest -q" in block and "test command" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.usefixtures("registry_as_before")
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = blocks(ROOT / page, "python")
    assert examples
    for text in examples:
        exec(compile(text, page, "exec"), {"__name__": "__main__"})  # noqa: S102  our own text


def test_site_builds(tmp_path):
    """Strictly: a link that leads nowhere, or a docstring that cannot be read, is an error."""
    pytest.importorskip("mkdocstrings")
    commands = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config").load_config(
        str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True
    )
    commands.build(config)
    assert (tmp_path / "index.html").is_file() and (tmp_path / "benchmarks" / "tried" / "index.html").is_file()


def test_every_test_that_the_table_of_faults_names_is_there():
    """`tests/x.py::test_name...` begins with a test's name; `::test_name` is in the file named last."""
    named, source = 0, ""
    for file, name in re.findall(
        r"`((?:tests/[\w/]+\.py)?)(?:::(test_\w+)[^`]*)?`", (ROOT / "docs/faults.md").read_text()
    ):
        source = (ROOT / file).read_text() if file else source
        named += bool(name)
        assert not name or f"def {name}" in source, (file, name)
    assert named > 90
