"""Figures of ``audit.npz``: how right pseudo-labels are, source by source, and what tells the right ones from the wrong."""

from __future__ import annotations

import numpy as np

from tsal.files import read_arrays
from tsal.runs import Run
from tsal.style import (
    COLUMN, MEMBER_DASHES, MEMBERS, SOURCE_DASHES, SOURCES, TEXT, TRUTH, Picture, draw_crop, fine_store, headroom, picture_grid,
    quantiles, row_name, run_file, styled, under_name, unit,
)  # fmt: skip


@styled
def draw_pseudo_labels(run: Run) -> list[Picture]:
    """How right the sources of the audit are, and what tells; without labels, how far they agree."""
    audit = read_arrays(run_file(run, "audit.npz"))
    # (N, K): a labelled, visible landmark of a face with a normaliser
    known = audit["visible"] & np.isfinite(audit["d"])[:, None]
    examples = _draw_examples(run, audit)
    if not known.any():
        return [_draw_agreement(audit), examples]
    return [_draw_source_errors(run, audit, known), _draw_reliability(run, audit, known), examples]


def _landmark_errors(audit: dict, member: str, source: str, known: np.ndarray) -> np.ndarray:
    """(N, K) % of the normaliser; NaN where there is no label or the source says nothing."""
    index = audit["sources"].tolist().index(source)
    distance = np.linalg.norm(audit[f"{member}_points"][index] - audit["truth"], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known & audit[f"{member}_valid"][index], 100 * distance / audit["d"][:, None], np.nan)


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def _draw_source_errors(run: Run, audit: dict, known: np.ndarray) -> Picture:
    figure = Picture("pseudo-error", TEXT, 3.2, layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)
    panels = figure.subplots(1, len(audit["members"]), sharey=True, sharex=True, squeeze=False)[0]
    largest = 0.0
    for axes, member in zip(panels, audit["members"].tolist()):
        for source in audit["sources"].tolist():
            errors = _finite(_landmark_errors(audit, member, source, known))
            if len(errors):
                label = f"{np.median(errors):.2f}  {source.replace('_', ' ')}"
                axes.plot(*quantiles(errors), color=SOURCES[source], linestyle=SOURCE_DASHES[source], label=label)
                largest = max(largest, float(np.quantile(errors, 0.93)))
        axes.set_title(f"sources of the {member}")
        axes.set_xlabel(f"error of a landmark\n({unit(run)})")
        axes.legend(title="medians", loc="upper center", bbox_to_anchor=(0.5, -0.28))
    panels[0].set(xlim=(0, largest), ylim=(0, 1), ylabel="share of landmarks")
    return figure


def _draw_reliability(run: Run, audit: dict, known: np.ndarray) -> Picture:
    figure = Picture("pseudo-reliability", TEXT, 2.7, layout="constrained")
    agreement, flow, gates = figure.subplots(1, 3)
    for member in audit["members"].tolist():
        error = _landmark_errors(audit, member, "fused", known)
        _binned(agreement, audit[f"{member}_agreement"], error, MEMBERS[member], MEMBER_DASHES[member], member)
    agreement.set(xlabel="disagreement of heatmap and\ncentre sources (px of the input)", title="agreement tells the fused error")
    for source in ("tracked_heatmap", "tracked_centre", "carried"):
        error = _landmark_errors(audit, "teacher", source, known)
        _binned(flow, audit["teacher_flow_error"], error, SOURCES[source], SOURCE_DASHES[source], source.replace("_", " "))
    flow.set(xlabel="forward-backward error\nof the flow (px of the input)", title="flow tells the tracked error (teacher)")
    error = _landmark_errors(audit, "teacher", "fused", known)
    own = audit["teacher_agreement"]
    frame = np.broadcast_to(_nanmean(own)[:, None], own.shape)
    scores = {"landmark's agreement": own, "frame's mean agreement": frame, "forward-backward error": audit["teacher_flow_error"]}
    scores = {name: score for name, score in scores.items() if (np.isfinite(score) & np.isfinite(error)).any()}
    use = np.isfinite(error) & np.all([np.isfinite(score) for score in scores.values()], 0)
    colours = (SOURCES["centre"], SOURCES["fused"], SOURCES["tracked_heatmap"])
    for (name, score), colour in zip({**scores, "true error (bound)": error}.items(), (*colours[: len(scores)], "#949494")):
        kept, mean = _coverage(score[use], error[use])
        gates.plot(100 * kept, mean, color=colour, linestyle=":" if score is error else "-", label=name)
    gates.set(xlabel="landmarks that the gate keeps (%)", title="gates on the fused points (teacher)", xlim=(0, 100))
    for axes in (agreement, flow, gates):
        axes.set_ylim(0, None)
        headroom(axes, 0.3)
        axes.legend(loc="upper left")
    agreement.set_ylabel(f"median error, band of quartiles\n({unit(run)})")
    gates.set_ylabel("mean error of those kept (%)")
    return figure


def _nanmean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, values, 0).sum(-1) / np.maximum(count, 1), np.nan)


def _binned(axes, score: np.ndarray, error: np.ndarray, colour: str, dashes: str, label: str, bins: int = 10) -> None:
    """Median and quartiles of the error in bins that hold equally many landmarks."""
    use = np.isfinite(score) & np.isfinite(error)
    if not use.any():
        return
    order = np.argsort(score[use], kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    x = [np.median(score[use][part]) for part in parts]
    low, middle, high = np.transpose([np.quantile(error[use][part], (0.25, 0.5, 0.75)) for part in parts])
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, middle, color=colour, linestyle=dashes, marker="o", markersize=2, label=label)


def _coverage(score: np.ndarray, error: np.ndarray, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Share kept and mean error of what is kept, as a gate on the score opens."""
    means = np.cumsum(error[np.argsort(score, kind="stable")]) / np.arange(1, len(error) + 1)
    kept = np.unique(np.linspace(max(1, len(error) // 50), len(error), count).astype(int))
    return kept / len(error), means[kept - 1]


def _draw_agreement(audit: dict) -> Picture:
    figure = Picture("pseudo-agreement", COLUMN, 1.9, layout="constrained")
    names = {"agreement": "disagreement of heatmap\nand centre sources", "flow_error": "forward-backward error\nof the flow"}
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(panels, names.items()):
        for member in audit["members"].tolist():
            values = _finite(audit[f"{member}_{name}"])
            if len(values):
                axes.plot(*quantiles(values), color=MEMBERS[member], linestyle=MEMBER_DASHES[member], label=member)
                axes.set_xlim(0, max(axes.get_xlim()[1] if axes.get_xlim()[0] == 0 else 0, float(np.quantile(values, 0.95))))
        axes.set(xlabel=f"{title}\n(px of the input)", ylim=(0, 1))
    panels[0].set_ylabel("share of landmarks")
    panels[0].legend(loc="lower right")
    return figure


def _draw_examples(run: Run, audit: dict) -> Picture:
    """Best, median and worst frame by the teacher's mean agreement: every source's points, truth in white."""
    own, sources = _nanmean(audit["teacher_agreement"]), audit["sources"].tolist()
    tracked = np.isfinite(audit["teacher_flow_error"]).any(1)
    candidates = np.flatnonzero(tracked) if tracked.any() else np.arange(len(own))
    agreement = np.nan_to_num(own, nan=np.inf)
    order = candidates[np.argsort(agreement[candidates], kind="stable")]
    clips = {face.image: (clip, face) for clip in (*run.clips, *run.photographs) for face in clip.faces}
    store = fine_store(run)
    figure, axes = picture_grid("pseudo-examples", 3, len(sources), left=0.3, under=0.16 if audit["visible"].any() else 0.0)
    for row, label, frame in zip(axes, ("most agreed", "median", "least agreed"), order[[0, len(order) // 2, -1]]):
        clip, face = clips[audit["path"][frame]]
        says = f"\n{own[frame]:.1f} px apart" if np.isfinite(own[frame]) else ""
        row_name(row[0], label + says)
        known = audit["visible"][frame]
        for index, (name, place) in enumerate(zip(sources, row)):
            landmarks = {TRUTH: (np.where(known[:, None], audit["truth"][frame], np.nan), None)} if known.any() else {}
            valid = audit["teacher_valid"][index, frame]
            points = np.where(valid[:, None], audit["teacher_points"][index, frame], np.nan)
            draw_crop(place, store, clip.faces, face, landmarks | {SOURCES[name]: (points, None)}, width=0.8)
            error = np.linalg.norm(points - audit["truth"][frame], axis=-1)[known & valid] / audit["d"][frame]
            measured = f"{100 * error.mean():.1f} %" if len(error) and np.isfinite(error).all() else ""
            under_name(place, measured if valid.any() else "no points")
    for name, place in zip(sources, axes[0]):
        place.set_title(name.replace("_", " "), pad=3)
    return figure
