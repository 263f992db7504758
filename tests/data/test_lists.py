"""Lists and .pts files: read exactly, and all their errors reported at once, by file and row."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from prepared import prepare_in
from toys import face, save_image

from tsal.config import Config
from tsal.data import lists
from tsal.data.images import read_image
from tsal.data.leaks import check_files
from tsal.data.lists import find_list, group_clips, load_lists, read_list, write_list
from tsal.data.points import read_points, write_points
from tsal.run import Run
from tsal.utils.errors import ConfigError, DataError


def pts(*rows: str) -> str:
    return "version: 1\nn_points: 2\n{\n" + "\n".join(rows) + "\n}\n"


# --- .pts ---


def test_points_of_a_file_are_1_based_and_become_0_based(tmp_path):
    (tmp_path / "a.pts").write_text(pts("1 1", "10.5 20.25"))
    points, visible = read_points(tmp_path / "a.pts", 2)
    assert points.tolist() == [[0.0, 0.0], [9.5, 19.25]] and points.dtype == np.float32
    assert visible.tolist() == [True, True]


def test_a_third_column_is_the_visibility(tmp_path):
    (tmp_path / "a.pts").write_text(pts("1 1 0", "2 2 1"))
    assert read_points(tmp_path / "a.pts", 2)[1].tolist() == [False, True]


def test_written_points_are_read_back(tmp_path):
    points = np.array([[0.0, 0.125], [-3.5, 1234.25], [7.0, 8.0]])
    write_points(tmp_path / "a.pts", points)
    assert np.array_equal(read_points(tmp_path / "a.pts", 3)[0], points)
    assert "\n1.000 1.125\n" in (tmp_path / "a.pts").read_text()  # 1-based in the file


@pytest.mark.parametrize(
    "content, said",
    [
        (pts("1 1"), "1 points, want 2"),
        (pts("1 1", "2 2", "3 3"), "3 points, want 2"),
        (pts("1 1", "2 x"), "point 2 is not a number"),
        (pts("1 1", "2"), "point 2 wants"),
        (pts("1 1", "2 2 1 1"), "point 2 wants"),
        (pts("1 1", "2 inf"), "point 2 wants"),
        (pts("nan 1", "2 2"), "point 1 wants"),
        (pts("1 1", "2 1e39"), "point 2 wants"),  # finite, but not as a float32
        ("1 1\n2 2\n", "no { ... }"),
        ("} 1 1 {", "no { ... }"),
        ("{1 1\n2 2", "no { ... }"),
        ("", "no { ... }"),
        (b"\x89PNG\xff\xd8\x00", "cannot read"),
    ],
)
def test_a_bad_annotation_is_an_error_that_names_the_file(tmp_path, content, said):
    path = tmp_path / "bad.pts"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_points(path, 2)
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_an_annotation_that_is_not_there_or_is_a_folder_is_an_error_that_names_it(tmp_path):
    for path in (tmp_path / "none.pts", tmp_path):
        with pytest.raises(DataError, match="cannot read the annotation") as caught:
            read_points(path, 2)
        assert str(path) in str(caught.value)


# --- lists ---


def test_a_written_list_is_read_back(tmp_path):
    rows = [("a/0.jpg", "a/0.pts", (1.25, 2, 30.5, 40)), ("b.jpg", None, (0, 0, 9, 9, 7.5))]
    write_list(tmp_path / "l.txt", rows)
    first, second = read_list(tmp_path / "l.txt", label="l")
    assert (first.image, first.annotation, first.box, first.face_size, first.where) == (
        "a/0.jpg",
        "a/0.pts",
        (1.25, 2.0, 30.5, 40.0),
        None,
        "l:1",
    )
    assert (second.image, second.annotation, second.box, second.face_size, second.where) == (
        "b.jpg",
        None,
        (0.0, 0.0, 9.0, 9.0),
        7.5,
        "l:2",
    )


def test_empty_lines_and_comments_are_left_out_but_counted(tmp_path):
    (tmp_path / "l.txt").write_text("# faces\n\na.jpg None 0 0 9 9\n")
    assert [f.row for f in read_list(tmp_path / "l.txt")] == [3]


@pytest.mark.parametrize("coding", ["utf-8", "utf-16"])
def test_a_face_without_labels_may_be_written_in_several_ways_and_in_utf_16(tmp_path, coding):
    words = ("None", "none", "NA", "n/a", "NaN", "null", "-")
    (tmp_path / "l.txt").write_text("".join(f"ä.jpg {word} 0 0 9 9\n" for word in words), encoding=coding)
    rows = read_list(tmp_path / "l.txt")
    assert [(row.image, row.annotation) for row in rows] == [("ä.jpg", None)] * 7


def test_every_bad_row_of_a_list_is_reported_at_once_with_list_and_row(tmp_path):
    rows = [
        "a.jpg None 0 0 9",
        "a.jpg None 0 0 9 9",
        "a.jpg None 0 0 9 nine",
        "a.jpg None 0 0 9 inf",
        "a.jpg None 9 0 0 9",
        "a.jpg None 0 5 9 5",
        "a.jpg None 0 0 9 9 0",
        "a.jpg None 0 0 9 9 1 1",
    ]
    (tmp_path / "l.txt").write_text("\n".join(rows))
    with pytest.raises(DataError) as caught:
        read_list(tmp_path / "l.txt", label="mine")
    said = [
        ("mine:1", "5 columns"),
        ("mine:3", "not a number"),
        ("mine:4", "not finite"),
        ("mine:5", "inverted"),
        ("mine:6", "inverted"),
        ("mine:7", "face size 0"),
        ("mine:8", "8 columns"),
    ]
    assert len(caught.value.problems) == len(said)
    assert all(line.startswith(where) and what in line for line, (where, what) in zip(caught.value.problems, said))


@pytest.mark.parametrize("content, said", [(b"", "empty"), (b"# nothing\n", "empty"), (b"\xff\xd8\xff", "cannot read")])
def test_an_empty_or_binary_list_is_an_error_that_names_it(tmp_path, content, said):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_list(tmp_path / "l.txt", label="mine")
    assert "mine" in str(caught.value)


@pytest.mark.parametrize("name", ["l.txt", "lists/l.txt"])
def test_a_list_is_found_with_and_without_its_lists_folder(tmp_path, name):
    write_list(tmp_path / "lists" / "l.txt", [("a.jpg", None, (0, 0, 9, 9))])
    assert find_list(tmp_path, name) == tmp_path / "lists" / "l.txt"
    assert find_list(tmp_path / "lists", str(tmp_path / "lists" / "l.txt")) == tmp_path / "lists" / "l.txt"


@pytest.mark.parametrize("root", ["mine", "other"])
def test_a_list_of_a_named_dataset_is_found_from_that_dataset_too(tmp_path, monkeypatch, root):
    monkeypatch.setattr(lists, "PREPARED", tmp_path)
    write_list(tmp_path / "mine" / "lists" / "l.txt", [("a.jpg", None, (0, 0, 9, 9))])
    assert find_list(tmp_path / root, "mine:l.txt") == tmp_path / "mine" / "lists" / "l.txt"


@pytest.fixture
def prepared(tmp_path, monkeypatch) -> Path:
    """The folder of the prepared datasets ``mine``, of labelled faces, ``clips``, and rendered faces."""
    prepare_in(tmp_path / "prepared", monkeypatch)
    rendered = "rendered-demo-0a1b2c3d"
    for name in ("mine/lists/train.txt", "mine/lists/val.txt", "clips/lists/unlabelled.txt"):
        write_list(tmp_path / "prepared" / name, [("a.jpg", None, (0, 0, 9, 9))])
    write_list(tmp_path / "prepared" / rendered / "lists" / "unlabelled.txt", [("a.jpg", None, (0, 0, 9, 9))])
    return tmp_path / "prepared"


@pytest.mark.parametrize(
    "name",
    [
        "unlabelled.txt",
        "clips",
        "clips/unlabelled.txt",
        "clips/lists/unlabelled.txt",
        "data/prepared/clips",
        "data/prepared/clips:unlabelled.txt",
        "{}/clips:unlabelled.txt",
    ],
)
def test_a_list_of_another_dataset_is_told_how_it_is_named(prepared, name):
    with pytest.raises(DataError) as error:
        find_list(prepared / "mine", name.format(prepared))
    said = f" or {prepared / 'mine' / 'lists'}; did you mean clips:unlabelled.txt?; lists there: train.txt, val.txt"
    assert str(error.value).endswith(said)


@pytest.mark.parametrize(
    "name, near",
    [
        ("clip", " (did you mean 'clips'?)"),
        ("data/prepared/mine", " (did you mean 'mine'?)"),
        ("./data/prepared/clips/", " (did you mean 'clips'?)"),
        ("xyz", " (prepared: clips, mine)"),
    ],
)
def test_a_dataset_that_is_not_there_is_told_which_are(prepared, name, near):
    with pytest.raises(ConfigError) as error:
        _ = Run(prepared, Config().override({"data.name": name})).root
    assert str(error.value).endswith(f", or prepare it: python -m tsal data --help{near}")
    if "/" not in name:
        with pytest.raises(DataError) as error:
            find_list(prepared / "mine", f"{name}:unlabelled.txt")
        assert f"{name}:unlabelled.txt: no dataset {prepared / name}{near}; prepare it:" in str(error.value)


@pytest.mark.parametrize("name", ["l.txt", "lists/l.txt"])
def test_a_list_is_found_when_the_root_is_the_working_folder(tmp_path, monkeypatch, name):
    write_list(tmp_path / "lists" / "l.txt", [("a.jpg", None, (0, 0, 9, 9))])
    monkeypatch.chdir(tmp_path)
    assert find_list(Path("."), name).read_text().startswith("a.jpg")


def test_a_list_of_the_working_folder_is_not_taken_for_one_of_the_root(tmp_path, monkeypatch):
    (tmp_path / "root" / "lists").mkdir(parents=True)
    (tmp_path / "root" / "lists" / "other.txt").write_text("")
    (tmp_path / "l.txt").write_text("a.jpg None 0 0 9 9\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="l.txt: no such list.*lists there: other.txt"):
        find_list(tmp_path / "root", "l.txt")


# --- clips ---


def names(rows) -> list[list[str]]:
    return [[f.image for f in clip.faces] for clip in group_clips(rows)]


def test_rising_numbers_of_one_folder_are_the_frames_of_one_clip():
    rows = [face("a/0.jpg"), face("a/1.jpg"), face("a/7.jpg"), face("b/8.jpg"), face("b/9.jpg")]
    assert names(rows) == [["a/0.jpg", "a/1.jpg", "a/7.jpg"], ["b/8.jpg", "b/9.jpg"]]
    assert [clip.name for clip in group_clips(rows)] == ["a", "b"]


@pytest.mark.parametrize(
    "rows, groups",
    [
        ([face("a/9.jpg"), face("a/10.jpg")], 1),  # by number, not by text
        ([face("a/1.jpg"), face("a/0.jpg")], 2),  # falling
        ([face("a/1.jpg"), face("a/1.jpg")], 2),  # repeated: no clip of one photograph
        ([face("a/one.jpg"), face("a/two.jpg")], 2),  # photographs
        ([face("a/1.jpg"), face("a/x.jpg"), face("a/2.jpg")], 3),  # a photograph in between
        ([face("a/1.jpg", list_name="l"), face("a/2.jpg", list_name="m")], 2),  # two lists
        ([face("a/1.jpg"), face("a/b/2.jpg")], 2),  # two folders
        ([], 0),
    ],
)
def test_other_rows_begin_a_new_clip(rows, groups):
    clips = group_clips(rows)
    assert len(clips) == groups
    assert [f for clip in clips for f in clip.faces] == rows  # nothing lost, order kept


# --- a run's lists ---


@pytest.fixture
def root(tmp_path):
    """Four different images with two landmarks each, and lists that are right."""
    for i, name in enumerate(("train", "other", "frame", "val")):
        save_image(tmp_path / f"{name}.png", np.full((20, 30, 3), 40 * i, np.uint8))
        write_points(tmp_path / f"{name}.pts", np.array([[3.0, 4.0], [5.0, 6.0]]))
    write_list(tmp_path / "labelled.txt", [("train.png", "train.pts", (0, 0, 9, 9)), ("other.png", None, (0, 0, 9, 9))])
    write_list(tmp_path / "unlabelled.txt", [("frame.png", None, (0, 0, 9, 9))])
    write_list(tmp_path / "val.txt", [("val.png", "val.pts", (0, 0, 9, 9))])
    return tmp_path


def load(root, labelled="labelled.txt", unlabelled="unlabelled.txt", evaluate="val.txt", truth=()):
    return load_lists(root, (labelled,), (unlabelled,), (evaluate,), truth)


def test_rows_without_labels_of_a_labelled_list_are_unlabelled_data(root):
    lists = load(root)
    assert [f.image for f in lists.labelled] == ["train.png"]
    assert [f.image for f in lists.unlabelled] == ["frame.png", "other.png"]
    assert [f.image for f in lists.evaluate["val.txt"]] == ["val.png"]


def test_truth_of_unlabelled_rows_is_kept_apart(root):
    write_list(root / "truth.txt", [("frame.png", "frame.pts", (0, 0, 9, 9))])
    lists = load(root, truth=("truth.txt",))
    assert lists.truth == {("frame.png", (0, 0, 9, 9)): "frame.pts"}
    assert all(f.annotation is None for f in lists.unlabelled)


def test_of_several_faces_of_an_image_each_has_its_own_truth_by_its_box(root):
    left, right, apart = (0, 0, 9, 9), (10, 0, 19, 9), (0, 10, 9, 19)
    write_list(root / "unlabelled.txt", [("other.png", None, box) for box in (left, right, apart)])
    write_list(root / "truth.txt", [("other.png", "frame.pts", (1, 0, 9, 9)), ("other.png", "train.pts", right)])
    lists = load(root, truth=("truth.txt",))
    assert lists.truth == {("other.png", left): "frame.pts", ("other.png", right): "train.pts"}


@pytest.mark.parametrize("which", ["labelled.txt", "unlabelled.txt"])
def test_an_image_in_a_training_and_an_evaluation_list_is_an_error(root, which):
    image, points = ("train.png", "train.pts") if which == "labelled.txt" else ("frame.png", None)
    write_list(root / "val.txt", [("val.png", "val.pts", (0, 0, 9, 9)), (f"./{image}", points, (0, 0, 9, 9))])
    with pytest.raises(DataError, match=rf"val.txt:2: .*{image} is also in a training list \({which}:1\)"):
        load(root)


def test_a_link_to_a_training_image_is_a_leak_too(root):
    os.symlink(root / "train.png", root / "alias.png")
    write_list(root / "val.txt", [("alias.png", "val.pts", (0, 0, 9, 9))])
    with pytest.raises(DataError, match="val.txt:1: alias.png is also in a training list"):
        load(root)


def test_a_copy_of_a_training_image_is_a_leak_by_content(root):
    (root / "copy.png").write_bytes((root / "frame.png").read_bytes())
    write_list(root / "val.txt", [("val.png", "val.pts", (0, 0, 9, 9)), ("copy.png", "val.pts", (0, 0, 9, 9))])
    with pytest.raises(DataError, match="val.txt:2: copy.png is the same image as frame.png of unlabelled.txt:1"):
        check_files(load(root), 2, workers=1, progress=False)


def test_the_errors_of_all_lists_are_reported_together(root):
    (root / "labelled.txt").write_text("train.png train.pts 0 0 9\n")
    (root / "unlabelled.txt").write_text("frame.png None 9 9 0 0\n")
    with pytest.raises(DataError) as caught:
        load(root, evaluate="none.txt")
    text = "\n".join(caught.value.problems)
    assert (
        "labelled.txt:1: 5 columns" in text
        and "unlabelled.txt:1: box is empty" in text
        and "none.txt: no such list" in text
    )


def test_a_training_list_without_any_label_is_an_error(root):
    write_list(root / "labelled.txt", [("train.png", None, (0, 0, 9, 9))])
    with pytest.raises(DataError, match="no labelled rows"):
        load(root)


def test_a_root_that_is_not_there_is_an_error(root):
    with pytest.raises(DataError, match="no such folder"):
        load(root / "nowhere")


def test_checked_images_are_known_by_content_and_size(root):
    facts, _ = check_files(load(root), 2, workers=1, progress=False)
    assert set(facts) == {"train.png", "other.png", "frame.png", "val.png"}
    assert all((fact["width"], fact["height"]) == (30, 20) for fact in facts.values())
    assert len({fact["sha256"] for fact in facts.values()}) == 4


def test_every_bad_file_of_a_run_is_reported_at_once_with_list_and_row(root):
    (root / "train.pts").write_text("nothing")
    (root / "other.png").unlink()
    (root / "frame.png").write_bytes(b"no image")
    write_list(root / "val.txt", [("val.png", "none.pts", (0, 0, 9, 9)), ("val.png", "val.pts", (40, 0, 50, 9))])
    with pytest.raises(DataError) as caught:
        check_files(load(root), 2, workers=1, progress=False)
    said = [
        ("labelled.txt:1", "no { ... }"),
        ("labelled.txt:2", "other.png does not exist"),
        ("unlabelled.txt:1", "frame.png cannot be decoded"),
        ("val.txt:1", "none.pts"),
        ("val.txt:2", "lies wholly outside"),
    ]
    for where, what in said:
        assert [line for line in caught.value.problems if line.startswith(where) and what in line], (where, what)
    assert len(caught.value.problems) == len(said)


def test_images_are_read_as_rgb(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    image[..., 0] = 200
    save_image(tmp_path / "red.png", image)
    assert np.array_equal(read_image(tmp_path / "red.png"), image)


def test_an_image_that_cannot_be_read_is_an_error_that_names_it(tmp_path):
    (tmp_path / "bad.png").write_text("text")
    with pytest.raises(DataError, match="bad.png: the image cannot be read"):
        read_image(tmp_path / "bad.png")
    with pytest.raises(DataError, match="none.png: the image does not exist"):
        read_image(tmp_path / "none.png")
