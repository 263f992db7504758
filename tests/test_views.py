"""Views show what their affines and points say, one crop and one draw a clip, and a batch is a function of seed and step alone."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from toys import PAIRED, dot_image, dot_place, face, save_picture

from tsal.config import AugmentConfig
from tsal.data import views
from tsal.data.lists import Clip, write_points
from tsal.data.views import BatchMaker, FaceStore, clip_box, plain_affine, plain_views, positions, prefetch
from tsal.errors import DataError
from tsal.geometry import apply_affine
from tsal.pseudo import to_view
from tsal.schemes import generic_scheme

SIDE = 64
CALM = AugmentConfig(scale=0.0, rotation=0.0, shift=0.0, flip=0.0)
LIVELY = AugmentConfig(scale=0.1, rotation=20.0, shift=0.05, flip=0.5, weak=0.5)


def store(root, *, side=SIDE, expand=1.35, cache_mb=50, scheme=PAIRED) -> FaceStore:
    return FaceStore(root, scheme, side, expand, cache_mb)


def maker(root, labelled=(), clips=(), photographs=(), *, augment=LIVELY, seed=0, sizes=(2, 1, 1), frames=2, **kwargs) -> BatchMaker:
    return BatchMaker(store(root, **kwargs), labelled, clips, photographs, augment, seed=seed, sizes=sizes, frames=frames)


# --- pictures and points agree -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "width, height, box",
    [
        (60, 60, (10, 10, 50, 50)),  # enlarged
        (200, 150, (60, 30, 140, 100)),  # somewhat shrunk
        (1600, 1200, (300, 150, 1300, 1050)),  # strongly shrunk
        (1601, 1203, (-200, -150, 1205, 1151)),  # strongly shrunk, over the border, of odd size
    ],
)
def test_the_cut_has_no_half_pixel_shift_at_any_scale(tmp_path, width, height, box):
    zoom = (SIDE - 1) / (1.35 * max(box[2] - box[0], box[3] - box[1]))
    x, y = (box[0] + box[2]) / 2 + 3.3 / zoom, (box[1] + box[3]) / 2 - 2.6 / zoom
    save_picture(tmp_path / "dot.png", dot_image(width, height, x, y, max(1.5, 2 / zoom)))
    images, affines = plain_views(store(tmp_path), [[face("dot.png", box)]])
    assert images.shape == (1, 3, SIDE, SIDE) and images.dtype == torch.uint8
    assert np.abs(dot_place(images[0]) - apply_affine(affines[0], np.array([[x, y]]))[0]).max() < 0.1


def test_a_strongly_shrunk_picture_does_not_alias(tmp_path):
    x = np.arange(800)
    stripes = np.repeat(np.tile((x % 2 * 255).astype(np.uint8), (800, 1))[..., None], 3, 2)  # every other column is white
    save_picture(tmp_path / "stripes.png", stripes)
    images, _ = plain_views(store(tmp_path), [[face("stripes.png", (200, 200, 600, 600))]])
    assert images.float().std() < 12 and abs(images.float().mean() - 127.5) < 3  # even grey, no moire


@pytest.mark.parametrize("size", [(120, 100), (1300, 1000)])
@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_the_points_of_a_labelled_view_lie_where_the_picture_shows_them(tmp_path, size, mirrored):
    width, height = size
    box = (0.3 * width, 0.3 * height, 0.7 * width, 0.8 * height)
    zoom = (SIDE - 1) / (1.35 * max(box[2] - box[0], box[3] - box[1]))
    marked = np.array([box[0] + 0.4 * (box[2] - box[0]) + 0.37, box[1] + 0.55 * (box[3] - box[1])])
    save_picture(tmp_path / "dot.png", dot_image(width, height, *marked, max(1.5, 2 / zoom)))
    points = np.array([marked, marked + 9, [1, 1], [2, 2]])
    write_points(tmp_path / "dot.pts", points)
    make = maker(tmp_path, [face("dot.png", box, "dot.pts")], augment=dataclasses.replace(LIVELY, flip=mirrored), sizes=(8, 0, 0))
    batch = make(0)
    landmark = 1 if mirrored else 0  # the marked landmark's partner takes its place in a mirror
    for image, found in zip(batch.labelled, batch.points[:, landmark].numpy()):
        assert np.abs(dot_place(image) - found).max() < 0.3
    assert len({tuple(p) for p in batch.points[:, 0].tolist()}) == 8  # eight draws


def test_a_mirrored_view_swaps_visibility_with_the_landmarks(tmp_path):
    save_picture(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    (tmp_path / "a.pts").write_text("{\n10 10 0\n20 10 1\n15 20 1\n15 25 0\n}\n")
    faces = [face("a.png", (5, 5, 35, 35), "a.pts")]
    plain = maker(tmp_path, faces, augment=CALM, sizes=(1, 0, 0))(0)
    mirrored = maker(tmp_path, faces, augment=dataclasses.replace(CALM, flip=1.0), sizes=(1, 0, 0))(0)
    assert plain.visible.tolist() == [[False, True, True, False]]
    assert mirrored.visible.tolist() == [[True, False, True, False]]
    expected = plain.points[:, list(PAIRED.flip)] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIDE - 1.0, 0.0])
    assert torch.allclose(mirrored.points, expected, atol=1e-3)
    assert torch.equal(mirrored.labelled, plain.labelled.flip(-1)) or (
        (mirrored.labelled.int() - plain.labelled.flip(-1).int()).abs().max() <= 2
    )


def test_a_scheme_without_pairs_is_never_mirrored(tmp_path):
    save_picture(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    photograph = Clip("a", (face("a.png", (5, 5, 35, 35)),))
    make = maker(tmp_path, photographs=[photograph], augment=dataclasses.replace(LIVELY, flip=1.0), sizes=(0, 0, 4), scheme=generic_scheme(4))
    assert not make(0).flipped.any()


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_point_of_the_weak_view_is_found_again_in_the_strong_view(tmp_path, mirrored):
    save_picture(tmp_path / "dot.png", dot_image(120, 100, 52.3, 47.8, 2.0))
    photograph = Clip("dot", (face("dot.png", (30, 25, 85, 75)),))
    augment = dataclasses.replace(LIVELY, flip=mirrored)
    batch = maker(tmp_path, photographs=[photograph], augment=augment, sizes=(0, 0, 8))(3)
    assert batch.flipped.tolist() == [bool(mirrored)] * 8
    weak = torch.stack([torch.from_numpy(dot_place(image)) for image in batch.weak]).float()
    marked = torch.zeros(8, 4, 2)
    marked[:, 0] = weak  # landmark 0 is where the dot is
    strong = to_view(marked, batch.to_strong, batch.flipped, PAIRED)[:, 1 if mirrored else 0]
    found = np.stack([dot_place(image) for image in batch.strong])
    assert np.abs(found - strong.numpy()).max() < 0.3
    assert np.abs(found - weak.numpy()).max() > 3  # the views do differ


# --- clips ---------------------------------------------------------------------------------------------------------------------


def still_clip(root, frames: int) -> Clip:
    """Frames that show the same picture in boxes that jump about."""
    rng = np.random.default_rng(0)
    for i in range(frames):
        save_picture(root / "clip" / f"{i}.png", dot_image(100, 90, 48.4, 44.7, 2.0))
    boxes = np.array([30, 25, 75, 70]) + rng.uniform(-6, 6, (frames, 4))
    return Clip("clip", tuple(face(f"clip/{i}.png", boxes[i], row=i + 1) for i in range(frames)))


def test_the_one_box_of_a_clip_is_the_mean_of_its_frames_boxes():
    faces = [face("a/0.png", (0, 0, 10, 20)), face("a/1.png", (2, 4, 14, 24))]
    assert clip_box(faces) == (1, 2, 12, 22)
    assert np.array_equal(plain_affine(faces, 32, 1.2), plain_affine([face("b", (1, 2, 12, 22))], 32, 1.2))


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_clip_gets_one_crop_and_one_augmentation(tmp_path, step):
    batch = maker(tmp_path, clips=[still_clip(tmp_path, 4)], sizes=(0, 1, 0), frames=4)(step)
    assert len(batch.weak) == 4 and batch.clip.tolist() == [0, 0, 0, 0]
    for view in (batch.weak, batch.strong):
        places = np.stack([dot_place(image) for image in view])
        assert np.abs(places - places[0]).max() < 0.1  # what stands still in the video stands still in the view
    assert torch.equal(batch.to_strong, batch.to_strong[:1].expand(4, 2, 3))
    assert len(set(batch.flipped.tolist())) == 1


def test_two_clips_draw_different_augmentations(tmp_path):
    clip = still_clip(tmp_path, 2)
    batch = maker(tmp_path, clips=[clip, dataclasses.replace(clip, name="other")], sizes=(0, 2, 0))(0)
    assert batch.clip.tolist() == [0, 0, 1, 1]
    assert not torch.allclose(batch.to_strong[0], batch.to_strong[2], atol=1e-3)


def test_plain_views_of_a_clip_share_one_affine(tmp_path):
    clip = still_clip(tmp_path, 3)
    _, affines = plain_views(store(tmp_path), [clip.faces, clip.faces[:1]])
    assert np.array_equal(affines[0], affines[1]) and np.array_equal(affines[0], affines[2])
    assert not np.allclose(affines[0], affines[3])


def test_pairs_join_neighbouring_frames_of_one_clip_only(tmp_path):
    clip = still_clip(tmp_path, 3)
    photograph = Clip("photo", clip.faces[:1])
    batch = maker(tmp_path, clips=[clip, clip], photographs=[photograph], sizes=(0, 2, 1), frames=3)(0)
    assert batch.clip.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert batch.previous.tolist() == [0, 1, 3, 4] and batch.following.tolist() == [1, 2, 4, 5]


def test_a_step_takes_a_window_of_consecutive_frames_and_a_short_clip_whole(tmp_path, monkeypatch):
    clip = still_clip(tmp_path, 5)
    make = maker(tmp_path, clips=[clip], sizes=(0, 1, 0), frames=3)
    windows = {tuple(f.row for f in make._window(clip, np.random.default_rng(i))) for i in range(40)}
    assert windows == {(1, 2, 3), (2, 3, 4), (3, 4, 5)}
    assert make._window(Clip("short", clip.faces[:2]), np.random.default_rng(0)) == clip.faces[:2]


def test_the_face_size_is_that_of_the_box_in_the_weak_view(tmp_path):
    save_picture(tmp_path / "a.png", dot_image(100, 100, 50, 50, 5))
    photograph = Clip("a", (face("a.png", (30, 40, 70, 50)),))  # 40 x 10: size 20 px of the image
    batch = maker(tmp_path, photographs=[photograph], augment=CALM, sizes=(0, 0, 1))(0)
    assert batch.size.tolist() == [pytest.approx(20 * (SIDE - 1) / (1.35 * 40), rel=1e-5)]


# --- order ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, size", [(1, 1), (1, 5), (5, 2), (7, 7), (7, 10), (12, 5), (3, 8)])
@pytest.mark.parametrize("seed", [0, 11])
def test_each_index_comes_once_an_epoch(count, size, seed):
    epochs = 4
    steps = -(-count * epochs // size)
    walk = np.concatenate([positions(count, seed, step * size, size) for step in range(steps)])[: count * epochs]
    for epoch in walk.reshape(epochs, count):
        assert sorted(epoch) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own():
    first, second = positions(50, 0, 0, 50), positions(50, 0, 50, 50)
    assert list(first) != list(second) and list(first) != list(positions(50, 1, 0, 50))


def test_a_walk_does_not_depend_on_how_it_is_cut():
    assert positions(7, 3, 0, 30).tolist() == [i for start in range(0, 30, 3) for i in positions(7, 3, start, 3)]


@pytest.fixture
def busy(tmp_path):
    """A way to make batch makers over the same labelled faces, clips and photographs."""
    rng = np.random.default_rng(0)
    for i in range(5):
        save_picture(tmp_path / f"{i}x.png", rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        write_points(tmp_path / f"{i}x.pts", rng.uniform(5, 35, (4, 2)))
    labelled = [face(f"{i}x.png", (5, 5, 35, 35), f"{i}x.pts", row=i) for i in range(3)]
    photographs = [Clip(str(i), (face(f"{i}x.png", (5, 5, 35, 35), row=i),)) for i in (3, 4)]
    clips = [still_clip(tmp_path, 4)]
    return lambda **kwargs: maker(tmp_path, labelled, clips, photographs, **kwargs)


def same(a, b) -> bool:
    values = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in values)


def test_a_batch_is_a_function_of_seed_and_step_alone(busy):
    make = busy()
    forwards = [make(step) for step in range(4)]
    backwards = [busy()(step) for step in reversed(range(4))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards))
    assert not same(make(0), make(1)) and not same(make(0), busy(seed=1)(0))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_does_not_depend_on_the_number_of_threads(busy, workers):
    alone = [busy()(step) for step in range(2, 8)]
    assert all(same(a, b) for a, b in zip(alone, prefetch(busy(), range(2, 8), workers), strict=True))


def test_the_labelled_rows_of_a_step_do_not_depend_on_the_unlabelled_ones(busy):
    with_clips, without = busy(sizes=(2, 1, 1))(5), busy(sizes=(2, 0, 0))(5)
    assert torch.equal(with_clips.labelled, without.labelled) and torch.equal(with_clips.points, without.points)
    assert len(without.weak) == len(without.following) == 0 and without.weak.shape == (0, 3, SIDE, SIDE)


def test_a_batch_without_labelled_rows_has_empty_tensors_of_the_right_shape(busy):
    batch = busy(sizes=(0, 1, 1))(0)
    assert batch.labelled.shape == (0, 3, SIDE, SIDE) and batch.points.shape == (0, 4, 2) and batch.visible.shape == (0, 4)
    assert batch.weak.shape == batch.strong.shape == (3, 3, SIDE, SIDE)


def test_prefetch_works_ahead_but_not_without_bound():
    made: list[int] = []
    results = prefetch(lambda step: made.append(step) or step, iter(range(100)), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(made) <= 3 + 2 * 2
    results.close()


def test_an_error_while_making_a_batch_reaches_the_trainer_and_leaves_no_thread():
    def make(step):
        if step == 2:
            raise DataError("a.png: the image does not exist")
        return step

    before = threading.active_count()
    results = prefetch(make, range(10), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(DataError, match="a.png"):
        next(results)
    assert threading.active_count() == before


# --- the store -----------------------------------------------------------------------------------------------------------------


def test_the_store_keeps_the_latest_crops_within_its_bound(tmp_path, monkeypatch):
    read = []
    picture = dot_image(50, 50, 25, 25, 4)
    monkeypatch.setattr(views, "read_image", lambda path: read.append(path.name) or picture)
    kept = store(tmp_path, side=224, cache_mb=1)  # a crop of 392 x 392 x 3 bytes: two fit into 1 MB
    faces = {name: face(f"{name}.png", (5, 5, 45, 45)) for name in "abc"}
    for name in "abab":
        kept.crop(faces[name])
    assert read == ["a.png", "b.png"]
    kept.crop(faces["c"])  # a, the least recently used, goes
    kept.crop(faces["b"])
    assert read == ["a.png", "b.png", "c.png"]
    kept.crop(faces["a"])
    assert read == ["a.png", "b.png", "c.png", "a.png"]
    assert sum(crop.nbytes for crop, _ in kept._crops.values()) <= 2**20


def test_a_store_without_room_still_gives_crops(tmp_path):
    save_picture(tmp_path / "a.png", dot_image(50, 50, 25, 25, 4))
    kept = store(tmp_path, cache_mb=0)
    assert all(kept.crop(face("a.png", (5 + i, 5, 45, 45)))[0].shape == (112, 112, 3) for i in range(3))  # 64 px with its margin
    assert len(kept._crops) == 1


def test_a_face_without_labels_has_no_point_and_none_visible(tmp_path):
    points, visible = store(tmp_path).points(face("a.png"))
    assert points.shape == (4, 2) and np.isnan(points).all() and not visible.any()


def test_two_faces_of_one_picture_have_crops_of_their_own(tmp_path):
    save_picture(tmp_path / "a.png", dot_image(90, 40, 20, 20, 3))
    kept = store(tmp_path)
    left, right = kept.crop(face("a.png", (5, 5, 35, 35)))[0], kept.crop(face("a.png", (55, 5, 85, 35)))[0]
    assert left.max() > 200 and right.max() < 20
