"""Smoothing over time is what scipy's filters made of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import correlate1d, median_filter

from tsal.faces import smooth
from tsal.faces.smooth import gaussian_lines, smooth_boxes


@pytest.mark.parametrize("count", [2, 3, 7, 100])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.7, 40.0])
def test_lines_are_weighed_as_scipy_weighs_them(count, sigma):
    values = np.random.default_rng(0).normal(size=(count, 5))
    step = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (step / sigma) ** 2)

    def total(of, power):
        return correlate1d(of, weights * step**power, axis=0, mode="constant")

    s0, s1, s2 = (total(np.ones((count, 1)), power) for power in range(3))
    expected = (s2 * total(values, 0) - s1 * total(values, 1)) / (s0 * s2 - s1**2)
    # the sums of few and nearly equal weights cancel: what is left of them is exact to fewer digits
    np.testing.assert_allclose(gaussian_lines(values, sigma), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("count", [3, 4, 50])
@pytest.mark.parametrize("interval", [4.0, 40.0, 100.0])
def test_the_median_of_boxes_is_scipy_s(count, interval, monkeypatch):
    """Without the Gaussian after it."""
    monkeypatch.setattr(smooth, "gaussian_lines", lambda values, sigma: values)
    rng = np.random.default_rng(1)
    corner, size = rng.normal(100, 9, (count, 2)), rng.uniform(20, 60, (count, 2))
    values = np.concatenate([corner + size / 2, np.log(size)], 1)
    side = min(round(120 / interval), count - 1)
    padded = np.pad(values, ((side, side), (0, 0)), mode="reflect", reflect_type="odd")
    middle = median_filter(padded, (2 * side + 1, 1))[side : side + count]
    half = np.exp(middle[:, 2:]) / 2
    expected = np.concatenate([middle[:, :2] - half, middle[:, :2] + half], 1)
    np.testing.assert_allclose(smooth_boxes(np.concatenate([corner, corner + size], 1), interval), expected, rtol=1e-12)
