"""Imports run one way, from what knows little to what knows much."""

from __future__ import annotations

import ast
import subprocess
import sys

from tsal.__main__ import REPOSITORY

LAYERS = [  # a module imports from layers above its own line here, or beside it
    {"errors", "averaging", "diagnosis"},
    {"files", "geometry", "schemes"},
    {"config", "checkpoints"},
    {"codecs", "losses", "shapes", "metrics", "losses_flow", "data.heads_mesh", "data.heads_skin", "data.heads",
     "data.rendered_scene", "data.rendered_drawing", "data.rendered", "data.pictures", "data.lists", "data.crops",
     "data.photometric", "data.views", "data.known_flow", "model", "tracker"},
    {"data.building", "data.leaks", "data.matlab", "data.finder", "data.shots", "data.boxes_file", "data.faces", "data.video",
     "data.photographs", "data.release_300w", "data.release_300vw", "data.release_aflw", "data.release_youtube"},
    {"tracker_training", "supervision", "pseudo", "runs", "prepare"},
    {"trainer", "loop"},
    {"evaluate", "evaluate_flow"},
    {"audit", "analysis"},
    {"training"},
    {"stages", "predict"},
    {"style", "tables", "figures_audit", "figures_breakdown", "figures_compare", "figures_data", "figures_evaluation", "explorer_views",
     "explorer_panels", "overlay"},
    {"figures", "report", "notebook", "track", "explorer"},
    {"__main__", "bench", "methods"},
]  # fmt: skip


def imports(lazy: bool = True) -> dict[str, set[str]]:
    """Modules of the package -> those that they import; ``lazy``: also within functions."""
    found = {}
    for path in (REPOSITORY / "tsal").rglob("*.py"):
        name = ".".join(path.relative_to(REPOSITORY / "tsal").with_suffix("").parts)
        if name.endswith("__init__"):
            continue
        tree = ast.parse(path.read_text())
        nodes = [node for node in (ast.walk(tree) if lazy else tree.body) if isinstance(node, (ast.Import, ast.ImportFrom))]
        targets = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{name}: a relative import"
                targets |= {f"tsal.{alias.name}" for alias in node.names} if node.module == "tsal" else {node.module}
        found[name] = {target.removeprefix("tsal.") for target in targets if target.startswith("tsal.")}
    return found


def test_every_module_has_its_layer_and_imports_from_none_below_it():
    place = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    found = imports()
    assert set(found) == set(place)
    wrong = [f"{name} imports {other}" for name, others in found.items() for other in others if place[other] > place[name]]
    assert not wrong


def test_no_module_imports_itself_by_a_detour():
    found, done = imports(), set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in found[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in found:
        visit(name, ())


def test_evaluation_does_not_know_training():
    found = imports()

    def reach(name: str) -> set[str]:
        return {name}.union(*(reach(other) for other in found[name]))

    assert not {"trainer", "training", "stages", "losses", "supervision"} & reach("evaluate")


def test_help_does_without_torch():
    code = "import sys, tsal.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True)
