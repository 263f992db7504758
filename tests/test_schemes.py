"""What the indices of landmarks mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tsal.errors import ConfigError
from tsal.schemes import SCHEME_49, SCHEME_51, SCHEME_68, SCHEMES, Scheme, centre_point, generic_scheme, get_scheme


def test_the_68_landmarks_mirror_in_the_ibug_pairs():
    pairs = {(0, 16), (7, 9), (17, 26), (31, 35), (36, 45), (39, 42), (41, 46), (48, 54), (60, 64), (67, 65)}
    assert all(SCHEME_68.flip[a] == b and SCHEME_68.flip[b] == a for a, b in pairs)
    alone = [i for i in range(68) if SCHEME_68.flip[i] == i]
    assert alone == [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]  # the middle line of the face


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda s: s.name)
def test_mirroring_twice_changes_nothing(scheme):
    assert [scheme.flip[scheme.flip[i]] for i in range(scheme.points)] == list(range(scheme.points))


def test_the_protocol_s_eye_corners():
    assert SCHEME_68.ocular == (36, 45)
    assert SCHEME_49.ocular == SCHEME_51.ocular == (19, 28)
    assert SCHEME_68.pupil == (tuple(range(36, 42)), tuple(range(42, 48)))


@pytest.mark.parametrize("scheme", [SCHEME_51, SCHEME_49], ids=lambda s: s.name)
def test_a_subset_is_the_68_landmarks_renumbered(scheme):
    keep = scheme.subset_of_68
    assert len(keep) == scheme.points and keep[scheme.centre] == SCHEME_68.centre == 30
    assert [keep[scheme.flip[i]] for i in range(scheme.points)] == [SCHEME_68.flip[i] for i in keep]
    assert [[keep[i] for i in eye] for eye in scheme.pupil] == [list(eye) for eye in SCHEME_68.pupil]
    assert all(0 <= i < scheme.points for _, indices, _ in scheme.groups for i in indices)


def test_51_drops_the_jaw_and_49_also_the_inner_mouth_corners():
    assert SCHEME_51.subset_of_68 == tuple(range(17, 68))
    assert set(SCHEME_51.subset_of_68) - set(SCHEME_49.subset_of_68) == {60, 64}


def test_the_drawn_lines_of_68_cover_each_landmark_once():
    drawn = [i for _, indices, _ in SCHEME_68.groups for i in indices]
    assert sorted(drawn) == list(range(68))


def test_any_number_of_landmarks_is_a_scheme_that_assumes_nothing():
    scheme = get_scheme("29")
    assert scheme == generic_scheme(29)
    assert (scheme.points, scheme.flip, scheme.centre, scheme.ocular) == (29, tuple(range(29)), -1, None)


@pytest.mark.parametrize("name", ["0", "-3", "faces", "68.0", ""])
def test_a_scheme_that_does_not_exist_is_an_error(name):
    with pytest.raises(ConfigError, match="no landmark scheme"):
        get_scheme(name)


@pytest.mark.parametrize("flip", [(0, 1), (1, 2, 0), (0, 0, 2)])
def test_a_flip_that_does_not_pair_the_landmarks_is_an_error(flip):
    with pytest.raises(ConfigError, match="flip must pair"):
        Scheme("bad", 3, flip=flip)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_the_face_centre_is_the_centre_landmark_or_the_mean_of_the_visible_ones(kind):
    points = kind([[[0.0, 0.0], [4.0, 2.0], [100.0, 100.0]]])
    visible = kind([[True, True, False]])
    nose = Scheme("nose", 3, flip=(0, 1, 2), centre=1)
    assert centre_point(points, nose, visible).tolist() == [[4.0, 2.0]]
    assert centre_point(points, generic_scheme(3), visible).tolist() == [[2.0, 1.0]]
    assert centre_point(points[:, :2], generic_scheme(2)).tolist() == [[2.0, 1.0]]
    assert centre_point(points, generic_scheme(3), ~visible | visible).tolist()[0][0] == pytest.approx(104 / 3)


def test_a_face_without_a_visible_landmark_has_a_finite_centre():
    assert centre_point(torch.ones(1, 3, 2), generic_scheme(3), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0]]
