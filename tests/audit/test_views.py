"""What the explorer shows of a clip: made once, from the models that the audit is of."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from toys import DotDetector, Shift, moving_clip

from tsal.audit import views as audit_views
from tsal.audit.store import Audit
from tsal.audit.views import ClipViews, clip_view
from tsal.config import Config
from tsal.data.lists import Clip
from tsal.data.photometric import to_float
from tsal.data.views import FaceStore
from tsal.run import Run
from tsal.schemes import generic_scheme
from tsal.tracker.frozen import FrozenTracker
from tsal.utils.errors import InputError


def test_a_view_shows_frames_flow_and_heatmaps_of_a_clip(tmp_path):
    clip = moving_clip(tmp_path)[0]
    store, tracker = FaceStore(tmp_path, generic_scheme(1), 64, 1.35, 50), FrozenTracker(Shift(2.0, 0.0))
    detector, settings = DotDetector(), Config().override({"tsal.window": 2})
    trackers = {"teacher": tracker, "student": FrozenTracker(Shift(6.0, 0.0))}
    view = clip_view({"teacher": detector, "student": detector}, trackers, store, clip, settings, torch.device("cpu"))
    assert view["images"].shape == (3, 64, 64, 3) and view["images"].dtype == np.uint8
    assert np.allclose(view["flow"][:, 0], 2) and np.allclose(view["flow_backward"][:, 0], -2)
    assert view["occluded"].shape == (2, 64, 64) and view["occluded"][:, :, -2:].all()  # what leaves the crop
    assert view["forward_backward_error"].max() == 0
    assert view["heatmaps_teacher"].shape == (3, 1, 8, 8) and view["heatmaps_teacher"].max() == 255
    assert sorted(zip(view["voters"], view["voted"])) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    images = to_float(torch.from_numpy(view["images"]).permute(0, 3, 1, 2))
    points = detector.heatmap(detector(images))[0].numpy()
    beside = np.abs(view["voters"] - view["voted"]) == 1
    assert np.allclose(view["carried_teacher"][beside], points[view["voted"][beside]], atol=0.3)
    ahead = 4 * (view["voted"] - view["voters"])[beside]  # px that the student's tracker goes further
    assert np.allclose(
        view["carried_student"][beside][:, 0, 0], view["carried_teacher"][beside][:, 0, 0] + ahead, atol=0.1
    )
    assert view["own_teacher"].shape == (3, 1) and (view["votes_teacher"] <= view["own_teacher"].max()).all()
    photograph = Clip("photo", clip.faces[:1])
    assert not {"flow", "voters"} & set(clip_view({}, trackers, store, photograph, settings, torch.device("cpu")))


@pytest.fixture
def run(smoke_run, tmp_path) -> Run:
    shutil.copytree(smoke_run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "audit" / "views", ignore_errors=True)
    return Run.open(tmp_path / "run")


def test_a_view_is_made_when_it_is_looked_at_and_then_read(run, monkeypatch):
    audit = Audit.open(run.folder / "audit")
    view = ClipViews(run, audit)(0)
    assert len(view["images"]) == (audit.frames["view"] == 0).sum()
    assert {"heatmaps_init", "heatmaps_teacher", "heatmaps_student"} <= set(view)
    monkeypatch.setattr(audit_views, "clip_view", None)
    stored = ClipViews(run, audit)(0)
    assert all(np.array_equal(view[name], stored[name]) for name in view | stored)


def test_a_view_is_not_made_with_other_weights_than_the_audit_s(run):
    audit, path = Audit.open(run.folder / "audit"), run.folder / "semi" / "model.pt"
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(
        InputError, match="model.pt: changed since the audit was made; make it again: python -m tsal pseudo"
    ):
        ClipViews(run, audit)(0)
