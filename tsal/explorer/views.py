"""What the explorer of an audit lists and plots, as plain functions of a state; its images are in
:mod:`tsal.explorer.panels`.

Distances are in px of the network's input, errors in % of the normaliser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.patches import Rectangle

from tsal.audit import AUDITED, Audit, motions
from tsal.evaluation import follows, inner_frames, jitter, known_mean
from tsal.figures import MODELS, SOURCE_DASHES, SOURCES, NamedFigure, styled
from tsal.schemes import Scheme

LARGE, SMALL = 396, 192  # px, sides of the crop and of the other panels: all fit where JupyterLab is 1280 px wide
WIDTH = LARGE + 2 * SMALL + 16  # px, of all panels beside one another, and so of the curves under them
SCREEN = 130  # px an inch, of curves on the screen
TRUTH_NAME, EVERY = "ground truth", -1  # what is overlaid beside the sources; the group of all landmarks
MEASURES = {
    "error": "error",
    "disagreement": "disagreement",
    "flow_error": "forward-backward error",
    "gate": "weight in the target",
    "place": "frame of the clip",
    "hidden": "landmarks that are hidden",
    "motion": "motion to the next frame",
}
UNITS = {"error": " (%)", "disagreement": " (px)", "flow_error": " (px)", "hidden": " (%)", "motion": " (%)"}
CURRENT = MODELS["teacher"]  # colour of what marks the frame or the region that is looked at


@dataclass(frozen=True)
class State:
    """What is looked at: a frame (row of the audit's frames), what a model says of it at a step, and which part of
    that.
    """

    model: str
    step: int
    frame: int
    shown: tuple[str, ...]  # of the audit's sources, and TRUTH_NAME
    group: int  # a line of the scheme, a landmark (its number after the lines'), or EVERY
    landmark: int  # whose heatmap


# --- groups of landmarks ---


def group_landmarks(scheme: Scheme, group: int) -> list[int]:
    """Indices of the group's landmarks, in the scheme's order of numbers."""
    if group >= (lines := len(scheme.lines)):
        return [group - lines]
    return list(range(scheme.points)) if group == EVERY else sorted(set(scheme.lines[group][1]))


def group_names(scheme: Scheme) -> list[tuple[str, int]]:
    """What can be looked at alone: all landmarks, each line, each landmark."""
    parts = [name for name, *_ in scheme.lines] + [landmark_name(scheme, i) for i in range(scheme.points)]
    return [("all", EVERY), *((name, number) for number, name in enumerate(parts))]


def landmark_name(scheme: Scheme, landmark: int) -> str:
    return f"{landmark}  {scheme.names[landmark]}" if scheme.names else f"landmark {landmark}"


# --- lists ---


def frame_table(
    audit: Audit, model: str, step: int, landmarks: Sequence[int], consecutive: bool = True
) -> pd.DataFrame:
    """A row for each frame (its number is the index) that the model was audited on, with means over ``landmarks``.

    Columns: clip, place, view; ``error`` (fused, %), ``disagreement``, ``flow_error`` (px), ``gate``, ``hidden`` (% of
    the landmarks of which it is known), ``motion`` (of the labels to the next frame, %), and ``jitter``: length of the
    second difference of the fused points (px), for frames whose image is numbered next to those before and after it.
    Both of the latter if frames are ``consecutive`` (``data.consecutive``). NaN where there is nothing to measure.
    """
    labels, rows = audit.labels(model, step)
    landmarks = list(landmarks)
    table = audit.frames.loc[rows, ["clip", "place", "view"]].copy()
    table["error"] = known_mean(audit.errors(model, "fused", step)[:, landmarks])
    for column, values in (
        ("disagreement", labels.disagreement),
        ("flow_error", labels.flow_error[-1]),
        ("gate", labels.weight),
        ("hidden", np.where(audit.hidden < 0, np.nan, 100.0 * (audit.hidden == 1))[rows]),
        ("motion", motions(audit, consecutive)[rows]),
    ):
        table[column] = known_mean(values[:, landmarks])
    shaking = np.full(len(rows), np.nan)
    points = labels.points[AUDITED.index("fused")][:, landmarks] * audit.frames.zoom.to_numpy()[rows, None, None]
    for place in table.reset_index(drop=True).groupby("view").indices.values():
        shaking[place[1:-1]] = jitter(points[place], 1.0)
    after = follows({"path": audit.frames.image.to_numpy()[rows], "list": table["view"].to_numpy()})
    return table.assign(jitter=np.where(inner_frames(after) & consecutive, shaking, np.nan))


def clip_table(frames: pd.DataFrame, by: str = "") -> pd.DataFrame:
    """Clips (index: the number of their view) with means over their frames, the largest ``by`` first; "": in the
    audit's order.
    """
    groups = frames.groupby("view", sort=False)
    table = groups[["disagreement", "error", "jitter"]].mean().assign(frames=groups.size())
    table.insert(0, "clip", groups["clip"].first())
    return table.sort_values(by, ascending=False, na_position="last", kind="stable") if by else table


def scatter_axes(frames: pd.DataFrame) -> tuple[str, str]:
    """The two columns that frames are spread by at first: disagreement and error; for one that is unknown, the next
    best that is known.
    """
    columns = [name for name in ("disagreement", "flow_error", "gate", "place") if frames[name].notna().any()]
    return columns[0], "error" if frames.error.notna().any() else columns[1]


def known_measures(frames: pd.DataFrame) -> list[tuple[str, str]]:
    """(words, column) of what frames can be spread by: all of MEASURES that is known of a frame."""
    return [(MEASURES[name] + UNITS.get(name, ""), name) for name in MEASURES if frames[name].notna().any()]


def frames_within(frames: pd.DataFrame, ranges: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Frames whose columns all lie in their range (both ends in it), largest values of the last column first."""
    inside = np.all([frames[name].between(*limits) for name, limits in ranges.items()], 0)
    return frames[inside].sort_values(list(ranges)[-1], ascending=False, kind="stable")


def source_distances(
    audit: Audit, state: State, scheme: Scheme, rows: np.ndarray, measured: bool
) -> dict[str, np.ndarray]:
    """Each shown source's, on frames ``rows``: mean error (%), or without labels mean distance (px) from the fused
    points.
    """
    labels, audited_rows = audit.labels(state.model, state.step)
    at, landmarks = np.searchsorted(audited_rows, rows), group_landmarks(scheme, state.group)
    names = [name for name in AUDITED if name in state.shown]
    if measured:
        return {name: known_mean(audit.errors(state.model, name, state.step)[np.ix_(at, landmarks)]) for name in names}
    fused, zoom = labels.points[AUDITED.index("fused")], audit.frames.zoom.to_numpy()[rows, None]
    distances = {}
    for name in names:
        if name != "fused":
            index = AUDITED.index(name)
            distance = zoom * np.linalg.norm(labels.points[index, at] - fused[at], axis=-1)
            distances[name] = known_mean(np.where(labels.valid[index, at], distance, np.nan)[:, landmarks])
    return distances


# --- curves ---


class Plot(NamedTuple):
    """A figure, and those of its artists that move as one looks around."""

    figure: NamedFigure
    moving: tuple[Artist, ...]


class Screen:
    """A plot on the screen: what stays is drawn once and kept, what moves is drawn over it in a millisecond."""

    def __init__(self, plot: Plot):
        self.plot = plot
        for artist in plot.moving:
            artist.set_animated(True)
        self._draw()

    @styled
    def _draw(self) -> None:
        self.plot.figure.set_dpi(SCREEN)
        self.plot.figure.canvas.draw()
        self.background = self.plot.figure.canvas.copy_from_bbox(self.plot.figure.bbox)

    def image(self) -> np.ndarray:
        canvas = self.plot.figure.canvas
        canvas.restore_region(self.background)
        for artist in self.plot.moving:
            artist.axes.draw_artist(artist)
        return np.array(canvas.buffer_rgba())[..., :3]


@styled
def draw_series(audit: Audit, scheme: Scheme, state: State, frames: pd.DataFrame, unit: str) -> Plot:
    """Over the clip of the state's frame: each shown source's error (distance from fused without labels), and what
    predicts it.

    ``frames``: :func:`frame_table` of the model; ``unit`` of errors, "" where there are no labels.
    """
    clip = frames[frames["view"] == frames["view"].loc[state.frame]]
    figure = NamedFigure("explorer-series", WIDTH / SCREEN, 2.3)
    errors, disagreement = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    figure.subplots_adjust(left=0.075, right=0.765, top=0.965, bottom=0.16, hspace=0.12)
    place = clip.place.to_numpy()
    for name, values in source_distances(audit, state, scheme, clip.index.to_numpy(), bool(unit)).items():
        label = name.replace("_", " ")
        errors.plot(
            place, values, color=SOURCES[name], linestyle=SOURCE_DASHES[name], marker="o", markersize=2, label=label
        )
    for name, colour, dashes in (("disagreement", MODELS["supervised"], "-"), ("flow_error", MODELS["init"], "--")):
        disagreement.plot(
            place, clip[name], color=colour, linestyle=dashes, marker="o", markersize=2, label=MEASURES[name]
        )
    errors.set_ylabel("error (%)" if unit else "from fused (px)")
    disagreement.set(ylabel="px of the input", xlabel="frame of the clip", xlim=(-0.5, max(place) + 0.5))
    disagreement.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for axes in (errors, disagreement):
        axes.set_ylim(0, max(1e-3, 1.08 * axes.dataLim.y1) if np.isfinite(axes.dataLim.y1) else 1)
        if axes.lines:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), borderaxespad=0.3, handlelength=1.6)
    figure.align_ylabels()
    now = audit.frames.place.loc[state.frame]
    return Plot(
        figure, tuple(axes.axvline(now, color=CURRENT, linewidth=1.2, alpha=0.8) for axes in (errors, disagreement))
    )


def move_series(plot: Plot, place: int) -> None:
    for line in plot.moving:
        line.set_xdata([place, place])


@styled
def draw_scatter(frames: pd.DataFrame, unit: str, x: str, y: str) -> Plot:
    """Every frame by two columns. Moving: the region, the frames in it, the frame that is looked at."""
    figure = NamedFigure("explorer-frames", 3.9, 2.9)
    axes = figure.add_axes((0.15, 0.135, 0.83, 0.845))
    axes.plot(frames[x], frames[y], linestyle="", marker="o", markersize=3, color="#b5b5b5", markeredgewidth=0)
    axes.set(xlabel=measure_label(x, unit), ylabel=measure_label(y, unit))
    axes.set(xlim=range_limits(frames[x], 0.03), ylim=range_limits(frames[y], 0.03))
    region = axes.add_patch(Rectangle((0, 0), 0, 0, facecolor=CURRENT, alpha=0.1, edgecolor="none"))
    inside, current = (axes.plot([], [], linestyle="", marker="o")[0] for _ in "ic")
    inside.set(markersize=3, color=MODELS["supervised"], markeredgewidth=0)
    current.set(markersize=7, markerfacecolor="none", markeredgewidth=1.6, markeredgecolor=CURRENT)
    return Plot(figure, (region, inside, current))


def move_scatter(plot: Plot, frames: pd.DataFrame, ranges: dict[str, tuple[float, float]], frame: int) -> None:
    """Show the region ``ranges`` (of x and y), the frames in it, and where ``frame`` is."""
    region, inside, current = plot.moving
    (x, y), ((left, right), (low, high)) = ranges, ranges.values()
    region.set_bounds(left, low, right - left, high - low)
    chosen = frames_within(frames, ranges)
    inside.set_data(chosen[x], chosen[y])
    current.set_data(frames.loc[[frame], x], frames.loc[[frame], y])


def measure_label(name: str, unit: str) -> str:
    if name == "error":
        return f"error of the fused points\n({unit})"
    return MEASURES[name] + UNITS.get(name, "").replace("px", "px of the input")


def range_limits(values: pd.Series, margin: float = 0.0) -> tuple[float, float]:
    """From 0 to the largest value, rounded up to a hundredth; ``margin``: so much of it more on both sides."""
    top = max(0.01, np.ceil(100 * float(values.max())) / 100) if values.notna().any() else 1.0
    return -margin * top, (1 + margin) * top
