"""Figures of a run's predictions: cumulative errors, sources, faces, jitter, and the one figure that sums a run up."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator

from tsal.config import labels_alone
from tsal.data import Clip, group_clips, spread
from tsal.evaluation import table_errors
from tsal.figures.pseudo_labels import empty
from tsal.figures.style import (
    COLUMN,
    METHOD_TITLES,
    MODEL_DASHES,
    MODELS,
    TEXT,
    TRUTH,
    NamedFigure,
    cumulative,
    draw_crop,
    fine_store,
    headroom,
    image_grid,
    plain_log_ticks,
    row_name,
    run_file,
    styled,
    under_name,
    unit,
)
from tsal.figures.tables import TAU, clip_table, table
from tsal.run import Run
from tsal.utils import read_arrays


def _numbers(row: pd.Series) -> str:
    return f"{row.NME:.2f} / {row[f'AUC@{TAU:.2f}']:.3f} / {100 * row[f'FR@{TAU:.2f}']:.1f}"


def _scored(run: Run) -> tuple[dict, np.ndarray, list[str]]:
    """The predictions, the heatmap source's NME (M, N) in %, and the lists that have a scored face."""
    predictions = read_arrays(run_file(run, "predictions.npz"))
    errors = 100 * table_errors(predictions)[:, predictions["sources"].tolist().index("heatmap")]
    lists = list(dict.fromkeys(predictions["list"].tolist()))
    return predictions, errors, [name for name in lists if np.isfinite(errors[0, predictions["list"] == name]).any()]


@styled
def draw_evaluation(run: Run) -> list[NamedFigure]:
    """Cumulative errors, sources and faces of every evaluation list; a list without labels shows its faces alone."""
    predictions, errors, lists = _scored(run)
    charts = [_draw_ced(run, predictions, errors, lists), _draw_sources(run, lists)] if lists else []
    return [*charts, _draw_jitter(run), _draw_faces(run, predictions, errors)]


def _plot_ced(axes, run: Run, predictions: dict, errors: np.ndarray, name: str) -> None:
    numbers = table(run).set_index(["list", "model", "source"])
    in_list = predictions["list"] == name
    by_model = {m: e[np.isfinite(e)] for m, e in zip(predictions["models"].tolist(), errors[:, in_list])}
    slowest = max(np.median(e) for e in by_model.values())
    largest = 10.0 if slowest < 7 else 10 * np.ceil(max(np.quantile(e, 0.95) for e in by_model.values()) / 10)
    for model, values in by_model.items():
        label = f"{_numbers(numbers.loc[(name, model, 'heatmap')])}  {model}"
        axes.step(*cumulative(values), where="post", color=MODELS[model], linestyle=MODEL_DASHES[model], label=label)
    axes.axvline(100 * TAU, color="#b0b0b0", linewidth=0.6)
    axes.set(xlim=(0, largest), ylim=(0, 1), xlabel=f"NME ({unit(run)})", ylabel="share of faces")
    axes.set_yticks(np.linspace(0, 1, 6))
    headroom(axes, 0.17 + 0.047 * len(by_model))  # the legend ends above all curves
    axes.legend(title=f"NME % / AUC@{TAU:.2f} / FR@{TAU:.2f} %", loc="upper left", alignment="left")


def _draw_ced(run: Run, predictions: dict, errors: np.ndarray, lists: list[str]) -> NamedFigure:
    columns = min(2, len(lists))
    rows = -(-len(lists) // columns)
    height = 2.2 + 0.15 * len(errors)  # a line of the legend for each model
    figure = NamedFigure("evaluation-ced", COLUMN if columns == 1 else TEXT, height * rows, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes, name in zip(panels.flat, lists):
        _plot_ced(axes, run, predictions, errors, name)
        axes.set_title(f"{name}: {np.isfinite(errors[0, predictions['list'] == name]).sum()} faces")
    for axes in panels.flat[len(lists) :]:
        axes.set_axis_off()
    return figure


def _draw_sources(run: Run, lists: list[str]) -> NamedFigure:
    numbers = table(run)
    sources, models = list(dict.fromkeys(numbers.source)), numbers.model.nunique()
    figure = NamedFigure("evaluation-sources", COLUMN, 0.9 + 0.9 * len(lists), layout="constrained")
    panels = figure.subplots(len(lists), 1, squeeze=False)[:, 0]
    for axes, name in zip(panels, lists):
        for step, (model, rows) in enumerate(numbers[numbers.list == name].groupby("model", sort=False)):
            place = np.array([sources.index(source) for source in rows.source]) + 0.17 * (step - (models - 1) / 2)
            axes.plot(rows.NME, place, color=MODELS[model], marker="o", markersize=4, linestyle="", label=model)
        axes.set_yticks(range(len(sources)), sources)
        axes.set(ylim=(len(sources) - 0.5, -0.5), title=name)
        axes.grid(False, axis="y")
    panels[-1].set_xlabel(f"NME ({unit(run)})")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, handletextpad=0.1, columnspacing=1
    )
    return figure


def _draw_jitter(run: Run) -> NamedFigure:
    """Each evaluated clip's jitter and NME, and their means: a model that only smooths goes down and to the right."""
    clips = clip_table(run)
    lists = list(dict.fromkeys(clips.list))
    figure = NamedFigure("evaluation-jitter", COLUMN if len(lists) < 2 else TEXT, 2.6, layout="constrained")
    if not lists:
        empty(figure.subplots(), "nothing to show: no evaluation list has\na labelled clip of three consecutive frames")
        return figure
    for axes, name in zip(figure.subplots(1, len(lists), squeeze=False)[0], lists):
        list_clips = clips[clips.list == name]
        for model, rows in list_clips[list_clips.model != "labels"].groupby("model", sort=False):
            axes.scatter(rows.NME, rows.jitter, s=5, color=MODELS[model], alpha=0.35, linewidths=0)
            label = f"{rows.NME.mean():.2f} / {rows.jitter.mean():.2f}  {model}"
            options = {
                "color": MODELS[model],
                "markeredgecolor": "black",
                "markeredgewidth": 0.5,
                "markersize": 6,
                "linestyle": "",
            }
            axes.plot(rows.NME.mean(), rows.jitter.mean(), marker="D", label=label, zorder=3, **options)
        labels = list_clips[list_clips.model == "labels"].jitter.mean()
        if np.isfinite(labels):
            axes.axhline(labels, color="#b0b0b0", linewidth=0.7, label=f"{labels:.2f}  of the labels themselves")
        axes.set(xscale="log", yscale="log", xlabel=f"NME ({unit(run)})", ylabel="jitter: mean second difference (%)")
        plain_log_ticks(axes)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        headroom(axes, 0.43)
        axes.set_title(f"{name}: {list_clips['clip'].nunique()} clips")
        title = "NME % / jitter %, means over clips\n(in tables: over faces and frames)"
        axes.legend(title=title, loc="upper left", alignment="left", handletextpad=0.4)
    return figure


def _draw_faces(run: Run, predictions: dict, errors: np.ndarray) -> NamedFigure:
    """Faces at fixed places of the ranking by the method's result, from best to worst: supervised above, the result
    below, labels in white. Of a run of labels alone: those of supervised.
    """
    names, heatmap = predictions["models"].tolist(), predictions["sources"].tolist().index("heatmap")
    models = list(dict.fromkeys(("supervised", run.config.result)))
    lists = list(dict.fromkeys(predictions["list"].tolist()))
    places = {
        "best": 0.0,
        "25th percentile": 0.25,
        "median": 0.5,
        "75th percentile": 0.75,
        "95th percentile": 0.95,
        "worst": 1.0,
    }
    left = 0.18 if len(lists) == 1 else 0.3
    figure, axes = image_grid("evaluation-faces", len(models) * len(lists), len(places), left=left, under=0.15)
    store, ranked = fine_store(run), errors[names.index(run.config.result)]
    for number, name in enumerate(lists):
        indices = np.flatnonzero(predictions["list"] == name)
        scored = indices[np.isfinite(ranked[indices])]
        order = scored[np.argsort(ranked[scored], kind="stable")] if len(scored) else indices
        for column, (title, share) in enumerate(places.items()):
            index = order[round(share * (len(order) - 1))]
            face = next(f for f in run.lists.evaluate[name] if f.row == predictions["row"][index])
            truth = {TRUTH: (predictions["truth"][index], predictions["visible"][index])}
            for offset, model in enumerate(models):
                place, m = axes[len(models) * number + offset, column], names.index(model)
                draw_crop(
                    place,
                    store,
                    (face,),
                    face,
                    truth | {MODELS[model]: (predictions["points"][m, heatmap, index], None)},
                )
                under_name(
                    place, f"{errors[m, index]:.2f} %" if np.isfinite(errors[m, index]) else "", color=MODELS[model]
                )
                if column == 0:
                    row_name(place, model if len(lists) == 1 else f"{model}\n{name}")
                if place in axes[0]:
                    place.set_title(title if len(scored) else "", pad=3)
    return figure


@styled
def draw_summary(run: Run) -> NamedFigure:
    """One wide figure of what comes out: the landmarks of the method's result on clips, cumulative errors, numbers."""
    predictions, errors, lists = _scored(run)
    name = (lists or list(run.lists.evaluate))[0]
    result, alone = run.config.result, labels_alone(run.config)
    model = predictions["models"].tolist().index(result)
    model_errors, points = errors[model], predictions["points"][model, predictions["sources"].tolist().index("heatmap")]
    place_of = {
        (n, row): i for i, (n, row) in enumerate(zip(predictions["list"].tolist(), predictions["row"].tolist()))
    }
    clips = [clip for clip in group_clips(run.lists.evaluate[name]) if len(clip.faces) > 1]
    clips = clips or [Clip(name, (face,)) for face in run.lists.evaluate[name]]

    def error(clip: Clip) -> float:
        return float(
            np.nan_to_num(np.mean([model_errors[place_of[name, face.row]] for face in clip.faces]), nan=np.inf)
        )

    ranked = sorted(clips, key=error)
    if len(ranked[0].faces) > 1:
        rows = [
            [(clip, face) for face in clip.faces[:5]]
            for clip in (ranked[len(ranked) // 3], ranked[2 * len(ranked) // 3])
        ]
    else:
        chosen = [(clip, clip.faces[0]) for clip in spread(ranked, 10)]
        rows = [chosen[: -(-len(chosen) // 2)], chosen[-(-len(chosen) // 2) :]]
    whose = "Landmarks" if alone else f"{result.capitalize()}'s landmarks"
    left, cell, height = 0.6 + 1.23 * max(map(len, rows)), 1.2, 3.2
    width = left + 3.1
    figure, store = NamedFigure("summary", width, height), fine_store(run)
    for r, row in enumerate(rows):
        for c, (clip, face) in enumerate(row):
            x, y = 0.06 + 1.23 * c, height - 0.25 - cell - 1.23 * r
            axes = figure.add_axes((x / width, y / height, cell / width, cell / height))
            axes.set_axis_off()
            draw_crop(
                axes, store, clip.faces, face, {MODELS[result]: (points[place_of[name, face.row]], None)}, width=1.1
            )
    figure.text(0.06 / width, 1 - 0.2 / height, f"{whose} on held-out faces", fontsize=8)
    if name in lists:
        axes = figure.add_axes((left / width, 0.42 / height, (width - left - 0.1) / width, (height - 0.67) / height))
        _plot_ced(axes, run, predictions, errors, name)
        figure.text(left / width, 1 - 0.2 / height, f"Errors on {name}", fontsize=8)
        figure.text(0.06 / width, 0.1 / height, _headline(run, name), fontsize=7.5, va="bottom", linespacing=1.5)
    return figure


def _headline(run: Run, name: str) -> str:
    """Supervised and the run's method, each with its steps and its time: init + what followed."""
    method = METHOD_TITLES.get(run.config.method, run.config.method)
    shown = {"supervised": METHOD_TITLES["supervised"], run.config.result: f"{method} {run.config.result}"}
    if labels_alone(run.config):
        shown = {"supervised": method}
    rows = table(run).query("list == @name and source == 'heatmap'").set_index("model")
    return "\n".join(
        f"{shown[row.Index]}: {row.NME:.2f} % NME, {row.init_steps:.0f} + {row.semi_steps:.0f} steps, "
        f"{row.init_seconds:.0f} + {row.semi_seconds:.0f} s"
        for row in rows.loc[list(shown)].itertuples()
    )
