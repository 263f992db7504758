"""Errors of pseudo-labels by what happens to a landmark: whether the frame hides it, and how far it moves."""

from __future__ import annotations

import numpy as np
from matplotlib.patches import Patch

from tsal.audit import Audit, condition_table, motions
from tsal.figures.style import (
    COLUMN,
    SOURCE_DASHES,
    SOURCES,
    TEXT,
    NamedFigure,
    equal_bins,
    headroom,
    styled,
    unit,
)
from tsal.run import Run

BINS = 8  # of equally many landmarks, by motion


@styled
def draw_conditions(run: Run, audit: Audit) -> list[NamedFigure]:
    """``pseudo-conditions``: mean error of the teacher's sources on shown and on hidden landmarks, and by how far a
    landmark moves to the next frame; a panel of what is known. Nothing where neither is.
    """
    table = condition_table(audit, run.config.data.consecutive)
    table = table[table.model == "teacher"].set_index("condition")
    hidden, moved = "hidden" in table.index, motions(audit, run.config.data.consecutive)
    moves = bool(np.isfinite(moved[audit.labels("teacher")[1]]).any())
    if not hidden and not moves:
        return []
    both = hidden and moves
    figure = NamedFigure("pseudo-conditions", TEXT if both else COLUMN, 2.6, layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(1, 1 + both)))
    panels[0].set_ylabel(f"mean error of a landmark\n({unit(run)})")
    if hidden:
        _draw_occlusion(panels[0], audit, table)
    if moves:
        _draw_motion(panels[-1], audit, moved)
    return [figure]


def _draw_occlusion(axes, audit: Audit, table) -> None:
    """A pair of bars a source; that of hidden landmarks is hatched."""
    for at, source in enumerate(audit.sources):
        for side, name in ((-0.2, "shown"), (0.2, "hidden")):
            looks = {"hatch": "/////", "edgecolor": "white", "linewidth": 0} if name == "hidden" else {}
            value = table.loc[name, source]
            axes.bar(at + side, value, width=0.38, color=SOURCES[source], **looks)
            if np.isfinite(value):
                axes.text(at + side, value, f"{value:.1f}", ha="center", va="bottom", fontsize=5.5)
    axes.set_xticks(range(len(audit.sources)), [name.replace("_", "\n") for name in audit.sources])
    axes.tick_params(axis="x", length=0)
    axes.grid(False, axis="x")
    axes.set_title("by occlusion (teacher)")
    headroom(axes, 0.2)
    keys = [
        Patch(facecolor="#949494", label=f"shown ({100 * table.share['shown']:.0f} %)"),
        Patch(
            facecolor="#949494", hatch="/////", edgecolor="white", label=f"hidden ({100 * table.share['hidden']:.0f} %)"
        ),
    ]
    axes.legend(handles=keys, loc="upper left", ncols=2)


def _draw_motion(axes, audit: Audit, moved: np.ndarray) -> None:
    """A line a source: means of equally many landmarks, by how far they move."""
    moved = moved[audit.labels("teacher")[1]]
    for source in audit.sources:
        error = audit.errors("teacher", source)
        use = np.isfinite(moved) & np.isfinite(error)
        if use.any():
            bins = equal_bins(moved[use], BINS)
            x, y = zip(*((np.median(moved[use][part]), error[use][part].mean()) for part in bins))
            looks = {"color": SOURCES[source], "linestyle": SOURCE_DASHES[source], "label": source.replace("_", " ")}
            axes.plot(x, y, marker="o", markersize=2, **looks)
    axes.set(xlabel="motion of the landmark to the next frame\n(% of the same; equally many landmarks a dot)")
    axes.set_title("by motion (teacher)")
    axes.set_ylim(0, None)
    headroom(axes, 0.3)
    axes.legend(loc="upper left", ncols=2)
