"""One step by hand is the step that training makes, and its figures are drawn for every kind of method."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsal import trainings
from tsal.figures.step import (
    HALFWAY,
    draw_flow,
    draw_sources,
    draw_target,
    draw_views,
    one_step,
    sources_table,
    trained_pair,
    training_batch,
)
from tsal.figures.votes import draw_votes, step_votes
from tsal.run import Run
from tsal.trainer import Context, asynchronous_step
from tsal.utils import InputError

METHODS = {
    "tsal": [],
    "without tracking": ["data.consecutive=false"],
    "own targets": ["tsal.targets_from=self", "tsal.sources=heatmap"],
    "own targets, and a teacher at rest": [
        "tsal.targets_from=self",
        "tsal.sources=heatmap",
        "tsal.teacher_lr=0",
        "tsal.ema_direction=none",
    ],
    "a window": ["tsal.window=2", "tsal.trust=2", "tsal.agreement_weight=1", "semi.frames=3"],
    "a teacher that only averages": ["tsal.teacher_lr=0", "tsal.bn_stats=average", "tsal.labels_after=0.9"],
}


@pytest.fixture
def any_settings(monkeypatch):
    """The trained pair serves runs of any method: it is not asked with which it was trained."""
    monkeypatch.setattr(trainings, "refuse_former", lambda *_: None)


@pytest.mark.parametrize("overrides", METHODS.values(), ids=METHODS)
def test_one_step_is_the_step_that_training_makes(smoke_run, any_settings, overrides):
    run = Run.open(smoke_run, overrides)
    step, pair = one_step(run, 3), trained_pair(run)
    context = Context(run.config, run.scheme, torch.device("cpu"))
    report = asynchronous_step(pair, training_batch(run, 3), context, HALFWAY)
    assert step.loss == float(report["loss"]) and step.losses.adds.sum() == pytest.approx(step.loss, rel=1e-5)
    assert (step.teacher.detection is None) == (overrides == METHODS["own targets, and a teacher at rest"])
    for name in ("teacher", "student"):
        by_hand, trained = (getattr(which, name).detector.state_dict() for which in (step.after, pair))
        assert all(torch.equal(by_hand[key], trained[key]) for key in trained)
    drawn = [draw(step) for draw in (draw_views, draw_sources, draw_flow, draw_votes, draw_target)]
    assert len({figure.name for figure in drawn}) == 5 and all(figure._repr_png_() for figure in drawn)


def test_every_frame_of_the_window_has_its_vote_under_the_frame(smoke_run, any_settings):
    step = one_step(Run.open(smoke_run, ["tsal.window=2", "tsal.trust=0", "tsal.sources=heatmap,propagated"]))
    origin, to, votes, _ = step_votes(step)
    assert ((origin - to).abs() <= 2).all() and (step.batch.clip[origin] == step.batch.clip[to]).all()
    propagated = step.labels.sources["propagated"]
    total = torch.zeros_like(propagated.votes).index_add(0, to, votes)
    assert torch.allclose(total, propagated.votes) and total.max() > 0
    figure = draw_votes(step)
    figure.draw_without_rendering()
    columns = [{text.get_text(): text.get_window_extent() for text in axes.texts} for axes in figure.axes]
    first = [f"{votes[(to == 0) & (origin == frame)].mean():.2f}" for frame in (1, 2)]
    by = [f"by frame {line}" for line in range(3)]
    assert ["(1.00)", by[0], first[0], by[1], first[1], by[2]] == [text.get_text() for text in figure.axes[0].texts][:6]
    for axes, texts in zip(figure.axes, columns):  # each number stays under its own image
        within = axes.get_window_extent()
        assert all(text.startswith("by") or within.x0 < box.x0 < box.x1 < within.x1 for text, box in texts.items())


def test_the_average_brings_the_teacher_nearer_and_leaves_the_student(smoke_run):
    weights = one_step(Run.open(smoke_run)).weights
    assert weights.iloc[0, 1:].tolist() == [0, 0]
    assert weights["model distance"].iloc[2] < weights["model distance"].iloc[1]
    assert weights["student from its start"].iloc[2] == weights["student from its start"].iloc[1] > 0


def test_the_table_of_sources_measures_what_has_labels(smoke_run):
    step = one_step(Run.open(smoke_run))
    table = sources_table(step)
    assert {"heatmap", "centre", "tracked_heatmap", "tracked_centre", "fused"} <= set(table.index)
    apart = (step.labels.sources["heatmap"].points - step.batch.truth).norm(dim=-1) / step.batch.size[:, None]
    assert table.iloc[0, 1] == pytest.approx(100 * np.nanmean(apart.numpy()), rel=1e-5)


def test_a_run_that_is_not_trained_says_so(smoke_run, tmp_path):
    for name in ("config.json", "manifest.json"):
        (tmp_path / name).write_bytes((smoke_run / name).read_bytes())
    with pytest.raises(InputError, match="not trained yet; run 'python -m tsal train"):
        one_step(Run.open(tmp_path))


def test_a_step_of_former_models_is_not_shown_as_one_of_the_run_s_settings(smoke_run):
    with pytest.raises(InputError, match="was trained with tsal.window=3; the run has tsal.window=2; .*tsal train"):
        one_step(Run.open(smoke_run, ["tsal.window=2"]))
