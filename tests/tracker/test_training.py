"""A tracker's own stage: where it goes on from, and what it learns from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tsal.config import Config
from tsal.data.batches import PointPairs
from tsal.run import Run
from tsal.stages import is_unchecked, prepare_data, train_models
from tsal.stages import tracker as stage
from tsal.stages.table import STAGES
from tsal.stages.tracker import train_tracker
from tsal.tracker import FlowNet, training
from tsal.tracker.training import initial_tracker, load_tracker, make_tracker
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import ConfigError, InputError
from tsal.utils.paths import REPOSITORY


@pytest.fixture
def opened(smoke_run, tmp_path):
    """The smoke run again, without its tracker; ``opened(overrides)``."""
    folder = tmp_path / "run"
    shutil.copytree(smoke_run, folder, ignore=shutil.ignore_patterns("tracker", "executed", "audit", "figures"))
    return lambda *overrides: Run.open(folder, overrides)


def test_training_goes_on_from_the_tracker_that_is_named_by_what_its_file_holds(tmp_path):
    steps = "tracker.synthetic_steps=0", "tracker.video_steps=1", "tracker.video_lr=0"  # one step at no rate

    def trained(file: Path) -> tuple[FlowNet, int]:
        run = Run.create(tmp_path / "run", Config.load("smoke", [f"tracker.init={file}", *steps]))
        prepare_data(run, checked=run.folder, progress=False)
        tracker = train_tracker(run)
        return tracker, (run.folder / "tracker" / "model.pt").stat().st_mtime_ns

    def same(net: FlowNet, other: FlowNet) -> bool:
        return all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())

    first, second = (make_tracker(Config.load("smoke")) for _ in range(2))
    save_checkpoint(tmp_path / "kept.pt", {"tracker": first.state_dict()})  # not even a fingerprint
    tracker, written = trained(tmp_path / "kept.pt")
    assert same(tracker, first)
    shutil.copy(tmp_path / "kept.pt", tmp_path / "moved.pt")
    assert trained(tmp_path / "moved.pt")[1] == written  # it holds the same
    assert not is_unchecked(Run.open(tmp_path / "run"))
    save_checkpoint(tmp_path / "moved.pt", {"tracker": second.state_dict()})
    assert is_unchecked(Run.open(tmp_path / "run"))  # by the next stage
    with pytest.raises(InputError, match="moved.pt: changed since it was checked; run 'python -m tsal data --run"):
        train_tracker(Run.open(tmp_path / "run", ["train.warmup=0.5"]))
    assert same(trained(tmp_path / "moved.pt")[0], second)


@pytest.mark.parametrize("content", [{"tracker": {"levels.0.0.0.weight": torch.zeros(1)}}, {"models": {}}])
def test_a_tracker_of_another_shape_is_reported_in_a_line(tmp_path, content):
    save_checkpoint(tmp_path / "other.pt", content)
    with pytest.raises(ConfigError, match=r"tracker\.init=.*other\.pt: holds no tracker of these channels") as caught:
        initial_tracker(Config.load("smoke", [f"tracker.init={tmp_path / 'other.pt'}"]))
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(InputError, match="none.pt: no such tracker"):
        initial_tracker(Config.load("smoke", [f"tracker.init={tmp_path / 'none.pt'}"]))


def test_the_tracker_that_comes_with_the_project_fits_the_default_profile():
    assert (REPOSITORY / Config().tracker.init).is_file()
    initial_tracker(Config())


@pytest.mark.parametrize("share, steps", [(0.0, 0), (0.4, 2), (1.0, 5)])
def test_a_share_of_the_steps_on_known_flow_is_on_rendered_pairs(opened, monkeypatch, share, steps):
    learned, rendered = [], []

    def recorded(name):
        original = getattr(training, name)

        def loss(*arguments):
            learned.append(name)
            return original(*arguments)

        return loss

    class Recorded(stage.PointPairMaker):
        def __call__(self, step: int) -> PointPairs:
            rendered.append(step)
            return super().__call__(step)

    for name in ("synthetic_flow_loss", "point_pairs_loss"):
        monkeypatch.setattr(training, name, recorded(name))
    monkeypatch.setattr(stage, "PointPairMaker", Recorded)
    train_tracker(opened(f"tracker.rendered_share={share}", "tracker.synthetic_steps=5", "tracker.video_steps=1"))
    assert len(rendered) == steps and all(step < 5 for step in rendered)
    assert learned.count("point_pairs_loss") == steps and learned.count("synthetic_flow_loss") == 5 - steps


@pytest.mark.parametrize("override", ["train.warmup=0.5", "train.amp=bf16"])
def test_what_the_trackers_steps_take_from_the_detectors_settings_makes_another_tracker(opened, override):
    fingerprints = []
    for overrides in ([], [override]):
        run = opened("tracker.video_steps=0", *overrides)
        train_tracker(run)
        fingerprints.append(load_checkpoint(run.folder / "tracker" / "model.pt")["fingerprint"])
    name = override.partition("=")[0]
    assert {key for key in fingerprints[0] if fingerprints[0][key] != fingerprints[1][key]} == {name}


def test_a_tracker_that_is_trained_anew_is_measured_anew(tmp_path):
    steps = "tracker.synthetic_steps=0", "tracker.video_steps=0"
    run = Run.create(tmp_path / "run", Config.load("smoke", steps))
    prepare_data(run, progress=False)
    train_tracker(run)
    (run.folder / "tracker" / "metrics.json").write_text("{}")
    train_tracker(run)
    assert STAGES["tracker"].is_done(run.folder)
    train_tracker(Run.open(run.folder, ["train.warmup=0.5"]))
    assert not STAGES["tracker"].is_done(run.folder)


# --- the tracker of a run ---

FEW = ("supervised.steps=1", "semi.steps=1", "semi.rival=", "tracker.synthetic_steps=1", "tracker.video_steps=0")


def test_the_stage_train_makes_the_tracker_of_the_run_s_settings_first(tmp_path):
    for settings in ((), ("tracker.width=8",)):
        run = Run.create(tmp_path / "run", Config.load("smoke", [*FEW, *settings]))
        prepare_data(run, progress=False)
        train_models(run)
        tracker, semi = (load_checkpoint(run.folder / name / "model.pt") for name in ("tracker", "semi"))
        assert tracker["fingerprint"]["tracker.width"] == run.config.tracker.width
        assert semi["fingerprint"]["trained tracker"] == tracker["fingerprint"]


@pytest.mark.parametrize("place, stage", [("tracker", "tracker"), ("semi/tracker-teacher", "train")])
def test_a_run_s_tracker_that_is_missing_or_of_other_settings_is_a_line_that_says_what_to_run(tmp_path, place, stage):
    path, config = tmp_path / place / "model.pt", Config.load("smoke")
    again = rf"; run 'python -m tsal {stage} --run {tmp_path}'$"
    with pytest.raises(InputError, match=rf"^{path}: not trained yet{again}"):
        load_tracker(path, config, torch.device("cpu"))
    save_checkpoint(path, {"tracker": make_tracker(config.override(["tracker.width=8"])).state_dict()})
    with pytest.raises(InputError, match=rf"^{path}: holds no tracker of the run's channels.*{again}"):
        load_tracker(path, config, torch.device("cpu"))
