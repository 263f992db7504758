"""What a dataset holds, for a person to look at before anything is trained: faces, boxes, poses, clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from tsal.audit import finite, poses
from tsal.data import Face, FaceStore, group_clips, plain_affine, read_list, read_prepared, spread
from tsal.figures.style import (
    CROP_SIDE,
    LABELS,
    TEXT,
    NamedFigure,
    draw_face,
    draw_landmarks,
    image_grid,
    row_name,
    styled,
)
from tsal.geometry import apply_affine
from tsal.schemes import Scheme

AROUND = 1.8  # side of a shown image over the longer side of the box
BOX = "#ffb000"
# seaborn's "colorblind"
COLOURS = ("#0173b2", "#d55e00", "#029e73", "#cc78bc", "#ca9161", "#56b4e9", "#949494", "#ece133")
POSES = 4000  # faces at most whose labels are opened for the distribution of poses


def read_lists(folder: Path) -> dict[str, list[Face]]:
    """Every list of a prepared folder, by name."""
    return {
        name: read_list(Path(folder) / "lists" / name, label=name)
        for name in (read_prepared(folder) or {}).get("lists", {})
    }


def list_table(lists: Mapping[str, Sequence[Face]]) -> pd.DataFrame:
    """A row a list: faces, labelled faces, photographs, clips of two frames or more, and the lengths of these."""
    rows = {}
    for name, faces in lists.items():
        clips = group_clips(faces)
        lengths = [len(clip.faces) for clip in clips if len(clip.faces) > 1]
        rows[name] = {
            "faces": len(faces),
            "labelled": sum(face.annotation is not None for face in faces),
            "photographs": len(clips) - len(lengths),
            "clips": len(lengths),
            "frames of a clip": f"{min(lengths)} - {max(lengths)}, median {np.median(lengths):g}" if lengths else "",
        }
    return pd.DataFrame(rows).T


def manifest_table(manifest: Mapping) -> pd.DataFrame:
    """How much a run has to learn from, and to be measured on."""
    counts = {part: manifest[part] for part in ("labelled", "unlabelled", "clips", "photographs")}
    counts |= {f"evaluate: {name}": facts["faces"] for name, facts in manifest["evaluate"].items()}
    return pd.DataFrame({"faces or clips": counts})


def draw_dataset(root: Path, lists: Mapping[str, Sequence[Face]], scheme: Scheme) -> list[NamedFigure]:
    """Faces and clips with landmarks and boxes, box sizes, poses, clip lengths and motion of lists whose paths are
    relative to ``root``.
    """
    store = FaceStore(root, scheme, CROP_SIDE, AROUND, 50)
    clips = [clip.faces for faces in lists.values() for clip in group_clips(faces) if len(clip.faces) > 1]
    strips = [_contact_sheet(store, clips)] if clips else []
    return [_samples(store, lists), *strips, _distributions(store, lists)]


@styled
def _samples(store: FaceStore, lists: Mapping[str, Sequence[Face]]) -> NamedFigure:
    """Faces evenly spread over each list."""
    figure, axes = image_grid("dataset-samples", len(lists), 8, left=0.18, top=0.02)
    for (name, faces), row in zip(lists.items(), axes):
        row_name(row[0], _short(name.rpartition("/")[2]))
        for face, place in zip(spread(faces, 8), row):
            _draw(place, store, (face,), face)
    return figure


@styled
def _contact_sheet(store: FaceStore, clips: Sequence[Sequence[Face]], rows: int = 12, columns: int = 8) -> NamedFigure:
    """Clips evenly spread, a row each: frames evenly spread over the clip, cut by the one box of the clip, with each
    frame's own.
    """
    clips = spread(clips, rows)
    figure, axes = image_grid("dataset-clips", len(clips), columns, left=0.18, top=0.02)
    for clip, row in zip(clips, axes):
        row_name(row[0], _short(Path(clip[0].image).parent.name))
        for face, place in zip(spread(clip, columns), row):
            _draw(place, store, clip, face)
    return figure


def _draw(place, store: FaceStore, clip: Sequence[Face], face: Face) -> None:
    """A frame cut by the clip's box, with its own box and landmarks."""
    affine = plain_affine(clip, store.side, store.box_scale)
    draw_face(place, store.view(face, affine))
    x1, y1, x2, y2 = apply_affine(affine, np.array(face.box).reshape(2, 2)).ravel()
    place.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=BOX, linewidth=0.8))
    if face.annotation:
        points, visible = store.points(face)
        draw_landmarks(place, apply_affine(affine, points), store.scheme, LABELS, visible=visible)


def _short(name: str) -> str:
    return name if len(name) < 15 else f"{name[:5]}…{name[-8:]}"


@styled
def _distributions(store: FaceStore, lists: Mapping[str, Sequence[Face]]) -> NamedFigure:
    figure = NamedFigure("dataset-distributions", TEXT, 2.9, layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    titles = (
        "size of the box, px",
        "width of the box over its height",
        "roll, degrees",
        "yaw: nose off the eyes' middle",
        "frames of a clip",
        "motion between frames, % of the box",
    )
    for place, title in zip(axes, titles):
        place.set_xlabel(title)
        place.set_ylabel("share")
    shown: list[list[tuple[str, np.ndarray]]] = [[] for _ in axes]
    for name, faces in lists.items():
        boxes = np.array([face.box for face in faces]).reshape(-1, 4)
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        roll, yaw = labelled_poses(store, faces)
        clips = [clip.faces for clip in group_clips(faces) if len(clip.faces) > 1]
        measures = (
            np.sqrt(width * height),
            width / height,
            roll,
            yaw,
            np.array([len(clip) for clip in clips]),
            motion(clips),
        )
        for panel, values in zip(shown, measures):
            panel.append((name, values))
    for place, panel in zip(axes, shown):
        all_values = np.concatenate([values for _, values in panel])
        if not len(all_values):
            place.text(
                0.5, 0.5, "nothing to show", transform=place.transAxes, ha="center", va="center", color="#777777"
            )
            continue
        is_count = place.get_xlabel() == titles[4]  # numbers of frames: a bin a number, where they are few
        edges = (
            np.arange(all_values.min() - 0.5, all_values.max() + 1)
            if is_count and np.ptp(all_values) < 24
            else np.histogram_bin_edges(all_values, 24)
        )
        for (name, values), colour in zip(panel, COLOURS * (1 + len(panel) // len(COLOURS))):
            weights = np.full(len(values), 1 / max(1, len(values)))
            place.hist(values, bins=edges, weights=weights, histtype="step", color=colour, label=name, linewidth=1)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=min(4, len(names)))
    return figure


def labelled_poses(store: FaceStore, faces: Sequence[Face]) -> tuple[np.ndarray, np.ndarray]:
    """Roll and yaw of labelled faces, see :func:`tsal.audit.poses`; empty for a scheme without these landmarks."""
    labelled = [face for face in faces if face.annotation]
    if not labelled:
        return np.empty(0), np.empty(0)
    points, visible = map(np.array, zip(*(store.points(face) for face in spread(labelled, POSES))))
    roll, yaw = poses(np.where(visible[..., None], points, np.nan), store.scheme)
    return finite(roll), finite(yaw)


def motion(clips: Sequence[Sequence[Face]]) -> np.ndarray:
    """How far the box's centre moves from frame to frame, in % of the box's size: the median of each clip."""
    medians = []
    for clip in clips:
        boxes = np.array([face.box for face in clip])
        centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        medians.append(100 * np.median(np.linalg.norm(np.diff(centres, axis=0), axis=1) / sizes[1:]))
    return np.array(medians)
