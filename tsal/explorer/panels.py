"""The images that the explorer of an audit shows of a frame: a state -> crop with points, heatmap, flow, occlusion.

Images are RGB uint8; points and flow are in px of the network's input.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.colors import to_rgb

from tsal.audit import AUDITED, Audit
from tsal.explorer.views import EVERY, LARGE, SMALL, TRUTH_NAME, State, group_landmarks, landmark_name
from tsal.figures import SOURCES, TRUTH, NamedFigure, draw_face, flow_colours, styled
from tsal.geometry import apply_affine
from tsal.schemes import Scheme

HEAT = cv2.COLORMAP_INFERNO


class Panel(NamedTuple):
    image: np.ndarray  # (side, side, 3)
    title: str
    note: str


def panels(audit: Audit, view: dict[str, np.ndarray], scheme: Scheme, state: State) -> dict[str, Panel]:
    """The five panels of a frame; ``view`` is the audit's view of its clip."""
    place = int(audit.frames.place.loc[state.frame])
    return {
        "crop": _crop_panel(audit, view, scheme, state, place),
        "heatmap": _heatmap_panel(audit, view, scheme, state, place),
        "flow": _flow_panel(view, place),
        "occlusion": _occlusion_panel(view, place),
        "forward-backward": _error_panel(view, place),
    }


def frame_points(
    audit: Audit, view: dict[str, np.ndarray], state: State
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """{source: (K, 2) px of the input, NaN where it says nothing}, and labels (K, 2), NaN where hidden; None without
    any.
    """
    labels, rows = audit.labels(state.model, state.step)
    at = int(np.searchsorted(rows, state.frame))
    points = {
        name: np.where(labels.valid[index, at][:, None], apply_affine(view["affine"], labels.points[index, at]), np.nan)
        for index, name in enumerate(AUDITED)
    }
    visible = audit.visible[state.frame]
    truth = np.where(visible[:, None], apply_affine(view["affine"], audit.truth[state.frame]), np.nan)
    return points, truth if visible.any() else None


def _crop_panel(audit: Audit, view: dict[str, np.ndarray], scheme: Scheme, state: State, place: int) -> Panel:
    image = _enlarged(view["images"][place], LARGE)
    zoom = LARGE / view["images"].shape[1]
    points, truth = frame_points(audit, view, state)
    target = points["fused"] if truth is None else truth
    landmarks = group_landmarks(scheme, state.group)
    lines = [line[1:] for number, line in enumerate(scheme.lines) if state.group in (EVERY, number)]
    shown = [name for name in AUDITED if name in state.shown]
    for name in shown:  # beneath the points
        segments = _segments(points[name][landmarks], target[landmarks], zoom)
        cv2.polylines(image, segments, False, _rgb(SOURCES[name]), 1, cv2.LINE_AA, 4)
    if truth is not None and TRUTH_NAME in state.shown:
        _draw_points(image, truth, zoom, lines, landmarks, TRUTH)
    for name in shown:
        _draw_points(image, points[name], zoom, lines, landmarks, SOURCES[name])
    _ring(image, target[state.landmark], zoom)
    votes = frame_votes(audit, view, state, place) if "propagated" in shown else {}
    for vote, point in votes.values():
        centre, radius = tuple(map(int, _fixed(point, zoom))), round(16 * (1 + 3 * vote))
        cv2.circle(image, centre, radius, _rgb(SOURCES["propagated"]), 1, cv2.LINE_AA, 4)
    said = ", ".join(f"{by:+d}: {vote:.2f}" if by else f"own: {vote:.2f}" for by, (vote, _) in sorted(votes.items()))
    goal = "the fused points" if truth is None else "the ground truth"
    note = f"thin lines lead to {goal}; ring: the landmark"
    return Panel(image, "points", f"votes for it: {said}" if votes else note)


def frame_votes(
    audit: Audit, view: dict[str, np.ndarray], state: State, place: int
) -> dict[int, tuple[float, np.ndarray]]:
    """Who votes for the state's landmark in a frame of the window: {frames away: (vote, the point (2,) px that it
    carries there)}, 0 for the frame itself; empty for a model before the last step, and where no frame has neighbours.
    """
    votes, carried = (view.get(f"{name}_{state.model}") for name in ("votes", "carried"))
    if votes is None or state.step != audit.steps(state.model)[-1]:
        return {}
    points, landmark = frame_points(audit, view, state)[0], state.landmark
    voters = {0: (float(view[f"own_{state.model}"][place, landmark]), points["heatmap"][landmark])}
    for row in np.flatnonzero(view["voted"] == place):
        by = int(view["voters"][row]) - place
        voters[by] = float(votes[row, landmark]), carried[row, landmark].astype(np.float32)
    return voters


def _heatmap_panel(audit: Audit, view: dict[str, np.ndarray], scheme: Scheme, state: State, place: int) -> Panel:
    """The model's heatmap of the landmark, enlarged over the grey crop."""
    grey = np.repeat(view["images"][place].mean(-1, keepdims=True), 3, 2)
    says = {0: ", shown", 1: ", hidden"}.get(int(audit.hidden[state.frame, state.landmark]), "")
    title, maps = landmark_name(scheme, state.landmark) + says, view.get(f"heatmaps_{state.model}")
    if maps is None or state.step != audit.steps(state.model)[-1]:
        return Panel(_enlarged((0.35 * grey).astype(np.uint8), SMALL), title, "heatmap: last step alone")
    heat = cv2.resize(maps[place, state.landmark], (SMALL, SMALL), interpolation=cv2.INTER_LINEAR)
    share = np.sqrt(heat[..., None] / 255)  # faint parts stay in sight
    image = ((1 - share) * 0.6 * _enlarged(grey.astype(np.uint8), SMALL) + share * _colours(heat)).astype(np.uint8)
    points, truth = frame_points(audit, view, state)
    zoom = SMALL / grey.shape[0]
    for name in AUDITED:
        if name in state.shown:
            _dot(image, points[name][state.landmark], zoom, SOURCES[name])
    if truth is not None and TRUTH_NAME in state.shown:
        _dot(image, truth[state.landmark], zoom, TRUTH)
    return Panel(image, title, "heatmap over its maximum")


def _flow_panel(view: dict[str, np.ndarray], place: int) -> Panel:
    title = "flow to the next frame"
    if (missing := _without_next(view, place)) is not None:
        return Panel(missing[0], title, missing[1])
    length = np.hypot(view["flow"][:, 0].astype(np.float32), view["flow"][:, 1])
    longest = max(float(np.quantile(length, 0.99)), 0.1)
    image = _enlarged((255 * flow_colours(view["flow"][place].astype(np.float32), longest)).astype(np.uint8), SMALL)
    side = np.linspace(-1, 1, 43)
    wheel = np.stack(np.meshgrid(side, side))
    disc = (np.hypot(*wheel) <= 1)[..., None]
    corner = image[-47:-4, 4:47]
    corner[:] = np.where(disc, 255 * flow_colours(wheel, 1.0), corner)
    cv2.circle(image, (25, SMALL - 26), 22, (90, 90, 90), 1, cv2.LINE_AA)
    return Panel(image, title, f"edge of the wheel: {longest:.1f} px")


def _occlusion_panel(view: dict[str, np.ndarray], place: int) -> Panel:
    title = "hidden in the next frame"
    if (missing := _without_next(view, place)) is not None:
        return Panel(missing[0], title, missing[1])
    hidden = cv2.resize(view["occluded"][place].astype(np.float32), (SMALL, SMALL), interpolation=cv2.INTER_NEAREST)[
        ..., None
    ]
    image = _enlarged(view["images"][place], SMALL)
    image = np.where(hidden > 0, 0.3 * image + 0.7 * np.array(_rgb(SOURCES["tracked_heatmap"])), image)
    return Panel(image.astype(np.uint8), title, f"orange: {100 * view['occluded'][place].mean():.0f} % of the crop")


def _error_panel(view: dict[str, np.ndarray], place: int) -> Panel:
    title = "forward-backward error"
    if (missing := _without_next(view, place)) is not None:
        return Panel(missing[0], title, missing[1])
    errors = view["forward_backward_error"].astype(np.float32)
    limit = max(float(np.quantile(errors, 0.98)), 0.1)
    shade = np.clip(255 * errors[place] / limit, 0, 255).astype(np.uint8)
    return Panel(_colours(_enlarged(shade, SMALL)), title, f"black: 0, yellow: {limit:.1f} px")


def _without_next(view: dict[str, np.ndarray], place: int) -> tuple[np.ndarray, str] | None:
    """What is shown instead of the flow where there is none: the darkened frame, and why."""
    frames = view["images"]
    if "flow" in view and place < len(view["flow"]):
        return None
    why = "the clip's last frame" if len(frames) > 1 else "a photograph"
    return _enlarged((0.35 * frames[place]).astype(np.uint8), SMALL), why


def _enlarged(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)


def _colours(shade: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.applyColorMap(shade, HEAT), cv2.COLOR_BGR2RGB)


@cache
def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(round(255 * value) for value in to_rgb(colour))


def _fixed(points: np.ndarray, zoom: float) -> np.ndarray:
    """Points of the input -> points of the enlarged image in sixteenths of a px, as OpenCV draws them."""
    return np.round(16 * np.clip((points + 0.5) * zoom - 0.5, -2000, 2000)).astype(np.int32)


def _segments(start: np.ndarray, end: np.ndarray, zoom: float) -> list[np.ndarray]:
    known = np.isfinite(start).all(-1) & np.isfinite(end).all(-1)
    return list(np.stack([_fixed(start[known], zoom), _fixed(end[known], zoom)], 1))


def _draw_points(
    image: np.ndarray, points: np.ndarray, zoom: float, lines: list, landmarks: list[int], colour: str
) -> None:
    """As :func:`tsal.figures.style.draw_landmarks` does on axes."""
    parts, width = [], 1 if colour == TRUTH else 2
    for indices, closed in lines:
        way = points[list(indices + indices[:closed])]
        parts += _segments(way[:-1], way[1:], zoom)
    rims = cv2.polylines(image.copy(), parts, False, _rim(colour), width + 2, cv2.LINE_AA, 4)
    cv2.addWeighted(rims, 0.55, image, 0.45, 0, dst=image)
    cv2.polylines(image, parts, False, _rgb(colour), width, cv2.LINE_AA, 4)
    for landmark in landmarks:
        _dot(image, points[landmark], zoom, colour, radius=2 if lines else 3)


def _dot(image: np.ndarray, point: np.ndarray, zoom: float, colour: str, radius: int = 3) -> None:
    if np.isfinite(point).all():
        centre = tuple(map(int, _fixed(point, zoom)))
        cv2.circle(image, centre, 16 * radius + 8, _rim(colour), -1, cv2.LINE_AA, 4)
        cv2.circle(image, centre, 16 * radius, _rgb(colour), -1, cv2.LINE_AA, 4)


def _rim(colour: str) -> tuple[int, ...]:
    return (255, 255, 255) if colour == SOURCES["fused"] else (0, 0, 0)


def _ring(image: np.ndarray, point: np.ndarray, zoom: float) -> None:
    if np.isfinite(point).all():
        centre = tuple(map(int, _fixed(point, zoom)))
        cv2.circle(image, centre, 16 * 11, (0, 0, 0), 3, cv2.LINE_AA, 4)
        cv2.circle(image, centre, 16 * 11, (255, 255, 255), 1, cv2.LINE_AA, 4)


# --- the same as a static figure ---


@styled
def draw_panels(drawn: dict[str, Panel], name: str) -> NamedFigure:
    """The panels as the explorer lays them out."""
    side, gap, head = 1.55, 0.08, 0.34  # inches
    large = 2 * side + gap + head
    width, height = large + 2 * (gap + side), large + head
    figure = NamedFigure("explorer-panels", width, height)
    small = [(large + gap + i * (side + gap), j * (side + head + gap), side) for j in (1, 0) for i in (0, 1)]
    for (x, y, size), panel in zip([(0.0, 0.0, large), *small], drawn.values()):
        axes = figure.add_axes((x / width, y / height, size / width, size / height))
        axes.set_axis_off()
        draw_face(axes, panel.image)
        title = f"{panel.title}: {name}" if size == large else panel.title
        axes.set_title(f"{title}\n{panel.note}", pad=2, fontsize=6.5, loc="left")
    return figure
