"""Files of a run -> figures and tables. Nothing in here trains or predicts; the tracker alone is run, for its
figures.

Each ``draw_*`` returns figures with a name, those of audit and evaluation from modules of their own; :func:`draw_all`
writes them to ``<run>/figures``. What a figure shows is what the run's files say: draw again and the same bytes come
out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tsal.config import labels_alone
from tsal.data import BatchMaker, Face, plain_views, spread, to_float
from tsal.figures.breakdown import draw_breakdown
from tsal.figures.evaluation import draw_evaluation, draw_summary
from tsal.figures.pseudo_labels import draw_pseudo_labels, empty
from tsal.figures.style import (
    COLUMN,
    LABELS,
    MODEL_DASHES,
    MODELS,
    SOURCES,
    TEXT,
    NamedFigure,
    draw_crop,
    draw_face,
    draw_landmarks,
    flow_colours,
    flow_wheel,
    headroom,
    image_grid,
    plain_log_ticks,
    read_report,
    row_name,
    run_file,
    save,
    styled,
    unit,
)
from tsal.figures.tables import run_tables, table, write_tables
from tsal.run import Run
from tsal.schemes import Scheme
from tsal.tracker import both_directions, load_tracker, reconstruct_next
from tsal.trainer import Context, Views, make_views
from tsal.trainings import schedule_steps

__all__ = [
    "draw_all",
    "draw_breakdown",
    "draw_evaluation",
    "draw_history",
    "draw_pseudo_labels",
    "draw_samples",
    "draw_summary",
    "draw_tracker",
    "table",
]

KINDS = ("samples", "tracker", "history", "pseudo", "evaluation", "summary")  # figures' names begin with one


# --- data ---


@styled
def draw_samples(run: Run) -> list[NamedFigure]:
    """Labelled photographs, strips of unlabelled clips, and training's augmented views of both."""
    faces = spread(run.lists.labelled, 24)
    rows = -(-len(faces) // 8)
    photographs, axes = image_grid("samples-labelled", rows, -(-len(faces) // rows), top=0.02)
    for face, place in zip(faces, axes.flat):
        draw_crop(place, run.store, (face,), face, {LABELS: run.store.points(face)})
    clips = spread(run.clips, 4) or spread(run.single_images, 4)
    length = max(1, min(8, max((len(clip.faces) for clip in clips), default=1)))
    strips, axes = image_grid(
        "samples-clips", max(1, len(clips)), length, width=min(TEXT, 1.2 * length + 0.3), left=0.18
    )
    for number, place in enumerate(axes[0], 1):
        place.set_title(f"frame {number}", pad=3)
    for clip, row in zip(clips, axes):
        for frame, place in zip(clip.faces, row):
            draw_crop(place, run.store, clip.faces, frame)
        row_name(row[0], Path(clip.name).name)
    return [photographs, strips, _draw_views(run)]


def _draw_views(run: Run) -> NamedFigure:
    """A batch as the detectors see it: the labelled rows of the init's first step, and unlabelled faces."""
    sizes = (8, 4, 0) if run.clips else (8, 0, 8)
    batch = BatchMaker(
        run.store,
        run.lists.labelled,
        run.clips,
        run.single_images,
        run.config.augment,
        seed=run.config.seed + 31,
        sizes=sizes,
        frames=2,
    )(0)

    context = Context(run.config, run.scheme, torch.device("cpu"))
    views = make_views(batch, context)
    return view_grid("samples-views", view_rows(views), views.points, batch.visible, run.scheme)


def view_grid(name: str, rows: dict[str, Tensor], points: Tensor, visible: Tensor, scheme: Scheme) -> NamedFigure:
    """A row of at most 8 images (N, 3, S, S) for each name; the first row's have their labels (N, K, 2) px."""
    columns = max(1, min(8, max(map(len, rows.values()))))
    figure, axes = image_grid(name, len(rows), columns, width=min(TEXT, 0.3 + 1.2 * columns), left=0.3, top=0.02)
    for number, ((label, images), row) in enumerate(zip(rows.items(), axes)):
        row_name(row[0], label)
        for index, (image, place) in enumerate(zip(images, row)):
            draw_face(place, image.permute(1, 2, 0).numpy())
            if number == 0:
                draw_landmarks(place, points[index].numpy(), scheme, LABELS, visible=visible[index].numpy())
    return figure


def view_rows(views: Views) -> dict[str, Tensor]:
    """The images of a batch by what the figures call them."""
    return {
        "labelled": views.labelled,
        "unlabelled,\nweak view": views.weak,
        "unlabelled,\nstrong view": views.strong,
    }


# --- tracker ---


@torch.no_grad()
def _track(run: Run, pairs: list[tuple[Face, Face]]) -> dict[str, np.ndarray]:
    """On P pairs, cut by one box a pair: ``first``, ``second`` and ``rebuilt`` (P, S, S, 3) in [0, 1], ``flow`` (P, 2,
    S, S) px.
    """
    tracker = load_tracker(run_file(run, "tracker/model.pt"), run.config, torch.device("cpu"))
    frames = to_float(plain_views(run.store, pairs)[0])
    first, second = frames[0::2], frames[1::2]
    forward, backward = both_directions(tracker, first, second)
    shown = {"first": first, "second": second, "rebuilt": reconstruct_next(first, backward[0])}
    return {name: images.permute(0, 2, 3, 1).numpy() for name, images in shown.items()} | {"flow": forward[0].numpy()}


@styled
def draw_tracker(run: Run) -> list[NamedFigure]:
    """What the tracker sees on the pairs with median and with most motion, and its errors beside no motion and DIS."""
    evaluated = [clip for clip in run.evaluated_clips if len(clip.faces) > 1]
    clips = spread(evaluated or run.clips, 24)
    if not clips:
        figure = NamedFigure("tracker", COLUMN, 1.2)
        empty(figure.subplots(), "nothing to show: no clip of two frames or more")
        return [figure]
    arrays = _track(run, [clip.faces[:2] for clip in clips])
    order = np.argsort(np.hypot(*arrays["flow"].swapaxes(0, 1)).mean((1, 2)), kind="stable")
    names = (
        "frame t",
        "frame t + 1",
        "flow from t to t + 1",
        "reconstructed t + 1",
        "difference × 3",
        "same, without flow",
    )
    figure, axes = image_grid("tracker", 2, len(names), left=0.18)
    for row, label, pair in zip(axes, ("median motion", "most motion"), (order[len(order) // 2], order[-1])):
        first, second, rebuilt, flow = (arrays[name][pair] for name in ("first", "second", "rebuilt", "flow"))
        longest = float(np.hypot(*flow).max())
        differences = [np.clip(1 - 3 * np.abs(second - other).mean(-1), 0, 1) for other in (rebuilt, first)]
        for place, image in zip(row, (first, second, flow_colours(flow, longest), rebuilt)):
            draw_face(place, image)
        for place, image in zip(row[4:], differences):
            place.imshow(image, cmap="gray", vmin=0, vmax=1)
        flow_wheel(row[2], longest)
        row_name(row[0], label)
    for place, name in zip(axes[0], names):
        place.set_title(name, pad=3, fontsize=6.8)
    return [figure, _draw_tracker_errors(run)]


def _draw_tracker_errors(run: Run) -> NamedFigure:
    report = read_report(run, "tracker/metrics.json")
    greys = {"zero motion": ("#a0a0a0", ":"), "DIS": ("#707070", "--")}
    figure = NamedFigure("tracker-error", COLUMN, 2.4, layout="constrained")
    axes = figure.subplots()
    if not report["methods"]:
        empty(axes, "nothing to show: no evaluation list has\na labelled clip of two frames")
        return figure
    for name, row in report["methods"].items():
        colour, dashes = greys.get(name, (SOURCES["propagated"], "-"))
        apart = [int(n) for n in row.get("mean", {})]
        means = list(row.get("mean", {}).values())
        axes.plot(apart, means, dashes, color=colour, marker="o", markersize=2.5, label=name)
    axes.set_xticks([int(n) for n in report["pairs"]])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("frames apart")
    measure = unit(run).replace(", ", ",\n") if report["normaliser"] else "px of the input"
    axes.set_ylabel(f"mean error\n({measure})")
    axes.legend()
    return figure


# --- training ---


@styled
def draw_history(run: Run) -> list[NamedFigure]:
    """Loss terms and what training notes of its targets, over optimiser steps; the init's steps come first."""
    init_steps, further_steps = schedule_steps(run)
    further = ("supervised",) if labels_alone(run.config) else ("supervised", "semi")
    trained = ("init",) * (init_steps > 0) + further * (further_steps > 0)  # without steps there is no history
    histories = {name: pd.read_csv(run_file(run, f"{name}/history.csv")) for name in trained}
    offset = histories["init"].step.iloc[-1] if "init" in trained else 0
    figure = NamedFigure("history", TEXT, 4.9, layout="constrained")
    axes = figure.subplots(3, 3)

    def line(place, name: str, column: str, **options) -> None:
        rows = histories.get(name, ())
        if column in rows and rows[column].notna().any():
            shift = 0 if name == "init" else offset
            place.plot(rows.step + shift, rows[column], marker="o" if len(rows) < 4 else "", markersize=2.5, **options)

    def by_model(place, term: str, names) -> None:
        for model in names:
            history, column = ("semi", f"{model}_{term}") if model in ("teacher", "student") else (model, term)
            line(place, history, column, color=MODELS[model], linestyle=MODEL_DASHES[model], label=model)
        if any((drawn.get_ydata() > 0).any() for drawn in place.lines):  # zeros have no logarithm
            place.set_yscale("log")

    for place, term in zip(axes.flat, ("points", "heatmap", "centre", "offset")):
        by_model(place, term, MODELS)
        place.set_title(f"loss on labelled faces: {term}")
    unlabelled, structure, disagreement, distance, weights = axes.flat[4:]
    line(unlabelled, "semi", "teacher_consistency", color=MODELS["teacher"], label="teacher, one source")
    line(
        unlabelled,
        "semi",
        "student_unlabelled",
        color=MODELS["student"],
        linestyle="-.",
        label="student, fused sources",
    )
    unlabelled.set_title("loss on unlabelled frames")
    by_model(structure, "sic", ("teacher", "student"))
    structure.set_title("loss of structure invariance")
    line(disagreement, "semi", "target_disagreement", color=SOURCES["fused"], label="heatmap to centre sources")
    line(
        disagreement,
        "semi",
        "flow_error",
        color=SOURCES["tracked_heatmap"],
        linestyle="--",
        label="flow, there and back",
    )
    disagreement.set(title="targets: disagreement (px of the input)", ylim=(0, None))
    line(distance, "semi", "model_distance", color=SOURCES["fused"])
    distance.set(title="relative distance of the weights", ylim=(0, None))
    line(weights, "semi", "weight", color=SOURCES["fused"], label="ramp of the unlabelled losses")
    line(weights, "semi", "target_weight", color=SOURCES["heatmap"], linestyle="--", label="mean weight of targets")
    line(
        weights,
        "semi",
        "target_tracked",
        color=SOURCES["tracked_heatmap"],
        linestyle=":",
        label="share of tracked targets",
    )
    weights.set(title="weights", ylim=(0, None))
    for place in axes.flat:
        if not place.lines:  # without pseudo-labels, or without steps
            empty(place, "nothing to show")
        elif place in (unlabelled, structure, disagreement, weights):
            headroom(place, 0.45)
            place.legend(loc="upper left")
        elif place is axes[0, 0]:
            place.legend(loc="upper right")
    for place in axes.flat[:4]:
        place.axvline(offset, color="#b0b0b0", linewidth=0.6)
    for place in axes.flat[4:]:
        place.set_xlim(offset, None)
    for place in (*axes.flat[:4], structure):
        if place.get_yscale() == "log":
            plain_log_ticks(place)
    for place in axes[-1]:
        place.set_xlabel("optimiser steps")
    return [figure]


# --- everything ---


def draw_all(run: Run) -> list[Path]:
    """Every figure as .png and .pdf, the tables as ``tables.md`` and ``tables.tex``, in ``<run>/figures``; returns
    their paths. Figures of an earlier state of the run that it has no more are deleted there. Nothing is written before
    all is drawn: where something is missing or of former settings, the folder stays as it was.
    """
    draws = (draw_samples, draw_tracker, draw_history, draw_pseudo_labels, draw_breakdown, draw_evaluation)
    folder, tables = run.folder / "figures", run_tables(run)  # these ask for most files, and take no time
    drawn = [*(figure for draw in draws for figure in draw(run)), draw_summary(run)]
    paths = [path for figure in drawn for path in save(figure, folder)]
    for path in {*folder.glob("*.png"), *folder.glob("*.pdf")} - set(paths):
        if path.stem.split("-")[0] in KINDS:
            path.unlink()
    return [*paths, *write_tables(tables, folder, "tables")]
