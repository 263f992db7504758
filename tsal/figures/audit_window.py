"""The window in an audit: what a frame's neighbours say of it, against what the detector says on the frame itself."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import NullFormatter

from tsal.audit import Audit
from tsal.figures.style import (
    SOURCE_DASHES,
    SOURCES,
    TEXT,
    NamedFigure,
    binned,
    coverage,
    equal_bins,
    headroom,
    styled,
    unit,
)
from tsal.run import Run

SHOWN = {"heatmap": "frame's own", "propagated": "neighbours'", "fused": "fused"}
GATES = {  # of the neighbours' points: colours
    "near the frame's own point": SOURCES["heatmap"],
    "many votes": SOURCES["propagated"],
    "small forward-backward error": SOURCES["tracked_heatmap"],
}


def neighbours_speak(audit: Audit) -> bool:
    """Whether the last teacher's neighbours say anything of a labelled landmark."""
    return bool(np.isfinite(audit.errors("teacher", "propagated")).any())


def apart(audit: Audit, model: str) -> np.ndarray:
    """(N', K) px of the input between a frame's heatmap point and its neighbours'; NaN where they say nothing."""
    labels, rows = audit.labels(model)
    heatmap, propagated = (labels.points[audit.sources.index(name)] for name in ("heatmap", "propagated"))
    distance = np.linalg.norm(heatmap - propagated, axis=-1) * audit.frames.zoom.to_numpy()[rows, None]
    return np.where(labels.valid[audit.sources.index("propagated")], distance, np.nan)


@styled
def draw_window(run: Run, audit: Audit) -> NamedFigure:
    """``pseudo-window``: of the teacher, where neighbours speak: error of its own points, its neighbours' and their
    fusion by how far own and neighbours' are apart; how often the other two are nearer to the label than its own, by
    the neighbours' votes; and the mean error of the neighbours' points that a gate keeps, up to all that they know.
    """
    figure = NamedFigure("pseudo-window", TEXT, 2.7, layout="constrained")
    agreement, nearer, gates = figure.subplots(1, 3)
    distance, votes = apart(audit, "teacher"), audit.labels("teacher")[0].votes
    spoken = np.isfinite(distance)
    errors = {name: np.where(spoken, audit.errors("teacher", name), np.nan) for name in SHOWN}
    for name, words in SHOWN.items():
        binned(agreement, distance, errors[name], SOURCES[name], SOURCE_DASHES[name], words, band=False)
    agreement.set(title="error by agreement", xlabel="own and neighbours' point apart\n(px of the input)")
    if (distance > 0).any():
        agreement.set_xscale("log")
    agreement.xaxis.set_major_formatter("{x:g}")
    agreement.xaxis.set_minor_formatter(NullFormatter())
    agreement.set_ylabel(f"median error\n({unit(run)})")
    known = np.isfinite(errors["propagated"])
    bins = equal_bins(votes[known])
    for name in ("propagated", "fused"):
        share = (errors[name] < errors["heatmap"])[known]
        looks = {"color": SOURCES[name], "linestyle": SOURCE_DASHES[name], "label": SHOWN[name]}
        x, y = zip(*((np.median(votes[known][part]), 100 * share[part].mean()) for part in bins))
        nearer.plot(x, y, marker="o", markersize=2, **looks)
    nearer.axhline(50, color="#b0b0b0", linewidth=0.7, zorder=1)
    nearer.set(
        title="who is nearer to the label", xlabel="votes of the neighbours\n(sum; 1 each at most)", ylim=(0, 100)
    )
    nearer.set_ylabel("nearer than the frame's own (%)")
    _draw_gates(gates, audit, distance)
    for axes in (agreement, gates):
        axes.set_ylim(0, None)
        headroom(axes, 0.3)
    for axes in figure.axes:
        axes.legend(loc="upper left")
    return figure


def _draw_gates(axes, audit: Audit, distance: np.ndarray) -> None:
    """Mean error of the neighbours' points that a gate keeps, against the share of all measured landmarks kept."""
    labels, error = audit.labels("teacher")[0], audit.errors("teacher", "propagated")
    measured = np.isfinite(audit.errors("teacher", "heatmap")).sum()
    track = labels.flow_error[audit.sources.index("propagated")]
    scores = dict(zip(GATES, (distance, -labels.votes, track))) | {"true error (bound)": error}
    for name, score in scores.items():
        use = np.isfinite(score) & np.isfinite(error)
        if use.any():
            share, mean = coverage(score[use], error[use])
            looks = {"color": GATES.get(name, "#949494"), "linestyle": "-" if name in GATES else ":"}
            axes.plot(100 * share * use.sum() / measured, mean, label=name, **looks)
    axes.set(xlabel="landmarks that the gate keeps (%)", title="gates on the neighbours' points", xlim=(0, 100))
    axes.set_ylabel("mean error of those kept (%)")
