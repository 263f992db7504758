"""What the init starts from: random weights, or a trained detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.helpers.toys import config
from tsal.config import Config
from tsal.initial import SHIPPED, initial_detector
from tsal.model import Detector
from tsal.model_files import load_model, save_models
from tsal.run import Run
from tsal.schemes import generic_scheme, get_scheme
from tsal.stages import prepare_data
from tsal.trainings import train_inits
from tsal.utils import ConfigError

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
    return initial_detector(config(*SMALL, f"data.scheme={points}", f"model.weights={trained}", *more), scheme)


def test_it_has_every_weight_of_the_model_that_is_the_file_s_result(trained):
    detector, warnings = start(trained)
    teacher = load_model(trained, "teacher")[0].state_dict()
    assert all(torch.equal(value, teacher[name]) for name, value in detector.state_dict().items()) and not warnings


def test_for_other_landmarks_only_layers_of_their_number_are_random(trained):
    detector, [warning] = start(trained, 4)
    teacher, own = load_model(trained)[0].state_dict(), detector.state_dict()
    torch.manual_seed(7)
    random = Detector(4, config(*SMALL).model).state_dict()
    kept = {name for name in own if own[name].shape == teacher[name].shape}
    assert {name.removesuffix(".weight").removesuffix(".bias") for name in own.keys() - kept} == {
        "stages.0.2",
        "stages.1.0.0",  # sees the heatmaps of the stage before
        "stages.1.2",
        "offset_head.1",
    }
    assert all(torch.equal(own[name], (teacher if name in kept else random)[name]) for name in own)
    assert "it has 5 landmarks, the run 4: layers whose size depends on that start from random weights" in warning


def test_another_network_is_refused_with_the_settings_to_give(trained):
    with pytest.raises(ConfigError) as raised:
        start(trained, 5, "model.stages=1", "model.width=0.1", "model.input=64")
    assert "it is another network; set model.width=0.05 model.stages=2 too" in str(raised.value)


def test_views_unlike_those_that_it_learned_from_are_warned_of(trained):
    _, warnings = start(trained, 5, "model.input=64", "augment.box_scale=1.2")
    said = [warning.partition(": ")[2] for warning in warnings]
    assert said == [
        "it learned with model.input=32, not 64",
        f"it learned with augment.box_scale={Config().augment.box_scale}, not 1.2",
    ]


def test_as_many_landmarks_in_another_order_are_warned_of(trained):
    five = get_scheme("5")  # has pairs; the file's has none
    _, [warning] = initial_detector(config(*SMALL, f"model.weights={trained}"), five)
    assert warning.endswith("its 5 landmarks are not those of data.scheme=5")


def test_the_profile_finetune_is_of_the_network_and_the_views_of_the_detector_that_ships():
    detector, warnings = initial_detector(Config.load("finetune"), get_scheme("68"))
    shipped = load_model(SHIPPED)[0].state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in detector.state_dict().items()) and not warnings


def test_a_run_s_init_starts_from_it_and_is_trained_anew_once_the_file_is_another(tmp_path):
    def weights_of(path: Path) -> dict[str, torch.Tensor]:
        return load_model(path)[0].state_dict()

    def same(one: Path, other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(value, other[name]) for name, value in weights_of(one).items())

    smoke, file = Config.load("smoke"), tmp_path / "trained.pt"
    scheme, models = get_scheme("68"), []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(Detector(68, smoke.model))
    save_models(file, {"init": models[0]}, smoke, {"scheme": scheme.to_dict()})
    run = Run.create(tmp_path / "run", smoke.override([f"model.weights={file}", "supervised.steps=0"]))
    prepare_data(run, progress=False)
    [init] = train_inits(run, 1)
    assert same(init, models[0].state_dict())
    save_models(file, {"init": models[1]}, smoke, {"scheme": scheme.to_dict()})
    train_inits(run, 1)
    assert same(init, models[1].state_dict())
    stepped = Run.create(tmp_path / "run", run.config.override(["supervised.steps=2"]))
    prepare_data(stepped, progress=False)
    train_inits(stepped, 1)
    assert not same(init, models[1].state_dict())
