"""300-W: every list of the release, its oddities handled, its errors reported."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from releases import landmarks, release_300w, tight, write_boxes, write_pts

from tsal.data.lists import read_list
from tsal.data.points import read_points
from tsal.prepare.ibug_300w import SIZES, SPLITS, prepare_300w
from tsal.utils.errors import DataError


@pytest.fixture
def release(tmp_path):
    return release_300w(tmp_path / "release")


def prepare(release, folder=None):
    folder = folder or release.parent / "300W"
    return folder, prepare_300w(release, folder, progress=False)


def count(manifest, what):
    [entry] = [item for item in manifest["counts"] if item["what"] == what]
    return entry


def rejected(folder) -> str:
    return (folder / "rejected.csv").read_text()


def test_every_split_has_both_kinds_of_boxes(release):
    folder, manifest = prepare(release)
    expected = {"train": 6, "common": 3, "challenging": 2, "full": 5}
    for split, rows in expected.items():
        for kind in ("DET", "GTB"):
            assert len(read_list(folder / "lists" / f"300W.{split}.{kind}")) == rows
    assert manifest["rejected"] == 0 and len(manifest["lists"]) == 8


def test_points_and_boxes_are_the_release_s_from_0(release):
    folder, _ = prepare(release)
    for kind, shift in (("GTB", 0), ("DET", 2)):
        row = read_list(folder / "lists" / f"300W.challenging.{kind}")[0]
        points = landmarks(68, 500)  # of ibug/image_003_1, counted from 1
        assert np.allclose(row.box, tight(points) - 1 + shift, atol=0.006)
        assert np.allclose(read_points(folder / row.annotation, 68)[0], points - 1, atol=1e-4)


def test_the_file_with_a_space_in_its_name_is_found_and_named_without(release):
    folder, _ = prepare(release)
    row = read_list(folder / "lists" / "300W.challenging.DET")[1]
    assert row.image == "renamed/ibug/image_092_01.jpg"
    assert (folder / row.image).read_bytes() == (release / "ibug" / "image_092 _01.jpg").read_bytes()


def test_the_release_stays_as_it_is(release):
    before = {path: path.read_bytes() for path in release.rglob("*") if path.is_file()}
    prepare(release)
    assert {path: path.read_bytes() for path in release.rglob("*") if path.is_file()} == before


def test_counts_are_shown_beside_the_release_s_own_and_say_why_they_differ(release):
    _, manifest = prepare(release)
    assert count(manifest, "300W.train.GTB") == {
        "what": "300W.train.GTB",
        "found": 6,
        "expected": 3148,
        "why": "see the folders above, and rejected.csv",
    }
    assert count(manifest, "afw, faces")["expected"] == 337
    assert count(manifest, "photographs with several labelled faces, each a row of its own")["found"] == 1


def test_the_splits_are_the_usual_ones():
    assert {name: sum(SIZES[subset] for subset in subsets) for name, subsets in SPLITS.items()} == {
        "train": 3148,
        "common": 554,
        "challenging": 135,
        "full": 689,
    }


def test_a_face_without_a_detector_box_is_left_out_of_the_det_lists_alone(release):
    points = landmarks(68, 500)
    write_boxes(
        release / "Bounding Boxes" / "bounding_boxes_ibug.mat",
        [
            {"imgName": "image_003_1.jpg", "bb_detector": tight(points)[None], "bb_ground_truth": tight(points)[None]},
        ],
    )
    folder, _ = prepare(release)
    assert len(read_list(folder / "lists" / "300W.challenging.DET")) == 1
    assert "300W.challenging.DET renamed/ibug/image_092_01.jpg,the release's .mat has no DET box" in rejected(folder)


def test_an_entry_of_the_box_file_that_is_none_is_reported_and_left_out(release):
    box = tight(landmarks(68, 500))[None]
    entry = {"imgName": "image_092_01.jpg", "bb_detector": box, "bb_ground_truth": box}
    write_boxes(release / "Bounding Boxes" / "bounding_boxes_ibug.mat", [entry, [1.0, 2.0]])
    folder, _ = prepare(release)
    assert len(read_list(folder / "lists" / "300W.challenging.DET")) == 1
    assert 'bounding_boxes_ibug.mat entry 2,"wants imgName' in rejected(folder)


def test_without_box_files_the_boxes_come_from_the_landmarks_and_det_lists_are_not_made(release):
    for path in (release / "Bounding Boxes").iterdir():
        path.unlink()
    folder, manifest = prepare(release)
    assert set(manifest["lists"]) == {f"300W.{split}.GTB" for split in SPLITS}
    row = read_list(folder / "lists" / "300W.challenging.GTB")[0]
    assert np.allclose(row.box, tight(landmarks(68, 500)) - 1, atol=0.006)
    assert any("bounding_boxes_ibug.mat is missing" in note for note in manifest["notes"])


def test_an_image_without_landmarks_is_reported_and_left_out(release):
    (release / "afw" / "134212_1.pts").unlink()
    folder, manifest = prepare(release)
    assert len(read_list(folder / "lists" / "300W.train.GTB")) == 5
    assert "134212_1.pts: cannot read the annotation" in rejected(folder)
    assert count(manifest, "afw, faces")["why"] == "1 images have no usable .pts"


def test_faces_of_one_photograph_are_known_to_be_that(release):
    folder, _ = prepare(release)
    lines = (folder / "images.csv").read_text().splitlines()
    assert sum(",afw/1051618982," in line for line in lines) == 2


def test_building_again_gives_the_same_bytes(release):
    folder, _ = prepare(release)
    files = ["manifest.json", "images.csv", "rejected.csv", "lists/300W.train.DET"]
    first = {name: (folder / name).read_bytes() for name in files}
    prepare(release)
    assert {name: (folder / name).read_bytes() for name in files} == first


def test_mirrored_copies_as_in_dlib_s_copy_are_left_out_and_told(release):
    for path in [*(release / "afw").glob("*.jpg"), *(release / "lfpw" / "testset").glob("*.png")]:
        cv2.imwrite(str(path.with_stem(f"{path.stem}_mirror")), cv2.flip(cv2.imread(str(path)), 1))
        write_pts(path.with_name(f"{path.stem}_mirror.pts"), landmarks(68, 1))
    folder, manifest = prepare(release)
    assert [manifest["lists"][f"300W.{split}.GTB"]["rows"] for split in SPLITS] == [6, 3, 2, 5]
    assert manifest["rejected"] == 0
    assert manifest["notes"] == ["5 mirrored images (*_mirror.*) left out, such as 1051618982_1_mirror.jpg"]


def test_what_macos_leaves_beside_the_images_is_none_of_them(release):
    (release / "afw" / "._134212_1.jpg").write_bytes(b"macOS")
    assert prepare(release)[1]["rejected"] == 0


def test_a_folder_that_is_no_release_is_refused_in_one_line(tmp_path):
    (tmp_path / "holidays").mkdir()
    with pytest.raises(DataError, match="holds none of afw, helen/trainset"):
        prepare_300w(tmp_path / "holidays", tmp_path / "300W", progress=False)
    assert not (tmp_path / "300W").exists()


def test_another_dataset_s_folder_is_not_overwritten(release, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(DataError, match="holds files but no manifest.json"):
        prepare_300w(release, tmp_path / "mine", progress=False)
    (tmp_path / "mine" / "manifest.json").write_text(json.dumps({"builder": "video"}))
    with pytest.raises(DataError, match="holds what video made"):
        prepare_300w(release, tmp_path / "mine", progress=False)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_real_photographs_in_the_release_s_layout(realdata, tmp_path):
    """AFW and the trainset of HELEN are parts of 300-W: the stand-in has their true names and number of faces."""
    release = tmp_path / "release"
    names = {"afw": "afw", "helen/trainset": "helen/trainset"}
    for subset, there in names.items():
        (release / subset).parent.mkdir(parents=True, exist_ok=True)
        (release / subset).symlink_to(realdata / "300W" / there, target_is_directory=True)
    folder, manifest = prepare(release)
    assert count(manifest, "afw, faces") == {"what": "afw, faces", "found": 337, "expected": 337, "why": ""}
    assert count(manifest, "helen/trainset, faces")["found"] == 870
    rows = read_list(folder / "lists" / "300W.train.GTB")
    afw_rows = read_list(realdata / "lists" / "300W.afw.GTB")
    boxes = {row.image: row.box for row in afw_rows}
    assert len(rows) == 1207
    assert all(
        np.abs(np.subtract(row.box, boxes["300W/" + row.image.removeprefix("release/")])).max() < 0.02
        for row in rows[:337]
    )
    assert cv2.imread(str(folder / rows[0].image)) is not None
