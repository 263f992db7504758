"""Nothing of an evaluation list is trained on unseen: images, clips, copies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from toys import save_image

from tsal.data.images import perceptual_hashes
from tsal.data.leaks import LOOK_ALIKE, check_files
from tsal.data.lists import load_lists, write_list
from tsal.data.origins import Origin
from tsal.data.points import write_points
from tsal.utils.errors import DataError

BOX = (0, 0, 40, 40)


def scene(seed: int, side: int = 96) -> np.ndarray:
    """A smooth random RGB image: photographs have little at high frequencies."""
    noise = np.random.default_rng(seed).uniform(0, 255, (9, 9, 3)).astype(np.float32)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """One labelled photograph, a clip of two frames, another clip to measure on: six scenes, nothing shared."""
    for seed, name in enumerate(("a", "one/1", "one/2", "two/1", "two/2", "v")):
        save_image(tmp_path / f"{name}.png", scene(seed))
        write_points(tmp_path / f"{name}.pts", np.array([[3.0, 4.0], [5.0, 6.0]]))
    write_points(tmp_path / "right.pts", np.array([[53.0, 4.0], [55.0, 6.0]]))
    write_list(tmp_path / "labelled.txt", [("a.png", "a.pts", BOX)])
    write_list(tmp_path / "unlabelled.txt", [(f"one/{i}.png", None, BOX) for i in (1, 2)])
    write_list(
        tmp_path / "val.txt", [(f"two/{i}.png", f"two/{i}.pts", BOX) for i in (1, 2)] + [("v.png", "v.pts", BOX)]
    )
    return tmp_path


def check(root, origins=None, transductive=False):
    lists = load_lists(root, ("labelled.txt",), ("unlabelled.txt",), ("val.txt",), transductive=transductive)
    return check_files(lists, 2, origins=origins or {}, transductive=transductive, workers=1, progress=False)


def test_lists_that_share_nothing_give_no_word(root):
    assert check(root)[1] == []


def test_other_frames_of_an_evaluated_clip_are_refused(root):
    save_image(root / "two/3.png", scene(7))
    save_image(root / "two/4.png", scene(8))
    write_list(root / "unlabelled.txt", [(f"two/{i}.png", None, BOX) for i in (3, 4)])
    with pytest.raises(
        DataError, match=r"val.txt:1: clip two is also in a training list \(unlabelled.txt:1\).*transductive"
    ):
        check(root)


def folders_of(root, **lists: tuple[str, ...]) -> None:
    """Lists of images, each of its own content."""
    for name, images in lists.items():
        for image in images:
            save_image(root / f"{image}.png", scene(sum(map(ord, f"{image}!{name}"))))
            write_points(root / f"{image}.pts", np.array([[3.0, 4.0], [5.0, 6.0]]))
        labels = (lambda image: None) if name == "unlabelled" else "{}.pts".format
        write_list(root / f"{name}.txt", [(f"{image}.png", labels(image), BOX) for image in images])


@pytest.mark.parametrize(
    "labelled, val",
    [
        (("c/1",), ("c/5", "c/6")),  # one labelled frame, evaluated on others
        (("c/1", "c/2"), ("c/12",)),  # one evaluated frame
        (("c/2", "d/2"), ("d/3", "c/3")),  # every frame alone in its list, neighbours in another one
        (("c/4", "d/5", "c/2"), ("d/1", "c/3")),  # shuffled
        (("c/10",), ("c/20", "c/30")),  # each tenth frame
    ],
)
def test_one_frame_of_a_clip_is_enough_for_a_leak(root, labelled, val):
    folders_of(root, labelled=labelled, val=val)
    with pytest.raises(DataError) as caught:
        check(root)
    row = next(n for n, image in enumerate(val, 1) if image.startswith("c"))
    assert f"val.txt:{row}: clip c is also in a training list (labelled.txt:1); remove one of them" in (
        caught.value.problems
    )


def test_a_list_that_may_share_still_shows_that_a_labelled_frame_is_of_an_evaluated_clip(root):
    folders_of(root, labelled=("c/1",), unlabelled=("c/7", "c/8"), val=("c/12",))
    with pytest.raises(DataError, match=r"^val.txt:1: clip c .* \(labelled.txt:1\); remove one of them$"):
        check(root, transductive=True)
    write_list(root / "labelled.txt", [("a.png", "a.pts", BOX)])
    assert check(root, transductive=True)[1] == []


def test_numbers_of_photographs_far_apart_are_no_clip_and_one_warning_a_folder(root):
    folders_of(root, labelled=("coco/000139", "a", "coco/123456"), val=("coco/300007", "v", "coco/987654"))
    [line] = check(root)[1]
    assert line == (
        "val.txt:1: coco/300007.png and coco/123456.png of labelled.txt:3 are numbered images of one "
        "folder; if they are frames of one clip, remove one of them"
    )


def test_photographs_that_a_builder_recorded_may_have_successive_numbers(root):
    folders_of(root, labelled=("p/1",), val=("p/2",))
    assert check(root, {f"p/{n}.png": Origin(clip=f"photo {n}") for n in (1, 2)})[1] == []


def test_a_builder_s_clip_counts_where_folders_do_not_show_it(root):
    origins = {"one/1.png": Origin("Ann", "Ann_3", 1), "two/1.png": Origin("Ann", "Ann_3", 7)}
    with pytest.raises(DataError, match="clip Ann_3 is also in a training list"):
        check(root, origins)


def test_faces_of_one_photograph_are_no_clip(root):
    assert check(root, {"a.png": Origin(clip="photo 5"), "v.png": Origin(clip="photo 5")})[1] == []


def test_a_shared_subject_is_a_warning_that_names_it(root):
    [line] = check(root, {"one/1.png": Origin("Ann", "Ann_0", 1), "two/1.png": Origin("Ann", "Ann_1", 1)})[1]
    assert line == "val.txt: 1 of its subjects are also in a training list (Ann)"


@pytest.mark.parametrize("change", ["saved anew", "resized", "brighter", "mirrored"])
def test_a_changed_copy_is_a_warning_that_names_both(root, change):
    image = cv2.cvtColor(scene(0), cv2.COLOR_RGB2BGR)
    if change == "resized":
        image = cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA)
    elif change == "brighter":
        image = cv2.convertScaleAbs(image, alpha=1.1, beta=8)
    elif change == "mirrored":
        image = cv2.flip(image, 1)
    cv2.imwrite(str(root / "v.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 30])
    write_list(root / "val.txt", [("v.jpg", "v.pts", BOX)])
    [line] = check(root)[1]
    how = "the mirror image of " if change == "mirrored" else ""
    assert line.startswith(f"val.txt:1: v.jpg looks like {how}a.png of labelled.txt:1")


def test_different_scenes_look_different():
    looks = np.array([perceptual_hashes(scene(seed))[0] for seed in range(60)], np.uint64)
    bits = np.bitwise_count(looks[:, None] ^ looks[None])
    assert bits[~np.eye(60, dtype=bool)].min() > LOOK_ALIKE


def test_transductive_use_is_for_those_who_ask_for_it(root):
    write_list(root / "unlabelled.txt", [(f"two/{i}.png", None, BOX) for i in (1, 2)])
    with pytest.raises(DataError, match="set data.transductive=true"):
        check(root)
    facts, warnings = check(root, transductive=True)
    assert set(facts) == {"a.png", "two/1.png", "two/2.png", "v.png"} and warnings == []


def test_labels_of_an_evaluated_image_are_refused_even_then(root):
    write_list(root / "labelled.txt", [("a.png", "a.pts", BOX), ("v.png", "v.pts", BOX)])
    with pytest.raises(
        DataError, match=r"val.txt:3: v.png is also in a training list \(labelled.txt:2\); remove one of them$"
    ):
        check(root, transductive=True)
    (root / "copy.png").write_bytes((root / "v.png").read_bytes())
    write_list(root / "labelled.txt", [("copy.png", "v.pts", BOX)])
    with pytest.raises(DataError, match="val.txt:3: v.png is the same image as copy.png of labelled.txt:1"):
        check(root, transductive=True)


# --- images of several faces ---

LEFT, RIGHT = (0, 0, 40, 40), (50, 0, 90, 40)


@pytest.mark.parametrize("train", ["v.png", "copy.png"])
def test_another_face_of_an_evaluated_image_is_one_warning_a_list(root, train):
    (root / "copy.png").write_bytes((root / "v.png").read_bytes())
    (root / "b-copy.png").write_bytes((root / "a.png").read_bytes())
    write_list(root / "labelled.txt", [("a.png", "a.pts", LEFT), (train, "v.pts", LEFT)])
    write_list(root / "val.txt", [(name, "right.pts", RIGHT) for name in ("two/1.png", "v.png", "v.png", "b-copy.png")])
    [line] = check(root)[1]  # nothing of images that look alike: they are the same
    assert line == (
        "val.txt: 2 of its images are also in a training list, with another face (val.txt:2: v.png, labelled.txt:2)"
    )


@pytest.mark.parametrize("train", ["v.png", "copy.png"])
@pytest.mark.parametrize("order", [1, -1])
def test_of_all_faces_that_training_has_in_an_image_none_may_be_evaluated(root, train, order):
    (root / "copy.png").write_bytes((root / "v.png").read_bytes())
    rows = [(train, "v.pts", LEFT), (train, None, (52, 2, 91, 41))][::order]  # the same face by another finder's box
    write_list(root / "labelled.txt", [("a.png", "a.pts", LEFT), *rows])
    write_list(root / "val.txt", [("v.png", "right.pts", RIGHT)])
    number = 3 if order == 1 else 2
    with pytest.raises(DataError, match=rf"val.txt:1: v.png .* (\(|of )labelled.txt:{number}.*transductive=true$"):
        check(root)
    [line] = check(root, transductive=True)[1]
    assert "with another face (val.txt:1: v.png, labelled.txt:" in line


def test_an_image_shared_with_another_face_may_look_like_a_third_image(root):
    cv2.imwrite(str(root / "anew.jpg"), scene(5)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    write_list(root / "labelled.txt", [("v.png", "v.pts", LEFT), ("anew.jpg", "v.pts", LEFT)])
    write_list(root / "val.txt", [("v.png", "right.pts", RIGHT)])
    shared, alike = check(root)[1]
    assert "with another face" in shared and alike.startswith("val.txt:1: v.png looks like anew.jpg of labelled.txt:2")


def test_boxes_too_small_to_have_an_area_are_refused_and_of_no_common_face(root):
    (root / "labelled.txt").write_text("a.png a.pts 0 0 40 40\nv.png v.pts 0 0 1e-200 1e-200\n")
    (root / "val.txt").write_text("v.png v.pts 0 0 1e-200 1e-200\n")
    with pytest.raises(DataError) as caught:
        check(root)
    for line, row in zip(caught.value.problems, ("labelled.txt:2", "val.txt:1"), strict=True):
        assert line.startswith(f"{row}: box 0 0 1e-200 1e-200 of v.png is under 3 px wide and high")


@pytest.mark.parametrize(
    "how, said", [("the file", "are also in"), ("a copy", "are the same as"), ("saved anew", "look like")]
)
def test_thousands_of_shared_frames_are_reported_in_a_few_lines(root, how, said):
    (root / "one").rename(root / "former")
    train, val = [], []
    for i in range(1, 31):
        save_image(root / f"long/{i}.png", scene(100 + i))
        train.append((f"long/{i}.png", None, BOX))
        if how == "a copy":
            (root / f"v{i}x.png").write_bytes((root / f"long/{i}.png").read_bytes())
        elif how == "saved anew":
            cv2.imwrite(
                str(root / f"v{i}x.png"), cv2.resize(scene(100 + i)[..., ::-1], (80, 80), interpolation=cv2.INTER_AREA)
            )
        val.append((f"long/{i}.png" if how == "the file" else f"v{i}x.png", "v.pts", BOX))
    write_list(root / "unlabelled.txt", train)
    write_list(root / "val.txt", val)
    if how == "saved anew":
        lines = check(root)[1]
    else:
        with pytest.raises(DataError) as caught:
            check(root)
        lines = caught.value.problems
    assert len(lines) == 21 and lines[-1].startswith("val.txt: 10 more of its images") and said in lines[-1]


def test_frames_that_a_list_has_in_the_order_of_ls_are_told():
    from tsal.data import Face
    from tsal.data.leaks import _out_of_order

    def rows(*numbers):
        return [Face(f"walk/{n}.jpg", None, (0, 0, 9, 9), None, "u.txt", row) for row, n in enumerate(numbers, 1)]

    [line] = _out_of_order(rows(0, 1, 10, 11, 2, 3))
    assert line.startswith("u.txt:5: frame 2 of walk comes after 11") and "2 clips" in line
    assert _out_of_order(rows(0, 1, 2, 10, 11)) == []
    assert _out_of_order(rows(0, 1, 0, 1)) == []  # two faces of the same frames
