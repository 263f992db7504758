"""Landmarks that cannot be of their image."""

import numpy as np
import pytest

from tsal.data.placement import points_problems

FACT = {"width": 64, "height": 48}


@pytest.mark.parametrize(
    ("points", "visible", "said"),
    [
        ([[63.4, 47.4], [-0.5, -0.5], [64, 20]], [1, 1, 1], ""),  # the outer edges of the corner pixels; one is out
        ([[63.6, 10], [10, 47.6], [20, 20]], [1, 1, 1], "2 of 3 visible landmarks lie outside the image a.png"),
        ([[63.6, 10], [10, 47.6], [20, 20]], [1, 0, 1], ""),  # half of those that are visible
    ],
)
def test_what_of_landmarks_cannot_be_of_the_image(points, visible, said):
    found = points_problems(np.array(points, float), np.array(visible, bool), "a.png", FACT)
    assert said in found[0] if said else not found
