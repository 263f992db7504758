"""What each part of TSAL adds: the method without it against the method, paired over faces and seeds."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd

from tsal.figures.colours import MODELS
from tsal.figures.style import COLUMN, TEXT, NamedFigure, styled

MEASURES = {"NME": "NME", "error_jitter": "error jitter", "flow_jitter": "flow jitter"}


@styled
def draw_parts(table: pd.DataFrame, unit: str) -> NamedFigure:
    """``compare-parts``: a row for each part left out, a panel for each list and measure.

    A marker is the mean difference from ``tsal``, dots are the seeds, a whisker is the 95 % interval where there is
    one. A marker is filled where the interval leaves 0 out, but not that of a single seed, which does not say how much
    seeds differ. Right of 0 the part helps.

    Args:
        table: rows with ``list``, ``part`` (a name), ``measure`` (of ``MEASURES``), ``mean``, ``low``, ``high`` (%; NaN
            where there is no interval) and ``seeds`` (the differences of the seeds).
        unit: of NME, in words.
    """
    lists = list(dict.fromkeys(table.list))
    measures = [name for name in MEASURES if name in set(table.measure)]
    first = table[(table.list == lists[0]) & (table.measure == measures[0])].sort_values("mean", ascending=False)
    parts = list(dict.fromkeys([*first.part, *table.part]))  # what adds most comes first
    height = len(lists) * (0.75 + 0.19 * len(parts)) + 0.35
    width = COLUMN if len(measures) == 1 else TEXT
    figure = NamedFigure("compare-parts", width, height, layout="constrained")
    panels = figure.subplots(len(lists), len(measures), squeeze=False, sharey=True)
    for name, row in zip(lists, panels):
        for measure, axes in zip(measures, row):
            mine = table[(table.list == name) & (table.measure == measure)]
            axes.set_yticks(range(len(parts)), [f"no {part}" for part in parts])
            axes.set(ylim=(len(parts) - 0.5, -0.5), title=MEASURES[measure])
            axes.grid(False, axis="y")
            if mine.empty:
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#777777")
                axes.set_xticks([])
                continue
            axes.axvline(0, color="#222222", linewidth=0.7)
            for one in mine.itertuples():
                _draw_part(axes, parts.index(one.part), one)
            axes.set_xlabel(f"without the part, less TSAL\n({unit if measure == 'NME' else '%'})")
            axes.margins(x=0.1)
        row[0].set_ylabel(name)
    alone = " (one seed: over clips alone)" * bool((table.seeds.map(len) == 1).any())
    bare = "; no whisker: too few seeds" * bool(table.low.isna().any())
    key = (
        f"right of 0 the part helps; whisker: 95 % interval over seeds, and of NME over clips{alone}",
        f"filled: it leaves 0 out, of several seeds{bare}",
    )
    figure.supxlabel("\n".join(fill(line, 75 if width == COLUMN else 150) for line in key), fontsize=6.5)
    return figure


def _draw_part(axes, place: int, one) -> None:
    """A row of :func:`draw_parts`."""
    sure = len(one.seeds) > 1 and (one.low > 0 or one.high < 0)
    colour = MODELS["teacher"] if sure else "#707070"
    if len(one.seeds) > 1:
        axes.plot(one.seeds, np.full(len(one.seeds), place), "o", markersize=2, color=colour, alpha=0.6)
    if np.isfinite(one.low):
        axes.plot((one.low, one.high), (place, place), "-", linewidth=1, color=colour)
    looks = {"color": colour, "markersize": 4.5, "markerfacecolor": colour if sure else "white"}
    axes.plot(one.mean, place, "D", markeredgewidth=0.8, **looks)
