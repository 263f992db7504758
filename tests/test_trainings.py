"""What a semi-supervised training is made of: first weights, rates, batches, each learner's tracker."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from toys import a_detector, same_weights

from tsal import trainings
from tsal.config import resolve
from tsal.data.batches import BatchMaker
from tsal.model_files import load_model, save_models
from tsal.run import Run
from tsal.schemes import generic_scheme
from tsal.stages import evaluate_models, prepare_data, train_models
from tsal.tracker import training as tracker_training
from tsal.tracker.training import tune_tracker
from tsal.utils import InputError, load_checkpoint, save_checkpoint


def a_run(folder: Path, method: str = "tsal", **overrides) -> SimpleNamespace:
    """A run of the smoke profile without any face: five landmarks, the smallest detector."""
    small = {"model.width": 0.05, "model.stages": 1, "model.input": 32, "data.scheme": "5"}
    return SimpleNamespace(
        config=resolve("smoke", "", method, small | overrides)[0],
        folder=folder,
        scheme=generic_scheme(5),
        device=torch.device("cpu"),
        store=None,
        clips=[],
        single_images=[],
        lists=SimpleNamespace(labelled=[], truth={}),
        fingerprint=lambda *parts, **options: {},
    )


@pytest.mark.parametrize(
    "method, rival, overrides, flow",
    [
        ("sbr-lk", "tsal", [], "learned"),  # its name means the same in every run
        ("tsal", "sbr-lk", [], "lucas-kanade"),
        ("tsal", "sbr", ["tracker.flow=lucas-kanade"], "lucas-kanade"),  # --set is for all
        ("sbr-lk", "tsal", ["tracker.flow=learned"], "learned"),
    ],
)
def test_a_rival_has_the_flow_of_its_own_file_not_that_of_the_run_s_method(method, rival, overrides, flow):
    config = resolve("demo", method=method, overrides=[f"semi.rival={rival}", *overrides])[0]
    rival_config = trainings.rival_config(config)
    assert rival_config.tracker.flow == flow and rival_config.method == rival
    alone = resolve("demo", method=rival, overrides=[f"semi.rival={rival}", *overrides])[0]
    assert rival_config.flat() == alone.flat()


def test_a_run_whose_method_s_file_is_gone_has_its_rival_all_the_same():
    config = dataclasses.replace(resolve("demo", overrides=["semi.rival=mean-teacher"])[0], method="gone")
    assert trainings.rival_config(config).method == "mean-teacher"


def two_inits(run: SimpleNamespace) -> list[Path]:
    """The files of two untrained inits, which differ."""
    paths = []
    for seed, name in enumerate(("init", "init-2")):
        paths.append(run.folder / name / "model.pt")
        save_models(paths[-1], {name: a_detector(run.config, 5, seed)}, run.config, {"scheme": run.scheme.to_dict()})
    return paths


@pytest.fixture
def without_steps(monkeypatch) -> dict:
    """A training takes no step and keeps nothing; what it gave to the loop, and the rates of its optimisers."""
    record: dict = {"rates": []}
    make_optimiser = trainings.make_optimiser
    monkeypatch.setattr(
        trainings,
        "make_optimiser",
        lambda net, train, lr: (record["rates"].append(lr), make_optimiser(net, train, lr))[1],
    )
    monkeypatch.setattr(trainings, "fit", lambda folder, **arguments: (record.update(arguments), ([], 1.0))[1])
    monkeypatch.setattr(trainings, "_finish", lambda *_: None)
    monkeypatch.setattr(trainings, "open_tracker", lambda run: nn.Identity())
    monkeypatch.setattr(trainings, "freeze_tracker", lambda run, net: net)
    return record


# --- one training ---


@pytest.mark.parametrize("method, window, pairs", [("tsal", 3, True), ("tsal-paper", 1, True), ("stld", 1, False)])
def test_batches_hold_the_pairs_of_frames_that_a_method_s_window_asks_for(
    tmp_path, without_steps, method, window, pairs
):
    run = a_run(tmp_path, method)
    trainings.train_semi(run, two_inits(run), 0)
    maker = without_steps["make_batch"]
    assert isinstance(maker, BatchMaker) and (maker.window, maker.pairs) == (window, pairs)


def test_the_teacher_learns_at_its_share_of_the_student_s_rate(tmp_path, without_steps):
    run = a_run(tmp_path, **{"semi.lr": 2e-3, "tsal.teacher_lr": 0.1})
    trainings.train_semi(run, two_inits(run)[:1], 0)
    assert without_steps["rates"] == pytest.approx([2e-4, 2e-3])
    rates = [without_steps["state"][f"{name} optimiser"].param_groups[0]["base_lr"] for name in ("teacher", "student")]
    assert rates == pytest.approx([2e-4, 2e-3])


def test_the_teacher_starts_from_the_first_init_and_the_student_from_the_last(tmp_path, without_steps):
    run = a_run(tmp_path, "tsal-paper")
    inits = two_inits(run)
    first, second = (load_model(path)[0] for path in inits)
    assert not same_weights(first, second)
    for files, student in ((inits, second), (inits[:1], first)):
        trainings.train_semi(run, files, 0)
        models = without_steps["state"]
        assert same_weights(models["teacher"], first) and same_weights(models["student"], student)


# --- trackers that are tuned ---


@pytest.mark.parametrize("trackers, names", [("own", ("teacher", "student")), ("shared", ("teacher",))])
def test_a_tracker_is_tuned_with_the_detector_of_the_learner_that_uses_it(
    tmp_path, without_steps, monkeypatch, trackers, names
):
    detector_of = {}

    def tune(run, net, detector, folder, fingerprint):
        detector_of[folder.name] = detector
        return folder.name

    monkeypatch.setattr(trainings, "tune_tracker", tune)
    run = a_run(tmp_path, **{"tsal.trackers": trackers, "tracker.tune_steps": 1})
    run.clips = ["a clip"]
    detectors = [a_detector(run.config, 5, seed) for seed in (0, 1)]
    tracker_of = trainings._tuned_trackers(run, detectors, tmp_path / "semi", {})
    assert detector_of == {f"tracker-{name}": detectors[i] for i, name in enumerate(names)}
    assert tracker_of == {"teacher": "tracker-teacher", "student": f"tracker-{names[-1]}"}


@pytest.mark.parametrize("tuned", [("teacher", "student"), ("teacher",), ()])
def test_a_trained_run_s_trackers_are_those_its_learners_had(tmp_path, monkeypatch, tuned):
    monkeypatch.setattr(tracker_training, "load_tracker", lambda path, config, device: path.parent.name)
    monkeypatch.setattr(tracker_training, "open_tracker", lambda run: SimpleNamespace(to=lambda device: "tracker"))
    monkeypatch.setattr(tracker_training, "freeze_tracker", lambda run, net: net)
    for name in tuned:
        file = tmp_path / "semi" / f"tracker-{name}" / "model.pt"
        file.parent.mkdir(parents=True)
        file.touch()
    teacher, student = ("tracker-teacher" if tuned else "tracker"), (f"tracker-{tuned[-1]}" if tuned else "tracker")
    assert tracker_training.final_trackers(a_run(tmp_path)) == {"teacher": teacher, "student": student}


@pytest.fixture
def loop_alone(monkeypatch):
    """The loop around a tracker's steps without its files: five steps on batches of two pairs, noise."""

    def fit(folder, *, steps, step_function, **_):
        frames = torch.randint(0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        batch = SimpleNamespace(weak=frames, previous=torch.tensor([0, 2]), following=torch.tensor([1, 3]))
        return [step_function(batch, step / steps) for step in range(steps)], 1.0

    monkeypatch.setattr(tracker_training, "fit", fit)


class Tracker(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))


def test_a_tracker_is_tuned_by_a_detector_that_neither_learns_nor_keeps_statistics(tmp_path, loop_alone, monkeypatch):
    run = a_run(tmp_path, **{"tracker.tune_steps": 2})
    detector, heatmaps = a_detector(run.config, 5, 0), []
    detector.train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}

    def loss(net, first, second, weights, *, use_occlusion, detect):
        images = first.clone().requires_grad_()
        heatmaps.append((images, detect(images)))
        heatmaps[-1][1].square().sum().backward()  # through the detector into the warped frames
        assert images.grad.abs().sum() > 0 and all(p.grad is None for p in detector.parameters())
        return net.weight, {}

    monkeypatch.setattr(tracker_training, "video_loss", loss)
    monkeypatch.setattr(tracker_training, "load_tracker", lambda *_: None)  # this network has one weight
    tune_tracker(run, Tracker().requires_grad_(False), detector, tmp_path / "tuned", {})
    assert len(heatmaps) == 2 and (tmp_path / "tuned" / "model.pt").exists()
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(p.requires_grad for p in detector.parameters())  # it goes on to learn
    detector.eval()
    with torch.no_grad():
        assert all(torch.equal(heatmap, detector.maps(detector(images))) for images, heatmap in heatmaps)


def test_occluded_pixels_are_left_out_once_the_tracker_s_warm_up_is_over(tmp_path, loop_alone, monkeypatch):
    masked = []

    def loss(net, *_, use_occlusion, detect):
        assert detect is None
        masked.append(use_occlusion)
        return net.weight, {}

    monkeypatch.setattr(tracker_training, "video_loss", loss)
    run = a_run(tmp_path, **{"tracker.occlusion_after": 0.2})
    tracker_training._fit_video(run, Tracker(), tmp_path, "tracker", 5, {})
    assert masked == [False, True, True, True, True]


# --- models of former settings ---


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Run:
    """A run of which every training is done, without a step."""
    monkeypatch.setattr(trainings, "fit", lambda *_, **__: ([], 1.0))
    untrained = {"tracker.synthetic_steps": 0, "tracker.video_steps": 0, "model.width": 0.05, "model.input": 32}
    return changed(Run.create(tmp_path / "run", resolve("smoke", overrides=untrained)[0]), train=True)


def changed(run: Run, *settings: str, train: bool = False) -> Run:
    """The run with other settings, as stage data or notebook 01 makes it."""
    other = Run.create(run.folder, run.config.override(settings))
    prepare_data(other, checked=run.folder, progress=False)
    if train:
        train_models(other)
    return other


@pytest.mark.parametrize(
    "setting, said",
    [
        ("tsal.window=2", "semi/model.pt was trained with tsal.window=3; the run has tsal.window=2"),
        ("semi.steps=11", "supervised/model.pt was trained with steps=10; the run has steps=11"),
        ("supervised.lr=1", "init/model.pt was trained with lr=0.002; the run has lr=1.0"),
        (
            "semi.rival=mean-teacher",
            "rival/model.pt was trained with tsal.drift_correction=True; the run has tsal.drift_correction=False",
        ),
    ],
)
def test_models_of_former_settings_are_not_taken_for_the_run_s(trained, setting, said):
    with pytest.raises(InputError) as caught:
        evaluate_models(changed(trained, setting))
    assert str(caught.value) == f"{trained.folder}/{said}; run 'python -m tsal train --run {trained.folder}'"
    assert not (trained.folder / "metrics.json").exists()
    assert trainings.model_files_of(changed(trained, setting, train=True))


def test_models_are_the_run_s_whatever_it_measures_and_of_an_older_version_too(trained):
    files = trainings.model_files_of(changed(trained, "train.checkpoint_every=7", "data.normaliser=box"))
    assert files.keys() == {"init", "supervised", "mean-teacher-corrected", "teacher", "student"}
    for path in {path for path, _ in files.values()}:
        content = load_checkpoint(path)
        del content["fingerprint"]["train.momentum"]
        save_checkpoint(path, content | {"fingerprint": content["fingerprint"] | {"code": "older", "train.gone": 1}})
    assert trainings.model_files_of(trained) == files
    shutil.rmtree(trained.folder / "rival")
    with pytest.raises(InputError, match=r"rival/model.pt: not trained yet; run 'python -m tsal train --run "):
        trainings.model_files_of(trained)
