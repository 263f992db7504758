"""Overlaps of boxes (x1, y1, x2, y2), and boxes beside others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _areas(one, other) -> tuple[float, float, float]:
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(0.0, width) * max(0.0, height), *areas


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    both, first, second = _areas(one, other)
    return both / (first + second - both) if both else 0.0  # the areas of the smallest boxes round to 0


def shared(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection of two boxes over the smaller one."""
    both, first, second = _areas(one, other)
    return both / min(first, second)


def boxes_beside(boxes: np.ndarray, place: Sequence[float]) -> np.ndarray:
    """Boxes (..., 4) px that lie at ``place`` beside others: x1, y1, x2, y2, where the other's corners are (0, 0) and
    (1, 1).
    """
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    return np.concatenate([corner + size * place[:2], corner + size * place[2:]], -1)
