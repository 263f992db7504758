"""Photographs of one's own: .pts beside them, a CSV table, COCO keypoints."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from releases import coco, landmarks, tight, write_image, write_pts

from tsal.cli.commands import main
from tsal.data import lists
from tsal.data.leaks import check_files
from tsal.data.lists import group_clips, read_list
from tsal.data.points import read_points
from tsal.inference.drawing import write_picture
from tsal.inference.tables import LandmarkTable, write_table
from tsal.prepare import builder as building
from tsal.prepare import photographs, registry
from tsal.prepare.photographs import HIDDEN, prepare_photographs
from tsal.schemes import generic_scheme
from tsal.utils.errors import DataError
from tsal.utils.paths import REPOSITORY

BOX = ("x1", "y1", "x2", "y2")


def prepare(source, folder, points=5, **options):
    return prepare_photographs(source, folder, points=points, progress=False, **options)


def table(path, rows, points=2, more=()):
    head = ["image", *(f"{axis}{i}" for i in range(points) for axis in "xy"), *more]
    path.write_text("\n".join([",".join(head), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_a_folder_with_pts_files(tmp_path):
    for i in range(10):
        write_image(tmp_path / "mine" / "trip one" / f"{i}.jpg", i)
        write_pts(tmp_path / "mine" / "trip one" / f"{i}.pts", landmarks(5, i))
    manifest = prepare(tmp_path / "mine", tmp_path / "out", val=0.2)
    assert {name: entry["rows"] for name, entry in manifest["lists"].items()} == {"train.txt": 8, "val.txt": 2}
    row = read_list(tmp_path / "out" / "lists" / "val.txt")[0]
    number = int(row.image.rpartition("-")[2][:-4])
    # lists know no white space, and numbers are frames of a clip
    assert row.image == f"renamed/tripone/photo-{number}.jpg"
    assert all(len(clip.faces) == 1 for clip in group_clips(read_list(tmp_path / "out" / "lists" / "train.txt")))
    # five landmarks: from half the tight box's width left of it, a third of its height above it, to as far beyond
    x1, y1, x2, y2 = tight(landmarks(5, number)) - 1
    w, h = x2 - x1, y2 - y1
    assert row.box == pytest.approx((x1 - 0.55 * w, y1 - 0.35 * h, x2 + 0.55 * w, y2 + 0.62 * h), abs=0.006)
    assert manifest["options"]["box"] == (-0.55, -0.35, 1.55, 1.62)


def test_a_table_that_predict_wrote_is_read_as_labels_with_its_boxes(tmp_path, monkeypatch):
    """Its paths are as they were given to ``predict``: relative ones start where that ran."""
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_image(tmp_path / "photos" / f"{number}.png", number)
    paths = ["photos/0.png", str(tmp_path / "photos/1.png")]
    points, boxes = np.float32([[[20, 20], [30.25, 40]], [[50, 20], [30, 40]]]), np.float32([[10, 11, 45, 46.5]] * 2)
    predictions = LandmarkTable(paths, np.array(paths), np.array([0, 0]), boxes, points, np.ones((2, 2)))
    (tmp_path / "out").mkdir()
    write_table(tmp_path / "out/faces.csv", predictions, generic_scheme(2))
    assert prepare(tmp_path / "out/faces.csv", tmp_path / "made", 2, images=Path("."), val=0)["rejected"] == 0
    rows = read_list(tmp_path / "made/lists/train.txt")
    assert [row.box for row in rows] == [(10, 11, 45, 46.5)] * 2
    for row, path, own in zip(rows, paths, points, strict=True):
        assert (tmp_path / "made" / row.image).resolve() == tmp_path / path
        assert read_points(tmp_path / "made" / row.annotation, 2)[0] == pytest.approx(own, abs=0.006)


def test_landmarks_of_a_scheme_of_one_s_own_give_the_box_that_its_file_says(tmp_path, capsys):
    write_image(tmp_path / "a.png", 1)
    source = table(tmp_path / "faces.csv", [("a.png", 20, 20, 30, 40)])
    (tmp_path / "eyes.yaml").write_text("points: 2\nbox: [-1, -0.5, 2, 1.5]\n")
    options = ["--scheme", str(tmp_path / "eyes.yaml"), "--name", "eyes", "--val", "0"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "PREPARED", tmp_path / "prepared")
        assert main(["data", "photographs", str(source), *options]) == 0
    assert "checking images: 0it" not in capsys.readouterr().err  # a bar of what is known already
    [row] = read_list(tmp_path / "prepared" / "eyes" / "lists" / "train.txt")
    assert row.box == (10, 10, 40, 50)


def test_of_pts_files_of_a_whole_scheme_a_part_of_it_keeps_its_own_points(tmp_path):
    points = landmarks(68, 1)
    write_image(tmp_path / "mine" / "a.png", 1)
    write_pts(tmp_path / "mine" / "a.pts", points)
    assert prepare(tmp_path / "mine", tmp_path / "out", scheme="51", val=0)["points"] == 51
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert read_points(tmp_path / "out" / row.annotation, 51)[0] == pytest.approx(points[17:] - 1, abs=1e-3)


def test_the_table_that_data_md_shows_is_read_as_it_says(tmp_path):
    [text] = re.findall(r"```csv\n(.*?)```", (REPOSITORY / "docs" / "data.md").read_text(), re.S)
    (tmp_path / "faces.csv").write_text(text)
    write_image(tmp_path / "trip" / "a.jpg", 1, side=80)
    for shift, options in enumerate([{}, {"one_based": True}]):
        out = tmp_path / f"out-{shift}"
        assert prepare(tmp_path / "faces.csv", out, points=2, val=0, **options)["rejected"] == 0
        [row] = read_list(out / "lists" / "train.txt")
        points, visible = read_points(out / row.annotation, 2)
        assert row.box == (20 - shift, 25 - shift, 64 - shift, 70 - shift) and visible.tolist() == [True, False]
        assert points[0].tolist() == [31.5 - shift, 40 - shift]


def test_a_table_with_hidden_points_boxes_and_bare_rows(tmp_path):
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", ord(name))
    source = table(
        tmp_path / "faces.csv",
        [
            ("a.png", 10, 20, 30, 40, 1, 0, "", "", "", ""),
            ("a.png", 10, 20, "", "", 1, 1, 5, 6, 50, 60),
            ("b.png", "", "", "", "", 0, 0, 1, 2, 60, 61),
        ],
        more=("v0", "v1", "box_x1", "box_y1", "box_x2", "box_y2"),
    )
    source.write_text(source.read_text().replace("10,20,30,40,1,0", "10,20,30,40,1,1"))
    manifest = prepare(source, tmp_path / "out", points=2, val=0)
    assert manifest["lists"]["train.txt"]["rows"] == 2 and manifest["lists"]["unlabelled.txt"]["rows"] == 1
    first, second = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert first.box == (10, 20, 30, 40)  # no box of its own: tight around the points
    assert second.box == (5, 6, 50, 60)
    assert read_points(tmp_path / "out" / second.annotation, 2)[1].tolist() == [True, False]
    [bare] = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    assert bare.annotation is None and bare.box == (1, 2, 60, 61)


@pytest.mark.parametrize("none", [0, -1, ""])
def test_a_row_of_a_table_may_say_that_it_has_no_box(tmp_path, monkeypatch, none):
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(5.0, 6.0, 40.0, 41.0)])
    for name in ("a", "b"):
        write_image(tmp_path / f"{name}.png", ord(name))
    rows = [("a.png", 10, 20, 30, 40, *[none] * 4), ("b.png", "", "", "", "", *[none] * 4)]
    source = table(tmp_path / "faces.csv", rows, more=[f"box_{name}" for name in BOX])
    assert prepare(source, tmp_path / "out", points=2, val=0, one_based=True)["rejected"] == 0
    boxes = [read_list(tmp_path / "out" / "lists" / f"{name}.txt")[0].box for name in ("train", "unlabelled")]
    assert boxes == [(9, 19, 29, 39), (5, 6, 40, 41)]


@pytest.mark.parametrize("one_based, expected", [(False, [10.0, 20.0]), (True, [9.0, 19.0])])
def test_pixels_count_from_0_or_from_1_as_given(tmp_path, one_based, expected):
    write_image(tmp_path / "a.png", 1)
    source = table(tmp_path / "faces.csv", [("a.png", 10, 20, 30, 40)])
    prepare(source, tmp_path / "out", points=2, val=0, one_based=one_based)
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert read_points(tmp_path / "out" / row.annotation, 2)[0][0].tolist() == expected


def test_coco_keypoints(tmp_path):
    manifest = prepare(coco(tmp_path / "mine"), tmp_path / "out", val=0)
    assert {name: entry["rows"] for name, entry in manifest["lists"].items()} == {"train.txt": 3, "unlabelled.txt": 1}
    row = read_list(tmp_path / "out" / "lists" / "train.txt")[1]
    points, visible = read_points(tmp_path / "out" / row.annotation, 5)
    assert visible.tolist() == [True, True, True, True, False]  # v = 1 is labelled, though hidden
    assert np.allclose(points[:4], landmarks(5, 1)[:4], atol=1e-3)
    assert row.box == (10, 10, 50, 52)  # COCO has x, y, width, height


def test_faces_of_one_image_stay_in_one_split(tmp_path):
    rows = []
    for i in range(8):
        write_image(tmp_path / f"{i}.png", i)
        rows += [(f"{i}.png", 10, 20, 30, 40), (f"{i}.png", 20, 20, 50, 40)]
    prepare(table(tmp_path / "faces.csv", rows), tmp_path / "out", points=2, val=0.5, seed=3)
    images = [{row.image for row in read_list(tmp_path / "out" / "lists" / name)} for name in ("train.txt", "val.txt")]
    assert [len(part) for part in images] == [4, 4] and not images[0] & images[1]


def test_faces_without_labels_of_held_images_and_of_their_copies_are_left_out(tmp_path):
    more = [f"box_{name}" for name in BOX]
    for name in ("a", "b", "other"):
        write_image(tmp_path / f"{name}.png", ord(name[0]))
        (tmp_path / f"{name}-copy.png").write_bytes((tmp_path / f"{name}.png").read_bytes())
    labelled = [(f"{name}.png", 10, 20, 30, 40, "", "", "", "") for name in ("a", "b")]
    images = ("a.png", "b.png", "a-copy.png", "b-copy.png", "other.png")
    bare = [(image, "", "", "", "", 35, 35, 60, 60) for image in images]
    out = tmp_path / "out"
    manifest = prepare(table(tmp_path / "faces.csv", labelled + bare, more=more), out, points=2, val=0.5)
    [row] = read_list(out / "lists" / "val.txt")
    held = row.image.rpartition("/")[2][0]
    unlabelled = [row.image.rpartition("/")[2] for row in read_list(out / "lists" / "unlabelled.txt")]
    assert unlabelled == [image for image in images if image[0] != held]
    assert manifest["rejected"] == 2 and [item["found"] for item in manifest["counts"][:2]] == [5, 7]  # images, faces
    same, copy = [why for _, why in building.read_rejected(out)]
    assert same == f"{held}.png: no landmarks, and the image is held out for val.txt"
    assert copy == f"{held}-copy.png: no landmarks, and the image is a copy of {held}.png, held out for val.txt"
    run = lists.load_lists(out, ["train.txt"], ["unlabelled.txt"], ["val.txt"], points=2)
    check_files(run, 2, workers=1, progress=False)


@pytest.mark.parametrize("different, held, seed", [(2, 2, 0), (2, 2, 1), (2, 2, 2), (1, 0, 0)])
def test_copies_are_not_parted_where_all_images_are_of_one_scene(tmp_path, different, held, seed):
    write_image(tmp_path / "a.png", 1)
    image = cv2.imread(str(tmp_path / "a.png"))
    for number in range(4):  # pairs of copies
        name = f"{number}.png"
        cv2.imwrite(str(tmp_path / name), cv2.convertScaleAbs(image, beta=4 * (number % different)))
    rows = [(f"{number}.png", 10, 20, 30, 40) for number in range(4)]
    manifest = prepare(table(tmp_path / "faces.csv", rows), tmp_path / "out", points=2, val=0.5, seed=seed)
    assert manifest["lists"].get("val.txt", {"rows": 0})["rows"] == held
    said = "val.txt holds images of it too" if held else "all labelled images are copies of one: there is no val.txt"
    assert [note.endswith(said) for note in manifest["notes"]] == [True]
    if held:
        pairs = [{int(Path(image).stem[-1]) % 2 for image in images} for images in split(tmp_path / "out").values()]
        assert sorted(pairs, key=min) == [{0}, {1}]


BROKEN_TABLES = {
    "no image": ("none.png,1,2,3,4", "the image none.png does not exist"),
    "letters": ("a.png,1,two,3,4", "'two' is not a number"),
    "infinite": ("a.png,1,inf,3,4", "'inf' is not finite"),
    "too few columns": ("a.png,1,2", "want 5 columns"),
    "too many columns": ("a.png,1,2,3,4,5", "want 5 columns"),
    "no points, no box": ("a.png,,,,", "no landmarks, no box, and no face is found"),
    "one point": ("a.png,7,7,,", "the box is empty or inverted"),
    "far outside": ("a.png,900,900,950,950", "lies wholly outside the image"),
    "beyond all images": ("a.png,1e200,2,3,4", "is over 10 times as long as the image (64 x 64)"),
    "a name that is too long": ("x" * 5000 + ".png,1,2,3,4", "does not exist"),
    "no name": (",1,2,3,4", "does not exist"),
}


@pytest.mark.parametrize("row, said", BROKEN_TABLES.values(), ids=BROKEN_TABLES)
def test_a_wrong_row_of_a_table_is_reported_and_the_rest_goes_on(tmp_path, row, said):
    write_image(tmp_path / "a.png", 1)
    source = table(tmp_path / "faces.csv", [("a.png", 10, 20, 30, 40)])
    source.write_text(source.read_text() + row + "\n")
    manifest = prepare(source, tmp_path / "out", points=2, val=0)
    assert manifest["lists"]["train.txt"]["rows"] == 1 and manifest["rejected"] == 1
    line = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1]
    assert "faces.csv:3" in line and said in line


def test_a_wrong_row_is_named_by_its_line_though_blank_ones_are_before_it(tmp_path):
    write_image(tmp_path / "a.png", 1)
    source = table(tmp_path / "faces.csv", [("a.png", 10, 20, 30, 40), ("a.png", 10, "twenty", 30, 40)])
    source.write_text(source.read_text().replace("\n", "\n\n\n"))  # the header in line 1, rows in lines 4 and 7
    prepare(source, tmp_path / "out", points=2, val=0)
    assert reasons(tmp_path / "out") == {f"{source}:7": "'twenty' is not a number"}


def test_mirrored_labels_and_labels_in_other_files_are_noted(tmp_path):
    points = np.tile([[30.0, 40.0]], (68, 1))
    points[36], points[45] = (40, 24), (20, 25)  # the person's right eye is on the right
    for name in ("a", "b", "c"):
        write_image(tmp_path / "mine" / f"{name}.png", ord(name))
    write_pts(tmp_path / "mine" / "a.pts", points)
    for name in ("a.json", "b.json", "c.JSON", "other.json"):
        (tmp_path / "mine" / name).write_text("{}")
    mirrored, unread = sorted(prepare(tmp_path / "mine", tmp_path / "out", points=68)["notes"])
    assert mirrored.startswith("1 of 1 labelled faces are mirrored: are x and y swapped, does y count from the bottom")
    assert unread.startswith(
        "beside 2 images without .pts there is a file .JSON, .json, such as b.json, that is not read"
    )


def test_landmarks_in_percent_are_noted(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.png", number, side=320)
    source = table(tmp_path / "faces.csv", [(f"{number}.png", 40, 45.5, 60, 55) for number in range(10)])
    [note] = prepare(source, tmp_path / "out", points=2)["notes"]
    assert "of 10 faces lie within 0 ... 100, in images of about 320 x 320 pixels: are they in percent?" in note


@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_points_that_are_not_known_may_be_written_in_several_ways_and_a_table_in_utf_16(tmp_path, coding):
    for name in ("ä", "b"):
        write_image(tmp_path / f"{name}.png", ord(name))
    none = [("b.png", "none", "null", "N/A", "-", 1, 2, 60, 61)]
    rows = [("ä.png", 10, 20, "NA", "None", 1, 2, 60, 61), *none]
    source = table(tmp_path / "faces.csv", rows, more=[f"box_{name}" for name in BOX])
    source.write_text(source.read_text(), encoding=coding)
    assert prepare(source, tmp_path / "out", points=2, val=0)["rejected"] == 0
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert row.image == "release/ä.png"
    assert read_points(tmp_path / "out" / row.annotation, 2)[1].tolist() == [True, False]
    [bare] = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    assert bare.image == "release/b.png"


BROKEN_FILES = {
    "no such file": (None, "no such file or folder"),
    "another kind": ("faces.txt", "want a folder, a .csv or a .json"),
    "no columns": ("faces.csv", "has no column image, x0, y0, x1"),
    "other separators": ("parted.csv", "are its columns parted by commas"),
    "a column twice": ("twice.csv", "column x0 is given twice"),
    "more points": ("more.csv", "has 6 points a face, not 5; give --points for them"),
    "visibility from 1 on": ("flags.csv", "has 5 columns of visibility; want v0 ... v4, or none"),
    "another box": ("boxed.csv", "has the columns box_x, box_w; a box's are box_x1, box_y1, box_x2, box_y2 .corners"),
    "no json": ("faces.json", "cannot be read as JSON"),
    "endless json": ("deep.json", "cannot be read as JSON"),
    "no coco": ("list.json", "is no COCO file"),
    "no keys": ("keys.json", "is no COCO file"),
}


@pytest.mark.parametrize("name, said", BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_source_that_is_none_is_refused_in_one_line(tmp_path, name, said):
    content = {
        "faces.csv": "name,a\nx,1\n",
        "faces.json": "{",
        "list.json": "[1]",
        "keys.json": json.dumps({"images": [{"id": 1}]}),
    }
    head = ["image", *(f"{axis}{i}" for i in range(5) for axis in "xy")]
    content |= {
        "parted.csv": ";".join(head) + "\n",
        "twice.csv": ",".join([*head, "x0"]) + "\n",
        "more.csv": ",".join([*head, "x5", "y5"]) + "\n",
        "flags.csv": ",".join([*head, *(f"v{i}" for i in range(1, 6))]) + "\n",
        "boxed.csv": ",".join([*head, "box_x", "box_w"]) + "\n",
        "deep.json": "[" * 100_000,
    }
    if name:
        (tmp_path / name).write_text(content.get(name, ""))
    with pytest.raises(DataError, match=said) as caught:
        prepare(tmp_path / (name or "nowhere"), tmp_path / "out")
    assert len(caught.value.problems) == 1 and not (tmp_path / "out").exists()


BROKEN_COCO = {
    "unknown image": ({"image_id": 99}, "image_id is missing"),
    "crowd": ({"iscrowd": 1}, "a crowd has no landmarks"),
    "too few keypoints": ({"keypoints": [1, 2, 2]}, "3 numbers of keypoints, want 15"),
    "letters": ({"keypoints": ["a"] * 15}, "no flat list of numbers"),
    "bad box": ({"bbox": [1, 2, 3]}, "no flat list of numbers"),
    "empty box": ({"bbox": [1, 2, 0, 0]}, "the box is empty or inverted"),
    "endless box": ({"bbox": [1, 2, float("inf"), 9]}, "the box is empty or inverted, or has no numbers"),
    "nothing": ({"keypoints": [], "bbox": None}, "no flat list of numbers"),
}


def test_keypoints_that_are_null_are_none(tmp_path):
    source = coco(tmp_path / "mine")
    content = json.loads(source.read_text())
    content["annotations"][0]["keypoints"] = None
    source.write_text(json.dumps(content))
    assert prepare(source, tmp_path / "out", val=0)["lists"]["unlabelled.txt"]["rows"] == 2


@pytest.mark.parametrize("change, said", BROKEN_COCO.values(), ids=BROKEN_COCO)
def test_a_wrong_annotation_is_reported_and_the_rest_goes_on(tmp_path, change, said):
    source = coco(tmp_path / "mine")
    content = json.loads(source.read_text())
    content["annotations"][0] |= change
    source.write_text(json.dumps(content))
    manifest = prepare(source, tmp_path / "out", val=0)
    assert manifest["lists"]["train.txt"]["rows"] == 2
    assert said in (tmp_path / "out" / "rejected.csv").read_text()


def test_where_no_row_is_right_nothing_is_written_and_the_reasons_are_reported(tmp_path):
    (tmp_path / "mine").mkdir()
    for i in range(3):
        (tmp_path / "mine" / f"{i}.jpg").write_text("no image")
        write_pts(tmp_path / "mine" / f"{i}.pts", landmarks(5, i))
    with pytest.raises(DataError, match="nothing is left to make a list of") as caught:
        prepare(tmp_path / "mine", tmp_path / "out")
    assert len(caught.value.problems) == 4 and not (tmp_path / "out" / "lists").exists()


def test_images_without_labels_get_the_box_of_the_largest_face_that_is_seen(tmp_path, monkeypatch):
    for i in range(3):
        write_image(tmp_path / "mine" / f"{i}.jpg", i)
    write_pts(tmp_path / "mine" / "0.pts", landmarks(5, 0))
    boxes = {"1.jpg": [(5.0, 6.0, 40.0, 41.0)], "2.jpg": []}
    monkeypatch.setattr(photographs, "faces_in", lambda path: boxes[path.name])
    manifest = prepare(tmp_path / "mine", tmp_path / "out")
    [bare] = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    assert bare.annotation is None and bare.box == boxes["1.jpg"][0] and bare.image.endswith("photo-1.jpg")
    assert manifest["lists"]["train.txt"]["rows"] == 1 and manifest["rejected"] == 1
    assert "2.jpg: no landmarks, no box, and no face is found" in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize("all_faces", [False, True])
def test_of_a_group_photograph_the_largest_face_or_every_one_is_taken_and_it_is_said(tmp_path, monkeypatch, all_faces):
    for name in ("alone", "group"):
        write_image(tmp_path / "mine" / f"{name}.jpg", len(name))
    boxes = {"alone.jpg": [(5.0, 6.0, 40.0, 41.0)], "group.jpg": [(1.0, 1.0, 30.0, 30.0), (32.0, 32.0, 50.0, 50.0)]}
    monkeypatch.setattr(photographs, "faces_in", lambda path: boxes[path.name])
    notes = prepare(tmp_path / "mine", tmp_path / "out", all_faces=all_faces)["notes"]
    rows = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    expected = [*boxes["alone.jpg"], *boxes["group.jpg"][: 1 + all_faces]]
    assert [row.box for row in rows] == expected and len({row.image for row in rows}) == 2
    assert len(group_clips(rows)) == len(rows)  # two faces of one image are no frames of a clip
    [note] = notes
    assert "1 face beside the largest of 1 image, such as group.jpg" in note
    assert ("--all-faces" in note) is not all_faces


@pytest.mark.parametrize("all_faces", [False, True])
def test_a_face_that_is_found_is_no_other_row_s_and_is_written_once(tmp_path, monkeypatch, all_faces):
    """The largest is the labelled one, found a little aside, and another one has a row with a box."""
    more = [f"box_{name}" for name in BOX]
    monkeypatch.setattr(
        photographs, "faces_in", lambda path: [(8, 18, 32, 42), (40, 5, 60, 25), (40, 30, 55, 45), (5, 50, 15, 60)]
    )
    for name in "ab":
        write_image(tmp_path / f"{name}.png", ord(name))
    none = [""] * 4
    rows = [("a.png", 10, 20, 30, 40, *none), ("a.png", *none, 41, 6, 60, 25), *[("a.png", *none, *none)] * 2]
    prepare(table(tmp_path / "faces.csv", rows, more=more), tmp_path / "out", points=2, val=0, all_faces=all_faces)
    rows = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    further = [(40, 30, 55, 45), (5, 50, 15, 60)][: 1 + all_faces]
    assert sorted(row.box for row in rows) == sorted([(41, 6, 60, 25), *further])


def test_where_all_faces_have_rows_a_further_row_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(8, 18, 32, 42)])
    write_image(tmp_path / "a.png", 1)
    source = table(tmp_path / "faces.csv", [("a.png", 10, 20, 30, 40), ("a.png", *[""] * 4)])
    assert set(prepare(source, tmp_path / "out", points=2, val=0)["lists"]) == {"train.txt"}
    why = "a.png: no landmarks, no box, and no face is found beside those of other rows"
    assert reasons(tmp_path / "out") == {f"{source}:3": why}


@pytest.mark.parametrize("labelled, val, held", [(3, 0.1, 1), (1, 0.5, 0), (3, 0.9, 2), (3, 0.0, 0)])
def test_the_share_for_val_is_of_labelled_images_and_leaves_some_to_learn_from(
    tmp_path, monkeypatch, labelled, val, held
):
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(5, 6, 40, 41)])
    for i in range(8):
        write_image(tmp_path / "mine" / f"{i}.jpg", i)
    for i in range(labelled):
        write_pts(tmp_path / "mine" / f"{i}.pts", landmarks(5, i))
    lists = prepare(tmp_path / "mine", tmp_path / "out", val=val)["lists"]
    assert lists.get("val.txt", {"rows": 0})["rows"] == held and lists["train.txt"]["rows"] == labelled - held


def test_images_whose_names_differ_by_white_space_stay_apart(tmp_path):
    names = ["trip 1/1.png", "trip1/1.png", "a b.png", "ab .png", "2021 03 04.png", "2021 03 05.png"]
    for number, name in enumerate(names):
        write_image(tmp_path / name, number)
    source = table(tmp_path / "faces.csv", [(name, 10, 20, 30, 40) for name in names])
    for _ in range(2):  # building again gives the same
        prepare(source, tmp_path / "out", points=2, val=0)
        originals = [
            (tmp_path / "out" / row.image).resolve() for row in read_list(tmp_path / "out" / "lists" / "train.txt")
        ]
        assert originals == [tmp_path / name for name in names]
        rows = read_list(tmp_path / "out" / "lists" / "train.txt")
        assert all(len(clip.faces) == 1 for clip in group_clips(rows))  # photographs, not frames


def test_photographs_with_the_longest_names_that_files_have_are_linked(tmp_path):
    """A link to what lies beside the table, to a number, and to two files of one name."""
    names = ["../far/" + "x" * 251 + ".png", "1" * 251 + ".png", "../other/" + "x" * 251 + ".png"]
    for number, name in enumerate(names):
        write_image(tmp_path / "mine" / name, number)
    source = table(tmp_path / "mine" / "faces.csv", [(name, 10, 20, 30, 40) for name in names])
    for _ in range(2):  # building again gives the same
        assert prepare(source, tmp_path / "out", points=2, val=0)["rejected"] == 0
        rows = read_list(tmp_path / "out" / "lists" / "train.txt")
        assert [(tmp_path / "out" / row.image).resolve() for row in rows] == [
            (tmp_path / "mine" / name).resolve() for name in names
        ]
        assert len(group_clips(rows)) == 3 and len({row.image for row in rows}) == 3


def test_a_build_that_finds_nothing_leaves_no_list_of_other_labels(tmp_path):
    write_image(tmp_path / "a.png", 0)
    prepare(table(tmp_path / "good.csv", [("a.png", 10, 20, 30, 40)]), tmp_path / "out", points=2, val=0)
    bad = table(tmp_path / "bad.csv", [("a.png", 1, 2, 3, 4, 9, 9, 5, 5)], more=[f"box_{c}" for c in BOX])
    with pytest.raises(DataError, match="nothing is left"):
        prepare(bad, tmp_path / "out", points=2, val=0)
    assert not list((tmp_path / "out" / "lists").iterdir())


def test_what_is_made_of_one_source_is_not_replaced_by_another_s(tmp_path):
    for name in ("one", "two"):
        write_image(tmp_path / name / "a.png", 0)
        table(tmp_path / name / "faces.csv", [("a.png", 10, 20, 30, 40)])
    prepare(tmp_path / "one" / "faces.csv", tmp_path / "out", points=2, val=0)
    with pytest.raises(DataError, match="is made of .*one; give another --name"):
        prepare(tmp_path / "two" / "faces.csv", tmp_path / "out", points=2, val=0)


def test_images_beside_the_table_s_folder_are_linked(tmp_path):
    write_image(tmp_path / "far" / "a b.png", 1)
    write_image(tmp_path / "c.png", 2)
    (tmp_path / "tables").mkdir()
    source = table(
        tmp_path / "tables" / "faces.csv",
        [(tmp_path / "far" / "a b.png", 10, 20, 30, 40), ("../c.png", 10, 20, 30, 40)],
    )
    prepare(source, tmp_path / "out", points=2, val=0)
    images = [row.image for row in read_list(tmp_path / "out" / "lists" / "train.txt")]
    assert images == ["renamed/ab.png", "renamed/c.png"]
    assert [(tmp_path / "out" / image).resolve().name for image in images] == ["a b.png", "c.png"]


def test_numbered_images_outside_the_table_s_folder_are_linked_in_the_prepared_folder(tmp_path):
    """Numbers get a name of their own: it must not lead where ``..`` or an absolute path does."""
    absolute = [str(tmp_path / "img" / "1.png"), str(tmp_path / "labels" / "in" / "2.png")]
    names = ["../img/0.png", "../more/0.png", *absolute]
    for seed, name in enumerate(names):
        write_image(tmp_path / "labels" / name, seed)
    source = table(tmp_path / "labels" / "faces.csv", [(name, 20, 20, 30, 40) for name in names])
    prepare(source, tmp_path / "prepared" / "mine", points=2, val=0)
    folder = tmp_path / "prepared" / "mine"
    images = [face.image for face in read_list(folder / "lists" / "train.txt", root=folder)]
    assert images[0] == "renamed/photo-0.png" and re.fullmatch(r"renamed/photo-0-[0-9a-f]{8}\.png", images[1])
    assert images[2:] == ["renamed/photo-1.png", "renamed/in/photo-2.png"]
    for name, image in zip(names, images):
        assert (folder / image).samefile(tmp_path / "labels" / name)
    assert [path.name for path in (tmp_path / "prepared").iterdir()] == ["mine"]


def test_a_json_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    source = coco(tmp_path / "mine")
    source.write_text(source.read_text(), encoding="utf-8-sig")
    assert prepare(source, tmp_path / "out", val=0)["lists"]["train.txt"]["rows"] == 3


def test_what_is_prepared_below_the_source_is_no_material(tmp_path):
    for i in range(2):
        write_image(tmp_path / "mine" / f"{i}.jpg", i)
        write_pts(tmp_path / "mine" / f"{i}.pts", landmarks(5, i))
    for _ in range(2):
        manifest = prepare(tmp_path / "mine", tmp_path / "mine" / "out", val=0)
        assert manifest["pictures"] == 2 and manifest["rejected"] == 0


def test_a_linked_folder_s_pictures_are_taken(tmp_path):
    """The prepared folder, whose link to the source leads round, lies below it."""
    for name in ("mine/a", "store/b"):
        write_image(tmp_path / f"{name}.png", len(name))
        write_pts(tmp_path / f"{name}.pts", landmarks(5, len(name)))
    (tmp_path / "mine" / "more").symlink_to(tmp_path / "store")
    for _ in range(2):
        prepare(tmp_path / "mine", tmp_path / "mine" / "out", val=0)
        images = [face.image for face in read_list(tmp_path / "mine" / "out" / "lists" / "train.txt")]
        assert images == ["release/a.png", "release/more/b.png"]


@pytest.mark.parametrize("originals", [3, 0])
def test_drawings_of_this_package_are_no_photographs(tmp_path, monkeypatch, originals):
    """They would be found as faces without labels, and show the images of val.txt again."""
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(5, 6, 40, 41)])
    for i in range(originals):
        write_image(tmp_path / "mine" / f"{i}.png", i)
        write_pts(tmp_path / "mine" / f"{i}.pts", landmarks(5, i))
    for i in range(2):
        write_picture(tmp_path / "mine" / "drawn" / f"{i}.jpg", np.full((64, 64, 3), 50 * i, np.uint8))
    note = "2 drawings of predict, track or demo left out"
    if originals:
        manifest = prepare(tmp_path / "mine", tmp_path / "out")
        assert set(manifest["lists"]) == {"train.txt", "val.txt"} and manifest["notes"] == [note]
    else:
        with pytest.raises(DataError, match=f"nothing is left to make a list of\n{note}$"):
            prepare(tmp_path / "mine", tmp_path / "out")


@pytest.mark.parametrize("last", ["annotations/000001.pts", "lists/train.txt", "rejected.csv"])
def test_a_build_that_was_killed_can_be_done_again(tmp_path, monkeypatch, last):
    for i in range(3):
        write_image(tmp_path / "mine" / f"{i}.jpg", i)
        write_pts(tmp_path / "mine" / f"{i}.pts", landmarks(5, i))
    out = tmp_path / "out"
    for module in (photographs, building, lists):
        for name in ("write_text", "write_points", "write_list"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, killed_after(out / last, getattr(module, name)))
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "mine", out)
    assert (out / last).exists() and not (out / "manifest.json").exists()
    monkeypatch.undo()
    assert prepare(tmp_path / "mine", out)["pictures"] == 3


def killed_after(last, write):
    def stopping(path, *rest):
        write(path, *rest)
        if path == last:
            raise KeyboardInterrupt

    return stopping


# --- what people have ---


def reasons(manifest_folder):
    return dict(building.read_rejected(manifest_folder))


def test_labels_in_another_letter_case_are_taken_and_what_fits_nothing_is_told(tmp_path):
    source = tmp_path / "mine"
    for name, labels in (("A.JPG", "A.PTS"), ("Bio.png", "bio.pts"), ("c.jpg", "c.pts")):
        write_image(source / name, ord(name[0]))
        write_pts(source / labels, landmarks(5, ord(name[0])))
    write_pts(source / "alone.pts", landmarks(5, 9))
    (source / "phone.heic").write_bytes(b"heic")
    write_pts(source / "phone.pts", landmarks(5, 10))
    manifest = prepare(source, tmp_path / "out", val=0)
    assert manifest["lists"] == {"train.txt": manifest["lists"]["train.txt"]}
    assert manifest["lists"]["train.txt"]["labelled"] == 3
    said = reasons(tmp_path / "out")
    assert set(said) == {str(source / "alone.pts"), str(source / "phone.heic")}
    assert "JPEG or PNG" in said[str(source / "phone.heic")]


def test_of_images_that_share_a_pts_one_copy_is_taken_and_none_where_their_sizes_differ(tmp_path):
    source = tmp_path / "mine"
    for name, side in (("copy.jpg", 64), ("copy.png", 64), ("small.png", 64), ("small.jpg", 96), ("alone.png", 64)):
        write_image(source / name, len(name), side)
    write_image(source / "mask.png", 1, 64), write_image(source / "mask.jpg", 2, 64)
    for name in ("copy", "small", "alone", "mask"):
        write_pts(source / f"{name}.pts", landmarks(5, len(name)))
    (source / "copy.bmp").write_bytes(b"broken")
    manifest = prepare(source, tmp_path / "out", val=0)
    rows = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert [row.image for row in rows] == ["release/alone.png", "release/copy.jpg"]
    said = reasons(tmp_path / "out")
    assert said.pop(str(source / "copy.bmp")).endswith("copy.bmp cannot be decoded")
    why = "small.pts cannot be of small.jpg (96 x 96) and small.png (64 x 64); keep the image that was labelled"
    for kind in ("jpg", "png"):
        assert said.pop(str(source / f"small.{kind}")) == why
        assert said.pop(str(source / f"mask.{kind}")).startswith(
            "mask.pts cannot be of mask.jpg (64 x 64) and mask.png"
        )
    assert not said
    note = "1 image left out for another one of equal size and of the same .pts, such as copy.png beside copy.jpg"
    assert manifest["notes"] == [note]


@pytest.mark.parametrize("suffix", ["gif", "jfif", "jpe", "jp2", "pgm"])
def test_pictures_from_the_web_are_read(tmp_path, suffix):
    write_image(tmp_path / "mine" / "a.png", 1)
    content = cv2.imread(str(tmp_path / "mine" / "a.png"))
    extension = {"jfif": "jpg", "jpe": "jpg"}.get(suffix, suffix)
    (tmp_path / "mine" / "a.png").unlink()
    try:
        done, coded = cv2.imencode(f".{extension}", content)
    except cv2.error:
        done = False
    if not done:
        pytest.skip(f"this OpenCV does not write {extension}")
    (tmp_path / "mine" / f"a.{suffix}").write_bytes(coded.tobytes())
    write_pts(tmp_path / "mine" / "a.pts", landmarks(5, 1))
    assert prepare(tmp_path / "mine", tmp_path / "out", val=0)["lists"]["train.txt"]["rows"] == 1


def test_a_name_that_is_not_utf8_costs_its_own_file_alone(tmp_path):
    for name in (os.fsdecode(b"Ren\xe9"), "a"):
        write_image(tmp_path / "mine" / "a.jpg", len(name))
        os.replace(tmp_path / "mine" / "a.jpg", tmp_path / "mine" / f"{name}.jpg")
        write_pts(tmp_path / "mine" / f"{name}.pts", landmarks(5, len(name)))
    manifest = prepare(tmp_path / "mine", tmp_path / "out", val=0)
    assert manifest["lists"]["train.txt"]["rows"] == 1 and manifest["rejected"] == 1
    [(where, why)] = reasons(tmp_path / "out").items()
    assert where.endswith(r"Ren\udce9.jpg") and "UTF-8" in why


def coco_file(folder, images, annotations):
    (folder / "labels.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder / "labels.json"


def test_labels_of_another_size_than_the_picture_are_rejected_with_both_sizes(tmp_path):
    write_image(tmp_path / "a.png", 1, side=64)
    write_image(tmp_path / "b.png", 2, side=64)
    images = [{"id": i, "file_name": f"{'ab'[i]}.png", "width": size, "height": 64} for i, size in enumerate((64, 90))]
    marks = [{"image_id": i, "keypoints": [10, 10, 2, 40, 40, 2]} for i in range(2)]
    manifest = prepare(coco_file(tmp_path, images, marks), tmp_path / "out", points=2, val=0)
    assert manifest["lists"]["train.txt"]["rows"] == 1
    [why] = reasons(tmp_path / "out").values()
    assert "90 x 64" in why and "64 x 64" in why


def test_coco_images_without_an_annotation_are_searched_for_a_face(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(5.0, 6.0, 50.0, 60.0)])
    for name in "ab":
        write_image(tmp_path / f"{name}.png", ord(name))
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("ab")]
    marks = [{"image_id": 0, "keypoints": [10, 10, 2, 40, 40, 2]}]
    manifest = prepare(coco_file(tmp_path, images, marks), tmp_path / "out", points=2, val=0)
    assert {name: entry["rows"] for name, entry in manifest["lists"].items()} == {"train.txt": 1, "unlabelled.txt": 1}


def test_a_coco_face_whose_box_has_no_size_gets_the_box_of_its_landmarks(tmp_path):
    """Without landmarks it has none, and a box that is inverted is wrong."""
    write_image(tmp_path / "a.png", 1)
    marks = [
        {"image_id": 0, "keypoints": [10, 12, 2, 40, 44, 2], "bbox": [0, 0, 0, 0]},
        {"image_id": 0, "keypoints": [], "bbox": [0, 0, 0, 0]},
        {"image_id": 0, "keypoints": [10, 12, 2, 40, 44, 2], "bbox": [40, 40, -30, -30]},
    ]
    source = coco_file(tmp_path, [{"id": 0, "file_name": "a.png"}], marks)
    assert prepare(source, tmp_path / "out", points=2, val=0)["rejected"] == 2
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert row.box == (10, 12, 40, 44)


def test_boxes_of_whole_bodies_are_replaced_by_those_of_the_landmarks(tmp_path):
    """Where most landmarks are known; a generous box of the face stays."""
    write_image(tmp_path / "a.png", 1, side=200)
    face = np.array([[20, 20], [30, 20], [25, 26], [21, 30], [29, 30]])

    def marks(box, labelled=5):
        flags = np.where(np.arange(5) < labelled, 2, 0)
        return {"image_id": 0, "bbox": box, "keypoints": np.c_[face, flags].ravel().tolist()}

    faces = [marks([0, 0, 64, 190]), marks([0, 0, 40, 45]), marks([0, 0, 64, 190], labelled=2)]
    source = coco_file(tmp_path, [{"id": 0, "file_name": "a.png"}], faces)
    [note] = prepare(source, tmp_path / "out", val=0)["notes"]
    boxes = [row.box for row in read_list(tmp_path / "out" / "lists" / "train.txt")]
    assert boxes == [(14.5, 16.5, 35.5, 36.2), (0, 0, 40, 45), (0, 0, 64, 190)]
    assert note.startswith("the box of 1 face, such as ") and "annotations[0], is over 3 times as long as the" in note


@pytest.mark.parametrize("of_faces, searched", [(0, True), (9, True), (10, False)])
def test_where_labelled_boxes_are_bodies_faces_without_labels_are_searched_for(
    tmp_path, monkeypatch, of_faces, searched
):
    """A box that is too large may be a slip; where a tenth are, they are bodies'."""
    face = np.array([[20, 20], [30, 20], [25, 26], [21, 30], [29, 30]])
    keypoints = np.c_[face, np.full(5, 2)].ravel().tolist()
    monkeypatch.setattr(photographs, "faces_in", lambda path: [(12.0, 14.0, 37.0, 38.0), (120.0, 20.0, 140.0, 40.0)])
    write_image(tmp_path / "a.png", 1, side=200)
    labelled = [{"image_id": 0, "bbox": [0, 0, 64, 190], "keypoints": keypoints}]
    labelled += [{"image_id": 0, "bbox": [0, 0, 40, 45], "keypoints": keypoints}] * of_faces
    bare = {"image_id": 0, "bbox": [100, 0, 64, 190], "keypoints": [0] * 15}
    source = coco_file(tmp_path, [{"id": 0, "file_name": "a.png"}], [*labelled, bare])
    notes = prepare(source, tmp_path / "out", val=0)["notes"]
    [row] = read_list(tmp_path / "out" / "lists" / "unlabelled.txt")
    assert row.box == ((120, 20, 140, 40) if searched else (100, 0, 164, 190))  # not the labelled face's
    said = f"annotations[{1 + of_faces}], may be the body's too; its image is searched for faces"
    assert [note.endswith(said) for note in notes] == [False, True][: 1 + searched]


def test_the_faces_of_coco_wholebody(tmp_path):
    write_image(tmp_path / "a.png", 1)
    marks = [{"image_id": 0, "keypoints": [0] * 51, "bbox": [0, 0, 64, 64], "face_valid": True}]
    marks[0] |= {"face_kpts": [10, 11, 2, 40, 41, 1], "face_box": [8, 9, 40, 41]}
    source = coco_file(tmp_path, [{"id": 0, "file_name": "a.png"}], marks)
    prepare(source, tmp_path / "out", points=2, val=0)
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert row.box == (8, 9, 48, 50)
    assert read_points(tmp_path / "out" / row.annotation, 2)[0].tolist() == [[10, 11], [40, 41]]


def test_a_list_of_wflw(tmp_path):
    write_image(tmp_path / "WFLW_images" / "a b.png", 1)
    source = tmp_path / "list_98pt_rect_attr_train.txt"
    source.write_text("10.5 11 40 41 8 9 48 50 0 0 1 0 0 0 a b.png\n1 2 3 a b.png\n")
    manifest = prepare(source, tmp_path / "out", points=2, val=0)
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert row.box == (8, 9, 48, 50) and manifest["rejected"] == 1
    assert read_points(tmp_path / "out" / row.annotation, 2)[0].tolist() == [[10.5, 11], [40, 41]]


def test_points_without_a_place_are_missing_and_make_no_box(tmp_path):
    write_image(tmp_path / "mine" / "a.png", 1)
    points = np.array([[-1, -1], [0, 0], [-20, -30], [21, 31], [41, 51]], float)  # MERL-RAV's marks, and other tools'
    write_pts(tmp_path / "mine" / "a.pts", points)
    manifest = prepare(tmp_path / "mine", tmp_path / "out", val=0)
    assert {"what": HIDDEN, "found": 3} in [
        {key: count[key] for key in ("what", "found")} for count in manifest["counts"]
    ]
    [row] = read_list(tmp_path / "out" / "lists" / "train.txt")
    assert row.box == (9, 23, 51, 62.4)  # around those at 20 30 and 40 50, as the scheme says
    assert read_points(tmp_path / "out" / row.annotation, 5)[1].tolist() == [False] * 3 + [True] * 2


def split(root):
    return {
        name: [row.image.rpartition("/")[2] for row in read_list(root / "lists" / f"{name}.txt")]
        for name in ("train", "val")
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_copies_of_an_image_stay_on_one_side_of_the_split(tmp_path, seed, mirrored):
    for i in range(10):
        write_image(tmp_path / "mine" / f"IMG_{i}.jpg", i)
        write_pts(tmp_path / "mine" / f"IMG_{i}.pts", landmarks(5, i))
        if i < 6:
            for suffix in ("jpg", "pts"):
                content = (tmp_path / "mine" / f"IMG_{i}.{suffix}").read_bytes()
                (tmp_path / "mine" / f"IMG_{i}-copy.{suffix}").write_bytes(content)
        if i < 6 and mirrored:
            image = cv2.imread(str(tmp_path / "mine" / f"IMG_{i}.jpg"))
            cv2.imwrite(str(tmp_path / "mine" / f"IMG_{i}-copy.jpg"), cv2.flip(image, 1))
    prepare(tmp_path / "mine", tmp_path / "out", val=0.3, seed=seed)
    numbers = {name: {image.split("_")[1][0] for image in images} for name, images in split(tmp_path / "out").items()}
    assert numbers["val"] and not numbers["train"] & numbers["val"]


def test_frames_of_one_video_stay_on_one_side_of_the_split(tmp_path):
    for video in range(2):
        scene = np.random.default_rng(video).uniform(0, 255, (8, 8)).astype(np.float32)
        for frame in range(8):  # each differs a little from the one before, and the last ones much from the first
            scene += np.random.default_rng([video, frame]).normal(0, 20, (8, 8)).astype(np.float32)
            path = tmp_path / "mine" / f"video{video}" / f"img{frame:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.resize(scene, (64, 64), interpolation=cv2.INTER_CUBIC).clip(0, 255))
            write_pts(path.with_suffix(".pts"), landmarks(5, 10 * video + frame))
    prepare(tmp_path / "mine", tmp_path / "out", val=0.2)
    folders = [
        {row.image.split("/")[1] for row in read_list(tmp_path / "out" / "lists" / f"{name}.txt")}
        for name in ("train", "val")
    ]
    assert len(folders[0]) == len(folders[1]) == 1 and folders[0] != folders[1]


def turned_copy(path, copy):
    """A JPEG of a picture with the EXIF orientation 6: a quarter turn."""
    orientation = bytes([1, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0])  # tag, type, count, value
    exif = b"Exif\0\0MM\0*" + bytes([0, 0, 0, 8, 0, 1]) + orientation + bytes(4)
    content = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    copy.write_bytes(content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:])


def test_labels_that_cannot_be_of_their_picture_are_rejected(tmp_path):
    """Normalised ones, and those of another picture; a face that leaves the picture by half is none of them."""
    rows = [(0.3, 0.3, 0.6, 0.5, 0.4, 0.6), (70, 10, 90, 20, 20, 30), (63.5, 10, -0.5, 20, 90, 30)]
    for seed, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.png", seed)  # 64 x 64
    source = table(tmp_path / "faces.csv", [(f"{name}.png", *row) for name, row in zip("abc", rows)], points=3)
    prepare(source, tmp_path / "out", points=3, val=0)
    assert [row.image for row in read_list(tmp_path / "out" / "lists" / "train.txt")] == ["release/c.png"]
    shares, outside = reasons(tmp_path / "out").values()
    assert "a.png is under 3 px wide and high; coordinates are pixels, not shares" in shares
    assert "2 of 3 visible landmarks lie outside the image release/b.png (64 x 64 as viewers show it)" in outside


def test_labelled_pictures_that_exif_turns_are_told(tmp_path):
    write_image(tmp_path / "plain.png", 1)
    write_image(tmp_path / "other.png", 2)
    turned_copy(tmp_path / "other.png", tmp_path / "turned.jpg")
    source = table(tmp_path / "faces.csv", [("plain.png", 20, 20, 30, 40), ("turned.jpg", 20, 20, 30, 40)])
    [note] = prepare(source, tmp_path / "out", points=2, val=0)["notes"]
    assert note.startswith("EXIF turns 1 of 2 labelled images, such as turned.jpg, when they are read")
