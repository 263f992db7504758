"""What each part of TSAL adds: the method without it against the method, paired over faces and seeds."""

from __future__ import annotations

from textwrap import fill

import numpy as np
import pandas as pd

from tsal.figures.colours import MODELS
from tsal.figures.style import COLUMN, TEXT, NamedFigure, styled

CUT = 2  # an axis ends at so many times its second largest effect at most: one huge one would hide all others
MEASURES = {"NME": "NME", "error_jitter": "error jitter", "flow_jitter": "flow jitter"}


@styled
def draw_parts(table: pd.DataFrame, unit: str) -> NamedFigure:
    """``compare-parts``: a row for each part left out, a panel for each list and measure.

    A marker is the mean difference from ``tsal``, dots are the seeds, a whisker is the 95 % interval where there is
    one. A marker is filled where the interval leaves 0 out and is of three seeds or more: fewer do not say how much
    seeds differ. Right of 0 the part helps. Where one part's numbers reach ``CUT`` times as far as any other's, the
    axis ends there, and an arrow has the numbers beside it.

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
    cut = False
    panels = figure.subplots(len(lists), len(measures), squeeze=False, sharey=True)
    for name, row in zip(lists, panels):
        for measure, axes in zip(measures, row):
            effects = table[(table.list == name) & (table.measure == measure)]
            axes.set_yticks(range(len(parts)), [f"no {part}" for part in parts])
            axes.set(ylim=(len(parts) - 0.5, -0.5), title=MEASURES[measure])
            axes.grid(False, axis="y")
            if effects.empty:
                axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#777777")
                axes.set_xticks([])
                continue
            axes.axvline(0, color="#222222", linewidth=0.7)
            end = _end(effects)
            cut |= np.isfinite(end)
            for effect in effects.itertuples():
                _draw_part(axes, parts.index(effect.part), effect, end)
            axes.set_xlabel(f"without the part, less TSAL\n({unit if measure == 'NME' else '%'})")
            axes.margins(x=0.1)
        row[0].set_ylabel(name)
    alone = " (one seed: over clips alone)" * bool((table.seeds.map(len) == 1).any())
    bare = "; no whisker: too few seeds" * bool(table.low.isna().any())
    key = (
        f"right of 0 the part helps; whisker: 95 % interval over seeds, and of NME over clips{alone}",
        f"filled: it leaves 0 out, of three seeds or more{bare}"
        + "; arrow: the axis ends before these numbers" * bool(cut),
    )
    figure.supxlabel("\n".join(fill(line, 75 if width == COLUMN else 150) for line in key), fontsize=6.5)
    return figure


def _numbers(effect) -> list[float]:
    """All that is drawn of a part."""
    return [number for number in (effect.mean, effect.low, effect.high, *effect.seeds) if np.isfinite(number)]


def _end(effects: pd.DataFrame) -> float:
    """Where a panel's axis ends, left and right; inf where nothing is cut."""
    *_, second, largest = sorted([0.0, *(max(map(abs, _numbers(effect))) for effect in effects.itertuples())])
    return CUT * second if 0 < CUT * second < largest else np.inf


def _draw_part(axes, place: int, effect, end: float) -> None:
    """A row of :func:`draw_parts`; beyond ``end`` there are arrows."""
    sure = len(effect.seeds) > 2 and (effect.low > 0 or effect.high < 0)
    colour = MODELS["teacher"] if sure else "#707070"
    if len(effect.seeds) > 1:
        seeds = [seed for seed in effect.seeds if abs(seed) <= end]
        axes.plot(seeds, np.full(len(seeds), place), "o", markersize=1.5, color=colour, alpha=0.6)
    if np.isfinite(effect.low):
        axes.plot(np.clip((effect.low, effect.high), -end, end), (place, place), "-", linewidth=1, color=colour)
    looks = {"color": colour, "markersize": 3, "markerfacecolor": colour if sure else "white", "markeredgewidth": 0.7}
    if abs(effect.mean) <= end:
        axes.plot(effect.mean, place, "D", **looks)
    beyond = [side for side in (-1, 1) if max(side * number for number in _numbers(effect)) > end]
    for side in beyond:
        axes.plot(side * end, place, "<>"[side > 0], **looks)
    if beyond:
        side = beyond[-1]
        interval = f" ({effect.low:.2f} to {effect.high:.2f})" * bool(np.isfinite(effect.low))
        options = {"textcoords": "offset points", "fontsize": 6, "ha": "right" if side > 0 else "left"}
        axes.annotate(f"{effect.mean:.2f}{interval}", (side * end, place), (0, 2.5), **options)
