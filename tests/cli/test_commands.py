"""The command line: help, settings fixed once, predictions, and a run on real faces from lists to landmarks."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tsal.cli.commands import STAGES, main, make_parser
from tsal.cli.options import config_from, resolved, run_folder
from tsal.config import Config
from tsal.data.lists import find_list, read_list
from tsal.run import Run
from tsal.utils.files import read_arrays
from tsal.utils.paths import REPOSITORY


@pytest.mark.parametrize("command", [*STAGES, "report", "predict", "notebook"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f"python -m tsal {command}" in text
    assert ("--run" in text) == (command != "predict")


def test_a_wrong_option_ends_with_status_2_and_no_traceback():
    process = subprocess.run(
        [sys.executable, "-m", "tsal", "train", "--sed", "x"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert process.returncode == 2 and "Traceback" not in process.stderr


def parse(*words: str):
    return make_parser().parse_args(words)


def test_options_make_a_config_with_set_last():
    arguments = parse(
        "data",
        "--data",
        "mine",
        "--root",
        "/x y",
        "--budget",
        "ytf-40",
        "--labelled",
        "a",
        "b",
        "--set",
        "semi.clips=2 semi.steps=4",
        "semi.clips=3",
    )
    config, origins = resolved(arguments)
    assert (config.data.name, config.data.root, config.data.labelled) == ("mine", "/x y", ("a", "b"))
    assert (config.profile, config.budget, config.method) == ("faces", "ytf-40", "tsal")
    assert (config.data.evaluate, origins["data.evaluate"]) == (("YTF.val.GTB",), "budget ytf-40")
    assert (config.semi.clips, config.semi.steps) == (3, 4) and origins["semi.clips"] == "--set"  # the budget says 13
    assert config_from(arguments, method="mean-teacher").method == "mean-teacher"


def test_settings_are_printed_with_where_they_came_from(capsys):
    assert main(["config", "show", "semi", "--budget", "300w-50", "--data", "mine", "--set", "semi.lr=1e-3"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "[budget 300w-50]" in lines["semi.images"] and "[profile faces]" in lines["semi.steps"]
    assert "0.001" in lines["semi.lr"] and "[--set]" in lines["semi.lr"] and "tsal.sources" not in lines
    assert main(["config", "diff", "method=tsal-no-sic"]) == 0
    assert capsys.readouterr().out.splitlines() == ["tsal.sic_weight: 0.0 -> 30.0"]
    assert main(["config", "diff", "--profile", "demo"]) == 0 and capsys.readouterr().out == "none\n"
    assert main(["config", "diff", "methods=x"]) == 2 and main(["config", "show", "tsall"]) == 2


@pytest.mark.parametrize("command", [["config", "show"], ["config", "diff"], ["report"], ["gallery"], ["run-folder"]])
def test_an_option_that_would_be_ignored_beside_run_is_an_error(command, smoke_run, capsys):
    assert main([*command, "--run", str(smoke_run), "--budget", "300w-50", "--seed", "0"]) == 2
    assert capsys.readouterr().err.endswith("leave out --budget, --seed\n")


def test_a_run_is_compared_with_itself_by_another_method(smoke_run, capsys):
    assert main(["config", "diff", "--run", str(smoke_run), "method=tsal-no-sic"]) == 0
    changes = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert changes.pop("tsal.sic_weight") == "0.0 -> 30.0"
    own = {name: value for name, value in Run.open(smoke_run).config.flat().items() if name in changes}
    assert all(value.endswith(f"-> {own[name]}") for name, value in changes.items()) and "semi.steps" not in changes


def test_a_setting_for_a_notebook_that_reads_a_run_is_one_clear_error(smoke_run, capsys):
    notebook = REPOSITORY / "notebooks" / "00_one_step.ipynb"
    assert main(["notebook", str(notebook), "--run", str(smoke_run), "--set", "semi.lr=1e-3"]) == 2
    error = capsys.readouterr().err
    assert "00_one_step.ipynb: reads its settings from the run's config.json" in error and error.count("\n") == 1


def test_the_page_of_settings_is_what_the_code_says(capsys):
    assert main(["config", "page"]) == 0
    assert capsys.readouterr().out == (REPOSITORY / "docs" / "configuration.md").read_text()


def test_a_run_is_named_by_what_it_is():
    outputs = REPOSITORY / "outputs"
    assert run_folder(parse("train")) == outputs / "rendered-demo-s0"
    assert (
        run_folder(parse("train", "--data", "mine", "--budget", "300w-50", "--seed", "2"))
        == outputs / "mine-300w-50-faces-s2"
    )
    assert run_folder(parse("train", "--method", "stld")) == outputs / "rendered-demo-stld-s0"
    assert run_folder(parse("train", "--method", "tsal")) == outputs / "rendered-demo-s0"
    assert run_folder(parse("train", "--profile", "some/own.yaml")) == outputs / "rendered-own-s0"


def test_settings_are_fixed_when_the_run_is_made(smoke_run, capsys):
    options = ["--run", str(smoke_run)]
    assert main(["train", *options, "--set", "supervised.steps=21"]) == 2
    assert "supervised.steps = 20, not 21" in capsys.readouterr().err
    assert main(["train", *options, "--profile", "smoke", "--seed", "0"]) == 0  # the same ones: skipped
    assert "init: 20 steps" in capsys.readouterr().out


def test_a_stage_without_a_run_says_how_to_make_one(tmp_path, capsys):
    folder = tmp_path / "none"
    assert main(["report", "--run", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {folder}: no run there") and error.count("\n") == 1
    assert error.endswith(f"to make one of this name, give its options to 'python -m tsal data --run {folder}'\n")


@pytest.mark.parametrize("stage", [name for name in STAGES if name != "data"])
def test_a_mistyped_run_that_is_named_alone_starts_no_new_one(stage, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("tsal.run.OUTPUTS", tmp_path)
    monkeypatch.setattr("tsal.cli.commands.perform", lambda *_, **__: None)
    monkeypatch.setattr("tsal.cli.runs.create_run", lambda arguments: Run(run_folder(arguments), Config()))
    for name in ("mine-smoke-s0", "other"):
        Config().save(tmp_path / name / "config.json")
    for folder in (tmp_path / "mine-smoke-s00", tmp_path / "elsewhere" / "mine-smoke-s0"):
        assert main([stage, "--run", str(folder)]) == 2
        error = capsys.readouterr().err
        assert f"; did you mean {tmp_path / 'mine-smoke-s0'}?; to make one of this name, give its" in error
        assert f"'python -m tsal data --run {folder}'" in error and not folder.exists()
    assert main([stage, "--run", str(tmp_path / "xyz")]) == 2
    assert "(no config.json); runs: mine-smoke-s0, other; to make" in capsys.readouterr().err
    assert main([stage, "--run", str(tmp_path / "xyz"), "--seed", "0"]) == 0  # a new one, by an option
    assert main([stage]) == 0  # or by the options' defaults


def test_the_report_shows_every_member_and_the_figures(smoke_run, capsys):
    assert main(["report", "--run", str(smoke_run)]) == 0
    text = capsys.readouterr().out
    for word in ("NME %", "AUC@0.08", "FR@0.08", "supervised only", "TSAL teacher", "TSAL student", "20 + 10", ".png"):
        assert word in text


def test_the_report_of_a_source_has_its_numbers(smoke_run, capsys):
    rows = [row for row in json.loads((smoke_run / "metrics.json").read_text())["rows"] if row["model"] == "teacher"]
    errors = {row["source"]: f"{row['NME']:.3f}" for row in rows}
    assert len(set(errors.values())) == len(errors) == len(rows)  # of the one list
    for source in ("window", "fused"):
        assert main(["report", "--run", str(smoke_run), "--source", source]) == 0
        text = capsys.readouterr().out
        [line] = [line for line in text.splitlines() if line.startswith("TSAL teacher")]
        assert f"source {source}\n" in text and line.removeprefix("TSAL teacher").split()[0] == errors[source]


# --- predict ---


@pytest.fixture
def mixed_list(smoke_run, tmp_path):
    """Rows of several lists in an order of their own; two have no labels, one names an annotation that is not there."""
    run = Run.open(smoke_run)
    labelled, unlabelled = run.lists.labelled, run.lists.unlabelled
    rows = [
        (unlabelled[3], "None"),
        (labelled[0], "gone.pts"),
        (unlabelled[0], "None"),
        (labelled[1], labelled[1].annotation),
    ]
    path = tmp_path / "mixed list.txt"
    path.write_text("".join(f"{face.image} {annotation} {' '.join(map(str, face.box))}\n" for face, annotation in rows))
    return run, path, [face for face, _ in rows]


def predict(run, path, out, *more):
    weights = run.folder / "semi/model.pt"
    return main(
        ["predict", "--weights", str(weights), "--list", str(path), "--root", str(run.root), "--out", str(out), *more]
    )


def test_predict_writes_every_row_in_order(mixed_list, tmp_path):
    run, path, faces = mixed_list
    assert predict(run, path, tmp_path / "p.npz") == 0
    arrays = read_arrays(tmp_path / "p.npz")
    assert set(arrays) == {"paths", "faces", "boxes", "points", "scores"}
    assert arrays["boxes"] == pytest.approx(np.array([face.box for face in faces]), abs=0.01)
    assert arrays["paths"].tolist() == [face.image for face in faces]
    assert (
        arrays["points"].shape == (4, 68, 2)
        and arrays["points"].dtype == np.float32
        and arrays["scores"].shape == (4, 68)
    )
    # pixels of the original image: within the crop, which is the box with some margin
    for face, points in zip(faces, arrays["points"]):
        x1, y1, x2, y2 = face.box
        middle, reach = np.array([x1 + x2, y1 + y2]) / 2, 0.75 * max(x2 - x1, y2 - y1)
        assert (np.abs(points - middle) <= reach).all()


def test_predict_agrees_with_the_predictions_table_for_each_model_and_source(smoke_run, tmp_path):
    run, table = Run.open(smoke_run), read_arrays(smoke_run / "predictions.npz")
    for model in ("teacher", "student"):
        for source in ("heatmap", "centre", "fused"):
            assert predict(run, "val.txt", tmp_path / "p.npz", "--model", model, "--source", source) == 0
            arrays = read_arrays(tmp_path / "p.npz")
            place = table["models"].tolist().index(model), table["sources"].tolist().index(source)
            np.testing.assert_allclose(arrays["points"], table["points"][place], atol=1e-3)
            assert arrays["paths"].tolist() == table["path"].tolist()
    assert predict(run, "val.txt", tmp_path / "q.npz", "--source", "fused", "--model", "teacher") == 0
    assert predict(run, "val.txt", tmp_path / "r.npz", "--source", "fused") == 0  # the teacher is the default
    np.testing.assert_array_equal(read_arrays(tmp_path / "q.npz")["points"], read_arrays(tmp_path / "r.npz")["points"])


def test_predict_tells_what_is_wrong_and_writes_nothing(mixed_list, tmp_path, capsys):
    run, path, _ = mixed_list

    def said(*more: str, path=path, out="p.npz") -> str:
        assert predict(run, path, tmp_path / out, *more) == 2
        assert not (tmp_path / out).exists()
        return capsys.readouterr().err

    assert "has no model 'uncle'; it holds teacher, student" in said("--model", "uncle")
    assert "must be named .csv, .json or .npz" in said(out="p.txt")
    assert "no such list" in said(path="nowhere.txt")
    assert "no such checkpoint" in said("--weights", str(tmp_path / "none.pt"))
    assert "holds no trained detector" in said("--weights", str(run.folder / "tracker/model.pt"))
    (tmp_path / "junk.pt").write_bytes(b"junk")
    assert "not a readable checkpoint" in said("--weights", str(tmp_path / "junk.pt"))
    assert "no such folder" in said("--root", str(tmp_path / "none"))
    assert "me.JPG: is an image, no list; name it without --list" in said(path="me.JPG")
    path.write_bytes(b"\xff\xd8\xff")
    assert f"{path}: cannot read the list: it is no text" in said()
    path.write_text("gone.png None 1 1 9 9\nalso-gone.png None 1 1 9 9\n")
    errors = [line for line in said().splitlines() if line.startswith("error: ")]
    assert [line.partition(": the image ")[2] for line in errors] == [
        "gone.png does not exist",
        "also-gone.png does not exist",
    ]


# --- real faces ---


def test_real_faces_from_lists_to_landmarks(realdata, tmp_path):
    def cut(name: str, source: str, rows: int) -> str:
        lines = find_list(realdata, source).read_text().splitlines()[:rows]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    lists = {
        "--labelled": cut("labelled", "semi/300W.labelled-50.GTB", 12),
        "--unlabelled": cut("unlabelled", "semi/YTF.unlabelled-802clips.GTB", 120),
        "--evaluate": cut("val", "semi/300W.val-150.GTB", 6),
    }
    photographs = cut("photographs", "semi/300W.unlabelled-1007.GTB", 5)
    run = tmp_path / "run"
    options = [word for pair in lists.items() for word in pair]
    options[options.index("--unlabelled") + 2 : options.index("--unlabelled") + 2] = [photographs]
    settings = ["--data", "real", "--root", str(realdata), "--profile", "smoke", *options]
    assert main(["figures", "--run", str(run), *settings]) == 0  # and every stage before
    opened = Run.open(run)
    assert len(opened.clips) >= 2 and len(opened.single_images) == 5 and len(opened.lists.labelled) == 12
    table = read_arrays(run / "predictions.npz")
    assert table["points"].shape == (5, 3, 6, 68, 2) and np.isfinite(table["points"]).all()
    assert len(list((run / "figures").glob("*.png"))) >= 5
    assert predict(opened, lists["--unlabelled"], tmp_path / "p.npz") == 0
    arrays = read_arrays(tmp_path / "p.npz")
    assert arrays["paths"].tolist() == [face.image for face in read_list(tmp_path / "unlabelled")]
