"""Boxes become tight around their landmarks, and stay where these are of something else."""

from __future__ import annotations

import numpy as np
import pytest

from tsal.faces import Followed, Track
from tsal.inference.tighten import tighten_tracks, tightened

SQUARE = np.array([[12.0, 22], [48, 22], [12, 58], [48, 58], [30, 40]])  # its tight box: 12 22 48 58


def test_a_box_becomes_that_of_its_landmarks_unless_they_are_elsewhere():
    boxes = np.array([[10.0, 20, 50, 60]] * 3)
    points = np.stack([SQUARE, SQUARE + 100, np.full((5, 2), 30.0)])  # on it, far away, in one spot
    tight, same_face = tightened(boxes, points)
    assert same_face.tolist() == [True, False, False]
    assert tight.tolist() == [[12, 22, 48, 58], [10, 20, 50, 60], [10, 20, 50, 60]]


def test_landmarks_of_a_part_of_the_face_give_the_box_of_the_face():
    boxes, points = np.array([[0.0, 12, 60, 72]]), SQUARE[None]
    assert not tightened(boxes, SQUARE[None] / 2 + 15)[1].any()  # 21 26 39 44 is a tenth of the face
    tight, same_face = tightened(boxes, SQUARE[None] / 2 + 15, (-1, -0.5, 2, 2))
    assert same_face.all() and tight.tolist() == [[3, 17, 57, 62]]
    assert tightened(boxes, points)[0].tolist() == [[12, 22, 48, 58]]
    track = Track(0, [boxes[0]] * 9, [True] * 9)
    followed = Followed(100, 100, [40.0 * n for n in range(9)], [], [track], 0, [])
    smooth = tighten_tracks(followed, [np.stack([SQUARE / 2 + 15] * 9)], (-1, -0.5, 2, 2)).tracks[0].boxes
    assert smooth == pytest.approx(np.array([[3.0, 17, 57, 62]] * 9))


def test_a_track_s_boxes_become_tight_and_smooth_and_nothing_else_of_it_changes():
    times = [40.0 * n for n in range(30)]
    boxes = np.array([[10.0 + n, 20, 50 + n, 60] for n in range(20)])
    track = Track(5, list(boxes), [True] * 20, 1, [True] * 20)
    other = Track(0, [np.array([100.0, 100, 140, 140])] * 4, [True] * 4)
    points = SQUARE + np.array([1.0, 0]) * np.arange(20)[:, None, None]
    noise = np.random.default_rng(0).normal(0, 0.5, (20, 1, 2))
    followed = Followed(200, 200, times, [], [track, other], 0, [])
    tight = tighten_tracks(followed, [points + noise, np.zeros((4, 5, 2))])
    expected = np.array([[12.0 + n, 22, 48 + n, 58] for n in range(20)])
    assert np.abs(tight.tracks[0].boxes - expected).max() < 0.7 and np.abs(noise).max() > 1
    assert (tight.tracks[0].first, tight.tracks[0].last, tight.tracks[0].shot) == (5, 24, 1)
    assert tight.tracks[1] is other and tight.times is times
    exact = tighten_tracks(followed, [points, np.zeros((4, 5, 2))]).tracks[0].boxes
    assert exact == pytest.approx(expected, abs=1e-6)
