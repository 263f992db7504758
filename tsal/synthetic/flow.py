"""Rendered frames whose flow is known, in crops: what a tracker is measured by, and what it may start from.

Flow networks start on rendered pairs, as FlowNet did on flying chairs (arXiv 1504.06852): no landmark and no real frame
is labelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from tsal.config import AugmentConfig
from tsal.data import Clip, FaceStore, FlowBatch, clip_box, positions, random_affine
from tsal.synthetic.dataset import load_ground_truth


class SyntheticFlowMaker:
    """Pairs of rendered clips by step, in views as varied as training's and in either direction of time.

    As a :class:`~tsal.data.views.BatchMaker`, a pure function of (clips, settings, seed, step).
    """

    def __init__(self, store: FaceStore, clips: Sequence[Clip], augment: AugmentConfig, *, seed: int, pairs: int):
        self.store, self.clips, self.augment, self.seed, self.pairs = store, clips, augment, seed, pairs

    def __call__(self, step: int) -> FlowBatch:
        rng = np.random.default_rng([self.seed, step])
        chosen = positions(len(self.clips), self.seed, step * self.pairs, self.pairs)
        first, second, flow, valid = map(np.stack, zip(*(self._pair(self.clips[i], rng) for i in chosen)))
        images = (torch.from_numpy(frames).permute(0, 3, 1, 2) for frames in (first, second))
        return FlowBatch(
            *images, torch.from_numpy(flow).permute(0, 3, 1, 2), torch.from_numpy(valid), int(rng.integers(2**31))
        )

    def _pair(self, clip: Clip, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        place = int(rng.integers(len(clip.faces) - 1))
        flip, backward = rng.random(2) < (self.augment.flip, 0.5)
        affine = random_affine(clip_box(clip.faces), self.store.side, self.augment, rng, 1.0, bool(flip))
        here, there = (self.store.view(face, affine) for face in clip.faces[place : place + 2])
        if backward:
            here, there = there, here
        flow, hidden = (
            truth[place] for truth in _truth(ground_truth_path(self.store.root, clip), backward=bool(backward))
        )
        return here, there, *cut_flow(flow, hidden, affine, self.store.side)


def ground_truth_path(root: Path, clip: Clip) -> Path:
    """The ground-truth file of a rendered clip; for any other clip it does not exist."""
    return Path(root) / "ground_truth" / f"{clip.name.removeprefix('images/')}.npz"


@lru_cache(maxsize=1024)
def _truth(path: Path, *, backward: bool) -> tuple[np.ndarray, np.ndarray]:
    """Flow (T-1, 2, H, W) px and where it is hidden (T-1, H, W), in one direction of time; unpacking takes longer than
    cutting.
    """
    ground_truth = load_ground_truth(path)
    direction = "backward" if backward else "forward"
    return ground_truth[f"flow_{direction}"], ground_truth[f"occluded_{direction}"]


def cut_flow(flow: np.ndarray, hidden: np.ndarray, affine: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The flow of an image, in its crop.

    Args:
        flow: (2, H, W) px of the image.  hidden: (H, W) bool, where it does not count.
        affine: (2, 3), image px -> crop px.

    Returns:
        flow (side, side, 2) float32 px of the crop, and where it counts (side, side) bool: where all that it was
        interpolated from does, and its point stays in the crop.
    """
    linear = affine[:, :2]

    def cut(image: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(
            image, affine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )

    moved = (cut(np.ascontiguousarray(flow.transpose(1, 2, 0))) @ linear.T).astype(np.float32)
    seen = cut((~hidden).astype(np.float32)) > 0.999
    y, x = np.mgrid[:side, :side]
    reached = np.stack([x, y], -1) + moved
    return moved, seen & ((reached >= 0) & (reached <= side - 1)).all(-1)


def ground_truth_flow(root: Path, clip: Clip, affine: np.ndarray, side: int) -> tuple[Tensor, Tensor] | None:
    """True forward flow of a rendered clip in its crop (T-1, 2, S, S) px, and where it counts (T-1, S, S); None for
    other clips.
    """
    path = ground_truth_path(root, clip)
    if not path.exists():
        return None
    flows, masks = map(
        np.stack, zip(*(cut_flow(flow, hidden, affine, side) for flow, hidden in zip(*_truth(path, backward=False))))
    )
    return torch.from_numpy(flows).permute(0, 3, 1, 2), torch.from_numpy(masks)
