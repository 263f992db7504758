"""A video becomes clips of cut frames and a list; what is wrong with it ends in one clear line, a refusal or a note."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from videos import rotate_tag, scene, write_video

from tsal.data.gaps import split_at_gaps
from tsal.data.images import read_image
from tsal.data.lists import group_clips, read_list
from tsal.data.origins import read_origins
from tsal.prepare import clips as second
from tsal.prepare import video as module
from tsal.prepare.builder import describe, read_rejected
from tsal.prepare.clips import window_of
from tsal.prepare.video import prepare_video
from tsal.synthetic.dataset import render_clip
from tsal.utils.boxes import iou
from tsal.utils.drawn import MARK
from tsal.utils.errors import DataError

WIDTH, HEIGHT = 160, 120


def boxes_file(path: Path, rows: list[tuple], header: str = "frame,x1,y1,x2,y2") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def prepare(
    tmp_path: Path, source: Path, rows: list[tuple] | None = None, header: str = "frame,x1,y1,x2,y2", **options
) -> dict:
    if rows is not None:
        options["boxes_file"] = boxes_file(tmp_path / "boxes.csv", rows, header)
    return prepare_video(source, tmp_path / "made", progress=False, **options)


def listed(tmp_path: Path):
    return read_list(tmp_path / "made" / "lists" / "unlabelled.txt")


def table(tmp_path: Path, name: str) -> list[dict]:
    with (tmp_path / "made" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def every_frame(count: int, box=(50, 40, 90, 80), start: int = 0) -> list[tuple]:
    return [(number, *box) for number in range(start, count)]


def clean(folder: Path) -> bool:
    """Nothing is left half-written."""
    return not [path for path in folder.rglob("*") if ".tmp" in path.name]


# --- whole ways ---


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A video of two shots, each with one rendered face, and the boxes of its landmarks in the video's px."""
    frames, truth = [], []
    for seed, x, y in ((1, 100, 40), (3, 20, 60)):
        clip, still = render_clip(seed, 16, 160), scene(seed, 1, 320, 240)[0]
        for image, points in zip(clip.images, clip.points):
            frame = cv2.GaussianBlur(still, (0, 0), 3)
            frame[y : y + 160, x : x + 160] = image[..., ::-1]
            frames.append(frame)
            truth.append(np.concatenate([points.min(0), points.max(0)]) + [x, y, x, y])
    return write_video(tmp_path_factory.mktemp("rendered") / "two shots.mp4", frames, codec="mp4v"), truth


def test_faces_of_a_video_become_a_clip_each_with_boxes_where_the_faces_are(tmp_path, rendered):
    path, truth = rendered
    manifest = prepare(tmp_path, path, min_face=0.2)
    clips = group_clips(listed(tmp_path))
    assert [clip.name for clip in clips] == ["clips/two_shots-s000-f00", "clips/two_shots-s001-f00"]
    tracks = table(tmp_path, "tracks.csv")
    overlaps = []
    for clip, track in zip(clips, tracks):
        assert len(clip.faces) >= 10
        for face in clip.faces:
            assert face.annotation is None
            back = np.array(face.box) + [float(track[n]) for n in ("x1", "y1", "x1", "y1")]
            overlaps.append(iou(back, truth[int(Path(face.image).stem)]))
    assert np.median(overlaps) > 0.6
    assert {item["what"]: item["found"] for item in manifest["counts"]}["shots"] == 2
    assert manifest["lists"]["unlabelled.txt"]["labelled"] == 0 and "tracks kept" in describe(manifest, tmp_path)
    assert all(int(t["shot"]) == (int(t["first"]) >= 16) and int(t["last"]) < 16 * (1 + int(t["shot"])) for t in tracks)


def test_a_written_frame_is_the_video_s_frame_cut_to_the_track_s_window(tmp_path):
    frames = scene(0, 20)
    prepare(tmp_path, write_video(tmp_path / "v.avi", frames), every_frame(12, start=3))
    track = table(tmp_path, "tracks.csv")[0]
    assert [int(track[n]) for n in ("first", "last", "frames", "x1", "y1", "x2", "y2")] == [3, 11, 9, 20, 10, 121, 111]
    assert float(track["interval_ms"]) == pytest.approx(40)
    for face in listed(tmp_path):
        image = read_image(tmp_path / "made" / face.image)
        number = int(Path(face.image).stem)
        assert image.shape == (101, 101, 3) and face.box == pytest.approx((30, 30, 70, 70), abs=0.3)
        difference = np.abs(image.astype(int) - frames[number][10:111, 20:121, ::-1])
        assert difference.mean() < 8  # two JPEG codings; a frame further on differs by far more where the column is


def test_origins_and_times_are_written_for_every_frame(tmp_path):
    prepare(tmp_path, write_video(tmp_path / "v.avi", scene(0, 10), fps=10), every_frame(10))
    origins = read_origins(tmp_path / "made")
    clip = f"{tmp_path / 'v.avi'}: v-s000-f00"  # another folder may have a v.avi too
    assert origins["clips/v-s000-f00/000007.jpg"] == module.Origin(None, clip, 7)
    assert [float(row["time_ms"]) for row in table(tmp_path, "frames.csv")] == [100.0 * t for t in range(10)]
    assert {row["state"] for row in table(tmp_path, "frames.csv")} == {"detected"}


@pytest.mark.parametrize(
    "options, frames",
    [
        ({"every": 4}, [0, 4, 8, 12, 16]),
        ({"fps": 5}, [0, 5, 10, 15]),
        ({"fps": 10}, [0, 3, 5, 8, 10, 13, 15, 18]),
        ({"fps": 60}, list(range(20))),
    ],
)
def test_frames_are_taken_by_count_or_by_time(tmp_path, options, frames):
    prepare(tmp_path, write_video(tmp_path / "v.avi", scene(0, 20)), every_frame(20), **options)
    assert [int(row["frame"]) for row in table(tmp_path, "frames.csv")] == frames
    numbers = [int(Path(face.image).stem) for face in listed(tmp_path)]
    assert numbers == list(range(len(frames)))  # neighbours, as jitter is measured on


def pulled_down(count: int) -> list[np.ndarray]:
    """Frames of a scene of which each fourth is shown twice, the second time with other compression noise."""
    rng, frames = np.random.default_rng(0), []
    for number, frame in enumerate(scene(0, count)):
        frames.append(frame)
        if number % 4 == 3:
            frames.append(np.clip(frame.astype(int) + rng.integers(-1, 2, frame.shape), 0, 255).astype(np.uint8))
    return frames


@pytest.mark.parametrize(
    "options, shown",
    [({}, range(20)), ({"every": 3}, range(0, 20, 3)), ({"fps": 12.5}, [0, 2, 4, 5, 7, 8, 10, 12, 13, 15, 16, 18])],
)
def test_repeated_frames_are_left_out_and_the_images_numbers_do_not_count_them(tmp_path, options, shown):
    manifest = prepare(tmp_path, write_video(tmp_path / "v.avi", pulled_down(20)), every_frame(25), **options)
    (clip,) = group_clips(listed(tmp_path))
    rows = table(tmp_path, "frames.csv")
    for number, (face, row, moment) in enumerate(zip(clip.faces, rows, shown, strict=True)):
        assert int(Path(face.image).stem) == int(row["image"]) == number and int(row["frame"]) == moment + moment // 4
        cut = scene(0, 20)[moment][10:111, 20:121, ::-1]
        assert np.abs(read_image(tmp_path / "made" / face.image).astype(int) - cut).mean() < 8
    counts = {item["what"]: item["found"] for item in manifest["counts"]}
    assert counts["frames that repeat the one before, left out"] == 5


def test_a_long_track_becomes_several_clips_of_even_length_with_windows_of_their_own(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 20))
    rows = [(n, 10 + 5 * n, 50, 30 + 5 * n, 70, "a") for n in range(20)]
    prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track", longest=8)
    clips = group_clips(listed(tmp_path))
    assert split_at_gaps(clips) == clips  # a run trains on these very clips
    assert [(clip.name, len(clip.faces)) for clip in clips] == [
        ("clips/v-s000-f00-p00", 7),
        ("clips/v-s000-f00-p01", 7),
        ("clips/v-s000-f00-p02", 6),
    ]
    for track in table(tmp_path, "tracks.csv"):
        assert int(track["x2"]) - int(track["x1"]) < 90  # of the whole track: 146
    for face, row in zip(listed(tmp_path), table(tmp_path, "frames.csv"), strict=True):
        x = next(int(t["x1"]) for t in table(tmp_path, "tracks.csv") if t["clip"] == row["clip"])
        assert face.box[0] + x == pytest.approx(float(row["x1"]), abs=0.02)
    prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track")
    assert [entry.name for entry in (tmp_path / "made" / "clips").iterdir()] == ["v-s000-f00"]


def test_of_faces_seen_at_once_only_the_largest_is_kept_where_asked_and_one_that_is_alone_always(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 20))
    places = {"a": (0, 12, 50, 40, 90, 80), "b": (2, 12, 10, 10, 40, 40), "c": (11, 20, 110, 60, 130, 80)}
    rows = [(n, *box, track) for track, (start, end, *box) in places.items() for n in range(start, end)]
    for largest, firsts in ((False, ["0", "2", "11"]), (True, ["0", "11"])):  # c is beside a in one frame of nine
        prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track", largest=largest)
        assert [row["first"] for row in table(tmp_path, "tracks.csv")] == firsts


def test_other_options_replace_the_images_without_finding_the_faces_again(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.avi", scene(0, 20))
    prepare(tmp_path, path, every_frame(20), every=1)
    monkeypatch.setattr(module, "follow_video", lambda *_, **__: pytest.fail("the first reading is done again"))
    prepare(tmp_path, path, every_frame(20), every=5)
    names = sorted(path.stem for path in (tmp_path / "made" / "clips").rglob("*.jpg"))
    assert names == ["000000", "000001", "000002", "000003"]
    assert [row["frame"] for row in table(tmp_path, "frames.csv")] == ["0", "5", "10", "15"]


def test_a_stopped_run_goes_on_and_does_nothing_twice(tmp_path, monkeypatch):
    path = write_video(tmp_path / "v.avi", scene(0, 20))
    rows = [(t, 5, 5, 35, 35, "a") for t in range(6)] + [(t, 80, 60, 120, 100, "b") for t in range(4, 20)]
    write, count = second._write_frame, iter(range(99))

    def stopping(*arguments):
        if next(count) == 12:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(second, "_write_frame", stopping)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track")
    folder = tmp_path / "made"
    assert (
        [p.name for p in (folder / "clips").iterdir()] == ["v-s000-f00"]
        and clean(folder)
        and not (folder / "lists").exists()
    )

    written = []
    monkeypatch.setattr(
        second, "_write_frame", lambda place, *rest: (written.append(int(place.stem)), write(place, *rest))
    )
    monkeypatch.setattr(module, "follow_video", lambda *_, **__: pytest.fail("the first reading is done again"))
    prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track")
    assert written == list(range(4, 20))  # the first clip is not written again
    assert len(listed(tmp_path)) == 6 + 16
    prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track")
    assert len(written) == 16


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 8))
    half = tmp_path / "made" / "clips" / ".v-s000-f00.99.tmp"
    half.mkdir(parents=True)
    (half / "000000.jpg").write_bytes(b"half")
    (tmp_path / "made" / "work").mkdir()
    (tmp_path / "made" / "work" / "v.json").write_text('{"key": [1, "half a re')
    prepare(tmp_path, path, every_frame(8))
    assert clean(tmp_path / "made") and len(listed(tmp_path)) == 8


def test_a_changed_video_is_read_again(tmp_path):
    prepare(tmp_path, write_video(tmp_path / "v.avi", scene(0, 8)), every_frame(8))
    prepare(tmp_path, write_video(tmp_path / "v.avi", scene(1, 12)), every_frame(12))
    assert len(listed(tmp_path)) == 12
    image = read_image(tmp_path / "made" / "clips/v-s000-f00/000000.jpg")
    x1, y1 = (int(table(tmp_path, "tracks.csv")[0][n]) for n in ("x1", "y1"))
    assert np.abs(image.astype(int) - scene(1, 1)[0][y1:, x1:, ::-1][: image.shape[0], : image.shape[1]]).mean() < 8


# --- given boxes ---


def test_linked_boxes_are_interpolated_over_short_gaps_and_cut_at_long_ones_with_a_note(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 39))
    rows = [(0, 20, 20, 60, 60, 7), (4, 28, 20, 68, 60, 7), (38, 28, 20, 68, 60, 7)]
    manifest = prepare(tmp_path, path, rows, "frame,x1,y1,x2,y2,track")
    frames = table(tmp_path, "frames.csv")
    assert [int(row["frame"]) for row in frames] == [0, 1, 2, 3, 4, 38]
    assert [row["state"] for row in frames] == [
        "detected",
        "propagated",
        "propagated",
        "propagated",
        "detected",
        "detected",
    ]
    assert [float(row["x1"]) for row in frames[:5]] == pytest.approx([20, 22, 24, 26, 28], abs=0.05)
    [note] = manifest["notes"]
    assert note.startswith("v.avi: 1 gap of over 1 s between boxes of a track in a shot: nothing is interpolated there")


def test_linked_boxes_are_parted_where_a_shot_begins(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 20) + scene(5, 15))
    manifest = prepare(tmp_path, path, [(*row, "x") for row in every_frame(35)], "frame,x1,y1,x2,y2,track")
    assert not manifest["notes"]
    tracks = [(row["clip"], row["first"], row["last"]) for row in table(tmp_path, "tracks.csv")]
    assert tracks == [("v-s000-f00", "0", "19"), ("v-s001-f00", "20", "34")]


def test_unlinked_boxes_of_two_faces_are_linked(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 10))
    prepare(tmp_path, path, every_frame(10, (50, 10, 80, 40)) + every_frame(10, (100, 60, 140, 100))[::2])
    assert [(row["first"], row["last"]) for row in table(tmp_path, "tracks.csv")] == [("0", "9"), ("0", "8")]


def test_boxes_for_a_folder_name_their_video(tmp_path):
    for name in ("a/v.avi", "b/v.avi", "w.avi"):
        write_video(tmp_path / "all" / name, scene(len(name), 6))
    header = "video,frame,x1,y1,x2,y2"
    rows = [("w.avi", *row) for row in every_frame(6)] + [("b/v.avi", *row) for row in every_frame(3)]
    manifest = prepare(tmp_path, tmp_path / "all", rows, header)
    assert [int(row["frames"]) for row in table(tmp_path, "tracks.csv")] == [3, 6]
    assert "has no boxes" in read_rejected(tmp_path / "made")[0][1] and manifest["counts"][0]["found"] == 2
    for name, said in (("v.avi", "names several"), ("x.avi", "is no video there")):
        with pytest.raises(DataError, match=said) as caught:
            prepare(tmp_path, tmp_path / "all", [(name, *row) for row in every_frame(6)], header)
        assert "boxes.csv:2" in str(caught.value)
    with pytest.raises(DataError, match="want a first column video"):
        prepare(tmp_path, tmp_path / "all", every_frame(6))


@pytest.mark.parametrize(
    "row, said",
    [
        ((8, 5, 5, 35, 35), "frame 8, but the last one read is 7"),
        ((0, 500, 5, 535, 35), "wholly outside"),
        ((0, -50, 5, -10, 35), "wholly outside"),
        ((0, 0.1, 0.1, 0.4, 0.4), "under 3 px wide and high; coordinates are pixels, not shares"),
        ((0, -1e6, -1e6, 1e6, 1e6), "over 10 times as long as the image"),
        ((0, 35, 5, 5, 35), "inverted"),
    ],
)
def test_a_given_box_that_has_no_place_in_the_video_is_reported_by_row(tmp_path, row, said):
    path = write_video(tmp_path / "v.avi", scene(0, 8))
    with pytest.raises(DataError, match=said) as caught:
        prepare(tmp_path, path, [*every_frame(8), row])
    assert len(caught.value.problems) == 1 and "boxes.csv:10" in str(caught.value)
    assert not (tmp_path / "made" / "lists").exists()


# --- videos of every kind ---


@pytest.mark.parametrize(
    "degrees, turn", [(90, cv2.ROTATE_90_CLOCKWISE), (180, cv2.ROTATE_180), (270, cv2.ROTATE_90_COUNTERCLOCKWISE)]
)
def test_a_phone_s_rotated_video_is_upright(tmp_path, degrees, turn):
    frames = scene(0, 8)
    path = write_video(tmp_path / "v.mp4", frames, codec="mp4v")
    rotate_tag(path, degrees)
    upright = cv2.rotate(frames[0], turn)
    height, width = upright.shape[:2]
    prepare(tmp_path, path, every_frame(8, (0, 0, width - 1, height - 1)))
    image = read_image(tmp_path / "made" / listed(tmp_path)[0].image)
    assert image.shape == upright.shape
    assert np.abs(image[..., ::-1].astype(int) - upright).mean() < 10


@pytest.mark.parametrize(
    "width, height, codec, suffix",
    [(161, 121, "MJPG", ".avi"), (99, 121, "mp4v", ".MP4"), (160, 120, "MJPG", ".mkv"), (16, 16, "MJPG", ".mov")],
)
def test_sizes_and_containers(tmp_path, width, height, codec, suffix):
    path = write_video(tmp_path / f"v{suffix.lower()}", scene(0, 5, width, height), codec=codec).rename(
        tmp_path / f"V{suffix}"
    )
    prepare(tmp_path, path, every_frame(5, (2, 2, 12, 12)))
    assert len(listed(tmp_path)) == 5 and listed(tmp_path)[0].image == "clips/V-s000-f00/000000.jpg"


def test_a_grey_video_is_a_video(tmp_path):
    path = tmp_path / "v.avi"
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 25, (WIDTH, HEIGHT), isColor=False
    )
    frames = [frame[..., 1] for frame in scene(0, 6)]
    for frame in frames:
        writer.write(np.ascontiguousarray(frame))
    writer.release()
    prepare(tmp_path, path, every_frame(6, (0, 0, WIDTH - 1, HEIGHT - 1)))
    image = read_image(tmp_path / "made" / listed(tmp_path)[0].image)
    assert np.abs(image[..., 0].astype(int) - frames[0]).mean() < 4 and np.array_equal(image[..., 0], image[..., 2])


def test_names_with_spaces_and_letters_of_all_kinds_and_equal_stems_stay_apart(tmp_path):
    names = ["my clip.avi", "x/my clip.avi", "MY CLIP.avi", "Zoë.avi", "映像.avi", "50%d.avi"]
    for number, name in enumerate(names):
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        write_video(tmp_path / "plain.avi", scene(number, 4)).rename(tmp_path / "all" / name)
    prepare(
        tmp_path,
        tmp_path / "all",
        [(name, *row) for name in names for row in every_frame(4)],
        "video,frame,x1,y1,x2,y2",
    )
    clips = group_clips(listed(tmp_path))
    assert len(clips) == 6 and len({clip.name.lower() for clip in clips}) == 6
    assert all(clip.name.isascii() and not any(map(str.isspace, clip.name)) for clip in clips)
    assert {row["video"] for row in table(tmp_path, "tracks.csv")} == set(names)
    assert "clips/Zoe-s000-f00" in {clip.name for clip in clips}


def make_uneven(path: Path, lengths: list[int]) -> None:
    """Write the lengths of an .mp4's frames, in those that it had, one by one (stts), as phones do: its frame rate
    varies.
    """
    content = bytearray(path.read_bytes().replace(b"edts", b"free"))  # its edit list would cut the longer video off
    place = content.index(b"stts")
    size, step = (int.from_bytes(content[at : at + 4], "big") for at in (place - 4, place + 16))
    entries = b"".join(number.to_bytes(4, "big") for length in lengths for number in (1, length * step))
    table = bytes(4) + len(lengths).to_bytes(4, "big") + entries
    content[place - 4 : place - 4 + size] = (8 + len(table)).to_bytes(4, "big") + b"stts" + table
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl"):  # the boxes around it grow; the data are before them
        at = content.index(name) - 4
        grown = int.from_bytes(content[at : at + 4], "big") + 8 + len(table) - size
        content[at : at + 4] = grown.to_bytes(4, "big")
    path.write_bytes(content)


def test_a_video_of_varying_frame_rate_has_its_own_times(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene(0, 8), codec="mp4v")
    make_uneven(path, [1, 3] * 4)
    prepare(tmp_path, path, every_frame(8))
    assert [float(row["time_ms"]) for row in table(tmp_path, "frames.csv")] == [0, 40, 160, 200, 320, 360, 480, 520]
    prepare(tmp_path, path, every_frame(8), fps=6.25)
    assert [int(row["frame"]) for row in table(tmp_path, "frames.csv")] == [0, 2, 4, 6]


def test_frames_of_uneven_length_keep_their_times_and_a_rate_is_taken_by_time(monkeypatch, tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 8))
    times = [0, 10, 20, 500, 510, 1000, 1010, 1020]
    read = second.read_frames
    monkeypatch.setattr(
        "tsal.faces.follow.read_frames", lambda p, **_: ((n, float(times[n]), image) for n, _, image in read(p))
    )
    prepare(tmp_path, path, [(*row, 1) for row in every_frame(8)], "frame,x1,y1,x2,y2,track", fps=2)
    assert [(int(row["frame"]), float(row["time_ms"])) for row in table(tmp_path, "frames.csv")] == [
        (0, 0),
        (3, 500),
        (5, 1000),
    ]


def test_times_that_do_not_rise_are_replaced_and_noted(monkeypatch, tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 4))
    read = second.read_frames
    monkeypatch.setattr("tsal.faces.follow.read_frames", lambda p, **_: ((n, 0.0, image) for n, _, image in read(p)))
    manifest = prepare(tmp_path, path, every_frame(4))
    assert [float(row["time_ms"]) for row in table(tmp_path, "frames.csv")] == [0, 40, 80, 120]
    assert "3 frames have no time of their own; 25 frames a second" in manifest["notes"][0]


# --- broken ones ---


def test_frames_up_to_the_break_of_a_truncated_video_are_used_and_noted(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    manifest = prepare(tmp_path, path, every_frame(8))
    assert len(listed(tmp_path)) == 8
    (note,) = manifest["notes"]
    assert "its header says 20 frames" in note and "the file may be cut off where the last frames are missing" in note
    prepare(tmp_path, path, every_frame(8))  # the note is not lost where work/ is used again
    assert json.loads((tmp_path / "made" / "manifest.json").read_text())["notes"] == manifest["notes"]


@pytest.mark.parametrize("claimed", [3, 4000])
def test_a_wrong_number_of_frames_in_the_header_loses_none(tmp_path, claimed):
    path = write_video(tmp_path / "v.avi", scene(0, 12))
    content = bytearray(path.read_bytes())
    strh = content.index(b"strh") + 8  # dwLength of the stream
    content[strh + 32 : strh + 36] = claimed.to_bytes(4, "little")
    avih = content.index(b"avih") + 8
    content[avih + 16 : avih + 20] = claimed.to_bytes(4, "little")
    path.write_bytes(content)
    manifest = prepare(tmp_path, path, every_frame(12))
    assert len(listed(tmp_path)) == 12 and any(
        f"{claimed} frames, 12 can be used" in note for note in manifest["notes"]
    )


def test_a_video_is_used_up_to_a_frame_that_is_broken_in_the_middle(tmp_path):
    path = write_video(tmp_path / "v.avi", scene(0, 12))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    why = "v.avi: 5 of 12 frames can be used, as frame 5 (counted from 0) cannot be decoded; re-encode the video "
    why += "(ffmpeg -i v.avi -c:v libx264 NEW.mp4)"
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, path, every_frame(12))
    assert len(caught.value.problems) == 12 - 5
    assert caught.value.problems[0].endswith(
        f"boxes.csv:7: frame 5, but the last one read is 4 (counted from 0); {why}"
    )
    manifest = prepare(tmp_path, path, every_frame(5))
    assert [row["frame"] for row in table(tmp_path, "frames.csv")] == list("01234") and len(listed(tmp_path)) == 5
    assert manifest["notes"] == [why]


def test_a_video_whose_first_frame_alone_is_broken_is_refused_by_what_is_true(tmp_path):
    path = write_video(tmp_path / "v.mp4", scene(0, 12), codec="mp4v")
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start : start + 100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match="v.mp4: 0 of 12 frames can be used, as frame 0 .* cannot be decoded; re-encode"
    ):
        prepare(tmp_path, path)


def broken(kind: str, path: Path) -> Path:
    whole = write_video(path.with_name("whole.mp4"), scene(0, 6), codec="mp4v").read_bytes()
    index, data = whole.index(b"moov"), whole.index(b"mdat")
    content = {
        "empty": b"",
        "text": b"this is no video\n" * 50,
        "noise": np.random.default_rng(0).bytes(5000),
        "zeros": bytes(5000),
        "image": cv2.imencode(".png", scene(0, 1)[0])[1].tobytes(),
        "no index": whole[: len(whole) // 2],
        "first bytes": whole[:40],
        "no data": whole[index - 4 :] if index > data else whole[: data + 4],
    }[kind]
    path.write_bytes(content)
    (path.with_name("whole.mp4")).unlink()
    return path


KINDS = ["empty", "text", "noise", "zeros", "image", "no index", "first bytes", "no data"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_video_is_one_line_that_names_it_and_leaves_no_list(tmp_path, kind):
    path = broken(kind, tmp_path / "v.mp4")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, path)
    assert len(caught.value.problems) == 1 and str(path) in str(caught.value)
    assert not (tmp_path / "made" / "lists").exists()


def test_broken_videos_of_a_folder_are_refused_and_the_rest_goes_on(tmp_path, rendered):
    (tmp_path / "all").mkdir()
    for number, kind in enumerate(KINDS):
        broken(kind, tmp_path / "all" / f"b{number}.mp4")
    (tmp_path / "all" / "folder.mp4").mkdir()
    (tmp_path / "all" / "notes.txt").write_text("left alone")
    write_video(tmp_path / "all" / "nobody.avi", scene(0, 10))
    shutil.copy(rendered[0], tmp_path / "all" / "good.mp4")
    manifest = prepare(tmp_path, tmp_path / "all", min_face=0.2)
    assert {Path(face.image).parts[1][:4] for face in listed(tmp_path)} == {"good"}
    rejected = dict(read_rejected(tmp_path / "made"))
    assert len(rejected) == len(KINDS) + 1 and rejected[str(tmp_path / "all" / "nobody.avi")].startswith(
        "no face is found"
    )
    assert manifest["counts"][0] == {"what": "videos", "found": 1, "expected": 10, "why": "rejected.csv says why"}
    assert "1 file left out, no videos by their names, such as notes.txt" in manifest["notes"]


def test_videos_of_other_kinds_are_read(tmp_path):
    """What is prepared below the source is no file of it."""
    for codec, name in (("VP80", "a.ogv"), ("MPG2", "b.VOB"), ("MPG2", "c.mxf")):
        write_video(tmp_path / "all" / name, scene(0, 10), codec=codec)
    film = cv2.Animation()
    film.frames, film.durations = scene(0, 10), np.full(10, 40)
    assert cv2.imwriteanimation(str(tmp_path / "all" / "d.gif"), film)
    rows = [(name, *row) for name in ("a.ogv", "b.VOB", "c.mxf", "d.gif") for row in every_frame(10)]
    boxes = boxes_file(tmp_path / "boxes.csv", rows, "video,frame,x1,y1,x2,y2")
    for _ in range(2):
        manifest = prepare_video(tmp_path / "all", tmp_path / "all" / "made", boxes_file=boxes, progress=False)
        assert manifest["counts"][0]["found"] == 4 and not manifest["notes"]


def test_only_broken_videos_in_a_folder_are_an_error_that_names_each(tmp_path):
    (tmp_path / "all").mkdir()
    for number, kind in enumerate(KINDS[:3]):
        broken(kind, tmp_path / "all" / f"b{number}.mp4")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, tmp_path / "all")
    assert len(caught.value.problems) == 4 and not (tmp_path / "made" / "lists").exists()


def test_videos_of_a_linked_folder_are_read_and_broken_links_are_told(tmp_path):
    for name in ("all", "store"):
        (tmp_path / name).mkdir()
    broken("text", tmp_path / "store" / "v.mp4")
    (tmp_path / "all" / "more").symlink_to(tmp_path / "store")
    (tmp_path / "all" / "gone.mp4").symlink_to(tmp_path / "none.mp4")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path, tmp_path / "all")
    _, link, text = caught.value.problems
    assert link == f"{tmp_path / 'all' / 'gone.mp4'}: a link to a file that does not exist"
    assert text.startswith(f"{tmp_path / 'all' / 'more' / 'v.mp4'}: ")


def test_drawings_of_a_folder_are_no_videos_and_one_that_is_named_is(tmp_path):
    for name in ("mine/own.avi", "mine/drawn.avi", "drawn/alone.avi"):
        write_video(tmp_path / name, scene(0, 8))
    for path in (tmp_path / "mine" / "drawn.avi", tmp_path / "drawn" / "alone.avi"):
        path.write_bytes(path.read_bytes() + MARK)
    rows = [("own.avi", *row) for row in every_frame(8)]
    manifest = prepare(tmp_path, tmp_path / "mine", rows, header="video,frame,x1,y1,x2,y2")
    note = "1 drawing of predict, track or demo left out"
    assert manifest["counts"][0]["expected"] == 1 and note in manifest["notes"]
    with pytest.raises(DataError, match=f"drawn: holds no video .*; {note}$"):
        prepare_video(tmp_path / "drawn", tmp_path / "none", progress=False)
    named = prepare_video(
        tmp_path / "mine" / "drawn.avi",
        tmp_path / "named",
        boxes_file=boxes_file(tmp_path / "named.csv", every_frame(8)),
        progress=False,
    )
    assert named["counts"][0]["found"] == 1


def test_a_video_without_a_face_an_empty_folder_another_file_and_none_at_all_are_one_line_each(tmp_path):
    nobody = write_video(tmp_path / "nobody.avi", scene(0, 10))
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    cases = {
        nobody: "no face is found",
        tmp_path / "empty": "holds no video",
        tmp_path / "a.txt": "not a video by its name",
    }
    cases[tmp_path / "none.mp4"] = "no such file or folder"
    for path, said in cases.items():
        with pytest.raises(DataError, match=said) as caught:
            prepare(tmp_path, path)
        assert len(caught.value.problems) == 1 and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"every": 0}, "every = 0"),
        ({"fps": 0}, "fps = 0"),
        ({"fps": float("nan")}, "fps = nan"),
        ({"fps": 5, "every": 2}, "give one of them"),
        ({"longest": 1}, "longest = 1"),
        ({"min_face": 0}, "min_face = 0"),
        ({"min_face": float("nan")}, "min_face = nan"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, said):
    with pytest.raises(DataError, match=said):
        prepare(tmp_path, tmp_path / "v.avi", **options)


# --- windows and the contact sheet ---


def test_a_window_holds_every_box_with_a_margin_and_stays_in_the_image():
    boxes = np.array([[100, 100, 140, 140], [120, 100, 160, 140]], float)
    # 0.75 * 40 px of margin; the last column and row are within
    assert window_of(boxes, 1000, 1000) == (70, 70, 191, 171)
    assert window_of(boxes, 150, 160) == (70, 70, 150, 160)
