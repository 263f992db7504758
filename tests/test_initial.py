"""What the init starts from: random weights, or a trained detector."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from toys import config, same_weights

from tsal.config import Config
from tsal.initial import make_initial
from tsal.model import Detector
from tsal.model_files import load_model, save_models
from tsal.run import Run
from tsal.schemes import generic_scheme, get_scheme
from tsal.stages import is_unchecked, prepare_data
from tsal.trainings import train_inits
from tsal.utils import REPOSITORY, SHIPPED, ConfigError, InputError, weights_file

SMALL = ("model.input=32", "model.width=0.05", "model.stages=2", "data.scheme=5")


@pytest.fixture
def trained(tmp_path) -> Path:
    """A run's file: teacher and student of five landmarks, whose weights differ; the teacher is its result."""
    small = config(*SMALL)
    models = {}
    for seed, name in enumerate(("student", "teacher")):
        torch.manual_seed(seed)
        models[name] = Detector(5, small.model)
    save_models(tmp_path / "model.pt", models, small, {"scheme": generic_scheme(5).to_dict()})
    return tmp_path / "model.pt"


def start(trained: Path, points: int = 5, *more: str) -> tuple[Detector, list[str]]:
    torch.manual_seed(7)
    scheme = generic_scheme(points)
    return make_initial(config(*SMALL, f"data.scheme={points}", f"model.weights={trained}", *more), scheme)


def test_it_has_every_weight_of_the_model_that_is_the_file_s_result(trained):
    detector, warnings = start(trained)
    teacher = load_model(trained, "teacher")[0].state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in detector.state_dict().items()) and not warnings


def test_for_other_landmarks_only_layers_of_their_number_are_random(trained):
    detector, [warning] = start(trained, 4)
    teacher, own = load_model(trained)[0].state_dict(), detector.state_dict()
    torch.manual_seed(7)
    random = Detector(4, config(*SMALL).model).state_dict()
    same_shape = {name for name in own if own[name].shape == teacher[name].shape}
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in own.keys() - same_shape} == {
        "stages.0.2",
        "stages.1.0.0",  # sees the heatmaps of the stage before
        "stages.1.2",
        "offset_head.1",
    }
    assert all(torch.equal(own[name], (teacher if name in same_shape else random)[name]) for name in own)
    assert "it has 5 landmarks, the run 4: layers whose size depends on that start from random weights" in warning


def test_another_network_is_refused_with_the_settings_to_give(trained):
    with pytest.raises(ConfigError) as raised:
        start(trained, 5, "model.stages=1", "model.width=0.1", "model.input=64")
    assert str(raised.value).endswith(": it is another network; set model.width=0.05 model.stages=2 model.input=32 too")


def test_views_unlike_those_that_it_learned_from_are_warned_of(trained):
    _, warnings = start(trained, 5, "model.input=64", "augment.box_scale=1.2")
    said = [warning.partition(": ")[2] for warning in warnings]
    assert said == [
        "it learned with model.input=32, not 64",
        f"it learned with augment.box_scale={Config().augment.box_scale}, not 1.2",
    ]


def test_as_many_landmarks_in_another_order_are_warned_of(trained):
    five = get_scheme("5")  # has pairs; the file's has none
    _, [warning] = make_initial(config(*SMALL, f"model.weights={trained}"), five)
    assert warning.endswith("its 5 landmarks are not those of data.scheme=5")


def test_the_profile_finetune_is_of_the_network_and_the_views_of_the_detector_that_ships():
    detector, warnings = make_initial(Config.load("finetune"), get_scheme("68"))
    shipped = load_model(SHIPPED)[0].state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in detector.state_dict().items()) and not warnings


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Two detectors of the profile smoke, untrained."""
    smoke, scheme = Config.load("smoke"), get_scheme("68")
    for seed in range(2):
        torch.manual_seed(seed)
        models = {"init": Detector(68, smoke.model)}
        save_models(tmp_path / f"{seed}.pt", models, smoke, {"scheme": scheme.to_dict()})
    return [tmp_path / "0.pt", tmp_path / "1.pt"]


def run_from(file: Path, *settings: str) -> Run:
    settings = (f"model.weights={file}", "supervised.steps=0", *settings)
    run = Run.create(file.parent / "run", Config.load("smoke").override(settings))
    prepare_data(run, progress=False)
    return run


def same(first: Path, second: Path) -> bool:
    return same_weights(load_model(first)[0], load_model(second)[0])


def test_a_run_s_init_starts_from_the_file_and_then_learns(files):
    [init] = train_inits(run_from(files[0]), 1)
    assert same(init, files[0])
    train_inits(run_from(files[0], "supervised.steps=2"), 1)
    assert not same(init, files[0])


def test_an_init_is_made_anew_once_the_file_is_another_and_the_data_are_checked_again(files):
    run = run_from(files[0])
    [init] = train_inits(run, 1)
    written = init.stat().st_mtime_ns
    shutil.copy(files[0], moved := files[0].with_name("moved.pt"))
    train_inits(run_from(moved), 1)
    assert init.stat().st_mtime_ns == written  # it holds the same
    shutil.copy(files[1], moved)
    train_inits(run_from(moved), 1)
    assert same(init, files[1])


def test_a_done_init_is_taken_though_the_file_is_gone_and_another_file_is_not_learned_from_unseen(files):
    run = run_from(files[0])
    [init] = train_inits(run, 1)
    files[0].unlink()
    assert not is_unchecked(Run.open(run.folder))  # stages that follow do not ask for it
    assert train_inits(Run.open(run.folder), 1) == [init]
    shutil.copy(files[1], files[0])
    assert is_unchecked(Run.open(run.folder))
    init.unlink()
    with pytest.raises(InputError, match="0.pt: changed since it was checked; run 'python -m tsal data --run"):
        train_inits(Run.open(run.folder), 1)


def test_vgg_16_s_weights_are_of_the_repository_and_make_another_training_where_the_file_holds_others(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert weights_file("w.pth") == REPOSITORY / "w.pth" and weights_file(str(tmp_path / "w")) == tmp_path / "w"
    fingerprints = []
    for name, content in (("one.pth", b"1"), ("moved.pth", b"1"), ("moved.pth", b"2")):
        (tmp_path / name).write_bytes(content)
        run = Run.create(tmp_path / "run", Config.load("smoke", [f"model.vgg16_weights={tmp_path / name}"]))
        prepare_data(run, progress=False)
        fingerprints.append(run.fingerprint("model"))
    assert fingerprints[0] == fingerprints[1]
    assert {name for name in fingerprints[1] if fingerprints[1][name] != fingerprints[2][name]} == {
        "file of model.vgg16_weights"
    }


def test_a_run_does_not_start_from_what_it_would_replace(files):
    run = run_from(files[0])
    [init] = train_inits(run, 1)
    for name, file in (("model.weights", init), ("tracker.init", run.folder / "tracker" / "model.pt")):
        other = Run.create(run.folder, run.config.override({name: str(file)}))
        with pytest.raises(ConfigError, match=f"^{name}={file}: a file of this run, which would train it away; give"):
            prepare_data(other, progress=False)


def test_random_layers_are_not_taken_for_trained_ones(trained):
    with pytest.raises(ConfigError, match="^supervised.steps=0: .*from random weights, and have to learn"):
        start(trained, 4, "supervised.steps=0")


def test_two_inits_from_one_file_are_warned_of(trained):
    _, [warning] = start(trained, 5, "tsal.inits=2")
    assert warning.endswith("both inits (tsal.inits=2) start from it, and differ by their batches alone")
