"""Where a trained detector fails: by what makes a face hard, and rendered heads to look at.

``python -m tsal.bench.failures [--weights W]`` renders heads, whose truth is exact, writes a table of the errors by
kind and a picture: of each kind heads of small, usual and large errors. Rendered heads are no photographs: compare
kinds, not these errors with those on real faces.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsal.evaluation import GroundTruth, face_nme
from tsal.figures import (
    SOURCES,
    TRUTH,
    NamedFigure,
    draw_face,
    draw_landmarks,
    image_grid,
    row_name,
    styled,
    under_name,
)
from tsal.inference import Landmarker, find_weights
from tsal.schemes import Scheme
from tsal.synthetic import render_clip
from tsal.utils import markdown_table, replacing, tqdm, write_text

HEADS, SIDE, SEED = 400, 192, 5
SHOWN = (0.1, 0.5, 0.8, 0.9, 0.95, 1.0)  # quantiles of a kind's errors, of which a head is shown
MARGIN = 0.25  # of the box, around the heads of the picture


def hard_faces(truth: GroundTruth, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """What is hard about faces (N,) bool each. Turned: the third whose nose tip is most unequally far from the two ends
    of the outline. Dark and small: the quarter of least mean grey level and of least box. Occluded, where landmarks are
    hidden: a tenth of them and more.
    """
    reach = [np.linalg.norm(truth.points[:, 30] - truth.points[:, end], axis=1) for end in (0, 16)]
    grey = [
        image[max(0, int(y1)) : int(y2) + 1, max(0, int(x1)) : int(x2) + 1].mean()
        for image, (x1, y1, x2, y2) in zip(images, truth.box)
    ]
    hardness = {
        "turned": (np.abs(np.log(reach[0] / reach[1])), 2 / 3),
        "dark": (-np.array(grey), 3 / 4),
        "small": (-(truth.box[:, 2] - truth.box[:, 0]), 3 / 4),
    }
    hard = {name: value > np.quantile(value, share) for name, (value, share) in hardness.items()}
    hidden = 1 - truth.visible.mean(1)
    return hard | ({"occluded": hidden >= 0.1} if hidden.any() else {})


def by_kind(errors: np.ndarray, hard: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean error in % of the faces that are hard in one way, and of the others; ``errors`` (N,)."""
    groups = hard | {"none of these": ~np.any(list(hard.values()), axis=0)}
    return {name: 100 * float(errors[rows].mean()) for name, rows in groups.items()}


def rendered_heads(count: int, side: int, seed: int) -> tuple[list[np.ndarray], GroundTruth]:
    """Heads, and their truth; the normaliser is the root of the box's area, which turning changes little."""
    clips = [
        render_clip(np.random.SeedSequence([seed, number]), 1, side, flow=False)
        for number in tqdm(range(count), desc="rendering", unit="head")
    ]
    points, visible = (np.concatenate([getattr(clip, name) for clip in clips]) for name in ("points", "visible"))
    box = np.concatenate([points.min(1), points.max(1)], 1)
    names = np.array([f"head {number}" for number in range(count)])
    norm = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    truth = GroundTruth(
        list_name=names,
        path=names,
        row=np.zeros(count, int),
        box=box,
        points=points,
        visible=visible,
        norm_px=norm,
        degenerate=np.zeros(count, bool),
    )
    return [clip.images[0] for clip in clips], truth


@styled
def draw_failures(
    images: Sequence[np.ndarray], truth: GroundTruth, points: np.ndarray, hard: dict[str, np.ndarray], scheme: Scheme
) -> NamedFigure:
    """A row a kind: heads at quantiles of its errors, what was detected in colour, the truth in white."""
    errors = face_nme(points, truth.points, truth.visible, truth.norm_px)
    figure, axes = image_grid("failures", len(hard), len(SHOWN), left=0.2, top=0.02, under=0.14)
    for row, (name, rows) in zip(axes, hard.items()):
        row_name(row[0], name)
        order = np.flatnonzero(rows)[np.argsort(errors[rows])]
        for place, share in zip(row, SHOWN):
            head = order[round(share * (len(order) - 1))]
            x1, y1, x2, y2 = truth.box[head]
            centre, half = np.array([x1 + x2, y1 + y2]) / 2, (0.5 + MARGIN) * max(x2 - x1, y2 - y1)
            draw_face(place, images[head])
            draw_landmarks(place, truth.points[head], scheme, TRUTH, visible=truth.visible[head])
            draw_landmarks(place, points[head], scheme, SOURCES["heatmap"])
            place.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + half, centre[1] - half))
            under_name(place, f"{100 * errors[head]:.1f} %")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.failures", description=__doc__)
    parser.add_argument("--weights", type=Path, metavar="W", help="a trained detector (the one that ships)")
    parser.add_argument("--heads", type=int, default=HEADS, metavar="N", help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/failures"), metavar="DIR", help="(%(default)s)")
    arguments = parser.parse_args(argv)
    weights = find_weights(arguments.weights)
    landmarker = Landmarker(weights)
    images, truth = rendered_heads(arguments.heads, SIDE, SEED)
    points = np.stack([faces[0].points for faces in landmarker(images, list(truth.box))])
    hard = hard_faces(truth, images)
    rows = []
    for name, mask in (("visible landmarks", truth.visible), ("hidden landmarks", ~truth.visible)):
        errors = face_nme(points, truth.points, mask, truth.norm_px)
        there = np.isfinite(errors)
        means = by_kind(errors[there], {kind: chosen[there] for kind, chosen in hard.items()})
        rows.append([name, *(f"{value:.4g}" for value in means.values())])
    table = markdown_table([f"{arguments.heads} rendered heads", *hard, "none of these"], rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_text(arguments.out / "failures.md", table + "\n")
    with replacing(arguments.out / "failures.jpg") as temporary:
        figure = draw_failures(images, truth, points, hard, landmarker.scheme)
        figure.savefig(temporary, format="jpg", dpi=150, pil_kwargs={"quality": 85})
    print(table)


if __name__ == "__main__":
    main()
