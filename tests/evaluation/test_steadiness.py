"""Steadiness on consecutive frames, by hand: what is consecutive, jitters, carried points, lag."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import DotDetector, face, moving_clip, save_image, scenery

from tsal.data.points import write_points
from tsal.data.views import FaceStore
from tsal.evaluation import carried
from tsal.evaluation.carried import flow_difference
from tsal.evaluation.predictions import metrics_rows, predictions_table, read_ground_truth
from tsal.evaluation.steadiness import follows, inner_frames, lag, table_jitters
from tsal.schemes import generic_scheme

FRAMES = 6
RISING = np.array([0.0, 1, 4, 9, 16, 25])  # second difference 2 everywhere
TO_AND_FRO = np.array([1.0, -1, 1, -1, 1, -1])  # second difference 4 everywhere


def track(*moves: np.ndarray) -> np.ndarray:
    """Landmarks (T, K, 2) that move along x, one series of places (T,) each."""
    return np.stack([np.stack([10 + move, np.full(len(move), 20.0)], -1) for move in moves], 1)


def table_of(points: np.ndarray, truth: np.ndarray, paths=None, lists=None, d: float = 50.0) -> dict[str, np.ndarray]:
    """A table of one model and source; d = 50 px, and boxes of 100 x 25 px. Flow that loses everything."""
    count = len(points)
    return {
        "list": np.array(lists or ["val"] * count),
        "path": np.array(paths or [f"clip/{t}.jpg" for t in range(count)]),
        "box": np.tile([0.0, 0.0, 100.0, 25.0], (count, 1)),
        "truth": truth,
        "visible": np.isfinite(truth[..., 0]),
        "norm_px": np.full(count, d),
        "degenerate": np.zeros(count, bool),
        "models": np.array(["teacher"]),
        "sources": np.array(["heatmap"]),
        "points": points[None, None],
        "flow_difference": np.full((1, 1, *points.shape[:2]), np.nan),
    }


# --- what is consecutive ---


@pytest.mark.parametrize(
    ("paths", "lists", "inner"),
    [
        (["a/7.jpg", "a/8.jpg", "a/9.jpg", "a/010.jpg"], "vvvv", [1, 2]),
        (["a/1.jpg", "a/2.jpg", "a/4.jpg", "a/5.jpg", "a/6.jpg"], "vvvvv", [3]),  # 3 is left out
        (["a/0.jpg", "a/2.jpg", "a/4.jpg"], "vvv", []),  # even, but no neighbours
        (["a/0.jpg", "a/1.jpg", "b/2.jpg"], "vvv", []),
        (["a/0.jpg", "a/1.jpg", "a/2.jpg"], "vvw", []),
        (["a/2.jpg", "a/1.jpg", "a/0.jpg"], "vvv", []),
        (["a/x1.jpg", "a/x2.jpg", "a/x3.jpg"], "vvv", []),  # photographs
        (["a/0.jpg", "a/1.jpg"], "vv", []),
    ],
)
def test_three_rows_of_successive_numbers_are_consecutive_and_no_others(paths, lists, inner):
    table = {"path": np.array(paths), "list": np.array(list(lists))}
    assert np.flatnonzero(inner_frames(follows(table))).tolist() == inner


# --- jitters ---


def test_constant_velocity_has_no_jitter_and_a_zigzag_four_times_its_swing():
    steady = 3.0 * np.arange(FRAMES)
    jitter = table_jitters(table_of(track(steady, steady), track(steady, steady)))["jitter"][0, 0]
    assert jitter[1:-1].tolist() == [0.0] * 4 and np.isnan(jitter[[0, -1]]).all()
    shaken = table_of(track(steady + TO_AND_FRO, steady), track(steady, steady))
    # of two landmarks one shakes: 4 px / 2 / 50 px
    assert table_jitters(shaken)["jitter"][0, 0, 1:-1] == pytest.approx([0.04] * 4, abs=1e-12)
    row = metrics_rows(shaken)[0]
    assert row["jitter"] == pytest.approx(4.0) and row["inner_frames"] == 4 and row["jitter_d"] == "normaliser"


def test_error_jitter_of_a_perfect_track_is_zero_however_it_moves_and_of_errors_to_and_fro_four_times_them():
    truth = track(RISING)
    perfect = metrics_rows(table_of(truth, truth))[0]
    # the face itself speeds up by 2 px a frame
    assert perfect["error_jitter"] == 0 and perfect["jitter"] == perfect["label_jitter"] == pytest.approx(100 * 2 / 50)
    off = metrics_rows(table_of(track(RISING + 0.5 * TO_AND_FRO), truth))[0]
    assert off["error_jitter"] == pytest.approx(100 * 4 * 0.5 / 50)
    constant = metrics_rows(table_of(truth + 3, truth))[0]
    assert constant["error_jitter"] == pytest.approx(0, abs=1e-12) and constant["NME"] > 8


def test_error_jitter_sees_landmarks_that_are_visible_in_all_three_frames():
    truth = track(RISING, RISING)
    points = truth + np.stack([TO_AND_FRO, 0 * TO_AND_FRO], -1)[:, :, None] * np.array([1.0, 0.0])
    truth[0, 0] = np.nan  # so the shaking landmark counts at frames 2, 3 and 4 alone
    jitters = table_jitters(table_of(points, truth))
    assert jitters["error_jitter"][0, 0, 1:-1] == pytest.approx([0, 0.04, 0.04, 0.04], abs=1e-12)
    assert jitters["label_jitter"][1:-1] == pytest.approx([0.04] * 4)


def test_a_list_without_labels_is_measured_by_its_boxes_and_has_no_errors():
    table = table_of(track(TO_AND_FRO), np.full((FRAMES, 1, 2), np.nan), d=np.nan)
    row = metrics_rows(table)[0]
    # sqrt(100 x 25) = 50 px
    assert row["jitter"] == pytest.approx(100 * 4 / 50) and row["jitter_d"] == "box" and np.isnan(row["NME"])
    assert not {"error_jitter", "label_jitter", "lag"} & set(row)


def test_lists_have_numbers_of_their_own_and_one_without_inner_frames_has_none():
    points = np.concatenate([track(TO_AND_FRO), track(RISING), track(RISING)])
    paths = [f"{clip}/{step * t}.jpg" for clip, step in (("a", 1), ("b", 1), ("c", 2)) for t in range(FRAMES)]
    table = table_of(points, points, paths, ["one"] * FRAMES + ["two"] * FRAMES + ["gaps"] * FRAMES)
    first, second, gaps = metrics_rows(table)
    assert (first["jitter"], second["jitter"]) == (pytest.approx(8), pytest.approx(4))
    assert "jitter" not in gaps and "inner_frames" not in gaps and gaps["NME"] == 0


def test_a_frame_that_is_not_scored_is_no_inner_frame():
    table = table_of(track(TO_AND_FRO), track(0 * TO_AND_FRO))
    table["norm_px"][2] = np.nan
    jitters = table_jitters(table)
    for name in ("jitter", "error_jitter"):
        assert np.isfinite(jitters[name][0, 0]).tolist() == [False, True, False, True, True, False]
    assert metrics_rows(table)[0]["inner_frames"] == 3


def test_flow_jitter_is_the_mean_of_what_flow_kept_and_counts_what_it_lost():
    table = table_of(track(RISING, RISING), track(RISING, RISING))
    table["flow_difference"][0, 0] = [[9, 9], [1, 3], [2, np.nan], [np.nan, np.nan], [5, 1], [9, 9]]
    jitters = table_jitters(table)
    np.testing.assert_allclose(jitters["flow_jitter"][0, 0], [np.nan, 0.04, 0.04, np.nan, 0.06, np.nan])
    row = metrics_rows(table)[0]
    assert row["flow_jitter"] == pytest.approx(14 / 3) and row["flow_left_out"] == pytest.approx(100 * 3 / 8)


# --- carried points ---


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """A store of four frames whose crops (64 px) show the images at half size, and flow that is what a test says."""
    box = (0.0, 0.0, 126 / 1.35, 126 / 1.35)
    for t in range(4):
        save_image(tmp_path / "clip" / f"{t}.png", np.zeros((100, 100, 3), np.uint8))
    faces = [face(f"clip/{t}.png", box, row=t + 1) for t in range(4)]
    after, calls = np.array([False, True, True, True]), []

    def measure(points, forward, backward):
        """``forward`` and ``backward``: px of the crop along x, everywhere."""

        def flow(first, second):
            calls.append(len(first))
            dx = forward if len(calls) % 2 else backward
            return torch.tensor([dx, 0.0]).view(1, 2, 1, 1).expand(len(first), 2, 64, 64)

        monkeypatch.setattr(carried, "dis_flow", flow)
        store = FaceStore(tmp_path, generic_scheme(1), 64, 1.35, 10)
        return flow_difference(store, faces, points, after, workers=0), calls

    return measure


def test_points_that_move_as_the_flow_says_have_no_flow_jitter_and_others_the_rest(follow):
    moves = 4.0 * np.arange(4)  # px of the image: 2 px of the crop
    points = np.stack([track(moves), track(moves + [0, 3, 0, 0]), track(0 * moves)])  # three models
    difference, calls = follow(points, 2.0, -2.0)
    assert difference.shape == (3, 4, 1) and np.isnan(difference[:, [0, 3]]).all()
    # the second's frame 1 is off by 3 px: it counts twice there, and once in the next; the third should have moved
    assert difference[:, 1:3, 0] == pytest.approx(np.array([[0, 0], [6, 3], [0, 0]]), abs=1e-4)
    assert calls == [3, 3]  # three pairs, each way, for all models together


@pytest.mark.parametrize(("backward", "kept"), [(-2.9, True), (-3.1, False), (-1.1, True), (-0.9, False)])
def test_a_point_that_does_not_come_back_within_one_px_of_the_crop_is_left_out(follow, backward, kept):
    difference, _ = follow(track(np.zeros(4)), 2.0, backward)
    assert np.isfinite(difference[1:3]).tolist() == [[kept]] * 2


def test_a_point_that_leaves_the_crop_is_left_out(follow):
    # the crop's 64 px show the image from -16.3 to 109.7 px
    points = track(np.full(4, 90.0), np.full(4, 97.0))
    difference, _ = follow(points, 2.0, -2.0)
    assert np.isfinite(difference[1:3]).tolist() == [[True, False]] * 2


def test_flow_takes_out_what_the_picture_itself_does(tmp_path):
    """A picture that speeds up under its landmarks: they jitter, and do not shake against the picture."""
    picture = np.repeat(scenery(0, 200, 200)[..., None], 3, 2)
    moves, box = np.array([0, 1, 3, 6, 10]), (40.0, 40.0, 100.0, 100.0)
    for t, move in enumerate(moves):
        save_image(tmp_path / "clip" / f"{t}.png", picture[20:160, 40 - move : 180 - move])
    faces = [face(f"clip/{t}.png", box, row=t + 1) for t in range(len(moves))]
    points = np.array([[60.0, 60], [80, 75]]) + moves[:, None, None] * np.array([1.0, 0.0])
    shaken = points + np.array([0, 1, 0, 0, 0])[:, None, None] * np.array([0.0, 1.0])
    store = FaceStore(tmp_path, generic_scheme(2), 96, 1.35, 10)
    after = np.array([False, True, True, True, True])
    difference = flow_difference(store, faces, np.stack([points, shaken]), after)
    assert difference[0, 1:4] == pytest.approx(np.zeros((3, 2)), abs=0.1)
    assert difference[1, 1:4] == pytest.approx(np.array([[2, 2], [1, 1], [0, 0]]), abs=0.1)


def test_a_table_of_consecutive_frames_holds_what_flow_says_and_others_do_not(tmp_path):
    clip, places, _ = moving_clip(tmp_path, 4)
    for t, place in enumerate(places):
        write_points(tmp_path / "clip" / f"{t}.pts", place[None])
    faces = [face(f.image, f.box, f.image.replace("png", "pts"), row=f.row) for f in clip.faces]
    store = FaceStore(tmp_path, generic_scheme(1), 64, 1.35, 10)
    truth = read_ground_truth(store, faces, "box", generic_scheme(1))

    def table(which, consecutive):
        part = type(truth)(*(value[which] for value in vars(truth).values()))
        models = {"teacher": DotDetector()}
        chosen = [faces[i] for i in which]
        return predictions_table(models, store, part, chosen, torch.device("cpu"), consecutive=consecutive)

    every = table(range(4), True)
    row = metrics_rows(every)[0]
    assert row["inner_frames"] == 2 and {"jitter", "flow_jitter", "flow_left_out", "error_jitter"} <= set(row)
    assert row["jitter"] < 0.1  # of 60 px: the dot is found within a few hundredths of a px
    for other in (table(range(4), False), table([0, 1, 3], True)):
        assert "flow_difference" not in other and "jitter" not in metrics_rows(other)[0]


# --- lag ---


def wave(late: float, frames: int = 18, period: int = 12) -> np.ndarray:
    """A landmark (T, 1, 2) that swings along x, ``late`` frames after its label; the 12 velocities that shifts are
    measured on are a whole swing.
    """
    velocity = np.cos(2 * np.pi * (np.arange(frames) - late) / period)
    return np.r_[0, np.cumsum(velocity)][:, None, None] * np.array([0.1, 0.0])


@pytest.mark.parametrize("late", [-2, -1, 0, 0.5, 1, 2])
def test_a_delayed_track_gives_its_lag(late):
    assert lag([(wave(late), wave(0))]) == pytest.approx(late, abs=1e-9)


def test_a_lag_beyond_what_is_looked_for_is_the_last_shift():
    assert lag([(wave(4), wave(0))]) == 3 and lag([(wave(-4), wave(0))]) == -3


def test_lag_is_that_of_all_tracks_together_and_a_steady_drift_does_not_hide_it():
    drift = np.arange(19.0)[:, None, None] * np.array([5.0, 0.0])
    assert lag([(wave(1) + drift, wave(0)), (wave(1) - drift, wave(0) + drift)]) == pytest.approx(1, abs=1e-9)
    # one track that is ten times as lively outweighs two others
    assert lag([(10 * wave(2), 10 * wave(0)), (wave(0), wave(0)), (wave(0), wave(0))]) > 1.5


def test_there_is_no_lag_without_motion_labels_or_frames_enough():
    steady = np.arange(19.0)[:, None, None] * np.array([0.1, 0.0])
    assert np.isnan(lag([(wave(1), steady)])) and np.isnan(lag([(steady, wave(0))]))
    assert np.isnan(lag([])) and np.isnan(lag([(wave(0)[:, :0], wave(0)[:, :0])]))
    assert np.isnan(lag([(wave(1)[:9], wave(0)[:9])])) and round(lag([(wave(1)[:10], wave(0)[:10])])) == 1


def test_the_lag_of_a_list_is_in_its_metrics_and_does_not_cross_a_gap():
    points, truth = 50 * wave(1) + 20, 50 * wave(0) + 20
    row = metrics_rows(table_of(points, truth))[0]
    assert row["lag"] == pytest.approx(1, abs=1e-9)
    paths = [f"clip/{t + (t > 8)}.jpg" for t in range(19)]  # nine frames, and ten after a gap
    assert round(metrics_rows(table_of(points, truth, paths))[0]["lag"]) == 1
    short = [f"clip/{t + t // 9}.jpg" for t in range(19)]  # nine, nine, one
    assert "lag" not in metrics_rows(table_of(points, truth, short))[0]
