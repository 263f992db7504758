"""The bench of semi-supervised methods: equal conditions, nothing computed twice, a table checked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tsal.bench import methods
from tsal.bench.methods import (
    all_labels,
    comparable,
    compare,
    deciding,
    main,
    markdown,
    other_starts,
    overruled,
    read_results,
    same_settings,
)
from tsal.config import Config, load_budget, load_method
from tsal.tracker.lucas_kanade import LucasKanade
from tsal.tracker.network import both_directions
from tsal.utils.checkpoints import load_checkpoint
from tsal.utils.errors import ConfigError, DataError
from tsal.utils.paths import CONFIG_FOLDER

METHODS = sorted(path.stem for path in (CONFIG_FOLDER / "methods").glob("*.yaml"))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_settings_that_exist_and_a_member_that_it_trains(method):
    overrides, result, times = load_method(method)
    made = Config().override(overrides)
    assert result in ("supervised", "teacher", "student") and times >= 1
    if result == "teacher" and made.tsal.teacher_lr == 0:  # then averaging alone makes it
        assert made.tsal.direction == "student_to_teacher" and made.tsal.buffers == "average"


def test_no_method_changes_what_all_share():
    for method in METHODS:
        names = {override.partition("=")[0] for override in load_method(method)[0]}
        assert all(name.startswith("tsal.") or name == "tracker.flow" for name in names), method


def test_a_method_with_a_base_differs_from_it_by_what_its_file_says_alone():
    base, corrected = (
        Config().override(load_method(name)[0]).to_dict() for name in ("mean-teacher", "mean-teacher-corrected")
    )
    assert corrected["tsal"] == base["tsal"] | {"correct_drift": True} and not base["tsal"]["correct_drift"]
    assert load_method("stld")[1] == load_method("self-training")[1] == "student"


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="no method 'meanteacher'.*did you mean 'mean-teacher'"):
        load_method("meanteacher")


def result(method: str, seed: int, faces: list[float], member: str = "teacher", start: float = 8.0) -> dict:
    numbers = {"NME": float(np.mean(faces)), "AUC@0.08": 0.5, "FR@0.08": 0.1}
    return {
        "method": method,
        "seed": seed,
        "result": member,
        "steps": {"further": 600},
        "seconds": {"tsal": 100.0},
        "lists": {"val": {member: numbers, "start": {"NME": start}, "faces": faces}},
    }


def test_the_table_is_the_mean_over_seeds_and_the_paired_difference():
    found = [
        result("supervised", 0, [6.0, 8.0], "supervised"),
        result("supervised", 1, [5.0, 9.0], "supervised"),
        result("tsal", 0, [5.0, 7.0]),
        result("tsal", 1, [4.0, 7.0]),
        result("other", 0, [9.0, 9.0]),
    ]
    rows = {row["method"]: row for row in compare(found)}
    assert rows["supervised"]["NME"] == 7 and rows["tsal"]["NME"] == pytest.approx(5.75)
    assert rows["tsal"]["std"] == pytest.approx(np.std([6, 5.5], ddof=1)) and np.isnan(rows["other"]["std"])
    assert rows["tsal"]["difference"] == pytest.approx(-1.25) and rows["tsal"]["relative"] == pytest.approx(-125 / 7)
    # gains are -1, -1, -1 and -2
    assert rows["tsal"]["low"] == pytest.approx(-2) and rows["tsal"]["high"] == pytest.approx(-1)
    assert rows["other"]["difference"] == pytest.approx(2)  # against the seed that both have
    assert rows["other"]["ahead"] == pytest.approx(-3) and np.isnan(rows["tsal"]["ahead"])
    assert rows["supervised"]["ahead"] == pytest.approx(-1.25) and rows["supervised"]["ahead low"] == pytest.approx(-2)
    assert all(np.isnan(row["gap"]) for row in rows.values())
    lines = markdown(list(rows.values())).splitlines()
    assert lines[4].startswith("| tsal | 2 | 5.750 ± 0.354 |") and "-1.250 (-17.9 %)" in lines[4]


def test_runs_from_different_starts_of_one_seed_are_not_paired():
    found = [
        result("supervised", 0, [6.0, 8.0], "supervised"),
        result("supervised", 1, [5.0, 9.0], "supervised", start=8.1),
        result("tsal", 0, [5.0, 7.0]),
        result("tsal", 1, [1.0, 2.0]),
    ]
    row = {row["method"]: row for row in compare(found, {"val": 4.5})}["tsal"]
    # of seed 0 alone
    assert (
        row["NME"] == pytest.approx(3.75) and row["difference"] == pytest.approx(-1) and row["gap"] == pytest.approx(40)
    )
    assert [line.partition(" has ")[0] for line in other_starts(found)] == ["tsal of seed 1"] and other_starts(
        found[:3]
    ) == []


def test_the_share_of_the_gap_to_all_labels_that_is_closed(tmp_path):
    found = [result("supervised", 0, [6.0, 8.0], "supervised"), result("tsal", 0, [5.0, 7.0])]
    rows = {row["method"]: row for row in compare(found, {"val": 4.5})}
    # 1 of the 2.5 from 7 to 4.5
    assert rows["tsal"]["gap"] == pytest.approx(40) and np.isnan(rows["supervised"]["gap"])
    assert "| 40 % |" in markdown(list(rows.values()))
    config = Config.load("smoke").override([*load_budget("ytf-40"), "data.name=real"])
    for seed, nme in ((0, 4.0), (1, 5.0)):
        made = deciding(config.override([*load_budget("ytf-802"), f"seed={seed}"]), "supervised")
        text = json.dumps(result("supervised", seed, [nme], "supervised") | {"settings": made})
        (tmp_path / "real-ytf-802").mkdir(exist_ok=True)
        (tmp_path / "real-ytf-802" / f"supervised-s{seed}.json").write_text(text)
    assert all_labels(config, "real", "ytf-40", tmp_path) == {"val": 4.5}
    # those were made with other settings
    assert all_labels(config.override({"train.lr": 1.0}), "real", "ytf-40", tmp_path) == {}
    assert all_labels(config, "real", "", tmp_path) == all_labels(config, "real", "ytf-802", tmp_path) == {}


def test_a_method_that_is_another_one_in_this_profile_is_told():
    asked = ["tsal", "tsal-no-mirror", "tsal-no-calm", "tsal-no-sic", "supervised", "tsal"]
    assert same_settings(asked, Config.load("cpu")) == []
    real = same_settings(asked, Config.load("real"))  # a profile without mirror images and without a teacher's own loss
    assert [line.split(" has the settings of ") for line in real] == [
        [name, "tsal in profile real: it is the same run again"] for name in ("tsal-no-mirror", "tsal-no-calm")
    ]


def test_a_setting_that_a_method_has_its_own_of_is_told():
    asked = ["tsal.calm=false", "train.further=100"]
    config = Config.load("real").override(asked)
    assert overruled(["tsal", "mean-teacher", "tsal-calm"], config, asked) == [
        "tsal-calm sets tsal.calm=true itself: --set tsal.calm does nothing there"
    ]


def test_a_broken_result_is_an_error_that_names_it(tmp_path):
    (tmp_path / "tsal-s0.json").write_text("{")
    with pytest.raises(DataError, match="tsal-s0.json: is no result"):
        read_results(tmp_path)


def test_methods_share_their_start_and_nothing_is_computed_twice(tmp_path, capfd, monkeypatch):
    arguments = [
        "--profile",
        "smoke",
        "--set",
        "train.further=4",
        "--methods",
        "supervised",
        "mean-teacher",
        "stld",
        "--seeds",
        "0",
        "--runs",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "results"),
    ]
    assert main(arguments) == 0
    out = capfd.readouterr().out
    assert "| supervised | 1 |" in out and "| mean-teacher | 1 |" in out
    assert {path.suffix for path in (tmp_path / "results").glob("compare-methods.*")} == {".png", ".pdf"}
    runs = tmp_path / "runs"
    start = load_checkpoint(runs / "base-s0" / "start" / "model.pt")
    for method in ("supervised", "mean-teacher", "stld"):
        assert (runs / f"{method}-s0" / "start").resolve() == (runs / "base-s0" / "start").resolve()
        found = json.loads((tmp_path / "results" / f"{method}-s0.json").read_text())
        run = Config.load(runs / f"{method}-s0" / "config.json")
        assert found["steps"] == {"start": 20, "further": 4} and run.train.further == 4
        assert len(found["lists"]["val.txt"]["faces"]) > 0
    frozen = load_checkpoint(runs / "stld-s0" / "tsal" / "model.pt")["members"]
    first = start["members"]["start"]
    # its labels were made once
    assert all(torch.equal(value, first[name]) for name, value in frozen["teacher"].items())
    assert any(not torch.equal(value, first[name]) for name, value in frozen["student"].items())
    monkeypatch.setattr(methods.subprocess, "run", lambda *_, **__: pytest.fail("computed again"))
    assert main(arguments) == 0
    kept = tmp_path / "results" / "supervised-s0.json"
    other = json.loads(kept.read_text())
    other["settings"]["train.lr"] /= 2
    kept.write_text(json.dumps(other))
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        main(arguments)


def test_results_of_other_settings_are_not_put_beside_one_another():
    config = Config.load("smoke")
    found = [
        result("tsal", seed, [1.0]) | {"settings": deciding(config.override({"seed": seed}), "tsal")} for seed in (0, 1)
    ]
    assert (
        comparable(found, config)
        == comparable(found, config.override({"seed": 1, "data.workers": 7, "data.root": "/else"}))
        == found
    )
    assert comparable(found, config.override({"train.further": 5})) == []
    assert comparable([result("tsal", 0, [1.0]), result("gone", 0, [1.0])], config) == []
    assert deciding(config, "tsal") != deciding(config, "tsal-no-sic")
    for other in map(
        config.override,
        ({"tsal.weight": 9}, {"augment.strong": 0.5}, {"data.unlabelled": ["labelled.txt", "unlabelled.txt"]}),
    ):
        assert deciding(other, "tsal") != deciding(config, "tsal") and deciding(other, "supervised") == deciding(
            config, "supervised"
        )
    # it is measured with alone
    assert deciding(config.override({"data.truth": ["unlabelled.txt"]}), "tsal") == deciding(config, "tsal")
    assert deciding(config.override({"augment.scale": 0.5}), "supervised") != deciding(config, "supervised")
    del found[0]["settings"]["augment.shapes"]  # made before there was this setting: with its default
    assert comparable(found, config) == found and comparable(found, config.override({"augment.shapes": 0.5})) == []


def test_lucas_kanade_follows_a_shift_in_both_directions():
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((1, 3, 20, 20), generator=generator)
    large = torch.nn.functional.interpolate(noise, (80, 80), mode="bicubic", align_corners=False).clamp(0, 1)
    first, second = large[..., 8:72, 8:72], large[..., 8:72, 5:69]  # what stood at x stands at x + 3
    forward, backward = both_directions(LucasKanade(), first, second)
    inner = (slice(None), slice(None), slice(12, 52), slice(12, 52))
    assert (forward[0][inner] - torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)).abs().mean() < 0.1
    assert (backward[0][inner] - torch.tensor([-3.0, 0.0]).view(1, 2, 1, 1)).abs().mean() < 0.1
