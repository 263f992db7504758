"""Landmarks made steady: votes are carried along the motion, never across a cut, and a repeated frame has none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from toys import Shift, scenery

import tsal
from tsal.faces.follow import Followed, Track
from tsal.inference.steadying import Steadier, carried_with_face, shipped_tracker, steady, steady_tracks
from tsal.synthetic.dataset import render_clip
from tsal.tracker.frozen import FrozenTracker
from tsal.utils.errors import ConfigError, DataError

POINTS = np.array([[40.0, 30], [100, 40], [60, 90], [90, 80]])
GREY = np.zeros((120, 160, 3), np.uint8)


def still() -> FrozenTracker:
    """A tracker that says that nothing moves."""
    return FrozenTracker(Shift(0.0, 0.0))


def jumps(count: int, at: int, by: float = 7.0) -> np.ndarray:
    """Points that stay (count, 4, 2), but for frame ``at``, where they are ``by`` px to the right."""
    points = np.repeat(POINTS[None], count, 0)
    points[at, :, 0] += by
    return points


def through(steadier: Steadier, points: np.ndarray, scores=None, cuts=(), repeats=()) -> np.ndarray:
    out = []
    for t, landmarks in enumerate(points):
        marks = {"cut": t in cuts, "repeat": t in repeats}
        out += steadier.push(GREY, landmarks, None if scores is None else scores[t], **marks)
    return np.stack(out + steadier.flush())


def moved(points: np.ndarray) -> list[float]:
    """How far to the right of their places the points are (T,), the same for all of them."""
    right = points - POINTS
    assert np.allclose(right[..., 1], 0, atol=1e-3) and np.allclose(right[..., 0], right[:, :1, 0], atol=1e-3)
    return right[:, 0, 0].tolist()


# --- who votes ---


def test_each_frame_is_the_mean_with_as_many_frames_before_and_after_that_count_less_the_further_they_are():
    """Weights 1/3, 2/3, 1, 2/3, 1/3 of a window of 2; the first and the last frames lack a part."""
    output = through(Steadier(window=2, tracker=still()), jumps(7, 3))
    far, near, middle = 7 * (1 / 3) / (8 / 3), 7 * (2 / 3) / 3, 7 / 3
    assert moved(output) == pytest.approx([0, far, near, middle, near, far, 0], abs=1e-3)


@pytest.mark.parametrize(
    "lag, expected", [(0, [0, 1 / (5 / 3), (2 / 3) / 2, (1 / 3) / 2]), (1, [(2 / 3) / (5 / 3), 1 / (7 / 3)])]
)
def test_with_a_lag_only_so_many_later_frames_vote(lag, expected):
    output = through(Steadier(window=2, lag=lag, tracker=still()), jumps(5, 1))
    assert moved(output)[: len(expected)] == pytest.approx([7 * share for share in expected], abs=1e-3)


@pytest.mark.parametrize("lag", [0, 2])
def test_a_stream_gets_each_frame_so_many_frames_late(lag):
    steadier = Steadier(lag=lag, tracker=still())
    counts = [len(steadier.push(GREY, POINTS)) for _ in range(6)]
    assert counts == [0] * lag + [1] * (6 - lag) and len(steadier.flush()) == lag


def test_no_vote_is_carried_across_a_cut():
    points = jumps(6, 3)
    points[4:] = points[3]
    assert moved(through(Steadier(tracker=still()), points, cuts=[3])) == pytest.approx([0, 0, 0, 7, 7, 7], abs=1e-3)
    assert 0 < moved(through(Steadier(tracker=still()), points))[2] < 7


def test_a_repeat_keeps_points_that_the_frame_before_does_not_know():
    points = np.repeat(POINTS[None], 4, 0)
    points[1, 0] = np.nan
    output = through(Steadier(window=1, tracker=still()), points, repeats=[2])
    assert np.isnan(output[1, 0]).all() and np.isfinite(output[2]).all()


def test_a_repeated_frame_has_no_vote_and_gets_the_points_of_the_frame_it_repeats():
    """The frame that jumps is shown three times: its vote in the others counts once."""
    points = np.stack([POINTS, POINTS + [8.0, 0], POINTS + [99.0, 0], POINTS + [99.0, 0], POINTS])
    output = through(Steadier(window=1, tracker=still()), points, repeats=[2, 3])
    assert moved(output) == pytest.approx([8 / 3, 4, 4, 4, 8 / 3], abs=1e-3)  # neighbours count half


def test_a_vote_counts_as_much_as_its_score():
    scores = np.ones((3, 4))
    scores[1] = 0.25
    output = through(Steadier(window=1, tracker=still()), jumps(3, 1), scores)
    assert moved(output) == pytest.approx([7 * 0.125 / 1.125, 7 * 0.25 / 1.25, 7 * 0.125 / 1.125], abs=1e-3)
    none = through(Steadier(window=1, tracker=still()), jumps(3, 1), np.zeros((3, 4)))
    assert moved(none) == pytest.approx([7 / 3, 7 / 2, 7 / 3], abs=1e-3)  # as if all were trusted alike


def test_points_are_carried_by_the_flow_in_px_of_the_frame():
    """Everything moves by 1 px of the tracker's 96 px input a pair; the mean of both frames' boxes decides its size."""
    points = np.stack([POINTS, POINTS])
    first, second = through(Steadier(window=1, tracker=FrozenTracker(Shift(1.0, 0.0))), points)
    step = 60 * 1.35 / 95  # px of the frame, as the box is 60 px wide and high
    assert moved(np.stack([first, second])) == pytest.approx([-step / 3, step / 3], abs=1e-3)  # by weights 1 and 1/2


def test_a_flow_that_does_not_come_back_carries_nothing():
    class Torn(Shift):
        def forward(self, first, second, both=False):
            estimate = super().forward(first, second, both)
            return estimate._replace(flows=[estimate.flows[0].abs()])  # there by 4 px, and back by 4 px further

    output = through(Steadier(window=1, tracker=FrozenTracker(Torn(4.0, 0.0))), jumps(3, 1))
    assert moved(output) == pytest.approx([0, 7, 0], abs=1e-3)


def test_a_landmark_without_a_vote_of_its_own_is_carried_with_the_face():
    """Turned by a right angle, enlarged by two and shifted; the fourth's flow is wrong, and has no vote."""
    points = torch.tensor([[[1.0, 0], [0, 1], [2, 2], [5, -1]]])
    turned = torch.stack([-2 * points[..., 1] + 10, 2 * points[..., 0] + 20], -1)
    carried = turned.clone()
    carried[0, 3] += 50
    trust = torch.tensor([[1.0, 1, 1, 0.5]])
    face, votes = carried_with_face(points, carried, torch.tensor([[1.0, 0.5, 1, 0]]), trust)
    assert torch.allclose(face, turned, atol=1e-3) and torch.allclose(votes, torch.tensor([[0, 0.5, 0, 0.5]]))
    _, votes = carried_with_face(points, carried, torch.tensor([[0.35, 0, 0, 0]]), trust)
    assert torch.allclose(votes, 0.35 / 1.75 * torch.tensor([[0.65, 1, 1, 0.5]]))  # a fifth of half the trust


# --- what is given ---


def test_an_unknown_point_stays_unknown_and_spoils_no_other():
    points = jumps(3, 1)
    points[0, 2] = np.nan
    output = through(Steadier(window=2, tracker=still()), points)
    assert np.isnan(output).sum() == 2 and np.isnan(output[0, 2]).all()
    assert np.allclose(output[1, 2], POINTS[2] + [7 / (5 / 3), 0], atol=1e-3)  # of two frames, not three
    points[0] = np.nan
    assert np.isnan(through(Steadier(tracker=still()), points)[0]).all()


def test_many_frames_come_out_all_and_in_order():
    points = np.repeat(POINTS[None], 50, 0) + np.arange(50.0)[:, None, None]
    output = through(Steadier(window=1, tracker=still()), points)
    assert output.shape == (50, 4, 2) and np.allclose(output[1:-1], points[1:-1], atol=1e-3)  # a line stays one


WRONG = [
    ([GREY] * 3, np.zeros((2, 4, 2)), None, "2 frames of points and 3 of scores for 3 frames"),
    ([GREY] * 2, np.zeros((2, 4, 3)), None, "frame 0: points of shape"),
    ([GREY] * 2, np.zeros((2, 4, 2)), np.zeros((2, 5)), "frame 0: points of shape"),
    ([GREY, GREY[..., 0]], np.ones((2, 4, 2)), None, "frame 1: want RGB"),
    ([GREY / 255.0], np.ones((1, 4, 2)), None, "frame 0: want RGB"),
]


@pytest.mark.parametrize("frames, points, scores, said", WRONG)
def test_what_is_wrong_with_the_arrays_is_said(frames, points, scores, said):
    with pytest.raises(DataError, match=said):
        steady(points, scores, frames, cuts=(), repeats=())


@pytest.mark.parametrize("frame", [GREY[..., 0], GREY / 255.0])
def test_frames_of_another_kind_are_said_where_cuts_are_looked_for_too(frame):
    with pytest.raises(DataError, match="frame 1: want RGB"):
        steady(np.ones((2, 4, 2)), None, [GREY, frame])


def test_numpy_s_whole_numbers_and_the_device_auto_are_taken():
    points = jumps(3, 1)
    output = steady(points, None, [GREY] * 3, window=np.int64(2), lag=np.int64(1), cuts=(), repeats=(), device="auto")
    assert np.array_equal(output, steady(points, None, [GREY] * 3, window=2, lag=1, cuts=(), repeats=()))
    with pytest.raises(ConfigError, match="'abacus' is no device"):
        Steadier(device="abacus")


@pytest.mark.parametrize("options", [{"window": 0}, {"lag": -1}, {"lag": 1.5}])
def test_a_window_or_lag_that_is_none_is_said(options):
    with pytest.raises(ConfigError, match="want a whole number of frames"):
        Steadier(tracker=still(), **options)


# --- with the tracker that ships ---


@pytest.fixture(scope="module")
def clip():
    """A rendered head's frames, its exact landmarks, and the same with noise of 1 px."""
    head = render_clip(1, 10, 160, flow=False)
    noise = np.random.default_rng(0).normal(0, 1, head.points.shape)
    return head, (head.points + noise).astype(np.float32)


def shaken(points: np.ndarray, truth: np.ndarray) -> float:
    return np.linalg.norm(np.diff(points - truth, n=2, axis=0), axis=-1).mean()


def test_noise_goes_and_the_motion_of_a_rendered_head_stays(clip):
    head, noisy = clip
    output = tsal.steady(noisy, None, list(head.images))
    error, before = (np.linalg.norm(points - head.points, axis=-1).mean() for points in (output, noisy))
    assert shaken(output, head.points) < 0.4 * shaken(noisy, head.points) and error < 0.7 * before
    moves = np.linalg.norm(np.diff(head.points, axis=0), axis=-1).mean()
    assert moves > 1  # px a frame: a filter that stood still would be seen


def test_cuts_and_repeats_are_looked_for_where_they_are_not_given(clip):
    head, noisy = clip
    other = render_clip(3, 10, 160, flow=False)
    frames = [*head.images[:6], head.images[5], *other.images[:6]]
    points = np.concatenate([noisy[:6], noisy[5:6] + 30, other.points[:6]])
    output = steady(points, None, frames)
    assert np.array_equal(output[5], output[6])
    alone = steady(other.points[:6], None, list(other.images[:6]), cuts=(), repeats=())
    assert np.allclose(output[7:], alone, atol=0.05)


def test_steady_points_move_wherever_the_face_moves_slowly_before_it_moves_fast():
    steps = np.concatenate([np.full(8, 4.0), [2.5, 1.5, 0.9, 0.6, 0.9, 1.5, 2.5], np.full(8, 4.0)])  # px a frame
    places = np.concatenate([[0.0], np.cumsum(steps)])
    wide = cv2.cvtColor(scenery(0, 120, 240), cv2.COLOR_GRAY2RGB)
    frames = [
        cv2.warpAffine(wide, np.float32([[1, 0, -place], [0, 1, 0]]), (160, 120))  # all of it moves to the left
        for place in places
    ]
    points = np.stack([POINTS + [40 - place, 0] for place in places])
    motion = np.diff(tsal.steady(points, None, frames)[..., 0], axis=0).mean(1)
    assert np.abs(motion[3:-3] + steps[3:-3]).max() < 0.3  # at the ends fewer frames vote


def test_tracks_of_a_video_are_steadied_like_lists_of_frames(clip):
    head, noisy = clip
    landmarks = np.zeros((2, 8, 68, 3), np.float32)  # two models, a track of the frames 1 to 8
    landmarks[..., :2], landmarks[..., 2] = noisy[1:9], 0.5
    boxes = [np.concatenate([p.min(0), p.max(0)]) for p in noisy[1:9]]
    tracks = [Track(1, boxes, [True] * 8)]
    followed = Followed(160, 160, [40.0 * t for t in range(10)], [], tracks, 0, [], [4])
    reading = ((t, 40.0 * t, image[..., ::-1]) for t, image in enumerate(head.images))
    (out,) = steady_tracks(reading, followed, [landmarks])
    expected = steady(noisy[1:9], None, list(head.images[1:9]), cuts=(), repeats=[3])
    assert np.allclose(out[..., :2], expected, atol=1e-3) and np.all(out[..., 2] == 0.5)
    assert np.array_equal(landmarks[0, :, :, :2], noisy[1:9])  # what was detected is kept


def test_the_shipped_tracker_is_loaded_once():
    assert shipped_tracker(torch.device("cpu")) is shipped_tracker(torch.device("cpu"))
