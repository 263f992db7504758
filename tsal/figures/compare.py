"""How the methods of several runs compare, over seeds, label budgets and parts left out, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from tsal.figures.comparison import INIT, SUPERVISED, Comparison, read_runs
from tsal.figures.dataset import COLOURS
from tsal.figures.pseudo_labels import empty
from tsal.figures.style import COLUMN, MODELS, TEXT, NamedFigure, save, styled
from tsal.figures.tables import write_tables

WHISKER = (
    "digit: a seed; whisker: one standard deviation over seeds; methods of a seed share an init, unless they differ in "
    "what makes it: their differences are in the table"
)
MARKS = "osD^vPX*<>"  # of methods, one after the other


def compare_runs(folders: Sequence[Path], out: Path) -> list[Path]:
    """``compare-*.png``, ``.pdf``, and ``compare.md`` and ``.tex`` of runs in the folder ``out`` -> their paths."""
    comparison = read_runs(folders)
    paths = [path for figure in draw_comparison(comparison) for path in save(figure, Path(out))]
    return paths + write_tables(comparison_tables(comparison), out, "compare")


# --- tables ---


def method_table(comparison: Comparison) -> pd.DataFrame:
    """A row for each list, number of labelled faces and method: seeds, mean, standard deviation over seeds (NaN for
    one), mean error jitter, and the mean ``difference`` from the full method of ``pairs`` seeds, see
    :meth:`Comparison.paired`.
    """
    rows = []
    for (name, labelled), scores in comparison.paired().groupby(["list", "labelled"], sort=False):
        for method, runs in scores.groupby("method", sort=False):
            paired = runs.difference.dropna()
            row = {
                "list": name,
                "labelled": labelled,
                "method": method,
                "seeds": len(runs),
                "mean": runs.NME.mean(),
                "std": runs.NME.std(ddof=1),
                "error_jitter": runs.error_jitter.mean(),
            }
            row["difference"] = paired.mean() if method != comparison.full and len(paired) else np.nan
            rows.append(row | {"pairs": len(paired) if method != comparison.full else 0})
    return pd.DataFrame(rows)


def comparison_tables(comparison: Comparison) -> dict[str, pd.DataFrame | str]:
    numbers = method_table(comparison)
    text = lambda form: lambda value: "-" if np.isnan(value) else form.format(value)  # noqa: E731
    shown = numbers.assign(
        **{
            "mean": numbers["mean"].map(text("{:.2f}")),
            "std": numbers["std"].map(text("{:.2f}")),
            "error_jitter": numbers.error_jitter.map(text("{:.3f}")),
            "difference": numbers.difference.map(text("{:+.2f}")),
        }
    )
    shown = shown.rename(
        columns={"mean": "NME %", "std": "deviation over seeds", "difference": "difference from the full method"}
    )
    scores = comparison.scores
    shaken = scores.error_jitter.map(text("{:.3f}"))
    runs = scores.drop(columns="init").assign(NME=scores.NME.map("{:.2f}".format), error_jitter=shaken)
    runs = runs.rename(columns={"NME": "NME %"})
    if scores.error_jitter.isna().all():
        shown, runs = shown.drop(columns="error_jitter"), runs.drop(columns="error_jitter")
    shown, runs = (table.rename(columns={"error_jitter": "error jitter %"}) for table in (shown, runs))
    tables: dict[str, pd.DataFrame | str] = {
        f"Methods (NME in {comparison.unit}; full method: {comparison.full})": shown,
        "Runs": runs,
    }
    reasons = {
        f"No {name}": why
        for name, why in (("label-budget curve", _no_budgets(comparison)), ("ablation", _no_ablation(comparison)))
        if why
    }
    if scores.seed.nunique() < 2:
        reasons["No spread"] = "All runs have one seed."
    return tables | {
        title: f"Nothing to show: {why}" if title != "No spread" else why for title, why in reasons.items()
    }


def _no_budgets(comparison: Comparison) -> str:
    counts = comparison.scores.labelled.unique()
    return f"all runs have {counts[0]} labelled faces." if len(counts) < 2 else ""


def _no_ablation(comparison: Comparison) -> str:
    others = [
        method
        for method in comparison.scores.method.unique()
        if method != comparison.full and not method.startswith((INIT, SUPERVISED))
    ]
    if not others:
        return f"all runs have one method, {comparison.full}."
    table = method_table(comparison)
    paired = table[table.method.isin(others)].pairs.any()
    return "" if paired else f"no run of another method has a seed, a budget and an init of a run of {comparison.full}."


# --- drawn ---


@styled
def draw_comparison(comparison: Comparison) -> list[NamedFigure]:
    """Methods with their seeds, NME against labels, what each part is worth; and error jitter against NME, where it is
    known.
    """
    steady = [_draw_steadiness(comparison)] if comparison.scores.error_jitter.notna().any() else []
    return [_draw_methods(comparison), _draw_budgets(comparison), _draw_ablation(comparison), *steady]


def _colours(comparison: Comparison) -> dict[str, str]:
    """The models' own colours for what they are, others for others, which come again where methods are many."""
    methods = list(dict.fromkeys(comparison.scores.method))
    # the bench calls what is trained on labels alone by its method's name
    own = {INIT: MODELS["init"], SUPERVISED: MODELS["supervised"], "supervised": MODELS["supervised"]}
    own.setdefault(comparison.full, MODELS["teacher"])
    own = {method: colour for method, colour in own.items() if method in methods}
    free = [colour for colour in COLOURS if colour not in own.values()]
    others = [method for method in methods if method not in own]
    return own | {method: free[i % len(free)] for i, method in enumerate(others)}


def _looks(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Colour, shape and fill of each method's marker, as matplotlib's options; of two in one colour one is hollow."""
    colours, looks = _colours(comparison), {}
    for place, (method, colour) in enumerate(colours.items()):
        hollow = [*colours.values()][:place].count(colour) % 2
        fill_and_edge = ("white", colour, 1.0) if hollow else (colour, "black", 0.4)
        names = ("markerfacecolor", "markeredgecolor", "markeredgewidth")
        looks[method] = {"color": colour, "marker": MARKS[place % len(MARKS)]} | dict(zip(names, fill_and_edge))
    return looks


def _common_seeds(scores: pd.DataFrame) -> list[int]:
    """Seeds of which all methods of a panel have a run with one init; ``scores``: of :meth:`Comparison.paired`."""
    paired = scores[scores.difference.notna()]
    seeds = [set(paired[paired.method == method].seed) for method in scores.method.unique()]
    return sorted(set.intersection(*seeds))


def _seeds_in_words(seeds: Iterable[int]) -> str:
    seeds = sorted(seeds)
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _legend_below(figure: NamedFigure, handles: Iterable, labels: Iterable[str], **options) -> None:
    """A legend below what is drawn, of at most four columns and no more than fit; the figure grows by its height."""
    options |= {"loc": "outside lower center", "columnspacing": 1}
    handles, labels = list(handles), [fill(_short(label).replace("\n", ": "), 50) for label in labels]
    for columns in range(4, 0, -1):
        legend = figure.legend(handles, labels, ncols=columns, **options)
        box = legend.get_window_extent()
        if box.width < figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def _short(method: str) -> str:
    """A method's name for an axis: below it the first of its settings, and how many more there are."""
    name, *words = method.split(", ")
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    return f"{name}\n{words[0].removeprefix('tsal.')}{more}" if words else name


def _lacking(scores: pd.DataFrame, method: str) -> str:
    """The seeds of a method, to be written after its name, where it has not all of a panel."""
    own = set(scores[scores.method == method].seed)
    return f" ({_seeds_in_words(own)})" if own and own != set(scores.seed) else ""


def _draw_seeds(axes, seeds: Iterable[int], xs: Iterable[float], ys: Iterable[float], colour: str) -> None:
    """Each seed's number at its place."""
    for seed, x, y in zip(seeds, xs, ys):
        axes.plot(x, y, marker=f"${seed}$", markersize=3.5, markeredgewidth=0.2, linestyle="", color=colour)


def _panels(figure: NamedFigure, comparison: Comparison) -> dict[str, Any]:
    lists = list(dict.fromkeys(comparison.scores.list))
    return dict(zip(lists, figure.subplots(1, len(lists), squeeze=False)[0]))


def _width(comparison: Comparison) -> float:
    return COLUMN if comparison.scores.list.nunique() == 1 else TEXT


def _draw_methods(comparison: Comparison) -> NamedFigure:
    """A digit a seed, their mean, and a whisker of one standard deviation each way. A method that lacks seeds of others
    says which it has: it is compared with those digits, not with the means.
    """
    numbers, colours, scores = method_table(comparison), _colours(comparison), comparison.scores
    panels = list(dict.fromkeys(zip(numbers.list, numbers.labelled)))
    methods = [method for method in colours if method in set(numbers.method)]
    by_panel = [scores[(scores.list == name) & (scores.labelled == count)] for name, count in panels]
    names = [[_short(method) + _lacking(panel_runs, method) for method in methods] for panel_runs in by_panel]
    wide = max(len(line) for labels in names for label in labels for line in label.split("\n")) > 30
    columns = 1 if wide else min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = 0.5 + sum(0.12 + 0.11 * (1 + _short(method).count("\n")) for method in methods)
    width = TEXT if wide or columns == 2 else COLUMN
    figure = NamedFigure("compare-methods", width, max(1.3, height) * rows + 0.2, layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, labelled), panel_runs, labels in zip(places, panels, by_panel, names):
        by_method = numbers[(numbers.list == name) & (numbers.labelled == labelled)].set_index("method")
        for place, method in enumerate(methods):
            if method not in by_method.index:
                continue
            row, runs = by_method.loc[method], panel_runs[panel_runs.method == method]
            if len(runs) > 1:
                _draw_seeds(axes, runs.seed, runs.NME, np.full(len(runs), place - 0.3), colours[method])
            looks = {
                "color": colours[method],
                "marker": "D",
                "markersize": 4.5,
                "markeredgecolor": "black",
                "markeredgewidth": 0.4,
            }
            axes.errorbar(row["mean"], place, xerr=np.nan_to_num(row["std"]), capsize=2.5, elinewidth=1, **looks)
        axes.set_yticks(range(len(methods)), labels)
        axes.set(ylim=(len(methods) - 0.5, -0.5), xlabel=f"NME ({comparison.unit})")
        counts = sorted(set(by_method.seeds))
        axes.set_title(
            f"{name}\n{labelled} labelled faces, "
            + (f"{counts[0]} seed{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds")
        )
        axes.margins(x=0.1)
        axes.grid(False, axis="y")
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    if numbers["std"].notna().any():
        figure.supxlabel(fill(WHISKER, 65 if width == COLUMN else 140), fontsize=6.5)
    return figure


def _draw_budgets(comparison: Comparison) -> NamedFigure:
    numbers, looks = method_table(comparison), _looks(comparison)
    figure = NamedFigure("compare-budgets", _width(comparison), 2.2, layout="constrained")
    drawn = {}
    for name, axes in _panels(figure, comparison).items():
        means = numbers[numbers.list == name].sort_values("labelled", kind="stable")
        budgets = means.labelled.unique()
        axes.set_title(name)
        if len(budgets) < 2:
            empty(axes, f"nothing to show:\nall runs have {budgets[0]} labelled faces")
            continue
        for method, rows in means.groupby("method", sort=False):
            spread = np.nan_to_num(rows["std"])
            axes.fill_between(
                rows.labelled,
                rows["mean"] - spread,
                rows["mean"] + spread,
                color=looks[method]["color"],
                alpha=0.15,
                linewidth=0,
            )
            (drawn[method],) = axes.plot(rows.labelled, rows["mean"], markersize=3.5, label=method, **looks[method])
        axes.set(xscale="log", xlabel="labelled faces", ylabel=f"NME\n({comparison.unit})")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(budgets, [str(count) for count in budgets])
    if drawn:
        spread = ", band of one standard deviation each way" * bool(numbers["std"].notna().any())
        _legend_below(figure, drawn.values(), drawn, title=f"means of the seeds{spread}")
    return figure


def _draw_ablation(comparison: Comparison) -> NamedFigure:
    """How much worse (right) or better (left) than the full method, seed by seed and over all budgets."""
    scores, colours = comparison.paired().dropna(subset="difference"), _colours(comparison)
    others = set(comparison.scores.method) - {INIT, comparison.full}
    methods = [method for method in colours if method in others]
    height = max(1.3, 0.65 + 0.3 * len(methods))
    figure = NamedFigure("compare-ablation", _width(comparison), height, layout="constrained")
    for name, axes in _panels(figure, comparison).items():
        changes = scores[scores.list == name].set_index("method").difference
        panel_methods = [method for method in methods if method in changes]
        axes.set_title(name)
        if _no_ablation(comparison) or not panel_methods:
            empty(
                axes,
                "nothing to show:\n"
                + fill(_no_ablation(comparison).removesuffix(".") or "no pair of runs on this list", 40),
            )
            continue
        for place, method in enumerate(panel_methods):
            differences = changes[[method]]
            axes.barh(place, differences.mean(), height=0.55, color=colours[method], alpha=0.75)
            axes.plot(
                differences, np.full(len(differences), place), marker="o", markersize=2.5, linestyle="", color="#222222"
            )
        axes.axvline(0, color="#222222", linewidth=0.7)
        axes.set_yticks(range(len(panel_methods)), map(_short, panel_methods))
        axes.set(
            ylim=(len(panel_methods) - 0.5, -0.5), xlabel=f"NME above that of {comparison.full}\n({comparison.unit})"
        )
        axes.margins(x=0.1)
        axes.grid(False, axis="y")
    return figure


def _draw_steadiness(comparison: Comparison) -> NamedFigure:
    """Error jitter against NME: a marker a method, of the seeds that all methods have, as seeds differ by more than
    methods do; digits are single seeds. Lower and further left is better; a method that only smooths goes down and to
    the right.
    """
    scores, looks = comparison.paired().dropna(subset="error_jitter"), _looks(comparison)
    panels = list(dict.fromkeys(zip(scores.list, scores.labelled)))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = COLUMN if columns == 1 else TEXT
    figure = NamedFigure("compare-steadiness", width, 2.4 * rows, layout="constrained")
    drawn = {}
    for axes, (name, labelled) in zip(figure.subplots(rows, columns, squeeze=False).flat, panels):
        panel_runs = scores[(scores.list == name) & (scores.labelled == labelled)]
        common = _common_seeds(panel_runs)
        for method in (method for method in looks if method in set(panel_runs.method)):
            runs = panel_runs[panel_runs.method == method]
            if len(runs) > 1 or not common:
                _draw_seeds(axes, runs.seed, runs.NME, runs.error_jitter, looks[method]["color"])
            shown = runs[runs.seed.isin(common or runs.seed)]
            options = looks[method] | {"linestyle": "", "markersize": 5}
            (drawn[method],) = axes.plot(shown.NME.mean(), shown.error_jitter.mean(), **options)
        seeds = _seeds_in_words(common) if common else "all seeds of each, which differ"
        digits = "; digits: single seeds" * bool(not common or panel_runs.method.duplicated().any())
        axes.set_title(f"{name}: {labelled} labelled faces\nmarkers: {seeds}{digits}")
        axes.set(xlabel=f"NME\n({comparison.unit})", ylabel="error jitter (%)")
        axes.margins(0.12)
    for axes in figure.axes[len(panels) :]:
        axes.set_axis_off()
    _legend_below(figure, drawn.values(), drawn, handlelength=1)
    return figure
