"""A run that is there: what the options change of it, and that the rest of it stays."""

from __future__ import annotations

import json

import pytest

from tsal.cli.commands import main, make_parser
from tsal.cli.options import difference
from tsal.cli.runs import config_over
from tsal.config import Config, resolve
from tsal.run import Run
from tsal.synthetic.dataset import render_dataset
from tsal.utils.errors import ConfigError
from tsal.utils.paths import REPOSITORY

LISTS = {"data.name": "mine", "data.root": "/faces", "data.labelled": ["few.txt"]}
MADE = resolve("faces", "", "tsal", ["seed=3", "semi.steps=7", "tsal.sic_weight=2", "data.scheme=51"], LISTS)[0]


def over(config: Config, *words: str) -> Config:
    return config_over(config, make_parser().parse_args(["data", *words]))


def test_what_is_not_given_stays_as_the_run_has_it():
    assert over(MADE) == MADE
    assert difference(MADE, over(MADE, "--set", "semi.steps=8")) == {"semi.steps": (7, 8)}
    assert difference(MADE, over(MADE, "--labelled", "a", "b")) == {"data.labelled": (["few.txt"], ["a", "b"])}


@pytest.mark.parametrize("words", [["--data", "other"], ["--set", "data.name=other"]])
def test_other_faces_are_another_run(words):
    """The run's root, lists and budget are of its own faces."""
    with pytest.raises(
        ConfigError, match="has the faces 'mine', and others, 'other', are another run: name another --run"
    ):
        over(MADE, *words)


@pytest.mark.parametrize("words", [["--profile", "faces"], ["--method", "tsal"], ["--seed", "3"], ["--data", "mine"]])
def test_a_name_that_the_run_has_already_asks_for_nothing(words):
    assert over(MADE, *words) == MADE


def test_another_profile_budget_or_method_brings_its_settings_anew_and_leaves_what_it_does_not_name():
    demo = over(MADE, "--profile", "demo")
    expected = resolve("demo", "", "tsal", ["seed=3", "tsal.sic_weight=2", "data.scheme=51"], LISTS)[0]  # no steps
    assert demo == expected and demo.semi.steps != 7
    corrected = over(MADE, "--method", "mean-teacher-corrected")
    own = ["seed=3", "semi.steps=7", "data.scheme=51"]
    assert corrected == resolve("faces", "", "mean-teacher-corrected", own, LISTS)[0]
    budget = over(MADE, "--budget", "300w-50", "--evaluate", "v.txt")
    assert (budget.budget, budget.data.name, budget.data.evaluate) == ("300w-50", "mine", ("v.txt",))
    assert budget.data.labelled == resolve("faces", "300w-50")[0].data.labelled and budget.semi.steps == 7
    lucas_kanade = resolve("faces", "", "sbr-lk", (), LISTS)[0]
    assert over(lucas_kanade, "--method", "tsal") == resolve("faces", "", "tsal", (), LISTS)[0]  # its flow goes too


def test_of_a_profile_that_was_a_file_no_other_name_is_changed_without_it(tmp_path):
    (tmp_path / "own.yaml").write_text("semi: {steps: 5}\n")
    config = resolve(str(tmp_path / "own.yaml"), overrides=["seed=2"])[0]
    with pytest.raises(ConfigError, match="profile 'own' was a file: give it too"):
        over(config, "--method", "stld")
    changed = over(config, "--method", "stld", "--profile", str(tmp_path / "own.yaml"))
    assert (changed.method, changed.semi.steps, changed.seed) == ("stld", 5, 2)


def test_the_run_s_own_profile_file_given_again_leaves_what_was_set(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("semi: {steps: 5}\n")
    config = resolve(str(own), overrides=["semi.steps=7", "semi.lr=1e-5", "tsal.sic_weight=2"])[0]
    assert over(config, "--profile", str(own)) == config
    changed = over(config, "--profile", str(own), "--method", "mean-teacher")
    assert changed == resolve(str(own), "", "mean-teacher", ["semi.steps=7", "semi.lr=1e-5"])[0]


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces") / "mine"
    render_dataset(folder, Config.load("smoke").render, progress=False)
    return folder


def test_a_run_of_own_faces_stays_one_and_is_opened_by_its_own_profile_and_method(faces, tmp_path, capsys):
    run = tmp_path / "run"
    own = ["--data", "mine", "--root", str(faces), "--profile", "smoke", "--method", "mean-teacher"]
    assert main(["data", "--run", str(run), *own, "--set", "semi.steps=7", "tsal.drift_correction=true"]) == 0
    config = Run.open(run).config
    assert main(["data", "--run", str(run)]) == 0 and Run.open(run).config == config
    assert "settings changed" not in capsys.readouterr().out
    assert main(["data", "--run", str(run), "--set", "semi.steps=6"]) == 0
    assert "settings changed: semi.steps 7 -> 6\n" in capsys.readouterr().out
    assert difference(config, Run.open(run).config) == {"semi.steps": (7, 6)}
    few = ["tracker.synthetic_steps=0", "tracker.video_steps=0"]
    assert main(["data", "--run", str(run), "--set", *few]) == 0
    assert main(["tracker", "--run", str(run), "--profile", "smoke", "--method", "mean-teacher"]) == 0
    capsys.readouterr()
    assert main(["tracker", "--run", str(run), "--profile", "faces", "--method", "mean-teacher"]) == 2
    assert "the run was made with profile = 'smoke', not 'faces', " in capsys.readouterr().err
    assert main(["data", "--anew", "--profile", "smoke", "--run", str(run)]) == 0
    assert Run.open(run).config == resolve("smoke")[0]
    assert main(["tracker", "--run", str(run), "--method", "supervised"]) == 2  # all its settings are those of tsal
    assert "the run was made with method = 'tsal', not 'supervised'; give" in capsys.readouterr().err
    assert main(["data", "--run", str(run), "--method", "supervised"]) == 0
    assert "settings changed: method 'tsal' -> 'supervised'\n" in capsys.readouterr().out


def test_an_edited_profile_file_given_again_is_told_what_the_run_keeps(faces, tmp_path, capsys):
    run, own = str(tmp_path / "run"), tmp_path / "own.yaml"
    smoke = (REPOSITORY / "configs" / "profiles" / "smoke.yaml").read_text().replace("profile: smoke", "profile: own")
    own.write_text(smoke)
    command = ["data", "--run", run, "--data", "mine", "--root", str(faces), "--profile", str(own)]
    assert main(command) == 0 and main(command) == 0
    assert "note:" not in capsys.readouterr().out
    own.write_text(smoke.replace("supervised: {steps: 20,", "supervised: {steps: 30,"))
    assert main(command) == 0
    note = f"note: the run keeps supervised.steps = 20, otherwise than {own} says now; --anew takes the file as it is\n"
    assert note in capsys.readouterr().out
    assert main([*command, "--anew"]) == 0 and Run.open(run).config.supervised.steps == 30
    assert "note:" not in capsys.readouterr().out


def test_the_first_notebook_changes_a_run_by_what_is_given_alone(faces, tmp_path, monkeypatch, capsys):
    run, parameters = tmp_path / "run", []
    own = ["--data", "mine", "--root", str(faces), "--profile", "smoke", "--method", "sbr-lk", "--seed", "2"]
    assert main(["data", "--run", str(run), *own, "--set", "semi.steps=7", "data.unlabelled=unlabelled.txt"]) == 0
    config = Run.open(run).config
    monkeypatch.setattr("tsal.stages.execute", lambda *arguments: parameters.append(arguments[-1]))

    def config_of(*words: str) -> Config:
        """The settings that the notebook makes of its parameters."""
        notebook = str(REPOSITORY / "notebooks" / "01_data.ipynb")
        assert main(["notebook", notebook, "--run", str(run), *words]) == 0
        names = {name: parameters[-1][name] for name in ("profile", "budget", "method")}
        seed, overrides = parameters[-1]["seed"], json.loads(json.dumps(parameters[-1]["overrides"]))
        return resolve(**names, lists=parameters[-1]["lists"], overrides=[f"seed={seed}", *overrides])[0]

    assert config_of() == config and "config.json" not in str(parameters[-1])
    assert (parameters[-1]["profile"], parameters[-1]["method"]) == ("smoke", "sbr-lk")
    assert parameters[-1]["lists"] == {"data.name": "mine", "data.root": str(faces)}  # the lists have their usual names
    assert parameters[-1]["overrides"] == ["semi.steps=7"]
    assert difference(
        config, config_of("--set", "tsal.sources=heatmap,centre", "data.consecutive=false", "semi.lr=1e-5")
    ) == {
        "tsal.sources": (list(config.tsal.sources), ["heatmap", "centre"]),
        "data.consecutive": (True, False),
        "semi.lr": (config.semi.lr, 1e-5),
    }
    assert (
        config_of("--method", "tsal")
        == resolve("smoke", "", "tsal", ["seed=2", "semi.steps=7"], {"data.name": "mine", "data.root": str(faces)})[0]
    )
    budget = config_of("--budget", "300w-50", "--profile", "faces")
    assert (budget.profile, budget.budget, budget.data.root) == ("faces", "300w-50", str(faces))
    assert "settings changed: " in capsys.readouterr().out
    built = ["-p", "build", "photographs", "-p", "source", "x"]
    assert config_of(*built, "-p", "name", "mine").data == config.data
    parameters.clear()
    notebook = str(REPOSITORY / "notebooks" / "01_data.ipynb")
    assert main(["notebook", notebook, "--run", str(run), *built, "-p", "name", "other"]) == 2 and not parameters
    assert "others, 'other', are another run" in capsys.readouterr().err
