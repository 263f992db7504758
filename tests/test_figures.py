"""Figures say what the run's files say: curves, legends, words, bytes."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from tsal import figures, figures_audit, style
from tsal.data.lists import Face, write_list
from tsal.data.rendered import render_dataset
from tsal.errors import InputError
from tsal.evaluate import metrics_rows
from tsal.checkpoints import save_checkpoint
from tsal.files import read_arrays, write_arrays, write_text
from tsal.config import Config
from tsal.runs import Run
from tsal.schemes import generic_scheme, get_scheme
from tsal.tracker import FlowNet

PROMISED = (
    "samples-labelled", "samples-clips", "samples-views", "tracker", "tracker-error", "history", "pseudo-error",
    "pseudo-reliability", "pseudo-examples", "evaluation-ced", "evaluation-sources", "evaluation-faces", "summary",
)  # fmt: skip
MEMBERS = ("start", "supervised", "teacher", "student")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose numbers are drawn by hand: truth plus noise of a known size a member, on a few rendered faces."""
    folder = tmp_path_factory.mktemp("figures")
    config = Config.load("smoke", ["data.workers=1"])
    render_dataset(folder / "data", config.render, progress=False)
    config = config.override([f"data.root={folder / 'data'}", "data.truth=unlabelled-truth.txt"])
    run = Run.create(folder / "run", config)
    write_text(run.folder / "manifest.json", json.dumps({"fingerprint": ""}))
    rng = np.random.default_rng(0)
    _write_evaluation(run, rng)
    _write_audit(run, rng)
    for name in ("start", "supervised", "tsal"):
        steps = np.arange(1, 6) * 10
        terms = ["points", "heatmap", "centre", "offset"]
        columns = terms if name != "tsal" else [f"{m}_{t}" for m in ("teacher", "student") for t in [*terms, "sic"]] + [
            "teacher_calm", "student_unlabelled", "target_agreement", "flow_error", "member_distance", "weight", "target_weight",
            "target_tracked",
        ]  # fmt: skip
        history = pd.DataFrame({"step": steps} | {column: 1 / steps for column in columns})
        write_text(run.folder / name / "history.csv", history.to_csv(index=False))
    settings = config.tracker
    tracker = FlowNet(settings.channels, settings.search, settings.finest, settings.width)
    save_checkpoint(run.folder / "tracker" / "model.pt", {"tracker": tracker.state_dict()})
    report = {name: {"transfer": 1.0 + i, "endpoint_error": 0.5 + i} for i, name in enumerate(("zero motion", "DIS", "tracker"))}
    write_text(run.folder / "tracker" / "metrics.json", json.dumps(report))
    return run


def _write_evaluation(run, rng):
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth, visible = map(np.array, zip(*(run.store.points(face) for face in faces)))
    d = np.full(len(faces), 40.0, np.float32)
    shape = (len(MEMBERS), 3, *truth.shape)
    noise = rng.normal(size=shape) * np.array([5, 4, 2, 3])[:, None, None, None, None]
    predictions = {
        "list": np.array([face.list_name for face in faces]), "path": np.array([face.image for face in faces]),
        "row": np.array([face.row for face in faces]), "box": np.array([face.box for face in faces], np.float32),
        "truth": truth, "visible": visible, "d": d, "degenerate": np.zeros(len(faces), bool), "members": np.array(MEMBERS),
        "sources": np.array(["heatmap", "centre", "fused"]), "points": (truth + noise).astype(np.float32),
        "scores": np.ones(shape[:-1], np.float32),
    }  # fmt: skip
    write_arrays(run.folder / "predictions.npz", **predictions)
    parts = (("start", 20, 60.0), ("supervised", 10, 30.0), ("tsal", 10, 90.0))
    times = {name: {"steps": steps, "seconds": seconds} for name, steps, seconds in parts}
    report = {"normaliser": "ocular", "rows": metrics_rows(predictions), "degenerate": [], "times": times}
    write_text(run.folder / "metrics.json", json.dumps(report))


def _write_audit(run, rng):
    clips = [*run.clips, *run.photographs]
    faces = [(clip, face) for clip in clips for face in clip.faces]
    known = [dataclasses.replace(face, annotation=run.lists.truth[face.image]) for _, face in faces]
    truth, visible = map(np.array, zip(*(run.store.points(face) for face in known)))
    first = np.array([face is clip.faces[0] for clip, face in faces])
    names = (*figures_audit.SOURCES,)
    arrays = {
        "sources": np.array(names), "clip": np.array([clip.name for clip, _ in faces]), "path": np.array([f.image for _, f in faces]),
        "zoom": np.ones(len(faces), np.float32), "truth": truth, "visible": visible, "d": np.full(len(faces), 40.0, np.float32),
        "box": np.array([f.box for _, f in faces], np.float32), "members": np.array(["start", "teacher", "student"]),
    }  # fmt: skip
    for member in ("start", "teacher", "student"):
        spread = rng.uniform(0.5, 4, visible.shape)  # the agreement is the size of the error
        valid = np.ones((len(names), *visible.shape), bool)
        for index, name in enumerate(names):
            valid[index, first] = name not in ("tracked_heatmap", "tracked_centre", "carried")
        arrays |= {
            f"{member}_points": (truth + spread[..., None] * rng.normal(size=(len(names), *truth.shape))).astype(np.float32),
            f"{member}_valid": valid,
            f"{member}_agreement": spread.astype(np.float32),
            f"{member}_flow_error": np.where(first[:, None], np.nan, rng.uniform(0, 2, visible.shape)).astype(np.float32),
            f"{member}_weight": np.ones(visible.shape, np.float32),
        }
    write_arrays(run.folder / "audit.npz", **arrays)


@pytest.fixture
def copied(run, tmp_path):
    """The run again, to be changed."""
    shutil.copytree(run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("figures"))
    return Run.open(tmp_path / "run")


def _named(drawn, name):
    return next(figure for figure in drawn if figure.name == name)


def _words(figure) -> str:
    figure.draw_without_rendering()
    texts = figure.findobj(match=lambda artist: hasattr(artist, "get_text"))
    return "\n".join(text.get_text() for text in texts)


def test_cumulative_is_the_empirical_distribution():
    x, share = style.cumulative(np.array([3.0, 1.0, 2.0, 2.0]))
    assert x.tolist() == [0, 1, 2, 2, 3] and share.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_ced_lines_are_the_distribution_of_the_predictions(run):
    axes = _named(figures.draw_evaluation(run), "evaluation-ced").axes[0]
    table = read_arrays(run.folder / "predictions.npz")
    lines = {line.get_label().split()[-1]: line for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert tuple(lines) == MEMBERS
    for member, line in lines.items():
        distance = np.linalg.norm(table["points"][MEMBERS.index(member), 0] - table["truth"], axis=-1)
        errors = np.sort([100 * row[seen].mean() / 40 for row, seen in zip(distance, table["visible"])])
        np.testing.assert_allclose(line.get_xdata(), [0, *errors], rtol=1e-5)
        np.testing.assert_allclose(line.get_ydata(), np.arange(len(errors) + 1) / len(errors))
        assert line.get_drawstyle() == "steps-post" and line.get_color() == style.MEMBERS[member]


def test_legends_hold_the_numbers_of_the_table(run):
    numbers = figures.table(run).query("source == 'heatmap'").set_index("member")
    words = _words(_named(figures.draw_evaluation(run), "evaluation-ced"))
    for member in MEMBERS:
        row = numbers.loc[member]
        assert f"{row.NME:.2f} / {row['AUC@0.08']:.3f} / {100 * row['FR@0.08']:.1f}  {member}" in words
    assert "outer eye-corner distance" in words
    assert f"{numbers.NME['teacher']:.2f} % NME, 20 + 10 steps, 60 + 90 s" in _words(figures.draw_summary(run))


def test_table_adds_the_start_to_what_followed(run):
    numbers = figures.table(run).query("source == 'heatmap'").set_index("member")
    assert numbers.steps.to_dict() == {"start": 20, "supervised": 30, "teacher": 30, "student": 30}
    assert numbers.seconds.to_dict() == {"start": 60, "supervised": 90, "teacher": 150, "student": 150}
    assert np.isnan(numbers.tracker_seconds["teacher"]) and numbers.tracker_seconds["supervised"] == 0


def test_table_counts_a_second_start_and_the_tracker(copied):
    report = json.loads((copied.folder / "metrics.json").read_text())
    report["times"] |= {"start-2": {"steps": 20, "seconds": 61.0}, "tracker": {"steps": 5, "seconds": 7.0}}
    write_text(copied.folder / "metrics.json", json.dumps(report))
    numbers = figures.table(copied).query("source == 'heatmap'").set_index("member")
    assert numbers.seconds.to_dict() == {"start": 60, "supervised": 90, "teacher": 218, "student": 218}


def test_reliability_and_coverage_by_hand():
    kept, mean = figures_audit._coverage(np.array([3.0, 1.0, 2.0, 4.0]), np.array([30.0, 10.0, 20.0, 40.0]))
    np.testing.assert_allclose(kept, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(mean, [10, 15, 20, 25])
    figure = style.Picture("x", 1, 1)
    axes = figure.subplots()
    figures_audit._binned(axes, np.array([1.0, 2, 3, 4, np.nan]), np.array([5.0, 7, 9, 11, 0]), "black", "-", "", bins=2)
    (line,) = axes.get_lines()
    assert line.get_xdata() == pytest.approx([1.5, 3.5]) and line.get_ydata() == pytest.approx([6, 10])


def test_source_medians_are_those_of_the_audit(run):
    audit = read_arrays(run.folder / "audit.npz")
    words = _words(_named(figures.draw_pseudo_labels(run), "pseudo-error"))
    for index, name in enumerate(audit["sources"]):
        distance = np.linalg.norm(audit["teacher_points"][index] - audit["truth"], axis=-1)
        median = np.median(100 * distance[audit["visible"] & audit["teacher_valid"][index]] / 40)
        assert f"{median:.2f}  {name.replace('_', ' ')}" in words


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_draw_all_writes_what_it_promises_and_the_same_bytes_again(run):
    paths = figures.draw_all(run)
    assert sorted(p.name for p in paths) == sorted([f"{n}.{kind}" for n in PROMISED for kind in ("png", "pdf")] + ["tables.md"])
    assert sorted(p.name for p in (run.folder / "figures").iterdir()) == sorted(p.name for p in paths)
    first = {path: path.read_bytes() for path in paths}
    figures.draw_all(run)
    assert [path.name for path in paths if path.read_bytes() != first[path]] == []
    for path, content in first.items():
        if path.suffix == ".pdf":
            assert b"/Type3" not in content and b"CreationDate" not in content
            width = float(re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+)", content)[1]) / 72
            assert path.stem in ("summary", "samples-clips") or round(width, 3) in (style.COLUMN, style.TEXT)


def test_no_pyplot_is_needed_and_notebooks_get_a_picture(run):
    (figure,) = figures.draw_history(run)
    assert figure._repr_png_().startswith(b"\x89PNG")
    for module in (figures, figures_audit, style):
        assert "pyplot" not in vars(module) and "seaborn" not in vars(module)


def test_without_truth_the_audit_shows_agreement(copied):
    audit = read_arrays(copied.folder / "audit.npz")
    audit |= {name: np.full_like(audit[name], np.nan) for name in ("d", "truth")} | {"visible": np.zeros_like(audit["visible"])}
    write_arrays(copied.folder / "audit.npz", **audit)
    assert [figure.name for figure in figures.draw_pseudo_labels(copied)] == ["pseudo-agreement", "pseudo-examples"]


def test_without_labels_evaluation_shows_faces_alone(copied):
    predictions = read_arrays(copied.folder / "predictions.npz")
    predictions |= {"d": np.full_like(predictions["d"], np.nan), "visible": np.zeros_like(predictions["visible"])}
    write_arrays(copied.folder / "predictions.npz", **predictions)
    assert [figure.name for figure in figures.draw_evaluation(copied)] == ["evaluation-faces"]
    assert "NME" not in _words(figures.draw_summary(copied))


@pytest.mark.parametrize(("scheme", "lines"), [(generic_scheme(5), 1), (get_scheme("68"), 2)])
def test_landmarks_of_any_scheme(scheme, lines):
    """A scheme that knows no lines shows its points; one that does also joins them. What is unknown is left out."""
    points = np.arange(2.0 * scheme.points).reshape(-1, 2)
    points[0] = np.nan
    axes = style.Picture("x", 1, 1).subplots()
    style.draw_landmarks(axes, points, scheme, "#ffffff")
    drawn = axes.get_lines()
    assert len(drawn) == lines
    np.testing.assert_array_equal(drawn[-1].get_xydata(), points)


def test_five_landmarks_from_lists_to_figures(run, tmp_path):
    """Samples of a folder whose scheme is just a number."""
    face: Face = run.lists.labelled[0]
    lines = [f"{x + 1} {y + 1}" for x, y in run.store.points(face)[0][:5]]
    write_text(tmp_path / "five.pts", "version: 1\nn_points: 5\n{\n" + "\n".join(lines) + "\n}\n")
    shutil.copy(run.root / face.image, tmp_path / "five.jpg")
    write_list(tmp_path / "lists" / "labelled.txt", [("five.jpg", "five.pts", face.box)])
    write_list(tmp_path / "lists" / "unlabelled.txt", [("five.jpg", None, face.box)])
    write_list(tmp_path / "lists" / "val.txt", [("other.jpg", "five.pts", face.box)])
    config = run.config.override([f"data.root={tmp_path}", "data.scheme=5", "data.truth=", "data.normaliser=box"])
    five = Run(tmp_path / "run", config)
    assert [len(figure.axes) for figure in figures.draw_samples(five)] == [1, 1, 24]


@pytest.mark.parametrize(
    ("missing", "draw", "stage"),
    [
        ("tracker/model.pt", figures.draw_tracker, "tracker"),
        ("tracker/metrics.json", figures.draw_tracker, "tracker"),
        ("tsal/history.csv", figures.draw_history, "train"),
        ("audit.npz", figures.draw_pseudo_labels, "pseudo"),
        ("predictions.npz", figures.draw_evaluation, "evaluate"),
        ("metrics.json", figures.draw_summary, "evaluate"),
    ],
)
def test_a_missing_file_names_the_stage_that_makes_it(copied, missing, draw, stage):
    (copied.folder / missing).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(missing)}: .*python -m tsal {stage} "):
        draw(copied)


def test_flow_colours_tell_direction_and_length():
    flow = np.zeros((2, 1, 3))
    flow[:, 0, 1], flow[:, 0, 2] = (1, 0), (-1, 0)
    still, right, left = style.flow_colours(flow, 1.0)[0]
    assert still.tolist() == [1, 1, 1] and right.tolist() == [1, 0, 0] and left == pytest.approx([0, 1, 1])
