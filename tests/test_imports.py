"""Which module may import which, read off the sources, and what an import brings with it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# From below to above: a package imports from those before it, and of those in one row none another.
LAYERS = [
    {"errors", "processor"},
    {"environment"},
    {"channels", "exits", "paths", "locks", "threads", "progress_bar", "text_table", "theory", "native"},
    {"files", "launch", "graph"},
    {"downloads", "pictures"},
    {"params_file", "symbol_file", "complexity", "data", "nn"},
    {"model_zoo"},
    {"engine"},
    {"start"},
    {"deploy", "export", "paper", "report"},
    {"bench"},
    {"cli"},
]
# The packages themselves are imported from anywhere for their version and folder.
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# Beside an import in a function, above the first of several, or at the head of a module for all of its functions.
REASON = re.compile(r"#.*\b(slow|optional):")
FOR_ALL = re.compile(r"# Imports in functions are (slow|optional):")


class Module:
    def __init__(self, path):
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts).replace(".__init__", "")
        self.package = self.name.split(".")[1] if "." in self.name else ""
        self.path, self.lines = path.relative_to(ROOT), path.read_text(encoding="utf-8").splitlines()
        self.imports, self.unexplained = {}, []  # {module of this package: line}
        for_all = any(map(FOR_ALL.match, self.lines))
        tree = ast.parse("\n".join(self.lines))
        inner = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, (ast.FunctionDef, ast.Lambda))
            for node in ast.walk(function)
        }
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names]
                self.imports.update(
                    (name, node.lineno)
                    for name in (
                        [f"{node.module}.{name}" for name in names] if isinstance(node, ast.ImportFrom) else names
                    )
                    if name.split(".")[0] == "igc_gluon"
                )
                if id(node) in inner and not for_all and not self._has_reason(node):
                    self.unexplained.append(node.lineno)

    def _has_reason(self, node):
        if any(REASON.search(line) for line in self.lines[node.lineno - 1 : node.end_lineno]):
            return True
        above = node.lineno - 2
        while re.match(r"\s+(from|import) |\s*$|\s+\w+,$|\s+\)$", self.lines[above]):  # of the same block of imports
            above -= 1
        while self.lines[above].lstrip().startswith("#"):
            if REASON.search(self.lines[above]):
                return True
            above -= 1
        return False


@pytest.fixture(scope="module")
def modules():
    return {module.name: module for module in map(Module, sorted(ROOT.glob("igc_gluon/**/*.py")))}


def imported(modules, name):
    """The module of the package that an imported name is, or is of; the package itself is none."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return None if name == "igc_gluon" else name


def test_imports_go_one_way(modules):
    wrong = []
    for module in modules.values():
        if not module.package:
            continue
        for name, line in module.imports.items():
            other = imported(modules, name)
            if other is None:
                continue
            below = other.split(".")[1]
            if below != module.package and RANK[below] >= RANK[module.package]:
                wrong.append(f"{module.path}:{line}: {module.package} imports {below}")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others(modules):
    edges = {
        name: {imported(modules, other) for other in module.imports} - {None, name}
        for name, module in modules.items()
        if name != "igc_gluon"
    }
    done = set()

    def visit(name, way):
        assert name not in way, "a cycle: " + " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in edges[name]:
                visit(other, [*way, name])
            done.add(name)

    for name in edges:
        visit(name, [])


def test_an_import_in_a_function_has_its_reason(modules):
    """A comment 'slow: ...' or 'optional: ...' beside it, or above the first of several."""
    wrong_imports = [
        f"{module.path}:{line}: {module.lines[line - 1].strip()}"
        for module in modules.values()
        for line in module.unexplained
    ]
    assert not wrong_imports, "\n".join(wrong_imports)


LAZY = """
import sys
import igc_command, igc_gluon
try:
    igc_command.main()
except SystemExit as end:
    assert not end.code
heavy = {"mxnet", "requests", "matplotlib", "cv2", "sklearn", "tensorboardX", "gluoncv"}
commands = {name for name in sys.modules if name.startswith("igc_gluon.cli.")} - {"igc_gluon.cli.parser"}
assert not heavy & set(sys.modules) and not commands, (heavy & set(sys.modules), commands)
assert igc_gluon.theory.igc_params(24, 2, 9) and igc_gluon.data.DATASETS and igc_gluon.deploy.load
assert {"nn", "model_zoo", "data", "theory", "deploy", "get_model", "non_native_operators"} <= set(dir(igc_gluon))
from igc_gluon.cli.network_flags import add_option_argument
from igc_gluon.cli.parser import Parser
parser = Parser()
add_option_argument(parser)
assert parser.parse_args(["--option", "spatial=both"]).option == [("spatial", "both")]
assert "mxnet" not in sys.modules  # which reads its number of threads as it is imported
try:
    igc_gluon.nothing
except AttributeError as error:
    assert "nothing" in str(error)
"""


@pytest.mark.parametrize("flag, first", [("--help", "usage: igc "), ("--version", "igc-gluon ")])
def test_help_imports_no_command_and_modules_are_there_once_asked_for(flag, first):
    done = subprocess.run([sys.executable, "-c", LAZY, flag], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(first), done.stderr
