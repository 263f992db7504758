"""Figures of a run's audit that show where the error is: which landmarks, which poses, which faces got better and which
worse.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import TwoSlopeNorm

from tsal.audit import (
    Audit,
    changes,
    finite,
    frame_means,
    groups,
    is_measured,
    known_points,
    landmark_means,
    mean_face,
    one_a_clip,
    poses,
)
from tsal.evaluation import known_mean
from tsal.figures.pseudo_labels import empty
from tsal.figures.style import (
    COLUMN,
    MODEL_DASHES,
    MODELS,
    TEXT,
    TRUTH,
    NamedFigure,
    audited_faces,
    draw_crop,
    fine_store,
    headroom,
    image_grid,
    open_audit,
    plain_log_ticks,
    row_name,
    styled,
    under_name,
    unit,
)
from tsal.run import Run

MOST = 20  # bars of a scheme without lines
SHOWN = 6  # faces a row


@styled
def draw_breakdown(run: Run) -> list[NamedFigure]:
    """The error of the fused points, which are the pseudo-labels, by landmark, pose and face; without labels, the
    disagreement of the sources.
    Nothing where there is no audit.
    """
    audit = open_audit(run)
    if audit is None:
        return []
    return [_draw_landmarks(run, audit), _draw_poses(run, audit), *_draw_changes(run, audit)]


def _quantity(run: Run, audit: Audit) -> str:
    return f"fused error ({unit(run)})" if is_measured(audit) else "disagreement of the sources\n(px of the input)"


# --- landmarks ---


def _draw_landmarks(run: Run, audit: Audit) -> NamedFigure:
    scheme, result = run.scheme, run.config.result
    init, after = (landmark_means(audit, model) for model in ("init", result))
    parts = {name: list(indices) for name, indices in groups(scheme).items()}
    means = pd.DataFrame(
        {name: [known_mean(values[indices]) for values in (init, after)] for name, indices in parts.items()}
    ).T
    means = means.astype(float).dropna()
    title = "mean by landmark" if not scheme.lines else "mean by part of the face"
    if len(means) > MOST:
        title = f"the {MOST} landmarks with the largest mean"
        means = means.sort_values(1, kind="stable", ascending=False).head(MOST)
    figure = NamedFigure("pseudo-landmarks", TEXT, max(2.3, 0.8 + 0.17 * len(means)), layout="constrained")
    now, change, bars = figure.subplots(1, 3, width_ratios=(1, 1, 1.35))
    points = mean_face(known_points(audit), audit.frames[["x1", "y1", "x2", "y2"]].to_numpy())
    known = np.isfinite(points).all(1)
    if not len(means) or not known.any():
        for axes in (now, change, bars):
            empty(axes, "nothing to show:\nno landmark is measured")
        return figure
    reach = max(float(np.abs(finite(after - init)).max(initial=0)), 1e-6)
    scales = {"viridis": (after, None), "RdBu_r": (after - init, TwoSlopeNorm(0, -reach, reach))}
    for axes, (colours, (values, norm)) in zip((now, change), scales.items()):
        for _, indices, closed in scheme.lines:
            axes.plot(*points[list(indices + indices[:closed])].T, color="#cccccc", linewidth=0.8, zorder=1)
        use = known & np.isfinite(values)
        size = 16 if scheme.points > 30 else 36
        dots = axes.scatter(
            *points[use].T,
            c=values[use],
            cmap=colours,
            norm=norm,
            s=size,
            linewidths=0.3,
            edgecolors="#444444",
            zorder=2,
        )
        axes.set(aspect="equal", anchor="S", xticks=[], yticks=[])
        axes.margins(0.08)
        axes.invert_yaxis()
        axes.spines[:].set_visible(False)
        axes.grid(False)
        figure.colorbar(dots, ax=axes, orientation="horizontal", shrink=0.8, aspect=25, pad=0.02)
    now.set_title(f"{result}: mean {'fused error, %' if is_measured(audit) else 'disagreement, px'}")
    change.set_title(f"{result} less init (blue: {'better' if is_measured(audit) else 'closer'})")
    for place, (model, values) in enumerate((("init", means[0]), (result, means[1]))):
        bars.barh(np.arange(len(means)) + 0.4 * (place - 0.5), values, height=0.38, color=MODELS[model], label=model)
    bars.set_yticks(range(len(means)), [str(name) for name in means.index])
    bars.set(ylim=(len(means) - 0.4, -0.6), xlabel=_quantity(run, audit).replace("\n", " "), title=title)
    bars.grid(False, axis="y")
    bars.legend(loc="upper center", bbox_to_anchor=(0.4, -0.25), ncols=2)
    return figure


# --- poses ---


def _draw_poses(run: Run, audit: Audit) -> NamedFigure:
    figure = NamedFigure("pseudo-poses", TEXT, 2.3, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    roll, yaw = poses(known_points(audit), run.scheme)
    whose = "the labels" if is_measured(audit) else f"the {audit.names[-1]}'s points"
    words = {
        "yaw": (yaw, "yaw: centre landmark off the eyes' middle,\nover the eyes' distance"),
        "roll": (roll, "roll, degrees"),
    }
    for axes, (name, (pose, text)) in zip(panels, words.items()):
        for model in audit.names:
            error = frame_means(audit, model)
            use = np.flatnonzero(np.isfinite(pose) & np.isfinite(error))
            parts = np.array_split(use[np.argsort(pose[use], kind="stable")], min(7, max(1, len(use) // 4)))
            if len(use):
                x, y = zip(*((np.median(pose[part]), error[part].mean()) for part in parts))
                options = {"color": MODELS[model], "linestyle": MODEL_DASHES[model], "label": model}
                axes.plot(x, y, marker="o", markersize=2.5, **options)
        if axes.lines:
            axes.set_xlabel(text)
            axes.set_title(f"by {name} of {whose}; equally many frames a dot")
        else:
            empty(
                axes,
                f"nothing to show: no frame's {name} is known\n(it takes the outer eye corners, yaw the centre too)",
            )
    if panels[0].lines or panels[1].lines:
        first = panels[0] if panels[0].lines else panels[1]
        panels[0].set_ylim(0, None)
        headroom(panels[0], 0.25)
        first.set_ylabel(f"mean {_quantity(run, audit)}".replace(" (", "\n("))
        first.legend(loc="upper left", ncols=len(audit.names))
    return figure


# --- faces ---


def _draw_changes(run: Run, audit: Audit) -> list[NamedFigure]:
    """Every frame's error before and after, those that got worse most numbered as in the tables, and images of those
    that changed most each way: one a clip.
    """
    result = run.config.result
    table = changes(audit, result)
    scatter = NamedFigure("pseudo-changes", COLUMN, 2.9, layout="constrained")
    axes = scatter.subplots()
    if not len(table):
        empty(axes, f"nothing to show: no frame is measured\nfor both the init and the {result}")
        return [scatter]
    worst = one_a_clip(table[table.change > 0], 5)
    low, high = (float(f(table[["init", result]].to_numpy())) for f in (np.min, np.max))
    low, high = max(low, high / 1000) / 1.15, 1.15 * high
    axes.plot((low, high), (low, high), color="#b0b0b0", linewidth=0.7)
    axes.scatter(table.init, table[result], s=6, color=MODELS[result], alpha=0.5, linewidths=0)
    axes.scatter(worst.init, worst[result], s=22, facecolors="none", edgecolors="black", linewidths=0.7)
    for number, (_, row) in enumerate(worst.iterrows(), 1):
        axes.annotate(str(number), (row.init, row[result]), (-7, 3), textcoords="offset points", fontsize=6.5)
    axes.set(xscale="log", yscale="log", aspect="equal", xlim=(low, high), ylim=(low, high))
    plain_log_ticks(axes)
    axes.xaxis.set_major_locator(axes.yaxis.get_major_locator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    quantity = _quantity(run, audit).replace(" (", "\n(")
    axes.set(xlabel=f"init: {quantity}", ylabel=f"{result}: {quantity}")
    share = 100 * float((table.change > 0).mean())
    worsened, most = ("got worse", "got worse most") if is_measured(audit) else ("agree less", "lost most")
    axes.set_title(
        f"{len(table)} frames; {share:.0f} % {worsened} (above the line)\nnumbers: those that {most}, see the tables"
    )
    return [scatter, _draw_changed_faces(run, audit, table)]


def _draw_changed_faces(run: Run, audit: Audit, table: pd.DataFrame) -> NamedFigure:
    names = ("most improved", "most worsened") if is_measured(audit) else ("agree more", "agree less")
    tables = dict(zip(names, (table[table.change < 0].iloc[::-1], table[table.change > 0])))
    chosen = {name: one_a_clip(frames, SHOWN) for name, frames in tables.items() if len(frames)}
    figure, axes = image_grid("pseudo-changed-faces", 2 * max(1, len(chosen)), SHOWN, left=0.3, top=0.02, under=0.15)
    clips = audited_faces(run, audit, [frame for frames in chosen.values() for frame in frames.index])
    store, measured, fused = fine_store(run), is_measured(audit), audit.sources.index("fused")
    for number, (name, frames) in enumerate(chosen.items()):
        for offset, model in enumerate(("init", run.config.result)):
            labels, rows = audit.labels(model)
            row_name(axes[2 * number + offset, 0], f"{name}\n{model}")
            for place, (frame, row) in zip(axes[2 * number + offset], frames.iterrows()):
                clip, face = clips[frame]
                truth = {TRUTH: (audit.truth[frame], audit.visible[frame])} if measured else {}
                at = (fused, np.flatnonzero(rows == frame)[0])
                points = np.where(labels.valid[at][:, None], labels.points[at], np.nan)
                draw_crop(place, store, clip.faces, face, truth | {MODELS[model]: (points, None)}, width=0.8)
                under_name(place, f"{row[model]:.2f} {'%' if measured else 'px'}", color=MODELS[model])
    return figure
