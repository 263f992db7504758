"""Whether a row's box and landmarks can be of its image: a box in other units, or labels of another image or of this
one not turned as its EXIF says, would be learned without a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SMALLEST = 3.0  # px; in shares of the image, a box is smaller


def outside_image(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N,) bool: which of boxes (N, 4) px have no pixel's centre of an image in them."""
    return (boxes[:, 2:] < 0).any(1) | (boxes[:, :2] > [width - 1, height - 1]).any(1)


def box_problems(box: Sequence[float], image: str, fact: Mapping) -> list[str]:
    """A line where a box x1, y1, x2, y2 px lies wholly outside its image, or is too small for a face.

    Args:
        fact: what :func:`tsal.data.images.look_at_image` returned for the image: its ``width`` and ``height``.
    """
    x1, y1, x2, y2 = box
    named = f"box {x1:g} {y1:g} {x2:g} {y2:g}"
    if outside_image(np.array([box]), fact["width"], fact["height"]).any():
        return [f"{named} lies wholly outside the image {image} ({fact['width']} x {fact['height']})"]
    if max(x2 - x1, y2 - y1) < SMALLEST:
        return [f"{named} of {image} is under {SMALLEST:g} px wide and high; coordinates are pixels, not shares"]
    return []


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
