"""A run whose method learns from labels alone: what it trains, and what the stages after it make of that."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tsal.cli.commands import main
from tsal.run import Run
from tsal.stages import STAGES
from tsal.utils.paths import REPOSITORY

FEW = ("supervised.steps=2", "semi.steps=2", "tracker.synthetic_steps=0", "tracker.video_steps=0")
WHY = "the method supervised-3x learns from labels alone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "alone"
    run = ["--run", str(folder)]
    assert main(["data", "--profile", "smoke", "--method", "supervised-3x", *run, "--set", *FEW]) == 0
    assert main(["figures", *run]) == 0
    return folder


def test_it_trains_the_init_and_supervised_only_for_the_method_s_steps(folder):
    assert Run.open(folder).lists.unlabelled  # there are faces that another method would learn from
    times = {path.parent.name: json.loads(path.read_text())["steps"] for path in folder.glob("*/time.json")}
    assert times == {"tracker": 0, "init": 2, "supervised": 3 * 2}
    assert {path.parent.name for path in folder.glob("*/model.pt")} == {"tracker", "init", "supervised"}


def test_its_numbers_are_of_the_models_that_are_there_and_named_by_the_method(folder, capsys):
    rows = json.loads((folder / "metrics.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"init", "supervised"}
    assert main(["report", "--run", str(folder)]) == 0
    said = capsys.readouterr().out
    lines = [line.split("  ")[0] for line in said.splitlines() if " + " in line]
    assert lines == ["supervised init", "supervised-3x"] and "2 + 6 " in said
    assert not any(word in said for word in ("teacher", "student", "supervised only"))


def test_there_is_nothing_to_audit_and_every_stage_is_done(folder, capsys):
    assert main(["pseudo", "--run", str(folder)]) == 0
    assert f"nothing to audit: {WHY}\n" in capsys.readouterr().out and not (folder / "audit").exists()
    assert f"Nothing to show: {WHY}." in (folder / "figures" / "tables.md").read_text()
    assert STAGES["evaluate"].is_done(folder)
    measured = (folder / "metrics.json").stat().st_mtime
    os.utime(folder / "supervised" / "model.pt", (measured + 1, measured + 1))  # trained anew
    assert not STAGES["evaluate"].is_done(folder)


SHOWN = {
    "03_train": r"init +2\.0 .*\nsupervised +6\.0 ",
    "04_pseudo_labels": f"nothing to audit: {WHY}",
    "05_evaluate": r"\nsupervised init .* 2 \+ 0 .*\nsupervised-3x .* 2 \+ 6 ",
    "06_figures": rf"Nothing to show: {WHY}\.",
}


@pytest.mark.parametrize("name, said", SHOWN.items(), ids=SHOWN)
def test_notebooks_show_it_and_no_teacher(folder, name, said):
    assert main(["notebook", str(REPOSITORY / "notebooks" / f"{name}.ipynb"), "--run", str(folder)]) == 0
    cells = json.loads((folder / "executed" / f"{name}.ipynb").read_text())["cells"]
    outputs = [output.get("data", {}) | output for cell in cells for output in cell.get("outputs", [])]
    kinds = ("text", "text/plain", "text/markdown")
    shown = "\n".join("".join(output[kind]) for output in outputs for kind in kinds if kind in output)
    assert re.search(said, shown) and "teacher" not in shown, shown
