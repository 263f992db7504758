"""Pairs of rendered frames with points whose places in both are known, in crops: what a tracker may start from.

Flow networks start on rendered pairs, as FlowNet did on flying chairs (arXiv 1504.06852): no landmark and no real frame
is labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from tsal.config import AugmentConfig
from tsal.data import Clip, Face, FaceStore, PointPairs, clip_box, positions, random_affine
from tsal.geometry import apply_affine, inside
from tsal.synthetic.dataset import load_ground_truth


class PointPairMaker:
    """Pairs of frames of rendered clips by step, in views as varied as training's and in either direction of time.

    As a :class:`~tsal.data.batches.BatchMaker`, a pure function of (clips, settings, seed, step).

    Args:
        clips: of two frames or more.
        pairs: a step.
        apart: frames that the two of a pair are apart, at most; all distances that a clip allows are equally frequent.
    """

    def __init__(
        self, store: FaceStore, clips: Sequence[Clip], augment: AugmentConfig, *, seed: int, pairs: int, apart: int
    ):
        self.store, self.clips, self.augment = store, clips, augment
        self.seed, self.pairs, self.apart = seed, pairs, apart

    def __call__(self, step: int) -> PointPairs:
        rng = np.random.default_rng([self.seed, step])
        chosen = positions(len(self.clips), self.seed, step * self.pairs, self.pairs)
        faces, pairs = zip(*(self._pair(self.clips[i], rng) for i in chosen))
        first, second, points, moved, seen_first, seen_second = map(torch.from_numpy, map(np.stack, zip(*pairs)))
        images = (frames.permute(0, 3, 1, 2) for frames in (first, second))
        names = tuple(f"{face.where} {face.image}" for pair in faces for face in pair)
        return PointPairs(*images, points, moved, seen_first, seen_second, int(rng.integers(2**31)), names)

    def _pair(self, clip: Clip, rng: np.random.Generator) -> tuple[tuple[Face, Face], tuple[np.ndarray, ...]]:
        """The two faces, and of them both frames (S, S, 3), the points in each (N, 2) px of the crop, and whether they
        are seen in each (N,).
        """
        apart = int(rng.integers(1, min(self.apart, len(clip.faces) - 1) + 1))
        place = int(rng.integers(len(clip.faces) - apart))
        flip, backward = rng.random(2) < (self.augment.flip, 0.5)
        pair = clip.faces[place], clip.faces[place + apart]
        affine = random_affine(clip_box(pair), self.store.side, self.augment, rng, 1.0, bool(flip))
        here, there = reversed(pair) if backward else pair
        tracks, visible = _tracks(ground_truth_path(self.store.root, clip))
        side, frames = self.store.side, [frame_number(face) for face in (here, there)]
        points = [apply_affine(affine, tracks[frame]).astype(np.float32) for frame in frames]
        seen = [visible[frame] & inside(at, side, side) for frame, at in zip(frames, points)]
        return (here, there), (self.store.view(here, affine), self.store.view(there, affine), *points, *seen)


def ground_truth_path(root: Path, clip: Clip) -> Path:
    """The ground-truth file of a rendered clip; for any other clip it does not exist."""
    return Path(root) / "ground_truth" / f"{clip.name.removeprefix('images/')}.npz"


def frame_number(face: Face) -> int:
    """The place of a rendered frame in its clip's ground truth."""
    return int(Path(face.image).stem)


@lru_cache(maxsize=1024)
def _tracks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, N, 2) px of the image and whether they are visible (T, N); unpacking takes longer than cutting."""
    ground_truth = load_ground_truth(path)
    return ground_truth["tracks"], ground_truth["tracks_visible"]


@lru_cache(maxsize=1024)
def rendered_visibility(root: Path, clip: Clip) -> np.ndarray | None:
    """Which landmarks (T, 68) the frames of a rendered clip show; None for other clips."""
    path = ground_truth_path(root, clip)
    if not path.exists():
        return None
    return load_ground_truth(path)["visible"][[frame_number(face) for face in clip.faces]]
