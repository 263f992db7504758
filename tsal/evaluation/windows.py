"""Detections on consecutive frames, each made steady by its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tsal.data import Clip, Face, FaceStore, frame_pairs, neighbours
from tsal.evaluation.carried import STILL
from tsal.pseudo import window_mean
from tsal.tracker import FrozenTracker
from tsal.utils import tqdm

WINDOW = 3  # frames to either side, for every method alike
VOTE_ERROR = 1.0  # px of the network's input
FRAMES = 32  # of a clip at once


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
        vote_error: px of the network's input (``tsal.vote_error`` is in px at 96).
    """
    count, tracks = len(clip.faces), [torch.as_tensor(track, dtype=torch.float32, device=device) for track in points]
    steady_tracks = [np.array(track, np.float32) for track in points]
    for start in range(0, count, FRAMES):
        first, last = max(0, start - window), min(count, start + FRAMES + window)
        previous, following = neighbours(range(last - first), window)
        faces = clip.faces[first:last]
        pairs = ((faces[i], faces[j], STILL) for i, j in zip(previous.tolist(), following.tolist()))
        flows = tracker(frame_pairs(store, pairs).to(device))
        core = slice(start - first, min(count, start + FRAMES) - first)
        for track, steady_track in zip(tracks, steady_tracks):
            part = track[first:last]
            mean = window_mean(
                part, torch.ones_like(part[..., 0]), flows, previous.to(device), following.to(device), vote_error
            )
            steady_track[start : start + FRAMES] = mean[core].cpu().numpy()
    return steady_tracks


def steady_lists(
    points: Sequence[np.ndarray],
    faces: Sequence[Face],
    after: np.ndarray,
    store: FaceStore,
    tracker: FrozenTracker,
    device: torch.device,
    *,
    progress: str = "",
) -> list[np.ndarray]:
    """:func:`steady_points` of all consecutive frames of the rows, by windows of ``WINDOW`` frames to either side;
    points (N, K, 2) px of each model. Other frames keep their points.

    Args:
        after: (N,) bool: rows whose image is the frame after that of the row before.
    """
    results = [np.array(model_points, np.float32) for model_points in points]
    starts = [*np.flatnonzero(~after).tolist(), len(faces)]
    for start, end in tqdm([*zip(starts, starts[1:])], desc=progress, disable=not progress, mininterval=1, unit="clip"):
        rows, clip = slice(start, end), Clip("", tuple(faces[start:end]))
        tracks = [model_points[rows] for model_points in points]
        steady_tracks = steady_points(tracks, clip, store, tracker, device, window=WINDOW, vote_error=VOTE_ERROR)
        for steady_track, result in zip(steady_tracks, results):
            result[rows] = steady_track
    return results
