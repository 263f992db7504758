"""``track`` on video as people have it: cuts, faces that leave and return, repeated frames, rotation tags, false faces;
and another finder.
"""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest
from videos import rotate_tag, scene, write_video

from tsal import Landmarker
from tsal.cli.commands import main
from tsal.faces import Followed, Track
from tsal.inference.tighten import sure_tracks
from tsal.inference.track import track_video
from tsal.inference.weights import SHIPPED
from tsal.synthetic.dataset import render_clip
from tsal.utils.boxes import iou


@pytest.fixture(scope="module")
def weights():
    """The detector that ships: it knows rendered heads for faces, so they are followed by their landmarks."""
    return SHIPPED


@pytest.fixture(scope="module")
def heads():
    """Two rendered heads of 16 frames in scenes of 320 x 240: BGR frames and landmark boxes."""
    scenes = []
    for seed, x, y in ((1, 100, 40), (3, 20, 60)):
        clip, still = render_clip(seed, 16, 160, flow=False), cv2.GaussianBlur(scene(seed, 1, 320, 240)[0], (0, 0), 3)
        frames = []
        for image in clip.images:
            frame = still.copy()
            frame[y : y + 160, x : x + 160] = image[..., ::-1]
            frames.append(frame)
        boxes = np.concatenate([clip.points.min(1), clip.points.max(1)], 1) + [x, y, x, y]
        scenes.append((frames, boxes, still))
    return scenes


def tracked(path, weights, **options) -> tuple[dict, list[dict]]:
    facts = track_video(path, weights, path.with_name("out.mp4"), min_face=0.2, progress=False, **options)
    with open(facts["csv"], newline="") as file:
        return facts, list(csv.DictReader(file))


def frames_of_faces(rows: list[dict]) -> dict[int, list[int]]:
    faces: dict[int, list[int]] = {}
    for row in rows:
        faces.setdefault(int(row["face"]), []).append(int(row["frame"]))
    return faces


def box_of(row: dict) -> list[float]:
    return [float(row[name]) for name in ("left", "top", "right", "bottom")]


def test_a_cut_in_the_middle_ends_a_face_and_no_landmark_is_carried_across_it(tmp_path, heads, weights):
    (first, _, _), (second, _, _) = heads
    both = write_video(tmp_path / "v.mp4", first + second, codec="mp4v")
    facts, rows = tracked(both, weights, steady=True)
    faces = frames_of_faces(rows)
    assert len(faces) == 2 and max(faces[0]) == 15 and min(faces[1]) == 16
    alone, own = tracked(write_video(tmp_path / "alone" / "v.mp4", first, codec="mp4v"), weights, steady=True)
    last, expected = (next(row for row in some if row["frame"] == "15") for some in (rows, own))
    # the codec writes the last frames a little differently where others follow; a vote across would move it by px
    assert [float(last[f"x{k}"]) for k in range(68)] == pytest.approx(
        [float(expected[f"x{k}"]) for k in range(68)], abs=1
    )


def test_a_face_that_leaves_and_returns_is_two(tmp_path, heads, weights):
    frames, _, still = heads[0]
    path = write_video(tmp_path / "v.mp4", frames + [still] * 40 + frames, codec="mp4v")
    faces = frames_of_faces(tracked(path, weights)[1])
    assert len(faces) == 2 and max(faces[0]) < 30 and min(faces[1]) >= 50


def test_a_repeated_frame_gets_the_steady_points_of_the_frame_it_repeats_and_is_told(tmp_path, heads, weights):
    twice = [frame for number, frame in enumerate(heads[0][0]) for frame in [frame] * (1 + (number % 4 == 3))]
    facts, rows = tracked(write_video(tmp_path / "v.avi", twice), weights, steady=True)
    repeats = [number for number in range(1, len(twice)) if twice[number] is twice[number - 1]]
    assert any(f"{len(repeats)} of {len(twice)} frames repeat" in note for note in facts["notes"])
    points = {int(row["frame"]): [row[f"x{k}"] for k in range(68)] for row in rows}
    same = [number for number in points if points.get(number - 1) == points[number]]
    assert same and same == [number for number in repeats if number in points and number - 1 in points]


def test_a_phone_s_rotated_video_is_tracked_upright_and_drawn_so(tmp_path, heads, weights):
    frames, boxes, _ = heads[0]
    lying = [cv2.rotate(frame, cv2.ROTATE_90_COUNTERCLOCKWISE) for frame in frames]
    path = write_video(tmp_path / "v.mp4", lying, codec="mp4v")
    rotate_tag(path, 90)
    facts, rows = tracked(path, weights)
    assert (facts["width"], facts["height"]) == (320, 240)
    assert facts["faces"] == 1 and len(rows) > 10
    assert np.median([iou(box_of(row), boxes[int(row["frame"])]) for row in rows]) > 0.75


def test_what_a_finder_finds_is_followed(tmp_path, heads, weights):
    frames, boxes, _ = heads[1]
    calls = []

    def find(image, min_face):
        calls.append((image.shape, min_face, image[0, 0].tolist()))
        return boxes[:1]

    path = write_video(tmp_path / "v.avi", frames)
    assert tracked(path, weights, find=find)[0]["faces"] == 1
    blue, green, red = frames[0][0, 0].tolist()
    assert calls[0][:2] == ((240, 320, 3), 0.2) and calls[0][2] == pytest.approx([red, green, blue], abs=12)


# --- in Python ---


def test_steady_landmarks_in_python_are_those_of_the_command(tmp_path, heads, weights):
    """Of a cut, after which the face has another number, and of frames without a face."""
    (first, _, still), (second, _, _) = heads
    path, table = write_video(tmp_path / "v.mp4", first + second + [still] * 6, codec="mp4v"), tmp_path / "o.csv"
    options = ["--weights", weights, "--out", table.with_suffix(".mp4"), "--min-face", 0.2]
    assert main(["track", str(path), *map(str, options), "--steady"]) == 0
    with open(table, newline="") as file:
        rows = {(int(row["frame"]), int(row["face"])): row for row in csv.DictReader(file)}
    frames = list(Landmarker(weights, min_face=0.2).track(path, steady=True))
    assert [frame.number for frame in frames] == list(range(38)) and frames[-1].faces == []
    assert {(frame.number, face.number) for frame in frames for face in frame.faces} == rows.keys()
    assert {face.number for frame in frames for face in frame.faces} == {0, 1}
    for number, time_ms, faces in frames:
        for face in faces:
            row = rows[number, face.number]
            assert time_ms == pytest.approx(float(row["time_ms"]), abs=0.01)
            assert face.box == pytest.approx(box_of(row), abs=0.01)
            for name, values in (("x", face.points[:, 0]), ("y", face.points[:, 1]), ("score", face.scores)):
                assert values == pytest.approx([float(row[f"{name}{k}"]) for k in range(68)], abs=0.02)


# --- false faces ---


def followed_of(*boxes) -> Followed:
    tracks = [Track(0, [np.array(box, float)] * 3, [True] * 3) for box in boxes]
    return Followed(200, 200, [0.0, 40.0, 80.0], [], tracks, 0, ["before"])


def test_a_track_whose_landmarks_are_far_less_sure_than_another_s_is_dropped_and_told():
    followed = followed_of((20, 20, 60, 60), (100, 100, 140, 140), (20, 100, 60, 140))
    sure, places = sure_tracks(followed, [np.full(3, score) for score in (0.80, 0.74, 0.76)], "v.mp4")
    assert [track.boxes[0].tolist() for track in sure.tracks] == [[20, 20, 60, 60], [20, 100, 60, 140]]
    assert places == [0, 2] and sure.dropped == 1
    assert sure.notes[0] == "before" and "v.mp4: faces left out: 1" in sure.notes[1]


# --- the command ---


def test_the_command_says_how_late_a_stream_would_be(tmp_path, heads, weights, capsys):
    path, out = write_video(tmp_path / "v.mp4", heads[0][0], codec="mp4v"), tmp_path / "o.mp4"
    options = ["--weights", weights, "--out", out, "--min-face", 0.2, "--steady", "--lag", 2]
    assert main(["track", str(path), *map(str, options)]) == 0
    assert "steady " in (text := capsys.readouterr().out) and "(lag 80 ms)" in text


WRONG = {
    "lag alone": (["--lag", "1"], "lag = 1: want a whole number of frames, 0 or more, and steady"),
    "negative lag": (["--steady", "--lag", "-1"], "lag = -1: want"),
    "no model": (["--finder", "yunet"], "finder yunet: name its model file"),
    "missing model": (["--finder-model", "none.onnx"], "none.onnx: no such model file"),
    "finder beside boxes": (
        ["--finder", "haar", "--boxes-file", "b.csv"],
        "--finder, --finder-model would be ignored beside --boxes-file",
    ),
    "broken model": (["--finder-model", "broken.onnx"], "broken.onnx (--finder-model): OpenCV"),
    "model of haar": (["--finder", "haar", "--finder-model", "broken.onnx"], "--finder-model is of --finder yunet"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_one_line(tmp_path, weights, monkeypatch, capsys, case):
    arguments, said = WRONG[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"no model at all")
    write_video(tmp_path / "in.mp4", scene(0, 3), codec="mp4v")
    assert main(["track", "in.mp4", "--weights", str(weights), "--out", "out.mp4", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said in lines[0]
