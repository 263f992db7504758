"""300-VW: frames extracted whole and once, their count checked against the annotations, no label behind a box without
labels.
"""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest
from releases import landmarks, release_300vw, scene, tight, write_pts
from videos import drop_frames, write_video

from tsal.data.leaks import check_files
from tsal.data.lists import group_clips, load_lists, read_list, write_list
from tsal.data.origins import read_origins
from tsal.data.points import read_points
from tsal.faces.follow import Followed, Track
from tsal.prepare import ibug_300vw as videos
from tsal.prepare.ibug_300vw import SPLITS, prepare_300vw
from tsal.utils.errors import DataError


@pytest.fixture
def release(tmp_path):
    return release_300vw(tmp_path / "300VW_Dataset_2015_12_14")


def prepare(release, **options):
    folder = release.parent / "300VW"
    return folder, prepare_300vw(release, folder, progress=False, **options)


def rows(folder, name):
    return read_list(folder / "lists" / name)


def counts(manifest):
    return {item["what"]: (item["found"], item["expected"]) for item in manifest["counts"]}


def test_the_official_split_is_50_31_19_and_14_clips():
    assert [len(names.split()) for names in SPLITS.values()] == [50, 31, 19, 14]
    every = [name for names in SPLITS.values() for name in names.split()]
    assert len(set(every)) == 114


def test_every_frame_has_its_landmarks_and_the_box_around_them(release):
    folder, manifest = prepare(release)
    faces = rows(folder, "300VW.train.GTB")
    assert [row.image for row in faces] == [f"frames/001/{i:06d}.jpg" for i in range(1, 8)]
    points, _ = read_points(folder / faces[3].annotation, 68)
    assert np.allclose(points, landmarks(68, 3) - 1, atol=1e-4)
    assert faces[3].box == pytest.approx(tuple(tight(landmarks(68, 3)) - 1), abs=0.006)
    assert {name: entry["rows"] for name, entry in manifest["lists"].items()} == {
        "300VW.train.GTB": 7,
        "300VW.test-A.GTB": 7,
        "300VW.test-B.GTB": 7,
        "300VW.test-C.GTB": 7,
    }
    assert counts(manifest)["300VW.train, clips"] == (1, 50)


def test_a_clip_is_one_clip_and_keeps_its_end(release):
    folder, _ = prepare(release, every=3)
    [clip] = group_clips(rows(folder, "300VW.train.GTB"))
    assert [face.image[-10:] for face in clip.faces] == ["000001.jpg", "000004.jpg", "000007.jpg"]
    assert read_origins(folder)["frames/001/000007.jpg"] == videos.Origin("001", "001", 7)


def test_frames_and_annotations_without_a_partner_are_reported_and_left_out(release):
    (release / "001" / "annot" / "000002.pts").unlink()
    write_pts(release / "001" / "annot" / "000009.pts", landmarks(68, 1))
    (release / "114" / "annot" / "000005.pts").write_text("version: 1\n{\n1 2\n}\n")
    folder, manifest = prepare(release)
    said = (folder / "rejected.csv").read_text()
    assert (
        "000002.pts does not exist" in said and "the video has no frame 000009" in said and "1 points, want 68" in said
    )
    assert len(rows(folder, "300VW.train.GTB")) == 6 and len(rows(folder, "300VW.test-A.GTB")) == 6
    [item] = [item for item in manifest["counts"] if item["what"] == "114, frames of vid.avi"]
    assert (item["found"], item["expected"], item["why"]) == (7, 7, "")


def shown(folder, image: str) -> int:
    """Which frame of clip 001, counted from 1, an extracted image shows."""
    image = cv2.imread(str(folder / image)).astype(int)
    return 1 + int(np.argmin([np.abs(image - scene(t)).mean() for t in range(7)]))


@pytest.mark.parametrize("every, numbers", [(1, [1, 2, 5, 6, 7]), (2, [1, 5, 7])])
def test_frames_after_dropped_ones_keep_their_labels_and_boxes(release, monkeypatch, every, numbers):
    drop_frames(release / "001" / "vid.avi", [2, 3])
    follow(monkeypatch, (0, 1), (2, 4))  # of the five frames that are read
    folder, manifest = prepare(release, every=every, found_boxes=True)
    faces = rows(folder, "300VW.train.GTB")
    assert [(shown(folder, row.image), int(row.annotation[-10:-4])) for row in faces] == [(n, n) for n in numbers]
    unlabelled = rows(folder, "300VW.train.DET")
    assert [(shown(folder, row.image), row.box[0]) for row in unlabelled] == [(n, int(n > 2)) for n in numbers]
    said = (folder / "rejected.csv").read_text()
    assert "the video has no frame 000003" in said and "the video has no frame 000004" in said
    assert counts(manifest)["001, frames of vid.avi"] == (5, 7)
    assert "clip 001: vid.avi: its header says 7 frames, 5 can be used" in manifest["notes"]


@pytest.mark.parametrize("fps", [29.97, 24000 / 1001, 15, 60])
def test_frames_of_a_whole_video_are_numbered_without_a_gap_at_any_rate(release, fps):
    write_video(release / "001" / "vid.avi", [np.zeros((64, 96, 3), np.uint8)] * 300, fps=fps)
    builder = videos.DatasetBuilder(release.parent / "300VW", "300vw", release, 68, "")
    facts = videos.extract(release / "001" / "vid.avi", builder, "001", 1, threading.Event())
    assert facts["numbers"] == list(range(1, 301)) and not facts["notes"]


def test_a_clip_whose_first_frame_is_missing_is_left_out(release):
    drop_frames(release / "001" / "vid.avi", [0])
    folder, manifest = prepare(release)
    assert "300VW.train.GTB" not in manifest["lists"]
    said = (folder / "rejected.csv").read_text()
    assert "6 frames can be read, by their times 2 to 7 of 7: which .pts is whose cannot be told" in said


def test_only_a_clip_of_which_a_frame_is_missing_is_extracted_again(release):
    folder, _ = prepare(release)
    before = {path: path.stat().st_mtime_ns for path in (folder / "frames").rglob("*.jpg")}
    (folder / "frames" / "203" / "000003.jpg").unlink()
    prepare(release)
    after = {path: path.stat().st_mtime_ns for path in (folder / "frames").rglob("*.jpg")}
    assert set(after) == set(before)
    assert all((after[path] == before[path]) == ("/203/" not in str(path)) for path in before)


def test_a_stop_within_a_clip_leaves_nothing_half_written(release, monkeypatch):
    calls = []

    def stop(content, image):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr(videos, "describe_image", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(release, workers=1)
    # the clips that waited were not begun
    assert list((release.parent / "300VW" / "frames").iterdir()) == [] and len(calls) == 4


def test_boxes_of_lists_without_labels_come_from_the_finder(release, monkeypatch):
    short = Track(first=0, boxes=[(1, 2, 31, 42)] * 7, detected=[True] * 7)
    other = Track(first=0, boxes=[(50, 2, 80, 42)] * 3, detected=[True] * 3)
    monkeypatch.setattr(
        videos,
        "follow_video",
        lambda video, **_: Followed(96, 64, [0.0] * 7, [], [other, short][: 2 if "001" in str(video) else 1], 0, []),
    )
    for path in (release / "001" / "annot").iterdir():
        path.write_text("labels must not be needed")
    folder, manifest = prepare(release, labels=False)
    assert manifest["points"] == 0  # faces of any scheme
    faces = rows(folder, "300VW.train.DET")
    assert len(faces) == 7 and all(row.annotation is None and row.box == (1, 2, 31, 42) for row in faces)
    assert len(rows(folder, "300VW.test-A.DET")) == 3  # no face in the other frames
    assert counts(manifest)["114, frames with a found face"] == (3, 7)
    assert "the face finder" in manifest["boxes"]


def follow(monkeypatch, *tracks):
    """The finder sees faces in frames first ... last, counted from 0, of every video."""
    tracks = [
        Track(first, boxes=[(place, 2, 30 + place, 42)] * (last - first + 1), detected=[True] * (last - first + 1))
        for place, (first, last) in enumerate(tracks)
    ]
    monkeypatch.setattr(videos, "follow_video", lambda video, **_: Followed(96, 64, [0.0] * 7, [], tracks, 0, []))


@pytest.mark.parametrize(
    "every, clips", [(1, [[(0, 1)], [(1, 3)], [(2, 4), (2, 5), (2, 6)]]), (2, [[(0, 1)], [(1, 3)], [(2, 5)]])]
)
def test_a_clip_without_labels_is_one_face_in_a_folder_of_its_own(release, monkeypatch, every, clips):
    """No step from one face to another, and none over frames without a face, is taken for motion."""
    follow(monkeypatch, (0, 0), (2, 3), (3, 5))  # nobody in frame 2; two faces in frame 4: the one followed longer
    folder, manifest = prepare(release, labels=False, every=every)
    groups = group_clips(rows(folder, "300VW.train.DET"))
    assert [[(face.box[0], int(face.image[-10:-4])) for face in clip.faces] for clip in groups] == clips
    assert [clip.faces[0].image[:-10] for clip in groups] == [f"tracks/001-f0{i}/" for i in range(3)]
    last = groups[-1].faces[-1].image
    frame = folder / "frames" / "001" / last[-10:]
    assert (folder / last).resolve() == frame and read_origins(folder)[last] == videos.Origin(
        "001", "001", int(frame.stem)
    )
    number = len(list((folder / "frames" / "001").iterdir()))
    assert counts(manifest)["001, frames with a found face"] == (sum(map(len, clips)), number)
    assert (folder / "rejected.csv").read_text().count("no face is found") == 4 * (number - sum(map(len, clips)))


def test_frames_that_every_n_leaves_out_are_no_gap_of_a_face(release, monkeypatch):
    follow(monkeypatch, (0, 6))
    folder, _ = prepare(release, labels=False, every=3)
    [clip] = group_clips(rows(folder, "300VW.train.DET"))
    assert [face.image[-10:] for face in clip.faces] == ["000001.jpg", "000004.jpg", "000007.jpg"]
    assert prepare(release, labels=False, every=3)[1]["pictures"] == 12  # again, from what work/ keeps


def test_a_face_without_labels_is_known_as_the_labelled_one(release, monkeypatch):
    """By its clip, so that it is never measured on; by its frame and box, to measure pseudo-labels by its labels."""
    follow(monkeypatch, (0, 2), (4, 6))
    folder, _ = prepare(release, found_boxes=True)
    names = (["300VW.test-B.GTB"], ["300VW.train.DET"])
    truth = load_lists(folder, *names, ["300VW.test-C.GTB"], ["300VW.train.GTB"], points=68).truth
    assert sorted(annotation[-10:-4] for annotation in truth.values()) == [f"{i:06d}" for i in (1, 2, 3, 5, 6, 7)]
    write_list(folder / "lists" / "ends.txt", [(f"frames/001/00000{i}.jpg", None, (80, 2, 95, 42)) for i in (1, 7)])
    with pytest.raises(DataError, match="ends.txt:1: clip 001 is also in a training list"):
        check_files(
            load_lists(folder, *names, ["ends.txt"], points=68),
            68,
            origins=read_origins(folder),
            workers=1,
            progress=False,
        )


def test_what_cannot_be_read_is_reported_and_the_rest_goes_on(release):
    (release / "203" / "vid.avi").write_bytes(b"no video")
    write_video(release / "999" / "vid.avi", [np.zeros((64, 96, 3), np.uint8)] * 2)
    folder, manifest = prepare(release)
    assert "clip 203," in (folder / "rejected.csv").read_text()
    assert any("999 is no clip" in note for note in manifest["notes"])
    assert "300VW.test-B.GTB" not in manifest["lists"] and "300VW.test-C.GTB" in manifest["lists"]


def test_a_truncated_video_gives_the_frames_that_are_left(release):
    path = release / "001" / "vid.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    folder, manifest = prepare(release)
    number, annotations = counts(manifest)["001, frames of vid.avi"]
    assert 0 < number < 7 and annotations == 7 and len(rows(folder, "300VW.train.GTB")) == number


def test_a_folder_that_is_no_release_and_a_bad_step_are_refused(tmp_path, release):
    with pytest.raises(DataError, match="holds no <clip>/vid.avi"):
        prepare_300vw(tmp_path, tmp_path / "out", progress=False)
    with pytest.raises(DataError, match="--every 0: want 1 or more"):
        prepare(release, every=0)


def test_lists_with_and_without_labels_are_side_by_side(release, monkeypatch):
    """To learn from the training clips without labels and to measure on the test clips takes one extraction."""
    follow(monkeypatch, (0, 6))
    folder, manifest = prepare(release, found_boxes=True)
    assert sorted(manifest["lists"]) == sorted(
        f"300VW.{split}.{kind}" for split in ("train", "test-A", "test-B", "test-C") for kind in ("DET", "GTB")
    )
    unlabelled, labelled = (
        [(folder / row.image).resolve() for row in rows(folder, f"300VW.train.{kind}")] for kind in ("DET", "GTB")
    )
    assert unlabelled == labelled
    assert not any(row.annotation for row in rows(folder, "300VW.train.DET")) and all(
        row.annotation for row in rows(folder, "300VW.train.GTB")
    )
    assert manifest["pictures"] == 28


def test_lists_of_frames_that_are_replaced_go_first(release, monkeypatch):
    folder, _ = prepare(release)

    def stop(builder, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(videos.DatasetBuilder, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare(release, every=1)
    assert len(rows(folder, "300VW.train.GTB")) == 7  # the same frames: nothing was replaced
    with pytest.raises(KeyboardInterrupt):
        prepare(release, every=3)
    assert list((folder / "lists").iterdir()) == []


def test_a_stop_ends_the_clips_at_work_too(release):
    builder = videos.DatasetBuilder(release.parent / "300VW", "300vw", release, 68, "")
    stop = threading.Event()
    stop.set()
    with pytest.raises(DataError, match="stopped"):
        videos.extract(release / "001" / "vid.avi", builder, "001", 1, stop)
    assert list((release.parent / "300VW" / "frames").iterdir()) == []


def test_a_broken_record_of_an_earlier_run_is_made_again(release):
    folder, _ = prepare(release)
    for path in (folder / "work").glob("*.json"):
        path.write_text(path.read_text()[:30])
    assert prepare(release)[1]["pictures"] == 28


def test_where_nothing_is_left_a_hundred_missing_clips_do_not_hide_the_reason(release):
    with pytest.raises(DataError) as caught:
        prepare(release, labels=False)  # noise has no face
    lines = caught.value.problems
    assert (
        len(lines) == 3
        and "and 109 more of this kind" in lines[1]
        and "no face is found (and 27 more of this kind)" in lines[2]
    )
