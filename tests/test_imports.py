"""Layout rules: imports go one way, from basic modules to dependent ones, and packages are used by their exports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tsal.utils.paths import PACKAGE, REPOSITORY

# a module or subpackage imports only from those above it
ORDER = (
    "utils",
    "settings", "config", "geometry", "schemes", "codecs", "averaging", "optimiser", "alarms",
    "data", "run", "guard", "loop",
    "losses", "model", "model_files", "initial", "supervision", "tracker", "pseudo", "trainer", "trainings",
    "evaluation", "faces", "synthetic", "prepare",
    "audit", "figures", "inference", "explorer", "stages", "bench", "cli",
)  # fmt: skip
PLACE = {name: place for place, name in enumerate(ORDER)}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, ``__init__`` files by their package's."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        paths[".".join(part for part in parts if part != "__init__")] = path
    return paths


def imports(path: Path) -> set[tuple[str, tuple[str, ...]]]:
    """(module after ``tsal.``, names) of every import of the package in a file, within functions too."""
    pairs = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = tuple(alias.name for alias in node.names)
            if node.module == "tsal":
                pairs |= {(name.lower() if name in ("Config", "Run") else name, ()) for name in names}
            elif (node.module or "").startswith("tsal."):
                pairs.add((node.module.removeprefix("tsal."), names))
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("tsal") for alias in node.names), f"{path}: import tsal.x"
    return pairs


def top(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_its_place_and_imports_from_none_below_it():
    paths = {name: path for name, path in modules().items() if name not in ("", "__main__")}
    assert {top(name) for name in paths} == set(ORDER)
    wrong = [
        f"{name} imports {other}"
        for name, path in paths.items()
        for other, _ in imports(path)
        if PLACE[top(other)] > PLACE[top(name)]
    ]
    assert not wrong


def test_a_subpackage_is_imported_by_its_init():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    wrong = [
        f"{name} imports tsal.{other}"
        for name, path in modules().items()
        for other, _ in imports(path)
        if "." in other and other != "utils.lazy" and top(other) in packages and top(other) != top(name)
    ]
    assert not wrong


def test_there_is_no_import_cycle():
    graph, done = {name: {other for other, _ in imports(path)} for name, path in modules().items()}, set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a cycle: {' -> '.join((*way, name))}"
        if name not in done and name in graph:
            for other in graph[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_a_subpackage_exports_names_that_exist(name):
    code = f"import tsal.{name} as package\n[getattr(package, name) for name in getattr(package, '__all__', [])]"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_the_package_has_the_names_of_a_user_s_program_and_is_imported_without_torch():
    """Errors are caught without it too: a program that only names the class does not load numpy."""
    code = """
import sys, tsal
assert issubclass(tsal.InputError, ValueError)
assert not {"torch", "cv2", "numpy"} & set(sys.modules)
print(*tsal.__all__)
[getattr(tsal, name) for name in tsal.__all__]
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert said.stdout.split() == ["Config", "InputError", "Landmarker", "Run", "Steadier", "steady"]


def test_evaluation_does_not_import_training():
    graph = {name: {other for other, _ in imports(path)} for name, path in modules().items()}
    packages = {
        path.parent.name: [n for n in graph if top(n) == path.parent.name] for path in PACKAGE.glob("*/__init__.py")
    }
    visited, ahead = set(), list(packages["evaluation"])
    while ahead:
        name = ahead.pop()
        if name not in visited:
            visited.add(name)
            ahead += [m for other in graph.get(name, ()) for m in packages.get(other, [other]) if other != "data"]
    assert not {"trainer", "trainings", "supervision", "losses"} & visited


def test_help_does_without_torch():
    code = (
        "import sys, tsal.cli as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True)


def test_make_s_first_call_does_with_python_alone():
    """A fresh machine has none of the packages; ``-S`` hides them."""
    command = [sys.executable, "-S", "-m", "tsal", "run-folder"]
    said = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert said == f"{REPOSITORY / 'outputs' / 'rendered-demo-s0'}\n"
