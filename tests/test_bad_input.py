"""What a user can get wrong: one line that names file and row, exit status 2, and nothing trained."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from releases import write_image
from toys import error_lines

import tsal.run
from tsal import stages
from tsal.cli.commands import main
from tsal.run import Run
from tsal.utils.paths import REPOSITORY

BOX = "10 10 50 50"


def write_annotation(path: Path, rows=None) -> None:
    rows = [f"{i + 1} {i + 2}" for i in range(68)] if rows is None else rows
    path.write_text("version: 1\nn_points: 68\n{\n" + "\n".join(rows) + "\n}\n")


def write_rows(root: Path, name: str, *rows: str) -> None:
    (root / name).write_text("".join(row + "\n" for row in rows))


def edit_row(root: Path, name: str, number: int, row: str) -> None:
    rows = (root / name).read_text().splitlines()
    rows[number - 1] = row
    write_rows(root, name, *rows)


@pytest.fixture
def root(tmp_path) -> Path:
    """Two labelled photographs, one clip of two frames, one photograph to measure on; nothing is wrong with them."""
    root = tmp_path / "faces"
    for seed, name in enumerate(("a", "b", "v", "clip/0", "clip/1")):
        write_image(root / f"{name}.png", seed)
    for name in ("a", "b", "v"):
        write_annotation(root / f"{name}.pts")
    write_rows(root, "labelled.txt", f"a.png a.pts {BOX}", f"b.png b.pts {BOX} 40")
    write_rows(root, "unlabelled.txt", f"clip/0.png None {BOX}", f"clip/1.png None {BOX}")
    write_rows(root, "val.txt", f"v.png v.pts {BOX}")
    return root


def data(root: Path, *more: str) -> tuple[int, Path]:
    run = root.parent / "run"
    options = ["--profile", "smoke", "--data", "mine", "--root", str(root), "--run", str(run), *more]
    return main(["data", *options]), run


def test_good_input_is_taken(root, capsys):
    status, run = data(root)
    assert status == 0 and (run / "manifest.json").exists()
    assert (
        "2 labelled faces; 2 unlabelled: 1 clips and 0 photographs; measured on val.txt (1 faces)"
        in capsys.readouterr().out
    )


CASES = {
    "a missing image": (lambda r: (r / "b.png").unlink(), ["labelled.txt:2: the image b.png does not exist"]),
    "an unreadable image": (
        lambda r: (r / "clip/1.png").write_bytes(b"no image"),
        ["unlabelled.txt:2: the image clip/1.png cannot be decoded"],
    ),
    "an empty image": (
        lambda r: (r / "v.png").write_bytes(b""),
        ["val.txt:1: the image v.png cannot be decoded"],
    ),
    "a .pts that is not there": (
        lambda r: (r / "a.pts").unlink(),
        ["labelled.txt:1: ", "a.pts: cannot read the annotation"],
    ),
    "a .pts with a wrong count": (
        lambda r: write_annotation(r / "b.pts", ["1 1"] * 67),
        ["labelled.txt:2: ", "b.pts: 67 points, want 68"],
    ),
    "a .pts with a non-number": (
        lambda r: write_annotation(r / "v.pts", ["1 1"] * 4 + ["1 x"] + ["1 1"] * 63),
        ["val.txt:1: ", "v.pts: point 5 is not a number: 1 x"],
    ),
    "a .pts with an infinite number": (
        lambda r: write_annotation(r / "v.pts", ["1 nan"] + ["1 1"] * 67),
        ["val.txt:1: ", "v.pts: point 1 wants 'x y'"],
    ),
    "a wrong number of columns": (
        lambda r: edit_row(r, "unlabelled.txt", 2, "clip/1.png None 10 10 50"),
        ["unlabelled.txt:2: 5 columns, want 6 or 7: path_of_img path_of_annotation x1 y1 x2 y2 [face_size]"],
    ),
    "a box that is no number": (
        lambda r: edit_row(r, "labelled.txt", 1, "a.png a.pts 10 ten 50 50"),
        ["labelled.txt:1: a box or face size is not a number: 10 ten 50 50"],
    ),
    "a box outside the image": (
        lambda r: edit_row(r, "val.txt", 1, "v.png v.pts 70 70 90 90"),
        ["val.txt:1: box 70 70 90 90 of v.png lies wholly outside the image (64 x 64)"],
    ),
    "a box x y w h": (
        lambda r: edit_row(r, "labelled.txt", 2, "b.png b.pts 2 3 9 14"),
        ["labelled.txt:2: the box 2 3 9 14 holds 8 of 68 visible landmarks of b.png; give x1 y1 x2 y2 (not width"],
    ),
    "a depth as third column": (
        lambda r: write_annotation(r / "v.pts", ["20 20 0"] * 4 + ["20 20 -7.5"] * 64),
        ["val.txt:1: ", "v.pts: point 5 has visibility -7.5, want 0 or 1; a depth is not read"],
    ),
    "an inverted box": (
        lambda r: edit_row(r, "labelled.txt", 2, "b.png b.pts 50 10 10 50"),
        ["labelled.txt:2: box is empty or inverted (x1 y1 x2 y2 = 50 10 10 50)"],
    ),
    "an empty list": (lambda r: write_rows(r, "val.txt"), ["val.txt: the list is empty"]),
    "a list that is not there": (lambda r: (r / "val.txt").unlink(), ["val.txt: no such list in "]),
    "no labelled rows": (
        lambda r: write_rows(r, "labelled.txt", f"a.png None {BOX}"),
        ["labelled.txt: the training list has no labelled rows"],
    ),
    "an image in a training and an evaluation list": (
        lambda r: write_rows(r, "val.txt", f"v.png v.pts {BOX}", f"./clip/1.png None {BOX}"),
        ["val.txt:2: ./clip/1.png is also in a training list (unlabelled.txt:2)"],
    ),
    "a copy of a training image in an evaluation list": (
        lambda r: (r / "v.png").write_bytes((r / "a.png").read_bytes()),
        ["val.txt:1: v.png is the same image as a.png of labelled.txt:1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_file_and_row(root, capsys, case):
    spoil, said = CASES[case]
    spoil(root)
    status, run = data(root)
    lines = error_lines(capsys.readouterr().err)
    assert status == 2 and len(lines) == 1, lines
    assert lines[0].startswith(f"error: {said[0]}") and all(part in lines[0] for part in said)
    assert not (run / "manifest.json").exists()


def test_all_problems_of_lists_and_files_are_reported_at_once(root, capsys):
    for case in ("a missing image", "an unreadable image", "a .pts with a non-number"):
        CASES[case][0](root)
    with open(root / "labelled.txt", "a") as file:
        file.write("too few columns\nc.png c.pts 50 50 10 10\n")
    assert data(root)[0] == 2
    places = [line.split()[1] for line in error_lines(capsys.readouterr().err)]
    assert sorted(places) == [
        "labelled.txt:2:",
        "labelled.txt:3:",
        "labelled.txt:4:",
        "unlabelled.txt:2:",
        "val.txt:1:",
    ]


def test_no_stage_trains_on_bad_input(root, capsys):
    (root / "b.png").unlink()
    run = root.parent / "run"
    for command in ("data", "tracker", "train", "figures"):
        assert main([command, "--profile", "smoke", "--data", "mine", "--root", str(root), "--run", str(run)]) == 2
        assert "error: labelled.txt:2: the image b.png does not exist" in capsys.readouterr().err
    assert not run.exists()


def content(run: Path) -> dict[str, tuple[bytes, int]]:
    """What a run's folder holds, and since when; but for the lock's file."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_settings_whose_check_fails_or_is_stopped_leave_a_run_as_it_was(root, capsys, monkeypatch):
    _, run = data(root, "--set", "semi.steps=7")
    before = content(run)
    assert "config.json" in before and data(root, "--labelled", "labeled.txt")[0] == 2
    assert "labeled.txt: no such list" in capsys.readouterr().err and content(run) == before

    def stopped(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tsal.stages.data.check_settings", stopped)
    assert data(root, "--set", "semi.steps=8")[0] == 130 and content(run) == before


def test_a_run_that_was_killed_while_its_settings_were_written_is_not_a_checked_one(root, monkeypatch):
    _, run = data(root)
    write, written = tsal.run.write_text, []

    def killed(path, text):
        if path.name == "environment.json":
            raise OSError("the disk is full")
        written.append(path.name)
        write(path, text)

    monkeypatch.setattr(tsal.run, "write_text", killed)
    assert data(root, "--set", "semi.steps=8")[0] == 1 and "scheme.json" in written
    assert stages.is_unchecked(Run.open(run))


def test_data_that_turned_bad_stops_a_run_that_was_good(root, capsys):
    assert data(root)[0] == 0
    (root / "a.pts").unlink()
    assert data(root)[0] == 2
    assert main(["train", "--run", str(root.parent / "run")]) == 2
    assert "labelled.txt:1" in capsys.readouterr().err


def test_a_list_that_has_changed_since_is_checked_by_the_next_stage(root, capsys):
    status, run = data(root)
    before = json.loads((run / "manifest.json").read_text())["fingerprint"]
    rows = (root / "labelled.txt").read_text()
    (root / "labelled.txt").write_text(f"{rows}gone.png None {BOX}\n")
    assert status == 0 and main(["tracker", "--run", str(run)]) == 2
    assert "labelled.txt:3" in capsys.readouterr().err
    write_rows(root, "labelled.txt", rows.splitlines()[0])
    assert main(["tracker", "--run", str(run)]) == 0
    assert json.loads((run / "manifest.json").read_text())["fingerprint"] != before


@pytest.mark.parametrize(
    "options, said",
    [
        ([], "tsal.sources=heatmap,centre,propagated"),
        (["--method", "sbr"], "tsal.sources=propagated"),
        (["--method", "tsal-consistency"], "tsal.teacher_consistency=true"),
        (["--method", "mean-teacher", "--set", "semi.rival=tsal"], "semi.rival=tsal"),
    ],
)
def test_a_clip_is_needed_to_track_in(root, capsys, options, said):
    write_rows(root, "unlabelled.txt", f"clip/0.png None {BOX}")
    assert data(root, *options)[0] == 2
    [line] = error_lines(capsys.readouterr().err)
    assert "no clip of two frames or more" in line and said in line and "mean-teacher-corrected" in line


def test_frames_left_out_end_a_clip_and_are_told_once(root, capsys):
    for number in (5, 6, 9):
        write_image(root / f"clip/{number}.png", 10 + number)
        write_image(root / f"other/{number}.png", 30 + number)
    rows = [f"{clip}/{n}.png None {BOX}" for clip, of in (("clip", (0, 1, 5, 6, 9)), ("other", (5, 6, 9))) for n in of]
    write_rows(root, "unlabelled.txt", *rows)
    status, run = data(root)
    said = capsys.readouterr().out
    manifest = json.loads((run / "manifest.json").read_text())
    assert status == 0 and "8 unlabelled: 3 clips and 2 photographs" in said
    assert manifest["clips"] == 3 and manifest["photographs"] == 2
    [line] = [line for line in said.splitlines() if line.startswith("warning: ")]
    assert line.startswith("warning: unlabelled.txt:3: frame 5 comes after 1 of clip: ")
    assert "the numbers of 2 clips have such gaps" in line
    assert data(root, "--set", "data.consecutive=false")[0] == 0
    said = capsys.readouterr().out
    assert "8 unlabelled: 2 clips and 0 photographs" in said and "gap" not in said


@pytest.mark.parametrize(
    "options, said",
    [
        (["--set", "semi.frames=1"], "semi.frames=1: a step has no two frames"),
        (["--set", "semi.clips=0"], "wanted by tsal.sources=heatmap,centre,propagated"),
        (["--method", "mean-teacher", "--set", "semi.rival=tsal", "semi.clips=0"], "semi.rival=tsal"),
    ],
)
def test_a_step_needs_two_frames_of_a_clip_to_track_between(root, capsys, options, said):
    status, run = data(root, *options)
    [line] = error_lines(capsys.readouterr().err)
    assert status == 2 and said in line and not (run / "manifest.json").exists()


@pytest.mark.parametrize("settings", [["semi.frames=1"], ["semi.clips=0"]])
def test_single_frames_are_enough_where_nothing_is_tracked(root, settings):
    for options in (["--method", "mean-teacher", "--set"], ["--set", "data.consecutive=false"]):
        assert data(root, *options, *settings)[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--method", "mean-teacher"],
        ["--method", "self-training"],
        ["--profile", "faces", "--method", "mean-teacher-corrected"],
        ["--set", "tsal.sources=heatmap"],
        ["--set", "tsal.sources=heatmap,centre"],
        ["--set", "data.consecutive=false"],
    ],
)
def test_photographs_are_enough_where_nothing_is_tracked(root, capsys, options):
    write_rows(root, "unlabelled.txt", f"clip/0.png None {BOX}")
    status, run = data(root, *options)
    assert status == 0 and json.loads((run / "manifest.json").read_text())["photographs"] == 1
    assert "warning: data.unlabelled: no clip of two frames or more" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [["data.unlabelled="], []])
def test_a_method_of_labels_alone_is_not_warned_that_nothing_is_tracked(root, capsys, settings):
    write_rows(root, "unlabelled.txt", f"clip/0.png None {BOX}")
    assert data(root, "--method", "supervised", *(["--set", *settings] if settings else []))[0] == 0
    assert "warning" not in capsys.readouterr().out


def test_without_clips_every_stage_runs_and_a_changed_run_shows_no_former_numbers(root, capsys):
    write_rows(root, "unlabelled.txt", f"clip/0.png None {BOX}")
    few = ["supervised.steps=2", "semi.steps=2", "tracker.tune_steps=3", "semi.rival="]
    status, run = data(root, "--set", "tsal.sources=heatmap", *few, "tracker.synthetic_steps=3")
    assert status == 0
    (run / "semi" / "tracker-teacher").mkdir(parents=True)  # of a training with clips
    assert main(["evaluate", "--run", str(run)]) == 0
    assert json.loads((run / "tracker" / "time.json").read_text())["steps"] == 0
    assert not (run / "semi" / "tracker-teacher").exists()
    rows = json.loads((run / "metrics.json").read_text())["rows"]
    assert {row["model"] for row in rows} == {"init", "supervised", "teacher", "student"}
    assert all(np.isfinite(row["NME"]) for row in rows)
    report = ["report", "--run", str(run)]
    assert main(["data", "--run", str(run), "--set", "train.checkpoint_every=7"]) == 0 and main(report) == 0
    capsys.readouterr()
    assert main(["data", "--run", str(run), "--set", "semi.steps=3"]) == 0 and main(report) == 2
    error = capsys.readouterr().err
    assert "metrics.json: was made with semi.steps = 2, not 3, before the run was changed" in error
    assert main(["data", "--run", str(run), "--set", "semi.steps=2"]) == 0 and main(report) == 0
    labels = (root / "v.pts").read_bytes()
    write_annotation(root / "v.pts", [f"{i + 2} {i + 2}" for i in range(68)])  # a corrected label
    assert main(["data", "--run", str(run)]) == 0 and main(report) == 2
    assert "was made with other evaluation faces" in capsys.readouterr().err
    (root / "v.pts").write_bytes(labels)
    assert main(["data", "--run", str(run)]) == 0
    inner_eye_corners = json.loads((run / "scheme.json").read_text()) | {"ocular": [39, 42]}
    for name, content, said in (
        ("scheme.json", json.dumps(inner_eye_corners).encode(), "another landmark scheme"),
        ("semi/model.pt", b"trained anew", "another semi/model.pt"),
    ):
        evaluated = (run / name).read_bytes()
        (run / name).write_bytes(content)
        assert main(report) == 2
        assert f"metrics.json: was made with {said}, before the run was changed" in capsys.readouterr().err
        (run / name).write_bytes(evaluated)
    assert main(["data", "--run", str(run)]) == 0 and main(report) == 0
    write_rows(root, "labelled.txt", (root / "labelled.txt").read_text().splitlines()[0])
    assert main(["data", "--run", str(run)]) == 0 and main(report) == 2
    assert "was made with other training faces" in capsys.readouterr().err


@pytest.mark.parametrize("normaliser, differs", [("face_size", ["evaluate_fingerprint"]), ("ocular", [])])
def test_another_face_size_is_another_evaluation_face_where_errors_are_divided_by_it(root, normaliser, differs):
    manifests = []
    for size in (40, 80):
        for name, face in (("labelled.txt", "a"), ("val.txt", "v")):
            write_rows(root, name, f"{face}.png {face}.pts {BOX} {size}")
        status, run = data(root, "--set", f"data.normaliser={normaliser}")
        assert status == 0
        manifests.append(json.loads((run / "manifest.json").read_text()))
    first, second = manifests
    assert [name for name in first if "fingerprint" in name and first[name] != second[name]] == differs


def test_without_unlabelled_faces_every_stage_runs_and_there_is_nothing_to_audit(root, capsys):
    few = ["supervised.steps=2", "semi.steps=2", "semi.rival=", "tracker.synthetic_steps=3"]
    status, run = data(root, "--method", "supervised", "--set", "data.unlabelled=", *few)
    (run / "audit").mkdir()
    (run / "audit" / "labels.parquet").write_text("of other lists")
    assert status == 0 and main(["figures", "--run", str(run)]) == 0
    assert "nothing to audit: the method supervised learns from labels alone\n" in capsys.readouterr().out
    assert not (run / "audit").exists()
    assert (
        "Nothing to show: the method supervised learns from labels alone."
        in (run / "figures" / "tables.md").read_text()
    )
    assert (run / "figures" / "pseudo-error.png").exists() and (run / "figures" / "summary.png").exists()
    assert main(["notebook", str(REPOSITORY / "notebooks" / "04_pseudo_labels.ipynb"), "--run", str(run)]) == 0
    assert main(["notebook", str(REPOSITORY / "notebooks" / "00_one_step.ipynb"), "--run", str(run)]) == 2
    assert "error: the method supervised learns from labels alone: there is no step to show" in capsys.readouterr().err
    assert main(["report", "--run", str(run)]) == 0 and "supervised only" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings, said",
    [
        ("model.input=100", "model.input: wants a multiple of 32, got 100"),
        ("model.input=32 semi.batch=1", "model.input=32: wants supervised.batch and semi.batch of 2 or more"),
        ("model.centre_candidates=65", "model.centre_candidates=65: wants at most 64"),
        ("tracker.finest=9", "tracker.finest = 9 is not a level of 3"),
        ("tracker.iterations=0", "tracker.iterations = (0,)"),
        ("tracker.init=nowhere.pt", "no such tracker (tracker.init)"),
        ("model.size=vgg16 model.vgg16_weights=nowhere.pth", "nowhere.pth: no such file of VGG-16 weights"),
        ("model.weights=nowhere.pt", "nowhere.pt; want face68, or the path of a run's model.pt"),
        ("model.weights=face68", "model.weights=face68: it is another network; set model.width=1.5"),
        ("model.weights=README.md", "README.md: not a readable checkpoint"),
        ("data.normaliser=face_size", "data.normaliser=face_size: a list has no seventh column"),
        ("semi.rival=nobody", "no method 'nobody'"),
        ("tsal.sources=propagated data.consecutive=false", "tsal.sources: tracking sources alone"),
        ("tsal.teacher_consistency=true tsal.teacher_lr=0", "with tsal.teacher_lr=0 the teacher learns nothing"),
        ("tsal.teacher_lr=0", "tsal.bn_stats=own: with tsal.teacher_lr=0"),
        ("tsal.ramp_up=0.95", "tsal.ramp_up=0.95: is above tsal.ramp_down=0.9"),
    ],
)
def test_settings_of_which_nothing_can_be_built_are_told_before_any_training(root, capsys, settings, said):
    status, run = data(root, "--set", *settings.split())
    [line] = error_lines(capsys.readouterr().err)
    assert status == 2 and said in line and not (run / "manifest.json").exists()


@pytest.mark.parametrize(
    "options, said",
    [
        (["--method", "tsal-paper"], "tsal.trackers=own: with tracker.tune_steps=0 no tracker is tuned"),
        (["--set", "augment.scale=0.5"], "augment.scale=0.5: "),
        (["--set", "augment.shift=0.25", "augment.strong_geometry=2"], "augment.shift=0.25 augment.strong_geometry=2:"),
        (["--method", "tsal-paper", "--set", "tracker.tune_steps=1"], ""),
        (["--set", "augment.rotation=20", "augment.scale=0.1", "augment.shift=0.117"], ""),  # of the profile paper
    ],
)
def test_settings_that_work_otherwise_than_one_would_think_are_warned_of(root, capsys, options, said):
    status, _ = data(root, *options)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    warnings = [line for line in lines if "tsal.trackers" in line or "augment." in line]
    assert status == 0 and len(warnings) == bool(said) and all(line.startswith(f"warning: {said}") for line in warnings)


@pytest.mark.parametrize(
    "options, off",
    [
        ("tsal", "tsal.sources=propagated and tsal.agreement_weight=1"),
        ("tsal-no-window", "tsal.agreement_weight=1"),
        (
            "tsal-consistency tsal.agreement_weight=0",
            "tsal.sources=propagated and tsal.teacher_consistency=true",
        ),
        ("mean-teacher semi.rival=tsal-reconstruction", "tsal.sources=tracked_heatmap,tracked_centre"),
        ("tsal-no-tracking", ""),
        ("supervised", ""),
        ("tsal tsal.tracking=any", ""),
    ],
)
def test_what_is_off_where_frames_are_not_consecutive_is_warned_of(root, capsys, options, off):
    method, *settings = options.split()
    assert data(root, "--method", method, "--set", "data.consecutive=true", *settings)[0] == 0
    assert "data.consecutive" not in capsys.readouterr().out
    assert data(root, "--method", method, "--set", "data.consecutive=false", *settings)[0] == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "data.consecutive=false" in line]
    warned = [line for line in lines if line.startswith("warning: ")]
    assert len(warned) == bool(off) and all(f"{off} have no effect" in line for line in warned)
    assert all(("semi.rival=" in line) == ("semi.rival=" in options) for line in warned)


@pytest.mark.parametrize(
    "options, said",
    [
        (["--set", "semi.frames=4"], "semi.frames=4: no unlabelled clip has more than 2 frames"),
        (["--set", "semi.frames=2"], ""),
        (["--set", "semi.frames=3"], ""),  # as the profile has it, whatever the lists are
        (["--profile", "faces"], ""),
        (["--method", "supervised", "--set", "semi.frames=4"], ""),
        (["--method", "mean-teacher", "--set", "semi.frames=4", "semi.clips=0", "semi.rival="], ""),
    ],
)
def test_more_frames_of_a_clip_than_any_has_are_warned_of_where_they_were_asked_for(root, capsys, options, said):
    status, _ = data(root, *options)
    lines = [line for line in capsys.readouterr().out.splitlines() if "semi.frames" in line]
    assert status == 0 and len(lines) == bool(said)
    assert all(line.startswith(f"warning: {said}") and line.endswith("it wants longer clips") for line in lines)


def test_rendered_clips_are_as_long_as_they_are_rendered(tmp_path, capsys):
    assert main(["data", "--profile", "smoke", "--run", str(tmp_path / "run"), "--set", "semi.frames=4"]) == 0
    assert "warning: semi.frames=4: no unlabelled clip has more than 3 frames" in (said := capsys.readouterr().out)
    assert "; set render.frames=4 too" in said


def test_the_largest_number_that_a_map_has_is_taken(root):
    assert data(root, "--set", "model.centre_candidates=64", "supervised.batch=1", "semi.batch=1")[0] == 0


def test_a_network_without_batch_statistics_needs_no_average_of_them(root):
    assert data(root, "--set", "model.size=vgg16", "tsal.teacher_lr=0")[0] == 0


@pytest.mark.parametrize("scheme, points", [("51", 51), ("49", 49)])
def test_files_of_68_points_serve_the_schemes_that_are_a_part_of_68(root, scheme, points):
    for name, said in (("a", 68), ("b", points)):  # files of the scheme's own number are read as before
        write_annotation(root / f"{name}.pts", [f"{i / 4 + 1} {i / 2 + 1}" for i in range(said)])
    write_rows(root, "labelled.txt", "a.png a.pts 0 0 50 50", "b.png b.pts 0 0 50 50")
    status, run = data(root, "--set", f"data.scheme={scheme}")
    assert status == 0
    opened = Run.open(run)  # by the scheme that it keeps
    landmarks, visible = opened.store.points(opened.lists.labelled[0])
    indices = [i for i in range(17, 68) if points == 51 or i not in (60, 64)]
    assert landmarks.tolist() == [[i / 4, i / 2] for i in indices] and visible.all()
    assert opened.store.points(opened.lists.labelled[1])[0].tolist() == [[i / 4, i / 2] for i in range(points)]


def test_a_list_of_mirrored_labels_is_one_warning(root, capsys):
    points = np.tile([[30.0, 40.0]], (68, 1))
    points[36], points[45] = (20, 25), (40, 24)  # the person's right eye is on the left
    for name, shown in (("a", points), ("b", points), ("v", points[:, ::-1])):
        write_annotation(root / f"{name}.pts", [f"{x + 1} {y + 1}" for x, y in shown])
    assert data(root)[0] == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "are mirrored" in line]
    assert "warning: val.txt: 1 of 1 labelled faces are mirrored: are x and y swapped" in line


def test_a_list_of_labels_in_percent_is_one_warning(root, capsys):
    rows = []
    for number in range(10):
        image = np.random.default_rng([7, number]).integers(0, 255, (320, 320, 3), np.uint8)
        assert cv2.imwrite(str(root / f"large{number}.png"), image)
        rows.append(f"large{number}.png v.pts 0 0 100 100")
    write_rows(root, "val.txt", *rows)
    assert data(root)[0] == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "in percent" in line]
    assert line.startswith(
        "warning: val.txt: all landmarks of 10 faces lie within 0 ... 100, in images of about 320 x 320"
    )


def test_files_of_68_points_are_refused_by_other_schemes(root, capsys):
    assert data(root, "--set", "data.scheme=29")[0] == 2
    assert "a.pts: 68 points, want 29" in capsys.readouterr().err
    write_annotation(root / "a.pts", ["1 1"] * 67)
    assert data(root, "--set", "data.scheme=51")[0] == 2
    assert "a.pts: 67 points, want 51 or 68" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, said",
    [
        (["--set", "supervised.step=5"], "unknown setting 'supervised.step' (did you mean 'supervised.steps'?)"),
        (["--set", "steps=5"], "unknown setting 'steps' (did you mean 'supervised.steps'?)"),
        (["--set", "seed=1 supervised.steps=many"], "supervised.steps: wants a whole number, got 'many'"),
        (["--set", "train.optimiser=adamm"], "'adamm' is none of adamw, sgd (did you mean 'adamw'?)"),
        (["--set", "supervised.steps"], "override 'supervised.steps': write section.name=value"),
        (["--profile", "smoka"], "no profile 'smoka' (did you mean 'smoke'?)"),
        (["--budget", "300w-12"], "no budget '300w-12' (did you mean '300w-120'?)"),
        (["--set", "data.scheme=69x"], "69x"),
        (["--root", "/no/such/folder"], "/no/such/folder: no such folder"),
    ],
)
def test_a_wrong_setting_is_reported_in_one_line_with_the_nearest_right_one(root, capsys, options, said):
    assert data(root, *options)[0] == 2
    lines = error_lines(capsys.readouterr().err)
    assert len(lines) == 1 and said in lines[0]


def test_an_annotation_that_is_edited_since_is_checked_by_the_next_stage(root, capsys):
    status, run = data(root)
    text = (root / "a.pts").read_text()
    write_annotation(root / "a.pts", ["1 1"] * 67)
    assert status == 0 and main(["tracker", "--run", str(run)]) == 2
    assert "labelled.txt:1" in capsys.readouterr().err
    (root / "a.pts").write_text(text)
    assert main(["tracker", "--run", str(run)]) == 0
    before = json.loads((run / "manifest.json").read_text())["fingerprint"]
    os.utime(root / "b.pts", (4e9, 4e9))  # a time to come
    assert main(["tracker", "--run", str(run)]) == 0
    written = (run / "manifest.json").stat().st_mtime_ns
    assert main(["tracker", "--run", str(run)]) == 0
    assert (run / "manifest.json").stat().st_mtime_ns == written  # nothing is another: not checked again
    write_annotation(root / "other.pts", ["22 22"] * 68)
    os.utime(root / "other.pts", (1, 1))
    os.replace(root / "other.pts", root / "a.pts")  # with a time of before the check
    assert main(["tracker", "--run", str(run)]) == 0
    assert json.loads((run / "manifest.json").read_text())["fingerprint"] != before
