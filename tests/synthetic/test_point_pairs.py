"""The points of rendered pairs are true in every crop: they lie on the same colours in both frames, mirrored or not, in
either direction of time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tsal.config import AugmentConfig, RenderConfig
from tsal.data.gaps import split_at_gaps
from tsal.data.lists import Clip, group_clips, read_list
from tsal.data.photometric import to_float
from tsal.data.views import FaceStore
from tsal.geometry import sample
from tsal.schemes import get_scheme
from tsal.synthetic.dataset import load_ground_truth, render_dataset
from tsal.synthetic.point_pairs import PointPairMaker, rendered_visibility

SIDE = 64
PLAIN = AugmentConfig(flip=0, scale=0, rotation=0, shift=0)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    root = tmp_path_factory.mktemp("known") / "rendered"
    render_dataset(root, RenderConfig(labelled=1, clips=3, validation=1, frames=4, side=96), workers=1, progress=False)
    clips = group_clips(read_list(root / "lists" / "unlabelled.txt"))
    assert split_at_gaps(clips) == clips  # a run trains on these very clips
    return FaceStore(root, get_scheme("68"), SIDE, 1.35, 100), clips


def tracks_of(store, clip) -> np.ndarray:
    return load_ground_truth(store.root / "ground_truth" / f"{clip.name.removeprefix('images/')}.npz")["tracks"]


def maker(rendered, augment=PLAIN, *, apart=3, pairs=6, seed=3):
    return PointPairMaker(*rendered, augment, seed=seed, pairs=pairs, apart=apart)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_points_lie_on_the_same_colours_in_both_frames(rendered, flip):
    pairs = maker(rendered, AugmentConfig(flip=flip))(0)
    first, second = to_float(pairs.first), to_float(pairs.second)
    both = pairs.seen_first & pairs.seen_second
    colours = sample(first, pairs.points)
    still, along = (
        (sample(second, points) - colours).abs().mean(1)[both].mean() for points in (pairs.points, pairs.moved)
    )
    assert along < 0.4 * still  # what is left is noise, light and resampling
    assert 0.2 < both.float().mean() < 0.95


def test_a_point_outside_the_crop_is_not_seen(rendered):
    pairs = maker(rendered)(0)
    for points, visible in ((pairs.points, pairs.seen_first), (pairs.moved, pairs.seen_second)):
        outside = ((points < 0) | (points > SIDE - 1)).any(-1)
        assert outside.any() and not visible[outside].any()


def test_pairs_depend_on_seed_and_step_alone(rendered):
    pairs, again, other = maker(rendered)(4), maker(rendered)(4), maker(rendered)(5)
    for name in ("first", "second", "points", "moved", "seen_first", "seen_second"):
        assert torch.equal(getattr(pairs, name), getattr(again, name)), name
    assert pairs.seed == again.seed and not torch.equal(pairs.first, other.first)


@pytest.mark.parametrize("apart, expected", [(1, {1, -1}), (2, {1, 2, -1, -2}), (8, {1, 2, 3, -1, -2, -3})])
def test_frames_are_up_to_so_many_apart_as_the_clip_allows_in_either_direction(rendered, apart, expected):
    store, (clip, *_) = rendered
    tracks, steps, make = tracks_of(store, clip), set(), maker((store, [clip]), apart=apart, pairs=8)
    for pairs in map(make, range(6)):
        for first, second in zip(pairs.points.numpy(), pairs.moved.numpy()):
            steps.add(_frame(tracks, second) - _frame(tracks, first))
    assert steps == expected


def _frame(tracks: np.ndarray, points: np.ndarray) -> int:
    """The frame whose tracks (T, N, 2) the points (N, 2) of a crop are, by the affine that fits best."""
    residuals = []
    for frame in tracks:
        system = np.column_stack([frame, np.ones(len(frame))])
        residuals.append(np.linalg.lstsq(system, points, rcond=None)[1].sum())
    return int(np.argmin(residuals))


def test_a_list_may_leave_frames_out(rendered):
    store, (clip, *_) = rendered
    shown = rendered_visibility(store.root, clip)
    part = replace(clip, faces=clip.faces[1::2])
    assert shown.shape == (4, 68) and np.array_equal(rendered_visibility(store.root, part), shown[1::2])
    pairs, tracks = maker((store, [part]), pairs=1)(0), tracks_of(store, clip)
    assert {_frame(tracks, points[0].numpy()) for points in (pairs.points, pairs.moved)} == {1, 3}
    assert rendered_visibility(store.root, Clip("images/mine/0", clip.faces)) is None
