"""Seven landmarks of one's own, some of them hidden, from a scheme's file and lists to figures and predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tsal.audit.store import Audit
from tsal.cli.commands import main
from tsal.config import RenderConfig
from tsal.data.lists import read_list, write_list
from tsal.data.points import read_points, write_points
from tsal.run import Run
from tsal.synthetic.dataset import render_dataset
from tsal.trainings import batch_maker
from tsal.utils.errors import InputError
from tsal.utils.files import read_arrays

PICKED = [36, 39, 42, 45, 30, 48, 54]  # of the 68: corners of the eyes, tip of the nose, corners of the mouth
SCHEME = """
points: 7
flip: [[0, 3], [1, 2], [5, 6]]
ocular: [0, 3]
lines: {left eye: 0 1, right eye: 2 3, nose: 4, mouth: 5 6}
"""
OUTER, NOSE = 0, 4
FAST = [
    "supervised.steps=6",
    "semi.steps=4",
    "train.checkpoint_every=100",
    "tracker.synthetic_steps=3",
    "tracker.video_steps=2",
]
CPU = torch.device("cpu")


def seven(root: Path) -> None:
    """Rewrite every annotation of a rendered dataset; hidden points get coordinates that would ruin what used them."""
    for name in ("labelled", "unlabelled-truth", "val"):
        for number, face in enumerate(read_list(root / "lists" / f"{name}.txt")):
            points = read_points(root / face.annotation, 68)[0][PICKED]
            visible = np.ones(7, bool)
            if name == "labelled":
                visible[number % 9 : number % 9 + 1] = False  # one of the seven, or none
            elif name == "val":
                visible[{0: [NOSE], 1: [OUTER], 2: list(range(7))}.get(number, [])] = False
            points[~visible] = 1e6
            write_points(root / face.annotation, points, visible)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """A run of every stage -> its folder, the data's, and its options; the scheme's file is gone after ``data``."""
    root, folder = tmp_path_factory.mktemp("seven") / "faces", tmp_path_factory.mktemp("runs") / "run"
    render_dataset(root, RenderConfig(labelled=10, clips=3, validation=2, frames=3, side=96), workers=1, progress=False)
    seven(root)
    (root / "seven.yaml").write_text(SCHEME)
    options = [
        "--profile",
        "smoke",
        "--data",
        "seven",
        "--root",
        str(root),
        "--set",
        f"data.scheme={root / 'seven.yaml'}",
        *FAST,
        "data.audit_labels=unlabelled-truth.txt",
    ]
    assert main(["data", "--run", str(folder), *options]) == 0
    (root / "seven.yaml").unlink()
    for stage in ("tracker", "train", "pseudo", "evaluate", "figures"):
        assert main([stage, "--run", str(folder)]) == 0, stage
    return folder, root, options


def test_every_stage_has_seven_landmarks_and_finite_numbers(finished_run):
    folder, _, _ = finished_run
    audit, table = Audit.open(folder / "audit"), read_arrays(folder / "predictions.npz")
    assert table["points"].shape == (5, 4, 6, 7, 2) and table["scores"].shape == (5, 4, 6, 7)  # the rival, the window
    assert np.isfinite(table["points"]).all() and np.isfinite(table["scores"]).all()
    points = audit.labels("teacher")[0].points
    assert points.shape == (6, 9, 7, 2) and np.isfinite(points).all()
    assert audit.visible.all() and np.isfinite(audit.frames.norm_px).all()
    for name in ("init", "supervised", "rival", "semi"):
        rows = np.genfromtxt(folder / name / "history.csv", delimiter=",", names=True)
        assert np.isfinite(rows["loss"]).all() and (rows["loss"] < 1e4).all(), name  # a hidden point at 1e6 would show
    assert len(list((folder / "figures").glob("*.png"))) >= 8


def test_hidden_landmarks_are_left_out_of_the_nme_and_faces_that_cannot_be_measured_are_named(finished_run):
    folder, root, _ = finished_run
    table, report = read_arrays(folder / "predictions.npz"), json.loads((folder / "metrics.json").read_text())
    images = [face.image for face in read_list(root / "lists" / "val.txt")]
    assert report["degenerate"] == [f"val.txt:2 {images[1]}", f"val.txt:3 {images[2]}"]  # no eye corner; nothing at all
    teacher = table["points"][table["models"].tolist().index("teacher"), 0]  # heatmap
    errors = []
    for face in (0, 3, 4, 5):
        visible = [i for i in range(7) if face or i != NOSE]
        truth = table["truth"][face]
        distance = np.linalg.norm(teacher[face, visible] - truth[visible], axis=1).mean()
        errors.append(100 * distance / np.linalg.norm(truth[0] - truth[3]))
    row = next(r for r in report["rows"] if (r["model"], r["source"]) == ("teacher", "heatmap"))
    assert (row["faces"], row["degenerate"]) == (4, 2)
    assert row["NME"] == pytest.approx(np.mean(errors), rel=1e-5)


def test_training_mirrors_faces_and_swaps_the_pairs(finished_run):
    run = Run.open(finished_run[0])
    make = batch_maker(run, 1, labelled=8, clips=3, images=0, frames=2)
    batches = [make(step) for step in range(4)]
    mirrored = torch.cat([batch.flipped for batch in batches])
    assert mirrored.any() and not mirrored.all()
    points, visible = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("points", "visible"))
    for left, right in ((0, 3), (1, 2), (5, 6)):
        both = visible[:, left] & visible[:, right]
        assert both.sum() >= 20 and (points[both, left, 0] < points[both, right, 0]).all()
    assert not visible.all() and points[visible].abs().max() < 200


def test_a_trained_model_predicts_where_neither_run_nor_scheme_is(finished_run, tmp_path):
    folder, root, _ = finished_run
    shutil.copy(folder / "semi" / "model.pt", tmp_path / "elsewhere.pt")
    rows = [(face.image, None, face.box) for face in read_list(root / "lists" / "val.txt")]
    write_list(tmp_path / "list.txt", rows)
    out = tmp_path / "p.npz"
    command = [
        "predict",
        "--weights",
        tmp_path / "elsewhere.pt",
        "--list",
        tmp_path / "list.txt",
        "--root",
        root,
        "--out",
        out,
    ]
    assert main(list(map(str, command))) == 0
    predictions, table = read_arrays(out), read_arrays(folder / "predictions.npz")
    assert predictions["points"].shape == (6, 7, 2) and predictions["scores"].shape == (6, 7)
    teacher = table["models"].tolist().index("teacher")
    assert np.allclose(predictions["points"], table["points"][teacher, 0], atol=1e-3)


def test_a_run_keeps_its_scheme_and_a_changed_file_means_other_trainings(finished_run, tmp_path, capsys):
    folder, root, options = finished_run
    shutil.copytree(folder, tmp_path / "run", ignore=shutil.ignore_patterns("figures"))
    again = ["data", "--run", str(tmp_path / "run"), *options]
    assert main(again) == 2 and "seven.yaml: no such landmark scheme" in capsys.readouterr().err

    def fingerprint() -> dict:
        return Run.open(tmp_path / "run").fingerprint("model", "train")

    before = fingerprint()
    assert before["scheme"]["ocular"] == [0, 3] and before["scheme"]["points"] == 7
    (root / "seven.yaml").write_text(f"# the same in other words\n{SCHEME.replace('[0, 3], [1, 2]', '[2, 1], [0, 3]')}")
    assert main(again) == 0 and fingerprint() == before
    (root / "seven.yaml").write_text(SCHEME + "centre: 4\n")
    assert (
        Run.open(tmp_path / "run").scheme.centre == -1 and fingerprint() == before
    )  # what the file says now is of no weight ...
    assert main(again) == 0  # ... until 'data' makes the run anew
    after = fingerprint()
    assert Run.open(tmp_path / "run").scheme.centre == after["scheme"]["centre"] == 4
    assert {name for name in before if before[name] != after[name]} == {"scheme"}
    assert Run.open(tmp_path / "run", ["data.scheme=29"]).scheme.points == 29


def test_a_run_that_another_version_has_checked_is_checked_again_before_it_trains(finished_run, tmp_path):
    shutil.copytree(finished_run[0], tmp_path / "run", ignore=shutil.ignore_patterns("figures"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    del manifest["labelled_fingerprint"]
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="checked by another version; run 'python -m tsal data --run"):
        Run.open(tmp_path / "run").fingerprint(rows="labelled_fingerprint")
