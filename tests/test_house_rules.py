"""Rules about the source that no linter checks: no pickle, no machine's paths, nothing overlong."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
TEXT = [
    path
    for pattern in (
        "*.md",
        "*.toml",
        "*.txt",
        "Makefile",
        "src/**/*.py",
        "tests/**/*.py",
        "benchmarks/**/*.py",
        "docs/**/*",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file() and path.suffix not in (".png", ".parquet")
]
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "pickle", "shelve"}


def relative(path):
    return str(path.relative_to(ROOT))


def imported(tree):
    """The top-level names of all modules that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_no_pickle_path_exists(path):
    tree = ast.parse(path.read_text())
    assert UNSAFE_MODULES & set(imported(tree)) == set()
    allowed = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    assert all(isinstance(node.value, ast.Constant) and node.value.value is False for node in allowed)


@pytest.mark.parametrize("path", SOURCE, ids=relative)
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            code = node.body[1:] if ast.get_docstring(node) else node.body
            lines = (code[-1].end_lineno or 0) - code[0].lineno + 1 if code else 0
            assert lines < 50, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", TEXT, ids=relative)
def test_no_path_of_a_machine_is_written_down(path):
    home = re.compile(r"(?<![\w.])/(home|root|Users)/\w")
    found = [line for line in path.read_text().splitlines() if home.search(line) or f"{ROOT}/" in line]
    assert found == []


def test_every_dependency_is_pinned_and_nothing_else_is_said():
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pin = re.compile(r'[\w.-]+==[\w.]+(?: ; python_version (?:<|>=) "3\.\d+")?')
    assert [line for line in pins if not pin.fullmatch(line)] == []
    pinned = {line.split("==")[0].lower() for line in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["test"], *extras["bench"]]
    assert {re.split(r"[\[<>=!~ ]", name)[0].lower() for name in needed} - pinned == set()
