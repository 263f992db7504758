"""Every number as the protocol defines it, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tsal.evaluation.metrics import (
    auc,
    face_nme,
    failure_rate,
    is_degenerate,
    jitter,
    known_mean,
    normaliser,
    summary,
)
from tsal.schemes import get_scheme
from tsal.utils.errors import InputError

BOX = np.array([[10.0, 20.0, 110.0, 45.0]])  # 100 x 25: the root of its area is 50
NO_SIZE = np.array([np.nan])
INNER = {"51": range(17, 68), "49": [i for i in range(17, 68) if i not in (60, 64)]}  # of the 68


def face_68() -> np.ndarray:
    truth = np.zeros((1, 68, 2))
    truth[0, 36], truth[0, 45] = (10, 10), (40, 50)  # 50 px apart
    truth[0, 37:42], truth[0, 42:45], truth[0, 46:48] = (10, 10), (40, 50), (40, 50)
    return truth


def distance(kind: str, truth: np.ndarray, scheme: str = "68", hidden=(), size=NO_SIZE) -> np.ndarray:
    visible = np.ones(truth.shape[:2], bool)
    visible[:, list(hidden)] = False
    return normaliser(kind, truth, visible, BOX, size, get_scheme(scheme))


def test_ocular_is_the_distance_of_the_outer_eye_corners():
    assert distance("ocular", face_68()).tolist() == [50.0]


@pytest.mark.parametrize("scheme", ["51", "49"])
@pytest.mark.parametrize("kind", ["ocular", "pupil"])
def test_a_subset_has_the_normalisers_of_the_68(scheme, kind):
    assert distance(kind, face_68()[:, list(INNER[scheme])], scheme).tolist() == [50.0]


def test_pupil_is_the_distance_of_the_means_of_the_eye_points():
    truth = face_68()
    truth[0, 36] += (6, 0)  # moves the mean of six points by 1
    truth[0, 45] += (0, 100)  # an outer corner: not only the corners count
    expected = np.hypot(40 - 11, 50 + 100 / 6 - 10)
    assert distance("pupil", truth).tolist() == [pytest.approx(expected)]


@pytest.mark.parametrize("rubbish", [np.nan, 1e6])
@pytest.mark.parametrize(("kind", "needed"), [("ocular", (36, 45)), ("pupil", range(36, 48))])
def test_a_normaliser_needs_its_landmarks_to_be_visible_and_no_others(kind, needed, rubbish):
    for hidden in range(68):
        truth = face_68()
        truth[0, hidden] = rubbish
        d = distance(kind, truth, hidden=[hidden])
        assert np.isnan(d[0]) == (hidden in needed) == is_degenerate(d, BOX)[0]
        assert hidden in needed or d[0] == 50


def test_box_is_the_root_of_its_area_and_face_size_is_the_list_s():
    assert distance("box", np.zeros((1, 12, 2)), "12", hidden=range(12)).tolist() == [50.0]
    assert distance("face_size", face_68(), size=np.array([77.0])).tolist() == [77.0]


def test_a_normaliser_that_cannot_be_had_is_an_error():
    with pytest.raises(InputError, match="no seventh column; use ocular or pupil or box$"):
        distance("face_size", face_68())
    for kind in ("ocular", "pupil"):
        with pytest.raises(InputError, match="scheme '12' has no such normaliser; use box$"):
            distance(kind, np.zeros((1, 12, 2)), "12")
    with pytest.raises(InputError, match="scheme '5' has no such normaliser; use pupil or box$"):
        distance("ocular", np.zeros((1, 5, 2)), "5")


def test_a_normaliser_of_zero_or_under_a_twentieth_of_the_box_is_degenerate():
    d, box = np.array([0.0, np.nan, 2.4, 2.5, 50.0, np.inf]), np.repeat(BOX, 6, 0)  # 5 % of 50 is 2.5
    assert is_degenerate(d, box).tolist() == [True, True, True, False, False, True]
    assert is_degenerate(np.array([0.0, 0.5]), np.array([[7.0, 8, 9, 10], [7, 8, 9, 10]])).tolist() == [True, False]
    assert is_degenerate(np.zeros(1), np.array([[7.0, 8, 7, 8]])).tolist() == [True]


def test_nme_is_the_mean_distance_over_visible_points_by_d():
    truth = np.tile(np.array([[20.0, 30], [-5, 7], [60, 0]]), (3, 1, 1))
    points = truth + [[3, 4], [0, -10], [0, 0]]
    visible = np.array([[True, True, True], [True, False, False], [True, True, False]])
    assert face_nme(points, truth, visible, np.array([10.0, 20.0, 0.5])).tolist() == [0.5, 0.25, 15]


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e30])
def test_the_value_of_an_invisible_point_is_ignored(rubbish):
    truth, points = np.zeros((1, 2, 2)), np.array([[[3.0, 4.0], [8.0, 8.0]]])
    truth[0, 1] = rubbish
    assert face_nme(points, truth, np.array([[True, False]]), np.array([10.0])).tolist() == [0.5]


def test_a_face_without_a_visible_point_or_a_normaliser_has_no_error_rather_than_an_infinite_one():
    points, truth = np.ones((4, 1, 2)), np.zeros((4, 1, 2))
    visible = np.array([[False], [True], [True], [True]])
    errors = face_nme(points, truth, visible, np.array([10.0, 0.0, np.nan, -1.0]))
    assert np.isnan(errors).all()


def test_more_axes_of_points_share_one_truth():
    points = np.stack([np.zeros((2, 1, 2)), np.full((2, 1, 2), [3.0, 4.0])])[:, None]  # (2, 1, N, K, 2)
    errors = face_nme(points, np.zeros((2, 1, 2)), np.ones((2, 1), bool), np.array([5.0, 10.0]))
    assert errors.tolist() == [[[0.0, 0.0]], [[1.0, 0.5]]]


def test_auc_is_the_area_under_the_step_curve_over_tau():
    errors = np.array([0.02, 0.06, 0.5])
    # of 3 faces one is under the curve from 0.02 on, another from 0.06 on: (0.06 + 0.02) / 3 / 0.08
    assert auc(errors, 0.08) == pytest.approx(1 / 3, abs=1e-12)
    assert (auc(np.zeros(3), 0.08), auc(np.full(3, 0.09), 0.08)) == (1.0, 0.0)


def test_auc_is_the_integral_of_the_cumulative_distribution():
    errors = np.random.default_rng(0).gamma(3, 0.02, 50)
    steps = (np.arange(20000) + 0.5) / 20000 * 0.1
    curve = (errors[None] <= steps[:, None]).mean()
    assert auc(errors, 0.1) == pytest.approx(curve, abs=1e-5)


def test_failures_are_strictly_over_tau():
    assert failure_rate(np.array([0.05, 0.08, 0.080001, 1.0]), 0.08) == 0.5


def test_a_summary_holds_the_protocol_s_numbers_and_nme_in_percent():
    row = summary(np.array([0.02, 0.09]))
    assert set(row) == {"NME", "AUC@0.07", "AUC@0.08", "AUC@0.10", "FR@0.08", "FR@0.10"}
    assert row["NME"] == pytest.approx(5.5) and row["FR@0.08"] == 0.5 and row["FR@0.10"] == 0.0
    assert row["AUC@0.10"] == pytest.approx((0.8 + 0.1) / 2)


@pytest.mark.filterwarnings("error")
def test_a_mean_of_what_is_known_leaves_out_the_rest():
    values = np.array([[1.0, np.nan, 4.0], [np.nan, np.nan, np.inf]])
    assert known_mean(values)[0] == 2.5 and np.isnan(known_mean(values)[1])
    assert np.array_equal(known_mean(values, 0), [1, np.nan, 4], equal_nan=True)


@pytest.mark.filterwarnings("error")
def test_no_faces_have_no_numbers():
    assert all(np.isnan(value) for value in summary(np.empty(0)).values())


def test_metrics_change_nothing_that_they_are_given():
    points, truth, visible, d = (
        np.ones((1, 2, 2)),
        np.full((1, 2, 2), np.nan),
        np.array([[False, False]]),
        np.array([0.0]),
    )
    before = [x.copy() for x in (points, truth, visible, d)]
    face_nme(points, truth, visible, d)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip((points, truth, visible, d), before))


def test_jitter_is_the_mean_second_difference_over_d():
    points = np.zeros((4, 2, 2))
    # one landmark leaves for one frame: second differences 2 x 5 there and 5 after it; the other stays
    points[1, 0] = (3, 4)
    assert jitter(points, 10.0).tolist() == [pytest.approx(10 / 2 / 10), pytest.approx(5 / 2 / 10)]
    assert jitter(points, np.array([10.0, 20.0])).tolist() == [pytest.approx(0.5), pytest.approx(0.125)]


def test_steady_motion_has_no_jitter_and_two_frames_have_no_number():
    points = np.arange(5)[:, None, None] * np.array([[1.0, -2], [3, 0]])
    assert jitter(points, 7.0).tolist() == [0.0, 0.0, 0.0]
    assert jitter(points[:2], 7.0).shape == (0,)
