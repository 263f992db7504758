"""Boxes of found faces, made tight around the landmarks that were detected in them.

A finder's box overlaps with that of the landmarks by three quarters. Detected again in the box of its own landmarks, a
face has nearly the error that it has in a labelled box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tsal.faces import Followed, iou, smooth_boxes

# Detections of a found face, each but the first in the box of the landmarks before. NME in % of the faces of
# 300W.val-150 and YTF.val that the cascades find, by a detector of 50 labels: 8.2 and 10.7 after one, 4.9 and 6.2 after
# two, 4.7 and 6.2 after three; 4.7 and 6.1 in labelled boxes.
PASSES = 3
SAME_FACE = 0.3  # IoU of a box with that of its landmarks; under it they are of something else


def tightened(boxes: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) px made tight around the landmarks (N, K, 2) that were detected in them, and which are (N,).

    A box whose landmarks are elsewhere stays.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    tight = np.concatenate([points.min(1), points.max(1)], 1).astype(float)
    taken = np.array([iou(*pair) >= SAME_FACE for pair in zip(boxes, tight)], bool)
    return np.where(taken[:, None], tight, boxes), taken


def tighten_tracks(followed: Followed, points: Sequence[np.ndarray]) -> Followed:
    """The tracks of a video in boxes tight around their landmarks, one (T, K, 2) px a track, smoothed without lag."""
    interval = float(np.median(np.diff(followed.times))) if len(followed.times) > 1 else 0.0
    tracks = []
    for track, own in zip(followed.tracks, points):
        boxes, taken = tightened(track.boxes, own)
        tracks.append(replace(track, boxes=smooth_boxes(boxes, interval)) if taken.any() else track)
    return replace(followed, tracks=tracks)
