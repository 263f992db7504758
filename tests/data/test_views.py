"""Views show what their affines and points say, one crop and one draw a clip, and a batch is a function of seed and
step alone.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from toys import PAIRED, DotDetector, dot_image, dot_place, face, save_image

from tsal.config import AugmentConfig
from tsal.data import views
from tsal.data.batches import BatchMaker, positions, prefetch
from tsal.data.crops import CropFolder
from tsal.data.lists import Clip, Face, read_list
from tsal.data.points import write_points
from tsal.data.views import FaceStore, clip_box, cut_crop, plain_affine, plain_views
from tsal.geometry import apply_affine, to_view
from tsal.model import Detection
from tsal.schemes import generic_scheme
from tsal.utils.errors import DataError

SIDE = 64
UNAUGMENTED = AugmentConfig(scale=0.0, rotation=0.0, shift=0.0, flip=0.0)
LIVELY = AugmentConfig(scale=0.1, rotation=20.0, shift=0.05, flip=0.5, weak_geometry=0.5)


def store(root, *, side=SIDE, box_scale=1.35, cache_mb=50, scheme=PAIRED, disk=None) -> FaceStore:
    return FaceStore(root, scheme, side, box_scale, cache_mb, disk)


def maker(
    root,
    labelled=(),
    clips=(),
    single_images=(),
    *,
    augment=LIVELY,
    seed=0,
    sizes=(2, 1, 1),
    frames=2,
    pairs=False,
    **kwargs,
) -> BatchMaker:
    options = {"seed": seed, "sizes": sizes, "frames": frames, "pairs": pairs}
    return BatchMaker(store(root, **kwargs), labelled, clips, single_images, augment, **options)


# --- images and points agree ---


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
    save_image(tmp_path / "dot.png", dot_image(width, height, x, y, max(1.5, 2 / zoom)))
    images, affines = plain_views(store(tmp_path), [[face("dot.png", box)]])
    assert images.shape == (1, 3, SIDE, SIDE) and images.dtype == torch.uint8
    assert np.abs(dot_place(images[0]) - apply_affine(affines[0], np.array([[x, y]]))[0]).max() < 0.1


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("start", [0, 20000, 32700])
def test_a_small_face_of_an_image_longer_than_opencv_warps_is_cut_as_from_a_part_of_it(start, tall):
    """Zoom 1.16 and 0.83: not shrunk, and sampled between pixels."""
    part = np.random.default_rng(start).integers(0, 256, (60, 67, 3), dtype=np.uint8)
    image = np.zeros((60, 32767, 3), np.uint8)
    image[:, start : start + 67] = part
    for side, box in ((64, (12.3, 8.1, 51.9, 48.4)), (48, (13.0, -4.0, 55.0, 30.0))):
        x1, y1, x2, y2 = box
        long, short = (x1 + start, y1, x2 + start, y2), box
        if tall:
            cut = cut_crop(image.swapaxes(0, 1).copy(), (y1, x1 + start, y2, x2 + start), side, 1.35)
            expected = cut_crop(part.swapaxes(0, 1).copy(), (y1, x1, y2, x2), side, 1.35)
        else:
            cut, expected = cut_crop(image, long, side, 1.35), cut_crop(part, short, side, 1.35)
        assert np.abs(cut.astype(int) - expected).max() <= 16  # positions are rounded to 1/32 px


def test_a_strongly_shrunk_image_does_not_alias(tmp_path):
    x = np.arange(800)
    # every other column is white
    stripes = np.repeat(np.tile((x % 2 * 255).astype(np.uint8), (800, 1))[..., None], 3, 2)
    save_image(tmp_path / "stripes.png", stripes)
    images, _ = plain_views(store(tmp_path), [[face("stripes.png", (200, 200, 600, 600))]])
    assert images.float().std() < 12 and abs(images.float().mean() - 127.5) < 3  # even grey, no moire


@pytest.mark.parametrize("size", [(120, 100), (1300, 1000)])
@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_the_points_of_a_labelled_view_lie_where_the_image_shows_them(tmp_path, size, mirrored):
    width, height = size
    box = (0.3 * width, 0.3 * height, 0.7 * width, 0.8 * height)
    zoom = (SIDE - 1) / (1.35 * max(box[2] - box[0], box[3] - box[1]))
    marked = np.array([box[0] + 0.4 * (box[2] - box[0]) + 0.37, box[1] + 0.55 * (box[3] - box[1])])
    save_image(tmp_path / "dot.png", dot_image(width, height, *marked, max(1.5, 2 / zoom)))
    points = np.array([marked, marked + 9, [1, 1], [2, 2]])
    write_points(tmp_path / "dot.pts", points)
    make = maker(
        tmp_path, [face("dot.png", box, "dot.pts")], augment=dataclasses.replace(LIVELY, flip=mirrored), sizes=(8, 0, 0)
    )
    batch = make(0)
    landmark = 1 if mirrored else 0  # the marked landmark's partner takes its place in a mirror
    for image, point in zip(batch.labelled, batch.points[:, landmark].numpy()):
        assert np.abs(dot_place(image) - point).max() < 0.3
    assert len({tuple(p) for p in batch.points[:, 0].tolist()}) == 8  # eight draws


def test_a_mirrored_view_swaps_visibility_with_the_landmarks(tmp_path):
    save_image(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    (tmp_path / "a.pts").write_text("{\n10 10 0\n20 10 1\n15 20 1\n15 25 0\n}\n")
    faces = [face("a.png", (5, 5, 35, 35), "a.pts")]
    plain = maker(tmp_path, faces, augment=UNAUGMENTED, sizes=(1, 0, 0))(0)
    mirrored = maker(tmp_path, faces, augment=dataclasses.replace(UNAUGMENTED, flip=1.0), sizes=(1, 0, 0))(0)
    assert plain.visible.tolist() == [[False, True, True, False]]
    assert mirrored.visible.tolist() == [[True, False, True, False]]
    expected = plain.points[:, list(PAIRED.flip)] * torch.tensor([-1.0, 1.0]) + torch.tensor([SIDE - 1.0, 0.0])
    assert torch.allclose(mirrored.points, expected, atol=1e-3)
    # positions are rounded to 1/32 px
    assert (mirrored.labelled.int() - plain.labelled.flip(-1).int()).abs().max() <= 2


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_the_value_of_a_hidden_landmark_moves_neither_image_nor_other_landmarks(tmp_path, mirrored):
    save_image(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    faces, augment = [face("a.png", (5, 5, 35, 35), "a.pts")], dataclasses.replace(LIVELY, flip=mirrored)
    batches = []
    for hidden in ("10 10", "1000000 -1000000"):
        (tmp_path / "a.pts").write_text(f"{{\n{hidden} 0\n20 10 1\n15 20 1\n15 25 1\n}}\n")
        batches.append(maker(tmp_path, faces, augment=augment, sizes=(4, 0, 0))(0))
    near, far = batches
    visible = near.visible[0].tolist()
    assert visible == ([True, False, True, True] if mirrored else [False, True, True, True])
    assert torch.equal(near.visible, far.visible) and torch.equal(near.labelled, far.labelled)
    assert torch.equal(near.points[near.visible], far.points[near.visible])


def test_a_scheme_without_pairs_is_never_mirrored(tmp_path):
    save_image(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    photograph = Clip("a", (face("a.png", (5, 5, 35, 35)),))
    make = maker(
        tmp_path,
        single_images=[photograph],
        augment=dataclasses.replace(LIVELY, flip=1.0),
        sizes=(0, 0, 4),
        scheme=generic_scheme(4),
    )
    assert not make(0).flipped.any()


@pytest.mark.parametrize("mirrored", [0.0, 1.0])
def test_a_point_of_the_weak_view_is_found_again_in_the_strong_view(tmp_path, mirrored):
    save_image(tmp_path / "dot.png", dot_image(120, 100, 52.3, 47.8, 2.0))
    photograph = Clip("dot", (face("dot.png", (30, 25, 85, 75)),))
    augment = dataclasses.replace(LIVELY, flip=mirrored)
    batch = maker(tmp_path, single_images=[photograph], augment=augment, sizes=(0, 0, 8))(3)
    assert batch.flipped.tolist() == [bool(mirrored)] * 8
    weak = torch.stack([torch.from_numpy(dot_place(image)) for image in batch.weak]).float()
    marked = torch.zeros(8, 4, 2)
    marked[:, 0] = weak  # landmark 0 is where the dot is
    strong = to_view(marked, batch.to_strong, batch.flipped, PAIRED.flip)[:, 1 if mirrored else 0]
    places = np.stack([dot_place(image) for image in batch.strong])
    assert np.abs(places - strong.numpy()).max() < 0.3
    assert np.abs(places - weak.numpy()).max() > 3  # the views do differ


# --- clips ---


def still_clip(root, frames: int) -> Clip:
    """Frames that show the same image in boxes that jump about."""
    rng = np.random.default_rng(0)
    for i in range(frames):
        save_image(root / "clip" / f"{i}.png", dot_image(100, 90, 48.4, 44.7, 2.0))
    boxes = np.array([30, 25, 75, 70]) + rng.uniform(-6, 6, (frames, 4))
    return Clip("clip", tuple(face(f"clip/{i}.png", boxes[i], row=i + 1) for i in range(frames)))


def test_truth_for_measuring_lies_in_the_weak_view_and_changes_nothing_else(tmp_path):
    save_image(tmp_path / "dot.png", dot_image(100, 100, 47.0, 55.0, 2.0))
    write_points(tmp_path / "dot.pts", np.array([[47.0, 55.0]] * 4))
    photographs = [Clip("dot", (face("dot.png", (20, 20, 80, 80)),))]
    options = dict(augment=LIVELY, seed=3, sizes=(0, 0, 1), frames=1)
    plain, measured = (
        BatchMaker(store(tmp_path), [], [], photographs, truth=truth, **options)(0)
        for truth in (None, {("dot.png", (20, 20, 80, 80)): "dot.pts"})
    )
    assert plain.truth is None and torch.equal(plain.weak, measured.weak) and torch.equal(plain.strong, measured.strong)
    assert np.abs(dot_place(measured.weak[0]) - measured.truth[0, 0].numpy()).max() < 0.2
    unknown = BatchMaker(
        store(tmp_path), [], [], photographs, truth={("dot.png", (20, 20, 80, 90)): "dot.pts"}, **options
    )(0)
    assert unknown.truth.isnan().all()


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
        assert np.abs(places - places[0]).max() < 0.1  # what is still in the video is still in the view
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
    batch = maker(tmp_path, clips=[clip, clip], single_images=[photograph], sizes=(0, 2, 1), frames=3)(0)
    assert batch.clip.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert batch.previous.tolist() == [0, 1, 3, 4] and batch.following.tolist() == [1, 2, 4, 5]


def test_a_step_takes_a_window_of_consecutive_frames_and_a_short_clip_whole(tmp_path, monkeypatch):
    clip = still_clip(tmp_path, 5)
    make = maker(tmp_path, clips=[clip], sizes=(0, 1, 0), frames=3)
    windows = {tuple(f.row for f in make._window(0, np.random.default_rng(i))) for i in range(40)}
    assert windows == {(1, 2, 3), (2, 3, 4), (3, 4, 5)}
    short = maker(tmp_path, clips=[Clip("short", clip.faces[:2])], sizes=(0, 1, 0), frames=3)
    assert short._window(0, np.random.default_rng(0)) == clip.faces[:2]


def test_the_views_of_an_unlabelled_face_draw_from_their_shares_of_the_ranges(tmp_path):
    save_image(tmp_path / "a.png", dot_image(100, 100, 50, 50, 5))
    photograph = Clip("a", (face("a.png", (30, 30, 70, 70)),))
    augment = AugmentConfig(scale=0.0, rotation=40.0, shift=0.0, flip=0.0, weak_geometry=0.0, strong_geometry=0.5)
    make = maker(tmp_path, single_images=[photograph], augment=augment, sizes=(0, 0, 1))
    turns = [np.degrees(np.arctan2(*make(step).to_strong[0, [1, 0], 0].numpy())) for step in range(60)]
    assert 15 < max(np.abs(turns)) <= 20.001 and min(turns) < -10 < 10 < max(turns)


@pytest.mark.parametrize("augment, share", [(AugmentConfig(), 0.0), (AugmentConfig(scale=0.5), 0.2)])
def test_views_that_reach_beyond_the_stored_crop_are_counted_as_their_pixels_show(tmp_path, augment, share):
    """Of an image that is white as far as the crop reaches and black beyond, larger views would show black."""
    assert views.beyond_crop(augment, SIDE) == pytest.approx(share, abs=0.05)
    rng, lost = np.random.default_rng(1), []
    crop = np.full((round(SIDE * views.CROP_MARGIN),) * 2, 255, np.uint8)
    to_crop = views.crop_affine((0, 0, 100, 100), len(crop), augment.box_scale * (len(crop) - 1) / (SIDE - 1))
    for _ in range(300):
        affine = views.random_affine((0, 0, 100, 100), SIDE, augment, rng, 1.0, False)
        step = views.compose_affine(affine, views.invert_affine(to_crop))
        lost.append((cv2.warpAffine(crop, step, (SIDE, SIDE)) == 0).mean() > 0.01)
    assert np.mean(lost) == pytest.approx(views.beyond_crop(augment, SIDE), abs=0.06)


def test_a_pair_of_frames_is_the_same_in_every_window_and_augmentation(tmp_path):
    for i in range(5):
        save_image(tmp_path / "clip" / f"{i}.png", dot_image(100, 90, 40 + 4 * i, 44.7, 2.0 + i))
    boxes = np.array([30, 25, 75, 70]) + np.arange(5)[:, None] * [4, 0, 4, 0]
    clip = Clip("clip", tuple(face(f"clip/{i}.png", box) for i, box in enumerate(boxes)))
    make = maker(tmp_path, clips=[clip], sizes=(0, 1, 0), frames=3, pairs=True)
    contents: dict[str, set] = {}
    for step in range(40):
        pairs = make(step).pairs
        for key, *images in zip(pairs.keys, pairs.first, pairs.second):
            contents.setdefault(key, set()).add(tuple(image.numpy().tobytes() for image in images))
    assert len(contents) == 4 and all(len(images) == 1 for images in contents.values())


def test_the_way_to_the_weak_view_is_that_of_its_pixels(tmp_path):
    augment = AugmentConfig(scale=0.2, rotation=40.0, shift=0.1, flip=0.0, weak_geometry=1.0)
    batch = maker(tmp_path, clips=[still_clip(tmp_path, 2)], augment=augment, sizes=(0, 1, 0), pairs=True)(0)
    dots = [
        DotDetector().heatmap(Detection([images.float()], None, None))[0][0].numpy()
        for images in (batch.pairs.first, batch.weak)
    ]
    assert np.allclose(apply_affine(batch.pairs.to_view[0].numpy(), dots[0]), dots[1], atol=0.05)
    assert np.abs(dots[0] - dots[1]).max() > 1


def test_pairs_are_cut_only_where_they_are_asked_for(tmp_path):
    assert maker(tmp_path, clips=[still_clip(tmp_path, 3)], sizes=(0, 1, 0))(0).pairs is None


def test_the_face_size_is_that_of_the_box_in_the_weak_view(tmp_path):
    save_image(tmp_path / "a.png", dot_image(100, 100, 50, 50, 5))
    photograph = Clip("a", (face("a.png", (30, 40, 70, 50)),))  # 40 x 10: size 20 px of the image
    batch = maker(tmp_path, single_images=[photograph], augment=UNAUGMENTED, sizes=(0, 0, 1))(0)
    assert batch.size.tolist() == [pytest.approx(20 * (SIDE - 1) / (1.35 * 40), rel=1e-5)]


# --- order ---


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
        save_image(tmp_path / f"{i}x.png", rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))
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


@pytest.mark.parametrize("disk_mb", [None, 0.005, 50], ids=["no disk", "disk for two crops", "disk"])
@pytest.mark.parametrize("cache_mb", [0, 0.005, 50], ids=["no memory", "memory for two crops", "memory"])
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_batches_do_not_depend_on_threads_nor_on_what_is_kept_where(busy, tmp_path, workers, cache_mb, disk_mb):
    small = {"side": 16}  # crops of 28 x 28: all images are larger, so all may be kept on disk
    alone = [busy(**small)(step) for step in range(2, 8)]
    disk = CropFolder(tmp_path / "kept", disk_mb) if disk_mb else None
    cold = busy(**small, cache_mb=cache_mb, disk=disk)
    restarted = busy(**small, cache_mb=cache_mb, disk=disk)
    # everything cold; what memory holds warm; memory cold, what the disk holds warm
    for make in (cold, cold, restarted):
        assert all(same(a, b) for a, b in zip(alone, prefetch(make, range(2, 8), workers), strict=True))
    assert not disk or any(disk.folder.iterdir())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_taken_up_in_the_middle_sees_the_batches_that_it_would_have_seen(busy, tmp_path, workers):
    disk = CropFolder(tmp_path / "kept", 50)
    whole = list(prefetch(busy(side=16, disk=disk), range(9), workers))
    for start in (1, 4, 8):
        rest = list(prefetch(busy(side=16, disk=disk), range(start, 9), workers))
        assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


class Watching(FaceStore):
    """Writes down which faces are asked for."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.asked: list[Face] = []

    def crop(self, face):
        self.asked.append(face)
        return super().crop(face)


def test_every_labelled_face_clip_and_photograph_comes_once_an_epoch(tmp_path):
    save_image(tmp_path / "a.png", dot_image(40, 40, 20, 20, 3))
    write_points(tmp_path / "a.pts", np.full((4, 2), 20.0))
    labelled = [face("a.png", (5, 5, 35, 35), "a.pts", row=i, list_name="labelled") for i in range(7)]
    clips = [
        Clip(str(i), tuple(face("a.png", (5, 5, 35, 35), row=2 * i + j, list_name="clips") for j in (0, 1)))
        for i in range(5)
    ]
    photographs = [Clip(str(i), (face("a.png", (5, 5, 35, 35), row=i, list_name="photographs"),)) for i in range(3)]
    watching = Watching(tmp_path, PAIRED, 16, 1.35, 50)
    make = BatchMaker(watching, labelled, clips, photographs, LIVELY, seed=0, sizes=(2, 2, 2), frames=2)
    for step in range(105):  # 30, 42 and 70 epochs
        make(step)
    for name, pool, epochs in (
        ("labelled", labelled, 30),
        ("clips", [f for c in clips for f in c.faces], 42),
        ("photographs", [c.faces[0] for c in photographs], 70),
    ):
        faces = [f for f in watching.asked if f.list_name == name]
        assert len(faces) == epochs * len(pool)
        for start in range(0, len(faces), len(pool)):
            assert {f.row for f in faces[start : start + len(pool)]} == {f.row for f in pool}


def test_the_labelled_rows_of_a_step_do_not_depend_on_the_unlabelled_ones(busy):
    with_clips, without = busy(sizes=(2, 1, 1))(5), busy(sizes=(2, 0, 0))(5)
    assert torch.equal(with_clips.labelled, without.labelled) and torch.equal(with_clips.points, without.points)
    assert len(without.weak) == len(without.following) == 0 and without.weak.shape == (0, 3, SIDE, SIDE)


def test_a_batch_without_labelled_rows_has_empty_tensors_of_the_right_shape(busy):
    batch = busy(sizes=(0, 1, 1))(0)
    assert (
        batch.labelled.shape == (0, 3, SIDE, SIDE) and batch.points.shape == (0, 4, 2) and batch.visible.shape == (0, 4)
    )
    assert batch.weak.shape == batch.strong.shape == (3, 3, SIDE, SIDE)


def test_prefetch_works_ahead_but_not_without_bound():
    taken, ready = [], []
    steps = (taken.append(step) or step for step in range(100))
    results = prefetch(lambda step: ready.append(step) or step, steps, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    end = time.monotonic() + 10
    while len(ready) < 3 + 2 * 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert sorted(ready) == taken == list(range(3 + 2 * 2))  # two a thread beside what was given out
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


# --- the store ---


def test_the_store_keeps_the_latest_crops_within_its_bound(tmp_path, monkeypatch):
    read = []
    image = dot_image(50, 50, 25, 25, 4)
    monkeypatch.setattr(views, "read_image", lambda path: read.append(path.name) or image)
    face_store = store(tmp_path, side=224, cache_mb=1)  # a crop of 392 x 392 x 3 bytes: two fit into 1 MB
    faces = {name: face(f"{name}.png", (5, 5, 45, 45)) for name in "abc"}
    for name in "abab":
        face_store.crop(faces[name])
    assert read == ["a.png", "b.png"]
    face_store.crop(faces["c"])  # a, the least recently used, goes
    face_store.crop(faces["b"])
    assert read == ["a.png", "b.png", "c.png"]
    face_store.crop(faces["a"])
    assert read == ["a.png", "b.png", "c.png", "a.png"]
    assert sum(crop.nbytes for crop, _ in face_store._crops.values()) <= 2**20


def test_a_store_without_room_still_gives_crops(tmp_path):
    save_image(tmp_path / "a.png", dot_image(50, 50, 25, 25, 4))
    face_store = store(tmp_path, cache_mb=0)
    # 64 px with its margin
    assert all(face_store.crop(face("a.png", (5 + i, 5, 45, 45)))[0].shape == (112, 112, 3) for i in range(3))
    assert len(face_store._crops) == 1


def test_a_face_without_labels_has_no_point_and_none_visible(tmp_path):
    points, visible = store(tmp_path).points(face("a.png"))
    assert points.shape == (4, 2) and np.isnan(points).all() and not visible.any()


def test_two_faces_of_one_image_have_crops_of_their_own(tmp_path):
    save_image(tmp_path / "a.png", dot_image(90, 40, 20, 20, 3))
    face_store = store(tmp_path)
    left, right = face_store.crop(face("a.png", (5, 5, 35, 35)))[0], face_store.crop(face("a.png", (55, 5, 85, 35)))[0]
    assert left.max() > 200 and right.max() < 20


# --- crops kept on disk ---


@pytest.fixture
def cuts(monkeypatch) -> list:
    """Grows by one whenever a crop is cut."""
    done, cut = [], views.cut_crop
    monkeypatch.setattr(views, "cut_crop", lambda *arguments: done.append(1) or cut(*arguments))
    return done


def noise(path, seed: int, size=(90, 70)) -> None:
    save_image(path, np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


WIDE = face("a.png", (10, 5, 75, 60))


def test_a_crop_is_cut_once_for_all_runs_and_stays_the_same_bit_for_bit(tmp_path, cuts):
    noise(tmp_path / "a.png", 0)
    fresh, affine = store(tmp_path, side=16).crop(WIDE)
    disk = CropFolder(tmp_path / "kept", 50)
    cuts.clear()
    for _ in range(3):
        crop, placed = store(tmp_path, side=16, disk=disk).crop(WIDE)
        assert np.array_equal(crop, fresh) and np.array_equal(placed, affine)
    assert len(cuts) == 1


def test_a_copy_under_another_name_is_the_same_image(tmp_path, cuts):
    noise(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    face_store = store(tmp_path, side=16, disk=CropFolder(tmp_path / "kept", 50))
    assert (
        np.array_equal(face_store.crop(WIDE)[0], face_store.crop(dataclasses.replace(WIDE, image="b.png"))[0])
        and len(cuts) == 1
    )


def test_a_changed_image_box_or_setting_meets_no_former_crop(tmp_path):
    disk = CropFolder(tmp_path / "kept", 50)
    noise(tmp_path / "a.png", 0)
    former = store(tmp_path, side=16, disk=disk).crop(WIDE)[0]
    for changed, options in (
        (WIDE, {"side": 17}),
        (WIDE, {"side": 16, "box_scale": 1.36}),
        (dataclasses.replace(WIDE, box=(10.0, 5.0, 75.0, 60.5)), {"side": 16}),
    ):
        crop = store(tmp_path, disk=disk, **options).crop(changed)[0]
        assert np.array_equal(crop, store(tmp_path, **options).crop(changed)[0]) and not np.array_equal(crop, former)
    times = (tmp_path / "a.png").stat()
    noise(tmp_path / "a.png", 1)
    os.utime(tmp_path / "a.png", ns=(times.st_atime_ns, times.st_mtime_ns))  # a clock says nothing about content
    crop = store(tmp_path, side=16, disk=disk).crop(WIDE)[0]
    assert np.array_equal(crop, store(tmp_path, side=16).crop(WIDE)[0]) and not np.array_equal(crop, former)


def test_other_code_that_cuts_meets_no_former_crop(tmp_path, cuts, monkeypatch):
    noise(tmp_path / "a.png", 0)
    disk = CropFolder(tmp_path / "kept", 50)
    store(tmp_path, side=16, disk=disk).crop(WIDE)
    monkeypatch.setattr(cv2, "__version__", "another")
    store(tmp_path, side=16, disk=disk).crop(WIDE)
    assert len(cuts) == 2


def test_damaged_entries_are_cut_anew(tmp_path, cuts):
    noise(tmp_path / "a.png", 0)
    disk = CropFolder(tmp_path / "kept", 50)
    fresh = store(tmp_path, side=16, disk=disk).crop(WIDE)[0]
    [entry] = disk.folder.iterdir()
    entry.write_bytes(b"no crop at all")
    for _ in range(2):
        assert np.array_equal(store(tmp_path, side=16, disk=disk).crop(WIDE)[0], fresh)
    assert len(cuts) == 2


@pytest.mark.parametrize("size, entries", [((28, 28), 0), ((28, 29), 1)])
def test_crops_with_as_many_pixels_as_their_image_are_not_kept_on_disk(tmp_path, size, entries):
    noise(tmp_path / "a.png", 0, size)
    disk = CropFolder(tmp_path / "kept", 50)
    store(tmp_path, side=16, disk=disk).crop(face("a.png", (5, 5, 20, 20)))  # a crop of 28 x 28
    assert (len(list(disk.folder.iterdir())) if disk.folder.exists() else 0) == entries


def test_a_rotated_image_is_upright_with_and_without_the_disk(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    content = cv2.imencode(".jpg", image)[1].tobytes()
    # EXIF: turned by 90 degrees
    orientation = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    turned = content[:2] + b"\xff\xe1" + (len(orientation) + 2).to_bytes(2, "big") + orientation + content[2:]
    crops = {}
    for name, bytes_ in (("plain", content), ("turned", turned)):
        (tmp_path / f"{name}.jpg").write_bytes(bytes_)
        tall = face(f"{name}.jpg", (5, 5, 60, 60))
        crops[name] = store(tmp_path, side=16).crop(tall)[0]
        for _ in range(2):
            assert np.array_equal(
                store(tmp_path, side=16, disk=CropFolder(tmp_path / "kept", 50)).crop(tall)[0], crops[name]
            )
    assert not np.array_equal(crops["plain"], crops["turned"])


@pytest.mark.parametrize(
    "content, problem", [(None, "does not exist"), (b"", "cannot be read"), (b"no image", "cannot be read")]
)
def test_an_image_that_cannot_be_read_is_reported_with_the_disk_too(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=f"a.png: the image {problem}"):
        store(tmp_path, disk=CropFolder(tmp_path / "kept", 50)).crop(WIDE)


def test_crops_of_real_faces_come_back_bit_for_bit(realdata, tmp_path, cuts):
    faces = [f for name in ("300W.afw.GTB", "300W.helen-train.GTB") for f in read_list(realdata / "lists" / name)[::80]]
    disk = CropFolder(tmp_path / "kept", 50)
    fresh = [store(realdata, side=96, disk=disk).crop(f)[0] for f in faces]
    assert len(cuts) == len(faces) == len(list(disk.folder.iterdir()))
    for f, crop in zip(faces, fresh):
        assert np.array_equal(store(realdata, side=96, disk=disk).crop(f)[0], crop)
        assert len(cuts) == len(faces)
        assert np.array_equal(store(realdata, side=96).crop(f)[0], crop)
        cuts.pop()
