"""Landmarks that cannot be of their image."""

import numpy as np
import pytest

from tsal.data.placement import apart_problems, in_percent, points_problems, reflected

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
    problems = points_problems(np.array(points, float), np.array(visible, bool), "a.png", FACT)
    assert said in problems[0] if said else not problems


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ([1, 1, 1, 1], ""),  # half of them lie in the box, two of these on its border
        ([1, 0, 1, 1], "the box 10 10 20 20 holds 1 of 3 visible landmarks of a.png; give x1 y1 x2 y2 (not width"),
        ([0, 0, 0, 0], ""),
    ],
)
def test_a_box_holds_half_of_the_landmarks_at_least(visible, said):
    points = np.array([[10, 20], [20, 10], [21, 15], [15, 9]], float)
    problems = apart_problems(points, np.array(visible, bool), (10, 10, 20, 20), "a.png")
    assert problems[0].startswith(said) if said else not problems


EYES = np.array([[20, 30], [40, 30], [30, 50], [28, 60]], float)  # the person's right corner, the left one, nose, chin


@pytest.mark.parametrize("turn", [0, 40, 90, 180, 300])
def test_mirrored_labels_are_told_however_the_face_is_turned(turn):
    angle, all_visible = np.deg2rad(turn), np.ones(4, bool)
    points = (EYES - 32) @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + 32
    mirrored, swapped, upward = points * [-1, 1] + [63, 0], points[:, ::-1], points * [1, -1] + [0, 63]

    def said(faces, visible=all_visible, ocular=(0, 1)):
        return reflected(np.array(faces), np.array([visible] * len(faces)), ocular)

    assert said([points]) == ""
    for wrong in (mirrored, swapped, upward):
        assert said([wrong, wrong, points]).startswith("2 of 3 labelled faces are mirrored")
        assert said([wrong, points]) == ""  # not more than half
        assert said([wrong], ocular=None) == ""
        assert said([wrong], np.array([1, 0, 1, 1], bool)) == ""  # an eye corner is not known


def test_of_landmarks_at_the_eyes_and_brows_alone_nothing_is_said():
    brows_and_eyes = np.array([[20, 30], [40, 30], [22, 24], [38, 24]], float)  # their mean lies above the corners
    assert reflected(brows_and_eyes[None], np.ones((1, 4), bool), (0, 1)) == ""


@pytest.mark.parametrize(
    ("faces", "side", "beyond", "said"),
    [(10, 301, 0, True), (9, 301, 0, False), (10, 300, 0, False), (10, 301, 71, False), (10, 301, -40, False)],
)
def test_labels_in_percent_are_told_by_all_faces_of_large_images(faces, side, beyond, said):
    points, visible = np.tile(EYES, (faces, 1, 1)).astype(float), np.ones((faces, 4), bool)
    points[0, 2] += [beyond, 0]
    points[1, 1], visible[1, 1] = -50, False  # a missing point
    text = in_percent(points, visible, np.full((faces, 2), [400, side]))
    expected = "all landmarks of 10 faces lie within 0 ... 100, in images of about 400 x 301 pixels"
    assert text.startswith(expected) if said else not text
