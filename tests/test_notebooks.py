"""Every notebook on the smoke profile, with its numbers; and what a notebook may hold."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil

import cv2
import nbformat
import numpy as np
import pytest
import torch
from toys import ASIDE, NOTEBOOKS
from videos import write_video

from tsal import stages, trainings
from tsal.audit.store import Audit
from tsal.cli.commands import main
from tsal.config import Config, load_method
from tsal.data.lists import find_list, read_list
from tsal.evaluation.predictions import metrics_rows
from tsal.figures.report import comparison_tables
from tsal.inference.demo import photograph
from tsal.model_files import load_model, snapshot_steps
from tsal.run import Run
from tsal.stages.notebook import notebook_parameters
from tsal.utils.checkpoints import load_checkpoint
from tsal.utils.errors import ConfigError
from tsal.utils.files import read_arrays
from tsal.utils.paths import REPOSITORY

MODELS = ["init", "supervised", "mean-teacher-corrected", "teacher", "student"]


# --- as committed ---


@pytest.mark.parametrize("name", [*ASIDE, *NOTEBOOKS])
def test_a_committed_notebook_has_no_outputs_and_holds_nothing_but_calls(name):
    path = REPOSITORY / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and "run" in notebook_parameters(path)
    code = "\n".join(cell.source for cell in cells)
    assert not re.search(r"^\s*(class|def|while|for) ", code, re.M)
    assert not re.search(r"""["'](/|~|[A-Z]:\\)""", code), "an absolute path"
    assert notebook.cells[0].cell_type == "markdown" and notebook.metadata.kernelspec.name == "python3"
    assert "authors" not in notebook.metadata and len(code.splitlines()) <= (45 if name == "01_data" else 39)


@pytest.mark.parametrize("name", [*ASIDE, *NOTEBOOKS])
def test_a_notebook_asks_runs_and_says_what_you_should_see(name):
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", 4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    title, *parts = re.split(r"^## ", text, flags=re.M)
    assert "**Question.**" in title and parts
    for part in parts:
        places = [part.find(f"**{word}") for word in ("Question.", "What you should see.", "Try next.")]
        assert -1 < places[0] < places[1] < places[2], part
        assert "**Run" in part or "**Look" in part, part
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert len(re.findall(r"^from tsal", code, re.M)) == 1 and not re.search(r"^import tsal|from tsal\.", code, re.M)
    imported = re.search(r"^from tsal import (.+)$", code, re.M)[1].split(", ")
    unused = [word for word in imported if len(re.findall(rf"\b{word}\b", code)) < 2]
    assert imported == sorted(imported) and not unused
    assert all(len(line) <= 120 for cell in notebook.cells for line in cell.source.splitlines())


def test_settings_that_a_notebook_advises_are_settings_and_clips_are_as_long_as_the_window_that_is_asked_for():
    texts = [nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", 4).cells for name in [*ASIDE, *NOTEBOOKS]]
    advised = re.findall(r'SET="(.+?)"', "\n".join(cell.source for cells in texts for cell in cells), re.S)
    assert "tsal.window=5" in " ".join(advised)
    for config in (Config.resolve(overrides=settings.split()) for settings in advised):
        assert config.tsal.window < config.semi.frames <= config.render.frames


def test_there_are_no_other_notebooks():
    assert sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")) == sorted([*ASIDE, *NOTEBOOKS])


def test_default_parameters_open_the_default_run():
    folders = {
        re.search('"(outputs/.+?)"', nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", 4).cells[2].source)[1]
        for name in [*ASIDE, *NOTEBOOKS]
    }
    assert folders == {"outputs/rendered-demo-s0"}


def test_the_notebook_that_make_explore_opens_takes_its_run_from_the_environment(monkeypatch):
    cell = nbformat.read(REPOSITORY / "notebooks" / "04_pseudo_labels.ipynb", 4).cells[2]
    namespace: dict = {"os": os}
    for value, run in ((None, "outputs/rendered-demo-s0"), ("outputs/mine", "outputs/mine")):
        monkeypatch.setenv("TSAL_RUN", value) if value else monkeypatch.delenv("TSAL_RUN", raising=False)
        exec(cell.source, namespace)
        assert namespace["run"] == run


# --- as executed ---


def opened(folder) -> Run:
    return Run.open(folder)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_an_executed_notebook_ends_without_an_error_and_shows_its_numbers(smoke_run, name):
    notebook = nbformat.read(smoke_run / "executed" / f"{name}.ipynb", 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert any(output.output_type == "execute_result" for output in outputs)  # the table of the last cell
    assert any("image/png" in output.get("data", {}) for output in outputs)
    tables = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert (name == "06_figures") == any("| val.txt | teacher | heatmap |" in table for table in tables)
    assert any("injected-parameters" in cell.metadata.get("tags", []) for cell in notebook.cells)
    kernel = notebook.metadata.get("language_info", {}).get("version", "")
    assert kernel == ".".join(map(str, __import__("sys").version_info[:3]))


def test_the_folder_of_executed_notebooks_holds_no_failed_or_half_written_one(smoke_run):
    assert sorted(path.name for path in (smoke_run / "executed").iterdir()) == sorted(
        f"{name}.ipynb" for name in NOTEBOOKS
    )


@pytest.mark.parametrize("name", ASIDE)
def test_a_notebook_aside_shows_a_run_and_changes_nothing_of_it(smoke_run, tmp_path, name):
    run = tmp_path / "run"
    shutil.copytree(smoke_run, run)
    before = {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}
    assert main(["notebook", str(REPOSITORY / "notebooks" / f"{name}.ipynb"), "--run", str(run)]) == 0
    executed = run / "executed" / f"{name}.ipynb"
    assert {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file() and path != executed} == before
    cells = [cell for cell in nbformat.read(executed, 4).cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert "text/html" in cells[-1].outputs[-1].data  # the table of the last cell


def execute_copy(smoke_run, folder, notebook, *parameters: str) -> tuple:
    """A copy of the run, and what the cells of the notebook show there with these parameters (-p)."""
    run = folder / "run"
    shutil.copytree(smoke_run, run)
    assert main(["notebook", str(notebook), "--run", str(run), "-p", *parameters]) == 0
    cells = nbformat.read(run / "executed" / notebook.name, 4).cells
    return run, [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def test_a_video_that_is_named_is_tracked_by_teacher_and_student_and_smoothed(smoke_run, tmp_path):
    face, notebook = cv2.imread(str(photograph()))[::2, ::2], REPOSITORY / "notebooks" / "05_evaluate.ipynb"
    video = write_video(tmp_path / "my video.mp4", [face] * 8, codec="mp4v")
    run, outputs = execute_copy(smoke_run, tmp_path, notebook, "video", str(video), "-p", "smooth", "0.1")
    with open(run / "track.csv") as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"teacher", "student"} and (run / "track.mp4").stat().st_size > 0
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert f"out: {run / 'track.mp4'}\nframes: 8\nfaces: 1\n" in said
    assert all(word in outputs[-1].data["text/html"] for word in ("teacher", "student", "raw", "smoothed"))


def test_runs_that_are_named_are_compared(smoke_run, tmp_path):
    other = shutil.copytree(smoke_run, tmp_path / "other")
    for name in ("config.json", "metrics.json"):
        text = (other / name).read_text()
        (other / name).write_text(text.replace('"seed": 0', '"seed": 1', 1))
    text, drawn = (REPOSITORY / "notebooks" / "06_figures.ipynb").read_text(), "figures.draw_all(opened)"
    assert drawn in text
    (tmp_path / "06_figures.ipynb").write_text(text.replace(drawn, "[]"))  # the run has them: half a minute
    run, outputs = execute_copy(smoke_run, tmp_path, tmp_path / "06_figures.ipynb", "compare", f"[{other}]")
    [tables] = [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]
    assert "| val.txt | 12 | TSAL | 2 |" in tables and "| val.txt | 12 | mean-teacher-corrected | 2 |" in tables
    assert "compare-methods.png" in outputs[-1].data["text/plain"]
    assert cv2.imread(str(run / "figures" / "compare" / "compare-methods.png")).std() > 1


def test_data_keeps_the_resolved_config_and_a_manifest_of_every_row(smoke_run):
    run = opened(smoke_run)
    assert run.config == Config.resolve("smoke", overrides=["seed=0"])
    manifest, data = run.manifest(), run.config.data
    rows = {name: read_list(find_list(run.root, name)) for name in (*data.labelled, *data.unlabelled, *data.evaluate)}
    assert manifest["labelled"] == len(rows[data.labelled[0]]) > 0
    assert manifest["unlabelled"] == len(rows[data.unlabelled[0]]) > 0
    assert manifest["evaluate"]["val.txt"]["faces"] == len(rows["val.txt"]) > 0
    assert manifest["clips"] == run.config.render.clips
    assert set(manifest["images"]) == {face.image for faces in rows.values() for face in faces}
    assert json.loads((smoke_run / "environment.json").read_text())["packages"]["numpy"] == np.__version__


def test_the_tracker_is_measured_beside_zero_motion_and_dis(smoke_run):
    metrics = json.loads((smoke_run / "tracker/metrics.json").read_text())
    assert metrics["normaliser"] == "ocular" and metrics["pairs"] == {"1": 8, "2": 4}  # 4 clips of 3 frames
    assert set(metrics["methods"]) == {"zero motion", "DIS", "tracker"}
    for row in metrics["methods"].values():
        assert row["mean"].keys() == row["median"].keys() == {"1", "2"}
        assert all(0 < value < 100 for kind in ("mean", "median") for value in row[kind].values())  # %
    assert set(metrics["methods"]["tracker"]["recall"]) <= {"1", "2"}


@pytest.mark.parametrize("name", ["tracker", "init", "supervised", "semi"])
def test_a_training_runs_its_steps_and_keeps_a_checkpoint_of_plain_types(smoke_run, name):
    config = opened(smoke_run).config
    steps = {
        "tracker": config.tracker.video_steps,  # those on pairs with exact flow have a history of their own
        "init": config.supervised.steps,
    }.get(name, config.semi.steps)
    with open(smoke_run / name / "history.csv") as file:
        rows = list(csv.DictReader(file))
    if name == "tracker":  # pairs of known flow first, in a folder of their own
        with open(smoke_run / name / "synthetic/history.csv") as file:
            synthetic_rows = list(csv.DictReader(file))
        assert int(synthetic_rows[-1]["step"]) == config.tracker.synthetic_steps
        rows = synthetic_rows + rows
    assert int(rows[-1]["step"]) == steps
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    content = torch.load(smoke_run / name / "model.pt", weights_only=True)
    assert Config.from_dict(content["config"]) == config
    assert not (smoke_run / name / "last.pt").exists()


def test_supervised_and_semi_have_equal_steps_and_the_same_init(smoke_run):
    times = {name: json.loads((smoke_run / name / "time.json").read_text()) for name in ("init", "supervised", "semi")}
    assert times["supervised"]["steps"] == times["semi"]["steps"] == opened(smoke_run).config.semi.steps
    assert all(time["seconds"] > 0 for time in times.values())
    init = load_checkpoint(smoke_run / "init/model.pt")["fingerprint"]
    assert load_checkpoint(smoke_run / "supervised/model.pt")["fingerprint"]["init"] == init
    assert load_checkpoint(smoke_run / "semi/model.pt")["fingerprint"]["init"] == [init]


def test_a_training_is_of_the_tracker_that_it_learned_from(smoke_run):
    """Another tracker of the same settings, from a file that was replaced, makes another training."""
    semi, tracker = (load_checkpoint(smoke_run / f"{name}/model.pt")["fingerprint"] for name in ("semi", "tracker"))
    assert semi["trained tracker"] == tracker


def test_teacher_and_student_are_two_detectors(smoke_run):
    teacher, student = (
        load_model(smoke_run / "semi/model.pt", name)[0].state_dict() for name in ("teacher", "student")
    )
    assert any(not torch.equal(teacher[name], student[name]) for name in teacher)


def test_the_audit_has_every_source_of_every_model_on_every_unlabelled_frame(smoke_run):
    run, audit = opened(smoke_run), Audit.open(smoke_run / "audit")
    frames, sources, points = len(run.lists.unlabelled), len(audit.sources), run.scheme.points
    assert audit.names == ["init", "teacher", "student"]
    steps = run.config.semi.steps
    assert audit.steps("init") == [0] and audit.steps("teacher") == audit.steps("student") == [
        *snapshot_steps(steps, 4),
        steps,
    ]
    assert sorted(audit.frames.image) == sorted(face.image for face in run.lists.unlabelled)
    for model in audit.names:
        labels, _ = audit.labels(model)
        assert labels.points.shape == (sources, frames, points, 2)
        tracked = labels.valid[audit.sources.index("tracked_heatmap")]
        first = audit.frames.place.to_numpy() == 0
        assert not tracked[first].any() and tracked[~first].any()  # nothing is tracked into a clip's first frame


def test_metrics_are_what_the_predictions_table_says(smoke_run):
    run, table = opened(smoke_run), read_arrays(smoke_run / "predictions.npz")
    faces = len(run.lists.evaluate["val.txt"])
    assert table["models"].tolist() == MODELS and table["sources"].tolist() == ["heatmap", "centre", "fused", "window"]
    assert table["points"].shape == (5, 4, faces, 68, 2) and table["scores"].shape == (5, 4, faces, 68)
    assert np.isfinite(table["points"]).all()
    report = json.loads((smoke_run / "metrics.json").read_text())
    assert report["rows"] == json.loads(json.dumps(metrics_rows(table)))
    # and once more by hand, from labels and eye corners
    scored = ~table["degenerate"]
    errors = np.linalg.norm(table["points"][MODELS.index("teacher"), 0] - table["truth"], axis=-1)
    corners = np.linalg.norm(table["truth"][:, 36] - table["truth"][:, 45], axis=-1)
    shares = [errors[i][table["visible"][i]].mean() / corners[i] for i in np.flatnonzero(scored)]
    row = next(row for row in report["rows"] if row["model"] == "teacher" and row["source"] == "heatmap")
    assert row["NME"] == pytest.approx(100 * np.mean(shares), rel=1e-5)
    assert row["faces"] == scored.sum()
    assert row["AUC@0.08"] == pytest.approx(np.mean(np.maximum(0, 1 - np.array(shares) / 0.08)), abs=1e-6)


def test_the_figures_are_image_files(smoke_run):
    paths = list((smoke_run / "figures").glob("*.png"))
    assert len(paths) >= 6
    assert all(cv2.imread(str(path)).std() > 1 for path in paths)
    assert all(path.with_suffix(".pdf").stat().st_size > 1000 for path in paths)


# --- skipped, resumed ---


def trained_files(folder) -> dict:
    return {name: (folder / name / "model.pt").stat().st_mtime_ns for name in ("tracker", "init", "supervised", "semi")}


def test_what_is_trained_with_the_same_settings_is_not_trained_again(smoke_run):
    before = trained_files(smoke_run)
    stages.train_tracker(opened(smoke_run))
    stages.train_models(opened(smoke_run))
    assert trained_files(smoke_run) == before


def test_the_rival_is_that_method_s_own_run_from_the_same_init(smoke_run, tmp_path):
    files = ("config.json", "manifest.json", "scheme.json", "tracker/model.pt", "init/model.pt")
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((smoke_run / file).read_bytes())
    method = load_method(opened(smoke_run).config.semi.rival)
    alone = Run.open(tmp_path, {"method": method.name} | method.settings)
    trainings.train_semi(alone, [tmp_path / "init/model.pt"], alone.config.semi.steps)
    rival, own = (
        load_model(path, method.result)[0] for path in (smoke_run / "rival/model.pt", tmp_path / "semi/model.pt")
    )
    assert all(torch.equal(first, second) for first, second in zip(rival.parameters(), own.parameters()))
    assert "Mean Teacher, corrected" in comparison_tables(opened(smoke_run))[0]


def test_a_rival_that_learns_from_labels_alone_is_refused():
    with pytest.raises(ConfigError, match="semi.rival=supervised-3x: it learns from labels alone"):
        trainings.find_rival(Config.resolve("smoke", overrides=["semi.rival=supervised-3x"]))
    assert trainings.find_rival(Config.resolve("demo", method="mean-teacher-corrected")) is None
    assert trainings.find_rival(Config.resolve("demo", method="supervised")) is None


@pytest.mark.parametrize("name, step", [("init", "supervised_step"), ("semi", "asynchronous_step")])
def test_a_killed_training_that_is_resumed_ends_with_the_same_weights_to_the_bit(
    smoke_run, tmp_path, monkeypatch, name, step
):
    folder = tmp_path / "run"
    for file in ("config.json", "manifest.json", "tracker/model.pt", "init/model.pt"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes((smoke_run / file).read_bytes())
    config = opened(folder).config

    def train():
        if name == "init":
            trainings.train_supervised(
                opened(folder),
                "init",
                seed=config.seed,
                steps=config.supervised.steps,
                batch=config.supervised.batch,
                lr=config.supervised.lr,
            )
        else:
            trainings.train_semi(opened(folder), [folder / "init/model.pt"], config.semi.steps)

    if name == "init":
        (folder / "init/model.pt").unlink()
    whole, calls = getattr(trainings, step), []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == config.train.checkpoint_every + 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainings, step, killed)
        with pytest.raises(KeyboardInterrupt):
            train()
    assert load_checkpoint(folder / name / "last.pt")["step"] == config.train.checkpoint_every
    assert not (folder / name / "model.pt").exists()
    train()
    resumed, uninterrupted = (load_checkpoint(where / name / "model.pt")["models"] for where in (folder, smoke_run))
    for model, weights in uninterrupted.items():
        assert all(torch.equal(value, resumed[model][key]) for key, value in weights.items())
    last_rows = [(where / name / "history.csv").read_text().splitlines()[-1] for where in (folder, smoke_run)]
    assert last_rows[0] == last_rows[1]


# --- what goes wrong ---


def test_a_parameter_that_a_notebook_does_not_have_is_an_error_that_names_the_nearest(tmp_path, capsys):
    notebook = str(REPOSITORY / "notebooks/04_pseudo_labels.ipynb")
    assert main(["notebook", notebook, "--run", str(tmp_path / "run"), "-p", "clip", "3"]) == 2
    assert "no parameter 'clip' (did you mean 'clips'?)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def write_notebook(path, *sources):
    cells = [
        nbformat.v4.new_code_cell('run = ""', metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, sources),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def test_parameters_are_yaml_and_plain_text_stays_as_it_is(tmp_path, capsys):
    write_notebook(tmp_path / "n.ipynb", "print([run, a, b, c])")
    book = nbformat.read(tmp_path / "n.ipynb", 4)
    book.cells[0].source = 'run = ""\na = ""\nb = 0\nc = ""'
    nbformat.write(book, tmp_path / "n.ipynb")
    parameters = ["-p", "a", "clip #1: x.mp4", "-p", "b", "[1, 2]", "-p", "c", "'7'"]
    assert main(["notebook", str(tmp_path / "n.ipynb"), "--run", str(tmp_path / "run"), *parameters]) == 0
    executed = nbformat.read(next((tmp_path / "run" / "executed").glob("n.ipynb")), 4)
    assert "'clip #1: x.mp4', [1, 2], '7']" in executed.cells[-1].outputs[0].text


def test_an_input_error_in_a_notebook_is_reported_as_on_the_command_line(tmp_path, capsys):
    write_notebook(
        tmp_path / "bad.ipynb", "from tsal.utils import DataError\nraise DataError(['a.txt:1: wrong', 'a.txt:2: too'])"
    )
    assert main(["notebook", str(tmp_path / "bad.ipynb"), "--run", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error == "error: a.txt:1: wrong\nerror: a.txt:2: too\n"
    assert [path.name for path in (tmp_path / "run/executed").iterdir()] == ["bad.failed.ipynb"]


def test_any_other_error_in_a_notebook_is_shown_with_its_place_and_the_next_success_removes_what_failed(
    tmp_path, capsys
):
    write_notebook(tmp_path / "n.ipynb", "1 / 0")
    assert main(["notebook", str(tmp_path / "n.ipynb"), "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert (
        "ZeroDivisionError" in error and str(tmp_path / "run/executed/n.failed.ipynb") in error and "\x1b" not in error
    )
    write_notebook(tmp_path / "n.ipynb", "import sys, os\nprint(sys.prefix, os.getcwd(), file=sys.stderr)")
    assert main(["notebook", str(tmp_path / "n.ipynb"), "--run", str(tmp_path / "run")]) == 0
    # shown live, and by this interpreter's kernel in the repository
    assert f"{__import__('sys').prefix} {REPOSITORY}" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run/executed").iterdir()] == ["n.ipynb"]


def test_a_kernel_that_dies_is_one_line_that_names_the_cell(tmp_path, capsys):
    write_notebook(tmp_path / "n.ipynb", "x = 1", "import os\nos.kill(os.getpid(), 9)", "x = 2")
    assert main(["notebook", str(tmp_path / "n.ipynb"), "--run", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"failed: {tmp_path / 'n.ipynb'}: its kernel died in code cell 3 (import os): ")
    assert error.count("\n") == 1 and "no memory was left" in error
    assert [path.name for path in (tmp_path / "run/executed").iterdir()] == ["n.failed.ipynb"]


def test_the_first_notebook_takes_every_setting_that_its_command_takes(tmp_path):
    options = ["--profile", "smoke", "--seed", "3", "--method", "mean-teacher", "--set", "semi.steps=7"]
    notebook = str(REPOSITORY / "notebooks" / "01_data.ipynb")
    assert main(["notebook", notebook, "--run", str(tmp_path / "run"), *options]) == 0
    config = Run.open(tmp_path / "run").config
    assert (config.seed, config.method, config.semi.steps) == (3, "mean-teacher", 7)
