"""Boxes and points of consecutive frames, smoothed without lag."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SMOOTH_SECONDS = 0.12  # sigma of the boxes' Gaussian in time


def smooth_boxes(boxes: np.ndarray, interval: float) -> np.ndarray:
    """Boxes (n, 4) of consecutive frames, ``interval`` ms apart, smoothed without lag.

    A median, then a Gaussian, on centre and log size.
    """
    boxes = np.asarray(boxes, float)
    sigma = 1000 * SMOOTH_SECONDS / interval if interval > 0 else 0.0
    if len(boxes) < 3 or sigma < 0.3:
        return boxes
    values = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, np.log(boxes[:, 2:] - boxes[:, :2])], 1)
    side = min(round(sigma), len(boxes) - 1)
    padded = np.pad(values, ((side, side), (0, 0)), mode="reflect", reflect_type="odd")
    values = np.median(sliding_window_view(padded, 2 * side + 1, axis=0), axis=-1)
    values = gaussian_lines(values, sigma)
    half = np.exp(values[:, 2:]) / 2
    return np.concatenate([values[:, :2] - half, values[:, :2] + half], 1)


def gaussian_lines(values: np.ndarray, sigma: float) -> np.ndarray:
    """Values (n, m), n >= 2, smoothed along the first axis without lag by a Gaussian of ``sigma`` >= 0.1 places.

    The Gaussian weighs a line through the neighbours, so that steady motion stays what it is at the ends too.
    """
    step = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (step / sigma) ** 2)
    s0, s1, s2 = (_correlate(np.ones((len(values), 1)), weights * step**power) for power in range(3))
    t0, t1 = (_correlate(values, weights * step**power) for power in range(2))
    return (s2 * t0 - s1 * t1) / (s0 * s2 - s1**2)


def _correlate(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values (n, m), correlated with 2 h + 1 weights along the first axis; beyond the ends they are 0."""
    half = len(weights) // 2
    columns = [np.convolve(column, weights[::-1])[half : half + len(column)] for column in values.T]
    return np.stack(columns, 1)
