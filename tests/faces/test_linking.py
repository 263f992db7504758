"""Faces followed by their landmarks: where these go the boxes go; a face is lost with them; the finder starts, checks
and need not see a face for it to go on.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from toys import scenery
from videos import write_video

from tsal.faces import follow as faces
from tsal.faces import linking
from tsal.faces.linking import Shown, Track

ONE, FAR = np.array([20.0, 20, 60, 60]), np.array([100.0, 60, 140, 100])


def follow(count: int, finds: dict, landmarks, interval: float = 40, zoom: float = 1.0) -> list[Track]:
    """Tracks in a still scene: flow says that nothing moves.

    Args:
        finds: {frame: boxes that the finder finds there}, px of the scene; in other frames it does not search.
        landmarks: (frame, box) -> tight box and score of what is detected in it, px of the video.
    """
    image = scenery(0)

    def look(number: int, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tight, scores = zip(*(landmarks(number, box) for box in boxes))
        return np.array(tight, float), np.array(scores)

    frames = [
        Shown(
            t,
            interval * t,
            image,
            np.array(finds[t], float).reshape(-1, 4) if t in finds else None,
            image=np.array(t),
            zoom=zoom,
        )
        for t in range(count)
    ]
    tracks = list(linking.link(frames, look=look))
    surest = max(score for track in tracks for score in track.scores)
    return [linking.trimmed(track, surest, True) for track in tracks]


def test_a_face_goes_where_its_landmarks_go_and_the_finder_need_not_find_it_again():
    """It moves by 0.8 px a frame, both ways, through a scene that stands still, for three seconds."""
    [track] = follow(75, {t: [ONE] if not t else [] for t in range(75)}, lambda t, _: (ONE + 0.8 * t, 0.9))
    assert (track.first, track.last) == (0, 74) and sum(track.detected) == 1
    off = np.abs(np.array(track.boxes) - ONE - 0.8 * np.arange(75)[:, None]).max(1)
    assert (off[::3] < 1e-9).sum() > 20 and off.max() < 0.8 * 3.01  # between two looks flow sees no motion


def test_every_frame_is_looked_at_where_looks_are_as_often_as_frames():
    [track] = follow(40, {0: [ONE]}, lambda t, _: (ONE + 0.8 * t, 0.9), interval=100)
    assert np.allclose(track.boxes, ONE + 0.8 * np.arange(40)[:, None])


def test_a_face_ends_where_its_landmarks_become_unsure():
    [track] = follow(75, {0: [ONE]}, lambda t, _: (ONE, 0.9 if t < 30 else 0.8), interval=100)
    assert (track.first, track.last) == (0, 29)


def test_landmarks_a_little_less_sure_are_still_of_a_face():
    [track] = follow(40, {0: [ONE]}, lambda t, _: (ONE, 0.9 if t < 20 else 0.85), interval=100)
    assert track.last == 39


def test_a_face_ends_where_its_box_leaves_the_image():
    [track] = follow(60, {0: [ONE]}, lambda t, _: (ONE - [2 * t, 0, 2 * t, 0], 0.9), interval=100)
    assert track.last == 20  # then its centre is at x = 0


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_landmarks_that_shrink_or_grow_without_end_are_of_no_face(factor):
    def landmarks(_, box):
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * factor
        return np.concatenate([centre - half, centre + half]), 0.9

    [track] = follow(60, {0: [ONE]}, landmarks, interval=100)
    sides = np.array(track.boxes)[:, 2:] - np.array(track.boxes)[:, :2]
    assert sides.min() >= linking.LEAST_SIDE and sides.max() <= 160 and track.last < 20


def test_a_moment_of_unsure_landmarks_is_bridged_by_flow():
    unsure = range(10, 16)
    landmarks = {False: (ONE + 3, 0.9), True: (np.full(4, np.nan), 0.9)}
    [track] = follow(30, {0: [ONE]}, lambda t, _: landmarks[t in unsure], interval=100)
    assert track.last == 29 and np.allclose(track.boxes[1:], ONE + 3, atol=0.2)


def test_a_face_that_is_gone_for_over_a_second_ends_where_it_was_last_seen():
    tracks = follow(60, {0: [ONE], 40: [ONE]}, lambda t, _: (ONE, 0.1 if 10 <= t < 40 else 0.9), interval=100)
    assert [(track.first, track.last) for track in tracks] == [(0, 9), (40, 59)]


def test_a_find_whose_landmarks_are_those_of_a_followed_face_begins_no_track():
    beside = ONE + [25, 0, 25, 0]  # shares 3/8 of its area: the box alone says nothing
    tracks = follow(30, {t: [ONE, beside] for t in range(30)}, lambda t, _: (ONE, 0.9), interval=100)
    assert [(track.first, track.last) for track in tracks] == [(0, 29)]


def test_a_find_without_sure_landmarks_is_followed_by_flow_as_the_finder_has_it():
    def landmarks(_, box):
        return (FAR, 0.9) if box[0] > 90 else (np.full(4, np.nan), 0.5)

    near, far = follow(30, {t: [ONE, FAR - 2] for t in range(30)}, landmarks, interval=100)
    assert np.allclose(near.boxes, ONE) and np.allclose(far.boxes, FAR) and not any(near.scores)


def test_landmarks_are_looked_at_in_pixels_of_the_video():
    boxes = []
    follow(3, {0: [(19.5, 19.5, 59.5, 59.5)]}, lambda t, box: boxes.append(box) or (box, 0.9), zoom=0.5)
    assert np.allclose(boxes, (39.5, 39.5, 119.5, 119.5), atol=0.5)  # its pixels are half as large


def test_sure_landmarks_count_where_a_search_found_nothing():
    track = Track(0, [ONE] * 30, [True] * 3 + [False] * 27, 0, [True] * 30, [0.9] * 30)
    assert linking.is_face(track, 0.9) and not linking.is_face(track, 0.98)
    track.detected[2] = False
    assert not linking.is_face(track, 0.9)  # found twice: it may be a false hit


@pytest.mark.parametrize("score, often", [(0.9, False), (0.0, True)])
def test_a_face_with_sure_landmarks_that_is_no_more_found_is_not_searched_for_at_every_turn(
    tmp_path, monkeypatch, score, often
):
    still = cv2.cvtColor(scenery(0, 240, 320), cv2.COLOR_GRAY2BGR)
    path = write_video(tmp_path / "v.avi", [still] * 100, fps=25)
    searches, shapes = [], []

    def find(*_):
        searches.append(1)
        return ONE[None] if len(searches) < 12 else np.zeros((0, 4))

    def look(image, boxes):
        shapes.append(image.shape)
        return boxes, np.full(len(boxes), score)

    monkeypatch.setattr(faces, "find_faces", find)
    [track] = faces.follow_video(path, look=look, settled=3, workers=1, progress=False, min_face=0.3).tracks
    assert (len(searches) > 30) == often and (track.last == 99) != often
    assert set(shapes) == {(240, 320, 3)}
