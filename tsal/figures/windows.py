"""Target error against the length of the window that the targets are made from."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MultipleLocator

from tsal.evaluation import NORMALISERS
from tsal.figures.style import SOURCES, TEXT, NamedFigure, styled

BOUND = "#222222"
LOOKS = {  # of a kind of targets: colour, dashes, marker
    "window": (SOURCES["propagated"], "--", "o"),
    "window, trust": (SOURCES["propagated"], "-", "o"),
    "Gaussian in time": ("#949494", "-", "s"),
    "perfect tracks": (BOUND, ":", "^"),
    "perfect tracks, trust": (BOUND, "-.", "^"),
    "frame alone": (SOURCES["heatmap"], "-", ""),
    "previous frame, carried": (SOURCES["centre"], "", "X"),
    "previous frame, reconstructed": (SOURCES["tracked_heatmap"], "", "P"),
}


@styled
def draw_windows(table: pd.DataFrame) -> NamedFigure:
    """Each detector's targets against the window, in frames to either side: NME, how a clip's NME changes from that of
    the frame alone (median over clips: hard clips weigh no more than others), and error jitter.

    Lines begin at the frame alone, window 0. A Gaussian leaves the panels of NME, as it errs far more.

    Args:
        table: rows with ``detector``, ``targets`` (a name of ``LOOKS``), ``window``, ``NME`` and ``error_jitter`` (%),
            and ``clips``, NME of each clip (%).
    """
    detectors = list(dict.fromkeys(table.detector))
    figure = NamedFigure("windows", TEXT, 5.6, layout="constrained")
    panels = figure.subplots(3, len(detectors), sharex=True, squeeze=False)
    for detector, column in zip(detectors, panels.T):
        rows = table[table.detector == detector].copy()
        before = np.array(rows.loc[rows.targets == "frame alone", "clips"].iloc[0])
        rows["change"] = [100 * (np.nanmedian(np.array(clips) / before) - 1) for clips in rows.clips]
        for axes, number in zip(column, ("NME", "change", "error_jitter")):
            _draw_kinds(axes, rows, number)
            if number != "error_jitter":
                inside = rows.loc[rows.targets != "Gaussian in time", number]
                room = max(float(inside.max() - inside.min()), 0.1)
                axes.set_ylim(inside.min() - 0.08 * room, inside.max() + 0.25 * room)
        column[0].set_title(detector)
        column[-1].set(xlabel="window (frames to either side)", ylim=(0, None))
        column[-1].xaxis.set_major_locator(MultipleLocator(1))
    panels[0, 0].set_ylabel(f"NME of targets\n(% of {NORMALISERS['ocular']})")
    panels[1, 0].set_ylabel("change of a clip's NME\n(%, median over clips)")
    panels[2, 0].set_ylabel("error jitter\nof targets (%)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _draw_kinds(axes, table: pd.DataFrame, number: str) -> None:
    """A column of one detector's rows against the window, a line or a marker for each kind of targets."""
    start = float(table.loc[table.targets == "frame alone", number].iloc[0])
    for kind, (colour, dashes, marker) in LOOKS.items():
        rows = table[table.targets == kind].sort_values("window")
        if rows.empty:
            continue
        looks = {"color": colour, "label": kind, "markersize": 3}
        if kind == "frame alone":
            axes.axhline(start, linewidth=0.8, zorder=1, **looks)
        elif not dashes:
            axes.plot(rows.window, rows[number], marker, **looks | {"markersize": 4.5}, markeredgewidth=0)
        else:
            axes.plot([0, *rows.window], [start, *rows[number]], marker=marker, linestyle=dashes, **looks)
