"""Figures of a run's audit: how right pseudo-labels are, by source and by step, and what separates right from
wrong.
"""

from __future__ import annotations

import numpy as np
from matplotlib.transforms import ScaledTranslation

from tsal.audit import Audit, Calibration, calibrations, finite, is_measured, step_table
from tsal.evaluation import known_mean
from tsal.figures.audit_window import draw_window, neighbours_speak
from tsal.figures.conditions import draw_conditions
from tsal.figures.style import (
    COLUMN,
    MODEL_DASHES,
    MODELS,
    SOURCE_DASHES,
    SOURCES,
    TEXT,
    TRUTH,
    NamedFigure,
    audited_faces,
    binned,
    coverage,
    draw_crop,
    fine_store,
    headroom,
    image_grid,
    open_audit,
    quantiles,
    row_name,
    styled,
    under_name,
    unit,
)
from tsal.run import Run


@styled
def draw_pseudo_labels(run: Run) -> list[NamedFigure]:
    """How right the sources of the audit are, and what predicts their error; without labels, how far they agree."""
    audit = open_audit(run)
    if audit is None:
        figure = NamedFigure("pseudo-error", COLUMN, 1.2)
        empty(figure.subplots(), f"nothing to show:\n{run.no_pseudo_labels}")
        return [figure]
    always = [_draw_steps(run, audit), _draw_examples(run, audit)]
    if not is_measured(audit):
        return [_draw_disagreement(audit), *always]
    measured = [_draw_source_errors(run, audit), _draw_reliability(run, audit), _draw_calibration(run, audit)]
    window = [draw_window(run, audit)] if neighbours_speak(audit) else []
    return [*measured, *window, *draw_conditions(run, audit), *always]


def empty(axes, why: str) -> None:
    """Say in a panel why nothing is drawn in it."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color="#777777")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_source_errors(run: Run, audit: Audit) -> NamedFigure:
    figure = NamedFigure("pseudo-error", TEXT, 3.2, layout="constrained")
    panels = figure.subplots(1, len(audit.names), sharey=True, sharex=True, squeeze=False)[0]
    largest = 0.0
    for axes, model in zip(panels, audit.names):
        for source in audit.sources:
            errors = finite(audit.errors(model, source))
            if len(errors):
                label = f"{np.median(errors):.2f}  {source.replace('_', ' ')}"
                axes.plot(*quantiles(errors), color=SOURCES[source], linestyle=SOURCE_DASHES[source], label=label)
                largest = max(largest, float(np.quantile(errors, 0.93)))
        axes.set_title(f"sources of the {model}")
        axes.set_xlabel(f"error of a landmark\n({unit(run)})")
        # in inches: a share would move with the layout
        below = axes.transAxes + ScaledTranslation(0, -0.43, figure.dpi_scale_trans)
        axes.legend(title="medians", loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below)
    panels[0].set(xlim=(0, largest), ylim=(0, 1), ylabel="share of landmarks")
    return figure


def _draw_reliability(run: Run, audit: Audit) -> NamedFigure:
    figure = NamedFigure("pseudo-reliability", TEXT, 2.7, layout="constrained")
    teacher = audit.labels("teacher")[0]
    disagreement, flow, gates = figure.subplots(1, 3)
    for model in audit.names:
        error = audit.errors(model, "fused")
        binned(disagreement, audit.labels(model)[0].disagreement, error, MODELS[model], MODEL_DASHES[model], model)
    disagreement.set(
        xlabel="disagreement of heatmap and\ncentre sources (px of the input)",
        title="fused error by disagreement",
    )
    for source in ("tracked_heatmap", "tracked_centre", "propagated"):
        error, track = audit.errors("teacher", source), teacher.flow_error[audit.sources.index(source)]
        binned(flow, track, error, SOURCES[source], SOURCE_DASHES[source], source.replace("_", " "))
    flow.set(
        xlabel="forward-backward error\nof the flow (px of the input)", title="tracked error by flow error (teacher)"
    )
    error = audit.errors("teacher", "fused")
    own = teacher.disagreement
    frame = np.broadcast_to(known_mean(own)[:, None], own.shape)
    scores = {
        "landmark's disagreement": own,
        "frame's mean disagreement": frame,
        "forward-backward error": teacher.flow_error[-1],
    }
    scores = {name: score for name, score in scores.items() if (np.isfinite(score) & np.isfinite(error)).any()}
    measured = np.isfinite(error)
    use = measured & np.all([np.isfinite(score) for score in scores.values()], 0)  # every curve of the same landmarks
    colours = (SOURCES["centre"], SOURCES["fused"], SOURCES["tracked_heatmap"])
    for (name, score), colour in zip(
        {**scores, "true error (bound)": error}.items(), (*colours[: len(scores)], "#949494")
    ):
        share, mean = coverage(score[use], error[use])
        kept = 100 * share * use.sum() / measured.sum()
        gates.plot(kept, mean, color=colour, linestyle=":" if score is error else "-", label=name)
    gates.set(xlabel="landmarks that the gate keeps (%)", title="gates on the fused points (teacher)", xlim=(0, 100))
    for axes, without in (
        (disagreement, "one family speaks alone"),
        (flow, "no frame is tracked"),
        (gates, "no point is measured"),
    ):
        if axes.lines:
            axes.set_ylim(0, None)
            headroom(axes, 0.3)
            axes.legend(loc="upper left")
        else:
            empty(axes, f"nothing to show:\n{without}")
    disagreement.set_ylabel(f"median error, band of quartiles\n({unit(run)})")
    gates.set_ylabel("mean error of those kept (%)")
    return figure


def _draw_calibration(run: Run, audit: Audit) -> NamedFigure:
    """What error a disagreement predicts, learned on every second clip, and whether it is right on the others."""
    figure = NamedFigure("pseudo-calibration", TEXT, 2.6, layout="constrained")
    maps, checks = figure.subplots(1, 2)
    shown = {model: calibration for (model, score), calibration in calibrations(audit).items() if score == "landmark"}
    for model, calibration in shown.items():
        options = {"color": MODELS[model], "linestyle": MODEL_DASHES[model]}
        maps.plot(calibration.knots, calibration.fit, label=model, **options)
        label = _off(model, calibration)
        checks.plot(calibration.predicted, calibration.observed, marker="o", markersize=2.5, label=label, **options)
    if not shown:
        for axes in (maps, checks):
            empty(axes, "nothing to show: two clips\nwhose sources disagree are needed")
        return figure
    largest = max(float(max(calibration.predicted.max(), calibration.observed.max())) for calibration in shown.values())
    checks.plot((0, largest), (0, largest), color="#b0b0b0", linewidth=0.7, zorder=1)
    # the highest scores are few: the map goes on, and is drawn as far as it is checked
    maps.set_xlim(0, max(float(np.quantile(calibration.knots, 0.98)) for calibration in shown.values()))
    maps.set_ylim(0, 1.25 * largest)
    maps.set(
        xlabel="disagreement of heatmap and centre sources (px of the input)", title="learned on one half of the clips"
    )
    maps.set_ylabel(f"predicted error of the fused point\n({unit(run)})")
    checks.set(xlabel="predicted error (%)", ylabel="observed mean error (%)", title="checked on the other half")
    checks.set(xlim=(0, None), ylim=(0, None))
    headroom(checks, 0.3)
    maps.legend(loc="upper left")
    checks.legend(title="expected calibration error / mean error", loc="upper left", alignment="left")
    return figure


def _off(model: str, calibration: Calibration) -> str:
    return f"{calibration.off:.2f} / {calibration.mean:.2f}  {model}"


def _draw_steps(run: Run, audit: Audit) -> NamedFigure:
    """Sources, disagreement, flow and gate over TSAL's steps, of the same frames at every step; step 0 is the init."""
    table = step_table(audit)
    measured = is_measured(audit)
    figure = NamedFigure("pseudo-steps", TEXT, 4.2 if measured else 2.3, layout="constrained")
    panels = figure.subplots(2 if measured else 1, 6 if measured else 3, squeeze=False)
    models = [name for name in audit.names if name != "init"]
    init = table[table.model == "init"]
    titles = {
        "disagreement": "median disagreement\n(px of the input)",
        "flow_error": "median forward-backward\nerror (px of the input)",
        "gate": "mean weight in\nthe student's target",
    }

    def line(axes, rows, column: str, **options) -> None:
        """The init is a hollow dot: the student's weights need not begin with it."""
        if rows[column].notna().any():
            axes.plot(rows.step, rows[column], marker="o", markersize=2.5, **options)
            begun = {
                "markersize": 3.2,
                "linestyle": "",
                "markerfacecolor": "white",
                "label": "init" if column in titles else "",
            }
            axes.plot(
                init.step,
                init[column],
                marker="o",
                color=MODELS["init"] if column in titles else options["color"],
                **begun,
            )

    if measured:
        grid = panels[0, 0].get_gridspec()
        for axes in panels.flat:
            axes.remove()
        first = [figure.add_subplot(grid[0, 3 * i : 3 * i + 3]) for i in range(2)]
        last = [figure.add_subplot(grid[1, 2 * i : 2 * i + 2]) for i in range(3)]
        for axes, model in zip(first, models):
            for source in audit.sources:
                rows = table[table.model == model]
                line(
                    axes,
                    rows,
                    source,
                    color=SOURCES[source],
                    linestyle=SOURCE_DASHES[source],
                    label=source.replace("_", " "),
                )
            axes.set_title(f"median error of the {model}'s sources")
        first[0].set_ylabel(f"median error of a landmark\n({unit(run)})")
        low, high = (f(axes.get_ylim()[i] for axes in first) for i, f in enumerate((min, max)))
        for axes in first:
            axes.set_ylim(low, high)
        figure.legend(*first[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, columnspacing=1.2)
    else:
        last = list(panels[0])
    for axes, (column, title) in zip(last, titles.items()):
        for model in models:
            line(
                axes,
                table[table.model == model],
                column,
                color=MODELS[model],
                linestyle=MODEL_DASHES[model],
                label=model,
            )
        axes.set_title(title)
        if axes.lines:
            axes.set_ylim(0, 1.15 * table[column].max() or 1)
            axes.set_xlabel(f"optimiser steps; {table.frames.iloc[0]} frames")
        else:
            tracked = np.isfinite(audit.labels("teacher")[0].flow_error).any()
            untracked = "the method fuses\nno tracking source" if tracked else "no frame is tracked"
            empty(axes, f"nothing to show:\n{untracked if column == 'flow_error' else 'one family speaks alone'}")
    named = dict(zip(*reversed(last[-1].get_legend_handles_labels())))  # the init's dot is drawn with every model
    named = {model: named[model] for model in MODELS if model in named}
    last[-1].legend(named.values(), named, loc="lower right")
    return figure


def _draw_disagreement(audit: Audit) -> NamedFigure:
    figure = NamedFigure("pseudo-disagreement", COLUMN, 1.9, layout="constrained")
    names = {
        "disagreement": "disagreement of heatmap\nand centre sources",
        "flow_error": "forward-backward error\nof the flow",
    }
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(panels, names.items()):
        for model in audit.names:
            labels = audit.labels(model)[0]
            values = finite(labels.flow_error[-1] if name == "flow_error" else labels.disagreement)
            if len(values):
                axes.plot(*quantiles(values), color=MODELS[model], linestyle=MODEL_DASHES[model], label=model)
                axes.set_xlim(
                    0, max(axes.get_xlim()[1] if axes.get_xlim()[0] == 0 else 0, float(np.quantile(values, 0.95)))
                )
        axes.set(xlabel=f"{title}\n(px of the input)", ylim=(0, 1))
    panels[0].set_ylabel("share of landmarks")
    panels[0].legend(loc="lower right")
    return figure


def _draw_examples(run: Run, audit: Audit) -> NamedFigure:
    """Best, median and worst frame by the teacher's mean disagreement: every source's points, truth in white."""
    teacher = audit.labels("teacher")[0]
    own, sources = known_mean(teacher.disagreement), audit.sources
    tracked = np.isfinite(teacher.flow_error).any((0, 2))
    candidates = np.flatnonzero(tracked) if tracked.any() else np.arange(len(own))
    disagreement = np.nan_to_num(own, nan=np.inf)
    order = candidates[np.argsort(disagreement[candidates], kind="stable")]
    shown = order[[0, len(order) // 2, -1]].tolist()
    clips = audited_faces(run, audit, shown)
    store = fine_store(run)
    figure, axes = image_grid("pseudo-examples", 3, len(sources), left=0.3, under=0.16 if audit.visible.any() else 0.0)
    for row, label, frame in zip(axes, ("most agreed", "median", "least agreed"), shown):
        clip, face = clips[frame]
        says = f"\n{own[frame]:.1f} px apart" if np.isfinite(own[frame]) else ""
        row_name(row[0], label + says)
        visible = audit.visible[frame]
        for index, (name, place) in enumerate(zip(sources, row)):
            landmarks = {TRUTH: (np.where(visible[:, None], audit.truth[frame], np.nan), None)} if visible.any() else {}
            valid = teacher.valid[index, frame]
            points = np.where(valid[:, None], teacher.points[index, frame], np.nan)
            draw_crop(place, store, clip.faces, face, landmarks | {SOURCES[name]: (points, None)}, width=0.8)
            error = (
                np.linalg.norm(points - audit.truth[frame], axis=-1)[visible & valid] / audit.frames.norm_px.iloc[frame]
            )
            measured = f"{100 * error.mean():.1f} %" if len(error) and np.isfinite(error).all() else ""
            under_name(place, measured if valid.any() else "no points")
    for name, place in zip(sources, axes[0]):
        place.set_title(name.replace("_", " "), pad=3)
    return figure
