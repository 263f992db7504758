"""Detections on consecutive frames, each made steady by its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from tsal.data import Clip, FaceStore, frame_pairs, neighbours
from tsal.pseudo import window_mean
from tsal.tracker import FrozenTracker

FRAMES = 32  # of a clip at once

IMAGE = np.array([[1.0, 0, 0], [0, 1.0, 0]])  # the view of the flows: the image itself


@torch.no_grad()
def steady_points(
    points: Sequence[np.ndarray],
    clip: Clip,
    store: FaceStore,
    tracker: FrozenTracker,
    device: torch.device,
    *,
    window: int,
    vote_error: float,
) -> list[np.ndarray]:
    """Landmarks of a clip's T frames by several models -> the same, each the mean of itself and of those of frames at
    most ``window`` away, carried to it by the tracker (:func:`tsal.pseudo.window_mean`). Symmetric, so without lag.

    Args:
        points: of each model, (T, K, 2) px of the images.
        vote_error: px of the network's input, as ``tsal.vote_error``.
    """
    count, models = len(clip.faces), [torch.as_tensor(one, dtype=torch.float32, device=device) for one in points]
    found = [np.array(one, np.float32) for one in points]
    for start in range(0, count, FRAMES):
        first, last = max(0, start - window), min(count, start + FRAMES + window)
        previous, following = neighbours(range(last - first), window)
        faces = clip.faces[first:last]
        wanted = ((faces[i], faces[j], IMAGE) for i, j in zip(previous.tolist(), following.tolist()))
        flows = tracker(frame_pairs(store, wanted).to(device))
        kept = slice(start - first, min(count, start + FRAMES) - first)
        for one, result in zip(models, found):
            part = one[first:last]
            mean = window_mean(
                part, torch.ones_like(part[..., 0]), flows, previous.to(device), following.to(device), vote_error
            )
            result[start : start + FRAMES] = mean[kept].cpu().numpy()
    return found


def steady_clips(
    points: Sequence[np.ndarray],
    clips: Sequence[Clip],
    store: FaceStore,
    tracker: FrozenTracker,
    device: torch.device,
    *,
    window: int,
    vote_error: float,
    progress: str = "",
) -> list[np.ndarray]:
    """:func:`steady_points` of several clips, whose frames follow one another in the points (N, K, 2) of each model."""
    found, start = [np.array(one, np.float32) for one in points], 0
    for clip in tqdm(clips, desc=progress, disable=not progress, mininterval=1, unit="clip"):
        rows = slice(start, start + len(clip.faces))
        steady = steady_points(
            [one[rows] for one in points], clip, store, tracker, device, window=window, vote_error=vote_error
        )
        for one, result in zip(steady, found):
            result[rows] = one
        start = rows.stop
    return found
