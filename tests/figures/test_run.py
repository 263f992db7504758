"""Figures say what the run's files say: curves, legends, words, bytes."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from drawn_run import MODELS, named, overhang, say_of_what_the_audit_is, unmeasured, words_of

from tsal.audit.store import Audit
from tsal.config import load_method
from tsal.data.lists import Face, write_list
from tsal.figures import evaluation as figures_evaluation
from tsal.figures import run as figures
from tsal.figures import style
from tsal.figures.comparison import read_runs
from tsal.figures.report import run_report
from tsal.geometry import apply_affine, crop_affine
from tsal.run import Run
from tsal.schemes import Scheme, generic_scheme, get_scheme
from tsal.utils.errors import ConfigError, InputError
from tsal.utils.files import read_arrays, write_arrays, write_text
from tsal.utils.paths import REPOSITORY

PROMISED = (
    "samples-labelled",
    "samples-clips",
    "samples-views",
    "tracker",
    "tracker-error",
    "history",
    "pseudo-error",
    "pseudo-reliability",
    "pseudo-calibration",
    "pseudo-window",
    "pseudo-conditions",
    "pseudo-steps",
    "pseudo-examples",
    "pseudo-landmarks",
    "pseudo-poses",
    "pseudo-changes",
    "pseudo-changed-faces",
    "evaluation-ced",
    "evaluation-sources",
    "evaluation-jitter",
    "evaluation-faces",
    "summary",
)


def test_cumulative_is_the_empirical_distribution():
    x, share = style.cumulative(np.array([3.0, 1.0, 2.0, 2.0]))
    assert x.tolist() == [0, 1, 2, 2, 3] and share.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_ced_lines_are_the_distribution_of_the_predictions(run):
    axes = named(figures.draw_evaluation(run), "evaluation-ced").axes[0]
    table = read_arrays(run.folder / "predictions.npz")
    lines = {line.get_label().split()[-1]: line for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert tuple(lines) == MODELS
    for model, line in lines.items():
        distance = np.linalg.norm(table["points"][MODELS.index(model), 0] - table["truth"], axis=-1)
        errors = np.sort([100 * row[visible].mean() / 40 for row, visible in zip(distance, table["visible"])])
        np.testing.assert_allclose(line.get_xdata(), [0, *errors], rtol=1e-5)
        np.testing.assert_allclose(line.get_ydata(), np.arange(len(errors) + 1) / len(errors))
        assert line.get_drawstyle() == "steps-post" and line.get_color() == style.MODELS[model]


@pytest.mark.parametrize("models", [1, 2, 5])
def test_the_legend_of_the_ced_lies_above_its_curves(run, models):
    predictions = read_arrays(run.folder / "predictions.npz")
    predictions["models"] = predictions["models"][:models]
    lists = list(run.lists.evaluate)
    errors = np.ones((models, len(predictions["list"])))  # all curves rise at once
    figure = style.styled(figures_evaluation._draw_ced)(run, predictions, errors, lists)
    figure.draw_without_rendering()
    for axes in figure.axes:
        bottom = axes.get_legend().get_window_extent().y0
        assert axes.transData.inverted().transform((0, bottom))[1] > 1


def test_the_means_of_the_jitter_figure_say_what_they_are_of(run):
    """The tables have other means: over faces and frames."""
    assert "means over clips" in words_of(named(figures.draw_evaluation(run), "evaluation-jitter"))


def test_legends_hold_the_numbers_of_the_table(run):
    numbers = figures.table(run).query("source == 'heatmap'").set_index("model")
    words = words_of(named(figures.draw_evaluation(run), "evaluation-ced"))
    for model in MODELS:
        row = numbers.loc[model]
        assert f"{row.NME:.2f} / {row['AUC@0.08']:.3f} / {100 * row['FR@0.08']:.1f}  {model}" in words
    assert "outer eye-corner distance" in words
    assert f"{numbers.NME['teacher']:.2f} % NME, 20 + 10 steps, 60 + 90 s" in words_of(figures.draw_summary(run))


def test_table_adds_the_init_to_what_followed(run):
    numbers = figures.table(run).query("source == 'heatmap'").set_index("model")
    assert numbers.steps.to_dict() == {"init": 20} | dict.fromkeys(MODELS[1:], 30)
    assert tuple(numbers.seconds[model] for model in MODELS) == (60, 90, 130, 150, 150)
    assert np.isnan(numbers.tracker_seconds["teacher"]) and numbers.tracker_seconds["supervised"] == 0


def test_a_figure_names_the_run_s_own_method_and_charges_the_tracker_to_what_learned_from_it(copied):
    assert "TSAL teacher: " in words_of(figures.draw_summary(copied))
    settings = load_method("mean-teacher").settings
    other = dataclasses.replace(copied, config=copied.config.override({"method": "mean-teacher"} | settings))
    assert "Mean Teacher teacher: " in words_of(figures.draw_summary(other))
    assert (figures.table(other).tracker_seconds == 0).all()  # it learns from no track
    settings = load_method("sbr-lk").settings
    other = dataclasses.replace(copied, config=copied.config.override(settings))
    assert (figures.table(other).tracker_seconds == 0).all()  # its flow needs no network


def test_faces_and_summary_show_the_model_that_is_the_method_s_result(copied):
    """STLD's teacher is the init: its student is the result."""
    settings = load_method("stld").settings
    stld = dataclasses.replace(copied, config=copied.config.override(settings))
    numbers = figures.table(stld).query("source == 'heatmap'").set_index("model").NME
    assert numbers["teacher"] < numbers["student"] < numbers["supervised"]  # each is told by its number
    words = words_of(figures.draw_summary(stld))
    assert f"stld student: {numbers['student']:.2f} % NME" in words and "Student's landmarks" in words
    assert f"{numbers['teacher']:.2f} % NME, " not in words
    faces = named(figures.draw_evaluation(stld), "evaluation-faces")
    rows = [words for words in words_of(faces).split("\n") if words in MODELS]
    assert rows == ["supervised", "student"]
    predictions = read_arrays(copied.folder / "predictions.npz")
    errors = 100 * np.linalg.norm(predictions["points"][MODELS.index("student"), 0] - predictions["truth"], axis=-1)
    best = np.nanmin(np.where(predictions["visible"], errors, np.nan).mean(-1) / 40)
    assert f"{best:.2f} %" in words_of(faces)


@pytest.mark.parametrize("change", [{"data.normaliser": "box"}, {"data.evaluate": ["other.txt"]}])
def test_numbers_of_other_measuring_are_not_shown_as_the_run_s(copied, change):
    other = dataclasses.replace(copied, config=copied.config.override(change))
    with pytest.raises(InputError, match="metrics.json: is of another normaliser or of other lists .*tsal evaluate"):
        figures.table(other)


def test_a_run_of_68_points_is_measured_on_the_51_and_49_of_them(run):
    """By hand: mean distance of the kept landmarks that are seen, over the run's 40 px."""
    table = read_arrays(run.folder / "predictions.npz")
    distance = np.linalg.norm(table["points"][MODELS.index("teacher"), 0] - table["truth"], axis=-1)
    for scheme, left_out in (("51", range(17)), ("49", [*range(17), 60, 64]), ("68", [])):
        indices = np.delete(np.arange(68), left_out)
        errors = [100 * row[indices][visible[indices]].mean() / 40 for row, visible in zip(distance, table["visible"])]
        row = figures.table(run, scheme).query("source == 'heatmap' and model == 'teacher'").iloc[0]
        assert row.NME == pytest.approx(np.mean(errors), rel=1e-5) and row.seconds == 150
    assert "landmarks of scheme 51" in run_report(run, scheme="51")
    with pytest.raises(ConfigError, match="--scheme 29: its file does not say which of the run's 68 landmarks"):
        figures.table(run, "29")


def test_table_counts_a_second_init_and_the_tracker_to_the_models_made_from_them(copied):
    report = json.loads((copied.folder / "metrics.json").read_text())
    report["times"] |= {"init-2": {"steps": 20, "seconds": 61.0}, "tracker": {"steps": 5, "seconds": 7.0}}
    write_text(copied.folder / "metrics.json", json.dumps(report))

    def seconds(*overrides):
        run = dataclasses.replace(copied, config=copied.config.override(overrides))
        numbers = figures.table(run).query("source == 'heatmap'").set_index("model")
        return tuple(numbers.seconds[model] for model in MODELS)

    assert seconds("tsal.inits=2") == (60, 90, 130, 218, 218)
    assert seconds() == (60, 90, 130, 157, 157)  # one that another method left


def test_reliability_and_coverage_by_hand():
    coverage, mean = style.coverage(np.array([3.0, 1.0, 2.0, 4.0]), np.array([30.0, 10.0, 20.0, 40.0]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(mean, [10, 15, 20, 25])
    figure = style.NamedFigure("x", 1, 1)
    axes = figure.subplots()
    style.binned(axes, np.array([1.0, 2, 3, 4, np.nan]), np.array([5.0, 7, 9, 11, 0]), "black", "-", "", bins=2)
    (line,) = axes.get_lines()
    assert line.get_xdata() == pytest.approx([1.5, 3.5]) and line.get_ydata() == pytest.approx([6, 10])


def test_source_medians_are_those_of_the_audit(run):
    audit = Audit.open(run.folder / "audit")
    teacher = audit.labels("teacher")[0]
    words = words_of(named(figures.draw_pseudo_labels(run), "pseudo-error"))
    for index, name in enumerate(audit.sources):
        distance = np.linalg.norm(teacher.points[index] - audit.truth, axis=-1)
        median = np.median(
            (100 * distance / audit.frames.norm_px.to_numpy()[:, None])[audit.visible & teacher.valid[index]]
        )
        assert f"{median:.2f}  {name.replace('_', ' ')}" in words


def test_nothing_is_cut_off_at_a_figure_s_edges(run):
    draws = (
        figures.draw_samples,
        figures.draw_tracker,
        figures.draw_history,
        figures.draw_pseudo_labels,
        figures.draw_breakdown,
    )
    drawn = (
        [figure for draw in draws for figure in draw(run)] + figures.draw_evaluation(run) + [figures.draw_summary(run)]
    )
    assert {figure.name for figure in drawn if overhang(figure) > 0.01} == set()


@pytest.mark.filterwarnings("error")  # a layout that does not fit is a warning
def test_draw_all_writes_what_it_promises_and_the_same_bytes_in_another_process_without_pyplot(run):
    (run.folder / "figures").mkdir(exist_ok=True)
    for name in ("pseudo-of-another-method.png", "pseudo-of-another-method.pdf", "my-own.png"):
        (run.folder / "figures" / name).touch()
    paths = figures.draw_all(run)
    (run.folder / "figures" / "my-own.png").unlink()  # is left alone
    tables = ["tables.md", "tables.tex"]
    assert sorted(p.name for p in paths) == sorted(
        [f"{n}.{kind}" for n in PROMISED for kind in ("png", "pdf")] + tables
    )
    assert sorted(p.name for p in (run.folder / "figures").iterdir()) == sorted(p.name for p in paths)
    first = {path: path.read_bytes() for path in paths}
    times = {path: path.stat().st_mtime_ns for path in paths}
    code = "import sys; from tsal import Run, figures; figures.draw_all(Run.open(sys.argv[1]))\n"
    code += "assert not {'matplotlib.pyplot', 'seaborn'} & sys.modules.keys()"
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, str(run.folder)]
    subprocess.run(command, check=True, cwd=REPOSITORY, env=environment)
    assert all(path.stat().st_mtime_ns > times[path] for path in paths)
    assert [path.name for path in paths if path.read_bytes() != first[path]] == []
    for path, content in first.items():
        if path.suffix == ".pdf":
            assert b"/Type3" not in content and b"CreationDate" not in content
            assert b"/FontFile2" in content or path.stem == "samples-labelled"  # which has no words
            width = float(re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+)", content)[1]) / 72
            assert path.stem in ("summary", "samples-clips") or round(width, 3) in (style.COLUMN, style.TEXT)


def test_notebooks_get_an_image(run):
    (figure,) = figures.draw_history(run)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_nothing_is_written_where_the_run_was_changed_since_its_audit(copied):
    """Not the figures drawn before, and nothing of an audit in another unit."""
    changed = dataclasses.replace(copied, config=copied.config.override(["data.normaliser=box"]))
    report = json.loads((changed.folder / "metrics.json").read_text())
    write_text(changed.folder / "metrics.json", json.dumps(report | {"normaliser": "box"}))
    say_of_what_the_audit_is(changed, {"settings": {"data.normaliser": "ocular"}, "fingerprint": ""})
    with pytest.raises(InputError, match="audit: was made with data.normaliser = 'ocular', not 'box', .* tsal pseudo"):
        figures.draw_all(changed)
    (changed.folder / "metrics.json").unlink()
    say_of_what_the_audit_is(changed, {})
    with pytest.raises(InputError, match="metrics.json: not there yet"):
        figures.draw_all(changed)
    assert not (changed.folder / "figures").exists()


@pytest.mark.parametrize(
    "of, words",
    [
        ({}, None),
        ({"settings": {"data.scheme": "68"}, "fingerprint": ""}, None),
        ({"settings": {"data.scheme": "51"}, "fingerprint": ""}, "data.scheme = '51', not '68'"),
        ({"settings": {}, "scheme": {"points": 68}, "fingerprint": ""}, "another landmark scheme, of 68 points"),
        ({"settings": {}, "fingerprint": "of others"}, "other training faces"),
    ],
)
def test_an_audit_is_of_the_settings_the_scheme_and_the_faces_that_the_run_has(copied, of, words):
    say_of_what_the_audit_is(copied, of)
    if words is None:
        assert style.open_audit(copied).of == of
        return
    again = f"run 'python -m tsal pseudo --run {copied.folder}'"
    with pytest.raises(InputError, match=f"{copied.folder}/audit: was made with {words}, .*{again}"):
        style.open_audit(copied)


def test_an_audit_that_does_not_say_of_what_it_is_has_as_many_landmarks_as_the_run(copied):
    other = dataclasses.replace(copied, kept_scheme=get_scheme("51"))
    with pytest.raises(InputError, match="another landmark scheme, of 68 points"):
        style.open_audit(other)


def test_an_init_without_steps_has_no_curve(copied):
    (copied.folder / "init" / "history.csv").unlink()
    with pytest.raises(InputError, match="init/history.csv: not there yet"):
        figures.draw_history(copied)
    (figure,) = figures.draw_history(dataclasses.replace(copied, config=copied.config.override(["supervised.steps=0"])))
    drawn = {line.get_label(): line.get_xdata() for line in figure.axes[0].lines}
    steps = pd.read_csv(copied.folder / "semi" / "history.csv").step.tolist()
    assert "init" not in drawn and drawn["teacher"].tolist() == steps


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("also, drawn", [([], ["init"]), (["supervised.steps=0"], [])])
def test_trainings_without_steps_after_the_init_have_no_curves(copied, also, drawn):
    for name in ("supervised", "semi"):
        (copied.folder / name / "history.csv").unlink()
    run = dataclasses.replace(copied, config=copied.config.override(["semi.steps=0", *also]))
    (figure,) = figures.draw_history(run)
    assert [line.get_label() for line in figure.axes[0].lines if line.get_label() in MODELS] == drawn
    assert words_of(figure).count("nothing to show") == (5 if drawn else 9)


@pytest.mark.filterwarnings("error")
def test_a_loss_that_is_zero_throughout_is_drawn_without_a_warning(copied):
    path = copied.folder / "semi" / "history.csv"
    history = pd.read_csv(path)
    history[["teacher_sic", "student_sic"]] = 0.0
    history.to_csv(path, index=False)
    (figure,) = figures.draw_history(copied)
    figure.canvas.draw()
    [structure] = [axes for axes in figure.axes if axes.get_title() == "loss of structure invariance"]
    assert [drawn.get_ydata().max() for drawn in structure.lines] == [0, 0]


def test_without_truth_the_audit_shows_disagreement(copied):
    unmeasured(copied)
    assert [figure.name for figure in figures.draw_pseudo_labels(copied)] == [
        "pseudo-disagreement",
        "pseudo-steps",
        "pseudo-examples",
    ]
    drawn = figures.draw_breakdown(copied)
    assert [figure.name for figure in drawn] == [
        "pseudo-landmarks",
        "pseudo-poses",
        "pseudo-changes",
        "pseudo-changed-faces",
    ]
    words = "\n".join(map(words_of, drawn))
    assert "disagreement" in words and "eye-corner" not in words and "%)" not in words and "worse" not in words


def test_without_labels_evaluation_shows_faces_alone(copied):
    predictions = read_arrays(copied.folder / "predictions.npz")
    predictions |= {
        "norm_px": np.full_like(predictions["norm_px"], np.nan),
        "visible": np.zeros_like(predictions["visible"]),
    }
    write_arrays(copied.folder / "predictions.npz", **predictions)
    drawn = figures.draw_evaluation(copied)
    assert [figure.name for figure in drawn] == ["evaluation-jitter", "evaluation-faces"]
    assert "nothing to show" in words_of(drawn[0])
    assert "NME" not in words_of(figures.draw_summary(copied))


@pytest.mark.parametrize(("scheme", "lines"), [(generic_scheme(5), 1), (get_scheme("68"), 2)])
def test_landmarks_of_any_scheme(scheme, lines):
    """A scheme that knows no lines shows its points; one that does also joins them. What is unknown is left out."""
    points = np.arange(2.0 * scheme.points).reshape(-1, 2)
    points[0] = np.nan
    axes = style.NamedFigure("x", 1, 1).subplots()
    style.draw_landmarks(axes, points, scheme, "#ffffff")
    drawn = axes.get_lines()
    assert len(drawn) == lines
    np.testing.assert_array_equal(drawn[-1].get_xydata(), points)


def test_a_hidden_landmark_breaks_its_line_and_has_no_dot():
    scheme = Scheme("three", 3, flip=(0, 1, 2), lines=(("brow", (0, 1, 2), True),))
    axes = style.NamedFigure("x", 1, 1).subplots()
    points = np.array([[0.0, 0.0], [1e6, 1e6], [2.0, 0.0]])
    style.draw_landmarks(axes, points, scheme, "#ffffff", visible=np.array([True, False, True]))
    line, dots = (drawn.get_xydata() for drawn in axes.get_lines())
    nothing = [np.nan, np.nan]
    np.testing.assert_array_equal(line, [[0, 0], nothing, [2, 0], [0, 0], nothing])
    np.testing.assert_array_equal(dots, [[0, 0], nothing, [2, 0]])
    assert points[1].tolist() == [1e6, 1e6]


def test_five_landmarks_from_lists_to_figures(run, tmp_path):
    """Samples of a folder of five landmarks, in the crop around the box."""
    face: Face = run.lists.labelled[0]
    lines = [f"{x + 1} {y + 1}" for x, y in run.store.points(face)[0][:5]]
    write_text(tmp_path / "five.pts", "version: 1\nn_points: 5\n{\n" + "\n".join(lines) + "\n}\n")
    shutil.copy(run.root / face.image, tmp_path / "five.jpg")
    write_list(tmp_path / "lists" / "labelled.txt", [("five.jpg", "five.pts", face.box)])
    write_list(tmp_path / "lists" / "unlabelled.txt", [("five.jpg", None, face.box)])
    write_list(tmp_path / "lists" / "val.txt", [("other.jpg", "five.pts", face.box)])
    config = run.config.override(
        [f"data.root={tmp_path}", "data.scheme=5", "data.audit_labels=", "data.normaliser=box"]
    )
    five = Run(tmp_path / "run", config)
    photographs, clips, views = figures.draw_samples(five)
    drawn = [[line.get_xydata() for line in axes.get_lines()] for axes in photographs.axes + clips.axes]
    affine = crop_affine(face.box, config.model.input, config.augment.box_scale)
    assert [len(points) for points in drawn] == [1, 0]  # the photograph's labels, which the clip has not
    np.testing.assert_allclose(drawn[0][0], apply_affine(affine, run.store.points(face)[0][:5]), atol=0.01)
    labels, others = ([line for axes in part for line in axes.get_lines()] for part in (views.axes[:8], views.axes[8:]))
    assert len(views.axes) == 24 and [line.get_xydata().shape for line in labels] == [(5, 2)] * 8 and not others


@pytest.mark.parametrize(
    ("missing", "draw", "stage"),
    [
        ("tracker/model.pt", figures.draw_tracker, "tracker"),
        ("tracker/metrics.json", figures.draw_tracker, "tracker"),
        ("semi/history.csv", figures.draw_history, "train"),
        ("audit/labels.parquet", figures.draw_pseudo_labels, "pseudo"),
        ("predictions.npz", figures.draw_evaluation, "evaluate"),
        ("metrics.json", figures.draw_summary, "evaluate"),
    ],
)
def test_a_missing_file_names_the_stage_that_makes_it(copied, missing, draw, stage):
    (copied.folder / missing).unlink()
    with pytest.raises(InputError, match=rf"{re.escape(missing)}: .*python -m tsal {stage} "):
        draw(copied)


@pytest.mark.parametrize(
    "name, show, stage",
    [
        ("tracker/metrics.json", figures.draw_tracker, "tracker"),
        ("tracker/metrics.json", figures.run_tables, "tracker"),
        ("metrics.json", figures.table, "evaluate"),
        ("metrics.json", lambda run: read_runs([run.folder]), "evaluate"),
        ("manifest.json", lambda run: read_runs([run.folder]), "data"),
    ],
)
def test_a_file_that_was_cut_short_is_a_line_that_names_the_stage_that_makes_it(copied, name, show, stage):
    (copied.folder / name).write_text((copied.folder / name).read_text()[:-3])
    said = f"{copied.folder}/{name}: is broken; run 'python -m tsal {stage} --run {copied.folder}'"
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        show(copied)


def test_flow_colours_tell_direction_and_length():
    flow = np.zeros((2, 1, 3))
    flow[:, 0, 1], flow[:, 0, 2] = (1, 0), (-1, 0)
    still, right, left = style.flow_colours(flow, 1.0)[0]
    assert still.tolist() == [1, 1, 1] and right.tolist() == [1, 0, 0] and left == pytest.approx([0, 1, 1])
