"""Predicted points carried to their neighbouring frames by OpenCV's DIS: no trained model takes part in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsal.data import Face, FaceStore, frame_pairs, prefetch
from tsal.evaluation.steadiness import inner_frames, second_difference
from tsal.geometry import apply_affine, invert_affine
from tsal.tracker import dis_flow, track_points
from tsal.utils import tqdm

MAX_ERROR = 1.0  # px of the network's input: a point that does not come back to itself within it is lost
PAIRS = 64  # computed at once
STILL = np.eye(2, 3)  # the view that flows are wanted in: the image itself


def flow_difference(
    store: FaceStore, faces: Sequence[Face], points: np.ndarray, after: np.ndarray, workers: int = 2, progress: str = ""
) -> np.ndarray:
    """|carry(p(t - 1)) - 2 p(t) + carry(p(t + 1))| (..., N, K) px of the images at inner frames: NaN elsewhere, and for
    a point that the flow of either neighbour loses.

    Each two frames are cut by the mean of their boxes, at the network's input size. Lost is what lies outside either
    crop, or comes back (forward-backward error) more than 1 px away. The flow of two frames is computed once for all
    points.

    Args:
        points: (..., N, K, 2) px of the images, of any number of models.
        after: (N,) bool: rows whose image is the frame after that of the row before.
    """
    inner = inner_frames(after)
    second = np.flatnonzero(inner | np.r_[False, inner[:-1]])  # rows; the first frame of a pair is the row before
    every = points.reshape(-1, *points.shape[-3:]).swapaxes(0, 1)  # (N, models, K, 2)
    onward, back = np.full_like(every, np.nan), np.full_like(every, np.nan)

    def flows(start: int) -> tuple[np.ndarray, tuple[Tensor, Tensor], Tensor]:
        rows = second[start : start + PAIRS]
        pairs = frame_pairs(store, [(faces[row - 1], faces[row], STILL) for row in rows])
        both = dis_flow(pairs.first, pairs.second), dis_flow(pairs.second, pairs.first)
        return rows, both, pairs.to_view.double()

    starts = range(0, len(second), PAIRS)
    for rows, (forward, backward), to_image in tqdm(
        prefetch(flows, starts, workers), desc=progress, total=len(starts), disable=not progress, unit="batch"
    ):
        onward[rows - 1] = _carried(every[rows - 1], forward, backward, to_image)
        back[rows] = _carried(every[rows], backward, forward, to_image)
    lengths = [second_difference(onward[:, m], every[:, m], back[:, m], inner) for m in range(every.shape[1])]
    return np.stack(lengths).reshape(points.shape[:-1]).astype(np.float32)


def _carried(points: np.ndarray, flow: Tensor, returning: Tensor, to_image: Tensor) -> np.ndarray:
    """Points (P, models, K, 2) px of P images -> where they are in the neighbouring frame; NaN where they are lost.

    ``flow`` and ``returning``: (P, 2, S, S) px of the crops.  ``to_image``: (P, 2, 3), px of a crop -> of the images.
    """
    there = torch.from_numpy(points).double().flatten(1, 2)
    tracked = track_points(apply_affine(invert_affine(to_image), there).float(), flow, returning)
    lost = ~tracked.inside | (tracked.error > MAX_ERROR)
    moved = apply_affine(to_image, tracked.points.double())
    return moved.masked_fill(lost[..., None], torch.nan).reshape(points.shape).numpy()
