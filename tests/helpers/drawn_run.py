"""A run whose numbers are drawn by hand, for the tests of figures and tables, and what they read off a figure."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from tsal.audit.store import AUDITED, Audit, AuditWriter, Labels
from tsal.config import Config
from tsal.evaluation.predictions import metrics_rows, read_ground_truth
from tsal.run import Run
from tsal.synthetic.dataset import render_dataset
from tsal.tracker.network import FlowNet
from tsal.utils.checkpoints import save_checkpoint
from tsal.utils.files import write_arrays, write_text

MODELS = ("init", "supervised", "mean-teacher-corrected", "teacher", "student")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose numbers are drawn by hand: truth plus noise of a known size a model, on a few rendered faces."""
    folder = tmp_path_factory.mktemp("figures")
    config = Config.load("smoke", ["data.workers=1"])
    render_dataset(folder / "data", config.render, progress=False)
    config = config.override([f"data.root={folder / 'data'}", "data.audit_labels=unlabelled-truth.txt"])
    run = Run.create(folder / "run", config)
    run.save()
    write_text(run.folder / "manifest.json", json.dumps({"fingerprint": ""}))
    rng = np.random.default_rng(0)
    _write_evaluation(run, rng)
    _write_audit(run, rng)
    for name in ("init", "supervised", "semi"):
        steps = np.arange(1, 6) * 10
        terms = ["points", "heatmap", "centre", "offset"]
        columns = (
            terms
            if name != "semi"
            else [f"{m}_{t}" for m in ("teacher", "student") for t in [*terms, "sic"]]
            + [
                "teacher_consistency",
                "student_unlabelled",
                "target_disagreement",
                "flow_error",
                "model_distance",
                "weight",
                "target_weight",
                "target_tracked",
            ]
        )
        history = pd.DataFrame({"step": steps} | {column: 1 / steps for column in columns})
        write_text(run.folder / name / "history.csv", history.to_csv(index=False))
    settings = config.tracker
    tracker = FlowNet(settings.channels, settings.search, settings.finest, settings.width, settings.iterations)
    save_checkpoint(run.folder / "tracker" / "model.pt", {"tracker": tracker.state_dict()})
    methods = {
        name: {kind: {"1": 1.0 + i, "2": 1.5 + i} for kind in ("mean", "median")}
        for i, name in enumerate(("zero motion", "DIS", "tracker"))
    }
    methods["tracker"] |= {"precision": {"1": 0.5, "2": 0.75}, "recall": {"2": 0.25}}
    report = {"normaliser": config.data.normaliser, "pairs": {"1": 4, "2": 2}, "methods": methods}
    write_text(run.folder / "tracker" / "metrics.json", json.dumps(report))
    return run


def _write_evaluation(run, rng):
    faces = [face for faces in run.lists.evaluate.values() for face in faces]
    truth, visible = map(np.array, zip(*(run.store.points(face) for face in faces)))
    d = np.full(len(faces), 40.0, np.float32)
    shape = (len(MODELS), 3, *truth.shape)
    noise = rng.normal(size=shape) * np.array([5, 4, 3.5, 2, 3])[:, None, None, None, None]
    predictions = {
        "list": np.array([face.list_name for face in faces]),
        "path": np.array([face.image for face in faces]),
        "row": np.array([face.row for face in faces]),
        "box": np.array([face.box for face in faces], np.float32),
        "truth": truth,
        "visible": visible,
        "norm_px": d,
        "degenerate": np.zeros(len(faces), bool),
        "models": np.array(MODELS),
        "sources": np.array(["heatmap", "centre", "fused"]),
        "points": (truth + noise).astype(np.float32),
        "scores": np.ones(shape[:-1], np.float32),
    }
    predictions["flow_difference"] = np.linalg.norm(np.gradient(noise, axis=2), axis=-1).astype(np.float32)
    write_arrays(run.folder / "predictions.npz", **predictions)
    parts = (("init", 20, 60.0), ("supervised", 10, 30.0), ("rival", 10, 70.0), ("semi", 10, 90.0))
    times = {name: {"steps": steps, "seconds": seconds} for name, steps, seconds in parts}
    report = {"normaliser": "ocular", "rows": metrics_rows(predictions), "degenerate": [], "times": times}
    write_text(run.folder / "metrics.json", json.dumps(report))


def of_tracks(flow_error: np.ndarray) -> np.ndarray:
    """One error (N, K) for every source (S, N, K) that has a track."""
    without = np.full_like(flow_error, np.nan)
    return np.stack([without if name in ("heatmap", "centre") else flow_error for name in AUDITED])


def _write_audit(run, rng):
    clips = [*run.clips, *run.single_images]
    faces = [dataclasses.replace(f, annotation=run.lists.truth[f.image, f.box]) for clip in clips for f in clip.faces]
    truth = read_ground_truth(run.store, faces, "ocular", run.scheme)
    points, visible = truth.points, truth.visible
    first = np.array([place == 0 for clip in clips for place in range(len(clip.faces))])
    hidden = np.zeros(visible.shape, np.int8)
    hidden[:, ::5] = 1
    writer = AuditWriter(run.folder / "audit", run.store, clips, truth, hidden=hidden)
    for model, step in (("init", 0), ("teacher", 5), ("student", 5), ("teacher", 10), ("student", 10)):
        spread = rng.uniform(0.5, 4, visible.shape)  # the disagreement is the size of the error
        valid = np.ones((len(AUDITED), *visible.shape), bool)
        for index, name in enumerate(AUDITED):
            valid[index, first] = name not in ("tracked_heatmap", "tracked_centre", "propagated")
        flow_error = np.where(first[:, None], np.nan, rng.uniform(0, 2, visible.shape))
        noise = spread[..., None] * rng.normal(size=(len(AUDITED), *points.shape))
        votes = np.where(first[:, None], 0.0, rng.uniform(0.1, 2, visible.shape))
        flow = of_tracks(flow_error)
        labels = Labels(points + noise, np.ones(valid.shape), valid, spread, flow, np.ones(visible.shape), votes)
        writer.add(model, step, labels, np.arange(len(points)))
    writer.close()


@pytest.fixture
def copied(run, tmp_path):
    """The run again, to be changed."""
    shutil.copytree(run.folder, tmp_path / "run", ignore=shutil.ignore_patterns("figures"))
    return Run.open(tmp_path / "run")


def named(drawn, name):
    return next(figure for figure in drawn if figure.name == name)


def words_of(figure) -> str:
    figure.draw_without_rendering()
    texts = figure.findobj(match=lambda artist: hasattr(artist, "get_text"))
    return "\n".join(text.get_text() for text in texts)


def overhang(figure) -> float:
    """Inches that what is drawn sticks out of its figure, and so is cut off in the file."""
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)


def unmeasured(copied):
    """Take the labels from a run's audit."""
    audit = Audit.open(copied.folder / "audit")
    audit.frames.assign(d=np.nan).to_csv(copied.folder / "audit/frames.csv", index_label="frame")
    write_arrays(
        copied.folder / "audit/ground_truth.npz",
        points=np.full_like(audit.truth, np.nan),
        visible=np.zeros_like(audit.visible),
    )


def say_of_what_the_audit_is(run, of: dict):
    """Write into a run's audit with which settings, scheme and faces it was made."""
    path = run.folder / "audit/labels.parquet"
    table = parquet.ParquetFile(path)
    about = {name: text for name, text in table.metadata.metadata.items() if not name.startswith(b"ARROW")}
    groups = [table.read_row_group(number) for number in range(table.num_row_groups)]
    with parquet.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            writer.write_table(group, row_group_size=len(group))
        writer.add_key_value_metadata(about | {b"of": json.dumps(of).encode()})
