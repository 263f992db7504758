"""Overlaps of boxes (x1, y1, x2, y2), and boxes beside others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def _areas(first, second) -> tuple[float, float, float]:
    """Of the intersection of two boxes, and of each."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return max(0.0, width) * max(0.0, height), *areas


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    both, first_area, second_area = _areas(first, second)
    return both / (first_area + second_area - both) if both else 0.0  # the areas of the smallest boxes round to 0


def shared(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection of two boxes over the smaller one."""
    both, first_area, second_area = _areas(first, second)
    return both / min(first_area, second_area)


def boxes_beside(boxes: np.ndarray, place: Sequence[float]) -> np.ndarray:
    """Boxes (..., 4) px that lie at ``place`` beside others: x1, y1, x2, y2, where the other's corners are (0, 0) and
    (1, 1).
    """
    corner, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    return np.concatenate([corner + size * place[:2], corner + size * place[2:]], -1)
