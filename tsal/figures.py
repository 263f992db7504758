"""Files of a run -> figures and tables. Nothing in here trains or predicts; the tracker alone is asked, for its pictures.

Each ``draw_*`` returns figures with a name; :func:`draw_all` writes them to ``<run>/figures``. What a figure shows is what the
run's files say: draw again and the same bytes come out.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from tsal.data.lists import Clip, Face, group_clips
from tsal.data.photometric import photometric, to_float
from tsal.data.views import BatchMaker, plain_views
from tsal.errors import InputError
from tsal.evaluate import table_errors
from tsal.figures_audit import draw_pseudo_labels
from tsal.checkpoints import load_checkpoint
from tsal.files import read_arrays, write_text
from tsal.runs import Run
from tsal.style import (
    COLUMN, LABELS, MEMBER_DASHES, MEMBERS, SOURCES, TEXT, TRUTH, Picture, cumulative, draw_crop, draw_face, draw_landmarks, fine_store,
    flow_colours, flow_wheel, headroom, picture_grid, plain_log_ticks, row_name, run_file, save, spread, styled, under_name, unit,
)  # fmt: skip
from tsal.tables import TAU, table, tables_text
from tsal.tracker import FlowNet, both_directions, reconstruct_next


# --- data ------------------------------------------------------------------------------------------------------------------


@styled
def draw_samples(run: Run) -> list[Picture]:
    """Labelled photographs, strips of unlabelled clips, and training's augmented views of both."""
    faces = spread(run.lists.labelled, 24)
    rows = -(-len(faces) // 8)
    photographs, axes = picture_grid("samples-labelled", rows, -(-len(faces) // rows), top=0.02)
    for face, place in zip(faces, axes.flat):
        draw_crop(place, run.store, (face,), face, {LABELS: run.store.points(face)})
    clips = spread(run.clips, 4) or spread(run.photographs, 4)
    length = max(1, min(8, max((len(clip.faces) for clip in clips), default=1)))
    strips, axes = picture_grid("samples-clips", max(1, len(clips)), length, width=min(TEXT, 1.2 * length + 0.3), left=0.18)
    for number, place in enumerate(axes[0], 1):
        place.set_title(f"frame {number}", pad=3)
    for clip, row in zip(clips, axes):
        for frame, place in zip(clip.faces, row):
            draw_crop(place, run.store, clip.faces, frame)
        row_name(row[0], Path(clip.name).name)
    return [photographs, strips, _draw_views(run)]


def _draw_views(run: Run) -> Picture:
    """The first batch of training, as the detectors see it."""
    pools, seed = (run.lists.labelled, run.clips, run.photographs), run.config.seed + 31
    sizes = (8, 4, 0) if run.clips else (8, 0, 8)
    batch = BatchMaker(run.store, *pools, run.config.augment, seed=seed, sizes=sizes, frames=2)(0)

    def strong(images, seed: int, occlude: bool):
        return photometric(to_float(images), run.config.augment, torch.Generator().manual_seed(seed), occlude=occlude)

    rows = {
        "labelled": strong(batch.labelled, batch.seed, False),
        "unlabelled,\nweak view": to_float(batch.weak),
        "unlabelled,\nstrong view": strong(batch.strong, batch.seed + 1, True),
    }
    figure, axes = picture_grid("samples-views", len(rows), 8, left=0.3, top=0.02)
    for (name, images), row in zip(rows.items(), axes):
        row_name(row[0], name)
        for index, (image, place) in enumerate(zip(images, row)):
            draw_face(place, image.permute(1, 2, 0).numpy())
            if name == "labelled":
                points, visible = batch.points[index].numpy(), batch.visible[index].numpy()
                draw_landmarks(place, points, run.scheme, LABELS, visible=visible)
    return figure


# --- tracker ---------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _track(run: Run, pairs: list[tuple[Face, Face]]) -> dict[str, np.ndarray]:
    """On P pairs, cut by one box a pair: ``first``, ``second`` and ``rebuilt`` (P, S, S, 3) in [0, 1], ``flow`` (P, 2, S, S) px."""
    settings = run.config.tracker
    tracker = FlowNet(settings.channels, settings.search, settings.finest, settings.width)
    tracker.load_state_dict(load_checkpoint(run_file(run, "tracker/model.pt"))["tracker"])
    frames = to_float(plain_views(run.store, pairs)[0])
    first, second = frames[0::2], frames[1::2]
    forward, backward = both_directions(tracker.eval(), first, second)
    pictures = {"first": first, "second": second, "rebuilt": reconstruct_next(first, backward[0])}
    return {name: images.permute(0, 2, 3, 1).numpy() for name, images in pictures.items()} | {"flow": forward[0].numpy()}


@styled
def draw_tracker(run: Run) -> list[Picture]:
    """What the tracker sees on the pairs with median and with most motion, and its errors beside zero motion and DIS."""
    evaluated = [c for faces in run.lists.evaluate.values() for c in group_clips(faces) if len(c.faces) > 1]
    clips = spread(evaluated or run.clips, 24)
    if not clips:
        raise InputError("no clip of two frames or more: nothing to track")
    seen = _track(run, [clip.faces[:2] for clip in clips])
    order = np.argsort(np.hypot(*seen["flow"].swapaxes(0, 1)).mean((1, 2)), kind="stable")
    names = ("frame t", "frame t + 1", "flow from t to t + 1", "t + 1 rebuilt from t", "difference × 3", "same, without flow")
    pictures, axes = picture_grid("tracker", 2, len(names), left=0.18)
    for row, label, pair in zip(axes, ("median motion", "most motion"), (order[len(order) // 2], order[-1])):
        first, second, rebuilt, flow = (seen[name][pair] for name in ("first", "second", "rebuilt", "flow"))
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
    return [pictures, _draw_tracker_errors(run)]


def _draw_tracker_errors(run: Run) -> Picture:
    report = json.loads(run_file(run, "tracker/metrics.json").read_text())
    titles = {"endpoint_error": "pixels seen in both\n(end-point error)", "transfer": "labelled points carried\nto the next frame"}
    kinds = [kind for kind in titles if any(kind in row for row in report.values())]
    figure = Picture("tracker-error", COLUMN, 1.9, layout="constrained")
    for axes, kind in zip(figure.subplots(1, max(1, len(kinds)), squeeze=False)[0], kinds):
        values = [report[name].get(kind, np.nan) for name in report]
        colours = [SOURCES["carried"] if name == "tracker" else "#c4c4c4" for name in report]
        bars = axes.bar(range(len(report)), values, color=colours, width=0.7)
        axes.bar_label(bars, fmt="%.2f", fontsize=6.5, padding=1)
        axes.set_xticks(range(len(report)), [name.replace(" ", "\n") for name in report])
        axes.set_title(titles[kind])
        axes.margins(y=0.12)
        axes.grid(False, axis="x")
    figure.supylabel("mean error (px of the input)", fontsize=7)
    return figure


# --- training --------------------------------------------------------------------------------------------------------------


@styled
def draw_history(run: Run) -> list[Picture]:
    """Loss terms and what training notes of its targets, over optimiser steps; the start's steps come first."""
    histories = {name: pd.read_csv(run_file(run, f"{name}/history.csv")) for name in ("start", "supervised", "tsal")}
    offset = histories["start"].step.iloc[-1]
    figure = Picture("history", TEXT, 4.9, layout="constrained")
    axes = figure.subplots(3, 3)

    def line(place, name: str, column: str, **options) -> None:
        rows = histories[name]
        if column in rows and rows[column].notna().any():
            shift = 0 if name == "start" else offset
            place.plot(rows.step + shift, rows[column], marker="o" if len(rows) < 4 else "", markersize=2.5, **options)

    def by_member(place, term: str, names) -> None:
        for member in names:
            history, column = ("tsal", f"{member}_{term}") if member in ("teacher", "student") else (member, term)
            line(place, history, column, color=MEMBERS[member], linestyle=MEMBER_DASHES[member], label=member)
        place.set_yscale("log")

    for place, term in zip(axes.flat, ("points", "heatmap", "centre", "offset")):
        by_member(place, term, MEMBERS)
        place.set_title(f"labelled: {term}")
    unlabelled, structure, agreement, distance, weights = axes.flat[4:]
    line(unlabelled, "tsal", "teacher_calm", color=MEMBERS["teacher"], label="teacher, one source")
    line(unlabelled, "tsal", "student_unlabelled", color=MEMBERS["student"], linestyle="-.", label="student, fused sources")
    unlabelled.set_title("unlabelled")
    by_member(structure, "sic", ("teacher", "student"))
    structure.set_title("structure invariance")
    line(agreement, "tsal", "target_agreement", color=SOURCES["fused"], label="heatmap to centre sources")
    line(agreement, "tsal", "flow_error", color=SOURCES["tracked_heatmap"], linestyle="--", label="flow, there and back")
    agreement.set(title="targets: disagreement (px of the input)", ylim=(0, None))
    line(distance, "tsal", "member_distance", color=SOURCES["fused"])
    distance.set(title="distance of teacher and student", ylim=(0, None))
    line(weights, "tsal", "weight", color=SOURCES["fused"], label="ramp of the unlabelled losses")
    line(weights, "tsal", "target_weight", color=SOURCES["heatmap"], linestyle="--", label="mean weight of targets")
    line(weights, "tsal", "target_tracked", color=SOURCES["tracked_heatmap"], linestyle=":", label="share of tracked targets")
    weights.set(title="weights", ylim=(0, None))
    axes[0, 0].legend(loc="upper right")
    for place in (unlabelled, structure, agreement, weights):
        headroom(place, 0.45)
        place.legend(loc="upper left")
    for place in axes.flat[:4]:
        place.axvline(offset, color="#b0b0b0", linewidth=0.6)
    for place in axes.flat[4:]:
        place.set_xlim(offset, None)
    for place in (*axes.flat[:4], structure):
        plain_log_ticks(place)
    for place in axes[-1]:
        place.set_xlabel("optimiser steps")
    return [figure]


# --- evaluation ------------------------------------------------------------------------------------------------------------


def _numbers(row: pd.Series) -> str:
    return f"{row.NME:.2f} / {row[f'AUC@{TAU:.2f}']:.3f} / {100 * row[f'FR@{TAU:.2f}']:.1f}"


def _scored(run: Run) -> tuple[dict, np.ndarray, list[str]]:
    """The predictions, the heatmap source's NME (M, N) in %, and the lists that have a scored face."""
    predictions = read_arrays(run_file(run, "predictions.npz"))
    errors = 100 * table_errors(predictions)[:, predictions["sources"].tolist().index("heatmap")]
    lists = list(dict.fromkeys(predictions["list"].tolist()))
    return predictions, errors, [name for name in lists if np.isfinite(errors[0, predictions["list"] == name]).any()]


@styled
def draw_evaluation(run: Run) -> list[Picture]:
    """Cumulative errors, sources and faces of every evaluation list; a list without labels shows its faces alone."""
    predictions, errors, lists = _scored(run)
    charts = [_draw_ced(run, predictions, errors, lists), _draw_sources(run, lists)] if lists else []
    return [*charts, _draw_faces(run, predictions, errors)]


def _plot_ced(axes, run: Run, predictions: dict, errors: np.ndarray, name: str, legend: bool = True) -> None:
    numbers = table(run).set_index(["list", "member", "source"])
    mine = predictions["list"] == name
    found = {m: e[np.isfinite(e)] for m, e in zip(predictions["members"].tolist(), errors[:, mine])}
    slowest = max(np.median(e) for e in found.values())
    largest = 10.0 if slowest < 7 else 10 * np.ceil(max(np.quantile(e, 0.95) for e in found.values()) / 10)
    for member, values in found.items():
        label = f"{_numbers(numbers.loc[(name, member, 'heatmap')])}  {member}" if legend else member
        axes.step(*cumulative(values), where="post", color=MEMBERS[member], linestyle=MEMBER_DASHES[member], label=label)
    axes.axvline(100 * TAU, color="#b0b0b0", linewidth=0.6)
    axes.set(xlim=(0, largest), ylim=(0, 1), xlabel=f"NME ({unit(run)})", ylabel="share of faces")
    title = f"NME % / AUC@{TAU:.2f} / FR@{TAU:.2f} %" if legend else None
    axes.legend(title=title, loc="best", alignment="left")


def _draw_ced(run: Run, predictions: dict, errors: np.ndarray, lists: list[str]) -> Picture:
    columns = min(2, len(lists))
    rows = -(-len(lists) // columns)
    figure = Picture("evaluation-ced", COLUMN if columns == 1 else TEXT, 2.5 * rows, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(panels.flat, lists):
        _plot_ced(axes, run, predictions, errors, name)
        axes.set_title(f"{name}: {np.isfinite(errors[0, predictions['list'] == name]).sum()} faces")
    for axes in panels.flat[len(lists) :]:
        axes.set_axis_off()
    return figure


def _draw_sources(run: Run, lists: list[str]) -> Picture:
    numbers = table(run)
    sources = list(dict.fromkeys(numbers.source))
    figure = Picture("evaluation-sources", COLUMN, 0.75 + 0.9 * len(lists), layout="constrained")
    panels = figure.subplots(len(lists), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, lists):
        for step, (member, rows) in enumerate(numbers[numbers.list == name].groupby("member", sort=False)):
            place = np.array([sources.index(source) for source in rows.source]) + 0.17 * (step - 1.5)
            axes.plot(rows.NME, place, color=MEMBERS[member], marker="o", markersize=4, linestyle="", label=member)
        axes.set_yticks(range(len(sources)), sources)
        axes.set(ylim=(len(sources) - 0.5, -0.5), title=name)
        axes.grid(False, axis="y")
    panels[-1].set_xlabel(f"NME ({unit(run)})")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, handletextpad=0.1, columnspacing=1)
    return figure


def _draw_faces(run: Run, predictions: dict, errors: np.ndarray) -> Picture:
    """Faces at fixed places of the teacher's ranking, from best to worst: supervised above, teacher below, labels in white."""
    names, heatmap = predictions["members"].tolist(), predictions["sources"].tolist().index("heatmap")
    members = [name for name in ("supervised", "teacher") if name in names]
    lists = list(dict.fromkeys(predictions["list"].tolist()))
    places = {"best": 0.0, "25th percentile": 0.25, "median": 0.5, "75th percentile": 0.75, "95th percentile": 0.95, "worst": 1.0}
    left = 0.18 if len(lists) == 1 else 0.3
    figure, axes = picture_grid("evaluation-faces", len(members) * len(lists), len(places), left=left, under=0.15)
    store, teacher = fine_store(run), errors[names.index("teacher")]
    for number, name in enumerate(lists):
        mine = np.flatnonzero(predictions["list"] == name)
        scored = mine[np.isfinite(teacher[mine])]
        order = scored[np.argsort(teacher[scored], kind="stable")] if len(scored) else mine
        for column, (title, share) in enumerate(places.items()):
            index = order[round(share * (len(order) - 1))]
            face = next(f for f in run.lists.evaluate[name] if f.row == predictions["row"][index])
            truth = {TRUTH: (predictions["truth"][index], predictions["visible"][index])}
            for offset, member in enumerate(members):
                place, m = axes[len(members) * number + offset, column], names.index(member)
                draw_crop(place, store, (face,), face, truth | {MEMBERS[member]: (predictions["points"][m, heatmap, index], None)})
                under_name(place, f"{errors[m, index]:.2f} %" if np.isfinite(errors[m, index]) else "", color=MEMBERS[member])
                if column == 0:
                    row_name(place, member if len(lists) == 1 else f"{member}\n{name}")
                if place in axes[0]:
                    place.set_title(title if len(scored) else "", pad=3)
    return figure


@styled
def draw_summary(run: Run) -> Picture:
    """One wide picture of what comes out: clips with the teacher's landmarks, cumulative errors, the table."""
    predictions, errors, lists = _scored(run)
    name = (lists or list(run.lists.evaluate))[0]
    teacher = predictions["members"].tolist().index("teacher")
    points = predictions["points"][teacher, predictions["sources"].tolist().index("heatmap")]
    place_of = {(n, row): i for i, (n, row) in enumerate(zip(predictions["list"].tolist(), predictions["row"].tolist()))}
    clips = [clip for clip in group_clips(run.lists.evaluate[name]) if len(clip.faces) > 1]
    clips = clips or [Clip(name, (face,)) for face in run.lists.evaluate[name]]

    def error(clip: Clip) -> float:
        return float(np.nan_to_num(np.mean([errors[teacher, place_of[name, face.row]] for face in clip.faces]), nan=np.inf))

    ranked = sorted(clips, key=error)
    if len(ranked[0].faces) > 1:
        rows = [[(clip, face) for face in clip.faces[:5]] for clip in (ranked[len(ranked) // 3], ranked[2 * len(ranked) // 3])]
    else:
        chosen = [(clip, clip.faces[0]) for clip in spread(ranked, 10)]
        rows = [chosen[: -(-len(chosen) // 2)], chosen[-(-len(chosen) // 2) :]]
    left, cell, height = 0.6 + 1.23 * max(map(len, rows)), 1.2, 3.2
    width = left + 3.1
    figure, store = Picture("summary", width, height), fine_store(run)
    for r, row in enumerate(rows):
        for c, (clip, face) in enumerate(row):
            x, y = 0.06 + 1.23 * c, height - 0.25 - cell - 1.23 * r
            axes = figure.add_axes((x / width, y / height, cell / width, cell / height))
            axes.set_axis_off()
            draw_crop(axes, store, clip.faces, face, {MEMBERS["teacher"]: (points[place_of[name, face.row]], None)}, width=1.1)
    figure.text(0.06 / width, 1 - 0.2 / height, "Teacher's landmarks on faces kept from training", fontsize=8)
    if name in lists:
        axes = figure.add_axes((left / width, 0.42 / height, (width - left - 0.1) / width, (height - 0.67) / height))
        _plot_ced(axes, run, predictions, errors, name)
        figure.text(left / width, 1 - 0.2 / height, f"Errors on {name}", fontsize=8)
        figure.text(0.06 / width, 0.1 / height, _headline(run, name), fontsize=7.5, va="bottom", linespacing=1.5)
    return figure


def _headline(run: Run, name: str) -> str:
    """Supervised and TSAL, each with its steps and its time: start + what followed."""
    rows = table(run).query("list == @name and source == 'heatmap'").set_index("member")
    return "\n".join(
        f"{label}: {row.NME:.2f} % NME, {row.start_steps:.0f} + {row.further_steps:.0f} steps, "
        f"{row.start_seconds:.0f} + {row.further_seconds:.0f} s"
        for label, row in (("supervised only", rows.loc["supervised"]), ("TSAL's teacher", rows.loc["teacher"]))
    )


# --- everything ------------------------------------------------------------------------------------------------------------


def draw_all(run: Run) -> list[Path]:
    """Every figure as .png and .pdf, and ``tables.md``, in ``<run>/figures``; returns their paths."""
    draws, folder = (draw_samples, draw_tracker, draw_history, draw_pseudo_labels, draw_evaluation), run.folder / "figures"
    paths = [path for draw in draws for figure in draw(run) for path in save(figure, folder)] + save(draw_summary(run), folder)
    write_text(folder / "tables.md", tables_text(run))
    return [*paths, folder / "tables.md"]
