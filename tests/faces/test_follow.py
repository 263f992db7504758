"""Faces are found, propagated, linked and smoothed; cuts are distinguished from flashes and motion; errors of a
boxes file are reported by row.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from toys import scenery
from videos import write_video

from tsal.faces import detect as finder
from tsal.faces import follow as faces
from tsal.faces import linking
from tsal.faces.boxes_file import GivenBox, read_boxes
from tsal.faces.detect import find_faces
from tsal.faces.linking import Shown, Track
from tsal.faces.median_flow import propagate
from tsal.faces.shots import mark_cuts
from tsal.faces.smooth import smooth_boxes
from tsal.synthetic.dataset import render_clip
from tsal.utils.boxes import iou, shared
from tsal.utils.errors import DataError


def moved(image: np.ndarray, zoom: float, x: float, y: float) -> np.ndarray:
    return cv2.warpAffine(
        image, np.array([[zoom, 0, x], [0, zoom, y]]), image.shape[::-1], borderMode=cv2.BORDER_REFLECT
    )


# --- boxes ---


def test_overlaps_of_boxes_are_those_worked_out_by_hand():
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert shared((0, 0, 4, 4), (1, 1, 2, 2)) == 1 and shared((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_smoothing_leaves_steady_motion_and_growth_alone_even_at_the_ends():
    t = np.arange(40)
    half = 20 * np.exp(0.01 * t)
    boxes = np.stack([100 + 2 * t - half, 50 - t - half, 100 + 2 * t + half, 50 - t + half], 1)
    assert np.allclose(smooth_boxes(boxes, 40), boxes, atol=1e-9)


def test_smoothing_takes_out_one_wrong_box_and_most_of_the_jitter():
    clean = np.tile([10.0, 20, 50, 60], (60, 1))
    noisy = clean + np.random.default_rng(0).normal(0, 1, clean.shape)
    noisy[30] += 25
    error = np.abs(smooth_boxes(noisy, 40) - clean)
    assert error[27:34].max() < 1.5 and error.mean() < 0.4  # 25 and 0.8 before


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_short_tracks_can_be_smoothed(count):
    boxes = np.tile([10.0, 20, 50, 60], (count, 1))
    assert np.allclose(smooth_boxes(boxes, 40), boxes)


# --- flow ---


def test_a_propagated_box_moves_and_grows_with_what_is_in_it():
    image = scenery(0)
    box = np.array([40.0, 30, 90, 80])
    propagated = propagate(image, moved(image, 1.05, 3, -2), box[None])[0]
    assert propagated == pytest.approx(box * 1.05 + [3, -2, 3, -2], abs=0.5)


def test_flow_into_another_scene_is_lost_and_said_so():
    assert np.isnan(propagate(scenery(0), scenery(1), np.array([[40.0, 30, 90, 80]]))).all()


# --- cuts ---


def thumb(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(40, 200, (18, 32, 3)).astype(np.float32)


def cuts(thumbs: list) -> list[int]:
    marked = list(mark_cuts(enumerate(thumbs)))
    assert [item for item, _ in marked] == list(range(len(thumbs)))  # every frame comes out once, in order
    return [item for item, cut in marked if cut]


def test_a_shot_begins_where_the_scene_changes():
    assert cuts([thumb(0)] * 20 + [thumb(1)] * 15 + [thumb(2)] * 30) == [20, 35]


def test_a_flash_is_no_cut():
    white = np.full((18, 32, 3), 255, np.float32)
    assert cuts([thumb(0)] * 20 + [white] * 3 + [thumb(0)] * 20) == []


def test_a_jump_of_the_camera_is_no_cut():
    wide = np.random.default_rng(0).uniform(40, 200, (18, 40, 3)).astype(np.float32)
    assert cuts([wide[:, 0:32]] * 20 + [wide[:, 2:34]] * 20) == []


def test_motion_that_goes_on_is_no_cut():
    wide = np.random.default_rng(0).uniform(40, 200, (18, 400, 3)).astype(np.float32)
    assert cuts([wide[:, 6 * t : 6 * t + 32] for t in range(40)]) == []


def test_a_cut_between_moving_shots_is_found():
    noise = [np.random.default_rng(s).uniform(0, 255, (18, 120, 3)).astype(np.float32) for s in (0, 1)]
    wide = [cv2.GaussianBlur(n, (0, 0), 3) for n in noise]
    wide = [cv2.normalize(w, None, 0, 255, cv2.NORM_MINMAX) for w in wide]
    assert cuts([wide[t // 20][:, 2 * (t % 20) : 2 * (t % 20) + 32] for t in range(40)]) == [20]


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_short_videos_come_out_whole(count):
    assert cuts([thumb(0)] * count) == []


# --- linking ---


def follow(finds: list, cut_at: int = -1, interval: float = 40, given: bool = False) -> list[Track]:
    """Tracks of hand-made finds in a still scene; ``finds``: a list of boxes for each frame, or None where nobody
    searched. ``given``: a person gave them.
    """
    image = scenery(0)
    boxes = [None if each is None else np.array(each, float).reshape(-1, 4) for each in finds]
    frames = [Shown(t, interval * t, image, each, t == cut_at) for t, each in enumerate(boxes)]
    return [linking.trimmed(track, 0.0) for track in linking.link(frames, given=given)]


ONE, TWO = (20, 20, 60, 60), (90, 40, 130, 80)


def test_two_faces_are_two_tracks_and_frames_without_a_find_are_propagated():
    tracks = follow([[ONE, TWO], None, [TWO, ONE], [ONE], [ONE, TWO]])
    assert [(t.first, t.detected) for t in tracks] == [
        (0, [True, False, True, True, True]),
        (0, [True, False, True, False, True]),
    ]
    assert np.allclose(tracks[0].boxes, [ONE] * 5, atol=0.2) and np.allclose(tracks[1].boxes, [TWO] * 5, atol=0.2)


def test_a_track_ends_at_its_last_find_when_the_face_is_not_found_again_for_a_second():
    tracks = follow([[ONE]] * 3 + [[]] * 40 + [[ONE]] * 3)
    assert [(t.first, t.last) for t in tracks] == [(0, 2), (43, 45)]


def test_the_last_frames_of_a_shot_are_kept_though_nobody_searched_in_them(tmp_path, monkeypatch):
    monkeypatch.setattr(faces, "find_faces", lambda *_: np.array([ONE], float))
    frames = [cv2.cvtColor(scenery(seed), cv2.COLOR_GRAY2BGR) for seed in (0, 3) for _ in range(14)]
    monkeypatch.setattr(
        faces, "read_frames", lambda *_, **__: ((t, t * 1000 / 60, frame) for t, frame in enumerate(frames))
    )
    monkeypatch.setattr(linking, "MIN_SEARCHES", 3)  # of 14 frames at 60 a second
    tracks = faces.follow_video(tmp_path / "v.mp4", progress=False, min_face=0.3).tracks
    assert [(t.shot, t.last) for t in tracks] == [(0, 13), (1, 27)] and not tracks[0].searched[-1]


@pytest.mark.parametrize("cut", [43, 44, 45, 46])
def test_a_face_that_comes_with_a_cut_is_found_in_its_first_frame(tmp_path, monkeypatch, cut):
    """Whether or not a search is due in that frame."""
    blank, photograph = np.full((120, 160, 3), 128, np.uint8), cv2.cvtColor(scenery(3), cv2.COLOR_GRAY2BGR)
    monkeypatch.setattr(
        faces, "find_faces", lambda grey, *_: np.array([ONE] if grey.std() > 5 else []).reshape(-1, 4).astype(float)
    )
    frames = [blank] * cut + [photograph] * 45
    monkeypatch.setattr(
        faces, "read_frames", lambda *_, **__: ((t, t * 1000 / 60, frame) for t, frame in enumerate(frames))
    )
    [track] = faces.follow_video(tmp_path / "v.mp4", progress=False, min_face=0.3).tracks
    assert (track.first, track.last) == (cut, cut + 44)


def test_a_cut_ends_every_track():
    assert [(t.shot, t.first, t.last) for t in follow([[ONE]] * 10, cut_at=4)] == [(0, 0, 3), (1, 4, 9)]


def test_two_faces_that_come_to_one_place_never_become_one_track():
    """One face passes behind another: both end where the boxes come to share half their area, and the face in front
    begins anew.
    """
    front = (90, 20, 130, 60)
    behind = [(20 + 4 * t, 20, 60 + 4 * t, 60) for t in range(14)]  # at t = 13 22 of 40 px are shared
    tracks = follow([[box, front] for box in behind] + [[front]] * 6)
    assert sorted((t.first, t.last) for t in tracks) == [(0, 13), (0, 13), (14, 19)]


def test_a_false_find_inside_a_followed_face_begins_no_track():
    assert len(follow([[ONE]] * 8 + [[ONE, (30, 30, 45, 45)]] * 4)) == 1


def test_a_track_that_was_hardly_ever_found_is_no_face():
    track = Track(0, [ONE] * 30, [True] * 6 + [False] * 24, 0, [True] * 30)
    assert not linking.is_face(track)
    assert linking.is_face(Track(0, [ONE] * 30, [True] * 6 + [False] * 24, 0, [True] * 12 + [False] * 18))


# --- given boxes ---


def boxes_out(tracks: list[Track]) -> dict[int, list]:
    """{frame: its boxes}, rounded and sorted."""
    frames: dict[int, list] = {}
    for track in tracks:
        for number, box in enumerate(track.boxes, track.first):
            frames.setdefault(number, []).append(tuple(int(round(value)) for value in box))
    return {number: sorted(frames[number]) for number in sorted(frames)}


OVERLAPPING = {
    "inside": [[ONE, (30, 30, 45, 45)]] * 8,
    "half hidden": [[ONE, (40, 20, 80, 60)]] * 8,
    "passing": [[ONE, (4 * t, 20, 40 + 4 * t, 60)] for t in range(1, 12)],
}


@pytest.mark.parametrize("case", OVERLAPPING)
def test_given_boxes_of_overlapping_faces_all_come_out(tmp_path, case):
    """Those of a finder would end: false finds are like that."""
    finds = OVERLAPPING[case]
    assert boxes_out(follow(finds)) != dict(enumerate(map(sorted, finds)))
    assert boxes_out(follow(finds, given=True)) == dict(enumerate(map(sorted, finds)))
    video = write_video(tmp_path / "v.avi", [cv2.cvtColor(scenery(0), cv2.COLOR_GRAY2BGR)] * len(finds))
    given_boxes = {t: [GivenBox(tuple(map(float, box)), None, "row") for box in each] for t, each in enumerate(finds)}
    tracks = faces.follow_video(video, given=given_boxes, progress=False).tracks
    assert boxes_out(tracks) == dict(enumerate(map(sorted, finds)))


def test_a_face_whose_given_box_jumps_in_size_has_one_box_in_every_frame():
    small, large = (60, 40, 80, 60), (40, 20, 100, 80)  # 1/9 in common: not linked
    finds = [[small]] * 10 + [[large]] * 3 + [[small]] * 4
    tracks = follow(finds, given=True)
    assert boxes_out(tracks) == dict(enumerate(map(sorted, finds)))
    assert [(track.first, track.last) for track in tracks] == [(0, 9), (10, 12), (13, 16)]


def test_a_given_face_goes_on_by_flow_where_only_the_one_before_it_has_a_box():
    half = (40, 20, 80, 60)
    tracks = follow([[ONE, half]] * 3 + [[ONE]] * 5 + [[ONE, half]] * 3, given=True)
    assert [(track.first, track.last) for track in tracks] == [(0, 10), (0, 10)]


# --- the finder ---


def test_a_rendered_face_is_found_about_where_its_landmarks_are():
    clip = render_clip(1, 1, 160)
    boxes = find_faces(cv2.cvtColor(clip.images[0], cv2.COLOR_RGB2GRAY), 0.2)
    truth = np.concatenate([clip.points[0].min(0), clip.points[0].max(0)])
    assert len(boxes) == 1 and iou(boxes[0], truth) > 0.7


def test_a_profile_box_of_the_mirrored_cascade_is_the_mirrored_box():
    image = np.zeros((90, 101), np.uint8)

    class Finds:  # one hit at the left in whatever it is given
        def detectMultiScale2(self, *_, **__):
            return np.array([[10, 20, 40, 40]]), np.array([9])

    class FindsNothing:
        def detectMultiScale2(self, *_, **__):
            return (), ()

    finder._of_thread.cascades = (FindsNothing(), Finds())
    try:
        box, twin = find_faces(image)
    finally:
        del finder._of_thread.cascades
    assert np.allclose(sorted([box[0], twin[0]]), sorted([box[0], 100 - box[2]])) and np.allclose(
        box[[1, 3]], twin[[1, 3]]
    )
    assert np.allclose((box[0] + box[2]) / 2, 10 + 19.5 - 0.08 * 40) and np.allclose(box[2] - box[0], 0.77 * 40)


def test_an_opencv_without_the_cascades_is_reported_in_one_line(monkeypatch, tmp_path):
    if hasattr(finder._of_thread, "cascades"):
        monkeypatch.delattr(finder._of_thread, "cascades")
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path) + "/")
    with pytest.raises(DataError, match="comes without haarcascade_frontalface_alt2.xml") as caught:
        find_faces(np.zeros((90, 90), np.uint8))
    assert len(caught.value.problems) == 1


def test_found_boxes_fit_the_landmark_boxes_of_real_faces(realdata):
    rows = [line.split() for line in (realdata / "lists" / "YTF.val.GTB").read_text().splitlines()][::23]
    best = []
    for image, _, *box in rows:
        grey, zoom = finder.shrunk(cv2.imread(str(realdata / image)), 0.1)
        best.append(
            max(
                (iou((detection + 0.5) / zoom - 0.5, np.array(box, float)) for detection in find_faces(grey)),
                default=0.0,
            )
        )
    assert np.mean(np.array(best) > 0.3) > 0.9 and np.median(best) > 0.7


# --- boxes files ---


def test_a_boxes_file_is_read_with_and_without_video_and_track(tmp_path):
    path = tmp_path / "b.csv"
    path.write_text("frame,x1,y1,x2,y2\n3,1,2,3,4\n3,5,6,7,8\n\n0,0,0,1,1\n")
    boxes = read_boxes(path)[""]
    assert [row.box for row in boxes[3]] == [(1, 2, 3, 4), (5, 6, 7, 8)] and boxes[0][0].track is None
    assert boxes[0][0].where == f"{path}:5"
    path.write_text("\ufeffvideo,frame,x1,y1,x2,y2,track\na b.mp4,3,1,2,3,4,left\n", encoding="utf-8")
    assert read_boxes(path)["a b.mp4"][3][0].track == "left"


BAD = [
    ("", "its first line is"),
    ("frame,x1,y1,x2\n0,1,2,3\n", "its first line is"),
    ("0,1,2,3,4\n", "its first line is"),
    ("frame,x1,y1,x2,y2\n", "holds no boxes"),
    ("frame,x1,y1,x2,y2\n0,1,2,3\n", ":2: 4 columns, want 5"),
    ("frame,x1,y1,x2,y2\n0,1,2,3,x\n", ":2: a box is four numbers"),
    ("frame,x1,y1,x2,y2\n0,1,2,3,nan\n", ":2: a box is four numbers"),
    ("frame,x1,y1,x2,y2\n0,3,2,1,4\n", ":2: box is empty or inverted"),
    ("frame,x1,y1,x2,y2\n0,1,2,3,2\n", ":2: box is empty or inverted"),
    ("frame,x1,y1,x2,y2\n-1,1,2,3,4\n", ":2: frame '-1'"),
    ("frame,x1,y1,x2,y2\n1.5,1,2,3,4\n", ":2: frame '1.5'"),
    ("frame,x1,y1,x2,y2,track\n1,1,2,3,4,\n", ":2: track is empty"),
    ("frame,x1,y1,x2,y2,track\n1,1,2,3,4,a\n1,2,2,3,4,a\n", ":3: frame 1 has a box of track a already"),
    ("video,frame,x1,y1,x2,y2\n,1,1,2,3,4\n", ":2: video is empty"),
    (b"\x89PNG\xff\xfe", "cannot read the boxes"),
]


@pytest.mark.parametrize("content, said", BAD)
def test_a_bad_boxes_file_is_reported_by_file_and_row(tmp_path, content, said):
    path = tmp_path / "b.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_boxes(path)
    assert len(caught.value.problems) == 1 and str(path) in str(caught.value) and said in str(caught.value)


def test_all_bad_rows_are_reported_at_once_and_a_missing_file_too(tmp_path):
    (tmp_path / "b.csv").write_text("frame,x1,y1,x2,y2\n0,1,2,3,x\n0,1,2,3,4\nx,1,2,3,4\n")
    with pytest.raises(DataError) as caught:
        read_boxes(tmp_path / "b.csv")
    assert len(caught.value.problems) == 2
    with pytest.raises(DataError, match="none.csv: cannot read the boxes"):
        read_boxes(tmp_path / "none.csv")
