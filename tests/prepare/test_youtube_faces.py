"""YouTube Faces with keypoints: clips by subject and shot, subjects in one split each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from releases import append_row, landmarks, release_youtube, write_image

from tsal.data.lists import group_clips, read_list
from tsal.data.origins import read_origins
from tsal.data.points import read_points
from tsal.faces import detect as finder
from tsal.prepare.youtube_faces import prepare_youtube, split_subjects
from tsal.utils.boxes import iou
from tsal.utils.errors import DataError


@pytest.fixture
def release(tmp_path):
    return release_youtube(tmp_path / "data")


def prepare(release, name="YTF", **options):
    folder = release.parent / name
    return folder, prepare_youtube(release, folder, progress=False, **options)


def rows(folder, split):
    path = folder / "lists" / f"YTF.{split}"
    return read_list(path) if path.exists() else []


def test_frames_become_clips_in_their_order(release):
    folder, _ = prepare(release, val=0, test=0)
    clips = group_clips(rows(folder, "train.GTB"))
    assert len(clips) == 20
    assert [face.image for face in clips[0].faces] == ["clips/Jane_Doe-A_0/0.jpg", "clips/Jane_Doe-A_0/1.jpg"]
    assert [len(clip.faces) for clip in clips[:4]] == [2, 1, 2, 1]


def test_clips_of_a_linked_folder_are_found(release):
    release.rename(release.parent / "store")
    release.mkdir()
    (release / "more").symlink_to(release.parent / "store")
    assert prepare(release, "again", val=0, test=0)[1]["lists"]["YTF.train.GTB"]["rows"] == 30


def test_the_table_counts_pixels_from_1(release):
    folder, _ = prepare(release, val=0, test=0)
    row = rows(folder, "train.GTB")[1]  # subject A, clip 0, frame 1
    points, visible = read_points(folder / row.annotation, 68)
    assert visible.all() and np.allclose(points, landmarks(68, 1) - 1, atol=1e-3)


def test_no_subject_is_in_two_splits(release):
    folder, _ = prepare(release, val=0.3, test=0.2)
    origins = read_origins(folder)
    subjects = {
        split: {origins[row.image].subject for row in rows(folder, f"{split}.GTB")}
        for split in ("train", "val", "test")
    }
    assert {split: len(names) for split, names in subjects.items()} == {"train": 5, "val": 3, "test": 2}
    assert len(set.union(*subjects.values())) == 10


def test_the_seed_alone_decides_the_split():
    subjects = [f"s{i}" for i in range(40)]
    assert (
        split_subjects(subjects, 0.2, 0.1, 5)
        == split_subjects(subjects, 0.2, 0.1, 5)
        != split_subjects(subjects, 0.2, 0.1, 6)
    )
    assert list(split_subjects(["one"], 0.5, 0.4, 0).values()) == ["train"]  # there is always something to learn from


def test_unlabelled_rows_are_training_frames_whose_boxes_are_found_in_the_pixels(release, monkeypatch):
    small, large = (1, 2, 9, 8), (10, 12, 50, 48)
    boxes = itertools.cycle([[large, small], [small, large], [small], []])
    monkeypatch.setattr(finder, "find_faces", lambda grey, _: np.array(next(boxes), float).reshape(-1, 4))
    folder, manifest = prepare(release, val=0.3, test=0.2, workers=1)
    bare, train = rows(folder, "train.unlabelled.DET"), [row.image for row in rows(folder, "train.GTB")]
    expected = [(image, (large, large, small)[place % 4]) for place, image in enumerate(train) if place % 4 < 3]
    assert [(row.image, row.box) for row in bare] == expected and all(row.annotation is None for row in bare)
    [item] = [item for item in manifest["counts"] if item["what"] == "YTF.train.unlabelled.DET"]
    assert item["found"] == len(bare) and item["expected"] == len(train)


def test_a_frame_without_a_face_is_reported(release):
    folder, manifest = prepare(release, val=0, test=0)  # noise has no face
    assert "YTF.train.unlabelled.DET" not in manifest["lists"]
    assert (folder / "rejected.csv").read_text().count("no face is found") == 30


def test_what_is_wrong_with_a_row_is_reported_and_the_rest_goes_on(release):
    table = release / "training_frames_keypoints.csv"
    append_row(table, "Nobody_00.jpg", landmarks(68, 1))
    append_row(table, "Jane_Doe-A_01.jpg", landmarks(68, 1))
    append_row(table, "strange.jpg", landmarks(68, 1))
    write_image(release / "training" / "strange.jpg", 1)
    append_row(table, "Jane_Doe-A_00.jpg", landmarks(67, 1))
    append_row(table, "Jane_Doe-A_00.jpg", np.full((68, 2), np.nan))
    with table.open("a") as file:
        file.write("Jane_Doe-A_00.jpg" + ",x" * 136 + "\n")
    folder, manifest = prepare(release, val=0, test=0)
    said = (folder / "rejected.csv").read_text()
    for line in (
        "17,the image",
        "18,Jane_Doe-A_01.jpg is in the tables twice",
        "19,the image's name 'strange.jpg'",
        '20,"135 columns, want 137',
        "21,a coordinate is not finite",
        "22,a coordinate is not a number",
    ):
        assert f"training_frames_keypoints.csv:{line}" in said, said
    assert manifest["rejected"] == 6 + 30 and manifest["lists"]["YTF.train.GTB"]["rows"] == 30


def test_a_folder_without_tables_and_bad_shares_are_refused(tmp_path, release):
    with pytest.raises(DataError, match="holds no \\*_frames_keypoints.csv"):
        prepare_youtube(release / "training", tmp_path / "YTF", progress=False)
    with pytest.raises(DataError, match="--val 0.6 and --test 0.5"):
        prepare(release, val=0.6, test=0.5)


def test_real_frames_in_the_release_s_layout(realdata, tmp_path):
    """The real clips written back as the release names them give the lists that they came from."""
    originals = [row for row in read_list(realdata / "lists" / "YTF.val.GTB") if row.annotation][:60]
    for row in originals:
        source = realdata / row.image
        subject, clip = source.parent.name.rsplit("_", 1)
        name = f"{subject}_{clip}{source.stem}.jpg"
        (tmp_path / "data" / "test").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "test" / name).symlink_to(source)
        append_row(
            tmp_path / "data" / "test_frames_keypoints.csv", name, read_points(realdata / row.annotation, 68)[0] + 1
        )
    folder, manifest = prepare(tmp_path / "data", val=0, test=0)
    copies = rows(folder, "train.GTB")
    bare = {row.image: row.box for row in rows(folder, "train.unlabelled.DET")}
    assert len(copies) == len(originals) and len(bare) > 0.9 * len(originals)
    assert np.median([iou(bare[row.image], row.box) for row in copies if row.image in bare]) > 0.65
    assert [tuple(row.box) for row in copies] == [
        pytest.approx(row.box, abs=0.02) for row in sorted(originals, key=lambda row: row.image)
    ]
