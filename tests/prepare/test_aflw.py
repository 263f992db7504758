"""AFLW: 19 points with visibility, face sizes, and names that are not those on disk."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from releases import landmarks, release_aflw

from tsal.data.leaks import check_files
from tsal.data.lists import load_lists, read_list
from tsal.data.points import read_points
from tsal.prepare import aflw
from tsal.utils.errors import DataError


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    # the stand-in has six faces; ra reverses their order: 5, 4, 3, 2 train, 1, 0 test
    monkeypatch.setattr(aflw, "TRAIN", 4)
    release = release_aflw(tmp_path / "release")
    folder = tmp_path / "AFLW"
    return folder, aflw.prepare_aflw(release, folder, progress=False)


def counts(manifest) -> dict[str, int]:
    return {item["what"]: item["found"] for item in manifest["counts"]}


def test_the_order_of_the_mat_makes_the_splits(prepared):
    folder, manifest = prepared
    annotations = {
        name: [row.annotation for row in read_list(folder / "lists" / f"AFLW.{name}.GTB")]
        for name in ("train", "test", "test.front")
    }
    numbers = {name: [path[-9:-4] for path in paths] for name, paths in annotations.items()}
    assert numbers == {"train": ["00006", "00005", "00004"], "test": ["00002", "00001"], "test.front": ["00001"]}
    expected = {item["what"]: item["expected"] for item in manifest["counts"]}
    assert (
        expected["AFLW.train.GTB"] == 20000
        and expected["AFLW.test.GTB"] == 4386
        and expected["AFLW.test.front.GTB"] is None
    )


def test_images_and_mat_of_linked_folders_are_found(prepared, tmp_path):
    folder, manifest = prepared
    (tmp_path / "linked").mkdir()
    for name in ("data", "AFLWinfo_release.mat"):
        (tmp_path / "release" / name).rename(tmp_path / "linked" / name)
    (tmp_path / "release" / "more").symlink_to(tmp_path / "linked")
    again = aflw.prepare_aflw(tmp_path / "release", folder, progress=False)
    assert again["counts"] == manifest["counts"] and again["rejected"] == manifest["rejected"]


def test_points_visibility_box_and_face_size_are_the_mat_s(prepared):
    folder, _ = prepared
    hidden, plain = read_list(folder / "lists" / "AFLW.test.GTB")
    points, visible = read_points(folder / plain.annotation, 19)
    assert visible.all() and np.allclose(points, landmarks(19, 0) - 1, atol=1e-3)
    assert plain.box == (9, 7, 59, 57)  # the .mat has x1 x2 y1 y2, counted from 1
    assert plain.face_size == 50
    points, visible = read_points(folder / hidden.annotation, 19)
    assert visible.tolist() == [True] * 4 + [False] * 15


def test_faces_with_few_visible_points_are_reported_and_those_with_none_left_out(prepared):
    folder, manifest = prepared
    assert counts(manifest)["faces with fewer than 6 visible points (kept; a metric counts the visible ones)"] == 1
    assert "no landmark is visible" in (folder / "rejected.csv").read_text()


def test_images_with_another_ending_or_folder_are_found_and_reported(prepared):
    folder, manifest = prepared
    assert counts(manifest)["images found by another name: another ending"] == 1
    assert counts(manifest)["images found by another name: another folder"] == 1
    rows = {row.annotation: row.image for row in read_list(folder / "lists" / "AFLW.train.GTB")}
    assert rows["annotations/00004.pts"] == "release/data/flickr/0/image00003.jpg"


def test_an_image_that_is_not_there_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(aflw, "TRAIN", 4)
    release = release_aflw(tmp_path / "release")
    (release / "data" / "flickr" / "0" / "image00000.jpg").unlink()
    aflw.prepare_aflw(release, tmp_path / "AFLW", progress=False)
    with (tmp_path / "AFLW" / "rejected.csv").open(newline="") as file:
        assert any("image00000.jpg does not exist" in row["why"] for row in csv.DictReader(file))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"ra": np.array([[1, 1, 2, 3, 4, 5]])}, "ra is not an order of the 6 faces"),
        ({"bbox": np.zeros((5, 4))}, "do not fit one another"),
        ({"data": np.zeros((6, 30))}, "do not fit one another"),
        ({"mask_new": np.zeros((6, 4))}, "do not fit one another"),
    ],
)
def test_variables_that_do_not_fit_are_refused(tmp_path, changes, said):
    release = release_aflw(tmp_path / "release", **changes)
    with pytest.raises(DataError, match=said):
        aflw.prepare_aflw(release, tmp_path / "AFLW", progress=False)
    assert not (tmp_path / "AFLW" / "lists").exists()


def test_frontal_faces_that_leave_their_box_are_counted_apart(tmp_path, monkeypatch):
    """Most papers' AFLW-frontal wants visible points alone, the paper's list points inside the box too: both numbers
    are reported.
    """
    monkeypatch.setattr(aflw, "TRAIN", 4)
    boxes = np.stack([[10, 60, 8, 58]] * 6).astype(float)
    boxes[0] = [30, 60, 8, 58]  # face 1, frontal in the test split, has points left of it
    release = release_aflw(tmp_path / "release", bbox=boxes)
    manifest = aflw.prepare_aflw(release, tmp_path / "AFLW", progress=False)
    assert "AFLW.test.front.GTB" not in manifest["lists"] and counts(manifest)["AFLW.test.front.GTB"] == 0
    [(number, expected)] = [
        (i["found"], i["expected"]) for i in manifest["counts"] if "all points visible" in i["what"]
    ]
    assert (number, expected) == (1, 1314)


@pytest.mark.parametrize("boxes, shared", [([[34, 64, 8, 58], [4, 31, 8, 58]], False), ([[10, 60, 8, 58]] * 2, True)])
def test_an_image_with_faces_of_both_splits_serves_a_run_where_they_are_different_faces(
    tmp_path, monkeypatch, boxes, shared
):
    """The official splits are of faces: the 24386 lie in at most 21997 images."""
    monkeypatch.setattr(aflw, "TRAIN", 4)
    names = np.array([[f"0/image0000{n}.jpg"] for n in (0, 1, 2, 3, 4, 0)], object)  # face 1 tests, face 6 trains
    every = np.stack([boxes[0], *[[10, 60, 8, 58]] * 4, boxes[1]]).astype(float)
    points = np.stack([landmarks(19, seed) for seed in range(6)])
    for face, left in ((0, 36), (5, 6)):  # each within its own box
        points[face, :, 0] = left + 0.6 * (points[face, :, 0] - 12)
    changes = {"nameList": names, "bbox": every, "data": np.concatenate([points[..., 0], points[..., 1]], axis=1)}
    aflw.prepare_aflw(release_aflw(tmp_path / "release", **changes), tmp_path / "AFLW", progress=False)

    def load():
        lists = load_lists(tmp_path / "AFLW", ["AFLW.train.GTB"], [], ["AFLW.test.GTB"], points=19)
        return check_files(lists, 19, workers=1, progress=False)[1]

    if shared:
        with pytest.raises(DataError, match=r"image00000.jpg is also in a training list \(AFLW.train.GTB:1\)"):
            load()
    else:
        [line] = load()
        assert line.startswith("AFLW.test.GTB: 1 of its images are also in a training list, with another face")
