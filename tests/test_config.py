"""A setting is either what was meant, or an error that says how to mend it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil

import pytest
import torch
import yaml

from tsal import config as config_module
from tsal.cli.options import difference
from tsal.config import Config, all_labels_budget, fields_of, load_budget, resolve
from tsal.utils.errors import ConfigError, InputError
from tsal.utils.paths import CONFIG_FOLDER, REPOSITORY

PROFILES = sorted(path.stem for path in (CONFIG_FOLDER / "profiles").glob("*.yaml"))
BUDGETS = sorted(path.stem for path in (CONFIG_FOLDER / "budgets").glob("*.yaml"))
PRINTED = "of-data-md"  # the budget that the page shows


@pytest.mark.parametrize("name", PROFILES)
def test_each_profile_loads_and_sets_what_its_file_says(name):
    loaded = Config.load(name).to_dict()
    for section, values in yaml.safe_load((CONFIG_FOLDER / "profiles" / f"{name}.yaml").read_text()).items():
        if not isinstance(values, dict):
            assert loaded[section] == values
        else:
            assert {k: loaded[section][k] for k in values} == values


def test_the_profiles_and_budgets_that_the_readme_names_are_there():
    readme = (REPOSITORY / "README.md").read_text()
    [listed] = re.findall(r"\*\*profile\*\* \(scale: (.*?)\)", readme)
    profiles = {*re.findall(r"`([^`]+)`", listed), *re.findall(r"PROFILE=([\w-]+)", readme)}
    assert {"demo", "faces", "paper", "smoke"} <= profiles <= set(PROFILES)
    budgets = {*re.findall(r"^\| [^`|]+ \| `([^`]+)` \|", readme, re.M), *re.findall(r"BUDGET=([\w-]+)", readme)}
    assert {"300w-50", "ytf-40", "dense-rendered"} <= budgets <= set(BUDGETS)


@pytest.mark.parametrize("name", [name for name in BUDGETS if name.endswith("-dense")])
def test_a_dense_budget_is_its_photographs_budget_with_consecutive_video_in_place_of_other_clips(name):
    dense, plain = resolve("faces", name)[0], resolve("faces", name.removesuffix("-dense"))[0]
    photographs = [path for path in plain.data.unlabelled if "unlabelled" in path and "YTF" not in path]
    assert dense.data.labelled == plain.data.labelled
    assert dense.data.unlabelled == (*photographs, "dense-train:unlabelled.txt")
    assert dense.data.evaluate == (*plain.data.evaluate, "dense-val:unlabelled.txt")
    assert dense.data.consecutive and not plain.data.consecutive
    assert dense.semi.unlabelled_weight == plain.semi.unlabelled_weight
    faces = [c.semi.clips * c.semi.frames + c.semi.images * (len(c.data.unlabelled) > 1) for c in (dense, plain)]
    assert abs(faces[0] - faces[1]) <= 2  # of a step


def test_a_budget_of_rendered_faces_changes_those_alone():
    config, origins = resolve("demo", "dense-rendered", lists={"data.name": "rendered"})
    assert (config.render.clips, config.render.frames, origins["render.frames"]) == (120, 24, "budget dense-rendered")
    assert {name.partition(".")[0] for name in difference(resolve("demo")[0], config)} == {"render", "semi"}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_scale_and_says_nothing_of_lists_or_targets(name):
    values = yaml.safe_load((CONFIG_FOLDER / "profiles" / f"{name}.yaml").read_text())
    assert "tsal" not in values and not {"labelled", "unlabelled", "evaluate"} & set(values.get("data", {}))


@pytest.mark.parametrize("name", [*BUDGETS, PRINTED])
def test_a_budget_is_lists_faces_a_step_or_rendered_faces(name, budgets):
    values = yaml.safe_load((budgets / f"{name}.yaml").read_text())
    everything, loaded = values.pop("all_labels", ""), Config().override(load_budget(name)).to_dict()
    assert set(values) <= {"data", "semi", "render"}
    assert set(values.get("semi", {})) <= {"clips", "frames", "images", "unlabelled_weight"}
    assert all(loaded[section][key] == value for section, items in values.items() for key, value in items.items())
    assert loaded["budget"] == name
    assert all_labels_budget(name) == everything and (not everything or everything in BUDGETS)


@pytest.fixture
def budgets(tmp_path, monkeypatch):
    """The folder of the budgets, and the one that data.md shows."""
    shutil.copytree(CONFIG_FOLDER, tmp_path / "configs")
    monkeypatch.setattr(config_module, "CONFIG_FOLDER", tmp_path / "configs")
    page = (REPOSITORY / "docs" / "data.md").read_text()
    [text] = re.findall(r"`configs/budgets/mine.yaml`[^`]*```yaml\n(.*?)```", page, re.S)
    (tmp_path / "configs" / "budgets" / f"{PRINTED}.yaml").write_text(text)
    return tmp_path / "configs" / "budgets"


def test_the_later_of_profile_budget_method_and_set_wins_and_the_names_are_kept():
    config, origins = resolve(
        "faces", "300w-50", "tsal-no-sic", ["tsal.ramp_up=0.3", "semi.clips=5"], {"data.name": "x"}
    )
    assert (config.profile, config.budget, config.method) == ("faces", "300w-50", "tsal-no-sic")
    assert (config.semi.steps, origins["semi.steps"]) == (2400, "profile faces")
    assert (config.semi.images, origins["semi.images"]) == (22, "budget 300w-50")  # the profile says 14
    assert (config.tsal.sic_weight, origins["tsal.sic_weight"]) == (0.0, "method tsal-no-sic")
    assert (config.semi.clips, origins["semi.clips"]) == (5, "--set")  # the budget says 2
    assert (config.tsal.ramp_up, config.data.name, origins["model.size"]) == (0.3, "x", "default")


def test_the_difference_of_two_configs_names_what_differs_and_not_the_files():
    first, second = resolve(method="tsal")[0], resolve(method="tsal-no-sic")[0]
    assert difference(first, second) == {"tsal.sic_weight": (first.tsal.sic_weight, 0.0)}


def test_every_setting_says_what_it_is_for():
    assert all(item.metadata["text"] and len(item.metadata["text"]) < 120 for _, item in fields_of())


def test_the_defaults_are_the_method_tsal_in_the_profile_demo():
    assert resolve()[0] == Config()


def test_a_budget_that_does_not_exist_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean '300w-120'"):
        load_budget("300w-12")


def test_later_overrides_win_and_the_original_stays_as_it_was():
    base = Config()
    changed = base.override(["supervised.steps=5", "supervised.steps=7", "seed=3"])
    assert (changed.supervised.steps, changed.seed) == (7, 3) and base == Config() != changed
    assert changed.supervised.batch == base.supervised.batch


@pytest.mark.parametrize(
    "override, section, name, value",
    [
        ("supervised.lr=4e-3", "supervised", "lr", 0.004),
        ("supervised.lr=1", "supervised", "lr", 1.0),
        ("supervised.steps=12", "supervised", "steps", 12),
        ("tsal.fallback=false", "tsal", "fallback", False),
        ("tsal.inits=2", "tsal", "inits", 2),
        ("tsal.ema_direction=mutual", "tsal", "ema_direction", "mutual"),
        ("data.scheme=29", "data", "scheme", "29"),
        ("data.evaluate=a.txt, b.txt", "data", "evaluate", ("a.txt", "b.txt")),
        ("data.audit_labels=", "data", "audit_labels", ()),
        ("tracker.channels=[8, 16]", "tracker", "channels", (8, 16)),
        ("data.root=/a=b", "data", "root", "/a=b"),
    ],
)
def test_text_from_the_command_line_becomes_the_setting_s_type(override, section, name, value):
    setting = getattr(getattr(Config().override([override]), section), name)
    assert setting == value and type(setting) is type(value)


def test_plain_values_from_a_notebook_are_taken_as_they_are():
    changed = Config().override(
        {"supervised.steps": 9, "data.evaluate": ["a", "b"], "tsal.teacher_consistency": False, "supervised.lr": 1}
    )
    assert (
        changed.supervised.steps,
        changed.data.evaluate,
        changed.tsal.teacher_consistency,
        changed.supervised.lr,
    ) == (
        9,
        ("a", "b"),
        False,
        1.0,
    )


@pytest.mark.parametrize(
    "override, said",
    [
        ("supervised.stepz=5", "did you mean 'supervised.steps'"),
        ("steps=5", "did you mean 'supervised.steps'"),
        ("trane.steps=5", "did you mean 'train"),
        ("tsal.ema_direction=student_to_teachr", "did you mean 'student_to_teacher'"),
        ("tsal.inits=3", "none of 1, 2"),
        ("supervised.steps=1.5", "supervised.steps: wants a whole number"),
        ("supervised.steps=many", "supervised.steps: wants a whole number"),
        ("supervised.steps=true", "supervised.steps: wants a whole number"),
        ("tsal.window=0", "tsal.window: wants at least 1, got 0"),  # not a window of 1 without a word
        ("supervised.lr=fast", "supervised.lr: wants a number"),
        ("supervised.lr=true", "supervised.lr: wants a number"),
        ("tsal.teacher_consistency=1", "tsal.teacher_consistency: wants true or false"),
        ("tracker.channels=8,x", "tracker.channels: wants a whole number"),
        ("train=5", "train is a section"),
        ("supervised.steps.more=5", "supervised.steps: wants a whole number"),
        ("supervised.steps", "write section.name=value"),
        ("=5", "write section.name=value"),
        ("method=mean-teacher", "a name alone changes no setting; give it as the method itself: --method"),
    ],
)
def test_a_wrong_override_is_an_error_that_says_what_was_wanted(override, said):
    with pytest.raises(ConfigError, match=said):
        Config().override([override])


@pytest.mark.parametrize("value", [True, 1.0, "1.0", None, [1]])
def test_only_a_whole_number_is_a_whole_number(value):
    with pytest.raises(ConfigError, match="seed: wants a whole number"):
        Config().override({"seed": value})


def test_a_list_setting_does_not_take_a_lone_number():
    with pytest.raises(ConfigError, match="tracker.channels: wants a list"):
        Config().override({"tracker.channels": 8})


@pytest.mark.parametrize("name", PROFILES)
def test_a_saved_config_loads_as_an_equal_one(name, tmp_path):
    config = Config.load(name, ["supervised.lr=3e-5", "data.audit_labels=a,b"])
    config.save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json") == config
    assert json.loads((tmp_path / "config.json").read_text()) == config.to_dict()
    os.utime(tmp_path / "config.json", (1, 1))
    config.save(tmp_path / "config.json")
    assert (tmp_path / "config.json").stat().st_mtime == 1  # make goes by it
    config.override(["supervised.lr=1"]).save(tmp_path / "config.json")
    assert Config.load(tmp_path / "config.json").supervised.lr == 1


def test_an_override_also_holds_over_a_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("supervised: {steps: 4, batch: 2}\n")
    config = Config.load(tmp_path / "mine.yaml", ["supervised.steps=6"])
    assert (config.supervised.steps, config.supervised.batch) == (6, 2)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"supervised: {stepz: 4}", "mine.yaml: unknown setting 'supervised.stepz'"),
        (b"- 1\n- 2\n", "the top level is a section"),
        (b"supervised:\n", "supervised is a section"),
        (b"supervised: {steps: [", "not valid YAML"),
        (b"\xff\xfe\x00\x80", "mine.yaml"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_it(tmp_path, content, said):
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        Config.load(tmp_path / "mine.yaml")


def test_a_profile_or_a_file_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'paper'"):
        Config.load("papr")
    with pytest.raises(ConfigError, match="cannot read the config"):
        Config.load(tmp_path / "none.json")


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().supervised.steps = 5


def test_config_errors_are_input_errors():
    assert issubclass(ConfigError, InputError)


@pytest.mark.parametrize(
    "text, said",
    [
        ("train.checkpoint_every=0", "at least 1, got 0"),
        ("supervised.batch=0", "at least 1, got 0"),
        ("semi.steps=-5", "at least 0, got -5"),
        ("semi.ema_decay=1.7", "at least 0 and at most 1, got 1.7"),
        ("tsal.max_fb_error=nan", "at least 0, got nan"),
        ("semi.lr=inf", "finite"),
        ("tracker.channels=12,0", "at least 1, got 0"),
    ],
)
def test_a_number_out_of_its_range_is_refused_by_name(text, said):
    with pytest.raises(ConfigError, match=f"{text.partition('=')[0]}: .*{said}"):
        Config().override([text])


@pytest.mark.parametrize("name", ["xpu", "mps", "meta:x"])
def test_a_device_that_torch_lacks_is_refused_in_a_line(name, tmp_path):
    from tsal.run import Run

    if name == "mps" and torch.backends.mps.is_available() or name == "xpu" and torch.xpu.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(ConfigError, match="train.device.*cpu or cuda"):
        _ = Run(tmp_path, Config().override({"train.device": name})).device
