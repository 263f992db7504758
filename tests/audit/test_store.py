"""The audit: every source on unlabelled frames, written once, read by pandas and piece by piece."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from toys import DotDetector, Shift, config, moving_clip

from tsal import stages
from tsal.audit.store import AUDITED, Audit, AuditWriter, audit_model
from tsal.data.lists import Clip
from tsal.data.views import FaceStore
from tsal.evaluation.predictions import GroundTruth
from tsal.run import Run
from tsal.schemes import generic_scheme
from tsal.stages import pseudo as pseudo_stage
from tsal.tracker.frozen import FrozenTracker
from tsal.utils.checkpoints import load_checkpoint, save_checkpoint
from tsal.utils.errors import InputError
from tsal.utils.files import read_arrays, write_arrays

ONE = generic_scheme(1)
CPU = torch.device("cpu")
SETTINGS = config(
    "tsal.sources=tracked_heatmap,tracked_centre",
    "tsal.heatmap_share=0.5",
    "tsal.fallback=true",
    "tsal.max_fb_error=0",
    "tsal.window=1",  # the tracker says the same of all pairs
)


def test_an_audit_gives_every_source_in_pixels_of_the_original_frames(tmp_path):
    clip, places, zoom = moving_clip(tmp_path)
    photograph = Clip("photo", clip.faces[:1])
    store = FaceStore(tmp_path, ONE, 64, 1.35, 50)
    labels = audit_model(
        DotDetector(), FrozenTracker(Shift(2.0, 0.0)), store, [clip, photograph], SETTINGS, torch.device("cpu")
    )
    assert set(AUDITED) >= {"heatmap", "centre", "tracked_heatmap", "tracked_centre", "propagated", "fused"}
    points, valid = dict(zip(AUDITED, labels.points)), dict(zip(AUDITED, labels.valid))
    for name, off in (("tracked_heatmap", 0.0), ("propagated", 0.0), ("tracked_centre", 2 / zoom)):
        # a neighbour on either side votes; a frame is rebuilt from the one before it
        assert valid[name][:, 0].tolist() == [name == "propagated", True, True, False], name
        assert np.abs(points[name][1:3, 0] - places[1:] - off).max() < 0.1 / zoom, name
    assert np.abs(points["fused"][1:3, 0] - places[1:] - 1 / zoom).max() < 0.1 / zoom
    error = dict(zip(AUDITED, labels.flow_error[..., 0]))
    assert np.isnan(error["heatmap"]).all() and np.isnan(error["centre"]).all()  # nothing carried them
    for name in ("tracked_heatmap", "tracked_centre", "fused"):
        assert error[name][1:3].max() < 1e-3 and np.isnan(error[name][[0, 3]]).all()
    assert error["propagated"][:3].max() < 1e-3 and np.isnan(error["propagated"][3])
    trust = labels.votes[0, 0]  # of one neighbour that comes back to where it was
    assert 0 < trust <= 1 and np.allclose(labels.votes[:, 0], [trust, 2 * trust, trust, 0], atol=1e-3)
    assert np.allclose(labels.disagreement, 8**0.5, atol=0.2)  # the centre source lies 2 px off in x and in y


def test_an_audit_of_photographs_alone_has_no_tracking(tmp_path):
    clip, places, zoom = moving_clip(tmp_path)
    store = FaceStore(tmp_path, ONE, 64, 1.35, 50)
    photographs = [Clip(str(t), (f,)) for t, f in enumerate(clip.faces)]
    labels = audit_model(
        DotDetector(), FrozenTracker(Shift(0.0, 0.0)), store, photographs, SETTINGS, torch.device("cpu")
    )
    valid = dict(zip(AUDITED, labels.valid[:, :, 0]))
    assert not valid["propagated"].any() and not valid["tracked_heatmap"].any() and valid["fused"].all()
    fused = labels.points[AUDITED.index("fused")]
    assert np.abs(fused[:, 0] - places - 1 / zoom).max() < 0.1 / zoom


# --- on disk ---


@pytest.fixture
def written(tmp_path):
    """The audit of a clip of three frames and a photograph, whose labels lie 3 px right of the dots; the student's of
    the clip alone.
    """
    clip, places, zoom = moving_clip(tmp_path)
    clips = [clip, Clip("photo", clip.faces[:1])]
    store = FaceStore(tmp_path, ONE, 64, 1.35, 50)
    faces = [f for c in clips for f in c.faces]
    truth = np.concatenate([places, places[:1]])[:, None] + [3.0, 0.0]
    text = np.array([f.image for f in faces])
    ground_truth = GroundTruth(
        text,
        text,
        np.arange(4),
        np.array([f.box for f in faces]),
        truth,
        np.ones((4, 1), bool),
        np.full(4, 60.0),
        np.zeros(4, bool),
    )
    writer = AuditWriter(tmp_path / "audit", store, clips, ground_truth)
    for model, step, of in (("init", 0, clips), ("teacher", 5, clips[:1]), ("teacher", 10, clips)):
        rows = np.arange(sum(len(c.faces) for c in of))
        writer.add(
            model, step, audit_model(DotDetector(), FrozenTracker(Shift(2.0, 0.0)), store, of, SETTINGS, CPU), rows
        )
    return writer.close(), clips, store


def test_pandas_reads_a_row_for_each_model_step_source_frame_and_landmark(written):
    audit, clips, _ = written
    table = pd.read_parquet(audit.folder / "labels.parquet")
    assert len(table) == len(AUDITED) * (4 + 3 + 4)
    row = table[
        (table.model == "teacher") & (table.step == 10) & (table.source == "heatmap") & (table.frame == 2)
    ].iloc[0]
    assert (row.image, row.landmark) == ("clip/2.png", 0) and row.valid
    assert row.error == pytest.approx(100 * 3 / 60, abs=0.1) and row.score == pytest.approx(0.9)
    assert row.disagreement == pytest.approx(8**0.5, abs=0.2) and np.isnan(row.forward_backward_error)
    carried = table[(table.source == "propagated") & (table.frame == 2)]
    assert (carried.forward_backward_error < 1e-3).all() and not carried.empty
    assert not table[(table.source == "propagated") & (table.frame == 3)].valid.any()


def test_what_is_read_back_is_what_was_found(written):
    audit, clips, store = written
    original = audit_model(DotDetector(), FrozenTracker(Shift(2.0, 0.0)), store, clips, SETTINGS, CPU)
    labels, rows = audit.labels("teacher")
    assert rows.tolist() == [0, 1, 2, 3] and audit.steps("teacher") == [5, 10] and audit.names == ["init", "teacher"]
    for name, stored, computed in zip(labels._fields, labels, original):
        assert np.array_equal(stored, computed, equal_nan=True), name
    early, rows = audit.labels("teacher", 5)
    assert rows.tolist() == [0, 1, 2] and early.points.shape == (len(AUDITED), 3, 1, 2)
    assert np.allclose(audit.errors("teacher", "heatmap"), 5, atol=0.1)
    assert np.isnan(audit.errors("teacher", "propagated")[3]).all()


def test_frames_are_told_with_their_clip_and_zoom(written):
    audit, clips, store = written
    assert audit.frames["clip"].tolist() == ["clip"] * 3 + ["photo"] and audit.frames.place.tolist() == [0, 1, 2, 0]
    assert audit.frames.image.tolist() == [f"clip/{t}.png" for t in (0, 1, 2, 0)]
    assert np.allclose(audit.frames.zoom, 63 / (1.35 * 60)) and audit.frames["view"].tolist() == [0, 0, 0, 1]


def test_what_is_hidden_is_kept_and_unknown_where_nothing_said_it(written):
    audit, clips, store = written
    assert (audit.hidden == -1).all() and audit.hidden.shape == (4, 1)
    path = np.array([f.image for c in clips for f in c.faces])
    box, frame = np.array([f.box for c in clips for f in c.faces]), np.arange(4)
    visible = np.ones((4, 1), bool)
    ground_truth = GroundTruth(path, path, frame, box, audit.truth, visible, np.full(4, 60.0), ~visible[:, 0])
    hidden = np.array([[1], [0], [0], [-1]], np.int8)
    writer = AuditWriter(audit.folder, store, clips, ground_truth, hidden=hidden)
    labels, rows = audit.labels("teacher")
    writer.add("teacher", 10, labels, rows)
    assert writer.close().hidden.tolist() == hidden.tolist()
    arrays = dict(read_arrays(audit.folder / "ground_truth.npz"))
    del arrays["hidden"]  # as of an earlier version
    write_arrays(audit.folder / "ground_truth.npz", **arrays)
    assert (Audit.open(audit.folder).hidden == -1).all()


def test_a_new_audit_takes_the_place_of_a_former_one_only_when_it_is_whole(written):
    audit, clips, store = written
    before = (audit.folder / "labels.parquet").read_bytes()
    text = np.array(["clip/0.png"])
    ground_truth = GroundTruth(
        text,
        text,
        np.arange(1),
        np.zeros((1, 4)),
        np.zeros((1, 1, 2)),
        np.ones((1, 1), bool),
        np.ones(1),
        np.zeros(1, bool),
    )
    writer = AuditWriter(audit.folder, store, clips[1:], ground_truth)
    assert (audit.folder / "labels.parquet").read_bytes() == before
    writer.discard()
    assert [path.name for path in audit.folder.parent.iterdir() if "audit" in path.name] == ["audit"]
    assert Audit.open(audit.folder).names == ["init", "teacher"]


def test_an_audit_is_made_once_from_the_same_and_anew_from_other_weights_or_where_it_is_not_whole(
    smoke_run, tmp_path, monkeypatch
):
    shutil.copytree(smoke_run, tmp_path / "run")
    run, calls = Run.open(tmp_path / "run"), []
    monkeypatch.setattr(
        pseudo_stage, "audit_model", lambda *of, **options: calls.append(1) or audit_model(*of, **options)
    )

    def count(**sizes) -> int:
        calls.clear()
        stages.audit_pseudo_labels(run, **sizes)
        return len(calls)

    models = count(clips=2)  # fewer than the notebook's
    assert models > 2 and count(clips=2) == 0 and count(clips=3) == models
    (run.folder / "supervised/model.pt").touch()
    assert count(clips=3) == 0
    weights = load_checkpoint(run.folder / "init/model.pt")
    next(iter(weights["models"]["init"].values())).add_(0.01)
    save_checkpoint(run.folder / "init/model.pt", weights)
    assert count(clips=3) == models
    (run.folder / "audit/frames.csv").unlink()
    assert count(clips=3) == models and count(clips=3) == 0


@pytest.mark.parametrize("name", ["labels.parquet", "ground_truth.npz", "frames.csv"])
def test_a_broken_or_missing_audit_is_an_error_that_names_it(written, name):
    audit, *_ = written
    (audit.folder / name).write_bytes(b"no audit")
    again = f"make it again: python -m tsal pseudo --run {audit.folder.parent}$"
    with pytest.raises(InputError, match=f"is no audit, or a broken one .*{again}"):
        Audit.open(audit.folder)
    (audit.folder / name).unlink()
    with pytest.raises(InputError, match="is no audit, or a broken one"):
        Audit.open(audit.folder)
