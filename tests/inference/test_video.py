"""What ``track`` and ``Landmarker.track`` share: faces followed in one reading, landmarks in the frames they are of."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from toys import scenery
from videos import write_video

from tsal.faces import Followed, Track
from tsal.faces import follow as faces
from tsal.inference import video as module
from tsal.inference.video import detect_frames, detect_tracks, follow_faces
from tsal.schemes import TIGHT
from tsal.utils import DataError

FACE = np.array([31.0, 21, 79, 75])  # its landmarks' box
FOUND = FACE + [-6, -4, 4, 2]


class Knows:
    """A detector whose landmarks are the corners of FACE wherever a crop is cut; scores say the mean of the crop."""

    batch, scheme = 5, SimpleNamespace(points=4, box=TIGHT)

    def __init__(self):
        self.calls = []

    def cut_bgr(self, image, box):
        return image[:8, :8], np.asarray(box, float)

    def __call__(self, cuts):
        self.calls.append(len(cuts))
        corners = np.array([FACE[[0, 1]], FACE[[2, 1]], FACE[[0, 3]], FACE[[2, 3]]], np.float32)
        scores = np.array([[crop.mean() / 255] * 4 for crop, _ in cuts], np.float32).reshape(-1, 4)
        return np.tile(corners, (len(cuts), 1, 1)), scores


@pytest.fixture()
def clip(tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "find_faces", lambda *_: FOUND[None])
    still = cv2.cvtColor(scenery(0), cv2.COLOR_GRAY2BGR)
    return write_video(tmp_path / "v.avi", [still] * 24)


@pytest.mark.parametrize("by_landmarks, readings", [(True, 1), (False, 3)])
def test_boxes_are_tight_after_one_reading_by_landmarks_and_three_by_flow(clip, monkeypatch, by_landmarks, readings):
    counts = []
    for place in (faces, module):
        plain = place.read_frames
        monkeypatch.setattr(place, "read_frames", lambda path, plain=plain, **_: counts.append(1) or plain(path))
    followed = follow_faces(clip, Knows(), by_landmarks=by_landmarks, min_face=0.3, progress=False)
    assert len(counts) == readings
    [track] = followed.tracks
    assert (track.first, track.last) == (0, 23) and np.allclose(track.boxes, FACE, atol=0.3)


@pytest.mark.parametrize("track", ["a", None])
def test_given_boxes_are_taken_as_they_are(clip, track):
    """Whether or not the file links them: they shake, and are not smoothed."""
    detector = Knows()
    boxes = FOUND + np.random.default_rng(0).uniform(-3, 3, (24, 4))
    given_boxes = {n: [faces.GivenBox(tuple(box), track, "row")] for n, box in enumerate(boxes)}
    followed = follow_faces(clip, detector, given=given_boxes, progress=False)
    assert np.allclose(followed.tracks[0].boxes, boxes) and not detector.calls


def test_a_face_seen_too_seldom_is_left_out_and_noted(clip, monkeypatch):
    searches = []

    def find(*_):
        searches.append(1)
        return np.stack([FOUND, FOUND + [70, 30, 70, 30]][: 3 - min(2, len(searches))])

    monkeypatch.setattr(faces, "find_faces", find)
    followed = follow_faces(clip, Knows(), min_face=0.3, progress=False)
    assert len(followed.tracks) == 1
    assert [note for note in followed.notes if note.startswith("v.avi: faces left out: 1, each seen in too few")]


def test_all_faces_of_a_frame_are_looked_at_in_one_pass(clip, monkeypatch):
    monkeypatch.setattr(faces, "find_faces", lambda *_: np.stack([FOUND, FOUND + [70, 30, 70, 30]]))
    detector = Knows()
    follow_faces(clip, detector, min_face=0.3, progress=False)
    assert set(detector.calls) == {2}


# --- landmarks ---


def followed_of(count: int, *spans: tuple[int, int]) -> Followed:
    tracks = [Track(first, [FACE] * (last + 1 - first), [True] * (last + 1 - first)) for first, last in spans]
    return Followed(160, 120, [40.0 * n for n in range(count)], [], tracks, 0, [])


@pytest.fixture()
def brightening(tmp_path):
    """Frame n is of grey level 10 n + 20."""
    return write_video(tmp_path / "b.avi", [np.full((64, 64, 3), 10 * n + 20, np.uint8) for n in range(20)])


def test_landmarks_are_of_the_frame_and_the_face_that_they_are_said_to_be_of(brightening):
    followed = followed_of(20, (0, 11), (3, 6), (5, 12))
    first, other = Knows(), Knows()
    landmarks = detect_tracks(brightening, followed, [first, other], progress=False)
    assert [values.shape for values in landmarks] == [(2, 12, 4, 3), (2, 4, 4, 3), (2, 8, 4, 3)]
    for track, values in zip(followed.tracks, landmarks):
        levels = (10 * np.arange(track.first, track.last + 1) + 20) / 255
        assert np.abs(values[..., 2] - levels[:, None]).max() < 2 / 255
    assert sum(first.calls) == sum(other.calls) == 24 and max(first.calls) < 5 + 3


def test_frames_without_a_face_come_in_their_turn(brightening):
    frames = list(detect_frames(brightening, followed_of(20, (4, 5)), [Knows()], progress=False))
    assert [frame.number for frame in frames] == list(range(20))
    assert [frame.tracks for frame in frames if frame.tracks] == [[0], [0]]
    assert all(frame.points.shape == (1, len(frame.tracks), 4, 2) for frame in frames)


def test_a_video_that_has_become_shorter_is_said_so(brightening):
    followed = followed_of(30, (0, 19))
    with pytest.raises(DataError, match="ended at frame 19, not 29: has the file changed"):
        list(detect_frames(brightening, followed, [Knows()], progress=False))
    longer = dataclasses.replace(followed, tracks=followed_of(30, (0, 25)).tracks)
    with pytest.raises(DataError, match="ended at frame 19, not 25"):
        detect_tracks(brightening, longer, [Knows()], progress=False)
