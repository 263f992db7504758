"""Whether a row's box and landmarks can be of its image: a box in other units, or labels of another image or of this
one not turned as its EXIF says, would be learned without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SMALLEST = 3.0  # px; in shares of the image, a box is smaller
ENOUGH, LARGE = 10, 300  # faces, and px of their images, to tell coordinates in percent
# How far below the eyes the mean of the landmarks lies, in times the eyes' distance. Of 100 faces: 0.26 to 0.67 with a
# mouth (68, 51, 5 points), 0.10 to 0.21 of eyes and nose, -0.16 to 0.02 of eyes with or without brows
MIRRORED = -0.2
LARGEST = 10.0  # times the image's longer side: a face of which the image shows next to nothing


def box_fault(box: Sequence[float], width: int, height: int) -> str:
    """Why a box x1, y1, x2, y2 px can be of no face in its image, as the end of a line; empty where it can."""
    x1, y1, x2, y2 = box
    side = max(x2 - x1, y2 - y1)
    if x2 < 0 or y2 < 0 or x1 > width - 1 or y1 > height - 1:  # no pixel's centre is in it
        return f"lies wholly outside the image ({width} x {height})"
    if side < SMALLEST:
        return f"is under {SMALLEST:g} px wide and high; coordinates are pixels, not shares"
    if side > LARGEST * max(width, height):
        return f"is over {LARGEST:g} times as long as the image ({width} x {height}); coordinates are its pixels"
    return ""


def apart_problems(points: np.ndarray, visible: np.ndarray, box: Sequence[float], image: str) -> list[str]:
    """A line where fewer than half of the visible ones of points (K, 2) px lie in a box x1, y1, x2, y2 px."""
    x1, y1, x2, y2 = box
    inside = ((points >= [x1, y1]) & (points <= [x2, y2])).all(1) & visible
    if inside.sum() >= visible.sum() / 2:
        return []
    return [
        f"the box {x1:g} {y1:g} {x2:g} {y2:g} holds {inside.sum()} of {visible.sum()} visible landmarks of {image}; "
        "give x1 y1 x2 y2 (not width and height) and the landmarks of this face, both in px"
    ]


def points_problems(points: np.ndarray, visible: np.ndarray, image: str, fact: Mapping) -> list[str]:
    """A line where most of the visible ones of points (K, 2) px lie outside their image."""
    beyond = np.array([fact["width"], fact["height"]]) - 0.5  # a pixel's centre is a whole number
    outside = ((points < -0.5) | (points > beyond)).any(1) & visible
    if outside.sum() <= visible.sum() / 2:
        return []
    return [
        f"{outside.sum()} of {visible.sum()} visible landmarks lie outside the image {image} ({fact['width']} x "
        f"{fact['height']} as viewers show it); give pixels of this image"
    ]


def reflected(points: np.ndarray, visible: np.ndarray, ocular: tuple[int, int] | None) -> str:
    """What to say where most of the faces, points (N, K, 2) px and visibility (N, K) bool, are mirrored ones: seen from
    between the eyes towards the mean of all landmarks, the person's right eye corner (the first of a scheme's
    ``ocular``) lies on the left. Turning a face does not change that. Empty where few are, nobody named the corners, or
    the mean lies so near them that it says nothing.
    """
    known = visible[:, list(ocular)].all(1) if ocular else np.zeros(len(points), bool)
    points, visible = points[known], visible[known]
    if not len(points):
        return ""
    right, left = points[:, ocular[0]], points[:, ocular[1]]  # (M, 2) px
    across, down = left - right, points.mean(1, where=visible[..., None]) - (left + right) / 2
    below = across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0]  # times the eyes' distance
    mirrored = (below < MIRRORED * (across**2).sum(1)).sum()
    if mirrored <= len(points) / 2:
        return ""
    return (
        f"{mirrored} of {len(points)} labelled faces are mirrored: are x and y swapped, does y count from the bottom, "
        "are the labels of the mirror image, or is the first of the scheme's ocular corners not the person's right one?"
    )


def in_percent(points: np.ndarray, visible: np.ndarray, sizes: np.ndarray) -> str:
    """What to say where all visible ones of points (N, K, 2) px of many faces lie in the first 100 px of large images,
    ``sizes`` (N, 2): width and height. Empty where not.
    """
    landmarks, middle = points[visible], np.median(sizes, 0)
    if (
        len(points) < ENOUGH
        or middle.min() <= LARGE
        or not len(landmarks)
        or landmarks.min() < -1
        or landmarks.max() > 100
    ):
        return ""
    size = f"{middle[0]:.0f} x {middle[1]:.0f}"
    return (
        f"all landmarks of {len(points)} faces lie within 0 ... 100, in images of about {size} pixels: are they in "
        "percent? give pixels"
    )
