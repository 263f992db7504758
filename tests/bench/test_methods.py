"""The bench of semi-supervised methods: equal conditions, nothing computed twice, a table checked by hand."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from results import result

from tsal import stages, trainings
from tsal.bench import launch
from tsal.bench.conditions import (
    all_labels,
    check_data,
    comparable,
    deciding,
    learned_and_measured,
    made_from,
    refuse_other_settings,
    same_runs,
)
from tsal.bench.methods import prepare_base, run_method
from tsal.bench.table import read_results
from tsal.cli.commands import main
from tsal.config import Config, TsalConfig, load_method, names_of, resolve
from tsal.model import Detector
from tsal.model_files import save_models
from tsal.run import Run, code_fingerprint, list_hashes
from tsal.schemes import get_scheme
from tsal.tracker import make_tracker
from tsal.trainings import schedule_steps
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import ConfigError, DataError, InputError
from tsal.utils.locks import LOCK
from tsal.utils.paths import CONFIG_FOLDER

METHODS = names_of("methods")


def configured(profile="smoke", budget="", **settings):
    """What the bench takes: a method's name -> its config."""
    return lambda method: resolve(profile, budget, method, settings)[0]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_settings_that_exist_and_a_model_that_it_trains(name):
    method, config = load_method(name), resolve(method=name)[0]
    assert method.result in ("supervised", "teacher", "student") and method.steps_times >= 1 and config.method == name
    if method.result == "teacher" and config.tsal.teacher_lr == 0:  # then averaging alone makes it
        assert config.tsal.ema_direction in ("student_to_teacher", "mutual") and config.tsal.bn_stats == "average"


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_written_out_whole_and_changes_nothing_that_all_share(name):
    method = load_method(name)
    own = {key.removeprefix("tsal.") for key in method.settings if key.startswith("tsal.")}
    assert own == (set() if method.result == "supervised" else set(TsalConfig.__dataclass_fields__))
    assert {key for key in method.settings if not key.startswith("tsal.")} - {"tracker.flow"} == {
        "method",
        "result",
        "steps_times",
    }


@pytest.mark.parametrize("profile", names_of("profiles"))
def test_no_two_methods_have_the_same_settings_in_any_profile(profile):
    methods = {}
    for name in METHODS:
        key = json.dumps(deciding(resolve(profile, method=name)[0]), sort_keys=True)
        assert key not in methods, f"{name} is {methods[key]}"
        methods[key] = name


@pytest.mark.parametrize("part", [name for name in METHODS if name.startswith("tsal-no-")])
def test_an_ablation_is_tsal_without_one_part(part):
    full, without = load_method("tsal").settings, load_method(part).settings
    apart = {key.removeprefix("tsal.") for key in full if full[key] != without[key]} - {"method"}
    expected = {
        "tsal-no-tracking": {"sources", "window", "agreement_weight"},
        "tsal-no-window": {"sources"},
        "tsal-no-agreement": {"agreement_weight"},
        "tsal-no-trust": {"trust"},
        "tsal-no-fusion": {"sources"},
        "tsal-heatmap-alone": {"sources", "trust"},
        "tsal-no-sic": {"sic_weight"},
        "tsal-no-drift-correction": {"drift_correction"},
        "tsal-no-teacher-learning": {"teacher_lr", "bn_stats"},
        "tsal-no-ema": {"ema_direction"},
    }
    assert apart == expected[part]


def test_mean_teacher_with_drift_correction_differs_by_that_alone():
    plain, corrected = load_method("mean-teacher").settings, load_method("mean-teacher-corrected").settings
    assert {key for key in plain if plain[key] != corrected[key]} == {"method", "tsal.drift_correction"}


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ConfigError, match="no method 'meanteacher'.*did you mean 'mean-teacher'"):
        load_method("meanteacher")


def test_a_method_that_is_another_one_on_data_without_consecutive_frames_is_told():
    methods = ["tsal", "tsal-no-tracking", "tsal-no-sic", "supervised", "tsal"]
    assert same_runs(methods, configured()) == []
    both = "tsal-no-tracking, tsal-no-window are tsal"
    for more, said in (([], "tsal-no-tracking is tsal"), (["tsal-no-window"], both)):
        (line,) = same_runs(methods + more, configured("faces", "300w-50"))
        assert line == f"{said} on these data (data.consecutive=false: nothing is tracked): the same run again"
    for settings in (configured(**{"tsal.trust": 0.0}), configured("faces", "300w-50", **{"tsal.trust": 0.0})):
        (line,) = same_runs(["tsal", "tsal-no-trust"], settings)
        assert line == "tsal-no-trust is tsal with these settings: the same run again"


def test_a_broken_result_is_an_error_that_names_it(tmp_path):
    (tmp_path / "tsal-s0.json").write_text("{")
    with pytest.raises(DataError, match="tsal-s0.json: is no result"):
        read_results(tmp_path)


def test_methods_share_their_init_and_nothing_is_computed_twice(tmp_path, capfd, monkeypatch):
    arguments = [
        "bench-methods",
        "--profile",
        "smoke",
        "--set",
        "semi.steps=4",
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
    assert "| supervised | 1 |" in out and "| mean-teacher | 1 |" in out and "| error jitter % |" in out
    for figure in ("compare-methods", "compare-steadiness"):
        assert {path.suffix for path in (tmp_path / "results").glob(f"{figure}.*")} == {".png", ".pdf"}
    runs = tmp_path / "runs"
    init = load_checkpoint(runs / "base-s0" / "init" / "model.pt")
    for method in ("supervised", "mean-teacher", "stld"):
        assert (runs / f"{method}-s0" / "init").resolve() == (runs / "base-s0" / "init").resolve()
        record = json.loads((tmp_path / "results" / f"{method}-s0.json").read_text())
        run = Config.load(runs / f"{method}-s0" / "config.json")
        assert record["steps"] == {"init": 20, "semi": 4} and run.semi.steps == 4
        assert record["code"] == code_fingerprint("evaluation") and init["fingerprint"]["code"] == code_fingerprint()
        faces, clips = (record["lists"]["val.txt"][key] for key in ("faces", "clips"))
        frames = run.render.frames
        assert len(faces) > 0 and clips == [face // frames for face in range(len(faces))]
        scores = record["lists"]["val.txt"][record["result"]]
        assert scores["error_jitter"] > 0 and scores["flow_jitter"] > 0 and scores["NME"] > 0
    frozen = load_checkpoint(runs / "stld-s0" / "semi" / "model.pt")["models"]
    first = init["models"]["init"]
    assert all(
        torch.equal(value, first[name]) for name, value in frozen["teacher"].items()
    )  # its labels were made once
    assert any(not torch.equal(value, first[name]) for name, value in frozen["student"].items())
    monkeypatch.setitem(launch.LAUNCHERS, "local", lambda *_: pytest.fail("computed again"))
    assert main(arguments) == 0
    capfd.readouterr()
    assert main([*arguments, "--set", "supervised.steps=21"]) == 2
    said = capfd.readouterr().err
    assert "results/mean-teacher-s0.json: was made with supervised.steps = 20, not 21" in said
    assert said.count("\n") == 1 and "by --runs and --out" in said
    (tmp_path / "results" / "supervised-s0.json").unlink()
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        main(arguments)


def test_runs_and_results_of_other_settings_are_not_overwritten_nor_joined(tmp_path):
    runs, out = tmp_path / "runs", tmp_path / "out"

    def check(methods=("tsal",), **settings):
        refuse_other_settings(configured(**settings), runs, out, methods, (0,))

    check()  # nothing is there
    for name, more in (("tsal", {"tsal.sic_weight": 9.0}), ("supervised-3x", {"semi.steps": 30})):
        configured(**more)(name).save(runs / f"{name}-s0" / "config.json")
    with pytest.raises(InputError, match=r"tsal-s0: was made with tsal.sic_weight = 9.0, not 30"):
        check()
    check(("supervised",))  # the method may be another by now, since it is not asked for
    with pytest.raises(InputError, match=r"3x-s0: was made with data.evaluate = \['val.txt'\], not \['v'\]"):
        check(("supervised",), **{"data.evaluate": ["v"]})
    config = runs / "supervised-3x-s0" / "config.json"
    with pytest.raises(InputError, match="and so would 1 more; name other folders") as raised:
        check(**{"data.evaluate": ["v"]})
    assert str(raised.value).endswith(f"or remove {config.parent}, {runs / 'tsal-s0'}")
    config.write_text(config.read_text().replace('"lr"', '"gone"'))
    check(("supervised",))  # of a version of before, and not asked for
    with pytest.raises(InputError, match="3x-s0: cannot be read by this version .*gone.*, and would be overwritten"):
        check(("supervised-3x",))
    shutil.rmtree(runs)
    out.mkdir()
    (out / "stld-s3.json").write_text(json.dumps(result("stld", 3, [1.0])))
    with pytest.raises(InputError, match="stld-s3.json: does not say its settings, and would be"):
        check()
    with_settings = result("stld", 3, [1.0]) | {"settings": deciding(configured()("stld").override({"seed": 3}))}
    (out / "stld-s3.json").write_text(json.dumps(with_settings))
    check()
    with pytest.raises(InputError, match="stld-s3.json: was made with data.labelled = "):
        check(**{"data.labelled": ["l"]})


def test_a_run_of_the_bench_opens_no_file_that_its_base_checked_unless_one_has_changed(tmp_path, monkeypatch):
    root = tmp_path / "faces"
    shutil.copytree(Run(tmp_path, configured()("tsal")).rendered, root)
    config = configured(**{"data.name": "mine", "data.root": str(root)})("supervised")
    base, run = (Run.create(tmp_path / name, config) for name in ("base-s0", "supervised-s0"))
    whole = stages.prepare_data(base, progress=False)

    def opens(*_, **__):
        raise InterruptedError

    monkeypatch.setattr("tsal.data.leaks.find_problems", opens)
    assert stages.prepare_data(run, checked=base.folder, progress=False) == whole
    assert (
        stages.prepare_data(Run.create(run.folder, config.override({"data.workers": 7})), checked=base.folder) == whole
    )
    assert stages.prepare_data(base, checked=base.folder, progress=False) == whole
    other = Run.create(tmp_path / "other", config.override({"data.transductive": True}))
    with pytest.raises(InterruptedError):  # other settings of data
        stages.prepare_data(other, checked=base.folder, progress=False)
    os.utime(root / base.lists.labelled[0].image, (1, 1))
    with pytest.raises(InterruptedError):
        stages.prepare_data(run, checked=base.folder, progress=False)


@pytest.mark.parametrize(
    "name, cut", [("config.json", '"clip_norm"'), ("manifest.json", '"images"'), ("manifest.json", '"mirrored"')]
)
def test_a_base_of_another_version_or_cut_short_is_checked_again(tmp_path, name, cut):
    base = Run.create(tmp_path / "base-s0", configured()("supervised"))
    whole = stages.prepare_data(base, progress=False)
    text = (base.folder / name).read_text()
    (base.folder / name).write_text(text.partition(cut)[0] if cut == '"images"' else text.replace(cut, '"gone"'))
    assert stages.prepare_data(base, checked=base.folder, progress=False) == whole


def test_longer_training_is_longer_where_epochs_count_the_steps_too(tmp_path, monkeypatch):
    stages.prepare_data(Run.create(tmp_path / "base-s0", configured()("supervised")))
    monkeypatch.setattr(stages, "prepare_data", lambda run, **_: (run.save(), pytest.fail("far enough")))
    steps = {}
    for method in ("supervised", "supervised-3x"):
        with pytest.raises(pytest.fail.Exception, match="far enough"):
            run_method(tmp_path, configured(**{"train.epochs": 2})(method), tmp_path)
        steps[method] = schedule_steps(Run.open(tmp_path / f"{method}-s0"))
    assert steps["supervised"] == (2 * 2, 2 * 3)  # batches of 8 and of 4 make up the 12 labelled faces
    assert steps["supervised-3x"] == (2 * 2, 3 * 2 * 3)


def train_by_no_step(folder, monkeypatch, method, **settings):
    """A run with all its trainings, of which those of detectors take no step -> what makes the batches of each."""
    makers = {}
    monkeypatch.setattr(
        "tsal.trainings.fit", lambda *_, label, make_batch, **__: (makers.update({label: make_batch}), 1.0)
    )
    untrained = {"tracker.synthetic_steps": 0, "tracker.video_steps": 0}
    run = Run.create(folder, configured(**untrained | settings)(method))
    stages.prepare_data(run, progress=False)
    stages.train_tracker(run)
    trainings.train(run)
    return makers


@pytest.mark.parametrize(
    "method, rival, inits",
    [
        ("tsal", "tsal-paper", {"semi": 1, "rival": 2}),
        ("tsal-paper", "mean-teacher-corrected", {"semi": 2, "rival": 1}),
    ],
)
def test_a_method_and_its_rival_each_start_from_as_many_inits_as_alone(tmp_path, monkeypatch, method, rival, inits):
    train_by_no_step(tmp_path, monkeypatch, method, **{"semi.rival": rival})
    fingerprints = {name: load_checkpoint(tmp_path / name / "model.pt")["fingerprint"]["init"] for name in inits}
    assert {
        name: len({fingerprint["training seed"] for fingerprint in group}) for name, group in fingerprints.items()
    } == inits


@pytest.mark.parametrize("method, tuned", [("sbr", True), ("sbr-lk", False), ("mean-teacher", False)])
def test_a_tracker_is_tuned_where_a_method_takes_its_flow_from_the_network(tmp_path, monkeypatch, method, tuned):
    monkeypatch.setattr("tsal.tracker.training.fit", lambda *_, **__: (None, 5.0))
    train_by_no_step(tmp_path, monkeypatch, method, **{"tracker.tune_steps": 1, "semi.rival": ""})
    assert (tmp_path / "semi" / "tracker-teacher" / "model.pt").exists() == tuned
    seconds = json.loads((tmp_path / "semi" / "time.json").read_text())["seconds"]
    assert seconds == (1.0 + 5.0 if tuned else 1.0)


@pytest.mark.parametrize("size, as_the_init", [(8, False), (4, True)])
def test_trainings_after_the_init_share_labelled_views_not_its_own_but_for_a_first_batch_of_another_size(
    tmp_path, monkeypatch, size, as_the_init
):
    makers = train_by_no_step(tmp_path, monkeypatch, "mean-teacher", **{"supervised.batch": 8, "semi.batch": size})
    batches = {name: makers[name](0) for name in ("init", "supervised", "rival", "semi")}
    first, *further = (batch.labelled[:size] for batch in batches.values())
    assert all(torch.equal(views, further[0]) for views in further)
    assert torch.equal(first, further[0]) == as_the_init
    assert not torch.equal(makers["init"](1).labelled[:size], makers["semi"](1).labelled)
    assert (makers["semi"].seed == makers["init"].seed) == as_the_init


def test_budgets_with_the_same_labelled_faces_share_an_init(tmp_path, monkeypatch):
    few = {"supervised.steps": 2, "tracker.synthetic_steps": 2, "tracker.video_steps": 2}
    folder = tmp_path / "one"
    prepare_base(folder, configured(**few)("mean-teacher"))
    init = folder / "base-s0" / "init"
    trained = []
    monkeypatch.setattr("tsal.trainings.fit", lambda *_, label, **__: trained.append(label) or (None, 1.0))
    prepare_base(tmp_path / "no-video", configured(**few, **{"data.unlabelled": []})("mean-teacher"))
    copied = tmp_path / "no-video" / "base-s0" / "init"
    assert trained == [] and not copied.is_symlink()
    assert {path.name for path in copied.iterdir()} == {path.name for path in init.iterdir()}
    prepare_base(tmp_path / "other-rate", configured(**few, **{"supervised.lr": 0.1})("mean-teacher"))
    assert trained == ["init"]


def test_the_tracker_of_all_is_not_trained_again_for_what_one_method_makes_of_it(tmp_path, monkeypatch):
    trained = []
    for place in ("tsal.trainings.fit", "tsal.tracker.training.fit"):
        monkeypatch.setattr(place, lambda *_, label, **__: trained.append(label) or (None, 1.0))
    prepare_base(tmp_path, configured()("sbr-lk"))
    assert "tracker" in trained
    trained.clear()
    prepare_base(tmp_path, configured(**{"tracker.tune_steps": 9, "tracker.consistency_weight": 2.0})("supervised"))
    assert trained == []
    prepare_base(tmp_path, configured(**{"tracker.video_lr": 0.1})("supervised"))
    assert "tracker" in trained and "init" not in trained


def test_no_method_trains_the_init_of_all_again(tmp_path, monkeypatch):
    monkeypatch.setattr("tsal.trainings.fit", lambda *_, **__: (None, 1.0))
    untrained = {"tracker.synthetic_steps": 0, "tracker.video_steps": 0}
    prepare_base(tmp_path, configured(**untrained)("supervised"))
    init = tmp_path / "base-s0" / "init" / "model.pt"
    before = init.read_bytes()
    with pytest.raises(InputError, match="base-s0/init: is not the init that settings, .* and code make now"):
        run_method(tmp_path, configured(**untrained, **{"augment.rotation": 10})("supervised"), tmp_path)
    assert init.read_bytes() == before


def test_a_training_of_the_bench_has_its_folder_to_itself(tmp_path, monkeypatch):
    fcntl, trained = pytest.importorskip("fcntl"), []
    folders = {"tracker": "base-s0", "init": "base-s0", "supervised": "supervised-s0"}

    def fit(*_, label, **__):
        with open(tmp_path / "runs" / folders[label] / LOCK) as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        trained.append(label)
        return None, 1.0

    for place in ("tsal.trainings.fit", "tsal.tracker.training.fit"):
        monkeypatch.setattr(place, fit)
    config = configured(**{"tracker.synthetic_steps": 0})("supervised")
    prepare_base(tmp_path / "runs", config)
    run_method(tmp_path / "runs", config, tmp_path)
    assert trained == [*folders]


def test_results_go_to_the_outputs_and_leave_the_published_ones_alone(tmp_path, monkeypatch, capsys):
    """Both places: a table's ``gap`` is from the results of the budget with every label that lie beside its own."""
    calls = []
    monkeypatch.setattr("tsal.cli.bench.OUTPUTS", tmp_path)
    monkeypatch.setattr("tsal.bench.bench_methods", lambda *words: calls.append(words))
    monkeypatch.setattr("tsal.bench.draw", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    command = ["bench-methods", "--data", "mine", "--root", "faces", "--budget", "300w-50"]
    configure = configured("faces", "300w-50", **{"data.name": "mine"})
    full = configured("faces", "300w-1057", **{"data.name": "mine"})

    def put(folder, budget, nme):
        folder.mkdir(parents=True)
        with_settings = result("supervised", 0, [nme]) | {"settings": deciding(budget("supervised"))}
        (folder / "supervised-s0.json").write_text(json.dumps(with_settings))

    for out, beside, more in (
        (tmp_path / "methods/mine-300w-50/results", tmp_path / "methods/mine-300w-1057/results", []),
        (tmp_path / "x/mine-300w-50", tmp_path / "x/mine-300w-1057", ["--out", str(tmp_path / "x/mine-300w-50")]),
    ):
        put(out, configure, 6.0)
        assert main([*command, *more]) == 0
        assert calls[-1][4] == out and (out / "table.md").exists() and (out / "table.csv").exists()
        assert calls[-1][0][-2:] == ["--root", str(tmp_path / "faces")]  # runs are started in another folder
        assert f"run the method supervised with --budget 300w-1057 too: none in {beside}" in capsys.readouterr().err
        put(beside, full, 5.0)
        assert main([*command, *more]) == 0 and "gap closed" not in capsys.readouterr().err


def test_a_scheme_s_file_is_that_of_the_folder_that_the_command_is_given_in(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("tsal.cli.bench.OUTPUTS", tmp_path)
    monkeypatch.setattr("tsal.bench.bench_methods", lambda *words: calls.append(words) or pytest.fail("far enough"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text((CONFIG_FOLDER / "schemes" / "68.yaml").read_text())
    command = ["bench-methods", "--set", "data.scheme=mine.yaml", "seed=1", "--jobs", "2"]
    with pytest.raises(pytest.fail.Exception, match="far enough"):
        main(command)
    words, configure = calls[0][0], calls[0][1]
    assert words[-2:] == ["--set", f"data.scheme={tmp_path}/mine.yaml"]
    assert configure("stld").data.scheme == str(tmp_path / "mine.yaml")  # as the runs' results have it
    with pytest.raises(pytest.fail.Exception, match="far enough"):
        main(["bench-methods", "--set", "data.scheme=configs/schemes/68.yaml"])  # of the repository, as before
    assert calls[1][0] == ["--set", "data.scheme=configs/schemes/68.yaml"]


def test_a_method_or_seed_that_is_named_twice_is_run_once_and_no_job_is_no_number_of_jobs(
    tmp_path, monkeypatch, capsys
):
    calls = []
    monkeypatch.setattr("tsal.cli.bench.OUTPUTS", tmp_path)
    monkeypatch.setattr("tsal.bench.bench_methods", lambda *words: calls.append(words) or pytest.fail("far enough"))
    with pytest.raises(pytest.fail.Exception, match="far enough"):
        main(["bench-methods", "--methods", "stld", "sbr", "stld", "--seeds", "1", "0", "1"])
    assert calls[0][5:7] == (["stld", "sbr"], [1, 0])
    for jobs in ("0", "-1", "two"):
        with pytest.raises(SystemExit):
            main(["bench-methods", f"--jobs={jobs}"])
        assert f"{jobs!r} is no whole number from 1" in capsys.readouterr().err


def test_the_command_has_no_single_method_or_seed(capsys):
    for option in ("--method", "--seed"):
        with pytest.raises(SystemExit):
            main(["bench-methods", option, "0"])
        assert f"unrecognized arguments: {option} 0" in capsys.readouterr().err


def test_all_labels_are_those_of_a_budget_s_supervised_runs_with_these_settings():
    everything = configured(budget="ytf-802")
    results = [
        result("supervised", seed, [nme]) | {"settings": deciding(everything("supervised").override({"seed": seed}))}
        for seed, nme in ((0, 4.0), (1, 5.0))
    ]
    assert all_labels(everything, results) == {"val": 4.5}
    assert all_labels(configured(budget="ytf-802", **{"supervised.lr": 1.0}), results) == {}  # made with other settings
    assert all_labels(None, []) == {}


def test_results_of_other_settings_are_not_put_beside_one_another():
    configure = configured()
    results = [
        result("tsal", seed, [1.0]) | {"settings": deciding(configure("tsal").override({"seed": seed}))}
        for seed in (0, 1)
    ]
    assert comparable(results, configure) == results
    assert comparable(results, configured(**{"seed": 1, "data.workers": 7, "data.root": "/else"})) == results
    assert comparable(results, configured(**{"semi.steps": 5})) == []
    assert comparable([result("tsal", 0, [1.0]), result("gone", 0, [1.0])], configure) == []
    del results[0]["settings"]["augment.shape_transfer"]  # made before there was this setting: with its default
    assert comparable(results, configure) == results
    assert comparable(results, configured(**{"augment.shape_transfer": 0.5})) == []


@pytest.mark.parametrize(
    "name, value, consecutive, same",
    [
        ("tracker.video_steps", 9, True, False),  # the numbers of a window are made with the run's tracker
        ("tracker.video_steps", 9, False, True),
        ("tsal.vote_error", 9.0, True, True),
        ("tsal.agreement_weight", 9.0, True, False),  # it is what would need the flow
        ("tsal.agreement_weight", 9.0, False, True),
        ("tracker.tune_steps", 7, True, True),
    ],
)
@pytest.mark.parametrize("method", ["mean-teacher", "supervised"])
def test_the_tracker_decides_a_method_without_flow_where_frames_are_consecutive(
    tmp_path, method, name, value, consecutive, same
):
    """Labels alone, too: what their config has of tsal.* is not used. And the bench stops only for what decides."""
    configure = configured(**{"data.consecutive": consecutive})
    other = configured(**{"data.consecutive": consecutive, name: value})
    same = same or (method == "supervised" and name.startswith("tsal."))
    results = [result(method, 0, [1.0]) | {"settings": deciding(other(method))}]
    assert bool(comparable(results, configure)) == same
    other(method).save(tmp_path / "runs" / f"{method}-s0" / "config.json")
    with nullcontext() if same else pytest.raises(InputError, match="was made with"):
        refuse_other_settings(configure, tmp_path / "runs", tmp_path / "out", [method], (0,))


@pytest.mark.parametrize(
    "settings",
    [
        {"semi.unlabelled_weight": 9},
        {"augment.strong_geometry": 0.5},
        {"data.unlabelled": ["labelled.txt", "unlabelled.txt"]},
        {"data.consecutive": False},
    ],
)
def test_unlabelled_faces_decide_nothing_where_labels_are_learned_alone(settings):
    plain, other = configured(), configured(**settings)
    assert deciding(plain("tsal")) != deciding(other("tsal"))
    assert deciding(plain("supervised")) == deciding(other("supervised"))


def test_what_is_measured_with_decides_nothing_and_what_labels_see_decides_all():
    plain, measured = configured(), configured(**{"data.audit_labels": ["unlabelled.txt"]})
    assert deciding(plain("tsal")) == deciding(measured("tsal"))
    assert deciding(plain("supervised")) != deciding(configured(**{"augment.scale": 0.5})("supervised"))


def test_results_of_a_list_that_has_changed_since_are_made_anew(tmp_path):
    """Supervised-only does not learn from unlabelled faces; a list that is not here counts as unchanged."""
    lists = {"labelled.txt": "a", "unlabelled.txt": "b", "val.txt": "c"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    configure = configured(
        **{
            "data.root": str(tmp_path),
            "data.labelled": ["labelled.txt"],
            "data.unlabelled": ["unlabelled.txt"],
            "data.evaluate": ["val.txt"],
        }
    )

    def result_of(method):
        config = configure(method)
        hashes = list_hashes(Run(tmp_path, config), learned_and_measured(config))
        return result(method, 0, [1.0]) | {"settings": deciding(config), "list_hashes": hashes}

    results = [result_of("supervised"), result_of("tsal")]
    assert comparable(results, configure) == results
    (tmp_path / "unlabelled.txt").write_text("other faces")
    assert comparable(results, configure) == results[:1]
    (tmp_path / "val.txt").write_text("other faces")
    assert comparable(results, configure) == []
    for name in lists:
        (tmp_path / name).unlink()
    assert comparable(results, configure) == results


@pytest.fixture
def faces(tmp_path):
    """What the bench takes, on a copy of the rendered faces, whose files a test may change."""
    root = tmp_path / "faces"
    shutil.copytree(Run(tmp_path, configured()("tsal")).rendered, root)
    return configured(**{"data.name": "mine", "data.root": str(root)})


def test_results_of_labels_or_images_that_have_changed_since_are_made_anew(tmp_path, faces):
    """The lists' text is the same: a landmark is corrected, then an unlabelled frame is replaced."""

    def result_of(method):
        run = Run.create(tmp_path / f"{method}-s0", faces(method))
        stages.prepare_data(run, progress=False)
        return result(method, 0, [1.0]) | {"settings": deciding(run.config)} | made_from(run)

    def checked():
        return check_data(tmp_path, faces("tsal"))

    results, old = [result_of("supervised"), result_of("mean-teacher")], [result("stld", 0, [1.0])]
    old[0]["settings"] = deciding(faces("stld"))  # of before results said what their files held
    assert comparable([*results, *old], faces, checked()[0]) == [*results, *old]
    lists = Run(tmp_path, faces("tsal")).lists
    image = Path(faces("tsal").data.root) / lists.unlabelled[0].image
    image.write_bytes(image.with_stem(str(int(image.stem) + 1)).read_bytes())
    assert comparable([*results, *old], faces, checked()[0]) == [results[0], *old]
    labels = Path(faces("tsal").data.root) / lists.evaluate["val.txt"][0].annotation
    first = re.search(r"^\d+\.\d+", labels.read_text(), re.M)[0]
    labels.write_text(labels.read_text().replace(first, f"{float(first) + 1:.3f}", 1))
    assert comparable([*results, *old], faces, checked()[0]) == old
    assert checked()[1] == []
    root = Path(faces("tsal").data.root)
    measured = (root / "lists" / "val.txt").read_text()
    (root / "lists" / "val.txt").write_text(
        (root / "lists" / "labelled.txt").read_text()
    )  # it is measured on what is learned
    [note] = checked()[1]
    assert note.startswith("the check of the data failed: val.txt") and "labelled.txt" in note
    (root / "lists" / "val.txt").write_text(measured)
    shutil.rmtree(image.parents[2])
    assert comparable([*results, *old], faces, checked()[0]) == [*results, *old]  # what is not here counts as unchanged
    shutil.rmtree(root)
    assert checked()[1] == []


def test_a_folder_in_which_another_process_works_is_not_told_as_wrong_data(tmp_path):
    fcntl, base = pytest.importorskip("fcntl"), tmp_path / "base-s0"
    base.mkdir()
    with open(base / LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        facts, [note] = check_data(tmp_path, configured()("tsal"))
    assert not facts and note.startswith(f"the check of the data failed: {base}: another process works in this folder")


def test_results_that_started_from_other_weights_are_made_anew(tmp_path):
    path, smoke = tmp_path / "model.pt", Config.load("smoke")
    configure = configured(**{"model.weights": str(path)})

    def keep(seed):
        torch.manual_seed(seed)
        models = {"teacher": Detector(68, smoke.model)}
        save_models(path, models, smoke, {"scheme": get_scheme("68").to_dict()})

    keep(seed=0)
    run = Run.create(tmp_path / "tsal-s0", configure("tsal"))
    stages.prepare_data(run, progress=False)
    results = [result("tsal", 0, [1.0]) | {"settings": deciding(run.config)} | made_from(run)]
    assert comparable(results, configure, check_data(tmp_path, configure("tsal"))[0]) == results
    keep(seed=1)
    assert comparable(results, configure, check_data(tmp_path, configure("tsal"))[0]) == []


@pytest.mark.parametrize("consecutive", [True, False])
def test_results_whose_tracker_started_from_other_weights_are_made_anew_where_it_decides_them(tmp_path, consecutive):
    """Where labels are learned alone, that is where frames are consecutive: it makes the numbers of a window."""
    path = tmp_path / "tracker.pt"
    configure = configured(**{"tracker.init": str(path), "data.consecutive": consecutive})

    def keep(seed):
        torch.manual_seed(seed)
        save_checkpoint(path, {"tracker": make_tracker(configure("supervised")).state_dict()})

    keep(seed=0)
    run = Run.create(tmp_path / "supervised-s0", configure("supervised"))
    stages.prepare_data(run, progress=False)
    results = [result("supervised", 0, [1.0]) | {"settings": deciding(run.config)} | made_from(run)]
    assert comparable(results, configure, check_data(tmp_path, configure("supervised"))[0]) == results
    keep(seed=1)
    now = check_data(tmp_path, configure("supervised"))[0]
    assert comparable(results, configure, now) == ([] if consecutive else results)


def test_results_of_a_scheme_whose_file_has_changed_since_are_made_anew(tmp_path):
    scheme = tmp_path / "mine.yaml"
    scheme.write_text((CONFIG_FOLDER / "schemes" / "68.yaml").read_text())
    configure = configured(**{"data.scheme": str(scheme)})
    content = Run(tmp_path, configure("stld")).scheme.to_dict()
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    results = [result("stld", 0, [1.0]) | {"settings": deciding(configure("stld")), "scheme": digest}]
    assert comparable(results, configure) == results
    scheme.write_text(re.sub(r"^ocular: .*", "ocular: [39, 42]", scheme.read_text(), flags=re.M))
    assert comparable(results, configure) == []


def test_the_gap_is_to_results_that_measured_the_same_labels():
    everything = configured(budget="ytf-802")
    full = result("supervised", 0, [4.0]) | {"settings": deciding(everything("supervised"))}
    full["data"] = {"evaluate_fingerprint": "a"}
    beside = [full | {"data": {"evaluate_fingerprint": name}} for name in "ab"]
    assert all_labels(everything, [full], beside[:1]) == all_labels(everything, [full]) == {"val": 4.0}
    assert all_labels(everything, [full], beside[1:]) == {}
    apart = beside[1] | {"settings": full["settings"] | {"data.evaluate": ["other"]}}
    assert all_labels(everything, [full], [apart]) == {"val": 4.0}
